from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from fruits_cli.app import app
from fruits_cli.config import SECTIONS, Config, Engine
from fruits_cli.options import with_config
from fruits_cli.screen import Outcome, Screen


class Called:
    """A command with the flags of [job], and what it was given."""

    def __init__(self) -> None:
        self.config = Config()
        self.flags: Mapping[str, Mapping[str, Any]] = {}
        self.screen = Screen()
        self.typer = typer.Typer(cls=app.info.cls)
        self.typer.callback()(lambda: None)

        @self.typer.command()
        @with_config("job")
        def act(
            *, config: Config, screen: Screen, flags: Mapping[str, Mapping[str, Any]]
        ) -> Outcome:
            """Act."""
            self.config, self.screen, self.flags = config, screen, flags
            return Outcome([], {})

    def by(self, *words: str) -> Result:
        return CliRunner().invoke(self.typer, ["act", *words])


@pytest.fixture
def called() -> Called:
    return Called()


def test_flags_not_given_are_not_among_the_flags(called: Called) -> None:
    result = called.by()

    assert result.exit_code == 0, result.output
    assert called.flags == {}
    assert called.screen == Screen()


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--pca-k", "50"], "pca_k", 50),
        (["--pca-variance", "0.9"], "pca_variance", 0.9),
        (["--engine", "tensorflow"], "engine", Engine.TENSORFLOW),
        (["--standardize"], "standardize", True),
        (["--no-standardize"], "standardize", False),
        (["--no-keep-features"], "keep_features", False),
        (["--max-rejected", "0"], "max_rejected", 0.0),
        (["--extensions", "PNG,.jpg"], "extensions", ("png", "jpg")),
        (["--output-dir", "a b"], "output_dir", Path("a b")),
        (["--weights", "./m.h5"], "weights", "./m.h5"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_flag_is_its_key(called: Called, words: list[str], key: str, value: object) -> None:
    result = called.by(*words)

    assert result.exit_code == 0, result.output
    assert list(called.flags["job"]) == [key]
    assert getattr(called.config.job, key) == value


def test_every_key_of_a_table_is_a_flag_with_its_description() -> None:
    text = " ".join(
        CliRunner(env={"COLUMNS": "1000"}).invoke(app, ["run", "--help"]).stdout.split()
    )

    for key, field in SECTIONS["job"].model_fields.items():
        assert f"--{key.replace('_', '-')}" in text
        assert str(field.description)[1:] in text


def test_profile_and_region_belong_to_every_command(called: Called) -> None:
    called.by("--profile", "me", "--region", "eu-west-3")

    assert called.config.aws.profile == "me"
    assert called.config.aws.region == "eu-west-3"


@pytest.mark.parametrize(
    ("words", "screen"),
    [
        (["--output", "json"], Screen(json_output=True)),
        (["-v"], Screen(verbosity=1)),
        (["--quiet"], Screen(verbosity=-1)),
        (["-v", "-q"], Screen()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_screen_is_as_the_flags_say(called: Called, words: list[str], screen: Screen) -> None:
    called.by(*words)

    assert called.screen == screen


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--image-size", "400"], "--image-size must be 96 to 320 (given: "),
        (["--pca-variance", "nan"], "--pca-variance must be "),
        (["--max-rejected", "-1"], "--max-rejected must be 0"),
        (["--extensions", ","], "--extensions must "),
        (["--engine", "torch"], "--engine must be 'openvino' or 'tensorflow' (given: torch)"),
        (["--pca-k", "many"], "--pca-k must be a valid integer"),
        (["--pca-k", "1", "--pca-variance", "0.5"], "command line: give job.pca_k or"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_flag_out_of_range_is_2_before_the_command_begins(
    called: Called, words: list[str], told: str
) -> None:
    result = called.by(*words)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {told}")
