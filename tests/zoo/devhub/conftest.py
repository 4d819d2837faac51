"""A hub on loopback and its users' clients."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from zoo.devhub import serve

_COUNT = itertools.count()
USERS = {"owner": "hf_owner_token", "ann": "hf_ann_token", "bob": "hf_bob_token"}


@pytest.fixture(scope="session")
def hub_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(tmp_path_factory.mktemp("hub"), USERS) as url:
        yield url


@pytest.fixture(scope="session")
def as_user(hub_url: str) -> Callable[[str | None], HfApi]:
    """The stock client, logged in as a user; None is nobody."""
    return lambda name: HfApi(endpoint=hub_url, token=USERS[name] if name else False)


@pytest.fixture
def owner(as_user) -> HfApi:
    return as_user("owner")


@pytest.fixture
def ann(as_user) -> HfApi:
    return as_user("ann")


@pytest.fixture
def bob(as_user) -> HfApi:
    return as_user("bob")


@pytest.fixture
def repo(owner: HfApi, request: pytest.FixtureRequest) -> str:
    """An empty dataset repository of the owner, one a test."""
    repo_id = f"owner/{request.node.originalname[:80]}.{next(_COUNT)}"
    owner.create_repo(repo_id, repo_type="dataset")
    return repo_id


@pytest.fixture
def read(hub_url: str, tmp_path: Path) -> Callable[..., bytes]:
    """Download one file of a dataset repository with a cache of its own."""

    def download(repo_id: str, path: str, revision: str | None = None, user: str = "owner") -> bytes:
        api = HfApi(endpoint=hub_url, token=USERS[user])
        name = api.hf_hub_download(repo_id, path, repo_type="dataset", revision=revision, cache_dir=tmp_path / "cache")
        return Path(name).read_bytes()

    return download
