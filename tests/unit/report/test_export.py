import csv
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from fruits_cli.report.export import write_atlas, write_projector
from fruits_cli.report.facts import ClusterFacts, Report, make_report
from fruits_cli.report.pictures import Album
from fruits_cli.report.source import load_source
from fruits_cli.report.thumbnails import thumbnail
from tests.support.pictures import draw_folder
from tests.support.run_folders import WrittenRun, clouds


def made(run: WrittenRun, tmp_path: Path) -> Report:
    return make_report(load_source(run.write(tmp_path / "run")), ClusterFacts())


def test_the_projector_gets_vectors_names_and_a_sprite_in_one_order(tmp_path: Path) -> None:
    run = clouds(2, 5)
    draw_folder(tmp_path / "in", list(run.paths[:7]))

    folder = write_projector(made(run, tmp_path), Album(str(tmp_path / "in")), tmp_path / "out")

    vectors = np.loadtxt(folder / "vectors.tsv", delimiter="\t")
    np.testing.assert_allclose(vectors, run.components, rtol=1e-4)
    names = list(csv.reader(io.StringIO((folder / "metadata.tsv").read_text()), delimiter="\t"))
    assert names[0] == ["label", "path"]
    assert [row[1] for row in names[1:]] == list(run.paths)
    sprite = np.asarray(Image.open(folder / "sprite.png"), np.float32)
    assert sprite.shape == (128, 128, 3)
    for row in range(7):
        top, left = row // 4 * 32, row % 4 * 32
        small = thumbnail((tmp_path / "in" / run.paths[row]).read_bytes(), 32)
        cell = sprite[top : top + 32, left : left + 32]
        assert np.abs(cell - np.asarray(small, np.float32)).mean() < 20
    config = (folder / "projector_config.pbtxt").read_text()
    assert config.count("single_image_dim: 32") == 2
    assert 'tensor_path: "vectors.tsv"' in config


def test_without_pictures_the_projector_gets_no_sprite(tmp_path: Path) -> None:
    folder = write_projector(made(clouds(2, 5), tmp_path), Album(), tmp_path / "out")

    assert {file.name for file in folder.iterdir()} == {
        "vectors.tsv",
        "metadata.tsv",
        "projector_config.pbtxt",
    }
    assert "sprite" not in (folder / "projector_config.pbtxt").read_text()


def test_names_with_tabs_and_newlines_stay_in_their_row(tmp_path: Path) -> None:
    run = clouds(2, 3)
    paths = [f"a\tb\n{number}.jpg" for number in range(6)]

    folder = write_projector(
        made(WrittenRun(paths, run.labels, run.features, run.components), tmp_path),
        Album(),
        tmp_path / "out",
    )

    lines = (folder / "metadata.tsv").read_text().splitlines()
    assert len(lines) == 7
    assert lines[1] == "kind 0\ta b 0.jpg"


def test_the_atlas_gets_one_parquet_with_the_nearest_by_row_number(tmp_path: Path) -> None:
    run = clouds(2, 12)

    file = write_atlas(made(run, tmp_path), tmp_path / "out")

    rows = pq.read_table(file).to_pylist()
    assert [row["path"] for row in rows] == list(run.paths)
    np.testing.assert_allclose([row["x"] for row in rows], run.components[:, 0])
    np.testing.assert_allclose([row["components"] for row in rows], run.components)
    for number, row in enumerate(rows):
        distances = np.linalg.norm(run.components - run.components[number], axis=1)
        distances[number] = np.inf
        assert row["neighbors"]["ids"][0] == int(np.argmin(distances))
    assert len(rows[0]["neighbors"]["distances"]) == 8


def test_a_run_without_components_has_an_atlas_without_places(tmp_path: Path) -> None:
    file = write_atlas(made(clouds(2, 3, k=0), tmp_path), tmp_path / "out")

    assert pq.read_table(file)["x"].to_pylist() == [0.0] * 6
