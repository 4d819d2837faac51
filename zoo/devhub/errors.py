"""What the Hub refuses, as the client expects to hear it: a status, a sentence and an `X-Error-Code`.

The client turns the codes into its exceptions (RepositoryNotFoundError, RevisionNotFoundError,
RemoteEntryNotFoundError); a refusal without a code becomes a plain HfHubHTTPError.
"""


class HubError(Exception):
    """A request that the Hub refuses."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {
            "X-Error-Message": header_text(message),
            **({"X-Error-Code": code} if code else {}),
            **(headers or {}),
        }


def bad_request(message: str) -> HubError:
    return HubError(400, message)


def login_needed() -> HubError:
    return HubError(401, "Invalid username or password.")


def forbidden(message: str) -> HubError:
    return HubError(403, message)


def repo_not_found(user: str | None) -> HubError:
    """Absent or private; who is not logged in gets 401, for logging in might help."""
    return HubError(404 if user else 401, "Repository not found", "RepoNotFound")


def revision_not_found(revision: str) -> HubError:
    return HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def entry_not_found(path: str, commit: str) -> HubError:
    """`X-Repo-Commit` lets the client remember that this commit lacks the file."""
    return HubError(404, f"{path} does not exist at {commit}", "EntryNotFound", {"X-Repo-Commit": commit})


def header_text(text: str) -> str:
    """Text that may stand in an HTTP header: printable ASCII, anything else escaped."""
    return text.encode("unicode_escape").decode("ascii")
