from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fruits_cli.errors import UsageError
from fruits_cli.job.results import load_manifest
from fruits_cli.runs.results import manifest_lines, write_pca_csv
from tests.support.scenes import manifest

HOSTILE = ['new\nline, "quoted".jpg', "it's.jpg", "é桃.jpg", "a\rb.jpg", "NA", "", "1.0", " x "]
AWKWARD = np.array([[0.1, -1e-7, 16777216.0], [3.4e38, -0.0, 1.17549435e-38]], np.float32)


def part(
    run: Path, name: str, paths: Sequence[str], components: np.ndarray, *, features: bool = False
) -> None:
    (run / "pca").mkdir(parents=True, exist_ok=True)
    rows = [list(row) for row in components]
    columns = {
        "path": pa.array(paths, pa.string()),
        "label": pa.array(["Kiwi"] * len(paths), pa.string()),
        "pca_features": pa.array(rows, pa.list_(pa.float32())),
    }
    if features:
        columns["features"] = pa.array([[1.0, 2.0]] * len(paths), pa.list_(pa.float32()))
    pq.write_table(pa.table(columns), run / "pca" / name)


def table(run: Path) -> list[list[str]]:
    with (run / "pca.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_pca_csv_has_a_column_for_each_component(tmp_path: Path) -> None:
    part(tmp_path, "0.parquet", ["a/1.jpg", "a/2.jpg"], np.array([[1.5, -2], [0, 4]]))

    assert write_pca_csv(tmp_path) == tmp_path / "pca.csv"

    assert table(tmp_path) == [
        ["path", "label", "pc_1", "pc_2"],
        ["a/1.jpg", "Kiwi", "1.5", "-2"],
        ["a/2.jpg", "Kiwi", "0", "4"],
    ]


def test_the_features_beside_the_components_are_left_out(tmp_path: Path) -> None:
    part(tmp_path, "0.parquet", ["1.jpg"], np.array([[1.0]]), features=True)

    write_pca_csv(tmp_path)

    assert table(tmp_path)[0] == ["path", "label", "pc_1"]


def test_numbers_read_back_as_the_same_float32(tmp_path: Path) -> None:
    random = np.random.default_rng(7).normal(size=(1000, 3)).astype(np.float32)
    components = np.concatenate([AWKWARD, random])
    part(tmp_path, "0.parquet", [f"{n}.jpg" for n in range(1002)], components)

    write_pca_csv(tmp_path)

    seen = np.array([row[2:] for row in table(tmp_path)[1:]], np.float64).astype(np.float32)
    np.testing.assert_array_equal(seen, components)
    assert table(tmp_path)[1][2:] == ["0.1", "-1e-7", "16777216"]


def test_pandas_reads_what_was_written(tmp_path: Path) -> None:
    part(tmp_path, "0.parquet", HOSTILE, np.arange(16).reshape(8, 2) / 3)

    write_pca_csv(tmp_path)

    frame = pd.read_csv(tmp_path / "pca.csv", dtype={"path": str}, keep_default_na=False)
    assert frame["path"].tolist() == HOSTILE
    np.testing.assert_allclose(frame[["pc_1", "pc_2"]], np.arange(16).reshape(8, 2) / 3, rtol=1e-6)


def test_newlines_and_quotes_in_names_survive(tmp_path: Path) -> None:
    part(tmp_path, "0.parquet", HOSTILE, np.zeros((8, 1)))

    write_pca_csv(tmp_path)

    assert [row[0] for row in table(tmp_path)[1:]] == HOSTILE


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_name_that_would_be_a_formula_gets_an_apostrophe(tmp_path: Path, start: str) -> None:
    paths = [f"{start}cmd|' /C calc'!A0.jpg", f"a\n{start}b.jpg"]
    part(tmp_path, "0.parquet", paths, np.array([[-1.0], [-2.0]]))

    write_pca_csv(tmp_path)

    assert [row[0] for row in table(tmp_path)[1:]] == [f"'{paths[0]}", paths[1]]
    assert [row[2] for row in table(tmp_path)[1:]] == ["-1", "-2"]


def test_rows_come_file_by_file_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    part(tmp_path, "b.parquet", ["1.jpg"], np.array([[1.0]]))
    part(tmp_path, "a.parquet", ["2.jpg", "3.jpg"], np.array([[1.0], [2.0]]))
    part(tmp_path, "c.parquet", [], np.zeros((0, 1)))
    (tmp_path / "pca" / ".x.parquet").write_bytes(b"half")

    write_pca_csv(tmp_path)

    assert [row[0] for row in table(tmp_path)[1:]] == ["2.jpg", "3.jpg", "1.jpg"]


def test_many_batches_make_one_file(tmp_path: Path) -> None:
    paths = [f"{number}.jpg" for number in range(20_000)]
    part(tmp_path, "0.parquet", paths, np.arange(20_000).reshape(-1, 1))

    write_pca_csv(tmp_path)

    assert [row[0] for row in table(tmp_path)[1:]] == paths
    assert [float(row[2]) for row in table(tmp_path)[1:]] == list(range(20_000))


def test_a_run_without_components_has_no_csv(tmp_path: Path) -> None:
    assert write_pca_csv(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_csv_that_was_there_is_replaced(tmp_path: Path) -> None:
    part(tmp_path, "0.parquet", ["1.jpg"], np.array([[1.0]]))
    (tmp_path / "pca.csv").write_text("old")

    write_pca_csv(tmp_path)

    assert len(table(tmp_path)) == 2
    assert {file.name for file in tmp_path.iterdir()} == {"pca", "pca.csv"}


def test_a_broken_file_is_named_and_no_csv_is_left(tmp_path: Path) -> None:
    part(tmp_path, "a.parquet", ["1.jpg"], np.array([[1.0]]))
    (tmp_path / "pca" / "b.parquet").write_bytes(b"PAR1 and no more")

    with pytest.raises(UsageError, match=r"b\.parquet cannot be read"):
        write_pca_csv(tmp_path)

    assert [file.name for file in tmp_path.iterdir()] == ["pca"]


def test_files_that_differ_in_their_components_are_refused(tmp_path: Path) -> None:
    part(tmp_path, "a.parquet", ["1.jpg"], np.array([[1.0]]))
    part(tmp_path, "b.parquet", ["2.jpg"], np.array([[1.0, 2.0]]))

    with pytest.raises(UsageError, match=r"b\.parquet has other components"):
        write_pca_csv(tmp_path)


@pytest.mark.parametrize(
    "columns",
    [
        {"path": ["1.jpg"], "label": ["a"]},
        {"path": ["1.jpg"], "label": ["a"], "pca_features": ["text"]},
        {"path": ["1.jpg", "2.jpg"], "label": ["a", "a"], "pca_features": [[1.0], [1.0, 2.0]]},
        {"path": ["1.jpg", "2.jpg"], "label": ["a", "a"], "pca_features": [[1.0], None]},
    ],
    ids=["missing", "text", "ragged", "null"],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, columns: dict[str, object]) -> None:
    (tmp_path / "pca").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "pca" / "0.parquet")

    with pytest.raises(UsageError, match=r"0\.parquet cannot be read"):
        write_pca_csv(tmp_path)


def test_the_manifest_is_what_the_run_wrote(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(manifest(6)))

    assert load_manifest(tmp_path) == manifest(6)


def test_a_folder_without_a_manifest_is_no_finished_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no finished run"):
        load_manifest(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "\udcff", "[" * 5000, '{"pca_k": 1e999}'], ids=repr
)
def test_a_broken_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(UsageError, match=r"manifest\.json is not a manifest"):
        load_manifest(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"counts": 5}, "its counts is wrong"),
        ({"counts": {}}, "it has no counts.pictures"),
        ({"seconds": {"features": "a"}}, "its seconds.features is wrong"),
        ({"seconds": {"features": float("nan")}}, "its seconds.features is wrong"),
        ({"settings": []}, "its settings is wrong"),
        ({"pca_k": "x"}, "its pca_k is wrong"),
        ({"cumulative_variance": float("inf")}, "its cumulative_variance is wrong"),
        ({"image_size": "big"}, "its image_size is wrong"),
    ],
)
def test_a_manifest_of_another_shape_is_named(
    tmp_path: Path, wrong: dict[str, object], said: str
) -> None:
    told = manifest(6) | {"cumulative_variance": 0.5} | wrong
    (tmp_path / "manifest.json").write_text(json.dumps(told))

    if "cumulative_variance" in wrong:
        # Null is what a run without components has.
        assert load_manifest(tmp_path)["cumulative_variance"] is None
        return
    with pytest.raises(UsageError, match=rf"manifest\.json is not a manifest: {said}\."):
        load_manifest(tmp_path)


