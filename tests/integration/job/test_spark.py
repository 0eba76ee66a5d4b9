from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fruits_cli.errors import MachineError
from fruits_cli.job import spark as driver
from fruits_cli.job.progress import load_report
from fruits_cli.screen import Progress


def test_progress_is_the_jobs_last_report(tmp_path: Path) -> None:
    facts = {"stage": "pca", "pictures_done": 3, "pictures": 4, "images_per_s": 1.5, "error": None}
    (tmp_path / "progress.json").write_text(json.dumps(facts))

    assert load_report(tmp_path).progress == Progress("pca", 3, 4, 1.5)


@pytest.mark.parametrize("content", [None, b"", b"{", b"{}", b"[]", b"7", b"\xff"])
def test_progress_that_cannot_be_read_is_none(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "progress.json").write_bytes(content)

    assert load_report(tmp_path).progress is None


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

    environ = driver.spark_environ({**foreign, "HOME": "/h"}, Path("/jdk"), tmp_path)

    assert environ["HOME"] == "/h"
    assert environ["JAVA_HOME"] == "/jdk"
    assert environ["PYSPARK_PYTHON"] == sys.executable
    assert not any(environ.get(name) == value for name, value in foreign.items())


def test_a_user_id_without_a_name_gets_a_hint() -> None:
    with pytest.raises(MachineError, match="user id 123456789 has no name") as refused:
        driver.require_named_user(123456789)

    assert "/etc/passwd" in refused.value.hint


def test_the_jvm_is_opened_as_the_launcher_of_spark_opens_it(tmp_path: Path) -> None:
    home, java_home = driver.spark_home(), driver.find_java(os.environ)
    ours = driver.jvm_command(java_home, tmp_path, [], tmp_path / "spark_job.zip")
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
