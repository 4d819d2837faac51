"""Trees and history, and the two steps of a commit: how to upload each file, then the commit itself."""

import base64
import binascii
import fnmatch
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, TypeAdapter, ValidationError

from zoo.devhub.access import Hub, LoggedIn, Readable, TheHub, announce, base_url, branch_ref, writable_ref
from zoo.devhub.bodies import Route, parsed
from zoo.devhub.errors import HubError, bad_request, entry_not_found
from zoo.devhub.paths import REPO
from zoo.devhub.storage import pulls, trees
from zoo.devhub.storage.repos import LFS_PATTERNS, Repo

router = APIRouter(route_class=Route)
LFS_FROM_BYTES = 10_000_000
CreatePr = Annotated[bool, Query()]


class Upload(BaseModel):
    """A file that the client is about to send."""

    path: str
    size: int


class Uploads(BaseModel):
    files: list[Upload]


class Value(BaseModel):
    """The value of a line of a commit: of the header or of one operation."""

    summary: str = ""
    description: str = ""
    parentCommit: str | None = None  # noqa: N815 (the client's name)
    path: str = ""
    content: str = ""
    oid: str = ""


class Line(BaseModel):
    """One line of a commit's body, newline-delimited JSON."""

    key: str
    value: Value


_LINES = TypeAdapter(list[Line])


@router.get(f"{REPO}/tree/{{revision:segment}}")
@router.get(f"{REPO}/tree/{{revision:segment}}/{{path:rest}}")
async def list_tree(
    hub: TheHub, repo: Readable, revision: str, path: str = "", recursive: bool = False
) -> list[dict[str, Any]]:
    commit = hub.store.resolve(repo.key, revision)
    entries = trees.listing(hub.store.tree(repo.key, commit), path.strip("/"), recursive)
    if path and not entries:
        raise entry_not_found(path, commit)
    return entries


@router.post(f"{REPO}/paths-info/{{revision:segment}}")
async def paths_info(request: Request, hub: TheHub, repo: Readable, revision: str) -> list[dict[str, Any]]:
    """The body is a form, `paths=a&paths=b`."""
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    return trees.paths_info(hub.store.tree(repo.key, hub.store.resolve(repo.key, revision)), form.get("paths", []))


@router.get(f"{REPO}/commits/{{revision:segment}}")
async def list_commits(hub: TheHub, repo: Readable, revision: str) -> list[dict[str, Any]]:
    return [
        {
            "id": commit["oid"],
            "title": commit["title"],
            "message": commit["message"],
            "date": commit["date"],
            "authors": [{"user": commit["author"]}],
        }
        for commit in hub.store.history(repo.key, hub.store.resolve(repo.key, revision))
    ]


@router.post(f"{REPO}/preupload/{{revision:segment}}")
async def preupload(
    hub: TheHub, repo: Readable, user: LoggedIn, revision: str, payload: Uploads, create_pr: CreatePr = False
) -> dict[str, Any]:
    """For each file: upload it inside the commit or to LFS, and the id of the file that is there now."""
    if not create_pr:
        writable_ref(hub, repo, user, revision)
    tree = hub.store.tree(repo.key, hub.store.resolve(repo.key, revision))
    return {"files": [_upload_mode(file, tree.get(file.path)) for file in payload.files]}


@router.post(f"{REPO}/commit/{{revision:segment}}")
async def commit(
    request: Request, hub: TheHub, repo: Readable, user: LoggedIn, revision: str, create_pr: CreatePr = False
) -> dict[str, Any]:
    """Commit to a branch or a pull request's ref; with `create_pr`, open a pull request that holds the commit."""
    header, operations = _parse(await request.body())
    if create_pr:
        return _commit_as_pull(request, hub, repo, user, branch_ref(hub, repo, revision), header, operations)
    ref = writable_ref(hub, repo, user, revision)
    head = hub.store.resolve(repo.key, ref)
    if header.parentCommit and not head.startswith(header.parentCommit):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    with hub.store.transaction():
        oid = _add(hub, repo, user, ref, head, header, operations)
    announce(hub, request, repo, "repo.content", "update", moved=(ref, head, oid))
    return _committed(request, repo, oid)


