from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from fruits_cli.doctor import machine
from fruits_cli.doctor.findings import Verdict
from spark_job.model import IMAGENET_URL


def test_the_weights_url_equals_the_jobs() -> None:
    assert machine.IMAGENET_URL == IMAGENET_URL


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


def test_imagenet_weights_are_checked_without_a_download(site: str, tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}

    there = machine.weights("imagenet", environ, url=f"{site}/weights.h5")
    gone = machine.weights("imagenet", environ, url=f"{site}/none.h5")

    assert there.said == "imagenet: the first run downloads them (9 MB)"
    assert gone.said == "imagenet is not in the cache, and cannot be downloaded: Not Found."
    assert (there.verdict, gone.verdict) == (Verdict.OK, Verdict.WARNING)
    assert list(tmp_path.iterdir()) == []


def test_weights_in_the_cache_need_no_server(tmp_path: Path) -> None:
    models = tmp_path / "fruits" / "models"
    models.mkdir(parents=True)
    nowhere = "http://127.0.0.1:1/weights.h5"
    environ = {"XDG_CACHE_HOME": str(tmp_path)}

    (models / "weights.h5").write_bytes(b"")
    half = machine.weights("imagenet", environ, url=nowhere)
    (models / "weights.sha256").write_text("0")
    whole = machine.weights("imagenet", environ, url=nowhere)

    assert (half.verdict, "refused" in half.said) == (Verdict.WARNING, True)
    assert whole.said == "imagenet, downloaded already"
