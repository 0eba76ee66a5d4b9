from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from fruits_cli.errors import UsageError
from fruits_cli.report.page import similar_page
from fruits_cli.report.pictures import Album
from fruits_cli.report.similar import Match, cosine, nearest_by_components, nearest_by_features
from tests.support.pictures import draw_folder, jpeg
from tests.support.run_folders import WrittenRun, clouds


def with_model(run: WrittenRun, folder: Path) -> Path:
    """The run in the folder, its components being the first four features, less 2, by 3."""
    folder = run.write(folder)
    components = np.eye(4, run.features.shape[1])
    mean, scale = np.full(16, 2.0), np.full(16, 3.0)
    np.savez(folder / "pca_model" / "pca.npz", mean=mean, scale=scale, components=components)
    return folder


def test_the_nearest_are_those_of_scikit_learn(tmp_path: Path) -> None:
    run = clouds(4, 50)
    wanted = run.features[17] + 0.5

    found = nearest_by_features(wanted, run.write(tmp_path / "run"), 9)

    cosines = cosine_similarity(run.features, wanted[None])[:, 0]
    order = np.argsort(-cosines, kind="stable")[:9]
    assert [one.path for one in found] == [run.paths[row] for row in order]
    np.testing.assert_allclose([one.similarity for one in found], cosines[order], atol=1e-5)
    assert found[0].label == run.labels[order[0]]


def test_components_are_compared_after_the_runs_own_projection(tmp_path: Path) -> None:
    run = clouds(4, 50)
    projected = ((run.features[:, :4] - 2) / 3).astype(np.float32)
    run = WrittenRun(run.paths, run.labels, run.features, projected)

    found = nearest_by_components(run.features[17], with_model(run, tmp_path / "run"), 5)

    cosines = cosine_similarity(projected, projected[17:18])[:, 0]
    order = np.argsort(-cosines, kind="stable")[:5]
    assert [one.path for one in found] == [run.paths[row] for row in order]
    assert found[0].similarity == pytest.approx(1)


def test_a_run_without_components_says_what_else_works(tmp_path: Path) -> None:
    run = clouds(k=0)

    with pytest.raises(UsageError, match="has no components") as refused:
        nearest_by_components(run.features[0], run.write(tmp_path / "run"), 3)

    assert "--by features" in refused.value.hint


def test_a_run_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = clouds().write(tmp_path / "run")

    with pytest.raises(UsageError, match="rows of another length"):
        nearest_by_features(np.ones(5, np.float32), folder, 3)


def test_fewer_pictures_than_wanted_are_all_listed(tmp_path: Path) -> None:
    run = clouds(1, 2)

    assert len(nearest_by_features(run.features[0], run.write(tmp_path / "run"), 12)) == 2


def test_of_equal_pictures_the_first_in_the_files_come_first(tmp_path: Path) -> None:
    run = clouds(1, 6)
    run.features[:] = 1

    found = nearest_by_features(run.features[0], run.write(tmp_path / "run"), 3)

    assert [one.path for one in found] == sorted(run.paths)[:3]


def test_a_run_without_pictures_has_no_similar_ones() -> None:
    rows = np.array([[0, 0], [3, 4]], np.float32)

    assert cosine(rows, np.array([3, 4], np.float32)).tolist() == [0, 1]
    assert cosine(rows, np.zeros(2, np.float32)).tolist() == [0, 0]


def test_the_page_shows_thumbnails_and_names_as_text(tmp_path: Path) -> None:
    draw_folder(tmp_path / "in", ["a/1.jpg"])
    (tmp_path / "<b>.jpg").write_bytes(jpeg(3))
    found = [Match(0.98765, "a/1.jpg", "a"), Match(0.5, "gone/<i>.jpg", "<u>")]

    page = similar_page(
        tmp_path / "<b>.jpg", found, by="features", run_id="r", album=Album(str(tmp_path / "in"))
    )

    assert page.count("data:image/webp;base64,") == 2
    assert "0.9877" in page
    assert "<b>.jpg" not in page
    assert "<u>" not in page
    assert "&lt;i&gt;.jpg" in page
