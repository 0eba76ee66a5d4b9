import json
import os
import stat
import tomllib
from pathlib import Path

import boto3
import pytest
from typer.testing import CliRunner

from fruits_cli.app import app
from fruits_cli.cluster.key_pair import KeyPair
from fruits_cli.commands.init import answers, change_project, changed, start_project
from fruits_cli.config import load_config
from fruits_cli.errors import ConfigError, MachineError
from fruits_cli.files import example_config
from fruits_cli.screen import Screen
from tests.support.on_moto import Fruits
from tests.support.terminal import CTRL_C, sit_before

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


def test_flags_change_their_keys_in_a_file_that_is_there(here: Path) -> None:
    (here / "fruits.toml").write_text("# mine\n[job]\npca_k = 7  # few\n[aws]\nregion = 'r'\n\n")

    refused = CliRunner().invoke(app, ["init", *GIVEN])
    result = CliRunner().invoke(app, ["init", *GIVEN, "--yes"])

    assert refused.exit_code == 2
    assert "Change it? There is no terminal to ask on." in refused.stderr
    assert result.exit_code == 0, result.stderr
    assert (here / "fruits.toml").read_text() == (
        "# mine\n[job]\npca_k = 7  # few\n"
        '[aws]\nregion = "eu-west-3"\n\n[storage]\nbucket = "grapes-and-figs"\n'
    )


def test_a_variable_that_wins_over_what_was_written_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRUITS_STORAGE_BUCKET", "fruits-rehearsal")

    made = CliRunner().invoke(app, ["init", *GIVEN])
    changed = CliRunner().invoke(app, ["init", "--bucket", "figs-alone", "--yes"])
    same = CliRunner().invoke(app, ["init", "--bucket", "fruits-rehearsal", "--yes"])

    sentence = "FRUITS_STORAGE_BUCKET is set in this terminal and wins over fruits.toml."
    assert [sentence in one.stderr for one in (made, changed, same)] == [True, True, False]


def test_a_key_that_stands_as_a_comment_is_changed_in_its_place(here: Path) -> None:
    CliRunner().invoke(app, ["init", *GIVEN])
    former = (here / "fruits.toml").read_text()

    result = CliRunner().invoke(app, ["init", "--prefix", "apples", "--yes"])

    assert result.exit_code == 0, result.stderr
    pairs = zip(former.splitlines(), (here / "fruits.toml").read_text().splitlines(), strict=True)
    assert [new for old, new in pairs if old != new] == ['prefix = "apples"']


def test_a_dry_run_writes_nothing(here: Path) -> None:
    new = CliRunner().invoke(app, ["init", *GIVEN, "--dry-run"])
    (here / "other").mkdir()
    assert not (here / "fruits.toml").exists()
    (here / "fruits.toml").write_text("[job]\npca_k = 7\n")

    old = CliRunner().invoke(app, ["init", *GIVEN, "--dry-run"])

    assert (new.exit_code, old.exit_code) == (0, 0)
    assert new.stdout.startswith("Would write")
    assert 'bucket = "grapes-and-figs"' in old.stdout
    assert (here / "fruits.toml").read_text() == "[job]\npca_k = 7\n"


@pytest.mark.parametrize(
    "text",
    ["storage.bucket = 'figs'\n", "storage = {bucket = 'figs'}\n", "[ storage ]\nbucket='f'"],
)
def test_a_file_that_is_written_in_another_way_stays_or_is_right(here: Path, text: str) -> None:
    (here / "fruits.toml").write_text(text)

    result = CliRunner().invoke(app, ["init", *GIVEN, "--yes"])

    if result.exit_code == 0:
        kept = load_config({}, environ={}, folder=here)
        assert (kept.storage.bucket, kept.aws.region) == ("grapes-and-figs", "eu-west-3")
    else:
        assert "Hint: Write into it: [storage]; bucket" in result.stderr
        assert (here / "fruits.toml").read_text() == text


