"""Spark's Python daemon on this machine: `spark.python.daemon.module`, which forks the workers.

Spark itself would import pyspark from a zip without byte code: every start compiles it, and each
task reads the directories of that zip and of spark-core's jar again (0.1 s). The installed package
is the same version. What all workers need is imported once, before they are forked, in a process
that starts beside Spark's own context: the daemon that Spark then starts hands over its streams.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar
from zipimport import zipimporter

_P = ParamSpec("_P")
_T = TypeVar("_T")

_ADDRESS = "FRUITS_DAEMON"
_STREAMS = (0, 1, 2)
_TAKEN = b"+"
_PATIENCE_S = 5.0


@contextlib.contextmanager
def prestarted() -> Iterator[None]:
    """Start a daemon that imports while the body starts Spark, whose own daemon will hand over.

    Does nothing where FRUITS_DAEMON, the address of a socket, is not set or too long for one.
    """
    with contextlib.ExitStack() as stack:
        if address := os.environ.get(_ADDRESS):
            with socket.socket(socket.AF_UNIX) as listening, contextlib.suppress(OSError):
                listening.bind(address)
                listening.listen()
                stack.callback(_end, _begin(listening.fileno()))
        yield


def _begin(descriptor: int) -> subprocess.Popen[bytes]:
    # As Spark sets it for workers: numpy takes its number of threads when it is imported.
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    environ.pop("PYTHONPATH", None)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "spark_job.daemon", "early", str(descriptor)],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=[descriptor],
    )


def _end(daemon: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        # It ends with its stdin: ours, or Spark's, which is closed by now.
        daemon.communicate(timeout=_PATIENCE_S)
    daemon.kill()


def hand_over(address: str) -> bool:
    """Give streams and environment to the daemon that waits there, and wait for its end.

    False where none waits any more: it serves a single start of Spark.
    """
    try:
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(address)
            socket.send_fds(waiting, [_TAKEN], _STREAMS)
            waiting.sendall(json.dumps(dict(os.environ)).encode())
            waiting.shutdown(socket.SHUT_WR)
            is_taken = waiting.recv(1) == _TAKEN
            while is_taken and waiting.recv(1):
                pass
            return is_taken
    except OSError:
        return False


def take_over(descriptor: int) -> socket.socket:
    """Take streams and environment of the daemon that Spark starts; it waits for the socket's end.

    descriptor: of a listening socket. Exits where the driver, which holds our stdin, ends first.
    """
    with socket.socket(fileno=descriptor) as listening:
        if listening.fileno() not in select.select([listening.fileno(), 0], [], [])[0]:
            sys.exit()
        connection, _ = listening.accept()
    _, streams, _, _ = socket.recv_fds(connection, 1, len(_STREAMS))
    with connection.makefile("rb") as sent:
        environ = json.load(sent)
    for ours, theirs in zip(_STREAMS, streams, strict=True):
        os.dup2(theirs, ours)
        os.close(theirs)
    os.environ.clear()
    os.environ.update(environ)
    connection.sendall(_TAKEN)
    return connection


def forget_archives() -> None:
    """Remove archives from sys.path, and their finders, which every task would read again."""
    sys.path[:] = [entry for entry in sys.path if not entry.endswith((".zip", ".jar"))]
    for entry, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimporter):
            del sys.path_importer_cache[entry]


def on_worker(task: Callable[_P, _T]) -> Callable[_P, _T]:
    """Every task begins so: its worker ends with its daemon and forgets Spark's archives.

    A cluster's daemon is Spark's own, not this one. Called on the driver it is the task alone.
    """

    @functools.wraps(task)
    def begun(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        from pyspark import TaskContext

        if TaskContext.get() is not None:
            # Not at the top: a daemon that only hands over must not wait for pyarrow.
            from spark_job import guard

            guard.die_with_parent()
            forget_archives()
        return task(*args, **kwargs)

    return begun


def main(argv: list[str]) -> None:
    """Fork workers until Spark closes stdin."""
    is_early = argv[:1] == ["early"]
    if not is_early and hand_over(os.environ.get(_ADDRESS, "")):
        return
    forget_archives()
    from spark_job import guard

    guard.hide_pandas()
    # OpenVINO's converter, which only a new artefact needs.
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]
    from pyspark.daemon import manager

    from spark_job import engines, tasks  # noqa: F401

    # It starts no thread before a model is compiled, so that it can be forked.
    engines.imported_openvino()
    with take_over(int(argv[1])) if is_early else contextlib.nullcontext():
        manager()


if __name__ == "__main__":
    main(sys.argv[1:])
