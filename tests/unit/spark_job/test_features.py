from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from spark_job import chunks, features, files, images, schema
from spark_job.chunks import Tally
from spark_job.errors import JobError
from spark_job.features import ChunkResult
from spark_job.files import Found, Place
from spark_job.listing import MAX_PICTURE_BYTES
from spark_job.pictures import Picture, pictures_of
from tests.support.datasets import EXTENSIONS, SIDE, plan_for, row, write_packed
from tests.support.pictures import draw_folder, jpeg, png_chunk, png_header


def brightness(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """A stand-in for the model: the picture's mean in every column."""
    assert pixels.shape[1:] == (SIDE, SIDE, 3)
    assert pixels.dtype == np.uint8
    means = pixels.mean(axis=(1, 2, 3), dtype=np.float32)
    return np.repeat(means[:, None], schema.FEATURES, axis=1)


def listed(folder: Path) -> list[Found]:
    return sorted(files.place(str(folder)).walk(EXTENSIONS), key=lambda file: file.path)


def embedded(folder: Path, rows: list[Found], *, check: bool = False) -> ChunkResult:
    source = files.place(str(folder))
    pictures = pictures_of(plan_for(folder), source, rows, check=check)
    return features.embed_chunk(pictures, brightness, side_px=SIDE)


def rejected(result: ChunkResult) -> dict[str, str]:
    return {row[0]: row[3] for row in result.rejected}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw_folder(tmp_path / "fruit", ["apple/1.jpg", "apple/2.jpg", "deep/pear/3.jpg", "4.jpg"])
    return tmp_path / "fruit"


def written(output: Place, chunk: int, result: ChunkResult) -> Tally:
    tally = result.tally()
    features.write_chunk(output, chunk, result.feature_table(), result, tally)
    return tally


def test_pictures_in_are_features_and_rejected(folder: Path) -> None:
    contents = {
        "empty.jpg": b"",
        "text.jpg": b"Once upon a time",
        "cut.jpg": jpeg()[:500],
        "large.png": png_header(20_000, 20_000) + png_chunk(b"IDAT", b""),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    rows = listed(folder)

    result = embedded(folder, rows)

    assert sorted([*result.paths, *rejected(result)]) == [row.path for row in rows]
    assert rejected(result) == {
        "empty.jpg": schema.EMPTY,
        "text.jpg": schema.NOT_A_PICTURE,
        "cut.jpg": schema.TRUNCATED,
        "large.png": schema.TOO_LARGE,
    }
    tally = result.tally()
    assert (tally.pictures, tally.features, sum(tally.rejected.values())) == (8, 4, 4)


def test_a_row_holds_path_label_digest_and_its_own_features(folder: Path) -> None:
    table = embedded(folder, listed(folder)).feature_table()

    assert table.schema == schema.FEATURE_ROWS
    rows = {row["path"]: row for row in table.to_pylist()}
    labels = {path: row["label"] for path, row in rows.items()}
    assert labels == {
        "4.jpg": "fruit",
        "apple/1.jpg": "apple",
        "apple/2.jpg": "apple",
        "deep/pear/3.jpg": "pear",
    }
    for path, seen in rows.items():
        content = (folder / path).read_bytes()
        mean = images.decoded(content, SIDE).mean(dtype=np.float32)
        assert seen["sha256"] == hashlib.sha256(content).hexdigest()
        assert seen["features"] == [mean] * 1280


def test_the_same_bytes_under_two_names_are_two_rows(folder: Path) -> None:
    (folder / "twin.jpg").write_bytes((folder / "4.jpg").read_bytes())

    rows = embedded(folder, listed(folder)).feature_table().to_pylist()

    twins = [row for row in rows if row["path"] in ("4.jpg", "twin.jpg")]
    assert len(twins) == 2
    assert twins[0]["sha256"] == twins[1]["sha256"]
    assert twins[0]["features"] == twins[1]["features"]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 9])
