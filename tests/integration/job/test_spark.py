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


LOCKING = """
import sys
from pathlib import Path
from fruits_cli.job import spark as driver
from fruits_cli.job.progress import load_report
with driver._scratch_folder() as scratch, driver._command_lock(scratch / "command.lock"):
    print(scratch, flush=True)
    sys.stdin.read()
"""


class Locking:
    """A process that holds a scratch folder as a run does."""

    def __init__(self, temp: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOCKING],
            env={**os.environ, "TMPDIR": str(temp)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.scratch = Path(self.process.stdout.readline().strip())

    def end(self) -> None:
        self.process.communicate()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def aged(folder: Path) -> Path:
    """The folder as if it had been made an hour ago."""
    hour_ago = folder.stat().st_mtime - 3600
    os.utime(folder, (hour_ago, hour_ago))
    return folder


def test_the_scratch_folder_is_private_and_goes_with_the_run(tmp_path: Path) -> None:
    run = Locking(tmp_path)
    mode = run.scratch.stat().st_mode & 0o777

    run.end()

    assert mode == 0o700
    assert list(tmp_path.iterdir()) == []


def test_a_killed_runs_scratch_folder_is_removed_and_a_running_ones_is_kept(
    tmp_path: Path,
) -> None:
    killed, living = Locking(tmp_path), Locking(tmp_path)
    killed.kill()
    aged(killed.scratch)
    aged(living.scratch)
    other = tmp_path / "somebody-elses"
    other.mkdir()
    aged(other)

    following = Locking(tmp_path)

    left = set(tmp_path.iterdir())
    following.end()
    living.end()
    assert left == {living.scratch, following.scratch, other}


def test_a_scratch_folder_that_is_being_created_is_left_alone(tmp_path: Path) -> None:
    young = tmp_path / "fruits-run-young"
    young.mkdir()

    Locking(tmp_path).end()

    assert young.is_dir()
    aged(young)
    Locking(tmp_path).end()
    assert not young.exists()


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
