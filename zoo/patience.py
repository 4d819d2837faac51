"""Talking to the Hub over a bad line: try again what may yet succeed, say in words what cannot.

A step given to `Patience` must look at what the Hub has before it acts, so that doing it twice does nothing twice:
a request whose answer was lost may have been carried out.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from json import JSONDecodeError
from typing import TypeVar

import httpx2
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from leaderboard.errors import P2Error, RunFailed

T = TypeVar("T")
_OF_THE_HUB = (
    HfHubHTTPError,
    httpx2.TransportError,
    JSONDecodeError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)
PASSING = (408, 412, 425, 429, 500, 502, 503, 504)  # 412: somebody else committed in between; look again
AGAIN = "Run the same command again: what was done is found, nothing is doubled."
WORDS = {
    401: "not signed in, or the token is no longer valid. Sign in with `hf auth login`, or set HF_TOKEN.",
    403: "your token may not do this. It needs write access, to a namespace that is yours or your organization's.",
    404: "not found, or private and not yours. Check the spelling and who is signed in (`hf auth whoami`).",
    412: f"somebody else keeps committing there at the same time. {AGAIN}",
    429: f"the Hub asks to slow down. Wait some minutes. {AGAIN}",
}


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
            except (httpx2.TransportError, JSONDecodeError, OSError, RuntimeError) as error:
                cause = _hub_error(error)
                if cause is None:
                    raise
                if attempt == self.attempts - 1 or not _passing(cause):
                    raise explain(cause, doing) from None  # the chain may show signed addresses
                self.sleep(self._pause(attempt, cause))
        raise AssertionError("attempts must be 1 or more")

    def _pause(self, attempt: int, error: Exception) -> float:
        """Seconds to wait, as long as the Hub asked for at least."""
        asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
        wait = min(self.most_s, self.first_s * 2**attempt) * random.uniform(0.5, 1.0)
        return max(wait, float(asked)) if asked.isdigit() else wait


def explain(error: Exception, doing: str) -> P2Error:
    """What an error of the Hub means, and what to do. It never repeats request headers or addresses."""
    if isinstance(error, LocalTokenNotFoundError):
        return P2Error(f"{doing}: {WORDS[401]}")
    if isinstance(error, OfflineModeIsEnabled):
        return P2Error(f"{doing}: HF_HUB_OFFLINE is set; unset it to talk to the Hub.")
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        said = f" The Hub says: {error.server_message}" if error.server_message else ""
        if status in WORDS:
            kind = RunFailed if status in PASSING else P2Error
            return kind(f"{doing}: {WORDS[status]} (HTTP {status}){said}")
        if status >= 500:
            return RunFailed(f"{doing}: the Hub has trouble (HTTP {status}). {AGAIN}{said}")
        return P2Error(f"{doing}: the Hub refused (HTTP {status}).{said}")
    return RunFailed(f"{doing}: the Hub does not answer ({type(error).__name__}). {AGAIN}")


def _passing(error: Exception) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in PASSING
    return isinstance(error, httpx2.TransportError | JSONDecodeError)  # a page of words where JSON was due


def _hub_error(error: BaseException) -> Exception | None:
    """The Hub's own error behind `error`: the client wraps some in others."""
    for link in _chain(error):
        if isinstance(link, _OF_THE_HUB):
            return link
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
