from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile


def test_no_task_reads_an_archive_again_once_the_daemon_forgot_them(tmp_path: Path) -> None:
    archive = tmp_path / "spark-core.jar"
    with ZipFile(archive, "w") as jar:
        jar.writestr("org/apache.py", "")
    asked = (
        "import importlib, os, sys; from spark_job import daemon\n"
        "for name in ('surely_missing', 'org.surely_missing'):\n"
        "    try: importlib.import_module(name)\n"
        "    except ImportError: pass\n"
        "daemon.forget_archives()\n"
        "print([e for e in [*sys.path, *sys.path_importer_cache] if '.jar' in e])"
    )
    environ = {**os.environ, "PYTHONPATH": str(archive)}

    told = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, env=environ
    )

    assert told.stdout == "[]\n"


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
        "import os; from spark_job import engines, work; engines.imported_openvino(); "
        "names = [open(f'/proc/self/task/{task}/comm').read() for task in os.listdir("
        "'/proc/self/task')]; print(sorted(n for n in names if 'jemalloc' not in n).__len__())"
    )
    environ = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    told = subprocess.run(
        [sys.executable, "-c", made], capture_output=True, text=True, check=True, env=environ
    )

    assert told.stdout == "1\n"
