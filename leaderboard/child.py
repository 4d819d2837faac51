"""A child process in which strangers' files are opened: whatever a file does, it does to the child.

Parsers are C++; a file of a few kB can end the process that reads it, fill its memory or never be done. A template
process imports what reading needs, once, and reads nothing; each `Child` is a fork of it, made in a few ms, with limits
of memory and time that the kernel keeps. It knows of this process only what a call hands over: no environment (and so
no token), no open file. Its answers are JSON and bytes, never pickles. What ends it is raised here as `Died`.

On a system without fork, calls run in this process.
"""

import atexit
import importlib
import json
import logging
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from leaderboard.errors import P2Error, RunFailed

logger = logging.getLogger(__name__)
Answer = tuple[Any, Sequence[bytes]]  # what JSON can hold, and bytes beside it
MOST = max(1, min(4, os.cpu_count() or 1))  # children alive at once
WAIT_S = 60.0  # for a free place among them
MEMORY, TIME, CRASH, FAULT = "memory", "time", "crash", "fault"  # what ended a child
FORK = hasattr(os, "fork") and hasattr(socket, "send_fds")
PRELOAD = ("leaderboard.importing", "leaderboard.logs.check")  # and all that they import
_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_OWN = {  # of the template's environment: one thread, and memory that the system counts as it is used
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system", "JE_ARROW_MALLOC_CONF": "background_thread:false",
}  # fmt: skip
_BY_SIGNAL = {signal.SIGPROF: TIME, signal.SIGALRM: TIME, signal.SIGXCPU: TIME, signal.SIGKILL: MEMORY} if FORK else {}
_HERE = str(Path(__file__).resolve().parent.parent)


@dataclass(frozen=True)
class Limits:
    """Of one answer: bytes beyond what the child begins with, seconds of processor and of the clock."""

    memory: int = 400_000_000
    cpu_s: float = 20.0
    clock_s: float = 120.0


class Died(Exception):  # noqa: N818 - says what happened
    """A child ended before it had answered: `reason` for programs, the text for people."""

    def __init__(self, reason: str, words: str):
        super().__init__(words)
        self.reason = reason


class Child:
    """One child: `answers` calls a function in it. A context manager; many calls, one after another."""

    def __init__(self, limits: Limits = Limits()):
        self.limits = limits
        self._connection: Connection | None = None
        self._status = -1

    def __enter__(self) -> "Child":
        if FORK and not _inside:
            if not _places.acquire(timeout=WAIT_S):
                raise RunFailed("Too many files are being read at this moment; try again in a minute.")
            try:
                self._connection, self._status = _template().fork()
            except BaseException:
                _places.release()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()  # by which it ends
            self._connection = None
            os.close(self._status)
            _places.release()

    def call(self, function: str, *arguments: Any) -> Answer:
        """The one answer of a function."""
        (answer,) = self.answers(function, *arguments)
        return answer

    def answers(self, function: str, *arguments: Any) -> Iterator[Answer]:
        """What the generator `module:function` yields in the child, one by one; the limits hold for each.

        Raises the P2Error that the function raises, and Died where the child ended.
        """
        if self._connection is None:
            yield from _resolved(function)(*arguments)
            return
        try:
            self._connection.send_bytes(pickle.dumps((function, arguments, self.limits)))
            while (answer := _received(self._connection)) is not None:
                yield answer
        except (EOFError, ConnectionError) as error:
            raise self._death() from error

    def _death(self) -> Died:
        """Why it ended, as the template tells. Raises RunFailed where the template itself is gone."""
        words = os.read(self._status, 20) if select.select([self._status], [], [], 10)[0] else b""
        if not words:
            raise RunFailed("The process that reads files is gone; try again, it is started anew.")
        code = int(words)
        reason = _BY_SIGNAL.get(-code, CRASH)  # type: ignore[call-overload]
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return _died(reason, {MEMORY: "its memory was not enough", TIME: "it took too long"}.get(reason, name))


def call(function: str, *arguments: Any, limits: Limits = Limits()) -> Answer:
    """The one answer of a function called in a child of its own."""
    with Child(limits) as child:
        return child.call(function, *arguments)


def prepare() -> None:
    """Let the template import, beside what this process does meanwhile."""
    if FORK and not _inside:
        _template()


def health() -> dict[str, Any]:
    """How many children ended before they had answered, by reason, and how many seconds ago the last one did."""
    ago = None if _last_death is None else round(time.monotonic() - _last_death, 1)
    return {"died": dict(_deaths), "last_death_s_ago": ago}


def inside() -> bool:
    """Whether this process is such a child."""
    return _inside


# --- this side ---

_inside = False
_places = threading.BoundedSemaphore(MOST)
_deaths: Counter[str] = Counter()
_last_death: float | None = None


def _died(reason: str, words: str) -> Died:
    global _last_death
    _deaths[reason] += 1
    _last_death = time.monotonic()
    return Died(reason, words)


def _received(connection: Connection) -> Answer | None:
    """The next answer; None after the last."""
    head = json.loads(connection.recv_bytes())
    if head["kind"] == "end":
        return None
    if head["kind"] == "refused":
        raise RunFailed(head["value"]) if head["failed"] else P2Error(head["value"])
    if head["kind"] == FAULT:
        logger.warning("a child could not read a file:\n%s", head["trace"])
        raise _died(head["reason"], head["value"])
    return head["value"], [connection.recv_bytes() for _ in range(head["blobs"])]


