from __future__ import annotations

import hashlib
import heapq
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from spark_job import chunks, files, schema
from spark_job.chunks import Listing, Plan, Tally
from spark_job.errors import JobError
from spark_job.files import Place
from tests.support.datasets import EXTENSIONS, write_dataset

PLAN = Plan(
    images="/pictures",
    kind="folder",
    name="pictures",
    pictures=3,
    chunks=1,
    rows_per_chunk=32,
    dataset="",
    fingerprint="abc",
    weights="random",
    engine="openvino",
    precision="f32",
    image_size=96,
    extensions=["jpg"],
)


@pytest.fixture
def output(tmp_path: Path) -> Place:
    return files.place(str(tmp_path / "run"))


def touched(folder: Path, count: int) -> Place:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.jpg").touch()
    return files.place(str(folder))


def listed(images: Place, output: Place, *, slots: int = 2) -> Listing:
    return chunks.list_inputs(images, output, extensions=EXTENSIONS, slots=slots)


def refused(images: Place, output: Place) -> JobError:
    with pytest.raises(JobError) as error:
        listed(images, output)
    return error.value


@pytest.mark.parametrize("slots", [1, 2, 64])
@pytest.mark.parametrize("count", [1, 31, 32, 33, 513, 1300])
def test_chunks_of_a_folder_hold_each_picture_once(
    tmp_path: Path, output: Place, count: int, slots: int
) -> None:
    listing = listed(touched(tmp_path / "in", count), output, slots=slots)
    inputs = chunks.Inputs(output, listing.rows_per_chunk)

    parts = [inputs.of(chunk) for chunk in range(listing.chunks)]

    assert (listing.kind, listing.pictures) == ("folder", count)
    assert sorted(row.path for part in parts for row in part) == sorted(
        f"{number}.jpg" for number in range(count)
    )
    assert all(0 < len(part) <= schema.CHUNK_PICTURES for part in parts)


def test_chunks_grow_with_the_folder_and_shrink_with_the_slots(
    tmp_path: Path, output: Place
) -> None:
    images = touched(tmp_path / "in", 2000)

    sizes = [listed(images, output, slots=slots).rows_per_chunk for slots in (1, 2, 4, 100)]

    assert sizes == [126, 64, 50, 20]


