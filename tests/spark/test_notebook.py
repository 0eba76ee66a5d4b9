from __future__ import annotations

import ast
import base64
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from fruits_cli.cloud.layout import Places
from fruits_cli.cluster.notebook import cluster_notebook, filled, ship_notebook
from fruits_cli.files import templates_dir
from fruits_cli.job.bundle import job_bundle
from fruits_cli.s3uri import S3Uri
from tests.support.fakes import FakeAws
from tests.support.notebooks import COLOURS, COMPONENTS, SESSION, make_run, session_environ

TEMPLATE = (templates_dir() / "notebook.ipynb").read_text(encoding="utf-8")
RUNS = S3Uri("grapes-and-figs", "fruits/runs/")
CODE = S3Uri("grapes-and-figs", "fruits/code/f00d/spark_job.zip")
# The first colours of matplotlib's own cycle.
TABLEAU = ((31, 119, 180), (255, 127, 14), (44, 160, 44))
OLDER, NEWER = "20260822-090000-aaaa", "20260823-141502-k3f9"


def parameters(notebook: Any) -> str:
    """The source of the cell of parameters."""
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    return str(cell.source)


def test_the_template_is_a_clean_notebook_for_the_clusters_kernel() -> None:
    notebook = nbformat.reads(TEMPLATE, as_version=4)

    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "pysparkkernel"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert [cell.execution_count for cell in code] == [None] * len(code)


def test_the_notebook_is_the_template_with_the_buckets_paths() -> None:
    made = cluster_notebook(TEMPLATE, runs=RUNS, code=CODE)

    before = nbformat.reads(TEMPLATE, as_version=4)
    after = nbformat.reads(made.content.decode(), as_version=4)
    nbformat.validate(after)
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(parameters(after)).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert values == {
        "RUNS": "s3://grapes-and-figs/fruits/runs/",
        "CODE": "s3://grapes-and-figs/fruits/code/f00d/spark_job.zip",
        "RUN_ID": None,
        "PICTURE": None,
        "NEIGHBOURS": 5,
        "VARIANCE": 0.95,
    }
    changed = [old != new for old, new in zip(before.cells, after.cells, strict=True)]
    assert changed.count(True) == 1


def test_the_notebook_is_stored_where_jupyterhub_looks_named_by_its_content() -> None:
    one = cluster_notebook(TEMPLATE, runs=RUNS, code=CODE)
    same = cluster_notebook(TEMPLATE, runs=RUNS, code=CODE)
    newer = cluster_notebook(TEMPLATE, runs=RUNS, code=S3Uri(CODE.bucket, "other.zip"))

    assert one == same
    assert one.uri != newer.uri
    assert one.uri.bucket == RUNS.bucket
    assert one.uri.key.startswith("jupyter/jovyan/fruits-")
    assert one.uri.key.endswith(".ipynb")


@pytest.mark.parametrize("text", ["it's", 'a "b"', "back\\slash", "pêche 桃 \N{GRAPES}", "${HOME}"])
def test_any_path_is_a_literal_of_python(text: str) -> None:
    made = nbformat.reads(filled(TEMPLATE, {"PICTURE": text}), as_version=4)

    assert ast.literal_eval(parameters(made).partition("PICTURE = ")[2].splitlines()[0]) == text


def test_a_name_that_the_template_does_not_know_is_refused() -> None:
    with pytest.raises(KeyError, match="NOBODY"):
        filled(TEMPLATE, {"NOBODY": 1})


def test_a_notebook_that_somebody_works_on_is_not_overwritten() -> None:
    storage, places = FakeAws().cloud.storage, Places("grapes-and-figs", "fruits")
    storage.create_bucket("grapes-and-figs")
    uri = ship_notebook(places, storage)
    storage.put_bytes(b"worked on", uri)

    again = ship_notebook(places, storage)

    found = storage.fetch_bytes(again)
    assert again == uri
    assert found is not None
    assert found.content == b"worked on"


_PROOF = """
import spark_job.pca

print(spark_job.pca.__file__)
spark.stop()
"""


@dataclass(frozen=True)
class Output:
    """What a cell printed, and the pixels of the figure it drew (height, width, RGB)."""

    said: str
    drawn: npt.NDArray[np.int16] | None


def output_of(cell: Any) -> Output:
    said = "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
    figures = [
        each.data["image/png"] for each in cell.outputs if "image/png" in each.get("data", {})
    ]
    if not figures:
        return Output(said, None)
    (figure,) = figures
    with Image.open(io.BytesIO(base64.b64decode(figure))) as opened:
        return Output(said, np.asarray(opened.convert("RGB"), np.int16))


def places_of(colour: Sequence[int], drawn: npt.NDArray[np.int16] | None) -> npt.NDArray[np.intp]:
    """Rows and columns (n, 2) of the pixels of nearly this colour."""
    assert drawn is not None
    return np.argwhere(np.abs(drawn - np.array(colour, np.int16)).max(axis=2) <= 3)


