"""How addresses are read: the kinds of parts that a path has, and encoded slashes that do not split one.

The client sends a ref as one segment, `refs%2Fpr%2F1`; servers decode that before they route. Here the encoded
slash is held back by a stand-in until the routes have split the path.
"""

from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import ASGIApp, Receive, Scope, Send

from zoo.devhub.storage.repos import KINDS

REPO = "/api/{kind:kind}s/{owner}/{name}"
_SLASH = "\x1f"


class _Kind(Convertor[str]):
    """model, dataset or space; anything else is another address."""

    regex = "|".join(KINDS)

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Segment(_Kind):
    """One segment, with the slashes that were encoded in it."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return value.replace(_SLASH, "/")


class _Rest(_Segment):
    """Everything that is left, line breaks too."""

    regex = "(?s:.+)"


for _name, _convertor in {"kind": _Kind(), "segment": _Segment(), "rest": _Rest()}.items():
    register_url_convertor(_name, _convertor)


class KeepEncodedSlashes:
    """Middleware that decodes the path segment by segment."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            segments = scope["raw_path"].decode("ascii", "replace").split("/")
            path = "/".join(unquote(segment).replace("/", _SLASH) for segment in segments)
            scope = {**scope, "path": path}
        await self.app(scope, receive, send)
