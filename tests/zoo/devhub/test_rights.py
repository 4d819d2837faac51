"""Who may do what, and how the refusals read."""

from collections.abc import Callable

import httpx
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

KIND = {"repo_type": "dataset"}
CHANGES: dict[str, Callable[[HfApi, str], object]] = {
    "upload": lambda api, repo: api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo, **KIND),
    "branch": lambda api, repo: api.create_branch(repo, branch="b", **KIND),
    "tag": lambda api, repo: api.create_tag(repo, tag="t", **KIND),
    "settings": lambda api, repo: api.update_repo_settings(repo, private=True, **KIND),
    "delete": lambda api, repo: api.delete_repo(repo, **KIND),
    "merge": lambda api, repo: api.merge_pull_request(repo, 1, **KIND),
    "create": lambda api, repo: api.create_repo(f"{repo}-2", **KIND),
}


@pytest.mark.parametrize("change", CHANGES)
def test_only_the_owner_changes_a_repository(owner: HfApi, ann: HfApi, as_user, repo: str, change: str):
    owner.create_pull_request(repo, "One", **KIND)
    before = owner.dataset_info(repo)
    with pytest.raises(HfHubHTTPError) as error:
        CHANGES[change](ann, repo)
    assert error.value.response.status_code == 403
    with pytest.raises(HfHubHTTPError) as error:
        CHANGES[change](as_user(None), repo)
    assert error.value.response.status_code == 401
    assert owner.dataset_info(repo) == before


def test_nobody_may_not_even_comment(owner: HfApi, as_user, repo: str):
    owner.create_discussion(repo, "One", **KIND)
    with pytest.raises(HfHubHTTPError) as error:
        as_user(None).comment_discussion(repo, 1, "hello", **KIND)
    assert error.value.response.status_code == 401


def test_a_wrong_token_is_refused_even_for_reading(hub_url: str, repo: str):
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        HfApi(endpoint=hub_url, token="hf_wrong").dataset_info(repo)


def test_the_error_codes(hub_url: str, repo: str):
    def answer(path: str, token: str = "hf_ann_token") -> tuple[int, str | None]:
        got = httpx.get(hub_url + path, headers={"Authorization": f"Bearer {token}"})
        return got.status_code, got.headers.get("X-Error-Code")

    assert answer("/api/datasets/owner/absent") == (404, "RepoNotFound")
    assert answer(f"/api/datasets/{repo}/revision/absent") == (404, "RevisionNotFound")
    assert answer(f"/api/datasets/{repo}/tree/main/absent") == (404, "EntryNotFound")
    assert answer(f"/datasets/{repo}/resolve/main/abs%C3%A9nt%0A.txt") == (404, "EntryNotFound")
    assert answer(f"/api/datasets/{repo}/discussions/99") == (404, None)
    assert answer(f"/api/datasets/{repo}", token="hf_wrong") == (401, None)


def test_a_private_repository_is_not_there_for_others(owner: HfApi, ann: HfApi, repo: str):
    owner.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, **KIND)
    owner.update_repo_settings(repo, private=True, **KIND)
    for attempt in (
        lambda: ann.dataset_info(repo),
        lambda: ann.create_discussion(repo, "hello", **KIND),
        lambda: ann.delete_repo(repo, **KIND),
        lambda: ann.upload_file(path_or_fileobj=b"", path_in_repo="y", repo_id=repo, create_pr=True, **KIND),
    ):
        with pytest.raises(RepositoryNotFoundError):
            attempt()


def test_whoami_and_auth_check(owner: HfApi, ann: HfApi, repo: str):
    assert owner.whoami()["name"] == "owner"
    owner.auth_check(repo, **KIND, write=True)
    ann.auth_check(repo, **KIND)
    with pytest.raises(HfHubHTTPError, match="403"):
        ann.auth_check(repo, **KIND, write=True)
