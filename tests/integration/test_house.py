from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import fruits_cli
import spark_job
from fruits_cli.app import COMMANDS
from tests.support.paths import ROOT

COMMAND_LINES = 40
_OURS = ("fruits_cli", "spark_job", "templates", "tests", "benchmarks", ".ci")
_TOP = ("pyproject.toml", "constraints.txt", "config.example.toml", "README.md", "Makefile")


@cache
def pyproject() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def sources(*packages: str) -> list[Path]:
    return [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]


def rooms(file: Path) -> str:
    """The module's room: fruits_cli/aws/errors.py is in aws, fruits_cli/screen.py in screen."""
    return file.relative_to(ROOT / "fruits_cli").parts[0].removesuffix(".py")


def nodes(file: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(file.read_text(encoding="utf-8")))


def imported(file: Path) -> set[str]:
    found = set()
    for node in nodes(file):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def calls(file: Path, name: str) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
        for node in nodes(file)
    )


def test_no_package_imports_upwards() -> None:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("boto3", {"aws", "rehearsal"}),
        ("botocore", {"aws", "rehearsal"}),
        ("moto", {"rehearsal"}),
        ("paramiko", {"tunnel", "rehearsal"}),
    ],
)
def test_each_foreign_library_is_used_in_one_package(library: str, allowed: set[str]) -> None:
    guests = {rooms(file) for file in sources("fruits_cli") if library in imported(file)}

    assert guests <= allowed


def test_only_the_screen_prints() -> None:
    allowed = {"screen", "app", "rehearsal"}

    assert {rooms(file) for file in sources("fruits_cli") if calls(file, "print")} <= allowed


def test_only_the_app_catches_everything() -> None:
    catching = {
        file.relative_to(ROOT).as_posix()
        for file in sources("fruits_cli", "spark_job")
        for node in nodes(file)
        if isinstance(node, ast.ExceptHandler)
        and isinstance(node.type, ast.Name)
        and node.type.id == "Exception"
    }

    # Pillow raises what it likes on hostile bytes; images.py makes each a reason to reject.
    assert catching <= {"fruits_cli/app.py", "spark_job/images.py"}


def test_no_test_patches_anything() -> None:
    patching = [file.name for file in sources("tests") if "unittest" in imported(file)]

    assert patching == []


@pytest.mark.parametrize("word", COMMANDS)
def test_a_command_is_a_short_story(word: str) -> None:
    file = ROOT / "fruits_cli" / "commands" / f"{word.replace('-', '_')}.py"

    lengths = {
        node.name: int(node.body[-1].end_lineno or 0) - node.body[0].lineno + 1
        for node in nodes(file)
        if isinstance(node, ast.FunctionDef)
    }

    assert {name: n for name, n in lengths.items() if n > COMMAND_LINES} == {}


_CHANGING = ("init", "upload", "run", "create-cluster", "submit", "cancel", "fetch-results", "runs")


@pytest.mark.parametrize("word", [*_CHANGING, "terminate"])
def test_every_command_that_sends_spends_or_destroys_has_a_dry_run(word: str) -> None:
    file = ROOT / "fruits_cli" / "commands" / f"{word.replace('-', '_')}.py"

    assert "dry_run: DryRun = False" in file.read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere() -> None:
    project = pyproject()["project"]

    assert isinstance(project, dict)
    assert fruits_cli.__version__ == spark_job.__version__ == project["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", fruits_cli.__version__)


def requirements() -> list[Requirement]:
    project = pyproject()["project"]
    assert isinstance(project, dict)
    extras = project["optional-dependencies"].values()
    return [Requirement(text) for group in (project["dependencies"], *extras) for text in group]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {normal(name): version for name, version in pairs}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("needed", requirements(), ids=lambda needed: needed.name)
def test_every_dependency_is_pinned_within_its_bounds(needed: Requirement) -> None:
    version = pins().get(normal(needed.name))

    assert version is not None
    assert needed.specifier.contains(version, prereleases=True)


def test_a_wheel_holds_both_packages_with_what_they_bring_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)

    (wheel,) = tmp_path.glob("fruits-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {file.relative_to(ROOT).as_posix() for file in sources("fruits_cli", "spark_job")}
    bundled = {"config.example.toml"} | {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "templates").rglob("*")
        if file.is_file()
    }
    expected = modules | {f"fruits_cli/_bundled/{name}" for name in bundled}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith("licenses/LICENSE") for name in names)


def texts() -> list[Path]:
    ours = [file for folder in _OURS for file in (ROOT / folder).rglob("*")]
    return [
        file
        for file in [*ours, *(ROOT / name for name in _TOP)]
        if file.is_file() and "__pycache__" not in file.parts and file != Path(__file__)
    ]


@pytest.mark.parametrize(
    "foreign",
    [
        r"(?<![\w.~*}\"'])/(work|root|Users)/",
        r"pypi\.|pythonhosted|index-url|artifactory|jfrog|nexus",
    ],
    ids=["paths", "registries"],
)
def test_no_file_names_a_machine_or_a_registry(foreign: str) -> None:
    pattern = re.compile(f"{foreign}|{re.escape(str(ROOT))}/")

    found = [
        f"{file.relative_to(ROOT)}: {match[0]}"
        for file in texts()
        if (match := pattern.search(file.read_text(encoding="utf-8", errors="replace")))
    ]

    assert found == []


@pytest.mark.parametrize(
    "template", sorted((ROOT / "templates").rglob("*.*")), ids=lambda file: file.name
)
def test_a_template_parses(template: Path) -> None:
    text = template.read_text(encoding="utf-8")

    if template.suffix == ".sh":
        subprocess.run(["bash", "-n", template], check=True)
    elif template.suffix in (".json", ".ipynb"):
        json.loads(text)
    assert text.endswith("\n")
