"""Discussions and pull requests: list, open, comment, rename, close, reopen, merge."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from pydantic import BaseModel

from zoo.devhub.access import InPath, LoggedIn, Owned, Readable, TheHub, announce, base_url
from zoo.devhub.bodies import Route
from zoo.devhub.errors import bad_request, forbidden
from zoo.devhub.paths import REPO
from zoo.devhub.storage import pulls
from zoo.devhub.storage.pulls import Discussion
from zoo.devhub.storage.store import MAIN, Store

router = APIRouter(route_class=Route)
PAGE = 50
ONE = f"{REPO}/discussions/{{num:int}}"


@dataclass(frozen=True)
class Asked:
    """A change that a user asks for: of which discussion, by whom, and whom to tell of it."""

    request: Request
    hub: TheHub
    repo: Readable
    discussion: InPath
    user: LoggedIn

    @property
    def store(self) -> Store:
        return self.hub.store

    def by_author_or_owner(self) -> None:
        if self.user not in (self.repo.owner, self.discussion.author):
            raise forbidden(f"Only {self.discussion.author} and {self.repo.owner} may change #{self.discussion.num}")

    def comment(self, text: str) -> dict[str, Any]:
        return pulls.add_event(self.store, self.repo, self.discussion.num, self.user, "comment", pulls.comment(text))

    def rewrite(self, event: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        with self.store.transaction():
            event = pulls.rewrite_comment(self.store, event, data)
        self.tell_comment("update", event)
        return {"updatedComment": event}

    def tell_comment(self, action: str, event: dict[str, Any]) -> None:
        about = {"discussion": self.discussion, "comment": event}
        announce(self.hub, self.request, self.repo, "discussion.comment", action, **about)

    def tell_update(self) -> None:
        now = pulls.find(self.store, self.repo, self.discussion.num)
        announce(self.hub, self.request, self.repo, "discussion", "update", discussion=now)


Change = Annotated[Asked, Depends(Asked)]


class NewDiscussion(BaseModel):
    """What the client sends to open one; a pull request opened so starts as an empty draft."""

    title: str
    description: str = ""
    pullRequest: bool = False  # noqa: N815 (the client's name)


@router.get(f"{REPO}/discussions")
async def list_discussions(
    hub: TheHub,
    repo: Readable,
    type: str = "all",
    status: str = "all",
    author: str | None = None,
    p: int = 0,
) -> dict[str, Any]:
    """A page of the discussions; a draft counts as open, what is merged as closed."""

    def wanted(one: Discussion) -> bool:
        kind, state = "pull_request" if one.is_pull else "discussion", "open" if one.pending else "closed"
        return type in ("all", kind) and status in ("all", state) and author in (None, one.author)

    discussions = pulls.listed(hub.store, repo, wanted)
    page = [pulls.summary(repo, one) for one in discussions[p * PAGE : (p + 1) * PAGE]]
    closed = sum(not one.pending for one in discussions)
    return {"discussions": page, "count": len(discussions), "start": p * PAGE, "numClosedDiscussions": closed}


@router.post(f"{REPO}/discussions")
async def open_discussion(
    request: Request, hub: TheHub, repo: Readable, user: LoggedIn, payload: NewDiscussion
) -> dict[str, Any]:
    opening = (hub.store, repo, user, payload.title, payload.description)
    with hub.store.transaction():
        if payload.pullRequest:
            base = hub.store.resolve(repo.key, MAIN)
            new = pulls.start_pull(*opening, status="draft", target=MAIN, base=base)
        else:
            new = pulls.start(*opening)
    announce(hub, request, repo, "discussion", "create", discussion=new)
    url = f"{base_url(request)}/{repo.page}/discussions/{new.num}"
    return {"num": new.num, "url": url, "pullRequest": new.is_pull}


@router.get(ONE)
async def show_discussion(hub: TheHub, repo: Readable, discussion: InPath) -> dict[str, Any]:
    return pulls.details(hub.store, repo, discussion)


@router.post(f"{ONE}/comment")
async def add_comment(change: Change, comment: Annotated[str, Body(embed=True)]) -> dict[str, Any]:
    with change.store.transaction():
        event = change.comment(comment)
    change.tell_comment("create", event)
    return {"newMessage": event}


@router.post(f"{ONE}/comment/{{event_id}}/edit")
async def edit_comment(change: Change, event_id: str, content: Annotated[str, Body(embed=True)]) -> dict[str, Any]:
    event = pulls.find_comment(change.store, change.repo, change.discussion.num, event_id)
    if change.user != event["author"]["name"] or event["data"]["hidden"]:
        raise forbidden("Only its author may edit a comment, and not once it is hidden")
    return change.rewrite(event, pulls.comment(content) | {"edited": True})


@router.post(f"{ONE}/comment/{{event_id}}/hide")
async def hide_comment(change: Change, event_id: str) -> dict[str, Any]:
    event = pulls.find_comment(change.store, change.repo, change.discussion.num, event_id)
    if change.user not in (event["author"]["name"], change.repo.owner):
        raise forbidden("Only its author and the owner of the repository may hide a comment")
    return change.rewrite(event, pulls.comment("This comment has been hidden") | {"hidden": True})


@router.post(f"{ONE}/title")
async def rename(change: Change, title: Annotated[str, Body(embed=True)]) -> dict[str, Any]:
    change.by_author_or_owner()
    with change.store.transaction():
        event = pulls.rename(change.store, change.repo, change.discussion, change.user, title)
    change.tell_update()
    return {"newTitle": event}


@router.post(f"{ONE}/status")
async def change_status(
    change: Change, status: Annotated[str, Body()], comment: Annotated[str | None, Body()] = None
) -> dict[str, Any]:
    """Close or reopen, with an optional comment; opening a draft publishes it."""
    change.by_author_or_owner()
    with change.store.transaction():
        event = pulls.set_status(change.store, change.repo, change.discussion, change.user, status)
        if comment:
            change.comment(comment)
    change.tell_update()
    return {"newStatus": event}


@router.post(f"{ONE}/merge")
async def merge(change: Change, repo: Owned, comment: Annotated[str | None, Body(embed=True)] = None) -> dict[str, Any]:
    target = change.discussion.target
    if target is None:
        raise bad_request(f"#{change.discussion.num} is no pull request.")
    old = change.store.resolve(repo.key, target)
    with change.store.transaction():
        oid = pulls.merge(change.store, repo, change.discussion, change.user)
        if comment:
            change.comment(comment)
    change.tell_update()
    announce(change.hub, change.request, repo, "repo.content", "update", moved=(target, old, oid))
    return {"mergeCommitOid": oid}
