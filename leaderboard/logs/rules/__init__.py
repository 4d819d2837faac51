"""The sense a run log must make, as data: every rule marks the rows that break it.

Rules look at whole columns of many logs at once (rows.py); those about texts are in texts.py. What is the same in all
rows of a run is judged once a run (`every_row`). Schema and files are check.py's.
"""

import re
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pandas as pd

from leaderboard.logs.contract import COLUMNS, IMPORTED, VOLATILE, WRAPPED, run_id
from leaderboard.logs.findings import WARNING
from leaderboard.logs.methods import CONTROL, METHODS, is_known, takes_rate
from leaderboard.logs.rules.rows import Mask, Rows, Rule
from leaderboard.logs.rules.texts import TEXT_RULES

_FILE = re.compile(r"[0-9a-f]{64}")  # the revision of a file is its hash; that of a data set a commit of 40 digits
FINISHED = 0.9  # share of the planned tokens from which a curve counts as whole
YEARS = (2020, 2100)  # of a log's making
RATE_TOLERANCE = 1e-6
LOSS_TOLERANCE = 1e-6


def _control(rows: Rows) -> Mask:
    return rows.text("method", CONTROL.__eq__)


def _imported(rows: Rows) -> Mask:
    """Rows of logs that were read from others': what p2zoo does not know of them may be missing."""
    return rows.text("provenance", IMPORTED.__eq__)


def _unknown_method(rows: Rows) -> Mask:
    return ~rows.text("method", is_known) & ~_imported(rows)


def _rate_outside(rows: Rows) -> Mask:
    rate = rows.number("rate")
    return ~np.where(_control(rows), rate == 0, (rate > 0) & (rate < 1))


def _foreign_run_id(rows: Rows) -> Mask:
    names = [c.name for c in COLUMNS if c.defines_run]
    heads = rows.frame.loc[rows.starts, [*names, "run_id"]].astype(object)
    heads = heads.where(heads.notna(), None)
    wrong = [_run_id_of(head) != head["run_id"] for head in heads.to_dict("records")]
    broken: Mask = np.zeros(len(rows.frame), dtype=bool)
    broken[rows.starts] = wrong
    return broken


def _run_id_of(head: dict[Hashable, Any]) -> str | None:
    """None where a value has no JSON, an infinite learning rate for one; other rules say so."""
    try:
        return run_id({str(name): value for name, value in head.items()})
    except (ValueError, OverflowError):
        return None


def _varies(name: str) -> Callable[[Rows], Mask]:
    return lambda rows: rows.differs(name)


def _no_zero_row(rows: Rows) -> Mask:
    missing: Mask = rows.starts & (rows.number("tokens") != 0) & ~_imported(rows)
    return missing


def _not_rising(rows: Rows) -> Mask:
    tokens = rows.number("tokens")
    return ~rows.starts & (np.diff(tokens, prepend=-1) <= 0)


def _too_high(name: str) -> Callable[[Rows], Mask]:
    return lambda rows: rows.number(name) > 1.5 * np.log(np.maximum(rows.number("vocab_size"), 2))


def _unfinished(rows: Rows) -> Mask:
    last = pd.Series(rows.number("tokens")).groupby(rows.file).transform("max").to_numpy(dtype=float)
    short: Mask = last < FINISHED * rows.number("tokens_planned")
    return rows.starts & short


def _not_positive(name: str) -> Callable[[Rows], Mask]:
    return lambda rows: rows.number(name) <= 0


def _odd_time(rows: Rows) -> Mask:
    year = rows.frame["created_at"].dt.year.to_numpy(dtype=float)
    fine: Mask = (year >= YEARS[0]) & (year <= YEARS[1])
    return ~fine


def _zero_row_differs(rows: Rows) -> Mask:
    gap = abs(rows.number("loss") - rows.number("l_pruned"))
    differs: Mask = (rows.number("tokens") == 0) & ~(gap <= LOSS_TOLERANCE)  # nor without an l_pruned
    return differs


_LABEL = re.compile(r"(?P<name>.*?)(\[(?P<skip>\d+):(?P<end>\d*)\])?(\+noise=[^@]*)?(@.*)?")


def _measured_on_training_text(rows: Rows) -> Mask:
    """Rows whose held-out text is the same file as the training text, or the same part of one data set."""
    names = ["train_data", "train_data_revision", "eval_data", "eval_data_revision"]
    texts = [tuple(row) for row in rows.frame[names].astype(object).to_numpy()]
    verdicts = {row: _share_documents(*row) for row in set(texts)}
    broken: Mask = np.array([verdicts[row] for row in texts], dtype=bool)
    return broken


def _share_documents(train: object, train_revision: object, heldout: object, heldout_revision: object) -> bool:
    if not isinstance(train_revision, str) or train_revision != heldout_revision:
        return False
    of_train, of_heldout = _LABEL.fullmatch(str(train)), _LABEL.fullmatch(str(heldout))
    if of_train is None or of_heldout is None:
        return False
    if of_train["name"] != of_heldout["name"] and not _FILE.fullmatch(train_revision):
        return False  # two parts of a data set at one commit
    slices = sorted((int(label["skip"] or 0), float(label["end"] or np.inf)) for label in (of_train, of_heldout))
    return slices[0][1] > slices[1][0]


def _percent(name: str) -> Callable[[Rows], Mask]:
    return lambda rows: rows.number(name) > 1


def _off_batch(rows: Rows) -> Mask:
    batch = np.maximum(rows.number("batch_tokens"), 1)
    partial_step: Mask = rows.number("tokens") % batch > 0  # not where the batch is unknown
    return rows.text("packing", WRAPPED.__eq__) & partial_step


