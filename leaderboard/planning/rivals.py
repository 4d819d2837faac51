"""Other ways to the deployed size of a planned run: which are worth a look, and what each costs."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from leaderboard.planning.bases import Base
from leaderboard.planning.budget import Question
from leaderboard.planning.gpus import gpu_hours
from leaderboard.planning.plan import UNPRUNED

LEAST = 0.25  # of the deployed size: what is smaller is no rival
MOST = 8  # times the deployed size: what is larger is not pruned to that


def deployed_size(question: Question) -> float:
    """Parameters that are left, zeroed ones not counted."""
    return question.n0 * (1 - question.rate)


def near_bases(bases: Iterable[Base], question: Question) -> list[Base]:
    """Bases of the question's family with a known loss, from a quarter to eight times the deployed size."""
    size = deployed_size(question)
    return [b for b in bases if b.family == question.family and b.l0 is not None and LEAST <= b.n0 / size <= MOST]


def priced(rows: pd.DataFrame, question: Question, gpu: str | None = None, price: float | None = None) -> pd.DataFrame:
    """The rows of a plan (plan.py) that have a predicted loss and a quarter of the deployed size or more, with columns
    `gpu_hours` and `cost` in US dollars: NaN where nothing is trained or no GPU is named.
    """
    rows = rows[rows["loss"].notna() & (rows["parameters"] >= LEAST * deployed_size(question))]
    spent = [_spent(row, gpu, price) for _, row in rows.iterrows()]
    return rows.assign(gpu_hours=[hours for hours, _ in spent], cost=[cost for _, cost in spent])


def _spent(row: "pd.Series", gpu: str | None, price: float | None) -> tuple[float, float]:
    if gpu is None or row["method"] == UNPRUNED:
        return np.nan, np.nan
    n0 = row["parameters"] / (1 - row["rate"])
    return gpu_hours(row["tokens"], n0, row["rate"], row["method"], gpu, price)
