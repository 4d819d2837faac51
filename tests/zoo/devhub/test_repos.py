"""Repositories, branches and tags through the stock client."""

import httpx
import pytest
from huggingface_hub import EvalResult, HfApi, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_create_describe_delete(owner: HfApi, hub_url: str, kind: str):
    sdk = {"space_sdk": "gradio"} if kind == "space" else {}
    url = owner.create_repo(f"owner/{kind}-one", repo_type=kind, **sdk)
    assert url == f"{hub_url}/{'' if kind == 'model' else kind + 's/'}owner/{kind}-one"
    info = owner.repo_info(f"owner/{kind}-one", repo_type=kind, files_metadata=True)
    assert (info.id, info.author, info.private) == (f"owner/{kind}-one", "owner", False)
    assert [(file.rfilename, bool(file.size)) for file in info.siblings] == [(".gitattributes", True)]
    owner.delete_repo(f"owner/{kind}-one", repo_type=kind)
    assert not owner.repo_exists(f"owner/{kind}-one", repo_type=kind)
    owner.delete_repo(f"owner/{kind}-one", repo_type=kind, missing_ok=True)


def test_creating_twice_is_409_unless_allowed(owner: HfApi, repo: str):
    with pytest.raises(HfHubHTTPError) as error:
        owner.create_repo(repo, repo_type="dataset")
    assert error.value.response.status_code == 409
    owner.create_repo(repo, repo_type="dataset", exist_ok=True)
    owner.create_repo(repo, repo_type="model")  # another kind is another repository


def test_a_deleted_and_recreated_repository_is_empty(owner: HfApi, repo: str):
    owner.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, repo_type="dataset")
    owner.create_discussion(repo, "old", repo_type="dataset")
    owner.delete_repo(repo, repo_type="dataset")
    owner.create_repo(repo, repo_type="dataset")
    assert owner.list_repo_files(repo, repo_type="dataset") == [".gitattributes"]
    assert list(owner.get_repo_discussions(repo, repo_type="dataset")) == []


@pytest.mark.parametrize("name", ["owner/..", "owner/-", "owner/a--b", "owner/" + "x" * 97])
def test_names_that_are_refused(hub_url: str, name: str):
    payload = {"name": name.split("/")[1], "type": "model"}
    headers = {"Authorization": "Bearer hf_owner_token"}
    answer = httpx.post(f"{hub_url}/api/repos/create", json=payload, headers=headers)
    assert answer.status_code == 400
    assert "repository name" in answer.json()["error"]


def test_lists_with_the_clients_filters(owner: HfApi, as_user):
    for name, base in (("filter-a", "meta/small"), ("filter-b", "meta/large")):
        owner.create_repo(f"owner/{name}")
        card = f"---\nlicense: apache-2.0\ntags: [p2zoo]\nbase_model: {base}\nbase_model_relation: finetune\n---\nhello"
        owner.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=f"owner/{name}")
    as_user("bob").create_repo("bob/filter-c")

    def ids(**filters) -> list[str]:
        return [model.id for model in owner.list_models(**filters)]

    assert ids(author="bob") == ["bob/filter-c"]
    assert ids(filter="p2zoo") == ["owner/filter-a", "owner/filter-b"]
    assert ids(filter=["p2zoo", "base_model:meta/large"]) == ["owner/filter-b"]
    assert ids(filter="base_model:finetune:meta/small") == ["owner/filter-a"]
    assert ids(search="FILTER-", sort="last_modified", limit=1) == ["bob/filter-c"]
    assert owner.model_info("owner/filter-a").card_data.base_model == "meta/small"


def test_private_repositories_exist_for_their_owner_only(owner: HfApi, ann: HfApi, as_user):
    owner.create_repo("owner/secret", private=True)
    assert [model.id for model in owner.list_models(search="secret")] == ["owner/secret"]
    assert list(ann.list_models(search="secret")) == []
    for other in (ann, as_user(None)):
        with pytest.raises(RepositoryNotFoundError):
            other.model_info("owner/secret")
    owner.update_repo_settings("owner/secret", private=False)
    assert ann.model_info("owner/secret").private is False


def test_branches_and_tags(owner: HfApi, repo: str, read):
    kind = {"repo_type": "dataset"}
    first = owner.upload_file(path_or_fileobj=b"1", path_in_repo="x.txt", repo_id=repo, **kind).oid
    owner.create_branch(repo, branch="feature/one", **kind)
    owner.create_tag(repo, tag="v1", tag_message="one", **kind)
    owner.upload_file(path_or_fileobj=b"2", path_in_repo="x.txt", repo_id=repo, revision="feature/one", **kind)
    versions = {rev: read(repo, "x.txt", rev) for rev in ("main", "feature/one", "v1", first, "refs/heads/main")}
    assert versions == {"main": b"1", "feature/one": b"2", "v1": b"1", first: b"1", "refs/heads/main": b"1"}
    refs = owner.list_repo_refs(repo, **kind)
    assert [(ref.name, ref.ref) for ref in refs.branches] == [
        ("main", "refs/heads/main"),
        ("feature/one", "refs/heads/feature/one"),
    ]
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1", first)]
    owner.create_branch(repo, branch="feature/one", exist_ok=True, **kind)
    owner.delete_branch(repo, branch="feature/one", **kind)
    owner.delete_tag(repo, tag="v1", **kind)
    for gone in ("feature/one", "v1"):
        with pytest.raises(RevisionNotFoundError):
            owner.list_repo_files(repo, revision=gone, **kind)
    with pytest.raises(HfHubHTTPError, match="default branch"):
        owner.delete_branch(repo, branch="main", **kind)


def test_card_metadata_are_read_and_validated(owner: HfApi):
    owner.create_repo("owner/carded")
    result = EvalResult("text-generation", "heldout", "heldout", "loss", 2.9)
    data = ModelCardData(model_name="carded", license="apache-2.0", eval_results=[result])

    def upload(card: str) -> None:
        owner.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id="owner/carded")

    upload(f"---\n{data.to_yaml()}\n---\nText")
    assert owner.model_info("owner/carded").card_data.eval_results[0].metric_value == 2.9
    with pytest.raises(ValueError, match="Invalid metadata"):
        upload("---\na: [1\n---\n")
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        upload("no metadata")
