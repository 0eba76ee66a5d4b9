from dataclasses import replace
from pathlib import Path

import numpy as np

from fruits_cli.report.comparison import Comparison, compare, comparison_facts, comparison_rows
from fruits_cli.report.facts import ClusterFacts, Report, make_report
from fruits_cli.report.page import comparison_page
from fruits_cli.report.pictures import Album
from fruits_cli.report.quality import judge
from fruits_cli.report.source import load_source
from tests.support.run_folders import WrittenRun, clouds


def made(run: WrittenRun, folder: Path, **cluster: float) -> Report:
    facts = ClusterFacts("eu-west-3", "j-1", **cluster) if cluster else ClusterFacts()
    return make_report(load_source(run.write(folder)), facts)


def blurred(run: WrittenRun, by: float) -> WrittenRun:
    dice = np.random.default_rng(1)
    noise = dice.normal(size=run.components.shape).astype(np.float32) * by
    return replace(run, components=run.components + noise)


def two(tmp_path: Path, by: float = 8.0) -> Comparison:
    run = clouds(3, 20, apart=4)
    return compare([made(run, tmp_path / "a"), made(blurred(run, by), tmp_path / "b")])


def test_a_run_agrees_with_itself(tmp_path: Path) -> None:
    found = two(tmp_path, by=0.0)

    assert found.agreements == [1.0, 1.0]
    assert found.changed == []
    assert found.common == 60


def test_a_blurred_run_is_worse_and_its_pictures_are_named(tmp_path: Path) -> None:
    found = two(tmp_path)

    first, second = found.qualities
    assert first is not None
    assert second is not None
    assert second.accuracy < first.accuracy
    assert found.agreements[1] is not None
    assert found.agreements[1] < 0.8
    wrong = set(first.wrong.items()) ^ set(second.wrong.items())
    assert {one.path for one in found.changed} == {path for path, _ in wrong}
    for one in found.changed:
        assert one.taken_for[1] == second.wrong.get(one.path, one.label)


def test_runs_are_judged_on_the_pictures_that_all_have(tmp_path: Path) -> None:
    run = clouds(3, 20, apart=1)
    kept = slice(5, None)
    fewer = replace(
        run,
        paths=run.paths[kept],
        labels=run.labels[kept],
        features=run.features[kept],
        components=run.components[kept],
    )

    found = compare([made(run, tmp_path / "a"), made(fewer, tmp_path / "b")])

    alone = judge(found.reports[1].source.rows)
    assert found.common == 55
    assert alone is not None
    assert [one.accuracy for one in found.qualities if one] == [alone.accuracy] * 2


def test_runs_without_a_common_picture_are_only_told(tmp_path: Path) -> None:
    other = replace(clouds(), paths=[f"other/{number}.jpg" for number in range(60)])

    found = compare([made(clouds(), tmp_path / "a"), made(other, tmp_path / "b")])

    assert (found.common, found.qualities, found.labels) == (0, [None, None], [])
    assert "Runs side by side" in comparison_page(found, Album())


def test_what_differs_most_comes_first(tmp_path: Path) -> None:
    spreads = [max(shares) - min(shares) for _, shares in two(tmp_path).labels]

    assert spreads == sorted(spreads, reverse=True)
    assert spreads[0] > 0


def test_the_table_tells_time_and_dollars(tmp_path: Path) -> None:
    found = compare(
        [
            made(clouds(), tmp_path / "a", cost_usd=0.5, seconds=60.0),
            made(clouds(k=2), tmp_path / "b", cost_usd=0.25, seconds=30.0),
        ]
    )

    rows = dict(comparison_rows(found))

    assert rows["Dollars of the cluster"] == ["0.50", "0.25"]
    assert rows["Components"] == ["4", "2"]
    assert rows["Seconds of the job"][0] == "3.5"
    assert comparison_facts(found)["common"] == 60


def test_the_page_has_curves_and_changed_pictures(tmp_path: Path) -> None:
    found = two(tmp_path)

    page = comparison_page(found, Album())

    assert 'id="curves-item"' in page
    assert f"{len(found.changed)} of 60" in page
    assert found.changed[0].path in page
