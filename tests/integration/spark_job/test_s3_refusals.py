"""What S3 refuses for good rejects a picture; what it may give later ends the task."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from spark_job import files, schema
from spark_job.chunks import Plan
from spark_job.errors import JobError
from spark_job.files import Found
from spark_job.pictures import Picture, pictures_of


class Refusing(ThreadingHTTPServer):
    """An S3 with one object of so many bytes, which it refuses to give."""

    status, code, size = 503, "SlowDown", 1

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)


class _Answers(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer(200, size=self.server.size)  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        server: Any = self.server
        self._answer(server.status, f"<Error><Code>{server.code}</Code></Error>".encode())

    def _answer(self, status: int, body: bytes = b"", size: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.send_header("Last-Modified", "Wed, 12 Oct 2022 17:50:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusing]:
    with Refusing() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield server
        server.shutdown()


def read(size: int) -> list[Picture]:
    place = files.place("s3://bucket/images")
    plan = Plan(place.uri, "folder", place.name, 1, 1, 512, "", "", "", "", "", 96, [])
    return list(pictures_of(plan, place, [Found("a.jpg", size, 0)], check=False))


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (403, "InvalidObjectState"), (400, "KMS.DisabledException")],
)
def test_an_object_that_is_refused_for_good_is_unreadable(
    s3: Refusing, status: int, code: str
) -> None:
    s3.status, s3.code, s3.size = status, code, 50_000

    (picture,) = read(50_000)

    assert picture.refusal is not None
    assert picture.refusal.error == schema.UNREADABLE


def test_an_s3_that_slows_down_costs_no_picture(s3: Refusing) -> None:
    # The error is longer than the object: the client does not ask again by itself.
    with pytest.raises(JobError, match=r"s3://bucket/images/a\.jpg could not") as error:
        read(s3.size)

    assert error.value.exit_code == 1
    assert "--resume" in error.value.hint