class _Template:
    """The process that forks children; it ends with this one."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        self._lock = threading.Lock()
        path = os.pathsep.join(filter(None, (_HERE, os.environ.get("PYTHONPATH", ""))))
        env = {name: os.environ[name] for name in _KEPT if name in os.environ} | _OWN | {"PYTHONPATH": path}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "leaderboard.child", str(theirs.fileno())], pass_fds=[theirs.fileno()],
                env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip

    def fork(self) -> tuple[Connection, int]:
        """The connection to a new child, and where its end is told. OSError where the template is gone."""
        ours, theirs = socket.socketpair()
        status, told = os.pipe()
        try:
            with theirs, self._lock:
                socket.send_fds(self._control, [b"+"], [theirs.fileno(), told])
        except BaseException:
            ours.close()
            os.close(status)
            raise
        finally:
            os.close(told)
        return Connection(ours.detach()), status

    def alive(self) -> bool:
        return self._process.poll() is None

    def forget(self) -> None:
        """Leave it to the process that this one was forked from."""
        self._control.close()
        self._process.returncode = 0

    def end(self) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()


_the_template: _Template | None = None
_starting = threading.Lock()


def _template() -> _Template:
    global _the_template
    with _starting:
        if _the_template is None or not _the_template.alive():
            if _the_template is not None:
                _the_template.end()
            _the_template = _Template()
        return _the_template


def _end() -> None:
    if _the_template is not None:
        _the_template.end()


def _forget() -> None:
    """A fork of this process has a template of its own."""
    global _the_template, _starting, _places
    if _the_template is not None:
        _the_template.forget()
    _the_template, _starting, _places = None, threading.Lock(), threading.BoundedSemaphore(MOST)


atexit.register(_end)
if FORK:
    os.register_at_fork(after_in_child=_forget)


# --- the template's side ---


def _serve(control: socket.socket) -> tuple[int, int]:
    """Fork for every request until the owner is gone. Returns only in a child: its connection, and a file to close."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    told: dict[int, int] = {}  # child: where its end is told
    while True:
        ready, _, _ = select.select([control.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 1000)
            _bury(told)
        if control.fileno() in ready:
            message, files, _, _ = socket.recv_fds(control, 1, 2)
            if not message:
                os._exit(0)
            connection, status = files
            if (child := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                control.close()
                for file in (woken, wake, status, *told.values()):
                    os.close(file)
                return connection, status
            os.close(connection)
            told[child] = status


def _bury(told: dict[int, int]) -> None:
    """Say how the children ended that are no more."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            file = told.pop(ended[0])
            with suppress(BrokenPipeError):  # nobody asks
                os.write(file, b"%d" % os.waitstatus_to_exitcode(ended[1]))
            os.close(file)


# --- the child's side ---


def _work(connection: Connection) -> None:
    """Answer calls until nobody is there to ask."""
    global _inside
    _inside = True
    base = _data_bytes()
    while True:
        try:
            function, arguments, limits = pickle.loads(connection.recv_bytes())
            _limit(base, limits)
            _answer(connection, function, arguments, limits)
            _timers(0, 0)
        except (EOFError, ConnectionError):
            return


def _answer(connection: Connection, function: str, arguments: Sequence[Any], limits: Limits) -> None:
    head: dict[str, Any] = {"kind": "end"}
    try:
        _timers(limits.cpu_s, limits.clock_s)
        for value, blobs in _resolved(function)(*arguments):
            connection.send_bytes(json.dumps({"kind": "answer", "value": value, "blobs": len(blobs)}).encode())
            for blob in blobs:
                connection.send_bytes(blob)
            _timers(limits.cpu_s, limits.clock_s)
    except P2Error as error:
        head = {"kind": "refused", "value": str(error), "failed": isinstance(error, RunFailed)}
    except MemoryError:
        head = {"kind": FAULT, "reason": MEMORY, "value": "its memory was not enough", "trace": "MemoryError"}
    except ConnectionError:
        raise
    except Exception as error:
        trace = "".join(traceback.format_exception(error)[-20:])[-4000:]
        head = {"kind": FAULT, "reason": FAULT, "value": type(error).__name__, "trace": trace}
    connection.send_bytes(json.dumps(head).encode())


def _resolved(name: str) -> Callable[..., Iterator[Answer]]:
    module, _, function = name.partition(":")
    resolved: Callable[..., Iterator[Answer]] = getattr(importlib.import_module(module), function)
    return resolved


def _timers(cpu_s: float, clock_s: float) -> None:
    """From here on so long; then the kernel ends this process, whatever it is doing."""
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    signal.setitimer(signal.ITIMER_REAL, clock_s)


def _limit(base: int | None, limits: Limits) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if base is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (base + limits.memory, resource.RLIM_INFINITY))
    with suppress(OSError):  # where memory is short, this one goes first
        Path("/proc/self/oom_score_adj").write_text("1000")


def _data_bytes() -> int | None:
    """What RLIMIT_DATA counts of this process now; None where nobody says."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), None)


def _main(file: int) -> NoReturn:
    import gc

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, with whom this ends
    for name in PRELOAD:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what was imported is not copied by the children's collectors
    connection, _ = _serve(socket.socket(fileno=file))
    _work(Connection(connection))
    os._exit(0)


if __name__ == "__main__":
    from leaderboard import child  # the module that others import, not this copy named __main__

    child._main(int(sys.argv[1]))
