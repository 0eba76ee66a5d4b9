from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from spark_job import engines, images, schema
from spark_job.embed import embed_paths, split_paths
from spark_job.engines import Engine
from spark_job.errors import JobError
from spark_job.listing import MAX_PICTURE_BYTES
from tests.support.descriptors import no_more_files
from tests.support.pictures import drawn, jpeg, png_chunk, png_header

pytestmark = [pytest.mark.xdist_group("model"), pytest.mark.filterwarnings("ignore")]

SIDE = 96


def embed(
    model: Path, paths: bytes, *words: str, stdout: Any = subprocess.PIPE, **environ: str
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "spark_job.embed", "--model", str(model), *words]
    environ = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **environ}
    return subprocess.run(
        command, input=paths, stdout=stdout, stderr=subprocess.PIPE, env=environ, check=False
    )


def rows_of(ended: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.ipc.open_stream(io.BytesIO(ended.stdout)).read_all().to_pylist()
    return rows


def told(ended: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    lines = [line for line in ended.stderr.decode().splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines]


def means(pictures: Any) -> Any:
    """A stand-in model: 1280 times the mean of the picture."""
    return np.repeat(pictures.mean(axis=(1, 2, 3))[:, None], schema.FEATURES, axis=1).astype("f4")


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        (b"", []),
        (b"a.jpg", [b"a.jpg"]),
        (b"a\nb.jpg\0\xff c\0", [b"a\nb.jpg", b"\xff c"]),
        (b"a\0\0b\0", [b"a", b"", b"b"]),
    ],
    ids=["none", "without an end", "odd names", "an empty one"],
)
@pytest.mark.parametrize("most", [1, 2, 1000])
def test_paths_end_with_a_nul(most: int, given: bytes, paths: list[bytes]) -> None:
    stream = io.BytesIO(given)

    assert list(split_paths(lambda size: stream.read(min(size, most)))) == paths


def test_every_path_has_its_row_in_order_also_twice(tmp_path: Path) -> None:
    for seed, name in enumerate((b"a.jpg", b"b\n\xff.jpg")):
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_bytes(jpeg(seed))
    (tmp_path / "text.jpg").write_text("no picture")
    names = [b"text.jpg", b"a.jpg", b"gone.jpg", b"b\n\xff.jpg", b"a.jpg", b"", b"text.jpg"] * 30
    paths = [bytes(tmp_path) + b"/" + name if name else b"" for name in names]

    batches = list(embed_paths(iter(paths), Engine("t", "f32", means), side_px=SIDE))

    rows = pa.Table.from_batches(batches).to_pylist()
    assert [batch.num_rows for batch in batches] == [64, 64, 64, 18]
    assert [row["error"] for row in rows[:7]] == [
        "not_a_picture",
        None,
        "unreadable",
        None,
        None,
        "unreadable",
        "not_a_picture",
    ]
    assert [row["path"].rpartition("/")[2] for row in rows[1:4]] == [
        "a.jpg",
        "gone.jpg",
        "b\n\\xff.jpg",
    ]
    assert rows[2]["message"] == "No such file or directory"
    assert rows[0]["features"] is None
    for row, seed in ((rows[1], 0), (rows[3], 1), (rows[4], 0)):
        expected = float(images.decoded(jpeg(seed), SIDE).mean())
        assert row["features"] == pytest.approx([expected] * schema.FEATURES, rel=1e-6)
    assert rows[:7] * 30 == rows


def test_an_unreadable_picture_is_a_row(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "cut.jpg").write_bytes(jpeg()[:200])
    (tmp_path / "bomb.png").write_bytes(png_header(60_000, 60_000) + png_chunk(b"IDAT", b""))
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(MAX_PICTURE_BYTES + 1)
    names = ["pipe.jpg", "empty.jpg", "cut.jpg", "bomb.png", "huge.jpg", ""]
    paths = [os.fsencode(tmp_path / name) for name in names]

    (batch,) = embed_paths(iter(paths), Engine("t", "f32", means), side_px=SIDE)

    errors = ["unreadable", "empty", "truncated", "too_large", "too_large", "unreadable"]
    assert batch.column("error").to_pylist() == errors
    assert batch.column("features").null_count == len(names)


