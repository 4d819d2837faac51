"""Curves that no law expects, among logs that were just checked: who judges answers (fitting/robust.py) is asked."""

from dataclasses import replace

import pandas as pd

from leaderboard.fitting.robust import Doubt, trusted
from leaderboard.logs.check import Checked
from leaderboard.logs.contract import GROUP, usable
from leaderboard.logs.findings import UNUSUAL, Finding
from leaderboard.logs.origin import standard
from leaderboard.logs.repeats import apart_from
from leaderboard.ranking.tracks import groups

FIX = "Answers leave it out. Look at rate, l0, the learning rate and the held-out text once more."


def unexpected(checked: Checked, known: pd.DataFrame) -> Checked:
    """The same with a finding for each good file that answers from it and the `known` runs would leave out."""
    if not len(checked.frame):
        return checked
    known = known[known["eval_data"].isin(checked.frame["eval_data"].unique())]
    found = doubts(pd.concat([checked.frame.drop(columns="file"), apart_from(known, checked.frame)], ignore_index=True))
    heads = checked.frame.drop_duplicates("file")[["file", "contributor", "run_id"]]
    names = {int(file): (str(who), str(run)) for file, who, run in heads.itertuples(index=False)}
    reports = tuple(
        replace(r, findings=(*r.findings, finding_of(found[names[i]]))) if names.get(i) in found else r
        for i, r in enumerate(checked.reports)
    )
    return replace(checked, reports=reports)


def doubts(frame: pd.DataFrame) -> dict[tuple[str, str], Doubt]:
    """The runs that answers from these logs leave out, by contributor and run_id."""
    rows = standard(usable(frame))
    return {
        (doubt.contributor, doubt.run_id): doubt
        for _, text in (groups(rows, GROUP[2:]) if len(rows) else [])
        for doubt in trusted(text).doubts
    }


def finding_of(doubt: Doubt) -> Finding:
    """What a check says about it."""
    return Finding("outlier", UNUSUAL, "loss", doubt.why, "what the runs beside it let expect", FIX)
