"""Pull requests and discussions through the stock client."""

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError

KIND = {"repo_type": "dataset"}


def propose(api: HfApi, repo: str, files: dict[str, bytes], **options) -> int:
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    options = {"create_pr": True, **options}
    commit = api.create_commit(repo, operations, commit_message="Propose", repo_type="dataset", **options)
    return commit.pr_num or 0


def details(api: HfApi, repo: str, num: int):
    return api.get_discussion_details(repo, num, **KIND)


def test_open_read_merge(owner: HfApi, ann: HfApi, repo: str, read):
    num = propose(ann, repo, {"runs/ann/1.parquet": b"PAR1"}, commit_description="My run.")
    pull = details(ann, repo, num)
    assert (pull.num, pull.status, pull.author, pull.is_pull_request) == (1, "open", "ann", True)
    assert (pull.title, pull.target_branch, pull.conflicting_files) == ("Propose", "refs/heads/main", [])
    assert [event.type for event in pull.events] == ["comment", "commit"]
    assert read(repo, "runs/ann/1.parquet", "refs/pr/1") == b"PAR1"
    assert owner.list_repo_files(repo, **KIND) == [".gitattributes"]
    owner.merge_pull_request(repo, num, comment="Thanks", **KIND)
    assert read(repo, "runs/ann/1.parquet") == b"PAR1"
    merged = details(ann, repo, num)
    assert (merged.status, merged.merge_commit_oid) == ("merged", owner.dataset_info(repo).sha)
    assert [event.type for event in merged.events] == ["comment", "commit", "status-change", "comment"]
    with pytest.raises(BadRequestError, match="merged"):
        owner.merge_pull_request(repo, num, **KIND)
    refs = owner.list_repo_refs(repo, include_pull_requests=True, **KIND).pull_requests
    assert [ref.ref for ref in refs or []] == ["refs/pr/1"]


def test_the_author_pushes_further_commits(owner: HfApi, ann: HfApi, bob: HfApi, repo: str, read):
    num = propose(ann, repo, {"a.txt": b"1"})
    propose(ann, repo, {"a.txt": b"2"}, create_pr=False, revision="refs/pr/1")
    propose(owner, repo, {"b.txt": b"owner"}, create_pr=False, revision="refs/pr/1")
    with pytest.raises(HfHubHTTPError, match="403"):
        propose(bob, repo, {"c.txt": b"bob"}, create_pr=False, revision="refs/pr/1")
    assert read(repo, "a.txt", "refs/pr/1") == b"2"
    owner.merge_pull_request(repo, num, **KIND)
    assert (read(repo, "a.txt"), read(repo, "b.txt")) == (b"2", b"owner")
    with pytest.raises(BadRequestError, match="nothing can be pushed"):
        propose(ann, repo, {"a.txt": b"3"}, create_pr=False, revision="refs/pr/1")


def test_a_draft_is_published_before_it_is_merged(owner: HfApi, ann: HfApi, repo: str, read):
    num = ann.create_pull_request(repo, "Draft", **KIND).num
    assert details(ann, repo, num).status == "draft"
    propose(ann, repo, {"a.txt": b"1"}, create_pr=False, revision=f"refs/pr/{num}")
    with pytest.raises(BadRequestError, match="draft"):
        owner.merge_pull_request(repo, num, **KIND)
    ann.change_discussion_status(repo, num, "open", **KIND)
    owner.merge_pull_request(repo, num, **KIND)
    assert read(repo, "a.txt") == b"1"


def test_requests_that_touch_different_files_merge_in_any_order(owner: HfApi, ann: HfApi, bob: HfApi, repo: str):
    numbers = [propose(api, repo, {f"{index}.txt": b"x"}) for index, api in enumerate([ann, bob, ann])]
    for num in reversed(numbers):
        owner.merge_pull_request(repo, num, **KIND)
    assert owner.list_repo_files(repo, **KIND) == [".gitattributes", "0.txt", "1.txt", "2.txt"]


