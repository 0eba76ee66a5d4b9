from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fruits_cli.errors import UsageError
from fruits_cli.report.source import Source, load_source, sampled
from tests.support.run_folders import RUN_ID, clouds


def test_rows_of_both_folders_are_joined_by_path(tmp_path: Path) -> None:
    run = clouds()

    source = load_source(run.write(tmp_path / "run"))

    assert (source.name, source.pictures) == (RUN_ID, 60)
    assert list(source.rows.paths) == sorted(run.paths)
    np.testing.assert_array_equal(source.rows.components, run.components)
    assert source.label_counts == {"kind 0": 20, "kind 1": 20, "kind 2": 20}
    assert len(source.ratio) == 16


def test_a_run_without_components_still_has_pictures(tmp_path: Path) -> None:
    source = load_source(clouds(k=0).write(tmp_path / "run"))

    assert source.rows.components.shape == (60, 0)
    assert source.pictures == 60


def test_components_of_a_refit_that_failed_are_not_shown(tmp_path: Path) -> None:
    folder = clouds().write(tmp_path / "run")
    (folder / "pca_model" / "pca.npz").unlink()

    assert load_source(folder).rows.components.shape == (60, 0)


def test_rejected_pictures_are_read_with_their_reasons(tmp_path: Path) -> None:
    rejected = [("b.jpg", "x", "empty", "No bytes."), ("a.jpg", "x", "truncated", "Short.")]

    source = load_source(clouds(rejected=rejected).write(tmp_path / "run"))

    assert [one.path for one in source.rejected] == ["a.jpg", "b.jpg"]
    assert source.rejected[0].error == "truncated"
    assert source.all_paths == sorted(source.all_paths)
    assert len(source.all_paths) == 62


def test_equal_files_are_found_by_their_digests(tmp_path: Path) -> None:
    run = clouds()
    features = run.features.copy()
    features[7] = features[3]

    source = load_source(replace(run, features=features).write(tmp_path / "run"))

    assert source.copies == [[run.paths[3], run.paths[7]]]


def foreign(file: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), file)
    return file


def test_a_parquet_file_of_another_program_is_a_source_too(tmp_path: Path) -> None:
    file = foreign(
        tmp_path / "theirs.parquet",
        path=["a/1.jpg", "a/2.jpg"],
        label=["a", "a"],
        pca_features=[[1.0, 2.0], [3.0, 5.0]],
    )

    source = load_source(file)

    assert (source.name, source.pictures, source.ratio) == ("theirs", 2, [])
    assert source.rows.components.tolist() == [[1.0, 2.0], [3.0, 5.0]]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"path": ["1.jpg"], "label": ["a"]}, "it has no column pca_features"),
        (
            {"path": ["1", "2"], "label": ["a", "a"], "pca_features": [[1.0], [1.0, 2.0]]},
            "not equally long",
        ),
        (
            {"path": ["1", None], "label": ["a", "a"], "pca_features": [[1.0], [1.0]]},
            "rows without a path or a label",
        ),
        (
            {"path": [b"\xff"], "label": ["a"], "pca_features": [[1.0]]},
            "[Ii]nvalid UTF8",
        ),
        (
            {
                "path": pa.array([b"\xff"]).view(pa.string()),
                "label": ["a"],
                "pca_features": [[1.0]],
            },
            "[Ii]nvalid UTF8",
        ),
    ],
    ids=["missing", "ragged", "null", "bytes", "bytes as text"],
)
def test_a_file_that_cannot_be_read_is_named(
    columns: dict[str, object], told: str, tmp_path: Path
) -> None:
    file = foreign(tmp_path / "x.parquet", **columns)

    with pytest.raises(UsageError, match=told) as refused:
        load_source(file)

    assert "x.parquet" in str(refused.value)


def test_labels_that_are_numbers_are_shown_as_they_are(tmp_path: Path) -> None:
    file = foreign(
        tmp_path / "x.parquet", path=["1.jpg", "2.jpg"], label=[7, 8], pca_features=[[1.0], [2.0]]
    )

    assert load_source(file).label_counts == {"7": 1, "8": 1}


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("text")

    with pytest.raises(UsageError, match=r"x\.parquet cannot be read"):
        load_source(tmp_path / "x.parquet")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no finished run"):
        load_source(tmp_path)


def test_a_sample_keeps_the_shares_of_the_labels() -> None:
    labels = ["many"] * 900 + ["few"] * 90 + ["rare"] * 10

    rows = sampled(labels, 100)

    assert len(rows) == 100
    assert len(set(rows)) == 100
    counts = Counter(labels[row] for row in rows)
    assert counts["many"] == pytest.approx(90, abs=2)
    assert counts["few"] == pytest.approx(9, abs=2)
    assert counts["rare"] >= 1
    assert rows == sampled(labels, 100)


def test_every_label_is_in_a_sample_that_has_room_for_it() -> None:
    labels = [f"kind {number % 300}" for number in range(30_000)]

    assert len({labels[row] for row in sampled(labels, 400)}) == 300


def test_few_rows_are_all_taken() -> None:
    assert sampled(["a", "b"], 2) == [0, 1]


def test_an_empty_run_is_a_source(tmp_path: Path) -> None:
    source = load_source(clouds(labels=0).write(tmp_path / "run"))

    assert isinstance(source, Source)
    assert len(source.rows) == 0
