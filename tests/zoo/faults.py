"""A bad line to a hub: a proxy on loopback that spoils one request of a session, chosen by its number.

Every request comes on a connection of its own, so that cutting it off harms no other.
"""

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

ANSWERS = {
    "500": b"HTTP/1.1 500 Internal Server Error",
    "503": b"HTTP/1.1 503 Service Unavailable",
    "412": b"HTTP/1.1 412 Precondition Failed",
    "401": b"HTTP/1.1 401 Unauthorized",
    "403": b"HTTP/1.1 403 Forbidden",
    "404": b"HTTP/1.1 404 Not Found",
    "429": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1",
    "gated": b"HTTP/1.1 403 Forbidden\r\nX-Error-Code: GatedRepo",
    "html": b"HTTP/1.1 200 OK\r\nContent-Type: text/html",
}
LOST = ("cut request", "cut answer", "silence")  # half of the request arrives; half of the answer; no answer in time
SILENCE_S = 2.0  # at most; a client that waits less hangs up before


class Line(socketserver.ThreadingTCPServer):
    """The proxy. `lead_to` sets the hub behind it, `spoil` what happens to which request from now on; `seen` counts."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub: str):
        super().__init__(("127.0.0.1", 0), _Request)
        self.lead_to(hub)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.lock = threading.Lock()
        self.spoil()

    def lead_to(self, hub: str) -> None:
        parts = urlsplit(hub)
        self.hub = (parts.hostname, parts.port)

    def spoil(self, number: int = -1, fault: str = "") -> None:
        self.seen: list[str] = []
        self.at, self.fault = number, fault

    def next_is(self, fault: str) -> bool:
        return self.fault == fault and len(self.seen) == self.at

    def fault_of(self, request_line: str) -> str:
        with self.lock:
            self.seen.append(request_line)
            return self.fault if len(self.seen) - 1 == self.at else ""


class _Request(socketserver.StreamRequestHandler):
    server: Line

    def handle(self) -> None:
        head, body = self._read()
        if not head:
            return
        fault = self.server.fault_of(head.split(b"\r\n")[0].decode())
        if fault in ANSWERS:
            self.wfile.write(ANSWERS[fault] + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        if fault == "cut request":
            self._forward(head + body[: len(body) // 2], whole=False)
            return
        answer = self._forward(head + body)
        if fault == "silence":
            self.connection.settimeout(SILENCE_S)
            with contextlib.suppress(OSError):
                self.connection.recv(1)
            return
        if fault == "cut answer":
            head, _, body = answer.partition(b"\r\n\r\n")
            answer = head + b"\r\n\r\n" + body[: len(body) // 2] if body else head[: len(head) // 2]
        with contextlib.suppress(OSError):
            self.wfile.write(answer)

    def _read(self) -> tuple[bytes, bytes]:
        """The head, asking the hub to close after its answer, and the body as it came."""
        lines = []
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            if not line.lower().startswith(b"connection:"):
                lines.append(line)
        head = b"".join(lines)
        length = re.search(rb"(?i)^content-length: *(\d+)", head, re.M)
        body = self.rfile.read(int(length[1])) if length else b""
        if re.search(rb"(?i)^transfer-encoding: *chunked", head, re.M):
            while not body.endswith(b"0\r\n\r\n"):
                body += self.rfile.readline()
        return (head + b"Connection: close\r\n\r\n" if head else b""), body

    def _forward(self, request: bytes, whole: bool = True) -> bytes:
        try:
            with socket.create_connection(self.server.hub) as hub:
                hub.sendall(request)
                return b"".join(iter(lambda: hub.recv(65_536), b"")) if whole else b""
        except ConnectionError:  # no hub there, so no answer
            return b""


@contextlib.contextmanager
def bad_line(hub: str, kind: type[Line] = Line) -> Iterator[Line]:
    """A line to the hub at this address while the block runs; it works until `spoil` is called."""
    with kind(hub) as line:
        thread = threading.Thread(target=line.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield line
        finally:
            line.shutdown()
            thread.join(60)
