"""How the pages look: one pair of typefaces, one accent, light and dark; and the frame around every page."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from leaderboard import VERSION, words
from leaderboard.errors import P2Error
from leaderboard.logs.hub_errors import link
from leaderboard.serving.board import Board

ACCENT, ACCENT_DARK = "#a8400f", "#f59a6b"  # 6.3:1 on paper, 8.6:1 on night
PAPER, NIGHT = "#fbfaf7", "#171614"
# A handler of a page, not of the API. It joins no queue: where one event ends as another joins, Gradio may close their
# stream before the second has answered.
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
HEAD = '<script src="look/page.js" defer></script><script src="look/tables.js" defer></script>'


def theme() -> gr.themes.Base:
    """Gradio's base theme in our colours; the rest is style.css."""
    made = gr.themes.Base(
        font=["Inter", "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "monospace"],
        radius_size=gr.themes.sizes.radius_sm,
        spacing_size=gr.themes.sizes.spacing_md,
    )
    return made.set(
        body_background_fill=PAPER, body_background_fill_dark=NIGHT,
        body_text_color="#1d1b18", body_text_color_dark="#ece8df",
        body_text_color_subdued="#5f5a51", body_text_color_subdued_dark="#a8a297",
        background_fill_primary=PAPER, background_fill_primary_dark=NIGHT,
        background_fill_secondary="#f3f1ea", background_fill_secondary_dark="#211f1c",
        border_color_primary="#ddd8cc", border_color_primary_dark="#3a3732",
        block_background_fill="transparent", block_background_fill_dark="transparent",
        block_border_width="0px", block_border_width_dark="0px", block_padding="0", block_shadow="none",
        block_label_background_fill="transparent", block_label_background_fill_dark="transparent",
        block_title_text_color="#1d1b18", block_title_text_color_dark="#ece8df", block_title_text_weight="500",
        block_info_text_color="#5f5a51", block_info_text_color_dark="#a8a297",
        input_background_fill="#ffffff", input_background_fill_dark="#211f1c",
        input_border_color="#8d877b", input_border_color_dark="#7a756b", input_border_width="1px",
        input_border_color_focus=ACCENT, input_border_color_focus_dark=ACCENT_DARK,
        color_accent=ACCENT, slider_color=ACCENT, slider_color_dark=ACCENT_DARK,
        link_text_color=ACCENT, link_text_color_dark=ACCENT_DARK, link_text_color_hover=ACCENT,
        link_text_color_hover_dark=ACCENT_DARK, link_text_color_visited=ACCENT,
        link_text_color_visited_dark=ACCENT_DARK,
        button_primary_background_fill=ACCENT, button_primary_background_fill_dark=ACCENT_DARK,
        button_primary_background_fill_hover="#8a330a", button_primary_background_fill_hover_dark="#ffb48d",
        button_primary_text_color="#ffffff", button_primary_text_color_dark="#1d1b18",
        checkbox_background_color_selected=ACCENT, checkbox_background_color_selected_dark=ACCENT_DARK,
        checkbox_border_color="#8d877b", checkbox_border_color_dark="#7a756b",
        checkbox_label_background_fill="transparent", checkbox_label_background_fill_dark="transparent",
        checkbox_label_background_fill_selected="transparent",
        checkbox_label_background_fill_selected_dark="transparent",
        checkbox_label_text_color_selected="#1d1b18", checkbox_label_text_color_selected_dark="#ece8df",
        checkbox_label_border_width="0px", checkbox_label_border_width_dark="0px",
        checkbox_label_padding="4px 10px 4px 0",
    )  # fmt: skip


@dataclass(frozen=True)
class Page:
    """`path` is relative to the app's root; the first page is the root itself. `lead` is its first sentence (HTML).

    `draw` takes the served state (space/server/store.py) and the Blocks it draws in.
    """

    name: str
    path: str
    heading: str
    lead: str
    draw: Callable[..., None]


def menu(page: Page, pages: Iterable[Page]) -> str:
    """The links to all pages (HTML)."""
    links = "".join(
        f'<a href="{other.path or "."}"{" aria-current=page" if other is page else ""}>{other.name}</a>'
        for other in pages
    )
    return (
        '<a class="skip" href="#page">Skip to the page</a><header><a class="brand" href=".">p2zoo</a>'
        f'<nav aria-label="Pages">{links}</nav>'
        '<button type="button" class="dark-switch" aria-label="Switch between light and dark">◐</button></header>'
    )


def title(page: Page) -> str:
    """A page's heading and its first sentence (HTML)."""
    return f'<h1>{page.heading}</h1><p class="lead">{page.lead}</p>'


def stamp_words(board: Board) -> str:
    """Which data a page shows."""
    logs = board.logs
    left = f" · {len(logs.quarantined)} left out" if logs.quarantined else ""
    note = f"<p>{words.text(logs.note)}</p>" if logs.note else ""
    return (
        f"<footer><p><span>{len(board.runs):,} runs{left}</span> · <span>{words.text(logs.source)} at "
        f"<code>{words.text(logs.revision[:12])}</code></span> · <span>newest run {words.day(logs.date)}</span> · "
        f'<a href="about">what this is</a></p><p>{" · ".join(_elsewhere(logs.dataset))}</p>{note}</footer>'
    )


def _elsewhere(dataset: str | None) -> list[str]:
    """Links to code, data and issues, on the Hub that this process speaks to; where there is none, only words."""
    code, data = os.environ.get("SPACE_ID"), f"datasets/{dataset}"
    places = [("code", f"spaces/{code}/tree/main"), ("issues", f"spaces/{code}/discussions")] if code else []
    places += [("data", data), ("reports on runs", f"{data}/discussions")] if dataset else []
    links = [f'<a href="{words.text(link(path))}">{name}</a>' for name, path in places]
    licences = 'code Apache-2.0, logs <a href="https://creativecommons.org/licenses/by/4.0/">CC-BY-4.0</a>'
    paper = '<a href="https://arxiv.org/abs/2411.10272">paper</a>'
    return [f"p2zoo {VERSION}", *links, paper, licences]


def warned(make: Callable[[], str]) -> str:
    """HTML of an answer, or of the sentence that says why there is none."""
    try:
        return make()
    except P2Error as error:
        return f'<p class="warning" role="alert">{words.text(error)}</p>'
