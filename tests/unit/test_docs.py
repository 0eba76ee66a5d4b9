from __future__ import annotations

import re
from pathlib import Path

import generate_docs as docs
import pytest

from fruits_cli.app import COMMANDS
from fruits_cli.config import SECTIONS
from tests.support.paths import ROOT


def test_the_generated_files_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert docs.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(("page", "name"), [("configuration", "config"), ("commands", "help")])
def test_a_page_holds_its_generated_block_once(page: str, name: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")

    assert text.count(f"<!-- {name} -->") == 1
    assert text.count(f"<!-- /{name} -->") == 1


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))

    missing = [one for one in targets if "://" not in one and not (page.parent / one).exists()]

    assert missing == []


def test_a_block_is_made_anew_and_what_stands_around_it_stays() -> None:
    text = "before\n<!-- config -->\nstale \\1\n<!-- /config -->\nafter\n"

    made = docs.with_block(text, "config", docs.config_table())

    assert made.startswith("before\n<!-- config -->\n| key | default | what it is |\n")
    assert made.endswith("|\n<!-- /config -->\nafter\n")
    assert "stale" not in made
    assert docs.with_block(made, "config", docs.config_table()) == made


def test_the_table_has_a_row_for_every_key() -> None:
    rows = docs.config_table().splitlines()[2:]

    keys = [f"{section}.{key}" for section, model in SECTIONS.items() for key in model.model_fields]
    assert [row.split("`")[1] for row in rows] == keys
    assert all(row.count("|") == 4 for row in rows)


def test_the_help_has_a_page_for_every_command() -> None:
    text = docs.help_text()

    assert text.startswith("```\n$ fruits --help\nUsage: fruits [OPTIONS] COMMAND")
    for word in COMMANDS:
        assert f"$ fruits {word} --help\nUsage: fruits {word} " in text
    assert "\x1b" not in text
