"""Strangers' files are read in a process of its own, so that whatever one of them does is told and stops nobody else.

`messages` runs a function in a child with limits of memory and time, and gives what it yields: plain values and some
bytes. A child that is done waits for the next call; one that dies, or says nothing for too long, is gone, and
`ReaderError` says how. A child knows its folder of code, and nothing of its parent's secrets. What it sends is JSON and
bytes, never pickles: nothing that it says is run here.
"""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

MEMORY = 2_000_000_000  # bytes that a child may take on top of what it has once all is imported
SILENCE_S = 60  # seconds until a child that says nothing is ended; the largest log takes one
KEPT = 2  # children that wait for the next call
IDLE_S = 120  # seconds until one that waits ends by itself
_HERE = str(Path(__file__).resolve().parents[1])
_PASSED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "OMP_NUM_THREADS", "SYSTEMROOT")  # of the environment
deaths = 0  # children that died at work since this process began


class ReaderError(Exception):
    """A child ended, or had to be ended, before it was done; its text says how."""


def messages(entry: str, request: dict[str, Any], *, silence_s: float = SILENCE_S) -> Iterator[tuple[Any, bytes]]:
    """What `entry` ("module:function") yields for `request` in a child: pairs of JSON values and bytes.

    `request` is JSON values. Raises ReaderError where the child ends early or is silent for `silence_s` seconds.
    """
    global deaths
    child = _take()
    done = False
    try:
        yield from child.work(entry, request, silence_s)
        done = True
    except ReaderError:
        deaths += 1
        raise
    finally:
        _give_back(child) if done else child.end()


class _Child:
    """One process that works on calls, one after another."""

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, (_HERE, os.environ.get("PYTHONPATH", ""))))
        env = {name: os.environ[name] for name in _PASSED if name in os.environ} | {"PYTHONPATH": path}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "leaderboard.apart", str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, start_new_session=True,
        )  # fmt: skip
        self._rest = b""

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def work(self, entry: str, request: dict[str, Any], silence_s: float) -> Iterator[tuple[Any, bytes]]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it is dead: told below
            self._process.stdin.write(json.dumps([entry, request]).encode() + b"\n")
            self._process.stdin.flush()
        while True:
            size, done = (int(word) for word in self._line(silence_s).split())
            value = json.loads(self._line(silence_s))
            payload = self._exactly(size, silence_s)
            if done:
                return
            yield value, payload

    def _line(self, silence_s: float) -> bytes:
        while b"\n" not in self._rest:
            self._rest += self._more(silence_s)
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _exactly(self, size: int, silence_s: float) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < size:
            parts.append(self._more(silence_s))
            have += len(parts[-1])
        whole = b"".join(parts)
        self._rest = whole[size:]
        return whole[:size]

    def _more(self, silence_s: float) -> bytes:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], silence_s)
        if not ready:
            raise ReaderError(f"what took more than {silence_s:g} s to read")
        if more := os.read(self._process.stdout.fileno(), 1 << 20):
            return more
        code = self._process.wait()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise ReaderError(f"what ended the process that read it ({name})")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


_waiting: list[_Child] = []
_lock = threading.Lock()
_owner = os.getpid()


def _take() -> _Child:
    global _owner
    with _lock:
        if _owner != os.getpid():  # a fork: these are its parent's
            _waiting.clear()
            _owner = os.getpid()
        while _waiting:
            child = _waiting.pop()
            if child.alive:
                return child
            child.end()
    return _Child()


def _give_back(child: _Child) -> None:
    with _lock:
        if len(_waiting) < KEPT:
            _waiting.append(child)
            return
    child.end()


@atexit.register
def _end_all() -> None:
    if _owner == os.getpid():
        for child in _waiting:
            child.end()
        _waiting.clear()


# --- the child's side ---


def _serve(parent: int) -> None:
    """Work on calls until there are none, the parent is gone, or nothing came for IDLE_S seconds."""
    calls, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    import_module("leaderboard.logs.check")
    _limit()
    while select.select([calls], [], [], IDLE_S)[0] and os.getppid() == parent and (line := calls.readline()):
        entry, request = json.loads(line)
        module, _, function = entry.partition(":")
        for value, payload in getattr(import_module(module), function)(**request):
            _answer(answers, value, payload)
        _answer(answers, None, b"", done=True)


def _answer(answers: BinaryIO, value: Any, payload: bytes, *, done: bool = False) -> None:
    answers.write(b"%d %d\n%s\n" % (len(payload), done, json.dumps(value).encode()))
    answers.write(payload)
    answers.flush()


def _limit() -> None:
    """No more memory than MEMORY on top of today's, and no core dumps, where the system knows such limits."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
