from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from fruits_cli.doctor import machine
from fruits_cli.doctor.machine import WeightsFacts
from spark_job.model import IMAGENET_URL


def test_the_weights_address_is_the_jobs() -> None:
    assert machine.IMAGENET_URL == IMAGENET_URL


def test_packages_have_their_versions_or_none() -> None:
    found = machine.versions(["pyarrow", "no-such-package"])

    assert found["pyarrow"] is not None
    assert found["no-such-package"] is None


class _Heads(BaseHTTPRequestHandler):
    """Answers HEAD alone: whoever downloads gets 501."""

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/weights.h5" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def site() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Heads) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_imagenets_weights_are_asked_for_and_not_downloaded(site: str, tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}

    there = machine.weights_facts("imagenet", environ, url=f"{site}/weights.h5")
    gone = machine.weights_facts("imagenet", environ, url=f"{site}/none.h5")

    assert there == WeightsFacts("imagenet", is_here=False)
    assert gone == WeightsFacts("imagenet", is_here=False, trouble="Not Found")
    assert list(tmp_path.iterdir()) == []


def test_weights_in_the_cache_need_no_server(tmp_path: Path) -> None:
    models = tmp_path / "fruits" / "models"
    models.mkdir(parents=True)
    nowhere = "http://127.0.0.1:1/weights.h5"
    environ = {"XDG_CACHE_HOME": str(tmp_path)}

    (models / "weights.h5").write_bytes(b"")
    half = machine.weights_facts("imagenet", environ, url=nowhere)
    (models / "weights.sha256").write_text("0")
    whole = machine.weights_facts("imagenet", environ, url=nowhere)

    assert (half.is_here, "refused" in half.trouble) == (False, True)
    assert (whole.is_here, whole.trouble) == (True, "")


def test_a_weights_file_is_here_or_not(tmp_path: Path) -> None:
    file = tmp_path / "my.h5"
    before = machine.weights_facts(str(file), {})
    file.write_bytes(b"")

    assert not before.is_here
    assert machine.weights_facts(str(file), {}).is_here


def test_a_folder_that_is_still_to_be_made_is_measured_at_its_parent(tmp_path: Path) -> None:
    folder, free_gib, is_writable = machine.room(tmp_path / "a" / "b")

    assert (folder, is_writable) == (tmp_path, True)
    assert free_gib > 0


def test_a_run_writes_to_three_folders(tmp_path: Path) -> None:
    found = machine.folders({"XDG_CACHE_HOME": "/c"}, tmp_path)

    assert found["working folder"] == tmp_path
    assert found["cache"] == Path("/c/fruits")
    assert found["temporary folder"].is_dir()
