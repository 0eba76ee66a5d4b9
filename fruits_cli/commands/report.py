"""fruits report: a run as an HTML page."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fruits_cli.commands.wiring import open_session
from fruits_cli.config import Config
from fruits_cli.errors import ConfigError, UsageError
from fruits_cli.files import expanded
from fruits_cli.job.results import REPORT_DIR, REPORT_FILE, RUNS_DIR
from fruits_cli.ledger import Ledger, RunRecord, ledger_here
from fruits_cli.options import with_config
from fruits_cli.s3uri import is_s3_uri
from fruits_cli.screen import Outcome, Screen

if TYPE_CHECKING:
    from fruits_cli.report.facts import ClusterFacts, Report
    from fruits_cli.report.pictures import Album

Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...",
        help="Run ids, prefixes, last, folders of runs, or Parquet files; several are compared.",
        show_default=False,
    ),
]
Images = Annotated[
    str | None,
    typer.Option(help="Where the pictures are now; unset: where the run read them."),
]
Target = Annotated[
    Path | None, typer.Option("--output-dir", help="Where to; unset: the run's folder.")
]


class Export(StrEnum):
    """Programs that a run can be exported to."""

    PROJECTOR = "projector"
    ATLAS = "atlas"


Figures = Annotated[
    Path | None,
    typer.Option(help="Folder for the plots as PNG and SVG.", show_default=False),
]
Exported = Annotated[
    Export | None,
    typer.Option(help="Also write it for TensorBoard's projector, or for Embedding Atlas."),
]
WithReport = Annotated[
    bool, typer.Option("--report/--no-report", help="Make report.html of the results.")
]


@with_config("storage")
def report(
    *,
    runs: Runs = None,
    images: Images = None,
    output_dir: Target = None,
    figures: Figures = None,
    export: Exported = None,
    config: Config,
    screen: Screen,
) -> Outcome:
    """Make one HTML file of a run: map, variance, quality, what looks odd; works offline.

    \b
    fruits report                     the newest run
    fruits report RUN1 RUN2           two runs side by side
    fruits report --figures slides    its plots as PNG and SVG, too
    """
    # Here, for they load what draws and compares.
    from fruits_cli.report.facts import make_report
    from fruits_cli.report.source import load_source

    if len(runs or ()) > 1 and (figures or export):
        raise UsageError("--figures and --export are for one run.")
    found = [find_place(wanted, ledger_here()) for wanted in runs or ["last"]]
    target = expanded(output_dir).absolute() if output_dir else report_folder(found)
    with screen.waiting("Making the report"):
        made = [make_report(load_source(place), cluster_facts(of)) for place, of in found]
        source = made[0].source
        album = open_album(source.manifest, images, config, screen, source.all_paths)
        if len(made) > 1:
            return write_compared(made, album, target)
        outcome = write_one(made[0], album, target)
        if figures:
            folder = expanded(figures).absolute()
            outcome = with_figures(outcome, made[0], album, folder)
        if export:
            outcome = with_export(outcome, made[0], album, export, target / REPORT_DIR)
    return outcome


def write_one(report: Report, album: Album, target: Path) -> Outcome:
    """The page of one run, its numbers and its lists."""
    from fruits_cli.report.facts import report_facts
    from fruits_cli.report.files import write_report
    from fruits_cli.report.oddities import as_csv
    from fruits_cli.report.page import report_page

    facts = report_facts(report)
    lists = {f"{kind.name}.csv": as_csv(kind) for kind in report.odd}
    file = write_report(report_page(report, album), facts, lists, target)
    return Outcome([f"Report: {file}"], {"report": str(file), **facts})


def write_compared(reports: Sequence[Report], album: Album, target: Path) -> Outcome:
    """The page of several runs, and its numbers."""
    from fruits_cli.report.comparison import compare, comparison_facts
    from fruits_cli.report.files import write_report
    from fruits_cli.report.page import comparison_page

    comparison = compare(reports)
    facts = comparison_facts(comparison)
    file = write_report(comparison_page(comparison, album), facts, {}, target)
    return Outcome([f"Report: {file}"], {"report": str(file), **facts})


def with_figures(outcome: Outcome, report: Report, album: Album, folder: Path) -> Outcome:
    """The outcome, with the figures written."""
    from fruits_cli.report.figures import write_figures

    files = [str(file) for file in write_figures(report, album, folder)]
    content = [*outcome.content, f"Figures: {len(files)} files in {folder}"]
    return replace(outcome, content=content, facts={**outcome.facts, "figures": files})


def with_export(
    outcome: Outcome, report: Report, album: Album, kind: Export, folder: Path
) -> Outcome:
    """The outcome, with the run exported to another program, and how to start that."""
    from fruits_cli.report.export import write_atlas, write_projector

    if kind is Export.PROJECTOR:
        place = write_projector(report, album, folder / kind.value)
        start = f"tensorboard --logdir {shlex.quote(str(place))}"
    else:
        place = write_atlas(report, folder / kind.value)
        columns = "--x x --y y --neighbors neighbors --text path"
        start = f"embedding-atlas {shlex.quote(str(place))} {columns}"
    content = [*outcome.content, f"For {kind.value}: {start}"]
    return replace(outcome, content=content, facts={**outcome.facts, "export": str(place)})


def report_folder(found: Sequence[tuple[Path, RunRecord | None]]) -> Path:
    """Where a report goes: into its run's folder, several into one of their own."""
    if len(found) > 1:
        names = "-and-".join(place.stem for place, _ in found)
        return Path(RUNS_DIR, f"report-{names}").absolute()
    place = found[0][0]
    return place.with_suffix("") if place.is_file() else place


