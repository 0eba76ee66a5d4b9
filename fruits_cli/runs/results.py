"""Fetches a run's results from S3, and summarises them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from fruits_cli.cloud.protocols import Storage
from fruits_cli.cloud.transfer import Fetching, Speed, fetch_all
from fruits_cli.cluster.cost import Bill
from fruits_cli.errors import CloudError, FruitsError, UsageError
from fruits_cli.files import SCRATCH, replacing
from fruits_cli.job.results import (
    MANIFEST_FILE,
    PCA_DIR,
    REPORT_DIR,
    REPORT_FILE,
    parse_manifest,
    parts,
    read_columns,
)
from fruits_cli.ledger import RunRecord
from fruits_cli.s3uri import S3Uri, is_s3_uri
from fruits_cli.screen import Outcome, Progress

if TYPE_CHECKING:
    import pyarrow as pa


# What resume compares stays where the run is; with the markers of the chunks, a run on this
# machine copies the features.
_LEFT = ("_plan",)


def fetch_manifest(storage: Storage, run: S3Uri) -> dict[str, Any]:
    """manifest.json of a run on S3. Raises FruitsError where there is none to read."""
    found = storage.fetch_bytes(run / MANIFEST_FILE)
    if found is None:
        raise FruitsError(
            f"The run {run} has no results: it is running, failed, or does not exist.",
            hint="fruits status and fruits logs tell more.",
        )
    return parse_manifest(found.content, run / MANIFEST_FILE)


def require_same_pictures(
    record: RunRecord, manifest: Mapping[str, Any], pictures: int | None
) -> None:
    """Raise FruitsError where other pictures were computed than uploaded."""
    computed = manifest["counts"]["pictures"]
    dataset = manifest.get("dataset_digest") or record.dataset_digest
    if record.dataset_digest and dataset != record.dataset_digest:
        raise FruitsError(
            f"The results are those of another dataset ({dataset[:12]} instead of "
            f"{record.dataset_digest[:12]}).",
            hint="Run it again: fruits run --dataset NAME",
        )
    if pictures is not None and computed != pictures:
        raise FruitsError(f"{pictures} pictures were sent, and {computed} were computed.")


def fetch_run(storage: Storage, run: S3Uri, folder: Path) -> Iterator[Progress]:
    """Progress until everything but resume's plan is in `folder`, and pca.csv is made there.

    A file that is there with the right size stays. Raises UsageError where the folder holds
    something else than this run.
    """
    fetchings = _fetchings(storage, run, folder)
    # The manifest says "finished": it comes when all else has come.
    last = [fetching for fetching in fetchings if fetching.file.name == MANIFEST_FILE]
    others = [
        fetching for fetching in fetchings if fetching not in last and not _is_there(fetching)
    ]
    done, total, speed = 0, sum(fetching.size for fetching in others), Speed()
    for group in (others, last):
        with closing(fetch_all(storage, group)) as fetched:
            for fetching in fetched:
                done += fetching.size
                yield _progress(done, total, speed)
    write_pca_csv(folder)


def missing_files(storage: Storage, run: S3Uri, folder: Path) -> list[Fetching]:
    """What `fetch_run` would fetch. Raises UsageError as it does."""
    return [fetching for fetching in _fetchings(storage, run, folder) if not _is_there(fetching)]


def _fetchings(storage: Storage, run: S3Uri, folder: Path) -> list[Fetching]:
    found = []
    for stored in storage.list_objects(run):
        path = PurePosixPath(stored.uri.key.removeprefix(run.key))
        if path.is_absolute() or ".." in path.parts:
            raise CloudError(f"{stored.uri} would be written outside of {folder}.")
        # An empty key is the folder itself, as consoles make one.
        if path.parts and path.parts[0] not in _LEFT and not stored.uri.key.endswith("/"):
            found.append(Fetching(stored.uri, folder / path, stored.size, stored.modified_at))
    _refuse_foreign(folder, found)
    return found


def _refuse_foreign(folder: Path, fetchings: list[Fetching]) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.")
    ours = {fetching.file for fetching in fetchings} | {folder / PCA_CSV, folder / REPORT_FILE}
    foreign = [file for file in folder.rglob("*") if file.is_file() and file not in ours]
    foreign = [file for file in foreign if folder / REPORT_DIR not in file.parents]
    # What a fetch that was killed was writing.
    foreign = [file for file in foreign if not file.name.startswith(SCRATCH)]
    if foreign:
        raise UsageError(
            f"{folder} holds something else: {foreign[0].relative_to(folder)}.",
            hint="Give an --output-dir that is empty, or does not exist yet.",
        )


def _is_there(fetching: Fetching) -> bool:
    """Whether an earlier fetch brought this version."""
    try:
        found = fetching.file.stat()
    except OSError:
        return False
    return found.st_size == fetching.size and found.st_mtime >= fetching.modified_at.timestamp()


def _progress(done: int, total: int, speed: Speed) -> Progress:
    note = f"{done / 2**20:.1f} of {total / 2**20:.1f} MiB ({speed.of(done) / 2**20:.1f} MiB/s)"
    return Progress("fetching", 0, 0, 0.0, note)


PCA_CSV = "pca.csv"
_COLUMNS = ["path", "label", "pca_features"]
# A spreadsheet would run such a cell as a formula; with an apostrophe before it, it is text.
_FORMULA = "^([=+@\t\r-])"


_SUMMARY = (
    "engine",
    "precision",
    "image_size",
    "weights",
    "model_fingerprint",
    "dataset_digest",
    "counts",
    "seconds",
    "pca_k",
    "cumulative_variance",
)


def run_summary(
    manifest: Mapping[str, Any],
    *,
    record: RunRecord,
    output: Path,
    bill: Bill | None = None,
    waits: Mapping[str, float] | None = None,
    more: Sequence[str] = (),
) -> Outcome:
    """A run's summary, with the same keys here and on EMR; docs/output.md explains them.

    waits: seconds of a run on this machine that its stages do not count, by what took them.
    """
    places = f"{output} and {record.output}" if is_s3_uri(record.output) else str(output)
    lines = [*manifest_lines(manifest, waits), f"Results: {places}", *more]
    facts = {
        "schema": 1,
        "run_id": record.run_id,
        "target": record.target.value,
        "images": record.images,
        "output": str(output),
        "s3_output": record.output if is_s3_uri(record.output) else None,
        "cluster_id": record.cluster_id or None,
        "cost_usd": round(bill.usd, 4) if bill else None,
        "cluster_seconds": round(bill.seconds) if bill else None,
        "wall_seconds": round(_wall_s(manifest, waits), 3) if waits else None,
        **manifest_facts(manifest),
    }
    return Outcome(lines, facts)


def manifest_facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a run's manifest that all summaries repeat."""
    return {key: manifest.get(key) for key in _SUMMARY}


