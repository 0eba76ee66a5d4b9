import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fruits_cli.app import app
from fruits_cli.bundle import example_config
from fruits_cli.config import load_config
from fruits_cli.errors import ConfigError
from fruits_cli.starting import answers, filled, start_project
from fruits_cli.ui import Screen

GIVEN = ("--bucket", "grapes-and-figs", "--region", "eu-west-3")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return tmp_path


def test_what_init_writes_is_what_load_config_reads(here: Path) -> None:
    result = CliRunner().invoke(app, ["init", *GIVEN, "--profile", 'Ana\'s "own" é'])

    assert result.exit_code == 0, result.stderr
    config = load_config({}, environ={}, folder=here)
    assert config.storage.bucket == "grapes-and-figs"
    assert (config.aws.region, config.aws.profile) == ("eu-west-3", 'Ana\'s "own" é')
    kept = tomllib.loads((here / "fruits.toml").read_text())
    assert kept["job"] == kept["cluster"] == kept["tunnel"] == {}
    assert "# pca_k = 50" in (here / "fruits.toml").read_text()


def test_a_file_that_is_there_stays_as_it_is(here: Path) -> None:
    (here / "fruits.toml").write_text("[job]\npca_k = 7\n")

    result = CliRunner().invoke(app, ["init", *GIVEN])

    assert result.exit_code == 2
    assert "fruits.toml exists already and stays as it is." in result.stderr
    assert (here / "fruits.toml").read_text() == "[job]\npca_k = 7\n"


def test_without_a_terminal_the_missing_flag_is_named(here: Path) -> None:
    result = CliRunner().invoke(app, ["init", "--region", "eu-west-3"])

    assert result.exit_code == 2
    assert "Give --bucket." in result.stderr
    assert not (here / "fruits.toml").exists()


def test_a_bucket_that_s3_would_refuse_leaves_no_file(here: Path) -> None:
    result = CliRunner().invoke(app, ["init", "--bucket", "Grapes_", "--region", "eu-west-3"])

    assert result.exit_code == 2
    assert "storage.bucket" in result.stderr
    assert not (here / "fruits.toml").exists()


def test_a_bucket_typed_at_the_prompt_is_checked_too(tmp_path: Path) -> None:
    typed = Typed({"--bucket": "Grapes_", "--region": "eu-west-3"})

    with pytest.raises(ConfigError, match=r"storage\.bucket"):
        start_project({}, typed, folder=tmp_path, environ={})

    assert not (tmp_path / "fruits.toml").exists()


def test_an_empty_answer_takes_the_suggestion_or_leaves_the_key_out() -> None:
    asked = []

    def ask(question: str, suggestion: str, flag: str) -> str:
        asked.append((flag, suggestion))
        return suggestion

    values = answers({}, ask, {"AWS_DEFAULT_REGION": "eu-west-3"})

    assert values == {"aws": {"region": "eu-west-3"}}
    assert asked == [("--bucket", ""), ("--region", "eu-west-3"), ("", "")]


def test_no_question_is_asked_for_what_a_flag_gives() -> None:
    given = {"storage": {"bucket": "figs"}, "aws": {"region": "r", "profile": "p"}}

    def ask(question: str, suggestion: str, flag: str) -> str:
        raise AssertionError(question)

    assert answers(given, ask, {}) == given


def test_every_other_key_stays_a_comment() -> None:
    example = example_config().read_text()

    text = filled(example, {"storage": {"prefix": "apples"}})

    changed = [new for old, new in zip(example.splitlines(), text.splitlines(), strict=True)
               if old != new]  # fmt: skip
    assert changed == ['prefix = "apples"']


def test_show_tells_each_keys_value_and_where_it_comes_from(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "fruits.toml").write_text("[job]\npca_k = 7\n")
    monkeypatch.setenv("FRUITS_JOB_IMAGE_SIZE", "160")

    result = CliRunner().invoke(app, ["init", "--show", "--prefix", "x", "--output", "json"])

    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["job.pca_k"] == {"value": 7, "origin": str(here / "fruits.toml")}
    assert told["job.image_size"] == {"value": 160, "origin": "FRUITS_JOB_IMAGE_SIZE"}
    assert told["storage.prefix"]["origin"] == "--prefix"
    assert told["cluster.core_count"] == {"value": 2, "origin": "default"}


def test_show_as_a_table_has_a_line_for_every_key(here: Path) -> None:
    result = CliRunner().invoke(app, ["init", "--show"])

    lines = result.stdout.splitlines()
    assert lines[0].split() == ["key", "value", "origin"]
    assert any(line.split() == ["job.image_size", "224", "default"] for line in lines)


class Typed(Screen):
    """A screen on which somebody answers by flag name."""

    def __init__(self, answers: dict[str, str]) -> None:
        super().__init__()
        object.__setattr__(self, "answers", answers)

    def ask_for(self, question: str, suggestion: str, flag: str) -> str:
        return str(getattr(self, "answers").get(flag, suggestion))  # noqa: B009
