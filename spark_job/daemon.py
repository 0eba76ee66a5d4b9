"""Spark's Python daemon on this machine: `spark.python.daemon.module`, which forks the workers.

Spark itself would import pyspark from a zip without byte code: every start compiles it, and each
task reads the directories of that zip and of spark-core's jar again (0.1 s). The installed package
is the same version. What all workers need is imported once, before they are forked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from spark_job import guard


def without_archives(path: Iterable[str]) -> list[str]:
    """The entries of sys.path that are folders."""
    return [entry for entry in path if not entry.endswith((".zip", ".jar"))]


def main() -> None:
    """Fork workers until Spark closes stdin."""
    sys.path[:] = without_archives(sys.path)
    guard.hide_pandas()
    from pyspark.daemon import manager

    from spark_job import engines, work  # noqa: F401

    # It starts no thread before a model is compiled, so that it can be forked.
    engines.imported_openvino()
    manager()


if __name__ == "__main__":
    main()
