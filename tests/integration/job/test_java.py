from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fruits_cli.job.java import find_java, jvm_command, spark_environ, spark_home


def test_settings_for_another_spark_do_not_reach_ours(tmp_path: Path) -> None:
    foreign = {
        "SPARK_CONF_DIR": "/x",
        "PYSPARK_PYTHON": "/x",
        "PYSPARK_SUBMIT_ARGS": "--x",
        "HADOOP_CONF_DIR": "/x",
        "JAVA_TOOL_OPTIONS": "-x",
        "_JAVA_OPTIONS": "-x",
        "PYTHONPATH": "/x",
        "FRUITS_JOB_PCA_K": "5",
    }

    environ = spark_environ({**foreign, "HOME": "/h"}, Path("/jdk"), tmp_path)

    assert environ["HOME"] == "/h"
    assert environ["JAVA_HOME"] == "/jdk"
    assert environ["PYSPARK_PYTHON"] == sys.executable
    assert not any(environ.get(name) == value for name, value in foreign.items())


def test_the_jvm_is_opened_as_the_launcher_of_spark_opens_it(tmp_path: Path) -> None:
    home, java_home = spark_home(), find_java(os.environ)
    ours = jvm_command(java_home, tmp_path, options=[], conf={})
    launcher = [ours[0], "-cp", f"{home}/jars/*", "org.apache.spark.launcher.Main"]
    told = subprocess.run(
        [*launcher, "org.apache.spark.deploy.SparkSubmit", "pyspark-shell"],
        env={"SPARK_HOME": str(home), "SPARK_SCALA_VERSION": "2.12", "JAVA_HOME": str(java_home)},
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = told.stdout.strip("\n\0").split("\0")

    assert theirs[0] == ours[0]
    assert [word for word in theirs[1:] if word.startswith("-")] == [
        word for word in ours[1:] if word.startswith("-") and word in theirs
    ]
