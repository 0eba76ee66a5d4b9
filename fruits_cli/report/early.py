"""Loads what a report needs while the run still computes, and waits for its words.

Loading takes two thirds of a small run's report, at a time when Spark starts and a core is idle.
"""

from __future__ import annotations

import importlib
import json
import select
import sys

# The run takes too long for it to matter: the memory is given back.
_PATIENCE_S = 60.0
_LOADED = (
    *("bokeh.embed", "bokeh.models", "bokeh.plotting", "bokeh.resources", "jinja2"),
    *("PIL.Image", "PIL.ImageOps", "pyarrow.compute", "pyarrow.parquet"),
    *(f"{__package__}.{name}" for name in ("facts", "files", "oddities", "page", "source")),
)


def awaited_words() -> list[str]:
    """The words of the report's command, a line of JSON on stdin; exits where none come."""
    for name in _LOADED:
        importlib.import_module(name)
    is_told = select.select([sys.stdin], [], [], _PATIENCE_S)[0]
    if not is_told or not (line := sys.stdin.readline()):
        sys.exit()
    return [str(word) for word in json.loads(line)]