def manifest_lines(
    manifest: Mapping[str, Any], waits: Mapping[str, float] | None = None
) -> list[str]:
    """What the user wants to know of a finished run: pictures, components, time."""
    counts = manifest["counts"]
    lines = [_pictures_line(counts), *_reuse_lines(counts), _components_line(manifest)]
    return [*lines, *_price_lines(manifest), _time_line(manifest, waits or {})]


def _price_lines(manifest: Mapping[str, Any]) -> list[str]:
    """What int8 cost beside f32, measured when the model was made."""
    precision = manifest.get("precision")
    # The artefact's own words, by which version of fruits ever.
    with suppress(AttributeError, KeyError, TypeError, ValueError):
        price = (manifest.get("model") or {}).get("prices", {}).get(precision)
        return _told_price(str(precision), price) if price else []
    return []


def _told_price(precision: str, price: Mapping[str, Any]) -> list[str]:
    cosine = f"cosine {price['median_cosine']:.3f}, smallest {price['smallest_cosine']:.3f}"
    neighbour = f"same nearest neighbour {price['equal_neighbours']:.0%}"
    label = f"its label right {price['accuracy']:.1%}, in f32 {price['accuracy_f32']:.1%}"
    angle = f"subspaces {price['subspace_angle_deg']:.0f} degrees apart"
    variance = f"variance {price['variance_difference']:+.2%}"
    return [
        f"{precision} beside f32 on {price['pictures']} pictures: {cosine}; {neighbour}, {label}",
        f"  {price['components']} components: {angle}, {variance}",
    ]


