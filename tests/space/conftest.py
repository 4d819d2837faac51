"""A real Chromium over a real server. Every page is watched: no request to an outside host, no error, no dialog."""

import gc
import os
import shutil
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from leaderboard import load_logs
from leaderboard.logs.contract import schema
from leaderboard.serving.board import Board

WIDE, PHONE = 1280, 390
WAIT_MS = 60_000  # nothing here is about speed; a busy machine may take its time


@pytest.fixture(scope="session")
def chromium() -> str:
    """The system's Chromium. Only a person's own machine may go without."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None and os.environ.get("CI"):
        pytest.fail("no chromium: apt-get install chromium fonts-dejavu")
    if found is None:
        pytest.skip("no chromium here (apt-get install chromium fonts-dejavu): the pages are not tested")
    return found


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open() -> Iterator[None]:
    """What Gradio and its client leave to the collector ends with the module, not in a test of another."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator["object"]:
    """One browser a module: while it runs, asyncio.run() does not work in this thread."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=WAIT_MS)
    quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=quiet)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser) -> Iterator[Callable]:
    """visit(url, width=WIDE, dark=False) -> a page in a new context, its heading there; watched until the test ends."""
    contexts, seen, said = [], [], []

    def visit(url: str, width: int = WIDE, dark: bool = False, on_hub: bool = False, hosts: tuple[str, ...] = ()):
        own = {urlsplit(url).netloc, *hosts}
        size = {"width": width, "height": 900}
        scheme = "dark" if dark else "light"
        context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (seen.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("response", lambda r: None if _ours(r.url, own) else seen.append(f"answer from {r.url}"))
        if not on_hub:  # where SPACE_ID is set, Gradio tries to ask the Hub for fonts, and the browser refuses
            page.on("console", lambda m: said.append((urlsplit(url).netloc, m.text)) if _bad(m) else None)
            page.on("request", lambda r: None if _ours(r.url, own) else seen.append(f"request to {r.url}"))
        page.goto(url)
        page.locator("#page h1").wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert seen == []
    assert [text for server, text in said if not (any(cut in text for cut in CUT) and _ended(server))] == []


LEAVING = ("AbortError", "errored out")  # what Gradio says of a stream when its page is left
CUT = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")  # of a server that ended with its test


def _bad(message) -> bool:
    return message.type == "error" and not any(said in message.text for said in LEAVING)


def _ended(netloc: str) -> bool:
    host, _, port = netloc.rpartition(":")
    try:
        socket.create_connection((host, int(port))).close()
    except OSError:
        return True
    return False


def _ours(url: str, hosts: set[str]) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob") or parts.netloc in hosts


@pytest.fixture(scope="session")
def seed_board() -> Board:
    """The bundled runs, everything that visitors ask first worked out."""
    return Board(load_logs()).ready()


@pytest.fixture(scope="session")
def few_runs() -> pd.DataFrame:
    """The seed's llama-3 depth runs: quick to fit."""
    frame = load_logs().frame
    return frame[(frame["family"] == "llama-3") & (frame["method"] == "depth")].reset_index(drop=True)


@pytest.fixture
def log_file(tmp_path: Path) -> Callable[..., Path]:
    """log_file(frame, **changes): the rows of one run as a log on disk, with columns set to other values."""

    def write(frame: pd.DataFrame, **changes: object) -> Path:
        path = tmp_path / "log.parquet"
        pq.write_table(pa.Table.from_pandas(frame.assign(**changes), schema=schema(), preserve_index=False), path)
        return path

    return write


def assert_accessible(page) -> None:
    """axe-core's WCAG 2 A and AA rules, nothing left out."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"]
    assert [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found] == []


def choose(page, name: str, option: str) -> None:
    """Pick an option of a dropdown as a person does."""
    page.locator(f"#{name} input").click()
    page.get_by_role("option", name=option, exact=True).click()


def fill(page, name: str, value: str) -> None:
    """Write into a field and leave it."""
    field = page.locator(f"#{name} input[type=number], #{name} input[type=text], #{name} textarea").first
    field.fill("")
    field.press_sequentially(value)  # Gradio hears keys, not a value that is set
    field.press("Tab")
