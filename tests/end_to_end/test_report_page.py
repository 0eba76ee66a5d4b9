"""The report in a real browser: hover, click, lasso, labels, search, keys, saving, dark mode."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fruits_cli.report.comparison import compare
from fruits_cli.report.facts import ClusterFacts, make_report
from fruits_cli.report.files import write_report
from fruits_cli.report.page import comparison_page, report_page
from fruits_cli.report.pictures import Album
from fruits_cli.report.source import load_source
from fruits_cli.tunnel.browser import find_browser
from tests.support.browser_page import Page, first_page
from tests.support.pictures import draw_folder
from tests.support.run_folders import WrittenRun, clouds

BROWSER = find_browser(os.environ.get("PATH"))
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
    # Tornado leaves its sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore"),
]
HOSTILE = "<img src=x onerror=boom()>"
_NEXT_FRAME = "new Promise((done) => requestAnimationFrame(() => done(1)))"
_PLACES = """
(() => {
  const view = fruits.views.map, box = view.frame.bbox, place = view.el.getBoundingClientRect();
  const points = view.model.document.get_model_by_name("points").data;
  const { x_range: xs, y_range: ys } = view.model;
  return Array.from(points.pc_1, (x, row) => [
    place.left + box.left + (x - xs.start) * box.width / (xs.end - xs.start),
    place.top + box.bottom - (points.pc_2[row] - ys.start) * box.height / (ys.end - ys.start),
  ]);
})()
"""


def written_page(run: WrittenRun, folder: Path) -> Path:
    draw_folder(folder / "in", list(run.paths))
    source = load_source(run.write(folder / "run"))
    report = make_report(source, ClusterFacts())
    return write_report(report_page(report, Album(str(folder / "in"))), {}, {}, folder / "run")


def three_clouds() -> WrittenRun:
    run = clouds(3, 12, apart=30)
    labels = [f"kind {HOSTILE}" if label == "kind 0" else label for label in run.labels]
    paths = [f"{number:03} {HOSTILE[:9]}.jpg" for number in range(36)]
    return WrittenRun(paths, labels, run.features, run.components)


@contextlib.asynccontextmanager
async def opened(file: Path, folder: Path) -> AsyncIterator[Page]:
    """The page in a browser of its own, drawn, with the map at the top of the window."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
    options += ["--window-size=1400,1000", f"--user-data-dir={folder / 'profile'}"]
    options += ["--remote-debugging-port=0", "--remote-allow-origins=*", "about:blank"]
    log = folder / "chromium.log"
    with log.open("wb") as stream, subprocess.Popen([str(BROWSER), *options], stderr=stream) as own:
        try:
            async with first_page(log) as page:
                for domain in ("Runtime", "Log", "Network", "Page"):
                    await page.command(f"{domain}.enable")
                await page.command("Page.navigate", url=file.as_uri())
                await page.until("!!window.fruits")
                await page.awaited("fruits.ready.then(() => 1)")
                await page.value("document.querySelector('#map .bar')?.scrollIntoView()")
                yield page
        finally:
            own.kill()


def visit(file: Path, folder: Path, story: Callable[[Page], Coroutine[Any, Any, None]]) -> None:
    async def told() -> None:
        async with opened(file, folder) as page:
            await story(page)
            require_quiet(page)

    asyncio.run(told())


def require_quiet(page: Page) -> None:
    """No error in the console, and no request that leaves the page."""
    methods = ("Runtime.exceptionThrown", "Log.entryAdded")
    assert [event for event in page.events if event.get("method") in methods] == []
    calls = [e["params"] for e in page.events if e.get("method") == "Runtime.consoleAPICalled"]
    assert [call for call in calls if call["type"] in ("error", "warning", "assert")] == []
    asked = [
        event["params"]["request"]["url"]
        for event in page.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}
    assert len([url for url in asked if url.startswith("file:")]) == 1


async def arrived(file: Path) -> None:
    """Return once a download is there."""
    for _ in range(300):
        if file.exists():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{file.name} never came")


async def lasso(page: Page, corners: Sequence[Sequence[float]]) -> None:
    """Drag around until a selection is listed: pressed too long without a move it is no drag."""
    listed = "document.querySelector('#panel').innerText.includes('selection')"
    for _ in range(20):
        await page.mouse("mousePressed", *map(float, corners[0]), button="left")
        for x, y in corners[1:]:
            await page.mouse("mouseMoved", float(x), float(y), button="left")
            # Else a busy browser makes one move out of several.
            await page.awaited(_NEXT_FRAME)
        await page.mouse("mouseReleased", *map(float, corners[-1]), button="left")
        with contextlib.suppress(AssertionError):
            return await page.until(listed, patience_s=2)
    raise AssertionError("nothing was selected")


