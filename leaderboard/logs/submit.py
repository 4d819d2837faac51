"""Sending one run log to a log data set: checked, then one pull request with `runs/<user>/<run_id>.parquet`.

`submit` does all of it and may be done again: a pull request of the same user with the same log is found, not doubled,
and one with an older state of the run is brought up to date. Its steps are public for those who retry each of them.
Never a draft: `create_commit(create_pr=True)` opens a pull request that can be merged as it is.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from leaderboard.errors import P2Error
from leaderboard.logs.check import check_files, read_log
from leaderboard.logs.contract import schema
from leaderboard.logs.findings import ERROR
from leaderboard.words import address

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LICENCE = "CC-BY-4.0"


@dataclass(frozen=True)
class Pull:
    """A pull request. `pending`: it waits; otherwise it is merged."""

    num: int
    pending: bool
    url: str

    @property
    def revision(self) -> str:
        """Where its files stand."""
        return f"refs/pr/{self.num}" if self.pending else "main"


def submit(api: "HfApi", dataset: str, log: Path | bytes) -> Pull:
    """Send a log, as a path or as bytes, in the name of who is signed in.

    Raises P2Error for a log that the check refuses or that names another contributor, and for what the Hub refuses;
    RunFailed where doing it again may help.
    """
    from leaderboard.logs.hub_errors import cause_of, explain

    with tempfile.TemporaryDirectory(prefix="p2zoo-") as work:
        path = log if isinstance(log, Path) else Path(work) / "log.parquet"
        if isinstance(log, bytes):
            path.write_bytes(log)
        table = checked(path)
        try:
            user = str(api.whoami()["name"])
            _refuse_stranger(table, user)
            pull = find(api, dataset, user, str(table["run_id"][0]))
            if pull and (there := stands(api, dataset, pull, user, str(table["run_id"][0]))) and there.equals(table):
                return pull
            return send(api, dataset, user, path, table, pull)
        except Exception as error:
            if (cause := cause_of(error)) is None:
                raise
            raise explain(cause, f"submit: log data set {dataset}") from None  # the chain may show signed addresses


def checked(path: Path) -> pa.Table:
    """A log that passes the check, in the contract's columns and types."""
    (report,) = check_files([path], ["log"]).reports
    if not report.ok:
        raise P2Error(
            "submit: the log is refused: " + "; ".join(str(f) for f in report.findings if f.severity == ERROR)
        )
    table, _ = read_log(path)
    assert table is not None
    return _in_contract(table)


def _in_contract(table: pa.Table) -> pa.Table:
    return table.cast(schema(table["provenance"][0].as_py()))


def _refuse_stranger(table: pa.Table, user: str) -> None:
    named = table["contributor"][0].as_py()
    if named != user:
        raise P2Error(
            f"submit: the log's contributor is {named!r}, and you are signed in as {user!r}. Who sends a log must "
            "be who ran it: sign in under that name, or set contributor to your Hub name (`p2zoo publish` does)."
        )


def log_path(user: str, run_id: str) -> str:
    """Where a run's log stands on a log data set."""
    return f"runs/{user}/{run_id}.parquet"


def title(columns: dict[str, Any]) -> str:
    """Of the pull request; it holds the run_id, by which the request is found again."""
    return f"Add run {columns['run_id']}: {columns['base_model']}, {columns['method']}, rate {columns['rate']:.3f}"


def find(api: "HfApi", dataset: str, user: str, run_id: str, *, look_only: bool = False) -> Pull | None:
    """The user's pull request with this run: one that waits, else one that was merged.

    A draft is opened, but for `look_only`, which changes nothing.
    """
    listed = api.get_repo_discussions(dataset, author=user, discussion_type="pull_request", repo_type="dataset")
    alive = [one for one in listed if one.status != "closed"]
    mine = [one for one in alive if run_id in one.title] or _by_file(api, dataset, alive, log_path(user, run_id))
    if not mine:
        return None
    found = min(mine, key=lambda one: (one.status == "merged", -one.num))
    if found.status == "draft" and not look_only:
        api.change_discussion_status(dataset, found.num, "open", repo_type="dataset")
    return Pull(found.num, found.status != "merged", _url(api, dataset, found.num))


def _by_file(api: "HfApi", dataset: str, pulls: Iterable[Any], path: str) -> list[Any]:
    """Those of the waiting pull requests, whatever their titles, that bring a file which main lacks."""
    waiting = [one for one in pulls if one.status == "open"]
    if not waiting or api.get_paths_info(dataset, [path], repo_type="dataset"):
        return []
    return [
        one
        for one in waiting
        if api.get_paths_info(dataset, [path], revision=f"refs/pr/{one.num}", repo_type="dataset")
    ]


def stands(api: "HfApi", dataset: str, pull: Pull, user: str, run_id: str) -> pa.Table | None:
    """The log as it stands in a pull request; None if it is not there or cannot be read."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    with tempfile.TemporaryDirectory(prefix="p2zoo-") as work:
        try:
            path = api.hf_hub_download(
                dataset, log_path(user, run_id), repo_type="dataset", revision=pull.revision, local_dir=work
            )
        except RemoteEntryNotFoundError:
            return None
        table, _ = read_log(Path(path))
        return None if table is None else _in_contract(table)


def send(
    api: "HfApi", dataset: str, user: str, path: Path, table: pa.Table, pull: Pull | None, about: str = ""
) -> Pull:
    """Commit the log file `path`, whose rows are `table`, to a waiting pull request, or open one.

    `about` comes first in the description.
    """
    from huggingface_hub import CommitOperationAdd

    first = table.slice(0, 1).to_pylist()[0]
    pending = pull if pull and pull.pending else None
    commit = api.create_commit(
        dataset,
        [CommitOperationAdd(log_path(user, first["run_id"]), path)],
        repo_type="dataset",
        commit_message=title(first),
        commit_description=about + _description(first, table.slice(table.num_rows - 1).to_pylist()[0]),
        revision=pending.revision if pending else None,
        create_pr=pending is None,
    )
    return pending or Pull(int(commit.pr_num or 0), True, _url(api, dataset, commit.pr_num))


def _description(first: dict[str, Any], last: dict[str, Any]) -> str:
    longer = f" It goes on from run {first['extends']}, and its log replaces that one." if first["extends"] else ""
    return (
        f"{first['base_model']}, {first['method']}, {first['rate']:.1%} of all parameters, {last['tokens']:,} "
        f"post-training tokens. Held-out loss: {first['l0']:.4f} before, {first['l_pruned']:.4f} pruned, "
        f"{last['loss']:.4f} now.{longer}\n\nBy opening this pull request I publish the log under {LICENCE}."
    )


def _url(api: "HfApi", dataset: str, num: int | None) -> str:
    return f"{address(api.endpoint)}/datasets/{dataset}/discussions/{num}"
