"""Writes progress.json: what a run is doing, every few seconds."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from spark_job import schema
from spark_job.files import Place

_EVERY_LOCAL_S, _EVERY_S3_S = 1.0, 5.0
# The rate is that of the last half minute, so that it follows a slow disk or a new executor.
_WINDOW_S = 30.0


class Reporter:
    """Writes progress.json while a stage runs; `count` gives the pictures done so far."""

    def __init__(self, output: Place, *, attempt: str = "") -> None:
        self._output, self._attempt = output, attempt
        self._state: dict[str, Any] = {"stage": "starting Spark", "pictures_done": 0, "pictures": 0}
        self._count: Callable[[], int] | None = None
        self._seen: deque[tuple[float, int]] = deque()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stage(self, name: str, *, pictures: int, count: Callable[[], int] | None = None) -> None:
        """Begin a stage, and report it at once."""
        with self._lock:
            self._count = count
            self._seen.clear()
            done = 0 if count else pictures
            self._state = {"stage": name, "pictures_done": done, "pictures": pictures}
        self._write()

    def end(self, stage: str, error: dict[str, Any] | None = None) -> None:
        """The last report: done, or failed with an error."""
        self._ended.set()
        self._thread.join()
        self._state["stage"] = stage
        self._write(error)

    def _run(self) -> None:
        every_s = _EVERY_LOCAL_S if self._output.is_local else _EVERY_S3_S
        while not self._ended.wait(every_s):
            try:
                self._write()
            except OSError:
                # Progress is optional; the stage itself reports a full disk.
                continue

    def _write(self, error: dict[str, Any] | None = None) -> None:
        with self._lock:
            if self._count and not self._ended.is_set():
                self._state["pictures_done"] = self._count()
            facts = {**self._state, "images_per_s": round(self._rate(), 1), "error": error}
            if self._attempt:
                facts["attempt"] = self._attempt
            self._output.write(schema.PROGRESS_FILE, json.dumps(facts).encode())

    def _rate(self) -> float:
        now_s, done = time.monotonic(), self._state["pictures_done"]
        self._seen.append((now_s, done))
        while now_s - self._seen[0][0] > _WINDOW_S and len(self._seen) > 2:
            self._seen.popleft()
        seconds = now_s - self._seen[0][0]
        return float((done - self._seen[0][1]) / seconds) if seconds > 0 else 0.0
