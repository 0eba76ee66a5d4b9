import os
import subprocess
import sys
from pathlib import Path

LOCKING = """
import sys
from fruits_cli.files import scratch_folder
with scratch_folder("fruits-run-") as scratch:
    print(scratch, flush=True)
    sys.stdin.read()
"""


class Locking:
    """A process that holds a scratch folder as a run or an upload does."""

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


def test_the_scratch_folder_is_private_and_goes_with_its_command(tmp_path: Path) -> None:
    run = Locking(tmp_path)
    mode = run.scratch.stat().st_mode & 0o777

    run.end()

    assert mode == 0o700
    assert list(tmp_path.iterdir()) == []


def test_a_killed_commands_scratch_folder_is_removed_and_a_living_ones_stays(
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
