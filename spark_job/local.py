"""The job on this machine: `python -m spark_job.local ARGS`, with the arguments of main.py.

spark-submit would start one JVM to read its options, then Spark's, then Python, each after the
other. Here Python starts Spark's JVM itself, as a shell of pyspark does, and imports the job
meanwhile. FRUITS_JVM is the JVM's command as JSON.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

_COMMAND, _POLL_S = "FRUITS_JVM", 0.01


def main(argv: list[str]) -> int:
    """The exit code of the job with these arguments."""
    jvm = start_jvm()
    threading.Thread(target=_end_with, args=(jvm,), daemon=True).start()
    # Not at the top: that takes as long as half of the JVM's start.
    from spark_job import guard

    guard.hide_pandas()
    from spark_job.main import main as run

    reach_jvm(jvm)
    return run(argv, leaves_spark=True)


def start_jvm() -> subprocess.Popen[bytes]:
    """The JVM that FRUITS_JVM names, which ends when this process does."""
    command = json.loads(os.environ.pop(_COMMAND))
    environ = {**os.environ, "_PYSPARK_DRIVER_CONN_INFO_PATH": str(_gateway_file())}
    return subprocess.Popen(command, env=environ, stdin=subprocess.PIPE)


def reach_jvm(jvm: subprocess.Popen[bytes]) -> None:
    """Wait until the JVM says where it is reached, and leave that where pyspark looks for it.

    Exits where the JVM has ended before.
    """
    while not _gateway_file().exists():
        if jvm.poll() is not None:
            sys.exit(_failure(jvm.returncode))
        time.sleep(_POLL_S)
    with _gateway_file().open("rb") as told:
        port, secret = read_gateway(told)
    os.environ |= {"PYSPARK_GATEWAY_PORT": str(port), "PYSPARK_GATEWAY_SECRET": secret}


def _gateway_file() -> Path:
    return Path(os.environ["TMPDIR"], "gateway")


def read_gateway(told: BinaryIO) -> tuple[int, str]:
    """Port and secret, as Spark's PythonGatewayServer writes them: two numbers and a text."""
    port, length = struct.unpack("!ii", told.read(8))
    return port, told.read(length).decode()


def _end_with(jvm: subprocess.Popen[bytes]) -> None:
    code = jvm.wait()
    # Not sys.exit: the main thread may be waiting for the JVM that is gone.
    os._exit(_failure(code))


def _failure(code: int) -> int:
    return code if code > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
