"""Pictures of the Space's pages for the README: `python -m tests.bench.pictures_space [--logs SOURCE] [--to FOLDER]`.

Chromium over a server of its own, light and dark, desktop and phone; each PNG has at most 128 colours, which these flat
pages do not miss. `models` is taken only where the logs name published models.
"""

import argparse
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from leaderboard import load_logs
from leaderboard.board import Board
from space.store import Store
from tests.space.serving import serving

DESKTOP, PHONE = (1280, 900), (390, 844)
COLOURS = 128
WAIT_MS = 180_000


@dataclass(frozen=True)
class Picture:
    """A file name, the page, what is there once it is whole, the window, and whether it is dark or the page's top."""

    name: str
    path: str
    whole: str
    size: tuple[int, int] = DESKTOP
    dark: bool = False
    top: bool = False


PICTURES = (
    Picture("budget", "", "#budget-plot .annotation"),
    Picture("budget-phone-dark", "", "#budget-plot .annotation", PHONE, dark=True),
    Picture("laws", "laws", "#ablation tbody tr", top=True),
    Picture("curves-dark", "curves", "#curves-plot .annotation", dark=True),
    Picture("curves-phone", "curves", "#curves-plot .annotation", PHONE, top=True),
    Picture("models", "models", "#pareto-plot .main-svg"),
    Picture("contribute", "contribute", "#wanted tbody tr", top=True),
    Picture("about", "about", "#state .facts", top=True),
)


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pictures_space", description=main.__doc__)
    parser.add_argument("--logs", help="file, folder or Hub dataset; default: seed")
    parser.add_argument("--to", type=Path, default=Path(__file__).parents[2] / "space" / "pictures")
    asked = parser.parse_args()
    asked.to.mkdir(exist_ok=True)
    board = Board(load_logs(asked.logs)).ready()
    with serving(Store(asked.logs, board)) as url, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for picture in PICTURES:
            if picture.path == "models" and board.models.empty:
                print(f"{picture.name}: no published model in these logs")
                continue
            scheme = "dark" if picture.dark else "light"
            width, height = picture.size
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(f"{url}/{picture.path}")
            page.locator(picture.whole).first.wait_for(timeout=WAIT_MS)
            path = asked.to / f"{picture.name}.png"
            path.write_bytes(_small(_shot(page, not picture.top)))
            print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
            page.close()
        browser.close()


def _shot(page: Page, whole: bool) -> bytes:
    page.evaluate("document.fonts.ready")
    return page.screenshot(full_page=whole, animations="disabled")


def _small(png: bytes) -> bytes:
    """The same picture in few colours."""
    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS).save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    main()
