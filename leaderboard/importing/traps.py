"""What an import notices, and says: `MENDS` leave rows out, `SIGNS` only speak. A row of a table each.

A mend gets the curve so far and marks the evaluations to keep; a sign gets the mended curve. Both return words, empty
where there is nothing to say. Thresholds are named; none of them changes a loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leaderboard.errors import P2Error
from leaderboard.importing.curve import Curve, is_training
from leaderboard.importing.facts import Facts
from leaderboard.importing.recorded import Recorded, plain_name
from leaderboard.laws.law import Array
from leaderboard.logs.check import MAX_ROWS
from leaderboard.logs.findings import printable

SAME = 1e-6  # relative: a loss measured twice on one checkpoint
RISE = 0.02  # nats above its lowest point at which a curve is called rising
PASSES = 1.05  # epochs from which text counts as seen again
PADDING = 0.98  # of the tokens that were said, the file's own count without padding
PERPLEXITY = 12.0  # nats a token: above the guess among 160,000 words
BEGIN = 0.02  # of the tokens: a first evaluation later than this share of the curve
FEW = 5  # evaluations
MOST_ROWS = MAX_ROWS - 1  # and one at 0 tokens
_DISTILLED = ("distill", "kd_loss", "kl_loss", "kl_div", "teacher", "jsd")


@dataclass(frozen=True)
class Note:
    """One thing that was noticed: a code for programs and words for people."""

    code: str
    words: str


@dataclass(frozen=True)
class Case:
    """All that a trap may look at."""

    run: Recorded
    facts: Facts
    curve: Curve

    @property
    def place(self) -> Array:
        """Where each evaluation stands, in steps where there are any, else in tokens, shape (n,)."""
        return self.curve.tokens if np.isnan(self.curve.step).any() else self.curve.step


@dataclass(frozen=True)
class Mended:
    """Evaluations to keep, and why the others go; empty words keep all."""

    keep: NDArray[np.bool_]
    words: str = ""


def _not_finite(case: Case) -> Mended:
    keep = np.isfinite(case.curve.loss)
    bad = int((~keep).sum())
    words = f"{bad} evaluation(s) were inf or NaN and are left out; a run that diverged ends where it does so."
    return Mended(keep, words if bad else "")


def _no_place(case: Case) -> Mended:
    keep = np.isfinite(case.curve.tokens)
    bad = int((~keep).sum())
    words = f"{bad} evaluation(s) say neither steps nor tokens and are left out."
    return Mended(keep, words if bad else "")


def _best_again(case: Case) -> Mended:
    """A Trainer that loads its best checkpoint at the end measures it once more, at the last step."""
    loss, place = case.curve.loss, case.place
    keep = np.ones(len(loss), dtype=bool)
    if len(loss) < 3:
        return Mended(keep)
    best = int(np.argmin(loss[:-1]))
    again = abs(loss[-1] - loss[best]) <= SAME * loss[best] and best < len(loss) - 2
    between = again and loss[best + 1 : -1].max() > loss[best] * (1 + SAME)
    if not (between and place[-1] >= place[-2]):
        return Mended(keep)
    keep[-1] = False
    words = (
        f"The last evaluation ({loss[-1]:.6g}) is the best checkpoint, of row {best + 1}, measured again: left out. "
        "The curve ends before it."
    )
    return Mended(keep, words)


def _resumed(case: Case) -> Mended:
    """Rows after a step back were trained anew: the later ones count."""
    place = case.place
    later = np.append(np.minimum.accumulate(place[::-1])[::-1][1:], np.inf)
    keep = place < later
    dropped = int((~keep).sum())
    if not dropped:
        return Mended(keep)
    back = np.flatnonzero(np.diff(place) < 0)
    if not len(back):
        return Mended(keep, f"{dropped} step(s) stand there twice; the later evaluation of each counts.")
    at = int(back[-1]) + 1
    if not keep[:at].any() and at > 1:
        raise P2Error(
            f"{case.run.name}: at evaluation {at + 1} the count falls from {place[at - 1]:,.0f} to {place[at]:,.0f} "
            "and begins anew: two runs in one file, or a resumed run that counts from zero. Split it there; tokens of "
            "the second part must go on from the first."
        )
    words = (
        f"The count falls back {len(back)} time(s), as when a run is resumed from a checkpoint: {dropped} "
        "evaluation(s) that were trained anew are left out, the later ones count."
    )
    return Mended(keep, words)


def _same_tokens(case: Case) -> Mended:
    """Whole tokens must rise with the steps; a count that starts again at a resume cannot be put in order."""
    tokens = np.round(case.curve.tokens)
    fall = np.flatnonzero(np.diff(tokens) < 0)
    if len(fall):
        at = int(fall[0])
        counted = printable(case.curve.tokens_from)
        raise P2Error(
            f"{case.run.name}: {counted} falls from {tokens[at]:,.0f} to {tokens[at + 1]:,.0f} "
            "while the steps go on: it was reset when the run was resumed. Say --tokens-per-step instead."
        )
    keep = np.append(np.diff(tokens) > 0, True)
    dropped = int((~keep).sum())
    return Mended(keep, f"{dropped} evaluation(s) at no further tokens are left out." if dropped else "")


def _training_loss(case: Case) -> str:
    if not is_training(case.curve.held_out, case.run):
        return ""
    return (
        f"{printable(case.curve.held_out)} is a training loss: the log has no held-out series. It is noisier, it sees "
        "each text before it is learnt, and it does not compare with losses on a held-out text."
    )


def _plain_loss(case: Case) -> str:
    name = case.curve.held_out
    if plain_name(name) != "loss" or _training_loss(case):
        return ""
    return (
        "The column `loss` is taken for the held-out loss, as the only one; if it is the training loss, do not use it."
    )


def _rising(case: Case) -> str:
    loss, tokens = case.curve.loss, case.curve.tokens
    low = int(np.argmin(loss))
    tail = float(np.median(loss[-max(1, len(loss) // 10) :]))
    if tail - loss[low] < RISE or low == len(loss) - 1:
        return ""
    return (
        f"The loss rises: {loss[low]:.3f} at {tokens[low]:,.0f} tokens, {tail:.3f} at the end. It diverged, or saw its "
        "text too often; no law expects this."
    )


def _late_start(case: Case) -> str:
    tokens = case.curve.tokens
    if case.facts.l_pruned is not None or tokens[0] == 0 or tokens[0] < BEGIN * tokens[-1]:
        return ""
    return (
        f"The first evaluation is at {tokens[0]:,.0f} tokens, {tokens[0] / tokens[-1]:.0%} of the curve. Its loss is "
        "not that after pruning: measure that once before training and give it by --l-pruned."
    )


def _padding(case: Case) -> str:
    run, curve = case.run, case.curve
    own = [n for n in run.columns if plain_name(n) in ("num_tokens", "train_num_tokens", "eval_num_tokens")]
    if own and own[0] != curve.tokens_from:
        counted = run.column(own[0])[curve.row]
        told = np.isfinite(counted) & (counted > 0) & (curve.tokens > 0)
        share = float((counted[told] / curve.tokens[told])[-1]) if told.any() else 1.0
        if share < PADDING:
            return (
                f"Padding is counted as tokens: {printable(own[0])} says {share:.0%} of them are text. The tokens of "
                f"the log are too many; --map tokens={printable(own[0])} takes those of the text."
            )
    if plain_name(curve.tokens_from).endswith("num_input_tokens_seen"):
        return (
            "num_input_tokens_seen counts padding too, unless the Trainer had include_num_input_tokens_seen="
            "'non_padding'. With packed sequences there is none."
        )
    if case.facts.packing in ("padded", "padding", "none"):
        return "Sequences were padded: tokens a step must be those of the text, without padding."
    return ""


def _epochs(case: Case) -> str:
    epochs = case.curve.epoch[np.isfinite(case.curve.epoch)]
    most = max([*epochs[-1:], 0.0])
    if most <= PASSES:
        return ""
    return f"The text was seen {most:.3g} times: laws speak of fresh tokens, and a repeated one teaches less."


def _distilled(case: Case) -> str:
    told = (case.facts.objective or "").lower()
    marks = [n for n in case.run.columns if any(mark in plain_name(n) for mark in _DISTILLED)]
    if not marks and "distill" not in told and "kl" not in told.split():
        return ""
    own = printable(case.curve.held_out)
    if any(mark in plain_name(case.curve.held_out) for mark in _DISTILLED):
        return f"{own} is a distillation loss, not a cross-entropy: it does not compare with l0 or with any other log."
    what = f" ({printable(marks[0])})" if marks else ""
    return (
        f"A distillation loss{what} was trained on. If {own} holds a part of it, it is no cross-entropy and does not "
        "compare with l0; name the training by --objective."
    )


def _below_base(case: Case) -> str:
    l0, loss = case.facts.l0, case.curve.loss
    if l0 is None or loss.min() >= l0:
        return ""
    return (
        f"The curve ends below the base: {loss.min():.3f} against l0 {l0:.3f}. The base goes on learning this text, or "
        "l0 is of another text, or tokenizer: excess over l0 says little here; a control (--method none) would."
    )


def _perplexity(case: Case) -> str:
    if case.facts.unit != "nats" or np.median(case.curve.loss) < PERPLEXITY:
        return ""
    return (
        f"Losses around {np.median(case.curve.loss):.3g} nats a token are worse than guessing: are they perplexities "
        "(--unit ppl) or bits (--unit bits)?"
    )


def _tracker_step(case: Case) -> str:
    if case.curve.tokens_from != "steps" or any(plain_name(n).endswith("global_step") for n in case.run.columns):
        return ""
    if case.run.format != "tracker CSV" and not any(n in ("_step", "Step") for n in case.run.columns):
        return ""
    return (
        "`Step` of a tracker counts calls of its log function, not optimiser steps, unless they were the x axis: "
        "compare the last one with the run's own number of steps."
    )


def _few(case: Case) -> str:
    n = len(case.curve.loss)
    return f"Only {n} evaluation(s): a curve needs about ten to say where it goes." if n < FEW else ""


def _thinned(case: Case) -> Mended:
    n = len(case.curve.loss)
    keep = np.ones(n, dtype=bool)
    if n <= MOST_ROWS:
        return Mended(keep)
    keep[:] = False
    keep[np.linspace(0, n - 1, MOST_ROWS).round().astype(int)] = True
    return Mended(keep, f"{MOST_ROWS:,} of {n:,} evaluations are kept, evenly spread: a log takes no more.")


MENDS: dict[str, Callable[[Case], Mended]] = {
    "not_finite": _not_finite,
    "no_tokens": _no_place,
    "best_again": _best_again,
    "resumed": _resumed,
    "same_tokens": _same_tokens,
    "thinned": _thinned,
}
SIGNS: dict[str, Callable[[Case], str]] = {
    "training_loss": _training_loss,
    "plain_loss": _plain_loss,
    "rising": _rising,
    "late_start": _late_start,
    "padding": _padding,
    "epochs": _epochs,
    "distilled": _distilled,
    "below_base": _below_base,
    "perplexity": _perplexity,
    "tracker_step": _tracker_step,
    "few": _few,
}


def mended(run: Recorded, facts: Facts, curve: Curve) -> tuple[Curve, list[Note]]:
    """The curve without what is no part of it, tokens rising strictly, and what was left out."""
    notes = [Note("reader", words) for words in run.notes]
    for code, mend in MENDS.items():
        if not len(curve.loss):
            break
        found = mend(Case(run, facts, curve))
        curve = curve.take(found.keep)
        notes += [Note(code, found.words)] if found.words else []
    if not len(curve.loss):
        raise P2Error(f"{run.name}: no evaluation is left. " + " ".join(note.words for note in notes))
    return curve, notes


def signs(run: Recorded, facts: Facts, curve: Curve) -> list[Note]:
    """What else there is to say of a mended curve."""
    case = Case(run, facts, curve)
    return [Note(code, words) for code, sign in SIGNS.items() if (words := sign(case))]
