"""Discussions and pull requests: a pull request is a discussion with a ref of its own, `refs/pr/N`.

`base` is the commit it started from, `target` the branch it wants to reach. A merge applies what it changed
since `base` on top of the target, path by path; a path that both sides changed differently is a conflict.
"""

import json
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zoo.devhub.errors import HubError, bad_request
from zoo.devhub.storage import trees
from zoo.devhub.storage.repos import Repo
from zoo.devhub.storage.store import Store, now

_NUMBERS = 2**63


@dataclass(frozen=True)
class Discussion:
    """A discussion, or a pull request where `target` is set. `status`: open, closed, draft or merged."""

    num: int
    title: str
    author: str
    created: str
    status: str
    target: str | None
    base: str | None
    merge_commit: str | None

    @property
    def is_pull(self) -> bool:
        return self.target is not None

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.num}"

    @property
    def pending(self) -> bool:
        return self.status in ("open", "draft")


def start(store: Store, repo: Repo, author: str, title: str, text: str) -> Discussion:
    """Open a discussion with its first comment."""
    return _start(store, repo, author, title, text, status="open")


def start_pull(
    store: Store, repo: Repo, author: str, title: str, text: str, *, status: str, target: str, base: str
) -> Discussion:
    """Open a pull request that wants to reach the branch `target` and starts at the commit `base`."""
    pull = _start(store, repo, author, title, text, status=status, target=target, base=base)
    store.set_ref(repo.key, pull.ref, base)
    return pull


def _start(store: Store, repo: Repo, author: str, title: str, text: str, **fields: str) -> Discussion:
    if not title.strip():
        raise bad_request("A discussion needs a title.")
    last = store.row("SELECT max(num) AS num FROM discussions WHERE repo = ?", repo.key)
    num = ((last["num"] if last else None) or 0) + 1
    store.insert("discussions", repo=repo.key, num=num, title=title, author=author, created=now(), **fields)
    add_event(store, repo, num, author, "comment", comment(text))
    return find(store, repo, num)


def find(store: Store, repo: Repo, num: int) -> Discussion:
    known = num < _NUMBERS  # more is no number of the database
    row = store.row("SELECT * FROM discussions WHERE repo = ? AND num = ?", repo.key, num) if known else None
    if row is None:
        raise HubError(404, "There is no such discussion")
    return _discussion(row)


def listed(store: Store, repo: Repo, keep: Callable[[Discussion], bool]) -> list[Discussion]:
    """Newest first."""
    rows = store.rows("SELECT * FROM discussions WHERE repo = ? ORDER BY num DESC", repo.key)
    return [discussion for row in rows if keep(discussion := _discussion(row))]


def rename(store: Store, repo: Repo, discussion: Discussion, user: str, title: str) -> dict[str, Any]:
    if not title.strip():
        raise bad_request("A discussion needs a title.")
    store.execute("UPDATE discussions SET title = ? WHERE repo = ? AND num = ?", title, repo.key, discussion.num)
    return add_event(store, repo, discussion.num, user, "title-change", {"from": discussion.title, "to": title})


def set_status(store: Store, repo: Repo, discussion: Discussion, user: str, status: str) -> dict[str, Any]:
    """Close, reopen, or publish a draft; what is merged stays merged."""
    if status not in ("open", "closed"):
        raise bad_request(f"Unknown status {status!r}. Known: closed, open.")
    if discussion.status == "merged":
        raise bad_request("This pull request is merged; its status cannot change any more.")
    _write_status(store, repo, discussion.num, status)
    return add_event(store, repo, discussion.num, user, "status-change", {"status": status})


