"""A folder that grows and changes: each run equals one from nothing, and computes what is new."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from spark_job import engines, model
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
def test_after_any_change_a_run_computes_only_what_is_new_and_equals_a_full_run(
    shelf: Shelf, artefact_folder: Path, tmp_path: Path
) -> None:
    assert shelf.run().counts["inferences"] == COUNT
    for act, inferences in CHANGES:
        act(shelf.folder)
        grown, nothing = shelf.run(), shelf.run(reuse=False)
        assert grown.counts["inferences"] == inferences, act.__name__
        assert grown.counts["lost"] == 0
        assert_same(grown, nothing)
    # Nothing fits another engine, another size or another decoder.
    n = grown.counts["features"]
    assert shelf.run("--engine", "tensorflow").counts["inferences"] == n - 1
    larger = model.artefact("random", side_px=128, cache=tmp_path / "models", offline=True)
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
    assert again.counts["lost"] > 0
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


def test_removed_pictures_are_counted_as_gone(shelf: Shelf) -> None:
    shelf.run()
    remove(shelf.folder)
    (shelf.folder / "top.png").write_bytes(saved_png())

    counts = shelf.run().counts

    assert (counts["reused"], counts["inferences"], counts["gone"]) == (COUNT - 1, 1, 1)


def saved_png() -> bytes:
    from tests.support.pictures import drawn

    return saved(drawn(900))
