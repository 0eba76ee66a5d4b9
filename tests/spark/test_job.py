from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import PCA

from fruits_cli.config import JobConfig
from spark_job import chunks, engines, files, pca, tasks
from spark_job.chunks import Plan, Tally
from tests.support.packing import pack_on_disk
from tests.support.paths import ROOT
from tests.support.pictures import draw_folder, drawn, jpeg, png_chunk, png_header, saved
from tests.support.results import Results
from tests.support.spark_settings import RunJob

pytestmark = [
    pytest.mark.spark,
    pytest.mark.xdist_group("spark"),
    pytest.mark.filterwarnings("ignore"),
]

HOSTILE = [
    b"with space.jpg",
    "pêche à l'été.jpg".encode(),
    b"quotes'\".jpg",
    b"#%*[]\\:.jpg",
    b"new\nline.jpg",
    b"esc\x1b[31m.jpg",
    b"[\\bold][red].jpg",
    b"n" * 246 + b".jpg",
    b"not utf-8 \xff\xc3.jpg",
    b"UPPER.JPG",
]
REASONS = {
    "bad/empty.jpg": "empty",
    "bad/text.jpg": "not_a_picture",
    "bad/post.jpg": "not_a_picture",
    "bad/cut.jpg": "truncated",
    "bad/vast.png": "too_large",
    "bad/link.jpg": "unreadable",
}