def test_a_listing_longer_than_a_row_group_keeps_its_chunks_apart(output: Place) -> None:
    count = 20_000
    rows = ((f"{n}.jpg", n, n, n // 512) for n in range(count))
    chunks._write_inputs(rows, output)
    inputs = chunks.Inputs(output, 512)

    seen = [row.size for chunk in range(-(-count // 512)) for row in inputs.of(chunk)]

    assert seen == list(range(count))
    assert [row.size for row in inputs.of(0)] == list(range(512))


def test_the_listing_is_stored_with_the_documented_columns(tmp_path: Path, output: Place) -> None:
    listing = listed(touched(tmp_path / "in", 70), output)

    table = pq.read_table(output.at(schema.INPUTS_FILE))

    assert table.schema == schema.INPUTS
    numbers = table.column("chunk").to_pylist()
    assert numbers == [place // listing.rows_per_chunk for place in range(70)]


def test_an_empty_folder_has_no_pictures_and_no_chunks(tmp_path: Path, output: Place) -> None:
    listing = listed(touched(tmp_path / "in", 0), output)

    assert (listing.pictures, listing.chunks) == (0, 0)


@pytest.mark.parametrize("slots", [1, 2, 12, 120])
@pytest.mark.parametrize("pictures", [[1], [256], [257], [360], [2048, 3], [5, 5, 5], [2048] * 4])
def test_chunks_of_a_dataset_hold_each_row_once(
    tmp_path: Path, output: Place, pictures: list[int], slots: int
) -> None:
    names = write_dataset(tmp_path / "in", pictures)

    listing = listed(files.place(str(tmp_path / "in")), output, slots=slots)

    inputs = chunks.Inputs(output, listing.rows_per_chunk)
    seen: dict[str, list[int]] = {}
    for chunk in range(listing.chunks):
        (row,) = inputs.of(chunk)
        shard, _, numbers = row.path.partition("#")
        first, count = map(int, numbers.split("+"))
        assert row.size == count <= schema.CHUNK_PICTURES
        seen.setdefault(shard, []).extend(range(first, first + count))
    assert seen == {name: list(range(n)) for name, n in zip(names, pictures, strict=True)}
    assert (listing.kind, listing.pictures) == ("dataset", sum(pictures))
    content = (tmp_path / "in" / "dataset.json").read_bytes()
    assert listing.dataset == hashlib.sha256(content).hexdigest()


def test_a_dataset_is_the_one_of_the_digest_whatever_its_name_says_by_now(
    tmp_path: Path, output: Place
) -> None:
    folder = tmp_path / "in"
    write_dataset(folder, [12])
    content = (folder / "dataset.json").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    (folder / "manifests").mkdir()
    (folder / "manifests" / f"{digest}.json").write_bytes(content)
    write_dataset(folder, [27])

    listing = chunks.list_inputs(
        files.place(str(folder)), output, extensions=EXTENSIONS, slots=2, digest=digest
    )

    assert (listing.pictures, listing.dataset) == (12, digest)


def test_a_manifest_whose_content_is_another_is_refused(tmp_path: Path, output: Place) -> None:
    folder = tmp_path / "in"
    write_dataset(folder, [27])
    (folder / "manifests").mkdir()
    wrong = folder / "manifests" / f"{'0' * 64}.json"
    wrong.write_bytes((folder / "dataset.json").read_bytes())

    with pytest.raises(JobError, match="another digest than its name") as error:
        chunks.list_inputs(
            files.place(str(folder)), output, extensions=EXTENSIONS, slots=2, digest="0" * 64
        )

    assert error.value.exit_code == 2


def rounds_of(pictures: int, slots: int) -> float:
    """Pictures that the busiest of `slots` computes, each taking the next share when it is free."""
    size = chunks.chunk_size(pictures, slots)
    sizes = [min(size, pictures - start) for start in range(0, pictures, size)]
    busy = [0] * slots
    for share in chunks.shares(range(len(sizes)), slots):
        heapq.heapreplace(busy, busy[0] + sum(sizes[chunk] for chunk in share))
    return max(busy)


@pytest.mark.parametrize("slots", [2, 12, 48, 120])
@pytest.mark.parametrize("pictures", [1572, 6404, 22_688, 1_000_000])
def test_all_slots_finish_at_nearly_the_same_time(pictures: int, slots: int) -> None:
    assert pictures / slots / rounds_of(pictures, slots) > 0.9


@pytest.mark.parametrize("slots", [2, 12, 48])
def test_a_few_hundred_pictures_use_every_slot(slots: int) -> None:
    size = chunks.chunk_size(360, slots)

    assert -(-360 // size) >= slots * 0.9


def test_ten_million_pictures_make_a_few_thousand_files() -> None:
    assert 10_000_000 / chunks.chunk_size(10_000_000, 400) < 8000


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path, output: Place) -> None:
    (tmp_path / "in").touch()

    error = refused(files.place(str(tmp_path / "in")), output)

    assert error.exit_code == 2
    assert error.message == f"The images {tmp_path}/in cannot be read: this is not a folder."


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path, output: Place) -> None:
    error = refused(files.place(str(tmp_path / "in")), output)

    assert error.exit_code == 2
    assert error.message == f"The images {tmp_path}/in cannot be read: this does not exist."


SHARD = {"name": f"{'a' * 64}.parquet", "pictures": 1, "bytes": 1, "sha256": "b" * 64}
GOOD: dict[str, Any] = {"format": "fruits-dataset", "version": 1, "pictures": 1, "shards": [SHARD]}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        "{}",
        json.dumps({**GOOD, "format": "other"}),
        json.dumps({**GOOD, "version": 2}),
        json.dumps({**GOOD, "shards": None}),
        json.dumps({**GOOD, "shards": [7]}),
        json.dumps({**GOOD, "shards": [{"name": SHARD["name"]}]}),
        json.dumps({**GOOD, "shards": [{**SHARD, "name": "../../etc/passwd"}]}),
        json.dumps({**GOOD, "shards": [{**SHARD, "name": f"../{SHARD['name']}"}]}),
        json.dumps({**GOOD, "shards": [{**SHARD, "pictures": 0}]}),
        json.dumps({**GOOD, "shards": [{**SHARD, "pictures": "many"}]}),
        json.dumps({**GOOD, "shards": [{**SHARD, "pictures": 1e400}]}),
        json.dumps({**GOOD, "shards": [{**SHARD, "pictures": 10**30}]}),
        json.dumps({**GOOD, "pictures": 2}),
        "[" * 100_000,
    ],
    ids=range(19),
)
def test_a_broken_dataset_json_is_one_sentence(tmp_path: Path, output: Place, content: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "dataset.json").write_text(content)

    error = refused(files.place(str(tmp_path / "in")), output)

    assert error.exit_code == 2
    assert error.message.startswith(f"{tmp_path}/in/dataset.json cannot be read: ")
    assert "\n" not in error.message
    assert error.hint == "Pack the pictures again."


def test_a_dataset_json_that_is_not_utf8_or_a_folder_is_refused(
    tmp_path: Path, output: Place
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "dataset.json").write_bytes(b"\xff\xfe{")
    (tmp_path / "other" / "dataset.json").mkdir(parents=True)

    for name in ("in", "other"):
        assert refused(files.place(str(tmp_path / name)), output).exit_code == 2


def test_the_plan_comes_back_as_it_was_written(output: Place) -> None:
    assert chunks.load_plan(output) is None

    output.write(schema.JOB_FILE, PLAN.as_json())

    assert chunks.load_plan(output) == PLAN


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b'{"images": 1, "more": 2}', b"\xff"])
def test_a_broken_plan_is_exit_2(output: Place, content: bytes) -> None:
    output.write(schema.JOB_FILE, content)

    with pytest.raises(JobError, match=r"job\.json cannot be read") as error:
        chunks.load_plan(output)

    assert error.value.exit_code == 2


def test_only_whole_markers_count_as_finished_chunks(output: Place) -> None:
    for name in ("0.json", "12.json", "3.json", f"{files.SCRATCH}4.json.abc", "x.json", "5.json~"):
        output.write(f"{schema.CHUNKS_DIR}/{name}", b"{}")

    assert chunks.finished_chunks(output) == [0, 3, 12]


def test_a_marker_gives_its_tally_back(output: Place) -> None:
    tally = Tally(5, 3, {"empty": 1, "name": 1})

    output.write(chunks.marker_file(7), chunks.marker(7, tally, {"f": {"bytes": 1, "sha256": "x"}}))

    assert chunks.load_tally(output, 7) == tally


def test_tallies_add_up_by_reason() -> None:
    one, two = Tally(5, 3, {"empty": 2}), Tally(4, 2, {"empty": 1, "changed": 1})

    assert one + two == two + one == Tally(9, 5, {"changed": 1, "empty": 3})
    assert one + chunks.NOTHING == one


def test_a_chunk_has_one_name_for_each_of_its_files() -> None:
    names = {chunks.features_file(n) for n in range(1200)}

    assert len(names) == 1200
    assert chunks.features_file(7) == "features/0000007.parquet"
    assert chunks.rejected_file(7) == "rejected/0000007.parquet"


@pytest.mark.parametrize("slots", [1, 2, 64])
@pytest.mark.parametrize("count", [0, 1, 2, 24, 1_000])
def test_tasks_share_all_chunks_and_get_smaller_towards_the_end(count: int, slots: int) -> None:
    todo = list(range(7, 7 + count))

    shares = list(chunks.shares(todo, slots))

    assert [chunk for share in shares for chunk in share] == todo
    sizes = [len(share) for share in shares]
    assert sizes == sorted(sizes, reverse=True)
    assert all(1 <= size <= 32 for size in sizes)
    assert not sizes or sizes[-1] == 1