def merge(store: Store, repo: Repo, discussion: Discussion, user: str) -> str:
    """Apply a pull request to its target branch as one commit; returns the commit's id."""
    if discussion.target is None or discussion.status != "open":
        what = discussion.status if discussion.is_pull else "only a discussion"
        raise bad_request(f"#{discussion.num} is {what}; only an open pull request can be merged.")
    changes, conflicts = merge_changes(store, repo, discussion)
    if conflicts:
        raise HubError(409, f"Merge conflict in {', '.join(map(ascii, conflicts[:10]))}")
    head = store.resolve(repo.key, discussion.target)
    title = f"{discussion.title} (#{discussion.num})"
    oid = store.add_commit(repo.key, head, changes, title=title, message="", author=discussion.author)
    store.set_ref(repo.key, discussion.target, oid)
    store.execute("UPDATE discussions SET merge_commit = ? WHERE repo = ? AND num = ?", oid, repo.key, discussion.num)
    _write_status(store, repo, discussion.num, "merged")
    add_event(store, repo, discussion.num, user, "status-change", {"status": "merged"})
    return oid


def merge_changes(store: Store, repo: Repo, pull: Discussion) -> tuple[trees.Changes, list[str]]:
    """What merging would change on the target now, and the conflicting paths."""
    if pull.target is None:
        raise bad_request(f"#{pull.num} is no pull request.")
    base, ours, theirs = (
        store.tree(repo.key, oid)
        for oid in (pull.base, store.resolve(repo.key, pull.target), store.resolve(repo.key, pull.ref))
    )
    return trees.three_way(base, ours, theirs)


def comment(text: str) -> dict[str, Any]:
    """The data of a comment event."""
    return {"edited": False, "hidden": False, "latest": {"raw": text}}


def add_event(store: Store, repo: Repo, num: int, author: str, type_: str, data: dict[str, Any]) -> dict[str, Any]:
    """Append to a discussion; returns the event in the client's form."""
    row = {"id": secrets.token_hex(12), "type": type_, "author": author, "created": now()}
    store.insert("events", repo=repo.key, num=num, data=json.dumps(data), **row)
    return _event(row, data)


def find_comment(store: Store, repo: Repo, num: int, event: str) -> dict[str, Any]:
    row = store.row(
        "SELECT * FROM events WHERE repo = ? AND num = ? AND id = ? AND type = 'comment'", repo.key, num, event
    )
    if row is None:
        raise HubError(404, "Comment not found")
    return _event(row, json.loads(row["data"]))


def rewrite_comment(store: Store, event: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Replace a comment's data; returns the event."""
    store.execute("UPDATE events SET data = ? WHERE id = ?", json.dumps(data), event["id"])
    return {**event, "data": data}


def summary(repo: Repo, discussion: Discussion) -> dict[str, Any]:
    """A discussion in a list, in the client's form."""
    return {
        "num": discussion.num,
        "title": discussion.title,
        "author": {"name": discussion.author},
        "createdAt": discussion.created,
        "status": discussion.status,
        "repo": {"name": repo.id, "type": repo.kind},
        "isPullRequest": discussion.is_pull,
    }


def details(store: Store, repo: Repo, discussion: Discussion) -> dict[str, Any]:
    """A discussion with its events; for a pull request also its target and whether it conflicts."""
    rows = store.rows("SELECT * FROM events WHERE repo = ? AND num = ? ORDER BY rowid", repo.key, discussion.num)
    out = summary(repo, discussion) | {"events": [_event(row, json.loads(row["data"])) for row in rows]}
    if discussion.target is not None:
        conflicts = merge_changes(store, repo, discussion)[1] if discussion.pending else []
        out["changes"] = {"base": discussion.target, "mergeCommitId": discussion.merge_commit}
        out["filesWithConflicts"] = conflicts
    return out


def _write_status(store: Store, repo: Repo, num: int, status: str) -> None:
    store.execute("UPDATE discussions SET status = ? WHERE repo = ? AND num = ?", status, repo.key, num)


def _event(row: Any, data: dict[str, Any]) -> dict[str, Any]:
    author = {"name": row["author"]}
    return {"id": row["id"], "type": row["type"], "createdAt": row["created"], "author": author, "data": data}


def _discussion(row: sqlite3.Row) -> Discussion:
    return Discussion(**{key: row[key] for key in Discussion.__dataclass_fields__})
