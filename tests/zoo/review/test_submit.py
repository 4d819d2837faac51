"""One log sent as one pull request: what is refused, what is found again, and that the check then finds it clean."""

import socket

import pytest
from huggingface_hub import HfApi

from leaderboard.errors import P2Error, RunFailed
from leaderboard.logs.submit import submit
from zoo.review.pull_request import fetch, findings_about

DATASET = "owner/logs"
KIND = {"repo_id": DATASET, "repo_type": "dataset"}


def pulls(api: HfApi) -> list[tuple[int, str]]:
    return [(one.num, one.status) for one in api.get_repo_discussions(**KIND)]


def test_a_log_is_sent_once_brought_up_to_date_and_sent_anew_after_the_merge(owner, ann, log, tmp_path):
    path, data = log()
    (tmp_path / "mine.parquet").write_bytes(data)
    first = submit(ann, DATASET, tmp_path / "mine.parquet")
    assert (first.num, first.url) == (1, f"{ann.endpoint}/datasets/{DATASET}/discussions/1")
    assert submit(ann, DATASET, data) == first
    found = fetch(owner, DATASET, 1)
    assert ([c.path for c in found.changes], findings_about(found)) == ([path], ())
    text = owner.get_discussion_details(DATASET, 1, repo_type="dataset").events[0].content
    assert "CC-BY-4.0" in text
    assert "ann/base-1m, depth, 25.0% of all parameters, 24,576 post-training tokens" in text
    assert submit(ann, DATASET, log(bend=0.1)[1]) == first
    assert len(owner.list_repo_commits(DATASET, revision="refs/pr/1", repo_type="dataset")) == 4
    owner.merge_pull_request(DATASET, 1, repo_type="dataset")
    assert not submit(ann, DATASET, log(bend=0.1)[1]).pending
    assert submit(ann, DATASET, log(bend=0.2)[1]).num == 2
    assert pulls(owner) == [(2, "open"), (1, "merged")]


def test_a_pull_request_of_another_title_that_holds_the_log_is_found(ann, owner, log, send):
    path, data = log()
    send(ann, {"runs/ann/0123456789abcdef.parquet": b"another"})
    send(ann, {path: data})
    assert submit(ann, DATASET, data).num == 2
    assert len(pulls(owner)) == 2


@pytest.mark.parametrize(
    ("who", "spoil", "words"),
    [
        ("bob", lambda d: d, "contributor is 'ann', and you are signed in as 'bob'"),
        ("ann", lambda d: d[:-1], "the log is refused: error unreadable"),
        ("ann", lambda d: b"", "the log is refused"),
    ],
)
def test_what_may_not_be_sent_is_said_and_opens_nothing(owner, ann, as_user, log, who, spoil, words):
    with pytest.raises(P2Error, match=words):
        submit(as_user(who), DATASET, spoil(log()[1]))
    assert pulls(owner) == []


def test_refusals_of_the_hub_in_words_without_the_token(ann, hub_url, log):
    with pytest.raises(P2Error, match="owner/nowhere: not found, or private"):
        submit(ann, "owner/nowhere", log()[1])
    with pytest.raises(P2Error, match="not signed in") as refused:
        submit(HfApi(endpoint=hub_url, token="hf_wrongsecretwrongsecretw"), DATASET, log()[1])
    assert "wrongsecret" not in repr(refused.value)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with pytest.raises(RunFailed, match="does not answer"):
        submit(HfApi(endpoint=f"http://127.0.0.1:{port}", token="hf_x"), DATASET, log()[1])
