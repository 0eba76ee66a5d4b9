from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LINES_OF_A_FILE, LINES_OF_A_FUNCTION, FILES_OF_THE_GROUND = 400, 50, 11


def sources() -> Iterator[tuple[str, str]]:
    for package in ("fruits_cli", "spark_job"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            yield str(path.relative_to(REPOSITORY)), path.read_text(encoding="utf-8")


def test_no_file_is_longer_than_its_limit() -> None:
    lengths = {name: len(text.splitlines()) for name, text in sources()}

    assert len(lengths) > 100
    assert {name: n for name, n in lengths.items() if n > LINES_OF_A_FILE} == {}


def test_no_function_is_longer_than_its_limit() -> None:
    lengths = {
        f"{name}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, text in sources()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert len(lengths) > 1000
    assert {name: n for name, n in lengths.items() if n > LINES_OF_A_FUNCTION} == {}


def test_few_modules_stand_beside_the_packages() -> None:
    ground = sorted(path.name for path in (REPOSITORY / "fruits_cli").glob("*.py"))

    assert len(ground) <= FILES_OF_THE_GROUND, ground
