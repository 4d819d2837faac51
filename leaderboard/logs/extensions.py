"""Runs that go on from a shorter run of their own: one curve, of which the longer log replaces the shorter.

A log names the run it `extends`. What defines the two must be the same but for the budget, and so must every row up to
where the shorter one ended; else it is refused. Only the contributor's own run is replaced, so nobody can put a curve
in the place of somebody else's.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboard.logs.contract import BY_NAME, COLUMNS
from leaderboard.logs.findings import ERROR, WARNING, Finding

Curves = dict[int, NDArray[np.float64]]  # by file: (rows, 2), tokens and loss
SAME_LOSS = 1e-9  # nats: between two writings of one number
_SAME = [c.name for c in COLUMNS if c.defines_run and c.name not in ("tokens_planned", "extends")]


def replaced(frame: pd.DataFrame) -> tuple[set[int], list[tuple[int, Finding]]]:
    """The files that a longer one replaces, and findings by file: what was replaced, and who extends what it is not.

    `frame` holds rows of logs that are good by themselves, with a column `file`.
    """
    gone: set[int] = set()
    findings: list[tuple[int, Finding]] = []
    if not frame["extends"].notna().any():
        return gone, findings
    heads = frame.drop_duplicates("file").set_index("file")
    pairs, families = list(_pairs(heads)), list(_families(heads))
    touched = frame[frame["file"].isin({file for files in (*pairs, *families) for file in files})]
    curves: Curves = {rows["file"].iloc[0]: rows[["tokens", "loss"]].to_numpy() for _, rows in touched.groupby("file")}
    bad: set[int] = set()
    for longer, shorter in pairs:
        if (why := _unlike(heads, curves, longer, shorter)) is not None and longer not in bad:
            bad.add(longer)
            findings.append((longer, _refusal(heads["extends"][longer], why)))
    for family in families:
        kept: list[int] = []
        for file in sorted(set(family) - bad, key=lambda file: (-len(curves[file]), file)):
            longer_run = next((run for run in kept if _one_curve(heads, curves, run, file)), None)
            if longer_run is None:
                kept.append(file)
            else:
                gone.add(file)
                findings.append((file, _replaced(heads["run_id"][file], heads["run_id"][longer_run])))
    return gone, findings


def branched(frame: pd.DataFrame) -> tuple[NDArray[np.bool_], list[tuple[int, Finding]]]:
    """Which rows a decay branch shares with the `trunk` it names, and findings by file: who names what it has not left.

    Shared by right is only what the same contributor's trunk, or a run that extends it, holds here: rows of anybody
    else, or of a trunk that is not sent, are no prefix that a log may declare.
    """
    shared = np.zeros(len(frame), dtype=bool)
    findings: list[tuple[int, Finding]] = []
    if not frame["trunk"].notna().any():
        return shared, findings
    heads = frame.drop_duplicates("file").set_index("file")[["contributor", "run_id", "extends", "trunk"]]
    points = list(zip(frame["tokens"], (frame["loss"] / SAME_LOSS).round(), strict=True))
    files, trained = frame["file"].to_numpy(), frame["tokens"].to_numpy() > 0
    for file, branch in heads[heads["trunk"].notna()].iterrows():
        own = heads[heads["contributor"].astype(str) == str(branch["contributor"])]
        trunk = str(branch["trunk"])
        stems = own.index[(own["run_id"].astype(str) == trunk) | (own["extends"].astype(str) == trunk)]
        held = {points[i] for i in np.flatnonzero(np.isin(files, stems) & trained)}
        mine = np.flatnonzero((files == file) & trained)
        same = [i for i in mine if points[i] in held]
        shared[same] = True
        if held and (not same or same[0] != mine[0]):
            fix = f"{BY_NAME['trunk'].meaning}: let `p2zoo run` write it."
            got = f"run {trunk}, of which it has not the first rows"
            findings.append(
                (int(str(file)), Finding("not_a_branch", ERROR, "trunk", got, "rows of that run first", fix))
            )
    return shared, findings


def _pairs(heads: pd.DataFrame) -> Iterator[tuple[int, int]]:
    """Files that extend the run of another file, and that file; runs of the same contributor only."""
    named = heads[heads["extends"].notna()]
    files = {key: file for file, key in zip(heads.index, _keys(heads, "run_id"), strict=True)}
    for longer, key in zip(named.index, _keys(named, "extends"), strict=True):
        if key in files and files[key] != longer:
            yield int(longer), int(files[key])


def _keys(heads: pd.DataFrame, column: str) -> list[tuple[str, str]]:
    return list(zip(heads["contributor"].astype(str), heads[column].astype(str), strict=True))


def _families(heads: pd.DataFrame) -> Iterator[list[int]]:
    """Files of one contributor that differ in nothing but the budget, one of which extends a run or more."""
    for _, same in heads.groupby(["contributor", *_SAME], sort=False, dropna=False, observed=True):
        if len(same) > 1 and same["extends"].notna().any():
            yield [int(file) for file in same.index]


def _one_curve(heads: pd.DataFrame, curves: Curves, longer: int, shorter: int) -> bool:
    """Whether a longer file holds what a shorter one does, or both go on from one run, which may not be here."""
    extends = heads["extends"].notna()
    if not extends[longer]:
        return False
    if _sampled(heads, curves, longer, shorter):
        ours, theirs = _shared(curves, longer, shorter)
        return len(ours) > 1 and bool((abs(ours - theirs) <= SAME_LOSS).all())
    rows = 2 if extends[shorter] else len(curves[shorter])  # the start, and the first that was trained
    ours, theirs = curves[longer][:rows], curves[shorter][:rows]
    return len(ours) == len(theirs) and bool((abs(ours - theirs) <= SAME_LOSS).all())


def _unlike(heads: pd.DataFrame, curves: Curves, longer: int, shorter: int) -> str | None:
    """In which way a file is no extension of another; None where it is one."""
    one, other = heads.loc[longer], heads.loc[shorter]
    for name in _SAME:
        if one[name] != other[name] and not (pd.isna(one[name]) and pd.isna(other[name])):
            return f"its {name} is {one[name]}, that run's {other[name]}"
    for name in ("l0", "l_pruned"):
        if abs(one[name] - other[name]) > SAME_LOSS:
            return f"its {name} is {one[name]:.6f}, that run's {other[name]:.6f}"
    ours, theirs = curves[longer], curves[shorter]
    sampled = _sampled(heads, curves, longer, shorter)
    if (len(ours) <= len(theirs) and not sampled) or ours[-1, 0] <= theirs[-1, 0]:
        return f"it ends at {ours[-1, 0]:,.0f} tokens, that run at {theirs[-1, 0]:,.0f}"
    ours, theirs = _shared(curves, longer, shorter) if sampled else (ours[: len(theirs)], theirs)
    differs = abs(ours - theirs) > SAME_LOSS
    if differs.any():
        row = int(differs.any(axis=1).argmax())
        return f"row {row} is {_row(ours[row])}, that run's {_row(theirs[row])}"
    return None


def _sampled(heads: pd.DataFrame, curves: Curves, *files: int) -> bool:
    """Whether only some rows of a file are here (check.py)."""
    return "length" in heads and any(heads["length"][file] > len(curves[file]) for file in files)


def _shared(curves: Curves, longer: int, shorter: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The rows of two files at the token counts that both have."""
    _, ours, theirs = np.intersect1d(curves[longer][:, 0], curves[shorter][:, 0], return_indices=True)
    return curves[longer][ours], curves[shorter][theirs]


def _row(row: NDArray[np.float64]) -> str:
    return f"{row[0]:,.0f} tokens and loss {row[1]:.6f}"


def _refusal(run: str, why: str) -> Finding:
    fix = f"{BY_NAME['extends'].meaning}: let `p2zoo run --resume` write it."
    return Finding("not_an_extension", ERROR, "extends", f"run {run}, but {why}", "all rows of that run, and more", fix)


def _replaced(run: str, longer: str) -> Finding:
    fix = "Nothing to do: rows that both hold count once."
    return Finding("extended", WARNING, "run_id", run, f"the longer run {longer}, which stands for it", fix)
