"""`p2zoo check DATASET --pr N`: is this submission sound, would it load, what would it change, and if asked, merge it.

Each step sees only what passed the one before: paths before contents (pull_request.py), our own reader before
`datasets`, one file before all together, all together before fits (effects.py). comment.py shows the verdict.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from leaderboard.errors import P2Error, RunFailed
from leaderboard.logs.check import check_files
from leaderboard.logs.findings import CLEAN, ERROR, WRONG, Finding, Report, printable, verdict_of
from leaderboard.logs.hub_errors import Patience
from leaderboard.ranking.neighbours import unusual
from leaderboard.ranking.unexpected import doubts, finding_of
from zoo.review.effects import Effect, effects, outliers
from zoo.review.pull_request import DELETED, Submission, fetch, findings_about, findings_of, moved

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LOAD_S = 600
_LOAD = """
import sys, tempfile
import datasets
with tempfile.TemporaryDirectory() as folder:
    rows = datasets.load_dataset(sys.argv[1], revision=sys.argv[2], split="train", cache_dir=folder)
    print("rows", rows.num_rows)
"""


Load = Callable[["HfApi", Submission], Finding | None]  # what is wrong where a submission does not load


@dataclass(frozen=True)
class Verdict:
    """What the check found: about the pull request, about each of its files, and what merging it would change."""

    submission: Submission
    findings: tuple[Finding, ...]
    reports: tuple[Report, ...]  # one a changed file, in the order of `submission.changes`
    effects: tuple[Effect, ...] = ()
    merged: str | None = None  # commit on main

    @property
    def verdict(self) -> str:
        """`clean`, which may be merged by itself; `unusual`, which waits for a person; `wrong`."""
        return verdict_of((*self.findings, *(f for r in self.reports for f in r.findings)))

    @property
    def ok(self) -> bool:
        """Whether a person may merge it: no error anywhere."""
        return self.verdict != WRONG

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        s = self.submission
        files = [r.as_dict() | {"change": c.kind, "size": c.size} for r, c in zip(self.reports, s.changes, strict=True)]
        return {
            "dataset": s.dataset, "pr": s.num, "author": s.author, "head": s.head, "main": s.main, "ok": self.ok,
            "verdict": self.verdict, "merged": self.merged, "findings": [asdict(f) for f in self.findings],
            "files": files, "effects": [asdict(e) for e in self.effects],
        }  # fmt: skip


def check_pull_request(
    api: "HfApi",
    dataset: str,
    num: int,
    *,
    comment: bool = False,
    merge_if_clean: bool = False,
    load: Load | None = None,
) -> Verdict:
    """Judge pull request `num`; with `comment` say so on its page, with `merge_if_clean` merge what is clean.

    `load` loads it as users will, by default in a process of its own.
    Raises P2Error where there is no such open pull request or the Hub refuses, RunFailed where it moved meanwhile.
    """
    patience = Patience()
    doing = f"checking {dataset} #{num}"
    submission = patience(doing, lambda: fetch(api, dataset, num))
    verdict = patience(doing, lambda: judge(api, submission, load))
    if comment:
        from zoo.review.comment import put

        patience(f"commenting on {dataset} #{num}", lambda: put(api, verdict))
    return merge(api, verdict) if merge_if_clean and verdict.verdict == CLEAN else verdict


def judge(api: "HfApi", submission: Submission, load: Load | None = None) -> Verdict:
    """The verdict on a submission; reads the Hub, changes nothing."""
    about = findings_about(submission)
    reports = [Report(c.path, findings_of(c, submission.author)) for c in submission.changes]
    if any(f.code == "too_many_files" for f in about):
        return Verdict(submission, about, tuple(reports))
    with tempfile.TemporaryDirectory() as folder:
        before, after, reports = _together(api, submission, reports, Path(folder))
    verdict = Verdict(submission, about, tuple(reports))
    if not verdict.ok:
        return verdict
    if found := (load or load_in_a_process)(api, submission):
        return replace(verdict, findings=(*about, found))
    warned = outliers(before, after)
    for run_id, finding in _beside(submission.author, after, reports):
        warned[run_id] = (*warned.get(run_id, ()), finding)
    reports = [replace(r, findings=(*r.findings, *warned.get(_run_of(r.path), ()))) for r in reports]
    changed = tuple(effects(before, after, submission.author, submission.dataset.partition("/")[0]))
    moved_far = tuple(effect.finding for effect in changed if effect.finding is not None)
    return Verdict(submission, (*about, *moved_far), tuple(reports), changed)


def _beside(author: str, after: pd.DataFrame, reports: Sequence[Report]) -> Iterator[tuple[str, Finding]]:
    """What is unusual about the author's runs in the reports, beside all others as they would be."""
    runs = {_run_of(r.path) for r in reports}
    new = ((after["contributor"] == author) & after["run_id"].isin(runs)).to_numpy()
    if not new.any():
        return
    for (_, _, run_id), finding in unusual(after.drop(columns="file"), new):
        yield run_id, finding
    for (contributor, run_id), doubt in doubts(after).items():
        if contributor == author and run_id in runs:
            yield run_id, finding_of(doubt)