def test_batches_of_any_length_keep_rows_and_pictures_together(tmp_path: Path, count: int) -> None:
    draw_folder(tmp_path / "in", [f"{n}.jpg" for n in range(count)])
    (tmp_path / "in").mkdir(exist_ok=True)

    table = embedded(tmp_path / "in", listed(tmp_path / "in")).feature_table()

    assert table.num_rows == count
    for seen in table.to_pylist():
        content = (tmp_path / "in" / seen["path"]).read_bytes()
        assert seen["features"][0] == images.decoded(content, SIDE).mean(dtype=np.float32)


def test_what_changed_or_went_since_the_listing_is_rejected_as_changed(folder: Path) -> None:
    rows = listed(folder)
    (folder / "4.jpg").write_bytes(jpeg(99))
    (folder / "apple" / "1.jpg").unlink()
    later = (folder / "apple" / "2.jpg").stat().st_mtime_ns + 1
    os.utime(folder / "apple" / "2.jpg", ns=(later, later))

    result = embedded(folder, rows)

    assert rejected(result) == dict.fromkeys(("4.jpg", "apple/1.jpg", "apple/2.jpg"), "changed")
    assert result.paths == ["deep/pear/3.jpg"]


def test_a_folder_in_the_place_of_a_picture_is_unreadable_or_changed(folder: Path) -> None:
    rows = listed(folder)
    (folder / "4.jpg").unlink()
    (folder / "4.jpg").mkdir()

    assert rejected(embedded(folder, rows)) == {"4.jpg": schema.UNREADABLE}


def test_a_pipe_in_the_place_of_a_picture_blocks_nobody(folder: Path) -> None:
    rows = listed(folder)
    (folder / "4.jpg").unlink()
    os.mkfifo(folder / "4.jpg")

    assert rejected(embedded(folder, rows)) == {"4.jpg": schema.UNREADABLE}


def test_links_that_lead_nowhere_are_rejected_with_their_reason(folder: Path) -> None:
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "broken.jpg").symlink_to("nothing")

    result = embedded(folder, listed(folder))

    assert rejected(result) == dict.fromkeys(("loop.jpg", "broken.jpg"), schema.UNREADABLE)


def test_two_files_written_alike_are_rejected_for_their_name(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in (b"caf\xe9.jpg", rb"caf\xe9.jpg"):
        with open(os.path.join(os.fsencode(tmp_path / "in"), name), "wb") as stream:
            stream.write(jpeg())

    result = embedded(tmp_path / "in", listed(tmp_path / "in"))

    assert [row[3] for row in result.rejected] == [schema.NAME] * 2


def test_a_file_beyond_the_limit_of_bytes_is_never_read(folder: Path) -> None:
    with (folder / "vast.jpg").open("wb") as stream:
        stream.truncate(MAX_PICTURE_BYTES + 1)

    assert rejected(embedded(folder, listed(folder))) == {"vast.jpg": schema.TOO_LARGE}


def test_a_source_that_is_gone_ends_the_job(folder: Path) -> None:
    rows = listed(folder)
    folder.rename(folder.with_name("moved"))

    with pytest.raises(JobError, match="is gone") as error:
        embedded(folder, rows)

    assert error.value.exit_code == 1
    assert "--resume" in error.value.hint


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_without_permission_a_picture_is_unreadable(folder: Path) -> None:
    (folder / "4.jpg").chmod(0)
    for parent in (folder, *folder.parents):
        if parent not in (Path("/"), Path("/tmp")):
            parent.chmod(parent.stat().st_mode | 0o055)
    rows = listed(folder)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            told = repr(embedded(folder, rows).rejected)
        except BaseException as error:
            told = repr(error)
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        told = stream.read()
    os.waitpid(child, 0)

    size = (folder / "4.jpg").stat().st_size
    assert told == repr([("4.jpg", "fruit", size, schema.UNREADABLE, "Permission denied")])


def test_a_dataset_gives_the_same_rows_as_its_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "empty.jpg").write_bytes(b"")
    rows = listed(folder)
    in_folder = embedded(folder, rows)
    labels = dict(zip(in_folder.paths, in_folder.labels, strict=True))
    content = [
        row(file.path, labels.get(file.path, "fruit"), (folder / file.path).read_bytes())
        for file in rows
    ]
    found = write_packed(tmp_path / "data", content)

    pictures = pictures_of(
        plan_for(tmp_path / "data", "dataset"),
        files.place(str(tmp_path / "data")),
        found,
        check=False,
    )
    in_dataset = features.embed_chunk(pictures, brightness, side_px=SIDE)

    assert in_dataset.feature_table().equals(in_folder.feature_table())
    assert in_dataset.rejected_table().equals(in_folder.rejected_table())


