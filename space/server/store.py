"""The state of the data that is served, and how it is renewed.

A new state is read and made ready in the background while the old one goes on answering; then one assignment puts it in
place. A source that fails leaves the old state, and what went wrong is kept for the About page.
"""

import contextlib
import ctypes
import logging
import threading
from dataclasses import dataclass, field, replace

from leaderboard import load_logs
from leaderboard.errors import P2Error
from leaderboard.logs.frame import Logs
from leaderboard.serving.board import Board

logger = logging.getLogger(__name__)
EVERY_S = 600.0


@dataclass
class Store:
    """`board` is what is served; `problem` says why it could not be renewed last time. `source` None is the seed."""

    source: str | None
    board: Board
    problem: str | None = None
    _asked: threading.Event = field(default_factory=threading.Event, repr=False)
    _one: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _closed: bool = False

    @classmethod
    def open(cls, source: str | None, mounted: str | None = None) -> "Store":
        """Serve `source`; where it cannot be read, the copy `mounted` here or the bundled seed, with a note."""
        try:
            return cls(source, _board(load_logs(source)))
        except P2Error as error:
            return cls(source, Board(_instead(mounted, str(error))), str(error))

    def warm(self) -> threading.Thread:
        """Work out, in the background, what visitors ask first."""

        def work() -> None:
            self.board.ready()
            _give_back()

        thread = threading.Thread(target=work, name="warm", daemon=True)
        thread.start()
        return thread

    def refresh(self) -> bool:
        """Read the source again and serve what is new; whether something was. Never raises: see `problem`."""
        with self._one:
            try:
                logs = load_logs(self.source)
                new = _state(logs) != _state(self.board.logs)
                if logs.revision != self.board.logs.revision:
                    self.board = _board(logs).ready()
                    _give_back()
                elif new:
                    self.board = self.board.told_of(logs)
                self.problem = logs.note
            except P2Error as error:
                self.problem = str(error)
                return False
            except Exception as error:  # a bug must not end the service of the old state
                logger.exception("refresh")
                self.problem = f"{self.source}: could not be read again ({type(error).__name__}); the log says more."
                return False
            return new

    def keep_fresh(self, every: float = EVERY_S) -> None:
        """Refresh in the background: every so many seconds, and soon after `ask`; until `close`."""

        def work() -> None:
            while not self._closed:
                self._asked.wait(every)
                self._asked.clear()  # what is asked from here on may be newer than what is read now
                if not self._closed:
                    self.refresh()

        threading.Thread(target=work, name="refresh", daemon=True).start()

    def ask(self) -> None:
        """Have it refreshed now. Many calls while one is under way are one."""
        self._asked.set()

    def close(self) -> None:
        """Stop refreshing."""
        self._closed = True
        self._asked.set()


def _give_back() -> None:
    """Return to the system what fits and resamples used: glibc keeps it, a third of the memory at 2,000 runs."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _state(logs: Logs) -> tuple[object, ...]:
    """What tells one state of the data from another; the rows alone make the answers."""
    return logs.revision, logs.quarantined, logs.note, logs.source


def _board(logs: Logs) -> Board:
    """A board that has something to say; raises P2Error where no run can be fitted."""
    board = Board(logs)
    if not board.usable:
        raise P2Error(f"{logs.source}: no run here can be fitted (tokens > warmup_tokens, something pruned).")
    return board


def _instead(mounted: str | None, why: str) -> Logs:
    """What to serve when the source cannot be read at the start."""
    if mounted:
        try:
            return replace(load_logs(mounted), note=f"{why} This is the copy mounted here.")
        except P2Error:
            pass  # not mounted, or empty
    return replace(load_logs(), note=f"{why} These are the runs bundled with p2zoo.")