def executed(source: str, scratch: Path) -> list[Output]:
    """What each code cell of the notebook gave, run by a kernel between `SESSION` and `_PROOF`.

    Raises AssertionError where a cell failed.
    """
    notebook = nbformat.reads(source, as_version=4)
    around = [nbformat.v4.new_code_cell(code) for code in (SESSION, _PROOF)]
    for cell in around:
        # Cells have ids from format 4.5 on; JupyterHub of the cluster may be older.
        del cell["id"]
    notebook.cells = [around[0], *notebook.cells, around[1]]
    file = scratch / "executed.ipynb"
    nbformat.write(notebook, file)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "JUPYTER_PREFER_ENV_PATH": "1",
        **session_environ(),
    }
    run = "from nbclient.cli import main; main()"
    command = [sys.executable, "-c", run, file.name, "--inplace", "--kernel_name=python3"]
    ended = subprocess.run(
        [*command, "--timeout=300"],
        cwd=scratch,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [
        output_of(cell)
        for cell in nbformat.read(file, as_version=4).cells
        if cell.cell_type == "code"
    ]


@pytest.mark.spark
@pytest.mark.xdist_group("submit")
def test_a_real_kernel_shows_the_newest_run_and_the_neighbours_of_a_picture(
    tmp_path: Path,
) -> None:
    runs, scratch = tmp_path / "runs", tmp_path / "scratch"
    scratch.mkdir()
    make_run(runs / OLDER, pictures=9, rejected=0)
    make_run(runs / NEWER)
    (runs / "20260824-100000-zzzz").mkdir()
    code = job_bundle(scratch).zip
    values = {"RUNS": f"{runs}/", "CODE": str(code), "PICTURE": "kind 1/pêche 04.jpg"}

    gave = executed(filled(TEMPLATE, values), scratch)

    said, drawn = [each.said for each in gave], [each.drawn for each in gave]
    _, _, run, features, rejected, model, _, _, again, nearest, _, proof = said
    assert NEWER in run
    assert "61 pictures: 60 with features, 1 rejected" in run
    assert "openvino f32, weights imagenet, 224 pixels" in run
    assert [line.split("|")[1:3] for line in features.splitlines() if "|kind" in line] == [
        ["kind 0", "20   "],
        ["kind 1", "20   "],
        ["kind 2", "20   "],
    ]
    assert "kind 0/torn.jpg|truncated|image file is truncated" in rejected
    assert "    1 components hold" in model
    assert f"{COMPONENTS:5} components hold" in model
    assert "components hold 95." in again
    rows = [line for line in nearest.splitlines() if line.startswith("|kind")]
    assert len(rows) == 5
    assert all("|kind 1|" in row for row in rows)
    assert "04.jpg" not in "".join(rows)
    assert "spark_job.zip" in proof
    assert [figure is not None for figure in drawn] == [n in (6, 7, 10) for n in range(12)]
    rises_along(drawn[6])
    shows_three_groups(drawn[7])
    shows_pictures_of_kind(1, drawn[10], pictures=6)


def rises_along(curve: npt.NDArray[np.int16] | None) -> None:
    """The share of the variance grows from the left to the right."""
    line = places_of(TABLEAU[0], curve)
    left, right = line[line[:, 1].argmin()], line[line[:, 1].argmax()]
    assert right[1] - left[1] > 400
    assert left[0] - right[0] > 30


def shows_three_groups(plot: npt.NDArray[np.int16] | None) -> None:
    """Each label has its colour, and lies apart from the others."""
    groups = [places_of(colour, plot) for colour in TABLEAU]
    middles = [np.median(group, axis=0) for group in groups]
    widths = [np.median(np.abs(g - m)) for g, m in zip(groups, middles, strict=True)]
    for one, other in combinations(middles, 2):
        assert np.linalg.norm(one - other) > 5 * max(widths)


def shows_pictures_of_kind(
    kind: int, figure: npt.NDArray[np.int16] | None, *, pictures: int
) -> None:
    """So many pictures side by side, all of the kind's colour."""
    areas = [len(places_of(colour, figure)) for colour in COLOURS]
    assert [area > 0 for area in areas] == [n == kind for n in range(3)]
    inside = np.zeros(figure.shape[1] + 2, bool) if figure is not None else np.zeros(0, bool)
    inside[places_of(COLOURS[kind], figure)[:, 1] + 1] = True
    assert np.count_nonzero(np.diff(inside.astype(int)) == 1) == pictures


@pytest.mark.spark
@pytest.mark.xdist_group("submit")
def test_a_real_kernel_reads_the_run_that_is_named_without_rejected_pictures(
    tmp_path: Path,
) -> None:
    runs = tmp_path / "runs"
    make_run(runs / OLDER, pictures=30, rejected=0, packed=False)
    make_run(runs / NEWER)
    code = job_bundle(tmp_path).zip
    values = {"RUNS": f"{runs}/", "CODE": str(code), "RUN_ID": OLDER}

    gave = executed(filled(TEMPLATE, values), tmp_path)

    assert OLDER in gave[2].said
    assert "30 pictures: 30 with features, 0 rejected" in gave[2].said
    assert gave[4].said == ""
    assert "Nearest to kind 0/pêche 00.jpg:" in gave[9].said
    shows_pictures_of_kind(0, gave[10].drawn, pictures=6)
