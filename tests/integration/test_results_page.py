"""What docs/results.md says of opening a run, done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.run_folders import clouds


def snippets() -> list[str]:
    """The Python of docs/results.md, each block by itself."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    found = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return [code for code in found if "spark" not in code]


def name(code: str) -> str:
    return code.split(maxsplit=2)[1]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("code", snippets(), ids=name)
def test_a_run_opens_as_the_page_says(code: str, tmp_path: Path) -> None:
    run = clouds(3, 20)
    folder = run.write(tmp_path / "run")
    seen: dict[str, object] = {}

    exec(code.replace("fruits-runs/RUN", str(folder)), seen)

    if "projected" in seen:
        assert getattr(seen["projected"], "shape", None) == (60, 4)
    elif "duckdb" in code:
        assert sorted(seen["rows"].fetchall()) == [(f"kind {n}", 20) for n in range(3)]  # type: ignore[attr-defined]
    else:
        assert len(seen["rows"]) == 60  # type: ignore[arg-type]


def test_every_program_has_its_lines() -> None:
    programs = {name(code) for code in snippets()}

    assert programs == {"numpy", "pandas", "polars", "duckdb"}