def _request_missing(rows: Rows) -> Mask:
    missing: Mask = np.isnan(rows.number("rate_requested"))
    asked = rows.text("method", takes_rate)
    return (missing & asked & ~_imported(rows)) | (~missing & ~asked & ~_control(rows))


def _outside(name: str, low: float | None, high: float | None) -> Callable[[Rows], Mask]:
    def broken(rows: Rows) -> Mask:
        values = rows.number(name)
        beyond: Mask = (values < (-np.inf if low is None else low)) | (values > (np.inf if high is None else high))
        return beyond

    return broken


def _not_finite(name: str, nullable: bool) -> Callable[[Rows], Mask]:
    def broken(rows: Rows) -> Mask:
        values = rows.number(name)
        wrong: Mask = np.isinf(values) | (np.isnan(values) & (not nullable))  # null reads as NaN
        return wrong

    return broken


_SHARE = "Rates are shares of all parameters: write 0.25 for 25 %."
_FINITE = [
    Rule("not_finite", c.name, _not_finite(c.name, c.may_be_null), "a finite number", "Log what was measured.")
    for c in COLUMNS
    if c.kind == "float"
]
_PERCENT = [
    Rule("percent_rate", c.name, _percent(c.name), "a share, 0 to 1", _SHARE) for c in COLUMNS if c.unit == "share"
]
_RANGES = [
    Rule(
        "out_of_range",
        c.name,
        _outside(c.name, c.low, None if c.unit == "share" else c.high),  # a share above 1 is a percentage
        f"{'any' if c.low is None else f'{c.low:g}'} to {'any' if c.high is None else f'{c.high:g}'}",
        f"{c.name}: {c.meaning}.",
    )
    for c in COLUMNS
    if c.kind in ("int", "float") and (c.low is not None or c.high is not None)
]
_CONSTANT = [
    Rule("varies", c.name, _varies(c.name), "one value in all rows", "One file is one run; split the file.")
    for c in COLUMNS
    if not c.curve and c.name not in VOLATILE
]
RULES: tuple[Rule, ...] = (
    *_FINITE,
    *_PERCENT,
    *_RANGES,
    *TEXT_RULES,
    *_CONSTANT,
    Rule(
        "unknown_method",
        "method",
        _unknown_method,
        f"{', '.join(METHODS)}, joined by +, or {CONTROL}",
        "Name the method as p2zoo does.",
    ),
    Rule(
        "unknown_provenance",
        "provenance",
        lambda rows: rows.text("provenance", lambda text: text != IMPORTED),
        f"null for a run of p2zoo, {IMPORTED} for any other",
        "`p2zoo import` writes it.",
    ),
    Rule("rate_range", "rate", _rate_outside, "0 < rate < 1 (exactly 0 for the method none)", _SHARE),
    Rule(
        "rate_mismatch",
        "rate",
        lambda rows: abs(rows.number("rate") - (1 - rows.number("n_pruned") / rows.number("n0"))) > RATE_TOLERANCE,
        "1 - n_pruned / n0",
        "Count tied parameters once and masked zeros as removed.",
    ),
    Rule(
        "rate_requested",
        "rate_requested",
        _request_missing,
        f"null for the method {' or '.join(row.name for row in METHODS.values() if not row.takes_rate)}, "
        "a rate for every other",
        "Its pattern has one rate; what was achieved goes into `rate`.",
    ),
    Rule(
        "nonembedding_above_total",
        "n0_nonembedding",
        lambda rows: rows.number("n0_nonembedding") > rows.number("n0"),
        "at most n0",
        "n0 counts all parameters, n0_nonembedding those outside the embeddings.",
    ),
    Rule(
        "no_zero_row",
        "tokens",
        _no_zero_row,
        "0 in the first row",
        "Log the held-out loss before training as the row with tokens 0.",
    ),
    Rule(
        "tokens_order",
        "tokens",
        _not_rising,
        "strictly increasing tokens",
        "Sort the rows by tokens and drop repeated ones.",
    ),
    Rule(
        "tokens_off_batch",
        "tokens",
        _off_batch,
        "multiples of batch_tokens under wrapped packing",
        "Count the tokens of whole optimiser steps.",
    ),
    Rule(
        "zero_row_loss",
        "loss",
        _zero_row_differs,
        "l_pruned at tokens 0",
        "One evaluation function must give l0, l_pruned and every loss.",
    ),
    *(
        Rule(
            "loss_not_positive",
            name,
            _not_positive(name),
            "above 0 nats per token",
            "Log the mean cross-entropy in nats per token.",
        )
        for name in ("loss", "l0", "l_pruned")
    ),
    *(
        Rule(
            "loss_too_high",
            name,
            _too_high(name),
            "at most 1.5 ln(vocab_size)",
            "Worse than guessing: check that the loss is per token and in nats, and that training did not diverge.",
        )
        for name in ("loss", "l0")
    ),
    Rule(
        "measured_on_training_text",
        "eval_data",
        _measured_on_training_text,
        "text that the run was not trained on",
        "Measure on other documents: another file or split, or slices (skip, take) that are apart.",
    ),
    Rule(
        "odd_time",
        "created_at",
        _odd_time,
        f"a time in {YEARS[0]} to {YEARS[1]}, UTC",
        "Check the clock of the machine that wrote the log.",
    ),
    Rule(
        "foreign_run_id",
        "run_id",
        _foreign_run_id,
        "the hash of the columns that define the run",
        "Let `leaderboard.logs.contract.build_table` fill it in; do not edit a log by hand.",
    ),
    Rule(
        "unfinished",
        "tokens_planned",
        _unfinished,
        "a curve that reaches the planned tokens",
        "Resume the run, or say why it ended early.",
        WARNING,
    ),
)
