"""What a stranger sends neither blocks the Hub for others nor breaks a later answer, and is refused in words."""

import base64
import hashlib
import json
import time

import httpx
import pytest
from huggingface_hub import HfApi

from zoo.front_matter import MOST_BYTES, metadata

ALIASES = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n + 1}: &a{n + 1} [{','.join([f'*a{n}'] * 9)}]\n" for n in range(9)
)
CARDS = {
    "aliases": ALIASES, "deep": "a: " + "[" * 5_000, "many": "a: [" + "1," * 30_000 + "]",
    "large": "a: " + "x" * MOST_BYTES,
    "half a letter": 'a: "\\ud800"', "no number": "a: .nan", "bytes": "a: !!binary /w==", "set": "a: !!set {a}",
    "base 60": "a: " + "1:" * 40_000 + "1", "truth": "a: !!bool x", "month 13": "a: 2020-13-45",
    "time": "a: !!timestamp x",
}  # fmt: skip
KIND = {"repo_type": "dataset"}


@pytest.mark.parametrize("card", CARDS)
def test_a_card_of_a_stranger_costs_little_and_is_told(card: str):
    start = time.process_time()
    with pytest.raises(ValueError, match=r"\w{3}"):
        metadata(f"---\n{CARDS[card]}\n---\n")
    assert time.process_time() - start < 3  # aliases unfolded would take minutes


def test_listings_answer_whatever_stands_in_a_readme(owner: HfApi, hub_url: str, repo: str):
    """The client would not send such a card; whoever writes to the Hub directly does."""
    headers, name = {"Authorization": f"Bearer {owner.token}"}, repo.partition("/")[2]

    def listed(front: str) -> dict[str, object]:
        content = base64.b64encode(f"---\nlicense: mit\n{front}\n---\n".encode()).decode()
        operations = [
            {"key": "header", "value": {"summary": "x"}},
            {"key": "file", "value": {"path": "README.md", "content": content}},
        ]
        lines = "\n".join(map(json.dumps, operations))
        sent = httpx.post(f"{hub_url}/api/datasets/{repo}/commit/main", content=lines, headers=headers)
        assert sent.status_code == 200
        (found,) = httpx.get(f"{hub_url}/api/datasets", params={"search": name}).json()
        return found

    assert {name: listed(front)["tags"] for name, front in CARDS.items()} == {name: [] for name in CARDS}
    sound = listed("date: 2026-01-02")
    assert (sound["tags"], sound["cardData"]) == (["license:mit"], {"license": "mit", "date": "2026-01-02"})


DEEP = "[" * 100_000 + "]" * 100_000
BODIES = {  # path below the repository, body
    "a title with half a letter": ("discussions", '{"title": "\\ud800"}'),
    "half a letter in a comment": ("discussions/1/comment", '{"comment": "\\udfff"}'),
    "deep JSON": ("discussions", DEEP),
    "a number too large": ("discussions/99999999999999999999999/comment", '{"comment": "x"}'),
    "no JSON": ("discussions", "{"),
    "another type": ("discussions", '{"title": ["\\ud800"]}'),
    "a commit with half a letter": ("commit/main", '{"key": "header", "value": {"summary": "\\ud800"}}'),
    "a path with half a letter": (
        "commit/main", '{"key": "header", "value": {"summary": "x"}}\n{"key": "file", "value": {"path": "\\ud800"}}',
    ),
    "a deep commit": ("commit/main", '{"key": "header", "value": {"summary": "x", "deep": ' + DEEP + "}}"),
    "volumes that are no number": ("volumes", '{"volumes": [{"a": NaN}]}'),
}  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_could_not_be_told_again_is_refused_in_words(hub_url: str, owner: HfApi, repo: str, body: str):
    owner.create_discussion(repo, "One", **KIND)
    path, content = BODIES[body]
    headers = {"Authorization": f"Bearer {owner.token}", "Content-Type": "application/json"}
    send = httpx.put if path == "volumes" else httpx.post
    answer = send(f"{hub_url}/api/datasets/{repo}/{path}", content=content, headers=headers)
    assert 400 <= answer.status_code < 500
    assert len(answer.json()["error"]) > 10
    assert owner.list_repo_files(repo, **KIND)
    assert list(owner.get_repo_discussions(repo, **KIND))


def test_without_a_token_few_bytes_are_taken(hub_url: str):
    large = b'{"content": "' + b"x" * 2_000_000 + b'"}'
    for token in ({}, {"Authorization": "Bearer hf_wrong"}):
        headers = {"Content-Type": "application/json"} | token
        answer = httpx.post(f"{hub_url}/api/validate-yaml", content=large, headers=headers)
        assert answer.status_code == 413
        assert "log in" in answer.json()["error"]


def test_a_hash_opens_nothing_to_who_may_not_read_the_file(owner: HfApi, ann: HfApi, hub_url: str, repo: str):
    """Neither tells the batch of LFS that it is here, nor does a commit take it; who may read it need not send it."""
    secret = hashlib.sha256(repo.encode()).digest() * 100
    oid = hashlib.sha256(secret).hexdigest()
    owner.upload_file(path_or_fileobj=secret, path_in_repo="x.parquet", repo_id=repo, **KIND)
    owner.update_repo_settings(repo, private=True, **KIND)
    ann.create_repo(mine := repo.replace("owner/", "ann/"), **KIND)

    file = {"oid": oid, "size": len(secret)}

    def batch(api: HfApi, of: str) -> bool:
        """Whether the Hub wants the file sent."""
        answer = httpx.post(
            f"{hub_url}/datasets/{of}.git/info/lfs/objects/batch", json={"objects": [file]},
            headers={"Authorization": f"Bearer {api.token}"},
        )  # fmt: skip
        return "actions" in answer.json()["objects"][0]

    assert not batch(owner, repo)
    assert batch(ann, mine)
    operations = [
        {"key": "header", "value": {"summary": "x"}}, {"key": "lfsFile", "value": {"path": "x", "oid": oid}},
    ]  # fmt: skip
    lines = "\n".join(map(json.dumps, operations))
    headers = {"Authorization": f"Bearer {ann.token}"}
    taken = httpx.post(f"{hub_url}/api/datasets/{mine}/commit/main", content=lines, headers=headers)
    assert taken.status_code == 400
    assert "not uploaded" in taken.json()["error"]
    ann.upload_file(path_or_fileobj=secret, path_in_repo="x.parquet", repo_id=mine, **KIND)  # who has it may
    assert not batch(ann, mine)
    owner.update_repo_settings(repo, private=False, **KIND)
