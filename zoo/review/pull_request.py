"""A pull request on the log dataset as data: who opened it, which files it changes, and which of that is not theirs.

The Hub vouches for who opened a pull request; names inside commits and files are claims. What it changes is counted
from where it left main, as a merge counts, so that files merged in the meantime are not taken for deletions.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leaderboard.errors import P2Error
from leaderboard.logs.check import MAX_BYTES
from leaderboard.logs.findings import ERROR, Finding
from leaderboard.logs.rules.texts import HUB_NAME

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAIN = "refs/heads/main"
MAX_FILES = 500  # in one pull request
_LOG = re.compile(r"[0-9a-f]{16}\.parquet")
ADDED, CHANGED, DELETED = "added", "changed", "deleted"


@dataclass(frozen=True)
class Change:
    """A path that a pull request adds, changes or deletes; `size` in bytes, 0 when deleted."""

    path: str
    kind: str
    size: int


@dataclass(frozen=True)
class Submission:
    """An open pull request at the commit `head`, on top of the commit `main` of the main branch."""

    dataset: str
    num: int
    author: str
    status: str
    head: str
    main: str
    changes: tuple[Change, ...]
    conflicts: bool
    logs: tuple[str, ...]  # run logs on main that the pull request leaves alone

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.num}"


@dataclass(frozen=True)
class _File:
    """A file of a tree: git's id of its contents, and its size in bytes."""

    oid: str
    size: int


def fetch(api: "HfApi", dataset: str, num: int) -> Submission:
    """The pull request as it stands now. Raises P2Error where there is none, or none that is open."""
    details = api.get_discussion_details(dataset, num, repo_type="dataset")
    if not details.is_pull_request:
        raise P2Error(f"{dataset} #{num}: a discussion, not a pull request.")
    if details.status not in ("open", "draft"):
        raise P2Error(f"{dataset} #{num}: already {details.status}; there is nothing left to check.")
    if details.target_branch != MAIN:
        raise P2Error(f"{dataset} #{num}: wants to reach {details.target_branch}; logs go to {MAIN}.")
    head, main = (str(api.dataset_info(dataset, revision=ref).sha) for ref in (f"refs/pr/{num}", "main"))
    known = {c.commit_id for c in api.list_repo_commits(dataset, repo_type="dataset", revision=main)}
    history = api.list_repo_commits(dataset, repo_type="dataset", revision=head)
    base = next((c.commit_id for c in history if c.commit_id in known), None)
    if base is None:
        raise P2Error(f"{dataset} #{num}: shares no commit with main; open a new pull request.")
    changes = changes_between(_tree(api, dataset, base), _tree(api, dataset, head))
    touched = {c.path for c in changes}
    logs = [p for p in _tree(api, dataset, main) if p.startswith("runs/") and p.endswith(".parquet")]
    return Submission(
        dataset=dataset,
        num=num,
        author=details.author,
        status=details.status,
        head=head,
        main=main,
        changes=changes,
        conflicts=bool(details.conflicting_files),
        logs=tuple(sorted(set(logs) - touched)),
    )


def moved(api: "HfApi", submission: Submission) -> bool:
    """Whether the pull request or main has another commit than the one that was looked at."""
    refs = {submission.ref: submission.head, "main": submission.main}
    return any(api.dataset_info(submission.dataset, revision=ref).sha != commit for ref, commit in refs.items())


def _tree(api: "HfApi", dataset: str, commit: str) -> dict[str, _File]:
    from huggingface_hub import RepoFile

    listed = api.list_repo_tree(dataset, recursive=True, repo_type="dataset", revision=commit)
    return {f.path: _File(f.blob_id, f.size) for f in listed if isinstance(f, RepoFile)}


def changes_between(old: Mapping[str, _File], new: Mapping[str, _File]) -> tuple[Change, ...]:
    """What leads from one tree to another, by path."""
    out = []
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) != new.get(path):
            kind = ADDED if path not in old else CHANGED if path in new else DELETED
            out.append(Change(path, kind, new[path].size if path in new else 0))
    return tuple(out)


def findings_about(submission: Submission) -> tuple[Finding, ...]:
    """What is wrong with the pull request as a whole."""
    out = []
    if not submission.changes:
        out.append(_finding("empty", "pull request", "no change", "at least one log", "Commit a log to it."))
    if len(submission.changes) > MAX_FILES:
        got = f"{len(submission.changes):,} files"
        out.append(_finding("too_many_files", "pull request", got, f"{MAX_FILES} files", "Split it."))
    if submission.status == "draft":
        fix = "Publish the draft on its page."
        out.append(_finding("draft", "pull request", "a draft", "an open pull request", fix))
    if submission.conflicts:
        fix = "Open it again from the newest main."
        out.append(_finding("conflict", "pull request", "conflicts with main", "files that main did not change", fix))
    return tuple(out)


def findings_of(change: Change, author: str) -> tuple[Finding, ...]:
    """What forbids this change to this author, before a byte of the file is read."""
    allowed = f"runs/{author}/<run_id>.parquet"
    folder, _, name = change.path.rpartition("/")
    if not HUB_NAME.fullmatch(author) or folder != f"runs/{author}":
        theirs = change.path.startswith("runs/") and change.kind != ADDED
        code = "not_yours" if theirs else "outside_your_folder"
        fix = "Only who sent a log may change or delete it." if theirs else "Send logs to the folder of your Hub name."
        return (_finding(code, "path", f"{change.kind} {change.path}", allowed, fix),)
    if change.kind == DELETED:
        return ()
    if not _LOG.fullmatch(name):
        fix = "Name the file by the run_id it holds: 16 hex digits."
        return (_finding("file_name", "path", change.path, allowed, fix),)
    if change.size > MAX_BYTES:
        got, most = f"{change.size:,} bytes", f"{MAX_BYTES:,} bytes"
        return (_finding("too_large", "file", got, most, "Evaluate less often."),)
    return ()


def _finding(code: str, where: str, got: str, allowed: str, fix: str) -> Finding:
    return Finding(code, ERROR, where, got, allowed, fix)
