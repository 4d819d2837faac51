"""File contents: LFS uploads in, whole files and byte ranges out."""

import asyncio
import hmac
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field

from zoo.devhub import paths  # noqa: F401 (registers the convertors)
from zoo.devhub.access import LoggedIn, Readable, TheHub, base_url
from zoo.devhub.bodies import Route
from zoo.devhub.errors import entry_not_found, forbidden

router = APIRouter(route_class=Route)
_PREFIXES = ("", "/{kind:kind}s")
_BYTES = "application/octet-stream"
_AT_ONCE_BYTES = 1_000_000


class LfsObject(BaseModel):
    """A file by its SHA-256 and its size in bytes."""

    oid: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class LfsBatch(BaseModel):
    objects: list[LfsObject]


async def lfs_batch(request: Request, hub: TheHub, repo: Readable, user: LoggedIn, payload: LfsBatch) -> dict[str, Any]:
    """Where to PUT each object; one that is here and the user may read needs no action, others are sent (again).

    A hash alone opens nothing: who may not read a file can neither learn that it is here nor commit it.
    Docs: git-lfs, docs/api/batch.md.
    """
    out = []
    for one in payload.objects:
        answer: dict[str, Any] = {"oid": one.oid, "size": one.size, "authenticated": True}
        if not hub.store.may_name(one.oid, user):
            href = f"{base_url(request)}/lfs/{one.oid}?user={user}&signature={hub.sign(f'{one.oid} {user}')}"
            answer["actions"] = {"upload": {"href": href, "header": {}}}
        out.append(answer)
    return {"transfer": "basic", "objects": out}


@router.put("/lfs/{oid}")
async def lfs_upload(
    request: Request, hub: TheHub, oid: str, user: Annotated[str, Query()] = "", signature: Annotated[str, Query()] = ""
) -> Response:
    """The client sends no token here, as to a bucket: the signed URL is the permission."""
    if not hmac.compare_digest(signature.encode(), hub.sign(f"{oid} {user}").encode()):
        raise forbidden("The signature of this upload does not fit; ask for a new one.")
    with hub.store.objects.receive() as incoming:
        async for chunk in request.stream():
            incoming.write(chunk)
        await asyncio.to_thread(incoming.finish, oid)
    hub.store.note_upload(oid, user)
    return Response()


async def resolve(request: Request, hub: TheHub, repo: Readable, revision: str, path: str) -> Response:
    """A file, or the range of it that is asked for; HEAD tells commit, ETag and size."""
    commit = hub.store.resolve(repo.key, revision)
    file = hub.store.tree(repo.key, commit).get(path)
    if file is None:
        raise entry_not_found(path, commit)
    etag = f'"{file.etag}"'
    headers = {"X-Repo-Commit": commit, "ETag": etag, "Accept-Ranges": "bytes"}
    if file.lfs:
        headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(file.size)}
    return _contents(request, hub.store.objects.path(file.sha256), file.size, headers)


def _contents(request: Request, path: Path, size: int, headers: dict[str, str]) -> Response:
    """A small file at once, which takes half the time; a large one, or a range, as a stream."""
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(size)}, media_type=_BYTES)
    if size <= _AT_ONCE_BYTES and "range" not in request.headers:
        return Response(path.read_bytes(), headers=headers, media_type=_BYTES)
    return FileResponse(path, headers=headers, media_type=_BYTES)


for prefix in _PREFIXES:
    router.post(f"{prefix}/{{owner}}/{{name}}.git/info/lfs/objects/batch")(lfs_batch)
    router.api_route(
        f"{prefix}/{{owner}}/{{name}}/resolve/{{revision:segment}}/{{path:rest}}", methods=["GET", "HEAD"]
    )(resolve)
