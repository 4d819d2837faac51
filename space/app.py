"""The app: six pages with a link each, the same functions for REST and MCP, and a few plain downloads."""

from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from space import look
from space.pages import PAGES
from space.store import Store

STATIC = Path(__file__).parent / "static"


def build(store: Store) -> FastAPI:
    """The whole app as ASGI, over whatever state `store` holds."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/look", StaticFiles(directory=STATIC), name="look")  # /static is Gradio's own
    return gr.mount_gradio_app(
        app,
        blocks(store),
        path="/",
        theme=look.theme(),
        css_paths=STATIC / "style.css",
        head=look.HEAD,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=True,
    )


def blocks(store: Store) -> gr.Blocks:
    """The pages."""
    demo = gr.Blocks(title="p2zoo", analytics_enabled=False, fill_width=True)
    for page in PAGES:
        with demo.route(page.name, page.path) if page.path else demo:
            gr.Navbar(visible=False)  # the menu is ours
            look.frame(page, store, demo)
    demo.queue(default_concurrency_limit=16)
    return demo