def test_the_rows_are_what_the_job_computes_and_stdout_holds_nothing_else(
    artefact_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(3))
    (tmp_path / "bad.jpg").write_text("no")

    ended = embed(artefact_folder, os.fsencode(tmp_path / "a.jpg\0") + b"bad.jpg")

    assert ended.returncode == 0, ended.stderr
    good, bad = rows_of(ended)
    engine = engines.openvino_engine(engines.load_artefact(str(artefact_folder)), "f32")
    (expected,) = engine.embed(images.decoded(jpeg(3), SIDE)[None])
    assert good["features"] == pytest.approx(expected.tolist(), abs=1e-5)
    assert (bad["error"], bad["features"]) == ("unreadable", None)
    ready, done = told(ended)
    assert ready == {"ready": {"engine": "openvino", "precision": "f32", "image_size": SIDE}}
    assert (done["done"]["pictures"], done["done"]["rejected"]) == (2, 1)
    assert 0 < done["done"]["seconds"] < 60


@pytest.mark.slow
def test_the_reference_engine_prints_nothing_into_the_stream(
    artefact_folder: Path, tmp_path: Path
) -> None:
    drawn(1).save(tmp_path / "a.png")

    ended = embed(artefact_folder, os.fsencode(tmp_path / "a.png"), "--engine", "tensorflow")

    assert ended.returncode == 0, ended.stderr
    (row,) = rows_of(ended)
    assert len(row["features"]) == schema.FEATURES
    assert told(ended)[0]["ready"]["precision"] == "f32"


def test_no_paths_are_no_rows(artefact_folder: Path) -> None:
    ended = embed(artefact_folder, b"")

    assert (ended.returncode, rows_of(ended)) == (0, [])
    assert told(ended)[1]["done"]["pictures"] == 0


def test_an_invalid_artefact_is_exit_2_with_one_sentence(tmp_path: Path) -> None:
    ended = embed(tmp_path, b"a.jpg")

    assert (ended.returncode, ended.stdout) == (2, b"")
    first, second = ended.stderr.decode().splitlines()
    assert first.startswith(f"Error: {tmp_path} is not a model artefact: ")
    assert second == "Hint: Make one with spark_job.model."


def test_bf16_of_the_reference_engine_is_refused(artefact_folder: Path) -> None:
    words = ["--engine", "tensorflow", "--precision", "bf16"]

    ended = embed(artefact_folder, b"a.jpg", *words)

    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr.decode().startswith("Error: The engine tensorflow computes in f32 only.\n")


def test_weights_that_suffer_from_bf16_are_refused(artefact_folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(artefact_folder, tmp_path / "copy")
    facts = json.loads((copied / "model.json").read_text())
    facts["parity"]["bf16_min_cosine"] = 0.9
    (copied / "model.json").write_text(json.dumps(facts))

    ended = embed(copied, b"a.jpg", "--precision", "bf16")

    assert ended.returncode == 1
    assert "too far from f32 (cosine 0.9000)" in ended.stderr.decode()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' full device")
def test_a_full_disk_under_stdout_is_exit_1_with_a_sentence(artefact_folder: Path) -> None:
    with open("/dev/full", "wb") as full:
        ended = embed(artefact_folder, b"a.jpg", stdout=full)

    assert ended.returncode == 1
    last = ended.stderr.decode().splitlines()[-1]
    assert last == "Error: The features could not be written: No space left on device"


def test_a_machine_without_a_free_descriptor_answers_no_path(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    engine = Engine("stand-in", "f32", means)

    with no_more_files(), pytest.raises(JobError, match=r"a\.jpg could not be read: Too many"):
        next(embed_paths([os.fsencode(tmp_path / "a.jpg")], engine, side_px=SIDE))
