"""Pull requests of friends and strangers against a real Hub: what is merged, what is refused, what is said."""

import json

import pytest
from huggingface_hub import DiscussionComment

from leaderboard import P2Error
from leaderboard.logs.hub import read_dataset
from tests.zoo.review.conftest import load_here
from zoo.review import check as review_check
from zoo.review.check import check_pull_request
from zoo.review.pull_request import fetch

DATASET = "owner/logs"
KIND = {"repo_id": DATASET, "repo_type": "dataset"}


def codes(verdict):
    return [f.code for f in verdict.findings] + [f.code for r in verdict.reports for f in r.findings]


def comments(api, num):
    events = api.get_discussion_details(DATASET, num, repo_type="dataset").events
    return [e.content for e in events if isinstance(e, DiscussionComment)][1:]  # the first opened it


def files(api):
    return {p for p in api.list_repo_files(**KIND) if p.startswith("runs/")}


def test_a_good_run_is_commented_merged_and_read_back(owner, ann, log, send, tmp_path):
    datasets = pytest.importorskip("datasets", reason="in the extra [train]")
    path, data = log()
    num = send(ann, {path: data})
    verdict = check_pull_request(owner, DATASET, num, comment=True, merge_if_clean=True)
    assert verdict.ok
    assert verdict.merged == owner.dataset_info(DATASET).sha
    assert next(e.what for e in verdict.effects) == "laws that answer on ann/heldout, best first"
    (text,) = comments(owner, num)
    assert "**p2zoo check: clean**" in text
    assert f"| `{path}` | added, ok |" in text
    logs = read_dataset(DATASET, api=owner)
    assert logs.revision == verdict.merged
    assert (len(logs.frame), logs.quarantined, logs.note) == (13, (), None)
    local = owner.snapshot_download(DATASET, repo_type="dataset", local_dir=tmp_path / "dataset")
    rows = datasets.load_dataset(local, split="train", cache_dir=str(tmp_path / "datasets"))
    assert rows.num_rows == 13
    assert json.dumps(verdict.as_dict())


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("runs/bob/{name}", "outside_your_folder"),
        ("runs/Ann/{name}", "outside_your_folder"),
        ("runs/аnn/{name}", "outside_your_folder"),  # the first letter is Cyrillic
        ("runs/ann/deep/{name}", "outside_your_folder"),
        ("{name}", "outside_your_folder"),
        ("notes.txt", "outside_your_folder"),
        ("runs/ann/.{name}", "file_name"),
        ("runs/ann/0123456789abcdef.parquet", "file_name"),
        ("runs/ann/{name}.exe", "file_name"),
        ("runs/ann/０123456789abcde.parquet", "file_name"),  # a full-width digit
        ("runs/ann/|<img src=x onerror=alert(1)>`@owner.parquet", "file_name"),
    ],
)
def test_a_path_that_is_not_ones_own_is_refused(owner, ann, log, send, check, path, code):
    own, data = log()
    num = send(ann, {path.format(name=own.rpartition("/")[2]): data})
    verdict = check(num, comment=True, merge_if_clean=True)
    assert codes(verdict) == [code]
    assert verdict.merged is None
    assert files(owner) == set()


def test_a_log_in_the_name_of_another_is_refused(owner, ann, log, send, check):
    path, data = log(contributor="bob")
    verdict = check(send(ann, {path.replace("/bob/", "/ann/"): data}))
    assert codes(verdict) == ["contributor"]


def test_authors_correct_and_withdraw_and_nobody_else_does(owner, ann, bob, log, send, check):
    path, data = log()
    assert check(send(ann, {path: data}), merge_if_clean=True).merged
    for change in (log(bend=0.1, contributor="bob")[1], None):
        verdict = check(send(bob, {path: change}), merge_if_clean=True)
        assert codes(verdict) == ["not_yours"]
    corrected = check(send(ann, {path: log(bend=0.1)[1]}), merge_if_clean=True)
    assert [c.kind for c in corrected.submission.changes] == ["changed"]
    assert read_dataset(DATASET, api=owner).frame["loss"].min() == pytest.approx(3.5 - 0.4 * 12 / 15)
    withdrawn = check(send(ann, {path: None}), merge_if_clean=True)
    assert withdrawn.merged
    assert files(owner) == set()