def find_place(wanted: str, ledger: Ledger) -> tuple[Path, RunRecord | None]:
    """The folder or file that is meant, and the run's record where this folder has one.

    Raises UsageError where there is none, or its results were not fetched yet.
    """
    place = expanded(wanted).absolute()
    if place.exists():
        known = (str(place), str(place.resolve()))
        found = (record for record in ledger.records() if {record.folder, record.output} & {*known})
        return place, next(found, None)
    if "/" in wanted:
        raise UsageError(f"There is no run in {wanted}: it does not exist.")
    record = ledger.find(wanted)
    folder = record.folder or record.output
    if is_s3_uri(folder):
        raise UsageError(
            f"The results of run {record.run_id} are not on this machine.",
            hint=f"fruits fetch-results {record.run_id} fetches them, with their report.",
        )
    return Path(folder), record


def cluster_facts(record: RunRecord | None) -> ClusterFacts:
    """What the record tells of the run's cluster."""
    from fruits_cli.report.facts import ClusterFacts

    if record is None or not record.cluster_id:
        return ClusterFacts()
    return ClusterFacts(
        record.region,
        record.cluster_id,
        record.cost_usd,
        record.cluster_seconds,
        record.cluster_shape,
    )


def open_album(
    manifest: Mapping[str, Any],
    images: str | None,
    config: Config,
    screen: Screen,
    all_paths: Sequence[str] = (),
) -> Album:
    """Where the run's pictures are; on S3 only if a region is configured."""
    from fruits_cli.report.pictures import Album

    place = images or str(manifest.get("settings", {}).get("images", ""))
    storage = None
    if is_s3_uri(place):
        with suppress(ConfigError):
            storage = open_session(config, screen).cloud.storage
    elif images:
        place = str(expanded(images).absolute())
    return Album(place, storage, all_paths, screen.warn)


_EARLY = "from fruits_cli.report.early import awaited_words as words"
_MAIN = "import sys; from fruits_cli.app import main; sys.argv[1:] = words(); main()"


@contextmanager
def early_reporter() -> Iterator[subprocess.Popen[str]]:
    """A process that loads what a report needs, and makes one when `with_report` tells it which."""
    reporter = subprocess.Popen(
        [sys.executable, "-P", "-c", f"{_EARLY}; {_MAIN}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield reporter
    finally:
        reporter.kill()
        reporter.communicate()


def with_report(
    outcome: Outcome,
    screen: Screen,
    flags: Mapping[str, Mapping[str, Any]],
    *,
    images: str | None = None,
    early: subprocess.Popen[str] | None = None,
) -> Outcome:
    """The outcome, with the report of a finished run, made by another process.

    If that process fails, the run is still a good one. early: one of `early_reporter`.
    """
    if not {"counts", "manifest"} & outcome.facts.keys():
        return outcome
    folder = str(outcome.facts["output"])
    words = ["report", folder, "--output", "json"]
    words += ["--images", images] if images else []
    for key in {"region", "profile"} & flags.get("aws", {}).keys():
        words += [f"--{key}", str(flags["aws"][key])]
    said = "it was interrupted"
    with (
        suppress(KeyboardInterrupt),
        screen.waiting("Making the report"),
        nullcontext(early) if early and early.poll() is None else early_reporter() as reporter,
    ):
        answer, errors = reporter.communicate(f"{json.dumps(words)}\n")
        with suppress(ValueError, KeyError):
            file = json.loads(answer)["report"]
            content = [*outcome.content, f"Report: {file}"]
            return replace(outcome, content=content, facts={**outcome.facts, "report": file})
        said = last_words(errors)
    screen.warn(f"There is no {REPORT_FILE}: {said} The results are whole. Again: fruits report")
    return replace(outcome, facts={**outcome.facts, "report": None})


def last_words(printed: str) -> str:
    """The error that a command printed last."""
    lines = [line for line in printed.splitlines() if line.startswith("Error: ")]
    return lines[-1].removeprefix("Error: ") if lines else "its process ended without an error."
