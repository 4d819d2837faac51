"""Accounts, repositories, branches and tags."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from zoo.devhub.access import Caller, LoggedIn, Owned, Readable, TheHub, announce, base_url, branch_ref
from zoo.devhub.bodies import Route
from zoo.devhub.errors import HubError, bad_request, forbidden, repo_not_found, revision_not_found
from zoo.devhub.paths import REPO
from zoo.devhub.storage import cards, repos

router = APIRouter(route_class=Route)


class RepoPayload(BaseModel):
    """Names a repository; `organization` is its owner, the caller by default."""

    name: str
    organization: str | None = None
    type: Literal["model", "dataset", "space"] = "model"
    visibility: Literal["public", "private"] = "public"


class SettingsPayload(BaseModel):
    """What of a repository can be changed."""

    visibility: Literal["public", "private"]


@router.get("/api/whoami-v2")
async def whoami(user: LoggedIn) -> dict[str, Any]:
    token = {"displayName": "local", "role": "write"}
    return {
        "type": "user", "id": repos.object_id("user", user), "name": user, "fullname": user, "isPro": False,
        "email": f"{user}@localhost", "avatarUrl": "", "orgs": [],
        "auth": {"type": "access_token", "accessToken": token},
    }  # fmt: skip


@router.post("/api/validate-yaml")
def validate_yaml(content: Annotated[str, Body(embed=True)]) -> JSONResponse:
    verdict = cards.judge(content)
    headers = {"X-Error-Message": "Invalid metadata in README.md"} if verdict["errors"] else None
    return JSONResponse(verdict, 400 if verdict["errors"] else 200, headers)


@router.post("/api/repos/create")
async def create_repo(request: Request, hub: TheHub, user: LoggedIn, payload: RepoPayload) -> Any:
    owner = payload.organization or user
    if owner != user:
        raise forbidden(f"You don't have the rights to create a {payload.type} under the namespace {owner!r}")
    private = payload.visibility == "private"
    known = repos.find(hub.store, payload.type, owner, payload.name)
    if known:
        message = f"You already created this {payload.type} repo: {known.id}"
        return JSONResponse({"error": message, "url": f"{base_url(request)}/{known.page}"}, 409)
    repo = repos.create(hub.store, payload.type, owner, payload.name, private)
    announce(hub, request, repo, "repo", "create")
    return {"url": f"{base_url(request)}/{repo.page}", "name": repo.id, "id": repos.object_id(repo.kind, repo.id)}


@router.delete("/api/repos/delete")
async def delete_repo(request: Request, hub: TheHub, user: LoggedIn, payload: RepoPayload) -> dict[str, Any]:
    owner = payload.organization or user
    repo = repos.find(hub.store, payload.type, owner, payload.name)
    if repo is None or (repo.private and owner != user):
        raise repo_not_found(user)
    if owner != user:
        raise forbidden(f"Only {owner} may delete {repo.id}")
    repos.delete(hub.store, repo)
    announce(hub, request, repo, "repo", "delete")
    return {}


@router.put(f"{REPO}/settings")
async def change_settings(request: Request, hub: TheHub, repo: Owned, payload: SettingsPayload) -> dict[str, Any]:
    repos.set_private(hub.store, repo, payload.visibility == "private")
    announce(hub, request, repo, "repo.config", "update")
    return {"visibility": payload.visibility}


@router.get("/api/{kind:kind}s")
async def list_repos(
    hub: TheHub,
    user: Caller,
    kind: str,
    author: str | None = None,
    search: str = "",
    tags: Annotated[list[str] | None, Query(alias="filter")] = None,
    sort: str | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Repositories of a kind, oldest first, or newest first by `sort` (lastModified or createdAt)."""
    infos = [
        repos.info(hub.store, repo, hub.store.resolve(repo.key, "main"))
        for repo in repos.listed(hub.store, kind, user)
        if (author is None or repo.owner == author) and search.lower() in repo.id.lower()
    ]
    infos = [info for info in infos if set(tags or ()) <= set(info["tags"])]
    if sort in ("lastModified", "createdAt"):
        infos.sort(key=lambda info: info[sort], reverse=True)
    return infos[:limit]


