"""How much of a request a server takes, and for how long it waits for it: ASGI middleware, answered in words.

Past its bound the rest of a request never reaches the application, which sees a client that left; what it answers to
that is dropped, and the client is told. Bounds: bytes (413), seconds until the body is whole (408), and files a minute
from one address (429), where a file is any body of more than SMALL bytes.
"""

import asyncio
import json
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
SMALL = 20_000  # bytes
MINUTE_S = 60.0
_ADDRESSES = 10_000  # remembered at once


class Bounded:
    """The application behind its bounds. `most` says how many bytes a request may send, None for any number."""

    def __init__(
        self,
        app: App,
        most: Callable[[Scope], int | None],
        hint: str,
        body_s: float = 120.0,
        files_a_minute: int | None = None,
    ):
        self.app, self.most, self.hint, self.body_s, self.files = app, most, hint, body_s, files_a_minute
        self._seen: dict[str, deque[float]] = defaultdict(deque)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on as far as it is within its bounds."""
        most = self.most(scope) if scope["type"] == "http" else None
        if most is None:
            await self.app(scope, receive, send)
            return
        taken, whole, begun = 0, False, False
        refused: tuple[int, str] | None = self._announced(scope, most)
        until = time.monotonic() + self.body_s

        async def bounded() -> Message:
            nonlocal taken, whole, refused
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0.001))
            except TimeoutError:
                refused = 408, f"The request was not whole after {self.body_s:g} s; send it again over a faster line."
                return {"type": "http.disconnect"}
            before, taken = taken, taken + len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if taken > most:
                refused = self._too_large(most)
            elif before <= SMALL < taken:
                refused = self._too_often(scope)
            return {"type": "http.disconnect"} if refused else message

        async def told(message: Message) -> None:
            nonlocal begun
            if not refused or begun:
                begun = True
                await send(message)

        if not refused:
            await self.app(scope, bounded, told)
        if refused and not begun:
            await _answer(send, *refused)

    def _announced(self, scope: Scope, most: int) -> tuple[int, str] | None:
        length = dict(scope["headers"]).get(b"content-length", b"")
        return self._too_large(most) if length.isdigit() and len(length) < 20 and int(length) > most else None

    def _too_large(self, most: int) -> tuple[int, str]:
        return 413, f"More than {most:,} bytes; {self.hint}."

    def _too_often(self, scope: Scope) -> tuple[int, str] | None:
        """Count a file of this address, and refuse it where there were too many in the last minute."""
        if self.files is None:
            return None
        now, seen = time.monotonic(), self._seen[_address(scope)]
        while seen and now - seen[0] > MINUTE_S:
            seen.popleft()
        if len(self._seen) > _ADDRESSES:
            self._seen.clear()
        if len(seen) >= self.files:
            return 429, f"More than {self.files} files in a minute from one address; send the next in a minute."
        seen.append(now)
        return None


def _address(scope: Scope) -> str:
    """Where a request comes from: what the nearest proxy says, else the connection."""
    forwarded = dict(scope["headers"]).get(b"x-forwarded-for", b"").decode("latin-1")
    return forwarded.rpartition(",")[2].strip() or (scope.get("client") or ("",))[0]


async def _answer(send: Send, status: int, words: str) -> None:
    body = json.dumps({"error": words}).encode()
    headers = [
        (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close"),
        *([(b"retry-after", b"60")] if status == 429 else []),
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