def test_the_link_to_a_file_stays_a_link(here: Path) -> None:
    (here / "shared.toml").write_text("[job]\npca_k = 7\n")
    (here / "fruits.toml").symlink_to("shared.toml")

    result = CliRunner().invoke(app, ["init", *GIVEN, "--yes"])

    assert result.exit_code == 0, result.stderr
    assert (here / "fruits.toml").is_symlink()
    assert "grapes-and-figs" in (here / "shared.toml").read_text()


def test_without_a_terminal_the_missing_flag_is_named(here: Path) -> None:
    result = CliRunner().invoke(app, ["init", "--region", "eu-west-3"])

    assert result.exit_code == 2
    assert "Give --bucket." in result.stderr
    assert not (here / "fruits.toml").exists()


def test_a_bucket_that_s3_would_refuse_leaves_no_file(here: Path) -> None:
    result = CliRunner().invoke(app, ["init", "--bucket", "Grapes_", "--region", "eu-west-3"])

    assert result.exit_code == 2
    assert "--bucket must be a valid bucket name" in result.stderr
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
    assert asked == [("--bucket", ""), ("--region", "eu-west-3"), ("", ""), ("", "")]


def test_nothing_is_asked_where_flags_give_what_is_needed() -> None:
    given = {"storage": {"bucket": "figs"}, "aws": {"region": "r"}}

    def ask(question: str, suggestion: str, flag: str) -> str:
        raise AssertionError(question)

    assert answers(given, ask, {}) == given


def test_every_other_key_stays_a_comment() -> None:
    example = example_config().read_text()

    text = changed(example, {"storage": {"prefix": "apples"}})

    differing = [new for old, new in zip(example.splitlines(), text.splitlines(), strict=True)
               if old != new]  # fmt: skip
    assert differing == ['prefix = "apples"']


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


def test_a_file_in_its_place_is_exit_2(here: Path) -> None:
    file = here / "fruits.toml"
    file.write_text("")

    result = CliRunner().invoke(app, ["init"])

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"Error: {file} exists already and was not changed.\n"
        "Hint: fruits init --bucket NAME (or any other flag) changes a key of it; "
        "fruits init --show shows what is in force.\n"
    )
    assert not (here / "nowhere").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_exit_1(here: Path) -> None:
    here.chmod(0o500)

    result = CliRunner().invoke(app, ["init", *GIVEN])

    here.chmod(0o700)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {here / 'fruits.toml'} cannot be written: Permission denied.\n"
    )


def test_a_deleted_folder_is_reported(tmp_path: Path) -> None:
    given = {"storage": {"bucket": "figs-1"}, "aws": {"region": "r", "profile": "p"}}
    gone = tmp_path / "gone"

    with pytest.raises(MachineError) as told:
        start_project(given, Screen(), folder=gone, environ={})

    assert (
        str(told.value) == f"{gone / 'fruits.toml'} cannot be written: No such file or directory."
    )


@pytest.mark.parametrize(("typed", "code"), [(CTRL_C, 130), ("figs-1\r\r", 0)])
def test_an_interrupt_at_the_prompt_ends_init(here: Path, typed: str, code: int) -> None:
    script = (
        f"import os, sys; os.chdir({str(here)!r})\n"
        "from fruits_cli.app import main\n"
        "sys.argv = ['fruits', 'init', '--region', 'eu-west-3', '--profile', 'figs']\n"
        "main()\n"
    )

    sitting = sit_before(script, prompt="stay local): ", typed=typed)

    assert sitting.exit_code == code, sitting.screen
    assert (here / "fruits.toml").exists() is (code == 0)


@pytest.mark.parametrize(
    "profile", ["a\\b", "tab\there", "del\x7f", "# pears", "日本 🍐", "a = 'b'"]
)
def test_every_character_of_a_value_survives(here: Path, profile: str) -> None:
    result = CliRunner().invoke(app, ["init", *GIVEN, "--profile", profile])

    assert result.exit_code == 0, result.stderr
    assert load_config({}, environ={}, folder=here).aws.profile == profile


