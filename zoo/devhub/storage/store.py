"""The Hub's durable state: one SQLite file for repos, refs, commits and discussions, one folder for contents.

A request changes the database in one transaction, synced before the answer (WAL, synchronous=FULL), and only
after the contents that it names are on disk: what was acknowledged survives `kill -9` and a power cut, what was
not leaves no trace. One connection, used by one thread at a time, holds the folder for itself.
A commit stores what it changed; trees are folded from the history and the recent ones kept in memory.
"""

import contextlib
import datetime as dt
import hashlib
import json
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leaderboard.errors import P2Error
from zoo.devhub.errors import bad_request, revision_not_found
from zoo.devhub.storage import cards, trees
from zoo.devhub.storage.objects import Objects

MAIN = "refs/heads/main"
_TREES_KEPT = 64
_CARDS_KEPT = 1_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS repos (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL,
    private INTEGER NOT NULL, created TEXT NOT NULL, UNIQUE (kind, owner, name));
CREATE TABLE IF NOT EXISTS commits (
    repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, oid TEXT NOT NULL, parent TEXT,
    title TEXT NOT NULL, message TEXT NOT NULL, author TEXT NOT NULL, date TEXT NOT NULL, changes TEXT NOT NULL,
    PRIMARY KEY (repo, oid));
CREATE TABLE IF NOT EXISTS refs (
    repo INTEGER NOT NULL, name TEXT NOT NULL, target TEXT NOT NULL, PRIMARY KEY (repo, name),
    FOREIGN KEY (repo, target) REFERENCES commits ON DELETE CASCADE);
CREATE TABLE IF NOT EXISTS discussions (
    repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, num INTEGER NOT NULL, title TEXT NOT NULL,
    author TEXT NOT NULL, created TEXT NOT NULL, status TEXT NOT NULL, target TEXT, base TEXT, merge_commit TEXT,
    PRIMARY KEY (repo, num));
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY, repo INTEGER NOT NULL, num INTEGER NOT NULL, type TEXT NOT NULL, author TEXT NOT NULL,
    created TEXT NOT NULL, data TEXT NOT NULL,
    FOREIGN KEY (repo, num) REFERENCES discussions ON DELETE CASCADE);
CREATE TABLE IF NOT EXISTS settings (
    repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, kind TEXT NOT NULL, key TEXT NOT NULL, data TEXT NOT NULL,
    PRIMARY KEY (repo, kind, key));
CREATE INDEX IF NOT EXISTS events_of_discussion ON events (repo, num);
CREATE TABLE IF NOT EXISTS contents (
    sha256 TEXT NOT NULL, repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, PRIMARY KEY (sha256, repo));