def run_place(tmp_path: Path) -> Place:
    return files.place(str(tmp_path / "run"))


def test_a_chunk_is_written_with_its_marker_last(folder: Path, tmp_path: Path) -> None:
    (folder / "empty.jpg").write_bytes(b"")
    output, result = run_place(tmp_path), embedded(folder, listed(folder))

    tally = written(output, 3, result)

    assert tally == chunks.load_tally(output, 3) == result.tally()
    marker = json.loads(output.read(chunks.marker_file(3)))
    assert set(marker["files"]) == {chunks.features_file(3), chunks.rejected_file(3)}
    for name, facts in marker["files"].items():
        content = output.read(name)
        assert facts["bytes"] == len(content)
        assert facts["sha256"] == hashlib.sha256(content).hexdigest()
    digests = "".join(row["sha256"] for row in result.feature_table().to_pylist())
    told = marker["files"][chunks.features_file(3)]["rows"]
    assert told == hashlib.sha256(digests.encode()).hexdigest()
    assert pq.read_schema(output.at(chunks.features_file(3))) == schema.FEATURE_ROWS
    assert pq.read_schema(output.at(chunks.rejected_file(3))) == schema.REJECTED_ROWS


def test_rejected_rows_that_an_interrupted_attempt_left_do_not_stay(
    folder: Path, tmp_path: Path
) -> None:
    output, rows = run_place(tmp_path), listed(folder)
    first = embedded(folder, rows)
    first.reject(Picture("4.jpg", "fruit", 1, b""), images.Refusal(schema.UNREADABLE, "I/O error"))
    written(output, 5, first)
    output.remove(chunks.marker_file(5))

    written(output, 5, embedded(folder, rows))

    assert not output.exists(chunks.rejected_file(5))


def test_a_chunk_without_any_features_has_the_columns_all_the_same(tmp_path: Path) -> None:
    output = run_place(tmp_path)

    written(output, 0, ChunkResult())

    for name, columns in (
        (chunks.features_file(0), schema.FEATURE_ROWS),
        (chunks.rejected_file(0), schema.REJECTED_ROWS),
    ):
        table = pq.read_table(output.at(name))
        assert (table.num_rows, table.schema) == (0, columns)


def test_a_full_disk_is_a_sentence_and_leaves_no_marker(folder: Path, tmp_path: Path) -> None:
    output, result = run_place(tmp_path), embedded(folder, listed(folder))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(OSError, match="File too large") as full:
            written(output, 0, result)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    sentence = features.no_space(full.value, output)
    assert sentence is not None
    assert sentence.exit_code == 1
    assert sentence.message == f"There is no space left to write to {output.uri}."
    assert "--resume" in sentence.hint
    assert chunks.finished_chunks(output) == []
    assert [file for file in Path(output.base).rglob("*") if file.is_file()] == []


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
    ],
)
def test_only_a_full_disk_is_called_full(tmp_path: Path, error: OSError, is_full: bool) -> None:
    assert (features.no_space(error, run_place(tmp_path)) is not None) == is_full


@pytest.mark.parametrize("content", [jpeg(7), b"no picture"], ids=["picture", "text"])
def test_other_bytes_than_the_dataset_says_end_the_chunk(tmp_path: Path, content: bytes) -> None:
    path, label, sha256, _, _ = row("a/1.jpg", "a", jpeg(1))
    rows = write_packed(tmp_path / "data", [(path, label, sha256, len(content), content)])
    plan = plan_for(tmp_path / "data", "dataset")
    pictures = pictures_of(plan, files.place(plan.images), rows, check=False)

    with pytest.raises(JobError, match=r"a/1\.jpg has other bytes") as error:
        features.embed_chunk(pictures, brightness, side_px=SIDE)

    assert error.value.exit_code == 1
