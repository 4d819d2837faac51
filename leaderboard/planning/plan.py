"""Which base, method and rate? Every way to a model of one deployed size, by its predicted loss after post-training.

A method that takes a rate reaches a deployed size at 1 - deployed / n0; one of a fixed pattern has one rate a base.
Unpruned bases of that size or smaller stand beside them with their own loss: pruning has to beat those to be worth it.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from leaderboard.errors import P2Error
from leaderboard.laws.law import Array, Law
from leaderboard.logs.contract import GROUP, require
from leaderboard.logs.methods import CONTROL, least_rate, takes_rate
from leaderboard.planning.bases import Base
from leaderboard.planning.candidates import beyond, group_mixtures, known_bases, measured_alike, one_text
from leaderboard.planning.distance import State
from leaderboard.planning.mixture import Mixture
from leaderboard.planning.outlook import states
from leaderboard.planning.recipe import usual_recipe

COLUMNS = (
    "base_model", "family", "method", "rate", "parameters", "tokens", "loss", "loss_low", "loss_high", "state",
    "beyond", "beyond_size", "beyond_rate", "beyond_tokens", "l0", "l0_from", "law", "runs", "note",
)  # fmt: skip
NEEDED = ("run_id", *GROUP, "base_model", "n0", "n0_nonembedding", "rate", "l0", "tokens", "loss")
UNPRUNED = CONTROL
LEVEL = 0.9
MOST_LOSS = 1.5  # in units of ln(vocabulary), as in the rules of a log


def plan(
    frame: pd.DataFrame,
    *,
    deployed: float,
    tokens: float,
    family: str | None = None,
    bases: Sequence[Base] = (),
    eval_data: str | None = None,
    objective: str | None = None,
    law: str | Law | None = None,
) -> pd.DataFrame:
    """One row a candidate, lowest predicted loss first: a base model, a method and the rate that ends at `deployed`
    parameters, post-trained on `tokens`; or an unpruned base of at most that size.

    Bases are those of the logs on one held-out text, with their l0 on it, and `bases`; a missing l0 is read off the
    power law through the family's others (`l0_from` says so). `loss_low` and `loss_high` are the 90 % interval of one
    new run (NaN with few runs, or where nothing is predicted). `beyond` is the largest factor by which size, rate or
    tokens lie outside the runs behind the prediction: 1 is inside. `state` is that of a budget (distance.py); too_far,
    and a prediction that no loss can be, is NaN and comes last. `.attrs["recipe"]` is how most runs were trained.
    Raises P2Error when there is no candidate.
    """
    require(frame, NEEDED, "plan")
    if not 1e4 <= deployed < np.inf or not 1 <= tokens < np.inf:
        raise P2Error(f"plan: got deployed {deployed!r} and tokens {tokens!r}; both are counts, e.g. 6e9 and 1e9.")
    text = one_text(frame, eval_data, objective, "plan")
    _one_tokenizer(text, family)
    text = measured_alike(text, family)
    fits = group_mixtures(text, law, family, "plan")
    known = known_bases(text, bases, family, "plan")
    rows = [_unpruned(base, text) for base in known if base.n0 <= deployed]
    for group in fits:
        rows += _pruned(group, known, deployed, tokens, _sense(text))
    if not rows:
        raise P2Error(
            f"plan: every base is larger than {deployed:g} parameters and no method of these logs can prune one to it; "
            "ask for another size, or give a base with its l0."
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(["loss", "base_model", "method"], ignore_index=True)
    table.attrs["recipe"] = usual_recipe(text)
    return table


def _one_tokenizer(text: pd.DataFrame, family: str | None) -> None:
    own = text if family is None else text[text["family"] == family]
    if "vocab_size" in own and own["vocab_size"].nunique() > 1:
        sizes = ", ".join(f"{f} {v:,}" for f, v in own[["family", "vocab_size"]].drop_duplicates().to_numpy())
        raise P2Error(f"plan: losses per token compare only under one tokenizer, here are {sizes}; name a family.")


def _unpruned(base: Base, text: pd.DataFrame) -> dict[str, object]:
    """A base as it is."""
    row = dict.fromkeys(COLUMNS, np.nan) | _about(base) | {"method": UNPRUNED, "rate": 0.0, "parameters": base.n0}
    own = text[(text["base_model"] == base.name) & (text["method"] == UNPRUNED)]
    note, far = "", 1.0
    if len(own):
        last = own.sort_values("tokens").iloc[-1]
        note = f"post-trained unpruned, it reached {last['loss']:.3f} after {last['tokens']:.3g} tokens"
    if base.interpolated:
        far = beyond(text[text["family"] == base.family], "n0", base.n0)
    state = str(State.BEYOND if base.interpolated else State.INSIDE)
    return row | {"tokens": 0, "loss": base.l0, "state": state, "beyond": far, "law": "", "runs": 0, "note": note}


def _about(base: Base) -> dict[str, object]:
    source = "power law" if base.interpolated else "measured"
    return {"base_model": base.name, "family": base.family, "l0": base.l0, "l0_from": source}


def _sense(text: pd.DataFrame) -> float:
    """The largest loss that a log may hold: above it a prediction says only that its law broke down."""
    return MOST_LOSS * float(np.log(text["vocab_size"].max())) if "vocab_size" in text else np.inf


def _pruned(
    group: Mixture, known: Iterable[Base], deployed: float, tokens: float, limit: float
) -> list[dict[str, object]]:
    """The candidates of one family and method, predicted together."""
    pairs = list(_reachable(group, known, deployed))
    if not pairs:
        return []
    n0 = np.array([base.n0 for base, _ in pairs], dtype=float)
    rate = np.array([rate for _, rate in pairs])
    rows_asked = pd.DataFrame({"n0": n0, "rate": rate, "l0": [base.l0 for base, _ in pairs], "tokens": float(tokens)})
    rows_asked = rows_asked.assign(
        n_pruned=n0 * (1 - rate),
        n0_nonembedding=[float(base.n0_nonembedding) for base, _ in pairs],
    )
    state = states(group, rows_asked)
    loss = group.predict(rows_asked)
    sense = (loss > 0) & (loss <= limit)
    fine = sense & (state != State.TOO_FAR)
    loss, low, high = (np.where(fine, v, np.nan) for v in (loss, *_interval(group, rows_asked)))
    rows = []
    for i, (base, r) in enumerate(pairs):
        far = {f"beyond_{axis}": v for axis, v in group.range.factors(n0[i], r, tokens).items()}
        rows.append(
            _about(base)
            | {"method": group.group["method"], "rate": r, "parameters": round(n0[i] * (1 - r)), "tokens": int(tokens)}
            | {"loss": loss[i], "loss_low": low[i], "loss_high": high[i], "state": str(state[i])}
            | {"beyond": max(far.values()), **far, "law": group.law, "runs": group.n_runs}
            | {"note": _note(group, State(state[i]), bool(sense[i]))}
        )
    return rows


def _reachable(group: Mixture, known: Iterable[Base], deployed: float) -> Iterator[tuple[Base, float]]:
    """Bases of the family that this method brings to the deployed size, and the rate that does it."""
    method = group.group["method"]
    for base in known:
        if base.family != group.group["family"] or base.n0 <= deployed:
            continue
        needed = 1 - deployed / base.n0
        least = least_rate(method, base.n0, base.n0_nonembedding)
        if not takes_rate(method) and least >= needed:
            yield base, least
        elif takes_rate(method) and needed >= least:
            yield base, needed


def _interval(group: Mixture, rows_asked: pd.DataFrame) -> tuple[Array, Array]:
    if not group.has_interval:
        return np.full(len(rows_asked), np.nan), np.full(len(rows_asked), np.nan)
    return group.band(rows_asked).ends(LEVEL)


def _note(group: Mixture, state: State, sense: bool) -> str:
    if state is State.TOO_FAR:
        return "too far outside the runs to be answered"
    if not sense:
        return "so far outside the runs that the law breaks down"
    few = "" if group.has_interval else f"{group.n_runs} runs are too few for an interval"
    return "; ".join(filter(None, (few, group.members[0].fit.held_words)))
