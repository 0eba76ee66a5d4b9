"""The files of a report: the page, and beside it a folder with the numbers and the lists."""

from __future__ import annotations

import json
from pathlib import Path

from fruits_cli.files import replacing
from fruits_cli.job.results import REPORT_DIR, REPORT_FILE
from fruits_cli.report.facts import Report, report_facts
from fruits_cli.report.oddities import as_csv


def write_report(report: Report, page: str, folder: Path) -> Path:
    """Write page, report.json and a CSV for each list; the page's file, which is written last.

    Raises MachineError where the disk refuses.
    """
    facts = json.dumps(report_facts(report), indent=2, ensure_ascii=False) + "\n"
    write_text(folder / REPORT_DIR / "report.json", facts)
    for kind in report.odd:
        write_text(folder / REPORT_DIR / f"{kind.name}.csv", as_csv(kind))
    write_text(folder / REPORT_FILE, page)
    return folder / REPORT_FILE


def write_text(file: Path, text: str) -> None:
    """Write a file as a whole or not at all. Raises MachineError."""
    with replacing(file) as scratch:
        # RFC 4180 ends its lines itself.
        scratch.write_text(text, encoding="utf-8", newline="")