def _pictures_line(counts: Mapping[str, Any]) -> str:
    line = f"Pictures: {counts['pictures']}, {counts['features']} with features"
    reasons = [f"{count} {why}" for why, count in counts["rejected_by_reason"].items()]
    return f"{line}, {counts['rejected']} rejected ({', '.join(reasons)})" if reasons else line


def _reuse_lines(counts: Mapping[str, Any]) -> Iterator[str]:
    reused, twins, lost = (counts.get(key, 0) for key in ("reused", "twins", "lost"))
    if reused or twins:
        parts = [f"{reused} copied from earlier runs", f"{counts.get('inferences', 0)} computed"]
        parts += [f"{twins} doubles of them"] if twins else []
        parts += [f"{counts['gone']} of the last run are gone"] if counts.get("gone") else []
        yield f"Reused: {', '.join(parts)}"
    if lost:
        yield f"{lost} were computed again: a file of an earlier run is gone or was changed."
    if unread := counts.get("unread", 0):
        yield f"{unread} features files of earlier runs are broken: what they held was not copied."


def _components_line(manifest: Mapping[str, Any]) -> str:
    if manifest["pca_k"] is None:
        few = manifest["counts"]["features"] < 2
        return f"No PCA: {'it needs two pictures' if few else 'too many pictures were rejected'}."
    share = f"{manifest['cumulative_variance']:.1%} of the variance"
    settings = manifest["settings"]
    unasked = settings.get("pca_k") is None and settings.get("pca_variance") is None
    default = " (pca_k unset: min(50, pictures - 1))" if unasked else ""
    return f"Components: {manifest['pca_k']}, {share}{default}"


def _time_line(manifest: Mapping[str, Any], waits: Mapping[str, float]) -> str:
    counts, seconds = manifest["counts"], manifest["seconds"]
    # So that the parts add up to the time that the user waited.
    times = ", ".join(f"{what} {spent:.1f} s" for what, spent in {**waits, **seconds}.items())
    if seconds.get("features", 0) > 0 and counts.get("inferences") and not counts.get("reused"):
        times += f" ({counts['inferences'] / seconds['features']:.0f} images/s)"
    return f"Time: {_wall_s(manifest, waits):.1f} s: {times}" if waits else f"Time: {times}"


def _wall_s(manifest: Mapping[str, Any], waits: Mapping[str, float]) -> float:
    return float(sum(waits.values()) + sum(manifest["seconds"].values()))


def write_pca_csv(run_folder: Path) -> Path | None:
    """pca.csv with path, label and pc_1 to pc_k, from pca/*.parquet file by file, batch by batch.

    Quoted as RFC 4180 says; numbers are the shortest that read back as the same float32.
    None where the run has no components. Raises UsageError naming a broken file.
    """
    import pyarrow.csv as pacsv

    batches = _batches(parts(run_folder / PCA_DIR))
    first = next(batches, None)
    if first is None:
        return None
    target = run_folder / PCA_CSV
    with replacing(target) as scratch, scratch.open("xb") as stream:
        stream.write(",".join(first.schema.names).encode() + b"\n")
        options = pacsv.WriteOptions(include_header=False)
        with pacsv.CSVWriter(stream, first.schema, write_options=options) as writer:
            writer.write_batch(first)
            for batch in batches:
                writer.write_batch(batch)
    return target


def _batches(files: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    """The rows of all files, a column for each component; the first batch decides how many."""
    schema = None
    for file in files:
        for columns in read_columns([file], _COLUMNS, as_arrow=True):
            batch = _cells(*columns.values())
            if schema is not None and batch.schema != schema:
                raise UsageError(f"{file} has other components than {files[0]}.")
            schema = batch.schema
            yield batch


def _cells(paths: pa.Array, labels: pa.Array, components: Any) -> pa.RecordBatch:
    import numpy as np
    import pyarrow as pa

    # pyarrow's own `array` imports pandas, half a second.
    columns = (
        pa.Array.from_buffers(pa.float32(), len(paths), [None, pa.py_buffer(column)])
        for column in np.ascontiguousarray(components.T)
    )
    names = ["path", "label", *(f"pc_{number + 1}" for number in range(components.shape[1]))]
    return pa.record_batch([_as_text(paths), _as_text(labels), *columns], names)


def _as_text(column: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    return pc.replace_substring_regex(column, _FORMULA, r"'\1")
