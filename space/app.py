"""The app: pages with a link each, the same functions for REST and MCP, and a few plain downloads."""

import warnings
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles

from leaderboard import child
from leaderboard.serving.bounded import Bounded
from leaderboard.serving.upload import MAX_BYTES
from space.pages import PAGES
from space.parts import look
from space.server import api, routes, uploads
from space.server.blocks import Blocks
from space.server.shell import Shell
from space.server.store import Store

STATIC = Path(__file__).parent / "static"
MOST_SENT = uploads.base64_length(MAX_BYTES) + 100_000  # bytes of a request: the largest log in base64, and its facts
TOO_LARGE = f"a log may have {MAX_BYTES:,}; keep the rows that have a held-out loss"
BODY_S = 120.0  # until a request is whole
FILES_A_MINUTE = 60  # from one address
THREADS = 4  # at work at once: more only take turns on the cores, and each keeps memory of its own


def build(store: Store, webhook_secret: str | None = None) -> FastAPI:
    """The whole app as ASGI, over whatever state `store` holds."""
    uploads.folder()
    uploads.keep_swept()
    child.prepare()  # before a stranger's file comes
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Bounded, most=lambda _: MOST_SENT, hint=TOO_LARGE, body_s=BODY_S, files_a_minute=FILES_A_MINUTE)
    app.add_middleware(routes.RefusedIs4xx)
    app.add_middleware(Shell, pages=PAGES)
    app.add_middleware(GZipMiddleware, minimum_size=10_000)
    routes.add(app, store, webhook_secret)
    app.mount("/look", StaticFiles(directory=STATIC), name="look")  # /static is Gradio's own
    demo = blocks(store)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SSR mode is not supported")  # said although it is off
        app = gr.mount_gradio_app(
            app,
            demo,
            path="/",
            theme=look.theme(),
            css_paths=STATIC / "style.css",
            head=look.HEAD,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            show_error=True,
            max_file_size=MAX_BYTES + 1,  # of an upload: the check says what is too large
            mcp_server=True,
        )
    routes.refuse_calls_in_words(app)
    routes.mcp_answers_in_json(demo)
    return app


def blocks(store: Store) -> gr.Blocks:
    """The pages."""
    demo = Blocks(title="p2zoo", analytics_enabled=False, fill_width=True)
    for page in PAGES:
        with demo.route(page.name, page.path) if page.path else demo:
            gr.Navbar(visible=False)  # the menu is ours
            _frame(page, store, demo)
    with demo:
        api.register(store)
    demo.queue(default_concurrency_limit=16)
    demo.max_threads = THREADS
    return demo


def _frame(page: look.Page, store: Store, demo: gr.Blocks) -> None:
    """The menu, the page, and which data it shows."""
    gr.HTML(look.menu(page, PAGES), elem_id="menu")
    with gr.Column(elem_id="page", elem_classes=f"page-{page.path or 'budget'}"):
        gr.HTML(look.title(page))
        page.draw(store, demo)
    stamp = gr.HTML(look.stamp_words(store.board), elem_id="stamp")
    demo.load(lambda: look.stamp_words(store.board), outputs=stamp, **look.QUIET)
