"""Who answers about a new model, and its fits: `recommended_fit`, a mixture of laws.

The laws are those that predict later tokens of all groups on the text about as well as the best does, weighted by what
they err on unseen sizes and rates (mixture.py); the group asked about has no say of its own, its few runs would choose
by luck. Laws that need `l_pruned` stand aside where that has not been measured.
"""

import difflib
from dataclasses import replace

import numpy as np
import pandas as pd

from leaderboard.errors import P2Error, unknown_name
from leaderboard.fitting.compressed import WEIGHT
from leaderboard.fitting.pooled import SharedFit, fit_group
from leaderboard.fitting.robust import trusted
from leaderboard.laws.catalogue import LAWS
from leaderboard.laws.law import Law
from leaderboard.logs.contract import GROUP, curve_numbers, require, usable
from leaderboard.logs.origin import PROTOCOL, standard, usual_protocol
from leaderboard.once import Once
from leaderboard.planning.distance import Range
from leaderboard.planning.mixture import WITH_DAMAGE, WITHOUT_DAMAGE, Mixture
from leaderboard.planning.recipe import recipe_differences, usual_recipe
from leaderboard.ranking.cells import score_cells
from leaderboard.ranking.rank import NEW_MODEL, rank
from leaderboard.ranking.tracks import HELD_OUT

MEASURED = "l_pruned"  # an input that is known only after pruning
KEY = ("run_id", *GROUP, "base_model", "n0", "n_pruned", "rate", "l0", "l_pruned", "tokens", "loss", WEIGHT)
KEPT = 8
RULED_OUT = 4.0  # a law that errs this many times the best one, on new models or on later tokens, has no say
LATER = "tokens"  # the track of those
UNTESTED = ("p2", "capacity", "damage", "capacity-damage")  # who answers where no law can be tested
_heldout = Once(KEPT)


def predictor(
    frame: pd.DataFrame,
    *,
    family: str,
    method: str,
    eval_data: str | None = None,
    objective: str | None = None,
    law: str | Law | None = None,
    l_pruned_known: bool = True,
) -> Mixture:
    """Choose and fit what answers about a family and method: the law asked for, else those that predict best.

    `frame` holds run logs; `eval_data` and `objective` default to the group with most runs. Raises P2Error on a family
    or method that no law can speak about.
    """
    text, group = same_text(frame, family, method, eval_data, objective)
    return mixture(text, {"family": family, "method": method, **group}, law, l_pruned_known)


def mixture(
    text: pd.DataFrame, group: dict[str, str], law: str | Law | None, l_pruned_known: bool, where: str = "budget"
) -> Mixture:
    """The laws that answer about a group of the usable rows on its text, runs weighed and bad ones out (robust.py)."""
    judged = trusted(text)
    text = judged.rows
    errors, why = choose_laws(text, law, l_pruned_known, where)
    members, refused = [], []
    for chosen, error in errors.values():
        try:
            members.append((fit_new_model(chosen, text, group["family"], group["method"], where), error))
        except P2Error as refusal:
            refused.append(refusal)
    if not members:
        raise refused[0]
    own = text[text["method"] == group["method"]]
    rows = own if len(own) else text
    if PROTOCOL in group:
        why.append(f"From runs measured with {group[PROTOCOL]}; those measured otherwise share no fit with them.")
    why += recipe_differences(rows)
    know_damage = any(MEASURED in member.fit.law.inputs for member, _ in members)
    return Mixture(
        members=tuple(member for member, _ in members),
        errors=tuple(error for _, error in members),
        range=Range.of(rows, text),
        group=group,
        recipe=usual_recipe(rows),
        why=(*why, *judged.words),
        curves=_of_group(judged.curves, group),
        width=WITH_DAMAGE if know_damage else WITHOUT_DAMAGE,
    )


def _of_group(rows: pd.DataFrame, group: dict[str, str]) -> pd.DataFrame:
    own = (rows["family"] == group["family"]) & (rows["method"] == group["method"])
    return rows.loc[own, [c for c in KEY if c in rows]]


def recommended_fit(
    frame: pd.DataFrame,
    *,
    family: str,
    method: str,
    eval_data: str | None = None,
    objective: str | None = None,
    l_pruned_known: bool = True,
) -> Mixture:
    """What predicts new models of a family and method: `.predict(frame)` needs input columns only, `.band(frame)` says
    how sure.

    `frame` holds run logs; `eval_data` and `objective` default to the group with most runs. `why` ends in what the laws
    were fitted to, in words. Raises P2Error on a family or method that no law can speak about.
    """
    require(frame, ("run_id", "base_model", *GROUP, "n0", "rate", "tokens", "loss"), "recommended_fit")
    fitted = predictor(
        frame, family=family, method=method, eval_data=eval_data, objective=objective, l_pruned_known=l_pruned_known
    )
    return replace(fitted, why=(*fitted.why, lent_words(fitted.members[0])))