async def text(page: Page, selector: str) -> str:
    return str(await page.value(f"document.querySelector('{selector}').innerText"))


def test_pointing_at_a_dot_shows_its_picture_without_flicker(tmp_path: Path) -> None:
    run = three_clouds()

    async def story(page: Page) -> None:
        places = await page.value(_PLACES)
        await page.value(
            "window.changes = 0; new MutationObserver((all) => { window.changes += all.length; })"
            ".observe(document.querySelector('#hover'), { attributes: true })"
        )
        x, y = places[5]
        await page.mouse("mouseMoved", x, y)
        await page.until("document.querySelector('#hover').className === 'shown'")
        assert run.paths[5] in await text(page, "#hover small")
        assert HOSTILE in await text(page, "#hover div")
        image = await page.value("document.querySelector('#hover i').style.backgroundImage")
        assert image.startswith('url("blob:')
        before = await page.value("window.changes")
        for step in (0.2, 0.4, 0.6, 0.4, 0.2):
            await page.mouse("mouseMoved", x + step, y)
        assert await page.value("window.changes") == before
        box = await page.value(
            "(() => { const box = document.querySelector('#map-plot').getBoundingClientRect();"
            " return [box.left, box.top, box.width, box.height]; })()"
        )
        away = max(
            (
                (box[0] + box[2] * (0.1 + 0.1 * i), box[1] + box[3] * (0.1 + 0.1 * j))
                for i in range(9)
                for j in range(9)
            ),
            key=lambda at: np.min(np.hypot(*(np.array(places) - at).T)),
        )
        await page.mouse("mouseMoved", *away)
        await page.until("document.querySelector('#hover').className === ''")

    visit(written_page(run, tmp_path), tmp_path, story)


def test_a_click_shows_the_nearest_pictures(tmp_path: Path) -> None:
    run = three_clouds()

    async def story(page: Page) -> None:
        x, y = (await page.value(_PLACES))[20]
        await page.click(x, y)
        await page.until("document.querySelectorAll('#panel .pic').length === 9")
        assert f"Nearest to {run.paths[20]}" in await text(page, "#panel")
        await page.value("document.querySelectorAll('#panel .pic')[3].click()")
        assert f"Nearest to {run.paths[20]}" not in await text(page, "#panel")

    visit(written_page(run, tmp_path), tmp_path, story)


