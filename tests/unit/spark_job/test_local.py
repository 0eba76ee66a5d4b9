from __future__ import annotations

import io

from spark_job.local import read_gateway


def test_port_and_secret_are_read_as_spark_writes_them() -> None:
    told = b"\x00\x00\x9c\x40\x00\x00\x00\x06secret"

    assert read_gateway(io.BytesIO(told)) == (40_000, "secret")
