"""fruits similar: the pictures of a run that are most like a given one."""

from __future__ import annotations

import os
import webbrowser
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fruits_cli.commands.report import find_place, open_album
from fruits_cli.config import Config, JobConfig, Precision
from fruits_cli.errors import UsageError
from fruits_cli.files import expanded
from fruits_cli.job.embedding import embed_picture
from fruits_cli.job.model import ModelArtefact, cached_artefact, obtain_model
from fruits_cli.job.results import MANIFEST_FILE, REPORT_DIR, load_manifest
from fruits_cli.ledger import RunRecord, ledger_here
from fruits_cli.options import with_config
from fruits_cli.screen import Outcome, Screen, Table


class By(StrEnum):
    """What is compared: the features themselves, or the run's components."""

    FEATURES = "features"
    COMPONENTS = "components"


Picture = Annotated[Path, typer.Argument(help="A picture; it need not be one of the run.")]
Run = Annotated[str, typer.Option(help="A run id, a prefix of one, last, or a run's folder.")]
Compared = Annotated[By, typer.Option("--by", help="What is compared; components are quicker.")]
Count = Annotated[int, typer.Option(min=1, max=1000, help="How many to list.")]
Weights = Annotated[
    str | None,
    typer.Option(help="The run's weights file, where its model is not in the cache any more."),
]
Computed = Annotated[
    Precision | None,
    typer.Option(help="What the picture is computed in; unset: the run's own precision."),
]
Images = Annotated[
    str | None, typer.Option(help="Where the run's pictures are now, for their thumbnails.")
]
Opened = Annotated[bool, typer.Option("--open", help="Show them as a page in the browser.")]


@with_config("storage")
def similar(
    *,
    picture: Picture,
    run: Run = "last",
    by: Compared = By.FEATURES,
    count: Count = 12,
    weights: Weights = None,
    precision: Computed = None,
    images: Images = None,
    opened: Opened = False,
    config: Config,
    screen: Screen,
) -> Outcome:
    """List the pictures of a run that are most like a given one, by its own model.

    \b
    fruits similar pear.jpg           the twelve nearest of the newest run
    fruits similar pear.jpg --open    the same as a page
    """
    from fruits_cli.report.similar import nearest_by_components, nearest_by_features

    picture = expanded(picture).absolute()
    folder, record = find_place(run, ledger_here())
    manifest = load_manifest(folder)
    for key in ("engine", "precision", "image_size"):
        if not manifest.get(key):
            raise UsageError(f"{folder / MANIFEST_FILE} does not tell the run's {key}.")
    artefact = run_model(manifest, record, weights, screen, os.environ)
    with screen.waiting("Comparing"):
        computed = precision.value if precision else manifest["precision"]
        features = embed_picture(picture, artefact, manifest["engine"], computed, os.environ)
        find = nearest_by_features if by is By.FEATURES else nearest_by_components
        found = find(features, folder, count)
    rows = [(f"{match.similarity:.4f}", match.label, match.path) for match in found]
    run_id = str(manifest.get("run_id", folder.name))
    similar = [vars(match) for match in found]
    facts = {"picture": str(picture), "run_id": run_id, "by": by.value, "similar": similar}
    lines: list[str | Table] = [Table([("similarity", "label", "path"), *rows])]
    if not opened:
        return Outcome(lines, facts)
    from fruits_cli.report.files import write_text
    from fruits_cli.report.page import similar_page

    file = folder / REPORT_DIR / "similar" / f"{picture.stem}.html"
    album = open_album(manifest, images, config, screen)
    write_text(file, similar_page(picture, found, by=by.value, run_id=run_id, album=album))
    if not webbrowser.open(file.as_uri()):
        screen.tell("There is no browser to open it in.")
    return Outcome([*lines, f"Page: {file}"], {**facts, "page": str(file)})


def run_model(
    manifest: Mapping[str, Any],
    record: RunRecord | None,
    weights: str | None,
    screen: Screen,
    environ: Mapping[str, str],
) -> ModelArtefact:
    """The model that computed the run, from the cache or made again of the same weights.

    Raises UsageError where these weights make another one.
    """
    fingerprint = str(manifest.get("model_fingerprint", ""))
    if artefact := cached_artefact(fingerprint, environ):
        return artefact
    told = (record.job.get("weights") if record else None) or manifest.get("weights", "")
    wanted = weights or str(told)
    job = JobConfig(weights=wanted, image_size=int(manifest["image_size"]))
    if manifest.get("precision") == "int8":
        folder = record.job.get("calibration") if record else None
        calibration = Path(str(folder)) if folder else None
        job = job.model_copy(update={"precision": Precision.INT8, "calibration": calibration})
    artefact, _ = obtain_model(job, screen, environ)
    if artefact.fingerprint != fingerprint:
        raise UsageError(
            f"{wanted} makes another model than the run's: {artefact.fingerprint[:12]} instead of "
            f"{fingerprint[:12]}.",
            hint="Give the run's own weights: --weights FILE",
        )
    return artefact
