"""Talking to the Hub over a bad line: try again what may yet succeed, say in words what cannot.

The words say what an error means and what to do, and never repeat request headers, signed addresses or tokens. A step
given to `Patience` must look at what the Hub has before it acts, so that doing it twice does nothing twice: a request
whose answer was lost may have been carried out.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from json import JSONDecodeError
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from leaderboard.errors import P2Error, RunFailed
from leaderboard.words import address

T = TypeVar("T")
PASSING = (408, 412, 425, 429, 500, 502, 503, 504)  # 412: somebody else committed in between; look again
AGAIN = "Do the same again: what was done is found, nothing is doubled."
OF_THE_HUB = (
    HfHubHTTPError,
    HFValidationError,
    httpx2.TransportError,
    JSONDecodeError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)
WORDS = {
    401: "not signed in, or the token is no longer valid. Sign in with `hf auth login`, or set HF_TOKEN.",
    403: "your token may not do this. It needs write access, to a namespace that is yours or your organization's.",
    404: "not found, or private and not yours. Check the spelling and who is signed in (`hf auth whoami`).",
    412: f"somebody else keeps committing there at the same time. {AGAIN}",
    429: f"the Hub asks to slow down. Wait some minutes. {AGAIN}",
}


@dataclass(frozen=True)
class Patience:
    """Up to `attempts` tries of a step, `first_s` x 2^n seconds apart with jitter, `most_s` at most.

    Where the Hub says how long to wait, it is that long, but no longer than `patient_s`.
    """

    attempts: int = 6
    first_s: float = 1.0
    most_s: float = 30.0
    patient_s: float = 300.0
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, doing: str, step: Callable[[], T]) -> T:
        """What `step` returns. Raises P2Error or RunFailed, `doing` first, when it cannot be done."""
        try:
            return self.insist(step)
        except Exception as error:
            cause = cause_of(error)
            if cause is None:
                raise
            raise explain(cause, doing) from None  # the chain may show signed addresses

    def insist(self, step: Callable[[], T]) -> T:
        """What `step` returns. Its own error where trying again does not help."""
        for attempt in range(self.attempts):
            try:
                return step()
            except Exception as error:
                cause = cause_of(error)
                if cause is None or attempt == self.attempts - 1 or not passing(cause):
                    raise
                self.sleep(self._pause(attempt, cause))
        raise AssertionError("attempts must be 1 or more")

    def _pause(self, attempt: int, error: Exception) -> float:
        """Seconds to wait, as long as the Hub asked for at least."""
        asked: str = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
        wait = min(self.most_s, self.first_s * 2.0**attempt) * random.uniform(0.5, 1.0)
        return max(wait, min(float(asked), self.patient_s)) if asked.isdigit() else wait


def link(path: str) -> str:
    """The page of a repository (`owner/name`, `datasets/owner/name`) on the Hub of this process, mirror or not."""
    return f"{address(constants.ENDPOINT)}/{path}"


def by_proxy() -> str:
    """A sentence on the proxy that stands between here and the Hub; empty where there is none."""
    hub = urlsplit(address(constants.ENDPOINT))
    proxies = getproxies()
    kind = hub.scheme if proxies.get(hub.scheme) else "all"
    proxy = urlsplit(proxies.get(kind, ""))
    if not proxy.netloc or proxy_bypass(hub.netloc):
        return ""
    return (
        f" All goes through the proxy {address(proxies[kind])} ({kind.upper()}_PROXY): see that it lets "
        f"{hub.netloc} pass, or name that host in NO_PROXY."
    )


def closed_meanwhile(error: BaseException) -> bool:
    """Whether another thread closed the client that this one was about to use; asking again opens a new one.

    huggingface_hub shares one client in a process and closes it where a connection is refused (`http_backoff`); a
    thread beside it then finds it closed, or finds none.
    """
    closed = isinstance(error, RuntimeError) and "client has been closed" in str(error)
    gone = isinstance(error, AttributeError) and error.obj is None and error.name in ("request", "stream", "send")
    return closed or gone


def passing(error: Exception) -> bool:
    """Whether asking again may help."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in PASSING
    # JSONDecodeError: a page of words where JSON was due
    return isinstance(error, httpx2.TransportError | JSONDecodeError) or closed_meanwhile(error)


def cause_of(error: BaseException) -> Exception | None:
    """The Hub's own error behind `error`, None where there is none: the client wraps some in others."""
    for link in _chain(error):
        if isinstance(link, OF_THE_HUB) or (isinstance(link, Exception) and closed_meanwhile(link)):
            return link
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def offline() -> bool:
    """Whether the user asked for no network."""
    return constants.HF_HUB_OFFLINE or os.environ.get("P2ZOO_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def unreadable(error: Exception, name: str, page: str, instead: str, revision: str | None = None) -> P2Error:
    """The error to raise where `name` cannot be read: `page` is its address, `instead` says what else will do."""
    if isinstance(error, GatedRepoError):
        return P2Error(
            f"{name} is gated: accept its licence at {page}, then sign in with `hf auth login` (or set HF_TOKEN) with "
            "a token that may read it."
        )
    if isinstance(error, RevisionNotFoundError):
        return P2Error(f"{name} has no revision {revision!r}; its commits are at {page}/commits.")
    if isinstance(error, RepositoryNotFoundError):
        return P2Error(
            f"{name} is not on the Hub, or is private: see {page}. Check the spelling, or sign in with `hf auth login` "
            f"as who may read it; {instead}."
        )
    if isinstance(error, HFValidationError):
        return P2Error(f"{name} is no Hub id; write owner/name; {instead}.")
    if isinstance(error, OfflineModeIsEnabled) or offline():
        return P2Error(
            f"{name} is not whole in the cache of this machine, and HF_HUB_OFFLINE (or P2ZOO_OFFLINE) is set: fetch it "
            f"with `hf download` where there is a network, or unset that; {instead}."
        )
    if isinstance(error, HfHubHTTPError):
        return explain(error, name)
    return P2Error(
        f"{name} cannot be fetched: the Hub is out of reach from here ({type(error).__name__}).{by_proxy()} Retry; "
        f"{instead}."
    )


def explain(error: Exception, doing: str) -> P2Error:
    """The error to raise instead, `doing` first; RunFailed where trying again may help."""
    if isinstance(error, LocalTokenNotFoundError):
        return P2Error(f"{doing}: {WORDS[401]}")
    if isinstance(error, HFValidationError):
        return P2Error(f"{doing}: that is no name on the Hub; write OWNER/NAME, without an address before it.")
    if isinstance(error, OfflineModeIsEnabled):
        return P2Error(f"{doing}: HF_HUB_OFFLINE is set; unset it to talk to the Hub.")
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        said = f" The Hub says: {error.server_message}" if error.server_message else ""
        if status in WORDS:
            kind = RunFailed if status in PASSING else P2Error
            return kind(f"{doing}: {WORDS[status]} (HTTP {status}){said}{by_proxy() if status == 403 else ''}")
        if status >= 500:
            return RunFailed(f"{doing}: the Hub has trouble (HTTP {status}). {AGAIN}{said}{by_proxy()}")
        return P2Error(f"{doing}: the Hub refused (HTTP {status}).{said}{by_proxy()}")
    return RunFailed(f"{doing}: the Hub does not answer ({type(error).__name__}). {AGAIN}{by_proxy()}")
