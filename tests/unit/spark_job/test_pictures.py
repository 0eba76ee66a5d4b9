from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from spark_job import faults, files, pictures
from spark_job.errors import JobError
from spark_job.files import Found
from tests.support.datasets import plan_for, row, write_packed
from tests.support.descriptors import no_more_files
from tests.support.pictures import jpeg


@pytest.mark.parametrize(
    ("word", "error"), [("", "unreadable"), ("too_large", "too_large"), ("name", "name")]
)
def test_a_dataset_row_without_content_has_the_reason_of_the_packing(
    tmp_path: Path, word: str, error: str
) -> None:
    found = write_packed(tmp_path / "data", [("a/1.jpg", "a", word, 7, None)])
    source = files.place(str(tmp_path / "data"))

    (picture,) = pictures.pictures_of(
        plan_for(tmp_path / "data", "dataset"), source, found, check=False
    )

    assert (picture.path, picture.label, picture.length) == ("a/1.jpg", "a", 7)
    assert picture.refusal is not None
    assert picture.refusal.error == error


def test_a_row_group_that_is_too_large_for_one_read_gives_the_same_pictures(tmp_path: Path) -> None:
    contents = [bytes([number]) * size for number, size in enumerate((1000, 9 << 20, 7, 20 << 20))]
    rows = [row(f"a/{number}.jpg", "a", content) for number, content in enumerate(contents)]
    found = write_packed(tmp_path / "data", rows)

    read = pictures.pictures_of(
        plan_for(tmp_path / "data", "dataset"),
        files.place(str(tmp_path / "data")),
        found,
        check=False,
        wanted={0, 1, 3},
    )

    assert [(picture.path, picture.content) for picture in read] == [
        (f"a/{number}.jpg", contents[number]) for number in (0, 1, 3)
    ]


def gone(shard: Path) -> None:
    shard.unlink()


def cut(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-20])


def damaged(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[4:200] = b"\xff" * 196
    shard.write_bytes(content)


def other_columns(shard: Path) -> None:
    pq.write_table(pq.read_table(shard).drop_columns(["content"]), shard)


@pytest.mark.parametrize("broken", [gone, cut, damaged, other_columns])
def test_a_broken_shard_is_named(tmp_path: Path, broken: object) -> None:
    found = write_packed(tmp_path / "data", [row(f"a/{n}.jpg", "a", jpeg(n)) for n in range(3)])
    shard = next((tmp_path / "data").glob("*.parquet"))
    broken(shard)  # type: ignore[operator]
    plan = plan_for(tmp_path / "data", "dataset")

    with pytest.raises(JobError, match=rf"The shard .*{shard.name} cannot be read: ") as error:
        list(pictures.pictures_of(plan, files.place(plan.images), found, check=False))

    assert error.value.exit_code == 1


def test_a_shard_with_fewer_row_groups_than_promised_is_named(tmp_path: Path) -> None:
    (found,) = write_packed(tmp_path / "data", [row("a/1.jpg", "a", jpeg())])
    wrong = replace(found, path=found.path.replace("#0+1", "#0+300"), size=300)
    plan = plan_for(tmp_path / "data", "dataset")

    with pytest.raises(JobError, match="cannot be read"):
        list(pictures.pictures_of(plan, files.place(plan.images), [wrong], check=False))


def test_a_machine_without_a_free_descriptor_rejects_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    place = files.place(str(tmp_path))
    rows = list(place.walk(["jpg"]))

    with no_more_files(), pytest.raises(JobError, match=r"a\.jpg could not be read: Too many"):
        list(pictures.pictures_of(plan_for(tmp_path), place, rows, check=False))

    (picture,) = pictures.pictures_of(plan_for(tmp_path), place, rows, check=False)
    assert picture.refusal is None


@pytest.mark.parametrize("number", ["EIO", "ESTALE", "EMFILE", "ENFILE", "EINTR", "ENOMEM"])
def test_what_the_machine_fails_of_ends_the_task(number: str) -> None:
    code = getattr(errno, number)

    with pytest.raises(JobError, match=r"a\.jpg could not be read"):
        faults.require_own_fault("a.jpg", OSError(code, os.strerror(code)), is_local=True)


@pytest.mark.parametrize("number", ["ENOENT", "EACCES", "EISDIR", "ELOOP", "ENAMETOOLONG", ""])
def test_what_a_name_or_file_fails_of_is_its_own_fault(number: str) -> None:
    error = OSError(getattr(errno, number), "") if number else OSError("It is a link to nothing.")

    faults.require_own_fault("a.jpg", error, is_local=True)


def test_reading_ahead_keeps_the_order_and_looks_no_further_than_its_readers() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    seen = []
    for number in pictures.read_ahead(lambda n: n * 2, numbers(), readers=3):
        seen.append(number)
        assert len(taken) <= len(seen) + 3

    assert seen == [n * 2 for n in range(100)]


def test_reading_ahead_tells_of_an_error_in_its_place() -> None:
    def read(number: int) -> int:
        if number == 2:
            raise OSError("two")
        return number

    reading = pictures.read_ahead(read, range(9), readers=4)

    assert [next(reading), next(reading)] == [0, 1]
    with pytest.raises(OSError, match="two"):
        next(reading)


def test_reading_ahead_ends_its_threads() -> None:
    before = threading.active_count()
    reading = pictures.read_ahead(lambda n: n, range(9), readers=4)
    next(reading)

    reading.close()  # type: ignore[attr-defined]

    assert threading.active_count() == before


def test_reads_are_grouped_by_number_and_by_bytes() -> None:
    small = [Found(str(n), 10, 0) for n in range(70)]
    large = [Found(str(n), 20 * 2**20, 0) for n in range(3)]

    def size_of(row: Found) -> int:
        return row.size

    assert [len(group) for group in pictures._groups(small, 32, size_of)] == [32, 32, 6]
    assert [len(group) for group in pictures._groups(large, 32, size_of)] == [1, 1, 1]
    assert list(pictures._groups([], 32, size_of)) == []


def test_parts_of_a_row_group_are_its_rows_in_order(tmp_path: Path) -> None:
    rows = [row(f"a/{n:03}.jpg", "a", jpeg(n % 9)) for n in range(600)]
    (found,) = write_packed(tmp_path / "data", rows)
    shard = found.path.partition("#")[0]
    parts = [Found(f"{shard}#{first}+{min(70, 600 - first)}", 70, 0) for first in range(0, 600, 70)]
    source = files.place(str(tmp_path / "data"))

    found_pictures = pictures.pictures_of(
        plan_for(tmp_path / "data", "dataset"), source, parts, check=False
    )

    assert [picture.path for picture in found_pictures] == [path for path, *_ in rows]


def test_reading_ahead_is_bounded_by_bytes() -> None:
    begun: list[int] = []

    def read(item: int) -> int:
        begun.append(item)
        return item

    sizes = [20 * 2**20, 10 * 2**20, 100 * 2**20, 1, 1]
    reading = pictures.read_ahead(read, range(5), readers=16, size=lambda item: sizes[item])

    seen = [(item, max(begun)) for item in reading]

    # The third is begun when it is the next to be used, and not before.
    assert [item for item, _ in seen] == list(range(5))
    assert all(latest <= 1 for _, latest in seen[:2])
