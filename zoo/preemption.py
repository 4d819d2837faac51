"""SIGTERM with a grace period: save a checkpoint, then leave with an exit code that says "resume me".

While a model trains, the step under way is finished and saved. Elsewhere the process leaves at once; every station
that was complete by then is on disk.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from leaderboard.errors import RunFailed


class Preempted(RunFailed):
    """The run was asked to leave; the same command with --resume goes on."""

    exit_code = 75  # EX_TEMPFAIL: nothing is wrong, try again later


class Stop:
    """`asked` once SIGTERM came; `later` while somebody looks at it; `kept` once there is something to go on from."""

    def __init__(self) -> None:
        self.asked = False
        self.later = False
        self.kept = False

    def __call__(self, *_: Any) -> None:
        self.asked = True
        if not self.later:
            raise preempted("with what was done so far saved" if self.kept else None)

    @contextmanager
    def training(self) -> Iterator[None]:
        """SIGTERM is only noted while this block runs, which looks at `asked` itself."""
        self.later = True
        try:
            yield
        finally:
            self.later = False


def preempted(saved: str | None) -> Preempted:
    """The error to leave with; None where nothing was saved yet."""
    if saved is None:
        return Preempted("stopped by SIGTERM before anything was saved; the same command with --resume starts anew.")
    return Preempted(f"stopped by SIGTERM {saved}; the same command with --resume goes on.")


@contextmanager
def heed_sigterm() -> Iterator[Stop]:
    """SIGTERM means stop, not die, while the block runs; only a main thread can hear it."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
