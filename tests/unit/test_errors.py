from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from fruits_cli import errors
from fruits_cli.errors import ConfigError, FruitsError, JobFailed, UsageError


def family(kind: type[FruitsError]) -> Iterator[type[FruitsError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from family(child)


KINDS = list(family(FruitsError))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_tree_of_the_docstring_names_every_error(kind: type[FruitsError]) -> None:
    line = re.search(rf"^[│├└─ ]*{kind.__name__}\b *(\d?)", str(errors.__doc__), re.MULTILINE)

    assert line is not None
    assert line[1] in ("", str(kind.exit_code))


def test_the_tree_of_the_docstring_names_nothing_else() -> None:
    named = re.findall(r"^[│├└─ ]*([A-Z][A-Za-z]+)", str(errors.__doc__).partition("\n\n")[2], re.M)

    assert set(named) == {kind.__name__ for kind in KINDS}


def test_exit_codes_are_those_of_the_table() -> None:
    codes = {kind.__name__: kind.exit_code for kind in KINDS}

    assert {name for name, code in codes.items() if code == 2} == {"UsageError", "ConfigError"}
    assert {name for name, code in codes.items() if code == 4} == {"JobFailed"}
    assert set(codes.values()) == {1, 2, 4}


def test_an_error_carries_what_next_beside_what() -> None:
    error = UsageError("There are no pictures.", hint="Give another folder.")

    assert str(error) == "There are no pictures."
    assert error.hint == "Give another folder."
    assert JobFailed("Too many.").hint == ""


def test_further_faults_are_lines_of_their_own() -> None:
    error = ConfigError("one", "two\nstill two")

    assert error.lines == ("one", "two\nstill two")
    assert str(error) == "one\ntwo\nstill two"