def test_a_conflict_is_named_and_refused_until_resolved(owner: HfApi, ann: HfApi, bob: HfApi, repo: str, read):
    propose(owner, repo, {"shared.txt": b"0", "other.txt": b"0"}, create_pr=False)
    first = propose(ann, repo, {"shared.txt": b"ann"})
    second = propose(bob, repo, {"shared.txt": b"bob", "other.txt": b"bob"})
    owner.merge_pull_request(repo, first, **KIND)
    assert details(bob, repo, second).conflicting_files == ["shared.txt"]
    with pytest.raises(HfHubHTTPError, match="409"):
        owner.merge_pull_request(repo, second, **KIND)
    assert (read(repo, "shared.txt"), read(repo, "other.txt")) == (b"ann", b"0")
    propose(bob, repo, {"shared.txt": b"ann"}, create_pr=False, revision=f"refs/pr/{second}")
    owner.merge_pull_request(repo, second, **KIND)
    assert (read(repo, "shared.txt"), read(repo, "other.txt")) == (b"ann", b"bob")


def test_close_and_reopen(owner: HfApi, ann: HfApi, bob: HfApi, repo: str):
    num = propose(ann, repo, {"a.txt": b"1"})
    with pytest.raises(HfHubHTTPError, match="403"):
        bob.change_discussion_status(repo, num, "closed", **KIND)
    ann.change_discussion_status(repo, num, "closed", comment="Later", **KIND)
    with pytest.raises(BadRequestError, match="closed"):
        owner.merge_pull_request(repo, num, **KIND)
    owner.change_discussion_status(repo, num, "open", **KIND)
    owner.merge_pull_request(repo, num, **KIND)
    with pytest.raises(BadRequestError, match="cannot change"):
        owner.change_discussion_status(repo, num, "open", **KIND)


def test_a_pull_request_may_start_from_an_older_commit_and_reach_a_branch(owner: HfApi, ann: HfApi, repo: str, read):
    old = owner.dataset_info(repo).sha
    propose(owner, repo, {"a.txt": b"1"}, create_pr=False)
    owner.create_branch(repo, branch="next", **KIND)
    num = propose(ann, repo, {"b.txt": b"2"}, revision="next", parent_commit=old)
    assert details(ann, repo, num).target_branch == "refs/heads/next"
    assert owner.list_repo_files(repo, revision=f"refs/pr/{num}", **KIND) == [".gitattributes", "b.txt"]
    owner.merge_pull_request(repo, num, **KIND)
    assert owner.list_repo_files(repo, revision="next", **KIND) == [".gitattributes", "a.txt", "b.txt"]
    with pytest.raises(HfHubHTTPError, match="412"):
        propose(ann, repo, {"c.txt": b"3"}, parent_commit="f" * 40)
    assert len(list(owner.get_repo_discussions(repo, **KIND))) == 1


def test_discussion_comments_titles_and_filters(owner: HfApi, ann: HfApi, bob: HfApi, repo: str):
    num = ann.create_discussion(repo, "Question", description="Why?", **KIND).num
    propose(bob, repo, {"a.txt": b"1"})
    comment = bob.comment_discussion(repo, num, "Because **so**.", **KIND)
    edited = bob.edit_discussion_comment(repo, num, comment.id, "Because.", **KIND)
    assert (edited.content, edited.edited) == ("Because.", True)
    with pytest.raises(HfHubHTTPError, match="403"):
        ann.edit_discussion_comment(repo, num, comment.id, "Mine", **KIND)
    with pytest.warns(UserWarning, match="irreversible"):
        assert owner.hide_discussion_comment(repo, num, comment.id, **KIND).hidden
    ann.rename_discussion(repo, num, "Better question", **KIND)
    owner.change_discussion_status(repo, num, "closed", **KIND)
    seen = details(ann, repo, num)
    assert (seen.title, seen.status, seen.events[0].content) == ("Better question", "closed", "Why?")
    assert [event.type for event in seen.events] == ["comment", "comment", "title-change", "status-change"]

    def found(**filters) -> list[int]:
        return [one.num for one in owner.get_repo_discussions(repo, **KIND, **filters)]

    assert found() == [2, 1]
    assert found(discussion_type="pull_request") == [2]
    assert found(discussion_status="closed") == [1]
    assert found(author="bob") == [2]


def test_long_lists_come_in_pages(owner: HfApi, repo: str):
    for index in range(53):
        owner.create_discussion(repo, f"Number {index}", **KIND)
    assert [one.num for one in owner.get_repo_discussions(repo, **KIND)] == list(range(53, 0, -1))
