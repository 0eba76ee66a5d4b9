"""Spark's Python daemon on this machine: `spark.python.daemon.module`, which forks the workers.

Spark itself would import pyspark from a zip without byte code: every start compiles it, and each
task reads the directories of that zip and of spark-core's jar again (0.1 s). The installed package
is the same version. What all workers need is imported once, before they are forked.
"""

from __future__ import annotations

import sys
from zipimport import zipimporter

from spark_job import guard


def forget_archives() -> None:
    """Take archives from sys.path, and their finders from those that each task has read again."""
    sys.path[:] = [entry for entry in sys.path if not entry.endswith((".zip", ".jar"))]
    for entry, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimporter):
            del sys.path_importer_cache[entry]


def main() -> None:
    """Fork workers until Spark closes stdin."""
    forget_archives()
    guard.hide_pandas()
    # OpenVINO's converter, which only a new artefact needs.
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]
    from pyspark.daemon import manager

    from spark_job import engines, work  # noqa: F401

    # It starts no thread before a model is compiled, so that it can be forked.
    engines.imported_openvino()
    manager()


if __name__ == "__main__":
    main()
