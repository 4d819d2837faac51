"""What other runs say of a run before its own rows are looked at: laws fitted without it, and the batches it shares.

Laws speak where the run's inputs are known and it was measured on the text the logs are of. A run that saw the batches
of others in their order (seed, text and step) shares their small ups and downs: the mean residual of those others at
each token count is added to the laws.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from leaderboard.errors import FitError
from leaderboard.fitting.pooled import SharedFit, fit_group
from leaderboard.fitting.robust import trusted
from leaderboard.laws.catalogue import LAWS
from leaderboard.laws.law import Array
from leaderboard.logs.contract import BY_NAME, curve_numbers, usable
from leaderboard.logs.origin import LORA, WORDS, origin, standard, usual_protocol
from leaderboard.planning.forecasting.decay import Known, number

ASKED = ("capacity-damage", "capacity", "damage-drift", "damage-drift-pooled")  # the best on unseen sizes and rates
INPUTS = ("n0", "n_pruned", "rate", "l0", "l_pruned")
BATCHES = ("seed", "train_data", "batch_tokens", "seq_len")  # what makes two runs see the same batches
FAR = 30.0  # times larger or smaller than any measured base: laws are not asked
EQUAL_ROWS = 2  # rows of equal tokens and loss by which a run without an id is known


@dataclass(frozen=True)
class Prior:
    """Curves of several laws for one run. `curves` maps tokens (n,) to losses (laws, n); `middle` of their tokens.

    `far` is how many times the base is larger (or smaller) than those measured, 1 inside. `doubts` says in words which
    runs were discounted.
    """

    laws: tuple[str, ...]
    curves: Callable[[Array], Array]
    middle: float
    same_batches: bool
    far: float
    doubts: tuple[str, ...]


def without(frame: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """The frame without the run itself, known by its run_id or by equal rows."""
    mine = np.zeros(len(frame), dtype=bool)
    if "run_id" in own and "run_id" in frame:
        mine |= frame["run_id"].isin(own["run_id"].dropna().unique()).to_numpy()
    rows, measured = (part[["tokens", "loss"]].astype(float) for part in (frame, own[own["tokens"] > 0]))
    rows = rows.merge(measured.drop_duplicates(), how="left", indicator=True)
    equal = (rows["_merge"] == "both").to_numpy()
    if equal.any():
        curve = curve_numbers(frame)
        mine |= (np.bincount(curve, equal) >= EQUAL_ROWS)[curve]
    return frame[~mine]


def prior_of(frame: pd.DataFrame, known: Known) -> Prior | str:
    """What laws say of a run, `known(name)` being its run-level values; in words what keeps them from speaking.

    Laws are fitted to the runs that robust.py trusts.
    """
    if known("method") == "none":
        return "it is a control, and laws are about pruned runs"
    text, nowhere = _same_text(frame, known)
    if nowhere:
        return nowhere
    inputs = {name: v for name in INPUTS if (v := number(known(name))) is not None}
    if "rate" in inputs and "n0" in inputs:
        inputs.setdefault("n_pruned", inputs["n0"] * (1 - inputs["rate"]))
    least = min((set(LAWS[name].inputs) - {"tokens", *inputs} for name in ASKED), key=len)
    if least:
        return f"{', '.join(name for name in INPUTS if name in least)} not known"
    judged = trusted(text)
    text = judged.rows
    sizes = text["n0"].dropna().to_numpy(dtype=float)
    far = max(1.0, inputs["n0"] / sizes.max(), sizes.min() / inputs["n0"])
    if far > FAR:
        return f"its base is {far:.3g} times outside the sizes measured; up to {FAR:g} times they are asked"
    group = {name: str(v) for name in ("family", "method") if (v := known(name)) is not None}
    fits = _fits(text, inputs, group)
    if not fits:
        return "none can be fitted to the runs on its text"
    alike = {id(f): _shared_batches(f, known) for f in fits}
    tokens = text["tokens"].to_numpy(dtype=float)

    def curves(at: Array) -> Array:
        columns = {"tokens": at, **{name: np.full(len(at), value) for name, value in inputs.items()}}
        return np.stack([f.fit.predict(columns) + alike[id(f)].at(at) for f in fits])

    middle = float(np.sqrt(tokens.min() * tokens.max()))
    same = all(len(a.tokens) for a in alike.values())
    return Prior(tuple(f.fit.law.name for f in fits), curves, middle, same, far, judged.words)


@dataclass(frozen=True)
class _Batches:
    """Mean residual of runs that saw the same batches at tokens (n,), shrunk for their number; empty for none."""

    tokens: Array
    residual: Array

    def at(self, tokens: Array) -> Array:
        """In between by interpolation, nothing outside."""
        return (
            np.interp(tokens, self.tokens, self.residual, left=0, right=0)
            if len(self.tokens)
            else np.zeros(len(tokens))
        )


def _shared_batches(shared: SharedFit, known: Known) -> _Batches:
    rows = shared.rows
    alike = np.ones(len(rows), dtype=bool)
    for name in BATCHES:
        value = known(name)
        alike &= (rows[name] == value).to_numpy() if value is not None and name in rows else False
    if not alike.any():
        return _Batches(np.empty(0), np.empty(0))
    residual = (rows["loss"] - shared.joint.predict(rows))[alike]
    means = residual.groupby(rows["tokens"][alike]).agg(["mean", "size"])
    shrunk = means["mean"] * means["size"] / (means["size"] + 1)
    return _Batches(means.index.to_numpy(dtype=float), shrunk.to_numpy())


def _same_text(frame: pd.DataFrame, known: Known) -> tuple[pd.DataFrame, str]:
    """Usable rows on the run's held-out text and objective, measured as it is; where it names none, as most rows are.

    Runs that trained some parameters only speak of such runs alone. Where none is left, the words say why.
    """
    rows = usable(frame)
    if "n0" in rows and rows["n0"].notna().any():
        rows = standard(rows) if known("trainable_params") is None else rows[origin(rows) == LORA]
        nowhere = "" if len(rows) else "it trained some parameters only (trainable_params), as no measured run did"
    else:
        rows, nowhere = rows.iloc[:0], "the logs hold no usable run"
    for name in (name for name in ("eval_data", "objective", *WORDS) if len(rows) and name in rows):
        value = known(name)
        if value is None and name in WORDS:
            continue
        value = rows[name].astype(str).value_counts().index[0] if value is None else value
        alike = (rows[name] == value) | (rows[name].isna() & BY_NAME[name].later)
        rows = rows[alike.to_numpy()]
        nowhere = "" if len(rows) else f"no run that could speak of it has its {name}, {value}"
    return (usual_protocol(rows)[0] if len(rows) else rows), nowhere


def _fits(text: pd.DataFrame, inputs: dict[str, float], group: dict[str, str]) -> list[SharedFit]:
    """Fits of the laws that have their inputs; a law that pools nothing needs runs of the group."""
    fits = []
    for law in (LAWS[name] for name in ASKED):
        own = all(name in group and (text[name] == group[name]).any() for name in ("family", "method"))
        if set(law.inputs) - {"tokens"} <= set(inputs) and (law.pool or own):
            try:
                fits.append(fit_group(law, text, group))
            except FitError:
                continue
    at = {"tokens": np.array([text["tokens"].median()]), **{name: np.array([v]) for name, v in inputs.items()}}
    return [f for f in fits if np.isfinite(f.fit.predict(at)).all()]