def test_init_key_writes_the_pair_into_the_file_and_is_idempotent(
    fruits: Fruits, tmp_path: Path
) -> None:
    file = tmp_path / "home" / ".ssh" / "fruits-fruits.pem"

    first = fruits("init", "--key", *GIVEN)

    assert first.exit_code == 0, first.stderr
    assert first.stderr == (
        f"Key pair fruits-fruits was imported into eu-west-3; its private key is {file}.\n"
    )
    written = load_config({}, environ={}, folder=tmp_path)
    assert (written.cluster.key_name, written.tunnel.key_file) == ("fruits-fruits", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (pair,) = boto3.client("ec2").describe_key_pairs()["KeyPairs"]
    assert pair["Tags"] == [{"Key": "fruits:tool", "Value": "fruits"}]


def test_key_beside_a_file_writes_its_two_lines(fruits: Fruits, tmp_path: Path) -> None:
    text = '[aws]\nregion = "eu-west-3"\n[cluster]\nname = "pears"\n'
    (tmp_path / "fruits.toml").write_text(text)

    result = fruits("init", "--key")

    file = tmp_path / "home" / ".ssh" / "fruits-pears.pem"
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines() == [
        f"Key pair fruits-pears was imported into eu-west-3; its private key is {file}.",
        f"In {tmp_path / 'fruits.toml'}:",
        "[cluster]",
        'key_name = "fruits-pears"',
        "[tunnel]",
        f'key_file = "{file}"',
    ]
    assert (tmp_path / "fruits.toml").read_text() == (
        f'{text}key_name = "fruits-pears"\n[tunnel]\nkey_file = "{file}"\n'
    )


def test_key_beside_a_file_that_names_the_pair_changes_nothing(tmp_path: Path) -> None:
    pair = KeyPair("fruits-pears", tmp_path / "pears.pem", "eu-west-3", is_new=False)
    text = f'[cluster]\nkey_name = "fruits-pears"\n[tunnel]\nkey_file = "{pair.file}"\n'
    (tmp_path / "fruits.toml").write_text(text)
    config = load_config({}, environ={}, folder=tmp_path)

    outcome = change_project(
        {}, config, Screen(), folder=tmp_path, environ={}, make_key=lambda _: pair
    )

    assert outcome.lines == [pair.summary(), f"{tmp_path / 'fruits.toml'} says so already."]
    assert (tmp_path / "fruits.toml").read_text() == text


def test_a_dry_run_of_key_makes_none(fruits: Fruits, tmp_path: Path) -> None:
    result = fruits("init", "--key", "--dry-run", *GIVEN)

    assert result.exit_code == 0, result.stderr
    assert "Would make the key pair fruits-fruits" in result.stdout
    assert not (tmp_path / "home" / ".ssh").exists()
    assert boto3.client("ec2").describe_key_pairs()["KeyPairs"] == []


def test_a_lost_key_is_exit_1_and_no_file_names_it(fruits: Fruits, tmp_path: Path) -> None:
    boto3.client("ec2").create_key_pair(KeyName="fruits-fruits")

    result = fruits("init", "--key", *GIVEN)

    file = tmp_path / "home" / ".ssh" / "fruits-fruits.pem"
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[0] == (
        f"Error: EC2 has a key pair fruits-fruits in eu-west-3, but {file} is not on this machine."
    )
    assert not (tmp_path / "fruits.toml").exists()


def test_show_and_key_exclude_each_other(here: Path) -> None:
    result = CliRunner().invoke(app, ["init", "--show", "--key"])

    assert (result.exit_code, result.stderr) == (
        2,
        "Error: Give one of --show, --policies and --key.\n",
    )


class Typed(Screen):
    """A screen on which somebody answers by flag name."""

    def __init__(self, answers: dict[str, str]) -> None:
        super().__init__()
        object.__setattr__(self, "answers", answers)

    def ask_for(self, question: str, suggestion: str, flag: str) -> str:
        return str(getattr(self, "answers").get(flag, suggestion))  # noqa: B009


def test_a_value_that_is_no_utf8_is_exit_2(here: Path) -> None:
    words = ["init", "--bucket", "abc-def", "--region", "eu-west-3", "--profile", "\udcff"]

    result = CliRunner().invoke(app, words)

    assert result.exit_code == 2
    assert "fruits.toml cannot hold a value that is not UTF-8." in result.stderr
    assert list(here.iterdir()) == []
