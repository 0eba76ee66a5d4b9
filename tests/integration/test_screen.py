from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from fruits_cli.errors import ConfigError, UsageError
from fruits_cli.screen import Outcome, Progress, Screen, show_error, shown, table, time_left
from tests.support.terminal import CTRL_C, CTRL_D, sit_before

HOSTILE = "a\x1b[31mred\x07\nb\r\x9bc\u202egpj.exe\u2066\udcff\x00[/bold]\u2028"
SAFE = "a\\x1b[31mred\\x07\\nb\\r\\x9bc\\u202egpj.exe\\u2066\\udcff\\x00[/bold]\\u2028"
FOLLOW = """
from fruits_cli.screen import Progress
from fruits_cli.screen import Outcome, Screen
Screen({options}).follow(iter([
    Progress("listing", 0, 0, 0.0),
    Progress("features", 10, 40, 12.0),
    Progress("features", 30, 40, 12.0),
    Progress("done", 40, 40, 12.0),
]))
"""
ASK = """
import typer
from fruits_cli.app import app
from fruits_cli.screen import Outcome, Screen
tiny = typer.Typer(cls=app.info.cls)
@tiny.callback()
def group(): ...
@tiny.command()
def end():
    Screen().ask("End the cluster?", yes=False)
    print("ended")
tiny(["end"])
"""


@pytest.mark.parametrize("text", ["Ünïcödé 果物 🍎.jpg", "plain", "a\\n", "[/bold]", "1,5 %"])
def test_printable_text_is_shown_unchanged(text: str) -> None:
    assert shown(text) == text


def test_control_characters_are_shown_escaped() -> None:
    assert shown(HOSTILE) == SAFE


def test_every_output_method_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(verbosity=1)

    screen.tell(HOSTILE)
    screen.warn(HOSTILE)
    screen.detail(HOSTILE)
    screen.answer(Outcome([HOSTILE], {}))
    show_error(UsageError(HOSTILE, hint=HOSTILE.replace("\n", "")))

    told = capsys.readouterr()
    without_newline = SAFE.replace("\\n", "")
    assert told.out == f"{SAFE}\n"
    assert told.err.splitlines() == [
        SAFE,
        f"Warning: {SAFE}",
        SAFE,
        f"Error: {SAFE}",
        f"Hint: {without_newline}",
    ]


def test_a_table_escapes_and_sets_numbers_to_the_right() -> None:
    assert table([["name", "n"], ["a\x1b", 5], ["bc", 1234]]) == [
        "name      n",
        "a\\x1b     5",
        "bc     1234",
    ]


def test_each_fault_of_a_configuration_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(ConfigError("one", "two", hint="first\nsecond"))

    assert capsys.readouterr().err == ("Error: one\n       two\nHint: first\n      second\n")


def test_json_alone_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(json_output=True)

    screen.tell("story")
    screen.answer(Outcome(["text"], {"b": HOSTILE, "a": 1}))

    told = capsys.readouterr()
    assert json.loads(told.out) == {"a": 1, "b": HOSTILE}
    assert told.out.isascii()
    assert told.err == "story\n"


@pytest.mark.parametrize(
    ("verbosity", "told"),
    [(-1, ["Warning: w"]), (0, ["t", "Warning: w"]), (1, ["t", "Warning: w", "d"])],
)
def test_quiet_and_verbose_choose_the_lines(
    verbosity: int, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Screen(verbosity=verbosity)

    screen.tell("t")
    screen.warn("w")
    screen.detail("d")

    assert capsys.readouterr().err.splitlines() == told


def test_without_a_terminal_progress_is_one_plain_line_a_stage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    states = [Progress("features", done, 400, 12.0) for done in range(0, 400, 10)]

    Screen().follow(iter([Progress("listing", 0, 0, 0.0), *states, Progress("pca", 400, 400, 0.0)]))

    assert capsys.readouterr().err.splitlines() == [
        "listing ...",
        "features: 0 of 400 pictures, 12 images/s, 0:33 left",
        "pca: 400 of 400 pictures",
    ]


def test_quiet_follows_to_the_end_silently(capsys: pytest.CaptureFixture[str]) -> None:
    states = iter([Progress("features", 1, 2, 1.0), Progress("done", 2, 2, 1.0)])

    Screen(verbosity=-1).follow(states)

    assert next(states, None) is None
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("done", "total", "rate", "left"),
    [
        (0, 100, 0.0, ""),
        (100, 100, 5.0, ""),
        (0, 100, 10.0, "0:10 left"),
        (0, 12_000, 10.0, "20:00 left"),
        (0, 72_610, 10.0, "2:01:01 left"),
    ],
)
def test_the_time_left_is_shown_once_a_rate_is_known(
    done: int, total: int, rate: float, left: str
) -> None:
    assert time_left(Progress("features", done, total, rate)) == left


def test_on_a_terminal_progress_is_a_bar() -> None:
    sitting = sit_before(FOLLOW.format(options=""))

    assert sitting.exit_code == 0
    assert "━" in sitting.screen
    assert "40 of 40" in sitting.screen
    assert "\x1b[3" in sitting.screen
    assert sitting.stdout == ""