def test_labels_are_searched_and_switched_and_a_lasso_lists_what_is_shown(tmp_path: Path) -> None:
    run = three_clouds()

    async def story(page: Page) -> None:
        await page.value(
            "(() => { const box = document.querySelector('#label-search'); box.value = 'KIND 2';"
            " box.dispatchEvent(new Event('input')); })()"
        )
        items = "Array.from(document.querySelectorAll('#label-list li'))"
        left = f"{items}.filter((one) => one.offsetParent).map((one) => one.innerText).join()"
        assert "kind 2" in await page.value(left)
        assert "kind 1" not in await page.value(left)
        await page.value("document.querySelector('#found-labels').click()")
        shown = "fruits.views.map.model.document.get_model_by_name('shown').booleans"
        assert await page.value(f"{shown}.filter((one) => one).length") == 12
        ends = "[fruits.views.map.model.x_range.start, fruits.views.map.model.x_range.end]"
        assert await page.value(ends) == pytest.approx(reach(run.components[:, 0]), rel=1e-3)
        places = np.array(await page.value(_PLACES))
        low, high = places.min(axis=0) - 20, places.max(axis=0) + 20
        await lasso(page, [low, (high[0], low[1]), high, (low[0], high[1]), low])
        assert "12 pictures" in await text(page, "#panel")
        listed = await page.value(
            "Array.from(document.querySelectorAll('#panel .pic'), (one) => one.title)"
        )
        assert listed == run.paths[24:]
        await page.command(
            "Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "down")
        )
        await page.value(
            "Array.from(document.querySelectorAll('#panel button'))"
            ".find((one) => one.innerText === 'Save as CSV').click()"
        )
        await arrived(tmp_path / "down" / "pictures.csv")
        await page.value("document.querySelector('#all-labels').click()")
        assert await page.value(f"{shown}.filter((one) => one).length") == 36

    visit(written_page(run, tmp_path), tmp_path, story)
    lines = (tmp_path / "down" / "pictures.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "path,label"
    assert lines[1] == f'"{run.paths[24]}","kind 2"'
    assert len(lines) == 13


def reach(values: Any) -> tuple[float, float]:
    """Where an axis begins and ends: five percent beyond its values."""
    space = np.ptp(values) * 0.05
    return float(values.min() - space), float(values.max() + space)


def test_pictures_are_found_by_their_path_and_axes_are_switched(tmp_path: Path) -> None:
    run = three_clouds()

    async def story(page: Page) -> None:
        await page.value(
            "(() => { const box = document.querySelector('#find'); box.value = '01';"
            " box.dispatchEvent(new Event('input')); })()"
        )
        assert "11 pictures" in await text(page, "#panel")
        await page.value(
            "(() => { const axis = document.querySelector('#y-axis'); axis.value = '4';"
            " axis.dispatchEvent(new Event('change')); })()"
        )
        start = await page.value("fruits.views.map.model.y_range.start")
        assert start == pytest.approx(reach(run.components[:, 3])[0], rel=1e-3)
        dots = "fruits.views.map.model.document.get_model_by_name('dots')"
        assert await page.value(f"{dots}.glyph.y.field") == "pc_4"
        assert "component 4" in await page.value("fruits.views.map.model.left[0].axis_label")

    visit(written_page(run, tmp_path), tmp_path, story)


def test_arrow_keys_go_from_dot_to_dot_and_enter_shows_the_nearest(tmp_path: Path) -> None:
    async def story(page: Page) -> None:
        await page.value("document.querySelector('#map-plot').focus()")
        seen = set()
        for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown") * 2:
            await page.press(key)
            seen.add(await page.value("document.querySelector('#hover small').textContent"))
        assert len(seen - {""}) > 2
        assert await page.value("document.querySelector('#hover').className") == "shown"
        await page.press("Enter")
        assert "Nearest to" in await text(page, "#panel")
        await page.press("Escape")
        await page.until("document.querySelector('#hover').className === ''")

    visit(written_page(three_clouds(), tmp_path), tmp_path, story)


def test_plots_are_saved_and_follow_the_dark_page(tmp_path: Path) -> None:
    async def story(page: Page) -> None:
        for plot in ("map", "variance"):
            for kind in ("png", "svg+xml"):
                name = kind.partition("+")[0]
                blob = f"fruits.views.{plot}.export('{name}', true).to_blob()"
                told = await page.awaited(f"{blob}.then((one) => [one.size, one.type])")
                assert told[0] > 2000
                assert told[1] == f"image/{kind}"
        dots = await page.awaited(
            "fruits.views.map.export('svg', true).to_blob().then((one) => one.text())"
        )
        assert dots.count("<path") > 36
        background = "fruits.views.map.model.background_fill_color"
        before = await page.value(background)
        await page.value("document.querySelector('#theme').click()")
        assert await page.value(background) != before
        assert await page.value("getComputedStyle(document.body).color") == "rgb(236, 236, 238)"

    visit(written_page(three_clouds(), tmp_path), tmp_path, story)


def test_runs_side_by_side_open_without_an_error(tmp_path: Path) -> None:
    run = three_clouds()
    dice = np.random.default_rng(0)
    blurred = run.components + dice.normal(size=run.components.shape).astype(np.float32) * 40
    draw_folder(tmp_path / "in", list(run.paths))
    folders = [run.write(tmp_path / "a"), replace(run, components=blurred).write(tmp_path / "b")]
    compared = compare([make_report(load_source(one), ClusterFacts()) for one in folders])
    page = comparison_page(compared, Album(str(tmp_path / "in")))
    file = write_report(page, {}, {}, tmp_path / "out")

    async def story(page: Page) -> None:
        assert compared.changed
        shown = "document.querySelectorAll('#changed .pic').length"
        assert await page.value(shown) == len(compared.changed)
        saved = "fruits.views.curves.export('svg', true).to_blob().then((one) => one.size)"
        assert await page.awaited(saved) > 2000

    visit(file, tmp_path, story)


@pytest.mark.parametrize(
    "run",
    [clouds(1, 1), clouds(1, 2, k=1), clouds(500, 2), clouds(3, 4, k=0)],
    ids=["one picture", "two pictures", "500 labels", "no components"],
)
def test_every_size_of_run_opens_without_an_error(run: WrittenRun, tmp_path: Path) -> None:
    async def story(page: Page) -> None:
        assert "What is in these pictures" in await text(page, "h1")
        await page.value("scrollTo(0, document.body.scrollHeight)")
        await page.awaited(_NEXT_FRAME)

    visit(written_page(run, tmp_path), tmp_path, story)
