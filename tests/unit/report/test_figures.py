from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fruits_cli.report.facts import ClusterFacts, Report, make_report
from fruits_cli.report.figures import write_figures
from fruits_cli.report.pictures import Album
from fruits_cli.report.source import load_source
from tests.support.pictures import draw_folder
from tests.support.run_folders import WrittenRun, clouds

pytestmark = pytest.mark.filterwarnings("ignore")


def made(run: WrittenRun, tmp_path: Path) -> Report:
    return make_report(load_source(run.write(tmp_path / "run")), ClusterFacts())


def test_every_plot_is_a_png_and_an_svg(tmp_path: Path) -> None:
    run = clouds()
    draw_folder(tmp_path / "in", list(run.paths))

    files = write_figures(made(run, tmp_path), Album(str(tmp_path / "in")), tmp_path / "out")

    drawn = {f"{name}.png" for name in ("map", "components", "variance", "labels")}
    assert {file.name for file in files} == drawn | {f"{name[:-4]}.svg" for name in drawn}
    assert set((tmp_path / "out").iterdir()) == set(files)
    for file in files:
        if file.suffix == ".png":
            assert np.ptp(np.asarray(Image.open(file).convert("L"))) > 100
        else:
            assert "<svg" in file.read_text(encoding="utf-8")
    assert "component 1" in (tmp_path / "out" / "map.svg").read_text(encoding="utf-8")


def test_names_are_no_formulas(tmp_path: Path) -> None:
    run = clouds(2, 10)
    labels = ["a_$x^{2$<b>"] * 10 + ["_hidden"] * 10
    run = WrittenRun(run.paths, labels, run.features, run.components)

    write_figures(made(run, tmp_path), Album(), tmp_path / "out")

    text = (tmp_path / "out" / "map.svg").read_text(encoding="utf-8")
    assert "a_$x^{2$&lt;b&gt;" in text
    assert "_hidden" in text


@pytest.mark.parametrize(
    ("run", "names"),
    [
        (clouds(1, 1), {"map", "components"}),
        (clouds(1, 9, k=1), {"map", "components", "variance"}),
        (clouds(3, 4, k=0), {"variance"}),
        (clouds(200, 2), {"map", "components", "variance", "labels"}),
    ],
    ids=["one picture", "one component", "no components", "200 labels"],
)
def test_what_a_run_does_not_have_is_left_out(
    run: WrittenRun, names: set[str], tmp_path: Path
) -> None:
    files = write_figures(made(run, tmp_path), Album(), tmp_path / "out")

    assert {file.stem for file in files} == names
