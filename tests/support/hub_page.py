"""JupyterHub and its notebooks, as a page of a browser."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from tests.support.browser_page import Page

_FILL_IN = """
document.querySelector('#username_input').value = %s;
document.querySelector('#password_input').value = %s;
document.querySelector('form').submit();
"""
_KERNEL_IS_IDLE = """
document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'
"""
_FOCUS_FIRST_CELL = "document.querySelector('.jp-CodeCell .cm-content').focus()"
_FIRST_CELL_RAN = """
document.querySelector('.jp-CodeCell .jp-InputPrompt')?.innerText.trim() !== '[ ]:'
"""
FIGURES = "[...document.querySelectorAll('.jp-OutputArea img')]"
TEXT = "document.body.innerText"


async def log_in(page: Page, hub_url: str, user: str, password: str) -> None:
    """From the hub's own form to the list of notebooks."""
    await page.command("Page.navigate", url=hub_url)
    await page.until("!!document.querySelector('#username_input')")
    await page.value(_FILL_IN % (json.dumps(user), json.dumps(password)))
    await page.until(f"location.pathname.startsWith('/user/{user}/tree')")


async def run_first_cell(page: Page) -> None:
    """Press until it runs: an editor that the page is still building loses focus and keys again."""
    for _ in range(60):
        await page.value(_FOCUS_FIRST_CELL)
        await page.press_shift_enter()
        with suppress(AssertionError):
            return await page.until(_FIRST_CELL_RAN, patience_s=2)
    raise AssertionError(f"the first cell never ran; the page: {await page.value(TEXT)}")


async def run_notebook(page: Page, name: str, screenshot: Path, *, cells: int) -> str:
    """The end of the page once all cells ran; the screenshot shows the map of the components."""
    user = await page.value("location.pathname.split('/')[2]")
    origin = await page.value("location.origin")
    await page.command("Page.navigate", url=f"{origin}/user/{user}/notebooks/{name}")
    await page.until(f"{TEXT}.includes('Pictures, features, principal components')")
    await page.until(_KERNEL_IS_IDLE)
    await run_first_cell(page)
    # The focus is in the third cell now; text counts as a cell, too.
    for _ in range(cells - 2):
        await page.press_shift_enter()
    await page.until(f"{FIGURES}.length === 3", patience_s=300)
    await page.until(_KERNEL_IS_IDLE)
    # The last cell's; of what is out of sight the page has no text. A cell that fails stops all.
    text = str(await page.value(TEXT))
    await page.value(f"{FIGURES}[1].scrollIntoView({{block: 'center'}})")
    await page.save_screenshot(screenshot)
    return text
