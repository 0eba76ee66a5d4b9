"""Fills the templates of templates/report; texts are escaped, scripts and thumbnails embedded."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from fruits_cli import __version__
from fruits_cli.files import templates_dir
from fruits_cli.report.thumbnails import Sheets


class Thumbnails:
    """Where each picture's thumbnail lies: a letter for the sheets, and the number of the cell."""

    def __init__(self, every: Sheets, large: Sheets, rows: Mapping[str, int]) -> None:
        self.sheets, self._rows = {"a": every, "s": large}, rows

    def ref(self, path: str) -> str:
        """Such as a12; empty where the picture has none."""
        for letter in ("s", "a"):
            if path in self.sheets[letter].cells:
                return f"{letter}{self.sheets[letter].cells[path]}"
        return ""

    def row(self, path: str) -> int:
        """The picture's row on the map, -1 where it has none."""
        return self._rows.get(path, -1)

    @property
    def files(self) -> list[tuple[str, str]]:
        """Name and base64 of every sheet."""
        return [
            (f"{letter}{number}", base64.b64encode(image).decode())
            for letter, sheets in self.sheets.items()
            for number, image in enumerate(sheets.images)
        ]


def render(template: str, **values: Any) -> str:
    """A page out of templates/report; every value is escaped, unless it is made for a script."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder = templates_dir() / "report"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["percent"] = lambda value, digits=1: f"{value * 100:.{digits}f} %"
    environment.filters["script"] = lambda value: Markup(as_script(value))
    return environment.get_template(template).render(
        values,
        text=lambda name: Markup((folder / name).read_text(encoding="utf-8")),
        bokeh=lambda: Markup(_bokeh_js()),
        minutes=minutes,
        version=__version__,
        made_at=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


def minutes(seconds: float) -> str:
    """A time in seconds, or in minutes and seconds."""
    whole = round(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60} s"


def as_script(value: object) -> str:
    """JSON that is safe within a script element, whatever its texts hold."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@cache
def _bokeh_js() -> str:
    from bokeh.resources import Resources

    resources = Resources(mode="inline", components=["bokeh", "bokeh-gl"], log_level="error")
    return "\n".join(resources.js_raw).replace("</script", "<\\/script")
