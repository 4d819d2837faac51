"""Pictures of the Space's pages for the README: `python -m tests.bench.pictures_space [--logs SOURCE] [--page NAME]`.

Chromium over a server of its own: each page on a desktop, there in the dark, and on a phone. Each PNG has at most 128
colours, which these flat pages do not miss. `models` is taken only where the logs name published models, as those of
`make demo` do on its Hub.
"""

import argparse
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from leaderboard import load_logs
from leaderboard.serving.board import Board
from space.server.store import Store
from tests.space.serving import serving

DESKTOP, PHONE = (1280, 900), (390, 844)
COLOURS = 128
WAIT_MS = 180_000


WHOLE = {  # pages, and what is there once each is whole
    "budget": "#budget-plot .legend",
    "own": "#own-file",
    "laws": "#ablation tbody tr",
    "curves": "#curves-plot .colorbar",
    "models": "#pareto-plot .main-svg",
    "contribute": "#wanted tbody tr",
    "about": "#state .facts",
}


@dataclass(frozen=True)
class View:
    """What a file's name ends in, the window, whether it is dark, and whether all of the page is taken or its top."""

    ending: str
    size: tuple[int, int]
    dark: bool = False
    all: bool = False


VIEWS = (View("", DESKTOP, all=True), View("-dark", DESKTOP, dark=True), View("-phone", PHONE))


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pictures_space", description=main.__doc__)
    parser.add_argument("--logs", help="file, folder or Hub dataset; default: seed")
    parser.add_argument("--to", type=Path, default=Path(__file__).parents[2] / "space" / "pictures")
    parser.add_argument("--page", choices=WHOLE, help="only this page")
    asked = parser.parse_args()
    asked.to.mkdir(exist_ok=True)
    board = Board(load_logs(asked.logs)).ready()
    with serving(Store(asked.logs, board)) as url, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, whole in WHOLE.items():
            if asked.page not in (None, name):
                continue
            if name == "models" and board.models.empty:
                print(f"{name}: no published model in these logs")
                continue
            for view in VIEWS:
                width, height = view.size
                scheme = "dark" if view.dark else "light"
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(f"{url}/{'' if name == 'budget' else name}")
                page.locator(whole).first.wait_for(timeout=WAIT_MS)
                path = asked.to / f"{name}{view.ending}.png"
                path.write_bytes(_small(_shot(page, view.all)))
                print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
                page.close()
        browser.close()


def _shot(page: Page, whole: bool) -> bytes:
    page.evaluate("document.fonts.ready")
    return page.screenshot(full_page=whole, animations="disabled")


def _small(png: bytes) -> bytes:
    """The same picture in few colours."""
    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=3).save(
        out, "PNG", optimize=True
    )
    return out.getvalue()


if __name__ == "__main__":
    main()
