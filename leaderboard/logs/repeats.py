"""Who measured a run first, and what of it counts again: decided here for checks, boards and fits alike.

- The same run with the same losses from somebody else is a *confirmation*: accepted, and counted once, so that it
  narrows no interval (on a CPU a run repeats to the bit).
- The same run with losses of its own is a *replicate*: an independent measurement.
- The same losses under another run_id are a *near-duplicate*, refused; the original is named.
- The same run twice by one contributor is a *duplicate*, refused.

Losses are the same where three token counts, or all there are, have them alike to 1e-9 nats. The first to come is the
original. What is left out is nothing to compare with.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass

import pandas as pd

from leaderboard.logs.findings import ERROR, WARNING, Finding

ROWS = 3
LOSS = 1e-9
CONFIRMATION = "confirmation"


@dataclass(frozen=True)
class _Run:
    """Whose, which, whether it goes on from another, and how many of its evaluations were trained."""

    run_id: str
    contributor: str
    extends: bool
    rows: int

    def __str__(self) -> str:
        return f"{self.contributor}/{self.run_id}"


def repeats(frame: pd.DataFrame, shorter: Set[int] = frozenset()) -> Iterator[tuple[int, Finding]]:
    """By file what it repeats, in order; `frame` holds rows of good logs with a column `file`, first come first.

    `shorter` files have a longer one of their contributor in their place, which shares their losses by right
    (extensions.py); they are originals all the same.
    """
    rows = frame[["file", "run_id", "contributor", "extends", "tokens", "loss"]]
    runs, points = _runs(rows), _alike(rows)
    by_run: dict[str, list[int]] = defaultdict(list)
    seen: dict[tuple[int, float], list[int]] = defaultdict(list)  # the files that have a loss at a token count
    extended = {(runs[file].contributor, runs[file].run_id) for file in shorter}
    for file, run in runs.items():
        mine = points.get(file, [])
        shared = Counter(other for point in mine for other in seen[point])
        for other in list(shared) if file in shorter or run.extends else []:
            longer = runs[other].extends and runs[other].contributor == run.contributor and file in shorter
            if longer or (run.contributor, runs[other].run_id) in extended:
                shared[other] *= runs[other].run_id == run.run_id
        if (finding := _finding(file, runs, by_run[run.run_id], shared)) is not None:
            yield file, finding
            if finding.severity == ERROR or finding.code == CONFIRMATION:
                continue
        by_run[run.run_id].append(file)
        for point in mine:
            seen[point].append(file)


def _runs(rows: pd.DataFrame) -> dict[int, _Run]:
    heads = rows.drop_duplicates("file")
    trained = rows.loc[rows["tokens"] > 0, "file"].value_counts()
    names = (heads["run_id"].astype(str), heads["contributor"].astype(str), heads["extends"].notna())
    return {
        int(file): _Run(run, who, bool(goes_on), int(trained.get(file, 0)))
        for file, run, who, goes_on in zip(heads["file"], *names, strict=True)
    }


def _alike(rows: pd.DataFrame) -> dict[int, list[tuple[int, float]]]:
    """By file the trained evaluations that another file has too."""
    trained = rows[rows["tokens"] > 0]
    key = pd.DataFrame({"file": trained["file"], "tokens": trained["tokens"], "loss": (trained["loss"] / LOSS).round()})
    alike = key[key.duplicated(["tokens", "loss"], keep=False)]
    points: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for file, tokens, loss in alike.itertuples(index=False):
        points[file].append((tokens, loss))
    return points


def _finding(file: int, runs: dict[int, _Run], same: list[int], shared: "Counter[int]") -> Finding | None:
    """What a file repeats of those before it; None where nothing."""
    own = runs[file]
    if any(runs[other].contributor == own.contributor for other in same):
        fix = "Send a run once; to correct it, replace the file."
        return Finding("duplicate", ERROR, "run_id", own.run_id, "one file a run and contributor", fix)
    for other in same:
        if 0 < min(ROWS, own.rows, runs[other].rows) <= shared[other]:
            got = f"the losses of {runs[other]}"
            fix = "It confirms that run and is counted once with it."
            return Finding(CONFIRMATION, WARNING, "run_id", got, "any", fix)
    others = [other for other, n in shared.most_common() if n >= ROWS and runs[other].run_id != own.run_id]
    if others:
        got = f"{shared[others[0]]} losses of run {runs[others[0]]}"
        fix = "Two experiments do not share losses to 1e-9; send the one that was measured."
        return Finding("near_duplicate", ERROR, "loss", got, "losses of its own", fix)
    if same:
        fix = "Somebody else ran this too, with losses of their own: welcome."
        return Finding("replicate", WARNING, "run_id", own.run_id, "any", fix)
    return None


def apart_from(known: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of `known` runs that are not in `frame`."""
    here = set(map(tuple, frame[["contributor", "run_id"]].drop_duplicates().astype(str).to_numpy()))
    heads = known[["contributor", "run_id"]].drop_duplicates().astype(str)
    gone = [tuple(names) in here for names in heads.to_numpy()]
    if not any(gone):
        return known
    both = set(map(tuple, heads.to_numpy()[gone]))
    whose = zip(known["contributor"].astype(str), known["run_id"].astype(str), strict=True)
    return known[[names not in both for names in whose]]
