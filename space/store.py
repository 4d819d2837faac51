"""The state of the data that is served, and how it is renewed.

A new state is read and made ready in the background while the old one goes on answering; then one assignment puts it in
place. A source that fails leaves the old state, and what went wrong is kept for the About page.
"""

import threading
from dataclasses import dataclass

from leaderboard import load_logs
from leaderboard.board import Board
from leaderboard.errors import P2Error


@dataclass
class Store:
    """`board` is what is served; `problem` says why it could not be renewed last time."""

    source: str | None
    board: Board
    problem: str | None = None

    @classmethod
    def open(cls, source: str | None) -> "Store":
        """Serve `source` (None: the bundled seed), or the seed where the source cannot be read."""
        try:
            return cls(source, Board(load_logs(source)))
        except P2Error as error:
            return cls(source, Board(load_logs()), str(error))

    def warm(self) -> threading.Thread:
        """Work out, in the background, what visitors ask first."""
        thread = threading.Thread(target=self.board.ready, name="warm", daemon=True)
        thread.start()
        return thread