def test_a_stage_without_a_total_does_not_keep_the_last_stages_total() -> None:
    sitting = sit_before(
        "from fruits_cli.screen import Progress\n"
        "from fruits_cli.screen import Screen\n"
        "Screen().follow([Progress('pca', 40, 40, 1.0), Progress('step COMPLETED', 0, 0, 0.0)])\n"
    )

    last = sitting.screen.rpartition("step COMPLETED")[2]
    assert last
    assert "%" not in last


def test_no_color_gives_a_bar_without_colours() -> None:
    sitting = sit_before(FOLLOW.format(options=""), environ={"NO_COLOR": "1"})

    assert "40 of 40" in sitting.screen
    assert "\x1b[3" not in sitting.screen


def test_quiet_shows_no_bar() -> None:
    sitting = sit_before(FOLLOW.format(options="verbosity=-1"))

    assert (sitting.exit_code, sitting.screen) == (0, "")


@pytest.mark.parametrize(
    ("typed", "exit_code", "stdout", "last"),
    [
        ("y\n", 0, "ended\n", "[y/N] y"),
        ("YES \n", 0, "ended\n", "[y/N] YES"),
        ("n\n", 1, "", "Error: Declined; nothing was done."),
        ("\n", 1, "", "Error: Declined; nothing was done."),
        ("yess\n", 1, "", "Error: Declined; nothing was done."),
        (CTRL_D, 1, "", "Error: Declined; nothing was done."),
        (CTRL_C, 130, "", "^C"),
    ],
    ids=["yes", "loud yes", "no", "enter", "nearly yes", "end of input", "Ctrl-C"],
)
def test_a_question_on_a_terminal_takes_its_answer(
    typed: str, exit_code: int, stdout: str, last: str
) -> None:
    sitting = sit_before(ASK, prompt="[y/N] ", typed=typed, environ={"NO_COLOR": "1"})

    assert (sitting.exit_code, sitting.stdout) == (exit_code, stdout)
    assert sitting.screen.startswith("End the cluster? [y/N] ")
    assert sitting.screen.rstrip().endswith(last)


def test_a_question_without_a_terminal_names_the_flag() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", ASK], input="y\n", capture_output=True, text=True, check=False
    )

    assert (asked.returncode, asked.stdout) == (2, "")
    assert asked.stderr == (
        "Error: End the cluster? There is no terminal to ask on.\nHint: Give --yes.\n"
    )


def test_yes_asks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().ask("End the cluster?", yes=True)

    assert capsys.readouterr() == ("", "")


def test_a_closed_stderr_neither_ends_the_command_nor_mixes_with_the_answer() -> None:
    script = FOLLOW.format(options="") + (
        "from fruits_cli.screen import Outcome\n"
        "Screen(True).answer(Outcome([], {}))\nScreen().tell('story')"
    )
    shell = f'exec "$0" -c "$1" {"2>&-"}'

    ended = subprocess.run(
        ["bash", "-c", shell, sys.executable, script], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stdout) == (0, "{}\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_a_full_disk_under_stderr_does_not_change_the_exit_code() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", FOLLOW.format(options="")], stderr=full, check=False
        )

    assert ended.returncode == 0


TABLE = """
from fruits_cli.screen import Outcome, Screen, Table
rows = [("step", "name", "state"), ("s-1", "a name of several words", "COMPLETED"),
        ("s-2", "another", "FAILED")]
line = "a last line of words that is longer than this screen is wide"
Screen().answer(Outcome([Table(rows), line], {}))
"""


def test_a_state_has_its_colour_on_a_terminal() -> None:
    screen = sit_before(TABLE, stdout_too=True).screen

    assert "\x1b[32mCOMPLETED" in screen
    assert "\x1b[31mFAILED" in screen


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["no color", "dumb"])
def test_a_table_without_colours_has_the_same_words(environ: dict[str, str]) -> None:
    screen = sit_before(TABLE, stdout_too=True, environ=environ).screen

    assert "\x1b[" not in screen
    assert "s-1   a name of several words  COMPLETED" in screen


def test_a_narrow_screen_breaks_no_word() -> None:
    screen = sit_before(TABLE, stdout_too=True, environ={"NO_COLOR": "1", "COLUMNS": "34"}).screen

    lines = screen.replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 34
    words = {word for line in lines for word in line.split()}
    assert {"several", "words", "COMPLETED", "longer", "screen"} <= words


def test_an_error_has_a_red_word_and_the_rest_is_plain() -> None:
    screen = sit_before(
        "from fruits_cli.errors import UsageError\n"
        "from fruits_cli.screen import show_error\n"
        "show_error(UsageError('No.', hint='Look.'))\n"
    ).screen

    assert "\x1b[1;31mError:\x1b[0m No." in screen
    assert "\x1b[1;36mHint:\x1b[0m Look." in screen


def test_a_wait_is_shown_on_a_terminal() -> None:
    screen = sit_before(
        "from fruits_cli.screen import Screen\n"
        "with Screen().waiting('Preparing the model'):\n"
        "    pass\n"
    ).screen

    assert "Preparing the model" in screen
    assert "0:00:00" in screen