def _together(
    api: "HfApi", submission: Submission, reports: Sequence[Report], folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame, list[Report]]:
    """Good rows of main, good rows as they would be, and the reports with what the files hold.

    The logs of main come first, so of two alike the merged one is the original.
    """
    kinds = {c.path: c.kind for c in submission.changes}
    main = _main_logs(api, submission)
    before = check_files(main).frame
    ours = [p for p in main if p.as_posix().endswith(submission.logs)]
    new = [r.path for r in reports if r.ok and kinds[r.path] != DELETED]
    paths = [Path(_download(api, submission, path, folder)) for path in new]
    checked = check_files([*ours, *paths], [*(p.name for p in ours), *new], few=len(paths))
    found: dict[str, tuple[Finding, ...]] = {}
    for i, report in enumerate(checked.reports[len(ours) :], start=len(ours)):
        claims = _claims(report.path, submission.author, checked.heads.loc[i].to_dict()) if report.ok else ()
        found[report.path] = (*report.findings, *claims)
    out = [replace(r, findings=(*r.findings, *found.get(r.path, ()))) for r in reports]
    return before, checked.frame, out


def _main_logs(api: "HfApi", submission: Submission) -> list[Path]:
    """The run logs of main, downloaded."""
    from leaderboard.logs.check import log_files
    from leaderboard.logs.hub import PATTERN, download_folder

    where = api.snapshot_download(
        submission.dataset,
        repo_type="dataset",
        revision=submission.main,
        allow_patterns=PATTERN,
        cache_dir=download_folder(),
    )
    return log_files(Path(where) / "runs")


def _download(api: "HfApi", submission: Submission, path: str, folder: Path) -> str:
    return api.hf_hub_download(
        submission.dataset, path, repo_type="dataset", revision=submission.head, local_dir=folder
    )


def _claims(path: str, author: str, head: dict[Any, Any]) -> tuple[Finding, ...]:
    """What a log says about itself against where it stands."""
    out = []
    if head["contributor"] != author:
        fix = "Set contributor to your Hub name; `p2zoo publish` does."
        got = str(head["contributor"])
        out.append(Finding("contributor", ERROR, "contributor", got, author, fix))
    if head["run_id"] != _run_of(path):
        out.append(Finding("file_name", ERROR, "path", path, f"{head['run_id']}.parquet", "Name it by its run_id."))
    return tuple(out)


def _run_of(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".parquet")


def load_in_a_process(api: "HfApi", submission: Submission) -> Finding | None:
    """Load the pull request as a user would, in a process of its own; what is wrong where that fails."""
    from huggingface_hub import get_token

    token = api.token if isinstance(api.token, str) else get_token()
    env = os.environ | {"HF_ENDPOINT": api.endpoint, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    env |= {"HF_TOKEN": token} if token and api.token is not False else {}
    command = [sys.executable, "-c", _LOAD, submission.dataset, submission.head]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LOAD_S, check=False)
    except subprocess.TimeoutExpired:
        return not_loaded(f"no answer in {LOAD_S} s")
    if done.returncode == 0:
        return None
    reason = done.stderr.strip().splitlines()[-1:] or [f"ended with code {done.returncode}"]
    if "No module named 'datasets'" in reason[0]:
        raise P2Error("check --pr: loads the submission as users will; pip install 'p2zoo[train]'.")
    return not_loaded(reason[0])


def not_loaded(got: str) -> Finding:
    """The finding about a dataset that does not load; `got` is what came instead."""
    fix = "Start from the newest main; if that does not load either, tell the maintainers."
    return Finding("load_dataset", ERROR, "pull request", got[:200], "a dataset that load_dataset reads", fix)


def merge(api: "HfApi", verdict: Verdict) -> Verdict:
    """Merge what was checked, and nothing else."""
    s = verdict.submission
    patience, doing = Patience(), f"merging {s.dataset} #{s.num}"
    if patience(doing, lambda: moved(api, s)):
        raise RunFailed(f"{doing}: it or main moved while it was checked; check it again.")
    patience(doing, lambda: _merge_once(api, s))
    commit = str(api.dataset_info(s.dataset, revision="main").sha)
    return replace(verdict, merged=commit)


def _merge_once(api: "HfApi", submission: Submission) -> None:
    """Merge, unless an earlier attempt did and its answer was lost."""
    details = api.get_discussion_details(submission.dataset, submission.num, repo_type="dataset")
    if details.status != "merged":
        api.merge_pull_request(submission.dataset, submission.num, repo_type="dataset")


def show(verdict: Verdict, as_json: bool) -> None:
    """Print a verdict for people, a line a finding, or for programs."""
    if as_json:
        print(json.dumps(verdict.as_dict(), indent=2))
        return
    s = verdict.submission
    for finding in verdict.findings:
        print(f"#{s.num}: {finding}")
    for change, report in zip(s.changes, verdict.reports, strict=True):
        print(f"{printable(report.path)}: {change.kind}, {'ok' if report.ok else 'refused'}")
        for finding in report.findings:
            print(f"  {finding}")
    for effect in verdict.effects:
        print(f"  {printable(effect.what)}: {effect.unchanged or f'{effect.before} -> {effect.after}'}")
    state = f"merged as {verdict.merged[:12]}" if verdict.merged else "refused" if not verdict.ok else verdict.verdict
    print(f"{s.dataset} #{s.num} by {printable(s.author)}: {state}")