CREATE TABLE IF NOT EXISTS uploads (sha256 TEXT NOT NULL, user TEXT NOT NULL, PRIMARY KEY (sha256, user));
"""


class Store:
    """The state below one folder."""

    def __init__(self, folder: Path):
        self._db = _open_database(folder)  # first: whoever holds it has the folder for themselves
        self.objects = Objects(folder / "objects")
        self._trees: dict[tuple[int, str], trees.Tree] = {}
        self._cards: dict[str, dict[str, Any]] = {}
        self._index_contents()

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All the changes inside, or none; on disk when the block ends."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        return self._db.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute(sql, values).fetchone()
        return row

    def insert(self, table: str, **values: Any) -> None:
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        self._db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values()))

    def execute(self, sql: str, *values: Any) -> int:
        """Run a change; returns how many rows it touched."""
        return self._db.execute(sql, values).rowcount

    # -- refs -----------------------------------------------------------------------------------------------

    def refs(self, repo: int) -> dict[str, str]:
        """Full ref name -> commit."""
        rows = self.rows("SELECT name, target FROM refs WHERE repo = ? ORDER BY rowid", repo)
        return {row["name"]: row["target"] for row in rows}

    def set_ref(self, repo: int, name: str, target: str) -> None:
        self.execute(
            "INSERT INTO refs VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET target = excluded.target", repo, name, target
        )

    def resolve(self, repo: int, revision: str) -> str:
        """The commit of a branch, a tag, a full ref or a commit id; a branch wins over a tag of the same name."""
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if row := self.row("SELECT target FROM refs WHERE repo = ? AND name = ?", repo, name):
                return str(row["target"])
        if self.row("SELECT 1 FROM commits WHERE repo = ? AND oid = ?", repo, revision):
            return revision
        raise revision_not_found(revision)

    # -- commits --------------------------------------------------------------------------------------------

    def commit(self, repo: int, oid: str) -> sqlite3.Row:
        row = self.row("SELECT * FROM commits WHERE repo = ? AND oid = ?", repo, oid)
        if row is None:
            raise revision_not_found(oid)
        return row

    def add_commit(
        self, repo: int, parent: str | None, changes: trees.Changes, *, title: str, message: str, author: str
    ) -> str:
        """Store a commit; the caller moves the ref in the same transaction. Returns its id."""
        tree = trees.apply(self.tree(repo, parent), changes)
        if clash := trees.overlaps(tree, changes):
            raise bad_request(f"A file and a folder cannot have the same name: {', '.join(clash)}.")
        packed, date = json.dumps(trees.pack(changes)), now()
        identity = json.dumps([parent, packed, title, message, author, date, secrets.token_hex(8)])
        oid = hashlib.sha1(identity.encode()).hexdigest()
        self.insert(
            "commits", repo=repo, oid=oid, parent=parent, title=title, message=message, author=author, date=date,
            changes=packed,
        )  # fmt: skip
        self._note_contents(repo, changes)
        self._remember(repo, oid, tree)
        return oid

    # -- contents -------------------------------------------------------------------------------------------

    def _index_contents(self) -> None:
        """Note what the commits of a folder from before the table `contents` hold."""
        if self.row("SELECT 1 FROM contents"):
            return
        with self.transaction():
            for commit in self.rows("SELECT repo, changes FROM commits"):
                self._note_contents(commit["repo"], trees.unpack(json.loads(commit["changes"])))

    def _note_contents(self, repo: int, changes: trees.Changes) -> None:
        rows = [(file.sha256, repo) for file in changes.values() if file is not None]
        self._db.executemany("INSERT OR IGNORE INTO contents VALUES (?, ?)", rows)

    def note_upload(self, sha256: str, user: str) -> None:
        """Remember who sent an object."""
        self.execute("INSERT OR IGNORE INTO uploads VALUES (?, ?)", sha256, user)

    def may_name(self, sha256: str, user: str) -> bool:
        """Whether the object is here, and the user has sent it or may read a repository that holds it."""
        return sha256 in self.objects and bool(
            self.row("SELECT 1 FROM uploads WHERE sha256 = ? AND user = ?", sha256, user)
            or self.row(
                "SELECT 1 FROM contents JOIN repos ON repos.id = contents.repo WHERE sha256 = ? AND "
                "(private = 0 OR owner = ?)", sha256, user,
            )
        )  # fmt: skip

    def card(self, sha256: str) -> dict[str, Any]:
        """The metadata of a README, read once."""
        if sha256 not in self._cards:
            text = self.objects.read(sha256, cards.MOST_READ).decode("utf-8", "replace")
            self._cards[sha256] = cards.metadata_or_empty(text)
            while len(self._cards) > _CARDS_KEPT:
                del self._cards[next(iter(self._cards))]
        return self._cards[sha256]

    # -- history --------------------------------------------------------------------------------------------

    def history(self, repo: int, oid: str | None) -> Iterator[sqlite3.Row]:
        """The commit and its ancestors, newest first."""
        while oid:
            commit = self.commit(repo, oid)
            yield commit
            oid = commit["parent"]

    def tree(self, repo: int, oid: str | None) -> trees.Tree:
        """The files of a commit by path; empty for None. Not to be modified."""
        pending: list[str] = []
        at = oid
        while at and (repo, at) not in self._trees:
            commit = self.commit(repo, at)
            pending.append(commit["changes"])
            at = commit["parent"]
        tree: trees.Tree = self._trees[repo, at] if at else {}
        for changes in reversed(pending):
            tree = trees.apply(tree, trees.unpack(json.loads(changes)))
        if oid and pending:
            self._remember(repo, oid, tree)
        return tree

    def _remember(self, repo: int, oid: str, tree: trees.Tree) -> None:
        self._trees[repo, oid] = tree
        while len(self._trees) > _TREES_KEPT:
            del self._trees[next(iter(self._trees))]


def _open_database(folder: Path) -> sqlite3.Connection:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(folder / "hub.sqlite", check_same_thread=False, isolation_level=None, timeout=1)
    except (OSError, sqlite3.OperationalError) as error:
        raise P2Error(f"hub: {folder} cannot hold a hub ({error}); choose a folder that can be written.") from error
    db.row_factory = sqlite3.Row
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        db.executescript(_SCHEMA)
    except sqlite3.OperationalError as error:
        db.close()
        raise P2Error(f"hub: {folder} cannot be opened ({error}); is another server running on it?") from error
    return db


def now() -> str:
    """The time as the Hub writes it, to the millisecond."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