def test_what_was_merged_meanwhile_is_no_deletion_and_the_merged_one_is_the_original(owner, ann, bob, log, send, check):
    start = owner.dataset_info(DATASET).sha
    path, data = log()
    twin_path, twin = log(contributor="bob", seed=1)
    first = send(ann, {path: data}, parent_commit=start)
    copied = send(bob, {twin_path: twin}, parent_commit=start)
    honest = send(bob, {(other := log(contributor="bob", seed=2, bend=0.05))[0]: other[1]}, parent_commit=start)
    assert check(first, merge_if_clean=True).merged
    assert codes(check(copied, merge_if_clean=True)) == ["near_duplicate"]
    assert check(honest, merge_if_clean=True).merged
    assert files(owner) == {path, other[0]}


def test_the_same_run_twice_in_one_pull_request_and_a_replicate(owner, ann, bob, log, send, check):
    path, data = log()
    twice = send(ann, {path: data, path.replace(".parquet", "0.parquet"): data})
    assert codes(check(twice)) == ["file_name"]
    assert check(send(ann, {path: data}), merge_if_clean=True).merged
    again, other = log(contributor="bob", bend=0.01)
    replicate = check(send(bob, {again: other}), merge_if_clean=True)
    assert codes(replicate) == ["replicate"]
    assert replicate.merged


def test_a_confirmation_is_merged_counts_once_and_is_of_whoever_sends_it(owner, ann, bob, log, send, check):
    path, data = log()
    assert check(send(ann, {path: data}), merge_if_clean=True).merged
    again, same = log(contributor="bob")
    forged = check(send(ann, {again.replace("/bob/", "/ann/").replace("a", "b"): same}))
    assert not forged.ok
    confirmed = check(send(bob, {again: same}), merge_if_clean=True)
    assert codes(confirmed) == ["confirmation"]
    assert confirmed.merged
    assert not confirmed.effects
    assert len(read_dataset(DATASET, api=owner).frame) == 13


def test_an_unusual_log_waits_for_a_person(owner, ann, log, send, check):
    """A curve that climbs breaks no rule: it may be merged, but not by itself."""
    path, data = log(bend=-0.6)
    num = send(ann, {path: data})
    verdict = check(num, comment=True, merge_if_clean=True)
    assert (verdict.verdict, verdict.ok, verdict.merged) == ("unusual", True, None)
    assert "climbs" in codes(verdict)
    assert "**p2zoo check: unusual**" in comments(owner, num)[0]
    assert files(owner) == set()


def test_too_large_drafts_empty_and_closed_ones(owner, ann, log, send, check):
    path, data = log()
    assert codes(check(send(ann, {path: bytes(5_000_001)}))) == ["too_large"]
    draft = ann.create_pull_request(title="later", **KIND).num
    assert codes(check(draft)) == ["empty", "draft"]
    talk = ann.create_discussion(title="hello", **KIND).num
    with pytest.raises(P2Error, match="a discussion"):
        check(talk)
    closed = send(ann, {path: data})
    ann.change_discussion_status(discussion_num=closed, new_status="closed", **KIND)
    with pytest.raises(P2Error, match="already closed"):
        check(closed)
    with pytest.raises(P2Error, match="not found"):
        check(999)


def test_one_comment_that_follows_the_pull_request(owner, ann, log, send, check):
    path, data = log()
    num = send(ann, {path: data[:-1]})
    ann.comment_discussion(DATASET, num, "<!-- p2zoo check -->\n**p2zoo check: clean**", repo_type="dataset")
    for _ in range(3):
        check(num, comment=True)
    forged, said = comments(owner, num)
    assert "refused" in said
    assert "unreadable" in said
    ann.upload_file(path_or_fileobj=data, path_in_repo=path, revision=f"refs/pr/{num}", **KIND)
    check(num, comment=True)
    assert comments(owner, num)[0] == forged
    assert "**p2zoo check: clean**" in comments(owner, num)[1]
    assert len(comments(owner, num)) == 2


def test_what_was_pushed_after_the_check_is_not_merged(owner, ann, log, send):
    path, data = log()
    num = send(ann, {path: data})
    verdict = review_check.judge(owner, fetch(owner, DATASET, num), load_here)
    ann.upload_file(path_or_fileobj=b"something else", path_in_repo="notes.txt", revision=f"refs/pr/{num}", **KIND)
    with pytest.raises(P2Error, match="moved while it was checked"):
        review_check.merge(owner, verdict)
    assert files(owner) == set()


def test_the_dataset_must_load_before_it_is_merged(owner, ann, log, send):
    """A file that only a maintainer can have put there breaks the dataset: the check says so and merges nothing."""
    owner.upload_file(path_or_fileobj=b"no parquet", path_in_repo="runs/owner/x.parquet", **KIND)
    path, data = log()
    verdict = check_pull_request(owner, DATASET, send(ann, {path: data}), merge_if_clean=True)
    assert codes(verdict) == ["load_dataset"]
    assert verdict.merged is None
