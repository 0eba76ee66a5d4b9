"""The files of a report: the page, and beside it a folder with the numbers and the lists."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fruits_cli.files import replacing
from fruits_cli.job.results import REPORT_DIR, REPORT_FILE


def write_report(
    page: str, facts: Mapping[str, Any], lists: Mapping[str, str], folder: Path
) -> Path:
    """Write page, report.json and the lists by their names; the page's file, written last.

    Raises MachineError where the disk refuses.
    """
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    write_text(folder / REPORT_DIR / "report.json", text)
    for name, content in lists.items():
        write_text(folder / REPORT_DIR / name, content)
    write_text(folder / REPORT_FILE, page)
    return folder / REPORT_FILE


def write_text(file: Path, text: str) -> None:
    """Write a file as a whole or not at all. Raises MachineError."""
    with replacing(file) as scratch:
        # RFC 4180 ends its lines itself.
        scratch.write_text(text, encoding="utf-8", newline="")