def _commit_as_pull(
    request: Request, hub: Hub, repo: Repo, user: str, target: str, header: Value, operations: list[Line]
) -> dict[str, Any]:
    base = _base(hub, repo, header.parentCommit, hub.store.resolve(repo.key, target))
    opening = (hub.store, repo, user, header.summary, header.description)
    with hub.store.transaction():
        pull = pulls.start_pull(*opening, status="open", target=target, base=base)
        oid = _add(hub, repo, user, pull.ref, base, header, operations)
    announce(hub, request, repo, "discussion", "create", discussion=pull)
    announce(hub, request, repo, "repo.content", "update", moved=(pull.ref, None, oid))
    url = f"{base_url(request)}/{repo.page}/discussions/{pull.num}"
    return _committed(request, repo, oid) | {"pullRequestUrl": url}


def _base(hub: Hub, repo: Repo, parent: str | None, head: str) -> str:
    """The commit of the target's history that a new pull request names as its parent; the head by default."""
    if not parent:
        return head
    for known in hub.store.history(repo.key, head):
        if known["oid"].startswith(parent):
            return str(known["oid"])
    raise HubError(412, f"The parent commit {parent} is not in the history of the target branch.")


def _add(hub: Hub, repo: Repo, user: str, ref: str, parent: str, header: Value, operations: list[Line]) -> str:
    changes = _changes(hub, user, hub.store.tree(repo.key, parent), operations, parent)
    oid = hub.store.add_commit(repo.key, parent, changes, title=header.summary, message=header.description, author=user)
    hub.store.set_ref(repo.key, ref, oid)
    if ref.startswith("refs/pr/"):
        event = {"subject": header.summary, "oid": oid}
        pulls.add_event(hub.store, repo, int(ref.removeprefix("refs/pr/")), user, "commit", event)
    return oid


def _parse(body: bytes) -> tuple[Value, list[Line]]:
    """The header and the operations of a commit; half a line is refused."""
    try:
        header, *operations = _LINES.validate_python([parsed(line) for line in body.splitlines() if line.strip()])
    except (ValidationError, ValueError) as error:
        words = "" if isinstance(error, ValidationError) else f": {error}"
        raise bad_request(f"The commit is not newline-delimited JSON of a header and operations{words}.") from None
    if header.key != "header" or not header.value.summary.strip():
        raise bad_request("A commit starts with a header that has a summary.")
    return header.value, operations


def _changes(
    hub: Hub, user: str, tree: trees.Tree, operations: list[Line], parent: str
) -> dict[str, trees.File | None]:
    """What the operations, one after another, make of the tree; new contents are stored on the way."""
    out: dict[str, trees.File | None] = {}
    for line in operations:
        path, now = line.value.path, trees.apply(tree, out) if line.key.startswith("deleted") else tree
        if line.key == "file":
            out[trees.check_path(path)] = _regular(hub, line.value)
        elif line.key == "lfsFile":
            out[trees.check_path(path)] = _large(hub, user, line.value)
        elif line.key in ("deletedFile", "deletedFolder"):
            out |= dict.fromkeys(_deleted(now, line, parent))
        else:
            raise bad_request(f"Unknown operation {line.key!r}.")
    return out


def _regular(hub: Hub, value: Value) -> trees.File:
    try:
        data = base64.b64decode(value.content, validate=True)
    except binascii.Error as error:
        raise bad_request(f"{value.path!r}: the content is not base64.") from error
    return trees.regular_file(hub.store.objects.put(data), data)


def _large(hub: Hub, user: str, value: Value) -> trees.File:
    if not hub.store.may_name(value.oid, user):
        raise bad_request(f"{value.path!r}: its LFS object was not uploaded; upload it, then commit.")
    return trees.lfs_file(value.oid, hub.store.objects.size(value.oid))


def _deleted(tree: trees.Tree, line: Line, parent: str) -> list[str]:
    path = line.value.path
    if line.key == "deletedFile":
        files = [path] if path in tree else []
    else:
        files = [known for known in tree if known.startswith(path.rstrip("/") + "/")]
    if not files:
        raise entry_not_found(path, parent)
    return files


def _upload_mode(file: Upload, known: trees.File | None) -> dict[str, Any]:
    name = file.path.rsplit("/", 1)[-1]
    large = file.size > LFS_FROM_BYTES or any(fnmatch.fnmatch(name, pattern) for pattern in LFS_PATTERNS)
    mode = "lfs" if large else "regular"
    return {"path": file.path, "uploadMode": mode, "shouldIgnore": False, "oid": known.etag if known else None}


def _committed(request: Request, repo: Repo, oid: str) -> dict[str, Any]:
    url = f"{base_url(request)}/{repo.page}/commit/{oid}"
    return {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": "", "pullRequestUrl": None}