def draw_hostile(folder: Path) -> int:
    """A folder with everything in it that the job has to take; the number of its pictures."""
    draw_folder(folder, [*(f"kind {n % 3}/{n}.jpg" for n in range(40)), "top.jpg", ".dot/in.jpg"])
    for number, name in enumerate(HOSTILE):
        for below in (b"", b"d" + name[:200] + b"/"):
            file = os.path.join(os.fsencode(folder), below, name)
            os.makedirs(os.path.dirname(file), exist_ok=True)
            with open(file, "wb") as stream:
                stream.write(jpeg(100 + number))
    bad = folder / "bad"
    bad.mkdir()
    (bad / "empty.jpg").touch()
    (bad / "text.jpg").write_text("Once upon a time")
    (bad / "post.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    (bad / "cut.jpg").write_bytes(jpeg(size=(200, 200))[:900])
    (bad / "vast.png").write_bytes(png_header(30_000, 30_000) + png_chunk(b"IDAT", b""))
    (bad / "link.jpg").symlink_to("nothing")
    (bad / "._x.jpg").write_bytes(jpeg())
    (bad / "loop").symlink_to("..")
    (folder / "empty" / "folder").mkdir(parents=True)
    for mode in ("L", "1", "P", "CMYK", "I;16"):
        picture = drawn(7).convert("L" if mode == "I;16" else mode)
        (folder / f"{mode}.tif").write_bytes(saved(picture.convert(mode), "TIFF"))
    return 42 + 2 * len(HOSTILE) + 6 + 5


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("in") / "fruit"


@pytest.fixture(scope="module")
def done(hostile: Path, run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> Results:
    count = draw_hostile(hostile)
    output = tmp_path_factory.mktemp("out") / "run"

    assert run_job(hostile, output, "--pca-k", "5") == 0

    results = Results(output)
    assert results.counts["pictures"] == count
    return results


@pytest.fixture
def hundred(tmp_path: Path) -> Path:
    draw_folder(tmp_path / "in", [f"{n % 4}/{n}.jpg" for n in range(100)])
    return tmp_path / "in"


def few(folder: Path, count: int, *, broken: int = 0) -> Path:
    folder.mkdir()
    draw_folder(folder, [f"a/{n}.jpg" for n in range(count)])
    for number in range(broken):
        (folder / f"broken {number}.jpg").touch()
    return folder


def test_every_hostile_picture_is_a_row_of_one_kind_or_the_other(
    done: Results, hostile: Path
) -> None:
    assert done.reasons() == REASONS
    features = done.paths("features")
    assert len(features) == len(set(features)) == done.counts["features"]
    names = {name.decode("utf-8", "backslashreplace") for name in HOSTILE}
    assert names | {"top.jpg", ".dot/in.jpg"} <= set(features)
    assert not any("loop" in path or "._" in path for path in features)
    assert done.counts["features"] + done.counts["rejected"] == done.counts["pictures"]
    assert done.counts["inferences"] == done.counts["features"]
    labels = {row["path"]: row["label"] for row in done.rows("features")}
    assert labels["top.jpg"] == hostile.name
    assert labels["kind 1/1.jpg"] == "kind 1"


def test_features_are_those_of_the_engine_alone(
    done: Results, hostile: Path, artefact_folder: Path
) -> None:
    from spark_job import images

    rows = [row for row in done.rows("features") if row["path"].startswith("kind")]
    pixels = [images.decoded((hostile / row["path"]).read_bytes(), 96) for row in rows]
    engine = engines.openvino_engine(engines.load_artefact(str(artefact_folder)), "f32")

    expected = engine.embed(np.stack(pixels))

    assert np.array_equal(np.array([row["features"] for row in rows], np.float32), expected)


def test_the_tree_is_the_documented_one(done: Results) -> None:
    assert {file.name for file in done.folder.iterdir()} == {
        "features",
        "pca",
        "rejected",
        "pca_model",
        "progress.json",
        "manifest.json",
        "_plan",
        "_chunks",
    }
    assert done.json("progress.json")["stage"] == "done"
    assert done.json("progress.json")["error"] is None
    manifest = done.json("manifest.json")
    assert manifest["run_id"] == "test"
    assert (manifest["engine"], manifest["precision"]) == ("openvino", "f32")
    assert (manifest["image_size"], manifest["weights"]) == (96, "random")
    assert manifest["pca_k"] == 5
    assert set(manifest["seconds"]) == {"listing", "features", "pca"}
    assert set(REASONS.values()) == set(manifest["counts"]["rejected_by_reason"])


def test_pandas_pyarrow_and_spark_read_the_same_rows(
    done: Results, java: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyspark.sql import SparkSession

    columns = {"features": 4, "pca": 4, "rejected": 5}
    spark = SparkSession.builder.getOrCreate()
    try:
        for name, count in columns.items():
            folder = str(done.folder / name)
            by_spark = spark.read.parquet(folder)
            by_pandas = pd.read_parquet(folder)
            assert len(by_spark.columns) == len(by_pandas.columns) == count
            assert by_spark.columns == list(by_pandas.columns)
            paths = sorted(row["path"] for row in by_spark.select("path").collect())
            assert paths == sorted(by_pandas["path"]) == done.paths(name)
        row = spark.read.parquet(str(done.folder / "pca")).first()
        assert row is not None
        assert (len(row["features"]), len(row["pca_features"])) == (1280, 5)
        page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
        blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        (code,) = [block for block in blocks if "spark" in block]
        exec(code.replace("fruits-runs/RUN", str(done.folder)), {"spark": spark})
        assert "|label|count|" in capsys.readouterr().out.replace(" ", "")
    finally:
        spark.stop()


def test_components_equal_scikit_learns_on_the_written_features(
    done: Results,
) -> None:
    features = done.array("features", "features").astype(np.float64)
    reference = PCA(n_components=5, svd_solver="full").fit(features)
    signs = np.sign([row[np.abs(row).argmax()] for row in reference.components_])

    with np.load(done.folder / "pca_model" / "pca.npz", allow_pickle=False) as model:
        assert np.abs(model["components"] - reference.components_ * signs[:, None]).max() < 1e-6
        assert np.abs(model["mean"] - features.mean(axis=0)).max() < 1e-9
        ratio = np.abs(model["explained_variance_ratio"] - reference.explained_variance_ratio_)
        by_numpy = (features - model["mean"]) / model["scale"] @ model["components"].T
    assert ratio.max() < 1e-9
    projected = done.array("pca", "pca_features")
    assert np.abs(projected - reference.transform(features) * signs).max() < 1e-4
    assert np.abs(projected - by_numpy).max() < 1e-4
    assert done.paths("pca") == done.paths("features")
    assert np.array_equal(done.array("pca", "features"), done.array("features", "features"))
    facts = done.json("pca_model/pca.json")
    fingerprint = done.json("manifest.json")["model_fingerprint"]
    assert facts == {"n": len(features), "k": 5, "fingerprint": fingerprint}


def test_a_packed_dataset_gives_the_rows_of_its_folder(
    done: Results, hostile: Path, run_job: RunJob, tmp_path: Path
) -> None:
    pack_on_disk(hostile, tmp_path / "data", extensions=JobConfig().extensions)

    assert run_job(tmp_path / "data", tmp_path / "run", "--pca-k", "5") == 0

    results = Results(tmp_path / "run")
    assert results.rows("features") == done.rows("features")
    assert results.reasons() == done.reasons()
    difference = done.array("pca", "pca_features") - results.array("pca", "pca_features")
    assert np.abs(difference).max() < 1e-4


@pytest.mark.quick
def test_resume_computes_only_what_is_missing(
    hundred: Path, run_job: RunJob, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    assert run_job(hundred, output, "--slots", "6") == 0
    before, first = Results(output).stamps("features"), Results(output).rows("features")
    assert Results(output).counts["chunks"] == 6
    (output / "_chunks" / "1.json").unlink()
    (output / "features" / "0000001.parquet").unlink()

    assert run_job(hundred, output, "--resume") == 0

    results = Results(output)
    assert results.counts["inferences"] == 18
    assert results.counts["features"] == 100
    assert results.rows("features") == first
    after = results.stamps("features")
    assert {name for name in before if before[name] != after[name]} == {"0000001.parquet"}


def test_features_files_with_other_rows_than_were_counted_are_exit_1(
    hundred: Path, run_job: RunJob, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    assert run_job(hundred, output, "--slots", "6") == 0
    features = output / "features" / "0000001.parquet"
    pq.write_table(pq.read_table(features).slice(1), features)

    assert run_job(hundred, output, "--resume") == 1

    assert "have 99 rows, but 100 were counted" in Results(output).error["message"]
    shutil.rmtree(output / "_chunks")
    assert run_job(hundred, output, "--resume") == 0


def test_resume_computes_a_lost_features_file_again_and_names_a_damaged_file(
    hundred: Path, run_job: RunJob, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    assert run_job(hundred, output) == 0
    features = output / "features" / "0000001.parquet"
    rows = pq.read_table(features).num_rows
    features.unlink()

    assert run_job(hundred, output, "--resume") == 0

    assert Results(output).counts["inferences"] == pq.read_table(features).num_rows == rows

    for damaged in (features, output / "_chunks" / "1.json"):
        damaged.write_bytes(damaged.read_bytes()[:20])

        assert run_job(hundred, output, "--resume") == 1

        assert f"{damaged} cannot be read" in Results(output).error["message"]
        damaged.unlink()
        assert run_job(hundred, output, "--resume") == 0


def test_resume_rejects_what_changed_since_the_listing(
    hundred: Path, run_job: RunJob, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    assert run_job(hundred, output) == 0
    for marker in (output / "_chunks").iterdir():
        marker.unlink()
    (hundred / "0" / "0.jpg").write_bytes(jpeg(999))
    (hundred / "1" / "1.jpg").unlink()
    (hundred / "1" / "new.jpg").write_bytes(jpeg(998))

    assert run_job(hundred, output, "--resume") == 0

    results = Results(output)
    assert results.reasons() == {"0/0.jpg": "changed", "1/1.jpg": "changed"}
    assert results.counts["pictures"] == 100


def test_other_pca_options_refit_pca_alone(hundred: Path, run_job: RunJob, tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert run_job(hundred, output, "--pca-k", "7") == 0
    before = Results(output).stamps("features")

    for options, k in ((["--pca-k", "3", "--standardize", "--no-keep-features"], 3), ([], 50)):
        assert run_job(hundred, output, "--resume", *options) == 0

        results = Results(output)
        assert results.counts["inferences"] == 0
        assert results.stamps("features") == before
        assert results.json("manifest.json")["pca_k"] == k
        assert results.array("pca", "pca_features").shape == (100, k)
        kept = [] if "--no-keep-features" in options else ["features"]
        names = pq.read_schema(next((output / "pca").glob("*.parquet"))).names
        assert names == ["path", "label", *kept, "pca_features"]


def test_a_share_of_variance_is_reached(hundred: Path, run_job: RunJob, tmp_path: Path) -> None:
    assert run_job(hundred, tmp_path / "run", "--pca-variance", "0.9") == 0

    manifest = Results(tmp_path / "run").json("manifest.json")
    assert 0.9 <= manifest["cumulative_variance"] <= 1
    with np.load(tmp_path / "run" / "pca_model" / "pca.npz") as model:
        assert model["explained_variance_ratio"][:-1].sum() < 0.9


def test_resume_with_another_job_is_exit_2_and_names_the_option(
    hundred: Path, run_job: RunJob, tmp_path: Path, artefact_folder: Path
) -> None:
    output, results = tmp_path / "run", Results(tmp_path / "run")
    assert run_job(hundred, output) == 0
    other = Path(shutil.copytree(artefact_folder, tmp_path / "other"))
    text = (other / "model.json").read_text()
    (other / "model.json").write_text(text.replace(artefact_folder.name, "0" * 32))
    changes: list[tuple[str, dict[str, Any], list[str]]] = [
        ("engine", {}, ["--engine", "tensorflow"]),
        ("extensions", {}, ["--extensions", "jpg"]),
        ("weights", {"model": other}, []),
    ]

    for name, places, options in changes:
        assert run_job(hundred, output, "--resume", *options, **places) == 2
        assert results.error["message"].startswith(f"{name} differs from the run to be continued: ")
        assert "--pca-k" in results.error["hint"]
    assert run_job(tmp_path, output, "--resume") == 2
    assert results.error["message"].startswith("images differs")
    assert run_job(hundred, output) == 2
    assert "holds a run already" in results.error["message"]
    assert results.counts["features"] == 100


def test_no_pictures_are_exit_2(run_job: RunJob, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").touch()

    assert run_job(tmp_path / "in", tmp_path / "run") == 2

    assert Results(tmp_path / "run").error == {
        "exit_code": 2,
        "message": f"There are no pictures in {tmp_path}/in.",
        "hint": "Files are taken that end in jpg, jpeg, png, webp, bmp, gif, tif, tiff.",
    }


def test_after_exit_2_the_same_output_takes_a_better_run(run_job: RunJob, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert run_job(tmp_path / "in", tmp_path / "run") == 2
    draw_folder(tmp_path / "in", ["1.jpg", "2.jpg"])

    assert run_job(tmp_path / "in", tmp_path / "run") == 0


def test_one_picture_has_features_and_no_components(run_job: RunJob, tmp_path: Path) -> None:
    assert run_job(few(tmp_path / "in", 1), tmp_path / "run") == 0

    results = Results(tmp_path / "run")
    assert results.paths("features") == ["a/0.jpg"]
    assert not (tmp_path / "run" / "pca").exists()
    assert not (tmp_path / "run" / "pca_model").exists()
    assert results.json("manifest.json")["pca_k"] is None


def test_two_pictures_have_one_component(run_job: RunJob, tmp_path: Path) -> None:
    assert run_job(few(tmp_path / "in", 2), tmp_path / "run", "--pca-k", "1") == 0

    assert Results(tmp_path / "run").array("pca", "pca_features").shape == (2, 1)


def test_k_above_the_number_listed_is_exit_2_before_any_work(
    run_job: RunJob, tmp_path: Path
) -> None:
    assert run_job(few(tmp_path / "in", 5), tmp_path / "run", "--pca-k", "5") == 2

    error = Results(tmp_path / "run").error
    assert error["message"] == (
        "pca_k = 5 is too large: 5 pictures are listed, which allow 4 components."
    )
    assert not (tmp_path / "run" / "features").exists()


def test_k_too_large_after_rejections_is_exit_4_with_all_rows(
    run_job: RunJob, tmp_path: Path
) -> None:
    images = few(tmp_path / "in", 4, broken=2)

    assert run_job(images, tmp_path / "run", "--pca-k", "4") == 4

    results = Results(tmp_path / "run")
    assert "4 pictures are left after rejections, which allow 3" in results.error["message"]
    assert (len(results.paths("features")), len(results.paths("rejected"))) == (4, 2)
    assert not (tmp_path / "run" / "pca").exists()
    assert run_job(images, tmp_path / "run", "--pca-k", "3", "--resume") == 0
    assert results.counts["inferences"] == 0


def test_too_many_rejected_is_exit_4_with_all_rows_written(run_job: RunJob, tmp_path: Path) -> None:
    images = few(tmp_path / "in", 8, broken=2)

    assert run_job(images, tmp_path / "run", "--max-rejected", "0.19") == 4

    results = Results(tmp_path / "run")
    message = "20.0% of the pictures were rejected; max_rejected allows 19.0%."
    assert results.error["message"] == message
    assert (len(results.paths("features")), len(results.paths("rejected"))) == (8, 2)
    assert not (tmp_path / "run" / "pca").exists()
    assert run_job(images, tmp_path / "run", "--max-rejected", "0.2", "--resume") == 0
    assert results.array("pca", "pca_features").shape == (8, 7)


def test_all_rejected_is_exit_4(run_job: RunJob, tmp_path: Path) -> None:
    assert run_job(few(tmp_path / "in", 0, broken=3), tmp_path / "run") == 4

    results = Results(tmp_path / "run")
    assert results.error["message"] == "None of the 3 pictures could be used."
    assert results.paths("features") == []
    assert results.counts["rejected_by_reason"] == {"empty": 3}


def test_the_same_picture_many_times_has_no_variance_and_no_crash(
    run_job: RunJob, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(5):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(jpeg())

    assert run_job(tmp_path / "in", tmp_path / "run", "--standardize") == 0

    assert np.abs(Results(tmp_path / "run").array("pca", "pca_features")).max() < 1e-3


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda folder: folder.touch(), "this is not a folder"),
        (lambda folder: None, "this does not exist"),
        (
            lambda folder: (folder.mkdir(), (folder / "dataset.json").write_text("{")),
            "dataset.json cannot be read",
        ),
    ],
)
def test_images_that_cannot_be_read_are_exit_2(
    run_job: RunJob, tmp_path: Path, break_it: Any, sentence: str
) -> None:
    break_it(tmp_path / "in")

    assert run_job(tmp_path / "in", tmp_path / "run") == 2

    assert sentence in Results(tmp_path / "run").error["message"]


def test_a_dataset_that_lost_a_shard_is_named(
    hundred: Path, run_job: RunJob, tmp_path: Path
) -> None:
    pack_on_disk(hundred, tmp_path / "data", extensions=JobConfig().extensions)
    shard = next((tmp_path / "data").glob("*.parquet"))
    shard.unlink()

    assert run_job(tmp_path / "data", tmp_path / "run") == 1

    assert f"The shard {shard} cannot be read" in Results(tmp_path / "run").error["message"]


def test_an_output_that_is_a_file_is_a_sentence(
    run_job: RunJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").touch()

    assert run_job(few(tmp_path / "in", 1), tmp_path / "run") == 1

    assert f"Error: {tmp_path}/run cannot be written: " in capsys.readouterr().err


def test_the_tensorflow_engine_gives_the_same_features(
    hundred: Path, run_job: RunJob, tmp_path: Path
) -> None:
    shutil.rmtree(hundred / "3")
    names = ("openvino", "tensorflow")
    for engine in names:
        assert run_job(hundred, tmp_path / engine, "--engine", engine) == 0

    ours, theirs = (Results(tmp_path / name).array("features", "features") for name in names)
    assert ours.shape == (75, 1280)
    assert np.abs(ours - theirs).max() < 1e-3


@pytest.mark.parametrize(
    "wrong",
    [
        ["--engine", "torch"],
        ["--precision", "f16"],
        ["--pca-k", "0"],
        ["--pca-k", "-1"],
        ["--pca-k", "two"],
        ["--pca-variance", "0"],
        ["--pca-variance", "1.1"],
        ["--pca-variance", "nan"],
        ["--max-rejected", "-0.1"],
        ["--max-rejected", "2"],
        ["--pca-k", "3", "--pca-variance", "0.5"],
        ["--unknown"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_exit_2(run_job: RunJob, tmp_path: Path, wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_job(tmp_path / "in", tmp_path / "run", *wrong)

    assert ended.value.code == 2
    assert not (tmp_path / "run").exists()


def test_bf16_with_tensorflow_is_exit_2(run_job: RunJob, tmp_path: Path) -> None:
    options = ["--engine", "tensorflow", "--precision", "bf16"]

    assert run_job(few(tmp_path / "in", 1), tmp_path / "run", *options) == 2

    assert "f32 only" in Results(tmp_path / "run").error["message"]


def test_partial_sums_of_many_tasks_pass_a_small_result_limit(java: None) -> None:
    from pyspark import SparkConf, SparkContext

    from spark_job.fitting import reduced

    def partial(numbers: Any) -> Any:
        dice = np.random.default_rng(next(iter(numbers)))
        yield pca.sums_of([dice.normal(3, 1, (4, 1280))], 1280)

    spark = SparkContext(conf=SparkConf().set("spark.driver.maxResultSize", "64m"))
    try:
        sums = reduced(spark.parallelize(range(60), 60).mapPartitions(partial))
    finally:
        spark.stop()

    rows = [np.random.default_rng(n).normal(3, 1, (4, 1280)) for n in range(60)]
    expected = pca.sums_of([np.concatenate(rows)], 1280)
    assert sums.n == 240
    assert np.abs(sums.mean - expected.mean).max() < 1e-12
    assert np.abs(sums.scatter - expected.scatter).max() < 1e-8


def test_a_task_that_died_does_not_compute_its_finished_chunks_again(
    tmp_path: Path, java: None, artefact_folder: Path
) -> None:
    from pyspark import SparkConf, SparkContext

    draw_folder(tmp_path / "in", [f"{n:03}.jpg" for n in range(80)])
    output = files.place(str(tmp_path / "out"))
    listing = chunks.list_inputs(
        files.place(str(tmp_path / "in")), output, extensions=["jpg"], slots=4
    )
    artefact = engines.load_artefact(str(artefact_folder))
    plan = Plan(
        images="in", name="in", **asdict(listing), fingerprint=artefact.fingerprint,
        weights="random", engine="openvino", precision="f32",
        image_size=artefact.side_px, extensions=["jpg"],
    )  # fmt: skip
    worker = tasks.Worker(
        str(tmp_path / "in"), output.uri, str(artefact_folder), plan, resume=False
    )

    def dying_once(shares: Iterator[list[int]]) -> Iterator[Tally]:
        from pyspark import TaskContext

        for done, tally in enumerate(tasks.compute_chunks(worker, shares)):
            if done == 1 and TaskContext.get().attemptNumber() == 0:
                os._exit(1)
            yield tally

    spark = SparkContext(conf=SparkConf().setMaster("local[1,2]"))
    try:
        every = list(range(listing.chunks))
        tallies = spark.parallelize([every], 1).mapPartitions(dying_once).collect()
    finally:
        spark.stop()

    assert listing.chunks == 4
    assert sum(tally.features for tally in tallies) == 80
    # Two chunks of 20 had their markers.
    assert [tally.inferences for tally in tallies] == [0, 0, 20, 20]
