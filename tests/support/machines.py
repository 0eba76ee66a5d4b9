"""The installed command on a machine of its own: home, cache, temporary folder, processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

FRUITS = Path(sys.executable).with_name("fruits")
_PATIENCE_S = 300.0


def until(what: Callable[[], bool]) -> None:
    """Return once it is so; fail where it does not come to be."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while not what():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)


class Machine:
    """A working folder with fruits.toml for quick runs, and an environment that is told apart."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.work, self.temp = folder / "work", folder / "t m#p"
        for made in (self.work, self.temp, folder / "home"):
            made.mkdir()
        self._mark = uuid.uuid4().hex
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "XDG_CACHE_HOME": str(cache),
            "TMPDIR": str(self.temp),
            "TEST_MARK": self._mark,
        }
        (self.work / "fruits.toml").write_text("[job]\nweights = 'random'\nimage_size = 96\n")
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *words: str, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            # Seconds for a page that only the test of it looks at.
            [FRUITS, "run", *([] if "--report" in words else ["--no-report"]), *words],
            cwd=self.work,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def run(self, *words: str, **environ: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of `fruits run` with these words."""
        process = self.start(*words, **environ)
        stdout, stderr = process.communicate(timeout=_PATIENCE_S)
        return process.returncode, stdout, stderr

    def run_folder(self) -> Path:
        """The folder of the one run that was started here."""
        (folder,) = (self.work / "fruits-runs").iterdir()
        return folder

    def has_a_finished_chunk(self) -> bool:
        return any(self.work.glob("fruits-runs/*/_chunks/*.json"))

    def living(self) -> list[str]:
        """The command lines of all processes that descend from this machine's commands."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found

    def scratch(self) -> list[Path]:
        return list(self.temp.glob("fruits-run-*"))

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()