def choose_laws(
    text: pd.DataFrame, law: str | Law | None, l_pruned_known: bool, where: str = "budget"
) -> tuple[dict[str, tuple[Law, float]], list[str]]:
    """The laws to answer with and the held-out RMSE of each in nats, best first, and why these.

    `where` begins the errors.
    """
    if law is not None:
        chosen = _named(law, l_pruned_known, where)
        return {chosen.name: (chosen, 1.0)}, [f"The law {chosen.name} was asked for."]
    table = heldout(text)
    need = [MEASURED in LAWS[name].inputs for name in table.index]
    able = table if l_pruned_known else table[~np.array(need, dtype=bool)]
    if able.empty:
        names = [n for n in UNTESTED if l_pruned_known or MEASURED not in LAWS[n].inputs]
        why = ["These logs cannot test laws on unseen sizes or rates, so laws of each kind answer with equal weight."]
        return {name: (LAWS[name], 1.0) for name in names}, why
    ruled_out = (able["later"] > RULED_OUT * table["later"].min()) | (able["new"] > RULED_OUT * able["new"].min())
    near = able.loc[~ruled_out, "new"] if not ruled_out.all() else able["new"].head(1)
    errors = ", ".join(f"{name} {error:.4f}" for name, error in near.items())
    why = [f"{len(near)} laws answer together; on unseen sizes and rates each errs (RMSE, nats): {errors}."]
    best, own = table["new"].index[0], near.index[0]
    if not l_pruned_known and best != own:
        why.append(
            "Without l_pruned only laws that do not need it could answer. Measure the loss once after pruning and "
            f"pass it: {best} then joins, which errs {table['new'].iloc[0]:.4f} nats there in place of the "
            f"{near.iloc[0]:.4f} of {own}."
        )
    return {str(name): (LAWS[str(name)], float(error)) for name, error in near.items()}, why


def _named(law: str | Law, l_pruned_known: bool, where: str) -> Law:
    if isinstance(law, str) and law not in LAWS:
        raise unknown_name("law", law, LAWS, where)
    chosen = LAWS[law] if isinstance(law, str) else law
    if not l_pruned_known and MEASURED in chosen.inputs:
        fix = "give it (--l-pruned)" if where == "budget" else "choose a law that does without it"
        raise P2Error(f"{where}: the law {chosen.name} needs l_pruned, the loss right after pruning; {fix}.")
    return chosen


def heldout(text: pd.DataFrame) -> pd.DataFrame:
    """Held-out RMSE by law in nats, lowest `new` first; laws that failed a cell of `new` left out.

    `new` is the mean over unseen sizes and rates; `later`, over the last fifth of runs that were seen, the median over
    groups, NaN where no run is long enough.

    The last few answers are kept: the same runs always rank laws alike.
    """
    key = hash(tuple(pd.util.hash_pandas_object(text[[c for c in KEY if c in text]], index=False)))

    def make() -> pd.DataFrame:
        cells = score_cells(text, LAWS, HELD_OUT, draws=1)
        new = rank(text, cells=cells[cells["track"].isin(NEW_MODEL)]).set_index("law")["rmse_heldout"]
        later = cells[cells["track"] == LATER].groupby("law")["rmse"].median()
        new = new.dropna().sort_values()
        return pd.DataFrame({"new": new, "later": later.reindex(new.index)})  # an empty frame would take later's index

    return _heldout.get(key, make)


def fit_new_model(law: Law, text: pd.DataFrame, family: str, method: str, where: str = "budget") -> SharedFit:
    """Fit `law` for a family and method; only a law that pools families, or methods, answers for one without runs.

    `where` begins the errors.
    """
    for name, wanted in (("family", family), ("method", method)):
        if not law.pool and wanted not in set(text[name]):
            raise unknown_name(name, wanted, text[name].astype(str).unique(), f"{where}, law {law.name}")
    if not law.pool and not ((text["family"] == family) & (text["method"] == method)).any():
        raise P2Error(f"{where}: no run of {family} by {method} on this text, and the law {law.name} pools nothing.")
    return fit_group(law, text, {"family": family, "method": method})


def lent_words(shared: SharedFit) -> str:
    """What a fit was made from, in words."""
    rows = shared.rows
    lists = (", ".join(sorted(map(str, rows[c].unique()))) for c in ("family", "method"))
    return "Fitted to {} runs: {}; {}.".format(len(set(curve_numbers(rows))), *lists)


def _refuse_misspelt(frame: pd.DataFrame, family: str, method: str) -> None:
    """A method without data is refused; a family without data may be asked about, unless it reads like a known one."""
    methods, families = (set(frame[c].astype(str)) for c in ("method", "family"))
    if len(frame) and method not in methods:
        raise unknown_name("method", method, methods, "budget")
    if family not in families and difflib.get_close_matches(family, families, n=1, cutoff=0.75):
        raise unknown_name("family", family, families, "budget")


def same_text(
    frame: pd.DataFrame, family: str, method: str, eval_data: str | None, objective: str | None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Usable rows on one held-out text and objective, measured alike: the named ones, else where this group has most
    runs. Where the text was measured otherwise too, the key says how these were.
    """
    frame = standard(usable(frame))
    for name, wanted in (("eval_data", eval_data), ("objective", objective)):
        if wanted is not None:
            if wanted not in set(frame[name]):
                raise unknown_name(name, wanted, frame[name].astype(str).unique(), "budget")
            frame = frame[frame[name] == wanted]
    _refuse_misspelt(frame, family, method)
    own = frame[(frame["family"] == family) & (frame["method"] == method)]
    heads = (own if len(own) else frame)[["run_id", "eval_data", "objective"]].astype(str).drop_duplicates()
    if heads.empty:
        raise P2Error("budget: these logs hold no usable rows (tokens > warmup_tokens, something pruned).")
    most = heads.value_counts(["eval_data", "objective"]).index[0]
    text = {"eval_data": str(most[0]), "objective": str(most[1])}
    frame = frame[(frame["eval_data"] == text["eval_data"]) & (frame["objective"] == text["objective"])]
    rows, way = usual_protocol(frame, ((frame["family"] == family) & (frame["method"] == method)).to_numpy())
    return rows, text | ({PROTOCOL: way} if way else {})
