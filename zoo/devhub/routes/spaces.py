"""What a Space has besides its files: variables, secrets, mounted volumes. Nothing runs here."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends

from zoo.devhub.access import Owned, TheHub
from zoo.devhub.bodies import Route
from zoo.devhub.errors import bad_request
from zoo.devhub.paths import REPO
from zoo.devhub.storage.repos import Repo
from zoo.devhub.storage.store import Store, now

router = APIRouter(route_class=Route)
VOLUMES = "volumes"  # kept as one setting, replaced as a whole


async def of_space(repo: Owned) -> Repo:
    """The Space in the path, if it is the caller's."""
    if repo.kind != "space":
        raise bad_request(f"{repo.id} is a {repo.kind}; only Spaces have these settings.")
    return repo


Space = Annotated[Repo, Depends(of_space)]
Text = Annotated[str, Body(embed=True)]


@router.get(f"{REPO}/variables")
async def variables(hub: TheHub, repo: Space) -> dict[str, Any]:
    return _settings(hub.store, repo, "variable")


@router.post(f"{REPO}/variables")
async def add_variable(
    hub: TheHub, repo: Space, key: Text, value: Text, description: Annotated[str | None, Body(embed=True)] = None
) -> dict[str, Any]:
    _set(hub.store, repo, "variable", key, {"value": value, "description": description})
    return _settings(hub.store, repo, "variable")


@router.delete(f"{REPO}/variables")
async def delete_variable(hub: TheHub, repo: Space, key: Text) -> dict[str, Any]:
    _delete(hub.store, repo, "variable", key)
    return _settings(hub.store, repo, "variable")


@router.get(f"{REPO}/secrets")
async def secrets(hub: TheHub, repo: Space) -> dict[str, Any]:
    """Names only: a secret cannot be read back."""
    return {key: one | {"value": None} for key, one in _settings(hub.store, repo, "secret").items()}


@router.post(f"{REPO}/secrets")
async def add_secret(
    hub: TheHub, repo: Space, key: Text, value: Text, description: Annotated[str | None, Body(embed=True)] = None
) -> dict[str, Any]:
    _set(hub.store, repo, "secret", key, {"value": value, "description": description})
    return {}


@router.delete(f"{REPO}/secrets")
async def delete_secret(hub: TheHub, repo: Space, key: Text) -> dict[str, Any]:
    _delete(hub.store, repo, "secret", key)
    return {}


@router.put(f"{REPO}/volumes")
async def set_volumes(
    hub: TheHub, repo: Space, volumes: Annotated[list[dict[str, Any]], Body(embed=True)]
) -> dict[str, Any]:
    _set(hub.store, repo, VOLUMES, VOLUMES, {"value": volumes})
    return {}


@router.delete(f"{REPO}/volumes")
async def delete_volumes(hub: TheHub, repo: Space) -> dict[str, Any]:
    _delete(hub.store, repo, VOLUMES, VOLUMES)
    return {}


@router.get(f"{REPO}/runtime")
async def runtime(hub: TheHub, repo: Space) -> dict[str, Any]:
    mounted = _settings(hub.store, repo, VOLUMES).get(VOLUMES, {"value": []})["value"]
    return {"stage": "STOPPED", "hardware": {"current": None, "requested": "cpu-basic"}, "volumes": mounted}


def _settings(store: Store, repo: Repo, kind: str) -> dict[str, Any]:
    rows = store.rows("SELECT key, data FROM settings WHERE repo = ? AND kind = ? ORDER BY key", repo.key, kind)
    return {row["key"]: json.loads(row["data"]) for row in rows}


def _set(store: Store, repo: Repo, kind: str, key: str, data: dict[str, Any]) -> None:
    with store.transaction():
        store.execute("DELETE FROM settings WHERE repo = ? AND kind = ? AND key = ?", repo.key, kind, key)
        store.insert("settings", repo=repo.key, kind=kind, key=key, data=json.dumps(data | {"updatedAt": now()}))


def _delete(store: Store, repo: Repo, kind: str, key: str) -> None:
    with store.transaction():
        store.execute("DELETE FROM settings WHERE repo = ? AND kind = ? AND key = ?", repo.key, kind, key)