@router.get(REPO)
@router.get(f"{REPO}/revision/{{revision:segment}}")
async def repo_info(hub: TheHub, repo: Readable, revision: str = "main", blobs: bool = False) -> dict[str, Any]:
    return repos.info(hub.store, repo, hub.store.resolve(repo.key, revision), blobs)


@router.get(f"{REPO}/auth-check")
async def may_read(repo: Readable) -> dict[str, Any]:
    return {}


@router.get(f"{REPO}/auth-check/write")
async def may_write(repo: Owned) -> dict[str, Any]:
    return {}


@router.get(f"{REPO}/refs")
async def list_refs(hub: TheHub, repo: Readable) -> dict[str, Any]:
    out: dict[str, Any] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
    prefixes = {"refs/heads/": "branches", "refs/tags/": "tags", "refs/pr/": "pullRequests"}
    for ref, target in hub.store.refs(repo.key).items():
        prefix = next(prefix for prefix in prefixes if ref.startswith(prefix))
        out[prefixes[prefix]].append({"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": target})
    return out


@router.post(f"{REPO}/branch/{{branch:segment}}")
async def create_branch(
    request: Request,
    hub: TheHub,
    repo: Owned,
    branch: str,
    start: Annotated[str, Body(embed=True, alias="startingPoint")] = "main",
) -> dict[str, Any]:
    if branch.startswith("refs/"):
        raise bad_request(f"Invalid reference for a branch: {branch}")
    _new_ref(request, hub, repo, f"refs/heads/{branch}", hub.store.resolve(repo.key, start))
    return {}


@router.delete(f"{REPO}/branch/{{branch:segment}}")
async def delete_branch(request: Request, hub: TheHub, repo: Owned, branch: str) -> dict[str, Any]:
    ref = branch_ref(hub, repo, branch)
    waiting = hub.store.row(
        "SELECT num FROM discussions WHERE repo = ? AND target = ? AND status IN ('open', 'draft')", repo.key, ref
    )
    if branch == "main" or waiting:
        raise forbidden(f"Branch {branch} is the default branch or the target of an open pull request")
    _delete_ref(request, hub, repo, ref)
    return {}


@router.post(f"{REPO}/tag/{{revision:segment}}")
async def create_tag(
    request: Request, hub: TheHub, repo: Owned, revision: str, tag: Annotated[str, Body(embed=True)]
) -> dict[str, Any]:
    _new_ref(request, hub, repo, f"refs/tags/{tag}", hub.store.resolve(repo.key, revision))
    return {}


@router.delete(f"{REPO}/tag/{{tag:segment}}")
async def delete_tag(request: Request, hub: TheHub, repo: Owned, tag: str) -> dict[str, Any]:
    _delete_ref(request, hub, repo, f"refs/tags/{tag}")
    return {}


def _new_ref(request: Request, hub: TheHub, repo: repos.Repo, ref: str, target: str) -> None:
    if ref in hub.store.refs(repo.key):
        raise HubError(409, f"Reference already exists: {ref}")
    with hub.store.transaction():
        hub.store.set_ref(repo.key, ref, target)
    announce(hub, request, repo, "repo.content", "update", moved=(ref, None, target))


def _delete_ref(request: Request, hub: TheHub, repo: repos.Repo, ref: str) -> None:
    old = hub.store.refs(repo.key).get(ref)
    if old is None:
        raise revision_not_found(ref)
    with hub.store.transaction():
        hub.store.execute("DELETE FROM refs WHERE repo = ? AND name = ?", repo.key, ref)
    announce(hub, request, repo, "repo.content", "update", moved=(ref, old, None))
