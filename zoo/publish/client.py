"""Talking to the Hub over a bad line: try again what may yet succeed, say in words what cannot (hub_errors.py).

A step given to `Patience` must look at what the Hub has before it acts, so that doing it twice does nothing twice:
a request whose answer was lost may have been carried out.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from huggingface_hub.errors import HfHubHTTPError

from leaderboard.logs.hub_errors import cause_of, explain, passing

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """Up to `attempts` tries of a step, `first_s` x 2^n seconds apart with jitter, `most_s` at most."""

    attempts: int = 6
    first_s: float = 1.0
    most_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, doing: str, step: Callable[[], T]) -> T:
        """What `step` returns. Raises P2Error or RunFailed, `doing` first, when it cannot be done."""
        for attempt in range(self.attempts):
            try:
                return step()
            except Exception as error:
                cause = cause_of(error)
                if cause is None:
                    raise
                if attempt == self.attempts - 1 or not passing(cause):
                    raise explain(cause, doing) from None  # the chain may show signed addresses
                self.sleep(self._pause(attempt, cause))
        raise AssertionError("attempts must be 1 or more")

    def _pause(self, attempt: int, error: Exception) -> float:
        """Seconds to wait, as long as the Hub asked for at least."""
        asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
        wait = min(self.most_s, self.first_s * 2**attempt) * random.uniform(0.5, 1.0)
        return max(wait, float(asked)) if asked.isdigit() else wait
