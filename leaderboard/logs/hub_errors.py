"""What an error of the Hub means in words, and what to do: never request headers, addresses or tokens."""

from collections.abc import Iterator
from json import JSONDecodeError

import httpx2
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
    if isinstance(error, OfflineModeIsEnabled):
        return P2Error(f"{name}: HF_HUB_OFFLINE is set; unset it to talk to the Hub; {instead}.")
    if isinstance(error, HfHubHTTPError):
        return explain(error, name)
    return P2Error(
        f"{name} cannot be fetched: the Hub is out of reach from here ({type(error).__name__}). Retry; {instead}."
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
            return kind(f"{doing}: {WORDS[status]} (HTTP {status}){said}")
        if status >= 500:
            return RunFailed(f"{doing}: the Hub has trouble (HTTP {status}). {AGAIN}{said}")
        return P2Error(f"{doing}: the Hub refused (HTTP {status}).{said}")
    return RunFailed(f"{doing}: the Hub does not answer ({type(error).__name__}). {AGAIN}")
