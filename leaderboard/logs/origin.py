"""Which runs stand apart: read from elsewhere (imported), trained in a part of their parameters (LoRA), or measured
under another protocol.

Losses of different origins share no fit. Nor do losses on one text that were measured in sequences of another length,
packed otherwise, on another slice of the text, or with another tokenizer or vocabulary. Columns that a frame lacks are
equal. So is what logs could not record yet (a later column), where runs that are otherwise alike have one value only.
"""

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboard.logs.contract import BY_NAME, GROUP, IMPORTED, curve_numbers

ORIGIN = "origin"  # key of a group that is not of p2zoo's own, fully trained runs
LORA = "LoRA"
PROTOCOL = "protocol"  # key of a group beside which the same text was measured otherwise
WORDS = {  # a column of the protocol, and its value in words
    "seq_len": "sequences of {:,.0f}",
    "packing": "{}",
    "eval_tokens": "{:,.0f} held-out tokens",
    "vocab_size": "vocabulary of {:,.0f}",
    "tokenizer_sha256": "tokenizer {:.8}",
}


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
    runs = _runs(frame, marks)
    usual = there[0] if there[0] == "" else max(there, key=lambda name: runs[name])
    rows: pd.DataFrame = frame[marks == usual]
    return rows


def protocol(frame: pd.DataFrame) -> NDArray[np.object_]:
    """How each row's loss was measured, in words, shape (n,); empty for texts that were measured in one way only."""
    if not any(name in frame and _differs(frame[name]) for name in WORDS):
        return np.full(len(frame), "", dtype=object)
    text = [name for name in GROUP[2:] if name in frame]
    rows = frame[[*text, *(name for name in WORDS if name in frame)]].assign(**{ORIGIN: origin(frame)})
    place = rows.groupby(list(rows), sort=False, observed=True, dropna=False).ngroup().to_numpy()
    heads = rows.iloc[np.unique(place, return_index=True)[1]].astype(object).reset_index(drop=True)
    words = _in_words(_filled(heads))
    ways = words.groupby([heads[name] for name in (*text, ORIGIN)], dropna=False).transform("nunique")
    return np.asarray(words.where(ways > 1, "").to_numpy(dtype=object)[place])


def usual_protocol(frame: pd.DataFrame, prefer: NDArray[np.bool_] | None = None) -> tuple[pd.DataFrame, str]:
    """The rows of one text that were measured as most of its runs in `prefer`, shape (n,), were; else as most were.

    With them how that was, in words; empty where all were measured alike.
    """
    ways = protocol(frame)
    if len(set(ways)) < 2:
        return frame, ""
    runs, preferred = _runs(frame, ways), {} if prefer is None else _runs(frame[prefer], ways[prefer])
    usual = max(sorted(runs), key=lambda way: (preferred.get(way, 0), runs[way]))
    return frame[ways == usual], usual


def belongs(frame: pd.DataFrame, key: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The rows of a group's origin, measured as it was, shape (n,). `frame` holds all rows on the group's text."""
    mine: NDArray[np.bool_] = origin(frame) == (key.get(ORIGIN) or "")
    if key.get(PROTOCOL):
        mine &= protocol(frame) == key[PROTOCOL]
    return mine


def _runs(frame: pd.DataFrame, marks: NDArray[np.object_]) -> dict[str, int]:
    """How many runs bear each mark."""
    return dict(Counter(marks[np.unique(curve_numbers(frame), return_index=True)[1]]))


def _differs(column: pd.Series) -> bool:
    """Whether a column has two values; null is one, but in a later column."""
    values = (column.cat.codes if column.dtype == "category" else column).to_numpy()
    if len(values) and (values == values[0]).all():
        return False
    return column.nunique(dropna=BY_NAME[str(column.name)].later) > 1


def _filled(heads: pd.DataFrame) -> pd.DataFrame:
    """What could not be recorded yet, as all have it that are otherwise alike."""
    for name in (name for name in WORDS if name in heads and BY_NAME[name].later and heads[name].isna().any()):
        alike = heads[name].groupby([heads[other] for other in heads if other != name], dropna=False)
        only = alike.transform("first").where(alike.transform("nunique") == 1)
        heads[name] = heads[name].where(heads[name].notna(), only)
    return heads


def _in_words(heads: pd.DataFrame) -> pd.Series:
    known = {name: words for name, words in WORDS.items() if name in heads and heads[name].notna().any()}

    def one(row: Mapping[Hashable, Any]) -> str:
        said = [words.format(row[name]) if pd.notna(row[name]) else f"{name} not told" for name, words in known.items()]
        return ", ".join(said)

    return pd.Series([one(row) for row in heads.to_dict("records")], index=heads.index, dtype=object)
