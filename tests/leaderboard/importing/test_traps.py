"""Each trap as a tiny file: what is left out, and the words a user reads."""

import json
import math

import numpy as np
import pytest

from leaderboard.errors import P2Error
from leaderboard.importing import import_log
from leaderboard.importing.traps import MENDS, SIGNS
from tests.leaderboard.importing.conftest import FACTS, TOKENS, history, loss, state, steps

EVALS = [{"step": s, "eval_loss": loss(s)} for s in steps()]
LONG = [{"step": s, "eval_loss": loss(s)} for s in range(1, 100_011)]


def rows(data, **more):
    return json.dumps([row | more for row in data]).encode()


def lines(data):
    return "\n".join(map(json.dumps, data)).encode()


RESUMED = [*EVALS[:12], *({"step": s, "eval_loss": loss(s) + 1e-3} for s in steps()[9:])]
BEST = [
    *(
        {"step": s, "eval_loss": v}
        for s, v in zip(steps(400), (3.5, 3.3, 3.1234567, 3.2, 3.3, 3.4, 3.5, 3.6), strict=True)
    )
]
CASES = {  # code: file, changed facts, part of the words, rows that are left (None: all)
    "not_finite": (
        lines([*EVALS[:10], {"step": 525, "eval_loss": math.nan}, {"step": 530, "eval_loss": math.inf}]),
        {},
        "2 evaluation(s) were inf or NaN",
        10,
    ),
    "no_tokens": (rows([*EVALS, {"eval_loss": 3.0}]), {}, "1 evaluation(s) say neither steps nor tokens", 20),
    "best_again": (
        state([*BEST, {"step": 400, "eval_loss": 3.1234567}]),
        {},
        "(3.12346) is the best checkpoint, of row 3, measured again",
        8,
    ),
    "resumed": (rows(RESUMED), {}, "The count falls back 1 time(s)", 20),
    "same_tokens": (
        lines([{"step": s, "tokens": 7 * max(s, 100), "eval_loss": loss(s)} for s in steps()]),
        {"tokens_per_step": None},
        "1 evaluation(s) at no further tokens",
        19,
    ),
    "thinned": (lines(LONG), {}, "99,999 of 100,010 evaluations are kept", 99_999),
    "training_loss": (
        state([r for r in history() if "loss" in r]),
        {"columns": {"loss": "loss"}},
        "loss is a training loss: the log has no held-out series",
        None,
    ),
    "plain_loss": (lines([{"step": s, "loss": loss(s)} for s in steps()]), {}, "taken for the held-out loss", None),
    "rising": (
        rows([*EVALS, *({"step": 1000 + s, "eval_loss": loss(1000) + s / 1000} for s in steps())]),
        {},
        "The loss rises: 3.150 at 4,096,000 tokens",
        None,
    ),
    "late_start": (rows(EVALS[4:]), {}, "The first evaluation is at 1,024,000 tokens, 25% of the curve", None),
    "padding": (
        lines([r | {"num_tokens": r["step"] * 1000} for r in EVALS]),
        {},
        "Padding is counted as tokens: num_tokens says 24%",
        None,
    ),
    "epochs": (rows([r | {"epoch": r["step"] / 250} for r in EVALS]), {}, "The text was seen 4 times", None),
    "distilled": (rows(EVALS, kd_loss=1.0), {}, "A distillation loss (kd_loss) was trained on", None),
    "below_base": (rows(EVALS), {"l0": 3.3}, "The curve ends below the base: 3.150 against l0 3.300", None),
    "perplexity": (
        rows([r | {"eval_loss": math.exp(r["eval_loss"])} for r in EVALS]),
        {},
        "are they perplexities (--unit ppl)",
        None,
    ),
    "tracker_step": (
        b"Step,mine - eval/loss\n" + "\n".join(f"{s},{loss(s)}" for s in steps()).encode(),
        {},
        "counts calls of its log function",
        None,
    ),
    "few": (rows(EVALS[:3]), {}, "Only 3 evaluation(s)", None),
}


def imported(data, changes):
    columns = changes.get("columns")
    facts = {k: v for k, v in (FACTS | changes).items() if v is not None and k != "columns"}
    return import_log(data, "file", columns=columns, **facts)


@pytest.mark.parametrize("code", [*MENDS, *SIGNS])
def test_a_trap_is_told(code):
    data, changes, words, left = CASES[code]
    found = imported(data, changes)
    said = {note.code: note.words for note in found.notes}
    assert words in said[code]
    if left is not None:
        assert len(found.frame) == left


def test_a_clean_curve_says_nothing():
    facts = {"l0": 2.5, "l_pruned": 3.9}
    assert imported(state(history()), facts).notes == ()


def test_after_a_resume_the_later_rows_count():
    frame = imported(rows(RESUMED), {}).frame
    np.testing.assert_allclose(frame["loss"], [loss(s) + (1e-3 if s >= 500 else 0) for s in steps()])


def test_a_step_measured_twice_counts_once():
    found = imported(rows([*EVALS, {"step": 1000, "eval_loss": 3.14}]), {})
    assert found.frame["loss"].iloc[-1] == 3.14
    assert "stand there twice" in " ".join(note.words for note in found.notes)


def test_a_plateau_is_no_best_checkpoint():
    flat = [{"step": s, "eval_loss": max(round(loss(s), 2), 3.2)} for s in steps()]
    assert len(imported(rows(flat), {}).frame) == len(flat)


REFUSED = {
    "only training losses": (state([r for r in history() if "loss" in r]), {}, "no held-out series: only training"),
    "two runs in one file": (rows([*EVALS, *EVALS]), {}, "begins anew: two runs in one file"),
    "tokens reset at a resume": (
        lines([r | {"num_tokens": (r["step"] - 500 * (r["step"] > 500)) * 7} for r in EVALS]),
        {"tokens_per_step": None},
        "num_tokens falls from 3,500 to 350 while the steps go on",
    ),
    "tokens that were not counted": (
        state([r | {"num_input_tokens_seen": 0} for r in EVALS]),
        {"tokens_per_step": None},
        "tokens a step are not known: num_input_tokens_seen is 0 in every row",
    ),
    "perplexities alone": (
        lines([{"step": 1, "eval_ppl": 20.0}]),
        {},
        "no held-out loss in nats, but eval_ppl. Say --unit ppl",
    ),
    "nothing finite": (lines([{"step": s, "eval_loss": math.nan} for s in steps()]), {}, "no evaluation is left. 20"),
    "epochs without tokens": (lines([{"epoch": 1, "eval_loss": 3.0}]), {}, "needs steps, and no evaluation has one"),
    "an l0 as perplexity": (rows(EVALS, eval_ppl=20.0), {"unit": "ppl", "l0": 9.0}, "the logarithm of 9 is 2.1972"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_put_right_is_refused(kind):
    data, changes, words = REFUSED[kind]
    with pytest.raises(P2Error) as refused:
        imported(data, changes)
    assert words in str(refused.value)


def test_padding_words_for_a_trainers_own_count():
    data = state([r | {"num_input_tokens_seen": r["step"] * TOKENS} for r in EVALS])
    (said,) = [n.words for n in imported(data, {"tokens_per_step": None}).notes if n.code == "padding"]
    assert "counts padding too, unless" in said
