import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fruits_cli.report.facts import ClusterFacts, Report, command_again, make_report, report_facts
from fruits_cli.report.files import write_report
from fruits_cli.report.page import report_page
from fruits_cli.report.pictures import Album
from fruits_cli.report.source import load_source
from fruits_cli.report.template import as_script, minutes
from tests.support.pictures import draw_folder
from tests.support.run_folders import WrittenRun, clouds

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'\u2028é桃\u202e"


def made(run: WrittenRun, tmp_path: Path, cluster: ClusterFacts | None = None) -> Report:
    return make_report(load_source(run.write(tmp_path / "run")), cluster or ClusterFacts())


def own_part(page: str) -> str:
    """The page without Bokeh's scripts."""
    return re.sub(r"/\* BEGIN bokeh.*/\* END bokeh[^*]*\*/", "", page, flags=re.DOTALL)


def embedded(page: str, name: str) -> Any:
    found = re.search(rf'id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page_tells_what_the_report_found(tmp_path: Path) -> None:
    report = made(clouds(rejected=[("x.jpg", "kind 0", "empty", "No bytes.")]), tmp_path)

    page = report_page(report, Album())

    assert "50.0 % of the variance of" in page
    assert "openvino f32" in page
    assert "1 rejected, 3 labels" in page
    assert "empty: No bytes." in page
    assert 'id="map-item"' in page
    assert 'id="variance-item"' in page


def test_what_earlier_runs_had_computed_is_told(tmp_path: Path) -> None:
    run = clouds()
    counts = {"pictures": len(run.paths), "features": len(run.paths), "rejected": 0}
    counts |= {"inferences": 3, "reused": len(run.paths) - 3, "twins": 0, "gone": 2}
    report = made(replace(run, facts={"counts": {**counts, "rejected_by_reason": {}}}), tmp_path)

    assert "of earlier runs; 3 computed, 2 gone" in report_page(report, Album())
    assert report_facts(report)["reused"] == len(run.paths) - 3
    # The stage copied most rows: its pace says nothing of the model's.
    assert report.images_s is None


def test_names_with_html_are_text_everywhere(tmp_path: Path) -> None:
    run = clouds(2, 6)
    paths = [f"{HOSTILE}/{number}{HOSTILE}.jpg" for number in range(12)]
    labels = [HOSTILE] * 6 + ["b<b>"] * 6
    settings = {"images": HOSTILE}
    hostile = WrittenRun(paths, labels, run.features, run.components, settings=settings)

    page = report_page(made(hostile, tmp_path), Album())

    own = own_part(page)
    assert "<img src=x" not in own
    assert "<b>b" not in own
    assert embedded(page, "data")["paths"] == sorted(paths)
    assert embedded(page, "data")["labels"] == sorted([HOSTILE, "b<b>"])


def test_the_page_asks_nothing_of_the_network(tmp_path: Path) -> None:
    own = own_part(report_page(made(clouds(), tmp_path), Album()))

    assert "default-src 'none'" in own
    assert re.findall(r"""(?:src|href)=["']?(?!#)[^"'\s>]+""", own) == []


def test_thumbnails_are_in_the_page(tmp_path: Path) -> None:
    run = clouds(2, 4)
    draw_folder(tmp_path / "in", list(run.paths))

    page = report_page(made(run, tmp_path), Album(str(tmp_path / "in")))

    assert 'id="sheet-a0"' in page
    cells = embedded(page, "data")["cells"]
    assert len(cells) > 8
    assert 'data-ref="a' in page


def test_random_weights_are_clearly_marked(tmp_path: Path) -> None:
    page = report_page(made(clouds(facts={"weights": "random"}), tmp_path), Album())

    assert "The weights were random." in page


@pytest.mark.parametrize(
    "run",
    [
        clouds(1, 1),
        clouds(1, 2, k=1),
        clouds(1, 10),
        clouds(500, 2),
        clouds(3, 4, k=0),
        clouds(0, 0),
        clouds(2, 5, k=1),
    ],
    ids=["one picture", "two", "one label", "500 labels", "no pca", "nothing", "one component"],
)
def test_every_size_of_run_has_a_page(run: WrittenRun, tmp_path: Path) -> None:
    report = made(run, tmp_path)

    page = report_page(report, Album())

    assert page.rstrip().endswith("</html>")
    assert json.loads(json.dumps(report_facts(report)))["features"] == len(run.paths)


def test_a_cluster_is_told_with_its_price(tmp_path: Path) -> None:
    cluster = ClusterFacts("eu-west-3", "j-1", 0.42, 1230.0, "1 primary m5.xlarge")

    page = report_page(made(clouds(), tmp_path, cluster), Album())

    assert "$0.42" in page
    assert "eu-west-3, 20 min 30 s, 1 primary m5.xlarge" in page
    assert "Cluster j-1" in page


def test_all_numbers_are_in_the_json_and_the_lists_beside_it(tmp_path: Path) -> None:
    report = made(clouds(), tmp_path)

    lists = {"a.csv": "path\r\n"}
    file = write_report("page", report_facts(report), lists, tmp_path / "out")

    assert file.read_text() == "page"
    facts = json.loads((tmp_path / "out" / "report" / "report.json").read_text())
    assert facts["components_for"].keys() == {"0.80", "0.90", "0.95", "0.99"}
    assert facts["quality"]["accuracy"] == 1.0
    assert np.isclose(sum(facts["explained_variance_ratio"]), 1, atol=1e-6)
    assert (tmp_path / "out" / "report" / "a.csv").read_bytes() == b"path\r\n"


def test_the_command_that_makes_it_again_has_every_setting() -> None:
    manifest = {
        "engine": "openvino",
        "precision": "bf16",
        "image_size": 128,
        "weights": "imagenet",
        "settings": {
            "images": "/my pictures",
            "pca_k": None,
            "pca_variance": 0.9,
            "standardize": True,
            "keep_features": False,
            "extensions": ["png"],
        },
    }

    assert command_again(manifest) == (
        "fruits run '/my pictures' --engine openvino --precision bf16 --image-size 128 "
        "--weights imagenet --pca-variance 0.9 --standardize --no-keep-features --extensions png"
    )
    assert command_again({}) == ""


def test_json_for_a_script_cannot_end_it() -> None:
    assert as_script({"a": "</script>\u2028"}) == '{"a":"\\u003c/script>\\u2028"}'


def test_times_are_written_in_minutes_and_seconds() -> None:
    assert [minutes(s) for s in (0.4, 119, 120, 3725)] == [
        "0 s",
        "119 s",
        "2 min 0 s",
        "62 min 5 s",
    ]