@pytest.mark.parametrize(
    "prices", [5, {"int8": 5}, {"int8": {"pictures": "many"}}, {"int8": {}}], ids=str
)
def test_prices_of_another_shape_are_not_told(prices: object) -> None:
    told = manifest(6) | {"precision": "int8"}

    assert manifest_lines({**told, "model": {"prices": prices}}) == manifest_lines(told)


def test_a_run_is_told_in_pictures_components_and_time() -> None:
    assert manifest_lines(manifest(359)) == [
        "Pictures: 359, 358 with features, 1 rejected (1 empty)",
        "Components: 2, 50.0% of the variance (pca_k unset: min(50, pictures - 1))",
        "Time: listing 0.2 s, features 2.0 s, pca 1.2 s (179 images/s)",
    ]


def test_the_parts_of_the_time_add_up_to_what_the_user_waited() -> None:
    line = manifest_lines(manifest(359), {"model": 0.5, "Spark's start and end": 9.4})[2]

    spark = "model 0.5 s, Spark's start and end 9.4 s"
    assert line.startswith(f"Time: 13.4 s: {spark}, listing 0.2 s, features 2.0 s, ")


def test_a_run_without_components_says_why() -> None:
    told = manifest(2)
    told |= {"pca_k": None, "cumulative_variance": None}
    told["counts"] |= {"rejected_by_reason": {}, "rejected": 0, "inferences": 0, "features": 1}

    lines = manifest_lines(told)

    assert lines[0] == "Pictures: 2, 1 with features"
    assert lines[1] == "No PCA: it needs two pictures."
    assert "images/s" not in lines[2]


def test_the_summary_of_int8_says_what_it_cost() -> None:
    price = {
        "pictures": 600,
        "smallest_cosine": 0.96,
        "median_cosine": 0.986,
        "equal_neighbours": 0.89,
        "accuracy_f32": 0.895,
        "accuracy": 0.903,
        "components": 50,
        "subspace_angle_deg": 13.2,
        "variance_difference": 0.0005,
    }
    facts = {**manifest(5), "precision": "int8", "model": {"prices": {"int8": price, "bf16": {}}}}

    told = "\n".join(manifest_lines(facts))

    assert "int8 beside f32 on 600 pictures: cosine 0.986, smallest 0.960" in told
    assert "same nearest neighbour 89%, its label right 90.3%, in f32 89.5%" in told
    assert "50 components: subspaces 13 degrees apart, variance +0.05%" in told
    assert "beside f32" not in "\n".join(manifest_lines(manifest(5)))
