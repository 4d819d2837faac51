"""Pages that ask nobody but their own server, whatever their front end would like to fetch."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Gradio on a Space asks for fonts and a header of other hosts; forms and links may still lead anywhere.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"


class OwnHostOnly:
    """ASGI middleware: web pages carry a Content-Security-Policy, all else passes as it is."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the header to answers that are HTML."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers["Content-Security-Policy"] = POLICY
            await send(message)

        await self.app(scope, receive, told if scope["type"] == "http" else send)
