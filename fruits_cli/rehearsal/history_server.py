"""Spark's own History Server over the event logs of a cluster's steps, on loopback."""

from __future__ import annotations

import os
import re
from pathlib import Path

from fruits_cli.job.java import find_java, spark_environ, spark_home
from fruits_cli.rehearsal.page_server import Command, PageServer

_STARTED = re.compile(r"Bound HistoryServer to 127\.0\.0\.1, and started at http://[^:]+:(\d+)")


def history_server(events: Path, work: Path) -> PageServer:
    """The server of `events`, a folder with one log for each application."""

    def prepare() -> Command:
        java = find_java(os.environ)
        events.mkdir(parents=True, exist_ok=True)
        settings = {
            "spark.history.fs.logDirectory": f"file:{events}",
            "spark.history.fs.update.interval": "2s",
            "spark.history.ui.port": "0",
            "java.io.tmpdir": str(work),
        }
        argv = [str(java / "bin" / "java"), "-Xmx512m", "-cp", f"{spark_home() / 'jars'}/*"]
        argv += [f"-D{name}={value}" for name, value in settings.items()]
        argv += ["org.apache.spark.deploy.history.HistoryServer"]
        environ = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(work)}
        # SPARK_LOCAL_IP is what a page of Spark binds to.
        return Command(argv, spark_environ(environ, java, work), _STARTED)

    return PageServer(work, prepare)
