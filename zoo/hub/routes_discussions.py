"""Discussions and pull requests: list, open, comment, rename, close, reopen, merge."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel

from zoo.hub import pulls
from zoo.hub.access import InPath, LoggedIn, Owned, Readable, TheHub, announce, base_url
from zoo.hub.errors import bad_request, forbidden
from zoo.hub.paths import REPO
from zoo.hub.pulls import Discussion
from zoo.hub.repos import Repo
from zoo.hub.store import MAIN

router = APIRouter()
PAGE = 50
ONE = f"{REPO}/discussions/{{num:int}}"


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

    found = pulls.listed(hub.store, repo, wanted)
    page = [pulls.summary(repo, one) for one in found[p * PAGE : (p + 1) * PAGE]]
    closed = sum(not one.pending for one in found)
    return {"discussions": page, "count": len(found), "start": p * PAGE, "numClosedDiscussions": closed}


@router.post(f"{REPO}/discussions")
async def open_discussion(
    request: Request, hub: TheHub, repo: Readable, user: LoggedIn, payload: NewDiscussion
) -> dict[str, Any]:
    told = (hub.store, repo, user, payload.title, payload.description)
    with hub.store.transaction():
        if payload.pullRequest:
            base = hub.store.resolve(repo.key, MAIN)
            new = pulls.start_pull(*told, status="draft", target=MAIN, base=base)
        else:
            new = pulls.start(*told)
    announce(hub, request, repo, "discussion", "create", discussion=new)
    url = f"{base_url(request)}/{repo.page}/discussions/{new.num}"
    return {"num": new.num, "url": url, "pullRequest": new.is_pull}


@router.get(ONE)
async def show_discussion(hub: TheHub, repo: Readable, discussion: InPath) -> dict[str, Any]:
    return pulls.details(hub.store, repo, discussion)


@router.post(f"{ONE}/comment")
async def add_comment(
    request: Request,
    hub: TheHub,
    repo: Readable,
    discussion: InPath,
    user: LoggedIn,
    comment: Annotated[str, Body(embed=True)],
) -> dict[str, Any]:
    with hub.store.transaction():
        event = pulls.add_event(hub.store, repo, discussion.num, user, "comment", pulls.comment(comment))
    announce(hub, request, repo, "discussion.comment", "create", discussion=discussion, comment=event)
    return {"newMessage": event}


@router.post(f"{ONE}/comment/{{event_id}}/edit")
async def edit_comment(
    request: Request,
    hub: TheHub,
    repo: Readable,
    discussion: InPath,
    user: LoggedIn,
    event_id: str,
    content: Annotated[str, Body(embed=True)],
) -> dict[str, Any]:
    event = pulls.find_comment(hub.store, repo, discussion.num, event_id)
    if user != event["author"]["name"] or event["data"]["hidden"]:
        raise forbidden("Only its author may edit a comment, and not once it is hidden")
    with hub.store.transaction():
        event = pulls.rewrite_comment(hub.store, event, pulls.comment(content) | {"edited": True})
    announce(hub, request, repo, "discussion.comment", "update", discussion=discussion, comment=event)
    return {"updatedComment": event}


@router.post(f"{ONE}/comment/{{event_id}}/hide")
async def hide_comment(
    request: Request, hub: TheHub, repo: Readable, discussion: InPath, user: LoggedIn, event_id: str
) -> dict[str, Any]:
    event = pulls.find_comment(hub.store, repo, discussion.num, event_id)
    if user not in (event["author"]["name"], repo.owner):
        raise forbidden("Only its author and the owner of the repository may hide a comment")
    with hub.store.transaction():
        event = pulls.rewrite_comment(
            hub.store, event, pulls.comment("This comment has been hidden") | {"hidden": True}
        )
    announce(hub, request, repo, "discussion.comment", "update", discussion=discussion, comment=event)
    return {"updatedComment": event}


@router.post(f"{ONE}/title")
async def rename(
    request: Request,
    hub: TheHub,
    repo: Readable,
    discussion: InPath,
    user: LoggedIn,
    title: Annotated[str, Body(embed=True)],
) -> dict[str, Any]:
    _author_or_owner(repo, discussion, user)
    with hub.store.transaction():
        event = pulls.rename(hub.store, repo, discussion, user, title)
    _announce_update(request, hub, repo, discussion.num)
    return {"newTitle": event}


@router.post(f"{ONE}/status")
async def change_status(
    request: Request,
    hub: TheHub,
    repo: Readable,
    discussion: InPath,
    user: LoggedIn,
    status: Annotated[str, Body()],
    comment: Annotated[str | None, Body()] = None,
) -> dict[str, Any]:
    """Close or reopen, with an optional comment; opening a draft publishes it."""
    _author_or_owner(repo, discussion, user)
    with hub.store.transaction():
        event = pulls.set_status(hub.store, repo, discussion, user, status)
        if comment:
            pulls.add_event(hub.store, repo, discussion.num, user, "comment", pulls.comment(comment))
    _announce_update(request, hub, repo, discussion.num)
    return {"newStatus": event}


@router.post(f"{ONE}/merge")
async def merge(
    request: Request,
    hub: TheHub,
    repo: Owned,
    discussion: InPath,
    user: LoggedIn,
    comment: Annotated[str | None, Body(embed=True)] = None,
) -> dict[str, Any]:
    if discussion.target is None:
        raise bad_request(f"#{discussion.num} is no pull request.")
    old = hub.store.resolve(repo.key, discussion.target)
    with hub.store.transaction():
        oid = pulls.merge(hub.store, repo, discussion, user)
        if comment:
            pulls.add_event(hub.store, repo, discussion.num, user, "comment", pulls.comment(comment))
    _announce_update(request, hub, repo, discussion.num)
    announce(hub, request, repo, "repo.content", "update", moved=(discussion.target, old, oid))
    return {"mergeCommitOid": oid}


def _author_or_owner(repo: Repo, discussion: Discussion, user: str) -> None:
    if user not in (repo.owner, discussion.author):
        raise forbidden(f"Only {discussion.author} and {repo.owner} may change #{discussion.num}")


def _announce_update(request: Request, hub: TheHub, repo: Repo, num: int) -> None:
    announce(hub, request, repo, "discussion", "update", discussion=pulls.find(hub.store, repo, num))
