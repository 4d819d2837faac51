"""Who asks, what they may do, and what a request is about: the dependencies of every route.

Anyone reads public repositories; a private one exists only for its owner. Whoever is logged in may open
pull requests and discussions and comment. Only the owner writes to branches and tags, changes the
repository and merges; the author of a pull request may write to its ref, rename, close and reopen it.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from leaderboard.errors import P2Error
from zoo.devhub import webhook
from zoo.devhub.errors import HubError, bad_request, forbidden, login_needed, repo_not_found, revision_not_found
from zoo.devhub.storage import grants, pulls, repos
from zoo.devhub.storage.pulls import Discussion
from zoo.devhub.storage.repos import NAME, Repo
from zoo.devhub.storage.store import MAIN, Store

_PULL_REF = re.compile(r"refs/pr/([1-9]\d{0,8})")


@dataclass(frozen=True)
class Hub:
    """A running hub. `users` maps names to tokens, which are kept in memory only."""

    store: Store
    users: Mapping[str, str] = field(repr=False)
    sender: webhook.Sender | None = None

    def user_of(self, token: str) -> str | None:
        """Whose token it is: one of their own, or one that an app got by signing them in."""
        given = token.encode()
        if claims := grants.bearer(self.sign, token):
            return claims["user"] if claims["user"] in self.users else None
        return next((name for name, known in self.users.items() if hmac.compare_digest(known.encode(), given)), None)

    def sign(self, text: str) -> str:
        """A signature that the same users' hub recognises after a restart."""
        key = hashlib.sha256("\n".join(sorted(self.users.values())).encode()).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def check_users(users: Mapping[str, str]) -> None:
    """Refuse what could not log in; never names a token."""
    if not users:
        raise P2Error("hub: no users; give at least one name with its token.")
    for name, token in users.items():
        if not NAME.fullmatch(name):
            raise P2Error(f"hub: {name!r} is no user name: letters, digits, '-', '_' and '.' are allowed.")
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise P2Error(f"hub: the token of user {name!r} is empty or has characters that no header can carry.")
    if len(set(users.values())) < len(users):
        raise P2Error("hub: two users have the same token; give each their own.")


async def running_hub(request: Request) -> Hub:
    hub: Hub = request.app.state.hub
    return hub


TheHub = Annotated[Hub, Depends(running_hub)]


async def caller(request: Request, hub: TheHub) -> str | None:
    """The name behind the token, None without one; a wrong token is refused."""
    user = hub.user_of(_token(request))
    if "authorization" in request.headers and user is None:
        raise HubError(401, "Invalid credentials in Authorization header")
    return user


def _token(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ").strip()


Caller = Annotated[str | None, Depends(caller)]


async def logged_in(request: Request, hub: TheHub, user: Caller) -> str:
    """The caller, who may change things unless their token is an app's that may only read."""
    if user is None:
        raise login_needed()
    app = grants.bearer(hub.sign, _token(request))
    if app and request.method != "GET" and not grants.may_write(app["scope"]):
        raise forbidden(f"This token may only read ({app['scope']}); the app must ask for {grants.WRITING[0]}.")
    return user


LoggedIn = Annotated[str, Depends(logged_in)]


async def readable(hub: TheHub, user: Caller, owner: str, name: str, kind: str = "model") -> Repo:
    """The repository in the path, if the caller may know of it."""
    repo = repos.find(hub.store, kind, owner, name)
    if repo is None or (repo.private and user != owner):
        raise repo_not_found(user)
    return repo


Readable = Annotated[Repo, Depends(readable)]


async def owned(repo: Readable, user: LoggedIn) -> Repo:
    """The repository in the path, if it is the caller's."""
    if user != repo.owner:
        raise forbidden(f"You don't have the rights to change {repo.id}; only {repo.owner} has.")
    return repo


Owned = Annotated[Repo, Depends(owned)]


async def in_path(hub: TheHub, repo: Readable, num: int) -> Discussion:
    return pulls.find(hub.store, repo, num)


InPath = Annotated[Discussion, Depends(in_path)]


def writable_ref(hub: Hub, repo: Repo, user: str, revision: str) -> str:
    """The full name of the ref, if the user may commit to it."""
    if match := _PULL_REF.fullmatch(revision):
        pull = pulls.find(hub.store, repo, int(match.group(1)))
        if not pull.is_pull:
            raise revision_not_found(revision)
        if user not in (repo.owner, pull.author):
            raise forbidden(f"{revision} belongs to {pull.author}; only they and {repo.owner} may push to it.")
        if not pull.pending:
            raise bad_request(f"{revision} is {pull.status}; nothing can be pushed to it.")
        return revision
    if user != repo.owner:
        raise forbidden("pass `create_pr=1` as a query parameter to create a Pull Request")
    return branch_ref(hub, repo, revision)


def branch_ref(hub: Hub, repo: Repo, revision: str) -> str:
    """The full name of an existing branch."""
    ref = revision if revision.startswith("refs/heads/") else f"refs/heads/{revision}"
    if ref not in hub.store.refs(repo.key):
        raise revision_not_found(revision)
    return ref


def announce(hub: Hub, request: Request, repo: Repo, scope: str, action: str, **parts: Any) -> None:
    """Tell the webhook, after the change is durable. `parts`: moved=(ref, old, new), discussion, comment."""
    if hub.sender is None:
        return
    base = base_url(request)
    body = webhook.payload(base, repo, scope, action, hub.store.refs(repo.key).get(MAIN))
    if "moved" in parts:
        body |= webhook.updated_ref(*parts["moved"])
    if "discussion" in parts:
        body |= webhook.discussion_part(base, repo, parts["discussion"])
    if "comment" in parts:
        body |= webhook.comment_part(base, repo, parts["discussion"], parts["comment"])
    hub.sender.send(body)


def base_url(request: Request) -> str:
    """The address under which the client reached this hub."""
    return str(request.base_url).rstrip("/")
