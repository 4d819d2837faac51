"""The first paint: every page arrives with its menu, title and sentence in it, and keeps them until Gradio's script has
drawn the page.

It also keeps to its own host: Gradio on a Space would ask others for fonts and a header.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from space.parts import look
from space.parts.look import Page

POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"  # of what a page loads; links may lead anywhere
STYLE = (Path(__file__).parents[1] / "static" / "shell.css").read_text()
TAGS = re.compile("<[^>]+>")


class Shell:
    """ASGI middleware: pages get the shell, all HTML a Content-Security-Policy, all else passes as it is."""

    def __init__(self, app: ASGIApp, pages: Sequence[Page]):
        self.app = app
        self.pages = {f"/{page.path}": page for page in pages}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a page with the shell in it."""
        page = self.pages.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "GET" else None
        if page is None:
            await self.app(scope, receive, _guarded(send) if scope["type"] == "http" else send)
            return
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]  # not compressed yet
        start: Message = {}
        body = b""

        async def collect(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
            if message["type"] != "http.response.body":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                whole = inserted(body.decode(), page, self.pages.values()).encode()
                MutableHeaders(scope=start)["Content-Length"] = str(len(whole))
                await _guarded(send)(start)
                await send({"type": "http.response.body", "body": whole})

        await self.app({**scope, "headers": plain}, receive, collect)


def _guarded(send: Send) -> Send:
    """`send` that tells a browser to keep HTML to its own host."""

    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if headers.get("content-type", "").startswith("text/html"):
                headers["Content-Security-Policy"] = POLICY
        await send(message)

    return told


def inserted(html: str, page: Page, pages: Iterable[Page]) -> str:
    """Gradio's HTML of a page with the shell in it."""
    said = TAGS.sub("", page.lead)
    head = (
        f"<title>{page.name} · p2zoo</title>\n"
        f'<meta name="description" content="How many post-training tokens does a pruned LLM need? {said}">\n'
        '<link rel="preload" href="look/inter.woff2" as="font" type="font/woff2" crossorigin>\n'
        '<link rel="preload" href="look/source-serif.woff2" as="font" type="font/woff2" crossorigin>\n'
        f"<style>{STYLE}</style>\n"
    )
    shell = f'<div id="shell">{look.menu(page, pages)}<div>{look.title(page)}</div></div>\n'
    return html.replace("</head>", f"{head}</head>", 1).replace("<gradio-app", f"{shell}<gradio-app", 1)
