"""The pages, in the order of the menu. A page is a name, a path, and a function that draws it over a store."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from space.pages import about, budget, contribute, curves, laws, models
from space.store import Store


@dataclass(frozen=True)
class Page:
    """`path` is relative to the app's root; the first page is the root itself."""

    name: str
    path: str
    draw: Callable[[Store, gr.Blocks], None]


PAGES = (
    Page("Token budget", "", budget.draw),
    Page("Laws", "laws", laws.draw),
    Page("Curves", "curves", curves.draw),
    Page("Models", "models", models.draw),
    Page("Contribute", "contribute", contribute.draw),
    Page("About", "about", about.draw),
)
