"""A folder that grows and changes: each run equals one from nothing, and computes what is new."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spark_job import chunks, engines, features, files, model, pca, reuse
from spark_job.pictures import pictures_of
from tests.support.packing import pack_on_disk
from tests.support.pictures import draw_folder, jpeg, saved
from tests.support.results import Results
from tests.support.spark_settings import RunJob

pytestmark = [
    pytest.mark.spark,
    pytest.mark.xdist_group("spark"),
    pytest.mark.filterwarnings("ignore"),
]
COUNT = 24


@dataclass
class Shelf:
    """A folder of pictures, and the runs of it, one after the other."""

    folder: Path
    runs: Path
    run_job: RunJob
    made: int = 0

    def run(
        self, *more: str, reuse: bool = True, images: Path | None = None, **at: Path
    ) -> Results:
        self.made += 1
        output = (
            self.runs / f"2026112{self.made:02}-000000-aaaa"
            if reuse
            else self.runs.parent / f"n{self.made}"
        )
        words = ["--reuse-below", str(self.runs)] if reuse else []
        assert self.run_job(images or self.folder, output, *words, "--pca-k", "3", *more, **at) == 0
        return Results(output)


@pytest.fixture
def shelf(run_job: RunJob, tmp_path: Path) -> Shelf:
    draw_folder(tmp_path / "in", [f"kind {n % 3}/{n:02}.jpg" for n in range(COUNT)])
    return Shelf(tmp_path / "in", tmp_path / "runs", run_job)


def assert_same(one: Results, other: Results) -> None:
    assert one.rows("features") == other.rows("features")
    assert one.rows("rejected") == other.rows("rejected")
    assert one.paths("pca") == other.paths("pca")


def assert_as_from_nothing(run: Results, folder: Path, artefact: Path) -> None:
    """The run has the rows that each picture of the folder gives when it is computed now, and the
    components of those rows."""
    plan = chunks.load_plan(files.place(str(run.folder)))
    assert plan is not None
    source = files.place(str(folder))
    engine = engines.engine_of(
        engines.load_artefact(str(artefact)), engine=plan.engine, precision=plan.precision
    )
    found = list(source.walk(plan.extensions))
    computed = features.embed_chunk(
        pictures_of(plan, source, found, check=False),
        engine.embed,
        side_px=plan.image_size,
    )
    table = computed.feature_table()
    assert run.rows("features") == by_path(table.to_pylist())
    assert run.rows("rejected") == by_path(computed.rejected_table().to_pylist())
    assert_fitted(run, features.feature_array(table))


def by_path(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(row["path"]))


def assert_fitted(run: Results, rows: np.ndarray) -> None:
    fitted = pca.fit(pca.sums_of([rows], rows.shape[1]), k=3)
    with np.load(run.folder / "pca_model" / "pca.npz") as found:
        assert np.abs(found["mean"] - fitted.mean).max() < 1e-9
        assert np.abs(found["components"] - fitted.components).max() < 1e-6
        ratio = found["explained_variance_ratio"] - fitted.explained_variance_ratio
        assert np.abs(ratio).max() < 1e-9
    assert run.paths("pca") == run.paths("features")


def add(folder: Path) -> None:
    (folder / "kind 0" / "new.jpg").write_bytes(jpeg(500))


def change(folder: Path) -> None:
    (folder / "kind 1" / "01.jpg").write_bytes(jpeg(501))


def rename(folder: Path) -> None:
    (folder / "kind 2").rename(folder / "another kind")


def remove(folder: Path) -> None:
    (folder / "kind 0" / "00.jpg").unlink()


def double(folder: Path) -> None:
    for name in ("a.jpg", "z.jpg"):
        (folder / name).write_bytes(jpeg(502))


def spoil(folder: Path) -> None:
    (folder / "kind 0" / "03.jpg").write_bytes(b"no picture")


def mend(folder: Path) -> None:
    (folder / "kind 0" / "03.jpg").write_bytes(jpeg(3))


CHANGES: list[tuple[Callable[[Path], None], int]] = [
    (add, 1),
    (change, 1),
    (rename, 0),
    (remove, 0),
    (double, 1),
    (spoil, 0),
    # The picture is as it was when an earlier run computed it.
    (mend, 0),
]


@pytest.mark.slow
@pytest.mark.parametrize("on_driver", [0, reuse.ON_DRIVER])
def test_after_any_change_a_run_computes_only_what_is_new_and_equals_a_full_run(
    shelf: Shelf,
    artefact_folder: Path,
    model_cache: Path,
    on_driver: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reuse, "ON_DRIVER", on_driver)
    assert shelf.run().counts["inferences"] == COUNT
    for act, inferences in CHANGES:
        act(shelf.folder)
        grown = shelf.run()
        assert grown.counts["inferences"] == inferences, act.__name__
        assert grown.counts["lost"] == 0
        assert_as_from_nothing(grown, shelf.folder, artefact_folder)
    assert grown.json("manifest.json")["reused_from"]
    assert_same(grown, shelf.run(reuse=False))
    # Nothing fits another size or another decoder.
    larger = model.artefact("random", side_px=128, cache=model_cache, offline=True)
    n = grown.counts["features"]
    assert shelf.run(model=larger).counts["inferences"] == n - 1
    for file in shelf.runs.glob("*/manifest.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"reuse_key": "other pixels"}))
    assert shelf.run().counts["reused"] == 0


@pytest.mark.skipif(not engines.computes_bf16(), reason="this CPU does not compute bf16")
@pytest.mark.slow
def test_another_precision_is_computed_anew(shelf: Shelf) -> None:
    shelf.run()

    assert shelf.run("--precision", "bf16").counts["inferences"] == COUNT


@pytest.mark.slow
def test_a_packed_dataset_reuses_what_its_folder_computed(shelf: Shelf, tmp_path: Path) -> None:
    shelf.run()
    double(shelf.folder)
    pack_on_disk(shelf.folder, tmp_path / "data", extensions=("jpg",))

    packed = shelf.run(images=tmp_path / "data")

    assert packed.counts["inferences"] == 1
    assert packed.counts["twins"] == 2
    assert_same(packed, shelf.run(reuse=False, images=tmp_path / "data"))


@pytest.mark.slow
def test_a_features_file_that_is_gone_cut_or_swapped_is_computed_again(shelf: Shelf) -> None:
    (shelf.folder / "more").mkdir()
    for number in range(120):
        (shelf.folder / "more" / f"{number:03}.jpg").write_bytes(jpeg(1000 + number))
    first = shelf.run("--slots", "6")
    files = sorted((first.folder / "features").iterdir())
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:200])
    shutil.copy(files[3], files[2])

    again = shelf.run()

    # Of the rows that two files claim, either may be asked for.
    assert again.counts["reused"] >= sum(
        json.loads((first.folder / "_chunks" / f"{n}.json").read_bytes())["features"]
        for n in range(4, len(files))
    )
    assert (again.counts["unread"], again.counts["lost"] > 0) == (2, True)
    assert again.counts["inferences"] == first.counts["inferences"] - again.counts["reused"]
    assert_same(again, shelf.run(reuse=False))


@pytest.mark.slow
def test_a_run_that_is_not_finished_or_has_other_settings_is_no_source(
    shelf: Shelf, run_job: RunJob, tmp_path: Path
) -> None:
    first = shelf.run()
    (first.folder / "manifest.json").unlink()

    assert shelf.run().counts["reused"] == 0
    named = ["--reuse-run", str(first.folder)]
    assert run_job(shelf.folder, tmp_path / "named", *named) == 2
    assert "cannot be reused" in Results(tmp_path / "named").error["message"]


@pytest.mark.slow
def test_the_sums_of_an_earlier_run_and_what_changed_make_the_fit(shelf: Shelf) -> None:
    (shelf.folder / "many").mkdir()
    for number in range(pca.BLOCK_ROWS):
        (shelf.folder / "many" / f"{number}.jpg").write_bytes(jpeg(2000 + number, (24, 24)))
    double(shelf.folder)
    first = shelf.run()
    for act in (add, rename, remove):
        act(shelf.folder)
    (shelf.folder / "a.jpg").unlink()
    shutil.copy(shelf.folder / "kind 1" / "07.jpg", shelf.folder / "again.jpg")

    grown = shelf.run()

    used = [run.json("manifest.json")["sums_from"] for run in (first, grown)]
    assert used == [None, first.json("manifest.json")["run_id"]]
    assert (grown.counts["inferences"], grown.counts["gone"]) == (1, 2)
    assert_fitted(grown, grown.array("features", "features"))
    assert not (grown.folder / "_plan" / "reuse").exists()


def test_removed_pictures_are_counted_as_gone(shelf: Shelf) -> None:
    shelf.run()
    remove(shelf.folder)
    (shelf.folder / "top.png").write_bytes(saved_png())

    counts = shelf.run().counts

    assert (counts["reused"], counts["inferences"], counts["gone"]) == (COUNT - 1, 1, 1)


def saved_png() -> bytes:
    from tests.support.pictures import drawn

    return saved(drawn(900))
