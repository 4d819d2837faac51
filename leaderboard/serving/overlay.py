"""One's own curve over others': the measured runs of the same method that are nearest in size and rate.

Losses on one text compare as they are, in nats above the unpruned model. Where texts differ, what compares is the share
of the damage that is left: (loss - l0) / (l_pruned - l0), 1 right after pruning and 0 at the loss before it.
"""

import pandas as pd

from leaderboard import words
from leaderboard.planning.outlook import nearest

NATS, SHARE = "loss above the unpruned model, nats", "share of the damage left"
MOST = 5


def overlay(frame: pd.DataFrame, own: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Trained rows of one's own run and of at most MOST others, nearest first: tokens, value, name, own; and what the
    value is. Empty where no run of the method is there, or `own` lacks the losses that are needed.

    `frame` and `own` are run-log rows, `own` of one run; l0 and l_pruned of `own` may be null.
    """
    mine = own.iloc[0]
    others = frame[(frame["method"] == mine["method"]).to_numpy() & (frame["l_pruned"] > frame["l0"]).to_numpy()]
    same = others[(others["eval_data"] == mine["eval_data"]).to_numpy()]
    unit = NATS if len(same) else SHARE
    near = nearest(same if len(same) else others, mine["n0"], mine["rate"], MOST)
    rows = pd.concat([near.assign(own=False), own.assign(own=True, curve=-1)], ignore_index=True)
    above = rows["loss"] - rows["l0"]
    damage = (rows["l_pruned"] - rows["l0"]).where(lambda d: d > 0)
    names = [f"{words.count(n0)} at {words.share(rate)}" for n0, rate in zip(rows["n0"], rows["rate"], strict=True)]
    rows = rows.assign(value=above if unit == NATS else above / damage, name=names)
    rows = rows[(rows["tokens"] > 0) & rows["value"].notna()]
    if near.empty or not rows["own"].any():
        return rows.head(0), unit
    twice = rows.groupby("name")["curve"].transform("nunique") > 1  # two runs alike are told apart by number
    number = rows.groupby("name")["curve"].rank("dense").astype(int).astype(str)
    return rows.assign(name=rows["name"].where(~twice, rows["name"] + ", " + number)), unit
