"""What an error of the Hub means in words, and what to do: never request headers, addresses or tokens."""

from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)

from leaderboard.errors import P2Error, RunFailed

PASSING = (408, 412, 425, 429, 500, 502, 503, 504)  # 412: somebody else committed in between; look again
AGAIN = "Do the same again: what was done is found, nothing is doubled."
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
