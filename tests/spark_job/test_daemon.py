from __future__ import annotations

import subprocess
import sys

from spark_job import daemon


def test_the_daemon_leaves_archives_out_of_its_path() -> None:
    path = ["", "/spark/python/lib/pyspark.zip", "/spark/jars/spark-core.jar", "/venv/packages"]

    assert daemon.without_archives(path) == ["", "/venv/packages"]


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
