from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from spark_job import __version__, copies, features, files, fitting, images, pca, probe, reuse
from spark_job.chunks import Plan
from spark_job.copies import Copied
from spark_job.features import ChunkResult, Picture
from spark_job.files import Found
from spark_job.reuse import Matched, Source

PLAN = Plan(
    images="in", name="in", kind="folder", pictures=3000, chunks=2, rows_per_chunk=2048,
    dataset="", fingerprint="f", weights="w", engine="openvino", precision="f32", image_size=96,
    extensions=["jpg"],
)  # fmt: skip
BROKEN = images.Refusal("truncated", "It ends too early.")


def picture(name: str, refusal: images.Refusal | None = None) -> Picture:
    return Picture(f"{name}.jpg", "kind", 7, name.encode(), refusal)


def result(good: str, broken: str = "") -> ChunkResult:
    """Rows of pictures whose content is their letter, and whose features its number."""
    made = ChunkResult()
    for name in good:
        made.add(picture(name))
    made.features = [np.full((1, 1280), ord(name), np.float32) for name in good]
    for name in broken:
        made.reject(picture(name), BROKEN)
    return made


def earlier_run(folder: Path, good: str, broken: str = "", **versions: str) -> list[Source]:
    """A finished run of one chunk, as a source."""
    made, output = result(good, broken), files.place(str(folder))
    features.write_chunk(output, 0, made.feature_table(), made, made.tally())
    counts = {"chunks": 1, "features": len(good), "rejected": len(broken)}
    told = {"fruits": __version__, **probe.versions(), **versions}
    manifest = {"reuse_key": "key", "run_id": folder.name, "counts": counts, "versions": told}
    output.write("manifest.json", json.dumps(manifest).encode())
    return reuse.find_sources([str(folder)], "key", files.place("/elsewhere"))


def copied(output: Path, sources: list[Source], wanted: str) -> Copied:
    """What a chunk with these pictures takes from the source."""
    digests = [hashlib.sha256(name.encode()).digest() for name in wanted]
    rows = reuse.rows_of(digests, reuse.WANTED, 0, range(len(wanted)))
    known = [part for _, part in reuse.known_rows(sources, 1, [(0, 0)])]
    hits: dict[int, list[reuse.Rows]] = {}
    for chunk, part in reuse.matches([*known, rows]):
        hits.setdefault(chunk, []).append(part)
    for one in hits.items():
        reuse.save_hits(str(output), one)
    listed = [Found(f"new/{number}.jpg", 9, 0) for number in range(len(wanted))]
    return copies.copied(PLAN, files.place("in"), files.place(str(output)), sources, 0, listed)


def test_rows_are_copied_under_their_new_names_in_the_order_of_the_pictures(
    tmp_path: Path,
) -> None:
    known = copied(tmp_path / "out", earlier_run(tmp_path / "run", "abc"), "cxa")
    computed = result("x").feature_table()
    computed = computed.set_column(0, "path", [["new/1.jpg"]])

    rows = copies.merged(computed, known).to_pylist()

    assert [row["path"] for row in rows] == [f"new/{number}.jpg" for number in range(3)]
    assert [row["features"][0] for row in rows] == [ord("c"), ord("x"), ord("a")]
    assert [row["label"] for row in rows] == ["new", "kind", "new"]
    assert known.lost == 0


def test_a_picture_rejected_for_its_bytes_is_rejected_again_and_remembered(
    tmp_path: Path,
) -> None:
    known = copied(tmp_path / "out", earlier_run(tmp_path / "run", "a", "bc"), "ab")
    again = ChunkResult()

    copies.reject_again(again, known)

    assert again.rejected == [("new/1.jpg", "new", 9, BROKEN.error, BROKEN.message)]
    assert list(again.refusals) == [hashlib.sha256(b"b").hexdigest()]
    assert (known.places, known.lost) == ((0,), 0)


def hits_in(files_of: dict[tuple[int, int], int]) -> reuse.Rows:
    """So many rows in each file, a source and a chunk of it."""
    parts = [
        reuse.rows_of([bytes(32)] * count, source, chunk, range(count))
        for (source, chunk), count in files_of.items()
    ]
    return np.concatenate(parts)


def test_all_rows_of_few_files_are_copied() -> None:
    hits = hits_in({(0, chunk): 1 for chunk in range(16)})

    assert len(copies.worth_copying(hits)) == 16


def test_of_many_files_only_those_are_read_that_hold_several_rows() -> None:
    hits = hits_in({(n % 2, n): 1 for n in range(40)} | {(1, 50): 16, (reuse.TWIN, 3): 1})

    kept = copies.worth_copying(hits)

    assert sorted({(int(row["source"]), int(row["chunk"])) for row in kept}) == [
        (reuse.TWIN, 3),
        (1, 50),
    ]
    assert len(kept) == 17


