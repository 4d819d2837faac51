"""The first paint: every page arrives with its menu, title and sentence in it, and keeps them until Gradio's script has
drawn the page.

It also keeps to its own host: Gradio on a Space would ask others for fonts and a header.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from space.parts import look
from space.parts.look import Page

POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"  # of what a page loads; links may lead anywhere
STYLE = (Path(__file__).parents[1] / "static" / "shell.css").read_text()
TAGS = re.compile("<[^>]+>")
GRADIOS = re.compile(r'<meta\s+(property="og:|name="twitter:)[^>]*>\s*')  # its own words on every link


class Shell:
    """ASGI middleware: pages get the shell, all HTML a Content-Security-Policy, all else passes as it is."""

    def __init__(self, app: ASGIApp, pages: Sequence[Page]):
        self.app = app
        self.pages = {f"/{page.path}": page for page in pages}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a page with the shell in it."""
        page = self.pages.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "GET" else None
        if page is None:
            answer = self._or_lost(scope, _guarded(send)) if scope["type"] == "http" else send
            await self.app(scope, receive, answer)
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

    def _or_lost(self, scope: Scope, send: Send) -> Send:
        """`send`, but a browser that asks for a page that is none hears so in words."""
        accepts = next((value for name, value in scope["headers"] if name == b"accept"), b"")
        lost = False

        async def told(message: Message) -> None:
            nonlocal lost
            if message["type"] == "http.response.start" and message["status"] == 404 and b"text/html" in accepts:
                lost = True
                body = not_found(self.pages.values()).encode()
                kind = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(body)).encode())]
                await send({"type": "http.response.start", "status": 404, "headers": kind})
                await send({"type": "http.response.body", "body": body})
            elif not lost:
                await send(message)

        return told


def not_found(pages: Iterable[Page]) -> str:
    """The page of an address that has none."""
    links = "".join(f'<li><a href="/{page.path}">{page.name}</a></li>' for page in pages)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Not found · p2zoo</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body><main>'
        f"<h1>There is no such page</h1><p>The address may be mistyped or old. These are the pages:</p><ul>{links}</ul>"
        "</main></body></html>"
    )


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
    head = (
        f"<title>{page.name} · p2zoo</title>\n{preview(page)}"
        '<link rel="preload" href="look/inter.woff2" as="font" type="font/woff2" crossorigin>\n'
        '<link rel="preload" href="look/source-serif.woff2" as="font" type="font/woff2" crossorigin>\n'
        f"<style>{STYLE}</style>\n"
    )
    shell = f'<div id="shell">{look.menu(page, pages)}<div>{look.title(page)}</div></div>\n'
    html = GRADIOS.sub("", html)
    return html.replace("</head>", f"{head}</head>", 1).replace("<gradio-app", f"{shell}<gradio-app", 1)


def preview(page: Page) -> str:
    """What search engines and chats show of a link to a page: its own heading and sentence."""
    title, said = f"{page.heading} · p2zoo", TAGS.sub("", page.lead)
    pairs = {"og:title": title, "og:description": said, "og:type": "website", "og:site_name": "p2zoo"}
    lines = [f'<meta property="{name}" content="{escape(text)}">' for name, text in pairs.items()]
    lines += [f'<meta name="description" content="{escape(said)}">', '<meta name="twitter:card" content="summary">']
    return "".join(f"{line}\n" for line in lines)
