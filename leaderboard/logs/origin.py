"""Which runs stand apart: read from elsewhere (imported), or trained in a part of their parameters (LoRA).

Their losses share no fit with p2zoo's own, fully trained runs, nor with each other's kind.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboard.logs.contract import IMPORTED, curve_numbers

ORIGIN = "origin"  # key of a group that is not of p2zoo's own, fully trained runs
LORA = "LoRA"


def origin(frame: pd.DataFrame) -> NDArray[np.object_]:
    """What sets each row apart, shape (n,): empty, imported, LoRA, or both; an absent column sets nothing apart."""
    marks = np.full(len(frame), "", dtype=object)
    if (read := _named(frame, "provenance")) is not None:
        marks[read] = IMPORTED
    if (some := _named(frame, "trainable_params")) is not None:
        marks[some] = np.where(marks[some] == "", LORA, f"{IMPORTED}, {LORA}")
    return marks


def origins(frame: pd.DataFrame) -> list[str]:
    """The different ones, in order; of a frame without imported or LoRA runs the empty one."""
    plain = _named(frame, "provenance") is None and _named(frame, "trainable_params") is None
    return [""] if plain else sorted(set(origin(frame)))


def _named(frame: pd.DataFrame, column: str) -> NDArray[np.bool_] | None:
    if column not in frame:
        return None
    named = frame[column].notna().to_numpy()
    return named if named.any() else None


def standard(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that answers are made from: p2zoo's own, fully trained runs; without any, those of the usual origin."""
    if len(there := origins(frame)) == 1:
        return frame
    marks = origin(frame)
    heads = marks[np.unique(curve_numbers(frame), return_index=True)[1]]
    usual = there[0] if there[0] == "" else max(there, key=lambda name: int((heads == name).sum()))
    rows: pd.DataFrame = frame[marks == usual]
    return rows
