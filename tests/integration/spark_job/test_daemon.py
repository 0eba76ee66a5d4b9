from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

import pytest

from spark_job import daemon

needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks /proc of processes")


def test_a_task_forgets_archives_on_a_worker_and_not_on_the_driver(tmp_path: Path) -> None:
    archive = tmp_path / "spark-core.jar"
    with ZipFile(archive, "w") as jar:
        jar.writestr("org/apache.py", "")
    asked = (
        "import importlib, sys; from pyspark import TaskContext; from spark_job import daemon\n"
        "for name in ('surely_missing', 'org.surely_missing'):\n"
        "    try: importlib.import_module(name)\n"
        "    except ImportError: pass\n"
        "@daemon.on_worker\n"
        "def archives(): return sum('.jar' in e for e in (*sys.path, *sys.path_importer_cache))\n"
        "on_driver = archives()\n"
        "TaskContext._getOrCreate()\n"
        "print(on_driver > 1, archives())"
    )
    environ = {**os.environ, "PYTHONPATH": str(archive)}

    told = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, env=environ
    )

    assert told.stdout == "True 0\n"


def test_arrow_columns_are_made_without_pandas_once_it_is_hidden() -> None:
    made = (
        "import sys; from spark_job import guard; guard.hide_pandas(); import pyarrow as pa; "
        "print(pa.array(['a', None], pa.string()).to_pylist(), 'pandas' in sys.modules)"
    )

    told = subprocess.run([sys.executable, "-c", made], capture_output=True, text=True, check=True)

    assert told.stdout == "['a', None] False\n"


def test_all_that_the_daemon_imports_before_it_forks_runs_in_one_thread() -> None:
    # jemalloc's own thread is Arrow's, which looks after forks itself.
    made = (
        "import os; from spark_job import engines, tasks; engines.imported_openvino(); "
        "names = [open(f'/proc/self/task/{task}/comm').read() for task in os.listdir("
        "'/proc/self/task')]; print(sorted(n for n in names if 'jemalloc' not in n).__len__())"
    )
    environ = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    told = subprocess.run(
        [sys.executable, "-c", made], capture_output=True, text=True, check=True, env=environ
    )

    assert told.stdout == "1\n"


def waited(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@contextmanager
def as_spark_starts_it(address: object) -> Iterator[subprocess.Popen[bytes]]:
    environ = {**os.environ, "FRUITS_DAEMON": str(address), "PYTHON_WORKER_FACTORY_SECRET": "s"}
    command = [sys.executable, "-m", "spark_job.daemon", "pyspark.worker"]
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield process


def parent_of_a_worker(process: subprocess.Popen[bytes]) -> int:
    """Fork a worker as Spark does: connect to the port that the daemon wrote, read an id."""
    assert process.stdout is not None
    (port,) = struct.unpack("!i", process.stdout.read(4))
    with socket.create_connection(("127.0.0.1", port)) as worker:
        (pid,) = struct.unpack("!i", worker.recv(4))
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""


@needs_proc
def test_prestarted_daemon_takes_over_from_sparks_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = tmp_path / "d"
    monkeypatch.setenv("FRUITS_DAEMON", str(address))

    with daemon.prestarted(), as_spark_starts_it(address) as process:
        forks = parent_of_a_worker(process)
        assert "spark_job.daemon early" in command_of(forks)
        process.communicate(timeout=30)

    assert process.returncode == 0
    assert command_of(forks) == ""


@needs_proc
@pytest.mark.parametrize("address", ["", "nobody", "n" * 200])
def test_without_a_prestarted_daemon_sparks_own_forks_the_workers(
    tmp_path: Path, address: str
) -> None:
    with as_spark_starts_it(tmp_path / address if address else "") as process:
        assert parent_of_a_worker(process) == process.pid
        process.communicate(timeout=30)


@needs_proc
def test_a_second_daemon_of_spark_forks_its_own_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = tmp_path / "d"
    monkeypatch.setenv("FRUITS_DAEMON", str(address))

    with daemon.prestarted(), as_spark_starts_it(address) as first:
        assert parent_of_a_worker(first) != first.pid
        with as_spark_starts_it(address) as second:
            assert parent_of_a_worker(second) == second.pid


@needs_proc
def test_a_name_too_long_for_a_socket_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRUITS_DAEMON", str(tmp_path / ("n" * 200)))

    with daemon.prestarted():
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        assert not [pid for pid in children if "early" in command_of(int(pid))]


@needs_proc
def test_a_prestarted_daemon_ends_with_its_driver(tmp_path: Path) -> None:
    driver = (
        "import os, signal; from spark_job import daemon\n"
        "with daemon.prestarted():\n"
        "    task = f'/proc/self/task/{os.getpid()}/children'\n"
        "    print(open(task).read(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environ = {**os.environ, "FRUITS_DAEMON": str(tmp_path / "d")}

    told = subprocess.run([sys.executable, "-c", driver], capture_output=True, env=environ)

    pid = int(told.stdout)
    waited(lambda: "early" not in command_of(pid))
