"""How far does an answer reach? Hold-outs far outside what is left, by how many tokens their intervals span.

distance.py answers beyond its reach only while the 80 % interval spans less than a factor `WIDEST` of tokens. Here only
the smallest size, the lowest rates or the first tokens of every curve are left, and two of these at once; the tokens at
which a held-out curve had the losses of its quarter, middle and end are asked for, whatever their state. Judged is by
what factor the answer is wrong, beside the factor that its interval spans: from some width on the number says nothing.
`python -m leaderboard.studies.reach [LOGS]` prints the table.
"""

import sys
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd

from leaderboard.errors import P2Error
from leaderboard.logs.contract import GROUP, curve_numbers, usable
from leaderboard.planning.budget import Question, grid, intervals, invert
from leaderboard.planning.mixture import Mixture
from leaderboard.ranking.tracks import groups
from leaderboard.studies.calibration import targets, trials_of
from leaderboard.studies.crossval import Fold, extreme_rates, size_levels

WIDTHS = (1.0, 3.0, 10.0, 100.0, np.inf)  # factors of tokens that an 80 % interval spans
FIRST = (0.125, 0.25)  # shares of a curve's tokens that are left


def reach(frame: pd.DataFrame) -> pd.DataFrame:
    """One row an answer: fold, whether l_pruned is known, `width` (the factor its 80 % interval spans), `wrong` (the
    factor between its tokens and the measured ones), `inside`: whether the interval holds those."""
    rows = usable(frame).reset_index(drop=True)
    answers = []
    for _, text in groups(rows, GROUP[2:]):
        text = text.reset_index(drop=True).assign(curve=curve_numbers(text))
        for fold in far_folds(text):
            for trial in trials_of(text, fold):
                for question, tokens in targets(trial.rows, trial.known):
                    about = {"fold": fold.name, "l_pruned_known": trial.known}
                    answers += [about | answer for answer in _answer(trial.fitted, question, tokens)]
    return pd.DataFrame(answers, columns=["fold", "l_pruned_known", "width", "wrong", "inside"])


def far_folds(text: pd.DataFrame) -> Iterator[Fold]:
    """What lies far outside: larger sizes than the smallest, higher rates than the lowest, later tokens than the first;
    and two at once."""
    larger = size_levels(text["n0"].to_numpy(dtype=float)) > 0
    higher = ~extreme_rates(text, -1)
    share = (text["tokens"] / text.groupby("curve")["tokens"].transform("max")).to_numpy()
    late = share > 0.5
    yield Fold("far", "size", larger, larger)
    yield Fold("far", "rate", higher, higher)
    for first in FIRST:
        yield Fold("far", f"tokens after {first:g}", share > first, late)
    yield Fold("far", "size and rate", larger | higher, larger & higher)
    yield Fold("far", "size and tokens", larger | (share > FIRST[-1]), larger & late)


def _answer(fitted: Mixture, question: Question, tokens: float) -> Iterator[dict[str, object]]:
    """What a budget would say, where it would give a number."""
    try:
        predicted, _, _ = invert(fitted, question, grid(fitted.range.tokens[0]))
    except P2Error:
        return
    ends = intervals(fitted, question)[0]
    if predicted and ends:
        (span,) = fitted.span(question.columns(np.array([float(predicted)])))
        wrong = float(np.exp(abs(np.log(predicted / tokens))))
        inside = ends[0] <= tokens <= ends[1]
        yield {"width": float(np.exp(min(span, 500.0))), "wrong": wrong, "inside": inside}


def summary(answers: pd.DataFrame) -> pd.DataFrame:
    """By width of the interval: answers, the factor by which half and nine in ten of them are wrong at most, and the
    share of intervals that hold the measured tokens."""
    rows = []
    for low, high in pairwise(WIDTHS):
        own = answers[(answers["width"] > low) & (answers["width"] <= high)]
        half, most = (float(own["wrong"].quantile(q)) for q in (0.5, 0.9))
        rows.append((f"{low:g} to {high:g}", len(own), half, most, float(own["inside"].mean())))
    return pd.DataFrame(rows, columns=["width", "answers", "half", "nine_in_ten", "inside"])


def main() -> None:
    """Print the table."""
    from leaderboard.logs.load import load_logs

    print(summary(reach(load_logs(*sys.argv[1:2]).frame)).to_string(float_format="{:.2f}".format, index=False))


if __name__ == "__main__":
    main()