@pytest.mark.parametrize("judge", ["fruits", "pillow", "simplejpeg"])
def test_another_judge_looks_at_rejected_pictures_itself(tmp_path: Path, judge: str) -> None:
    sources = earlier_run(tmp_path / "run", "a", "b", **{judge: "another"})

    known = copied(tmp_path / "out", sources, "ab")

    assert known.refused == {}
    assert known.places == (0,)


def test_a_rejection_for_a_reason_of_the_moment_is_not_remembered() -> None:
    made = ChunkResult()
    made.reject(picture("a", images.Refusal("unreadable", "Input/output error")), BROKEN)
    try:
        raise BROKEN from MemoryError()
    except images.Refusal as refusal:
        made.reject(picture("b"), refusal)
    BROKEN.__cause__ = None

    assert len(made.rejected) == 2
    assert made.refusals == {}


@pytest.mark.parametrize("fault", ["gone", "cut", "swapped"])
def test_rows_of_a_file_that_is_not_whole_are_lost(tmp_path: Path, fault: str) -> None:
    sources = earlier_run(tmp_path / "run", "abc")
    file = tmp_path / "run" / "features" / "0000000.parquet"
    if fault == "gone":
        file.unlink()
    elif fault == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        other = result("abc")
        other.features.reverse()
        features.write_table(
            files.place(str(tmp_path / "run")), str(file.name), other.feature_table()
        )
        (tmp_path / "run" / file.name).rename(file)

    known = copied(tmp_path / "out", sources, "ab")

    assert known.places == ()
    # A file without its digests is not asked for, but counted.
    assert known.lost == (2 if fault == "swapped" else 0)
    parts = [part for _, part in reuse.known_rows(sources, 1, [(0, 0)])]
    unread = [reuse.save_hits("/nowhere", (key, [part])) for key, part in reuse.matches(parts)]
    assert [number for key, number in unread if key == reuse.UNREAD_KEY] == (
        [] if fault == "swapped" else [1]
    )


def test_a_file_in_the_place_of_another_is_no_part_of_sums(tmp_path: Path) -> None:
    (source,) = earlier_run(tmp_path / "run", "abc")
    other = files.place(str(tmp_path / "run"))
    features.write_table(other, "features/0000000.parquet", result("xyz").feature_table())
    kept = replace(source, sums="their digest")

    parts = [part for _, part in reuse.known_rows([kept], 1, [(0, 0)])]

    assert [int(row["source"]) for row in np.concatenate(parts)] == [reuse.UNREAD]


def test_a_run_without_its_markers_is_no_source(tmp_path: Path) -> None:
    assert len(earlier_run(tmp_path / "run", "abc")) == 1

    (tmp_path / "run" / "_chunks" / "0.json").unlink()

    assert reuse.find_sources([str(tmp_path / "run")], "key", files.place("/elsewhere")) == []


def test_what_the_sums_of_the_newest_run_do_not_count_is_kept_for_the_fit(tmp_path: Path) -> None:
    output = files.place(str(tmp_path / "out"))
    known = copied(tmp_path / "out", earlier_run(tmp_path / "run", "abc"), "aax")

    copies.write_added(output, 0, result("x"), known)

    assert copies.added_chunks(output) == [0]
    assert sorted(copies.load_added(output, 0)[:, 0]) == [ord("a"), ord("x")]


def test_what_is_gone_is_read_from_the_newest_run(tmp_path: Path) -> None:
    output, sources = files.place(str(tmp_path / "out")), earlier_run(tmp_path / "run", "abcc")
    copied(tmp_path / "out", sources, "ac")

    assert sorted(copies.load_gone(output, sources[0], 0)[:, 0]) == [ord("b"), ord("c")]


@pytest.mark.parametrize(
    ("known", "gone", "spares"),
    [(2999, 0, True), (3000, 1500, True), (3000, 1501, False), (1499, 0, False)],
)
def test_earlier_sums_are_taken_where_they_spare_half_of_the_rows(
    known: int, gone: int, spares: bool
) -> None:
    source = Source("run", "run", 2, known, sums="digest")

    base = fitting.base_of(PLAN, [source], Matched(gone={0: gone} if gone else {}))

    assert (base is not None) == spares
    assert fitting.base_of(PLAN, [Source("run", "run", 2, 3000)], Matched()) is None


def test_sums_that_are_missing_or_changed_are_not_taken(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    kept = fitting.Fitting(cast(Any, None), PLAN, str(run), 2).keep(pca.no_sums(1280))
    here = fitting.Fitting(cast(Any, None), PLAN, str(out), 2)
    base = fitting.Base(Source(str(run), "run", 2, 3000, sums=kept), ())

    assert here.changed_sums(base, 0) is not None
    assert here.changed_sums(base, 3000) is None
    file = run / "_plan" / "sums.npz"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert here.changed_sums(base, 0) is None
    file.unlink()
    assert here.changed_sums(base, 0) is None
