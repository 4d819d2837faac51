"""Which law to predict a new model with, and its fit: `recommended_fit`.

The law is the one with the lowest held-out error over unseen sizes and rates of all groups on the text (rank.py); the
group asked about has no say of its own, its few runs would choose by luck. Laws that need `l_pruned` stand aside where
that has not been measured.
"""

import difflib
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from leaderboard.errors import P2Error, unknown_name
from leaderboard.fitting.pooled import SharedFit, fit_group
from leaderboard.fitting.resample import Resamples
from leaderboard.fitting.result import Fit
from leaderboard.laws.catalogue import LAWS, P2
from leaderboard.laws.law import Law
from leaderboard.logs.contract import GROUP, curve_numbers, require, usable
from leaderboard.logs.origin import standard
from leaderboard.once import Once
from leaderboard.ranking.cells import score_cells
from leaderboard.ranking.rank import NEW_MODEL, rank

MEASURED = "l_pruned"  # an input that is known only after pruning
KEY = ("run_id", *GROUP, "base_model", "n0", "n_pruned", "rate", "l0", "l_pruned", "tokens", "loss")
KEPT = 8
RUNS_FOR_AN_INTERVAL = 4
DRAWS = 400
_heldout = Once(KEPT)


@dataclass(frozen=True)
class Predictor:
    """A law fitted for one family and method on one held-out text, ready for any number of questions about new models.

    `group` names the family, method, held-out text and objective; `why` says in words why this law.
    """

    shared: SharedFit
    group: dict[str, str]
    why: tuple[str, ...]

    @property
    def fit(self) -> Fit:
        """The fit to predict with."""
        return self.shared.fit

    @property
    def rows(self) -> pd.DataFrame:
        """The rows it was fitted to."""
        return self.shared.rows

    @cached_property
    def spread(self) -> Resamples | None:
        """Whole-run resamples of the fit, made once; None where there are too few runs for an interval."""
        return self.shared.resample(draws=DRAWS) if self.fit.n_runs >= RUNS_FOR_AN_INTERVAL else None

    def named(self, family: str) -> "Predictor":
        """The same, resamples and all, for another family without runs."""
        other = Predictor(self.shared, self.group | {"family": family}, self.why)
        vars(other).update({name: value for name, value in vars(self).items() if name == "spread"})
        return other


def predictor(
    frame: pd.DataFrame,
    *,
    family: str,
    method: str,
    eval_data: str | None = None,
    objective: str | None = None,
    law: str | Law | None = None,
    l_pruned_known: bool = True,
) -> Predictor:
    """Choose and fit the law that answers about a family and method: the one asked for, else the best predictor.

    `frame` holds run logs; `eval_data` and `objective` default to the group with most runs. Raises P2Error on a family
    or method that no law can speak about.
    """
    text, group = same_text(frame, family, method, eval_data, objective)
    chosen, why = choose_law(text, law, l_pruned_known)
    shared = fit_new_model(chosen, text, family, method)
    return Predictor(shared, {"family": family, "method": method, **group}, tuple(why))


def recommended_fit(
    frame: pd.DataFrame,
    *,
    family: str,
    method: str,
    eval_data: str | None = None,
    objective: str | None = None,
    l_pruned_known: bool = True,
) -> Fit:
    """The fit to predict new models of a family and method with: `.predict(frame)` needs the law's input columns only.

    `frame` holds run logs; `eval_data` and `objective` default to the group with most runs. `notes` of the fit end in
    why this law and what it was fitted to, in words. Raises P2Error on a family or method that no law can speak about.
    """
    require(frame, ("run_id", "base_model", *GROUP, "n0", "rate", "tokens", "loss"), "recommended_fit")
    found = predictor(
        frame, family=family, method=method, eval_data=eval_data, objective=objective, l_pruned_known=l_pruned_known
    )
    return replace(found.fit, notes=(*found.fit.notes, *found.why, lent_words(found.shared)))


def choose_law(
    text: pd.DataFrame, law: str | Law | None, l_pruned_known: bool, where: str = "budget"
) -> tuple[Law, list[str]]:
    """The law to answer with, and why it is that one: the law asked for, else the best on unseen sizes and rates.

    `where` begins the errors.
    """
    if isinstance(law, str) and law not in LAWS:
        raise unknown_name("law", law, LAWS, where)
    if law is not None:
        chosen = LAWS[law] if isinstance(law, str) else law
        if not l_pruned_known and MEASURED in chosen.inputs:
            fix = "give it (--l-pruned)" if where == "budget" else "choose a law that does without it"
            raise P2Error(f"{where}: the law {chosen.name} needs l_pruned, the loss right after pruning; {fix}.")
        return chosen, [f"The law {chosen.name} was asked for."]
    table = heldout(text)
    blind = table[[name for name in table.index if MEASURED not in LAWS[name].inputs]]
    if table.empty or blind.empty:
        return P2, ["These logs cannot test laws on unseen sizes or rates, so the paper's own law answers."]
    best = (table if l_pruned_known else blind).index[0]
    why = [f"{best} predicts unseen sizes and rates best here (held-out RMSE {table[best]:.4f} nats)."]
    if not l_pruned_known and table.index[0] != best:
        why.append(
            "Without l_pruned only laws that do not need it could answer. Measure the loss once after pruning and "
            f"pass it: {table.index[0]} errs {table.iloc[0]:.4f} in place of {table[best]:.4f} nats there."
        )
    return LAWS[best], why


def heldout(text: pd.DataFrame) -> pd.Series:
    """Mean held-out RMSE over unseen sizes and rates by law, lowest first, in nats; laws that failed a cell left out.

    The last few answers are kept: the same runs always rank laws alike.
    """
    key = hash(tuple(pd.util.hash_pandas_object(text[[c for c in KEY if c in text]], index=False)))

    def make() -> pd.Series:
        table = rank(text, cells=score_cells(text, LAWS, NEW_MODEL, draws=1)).set_index("law")
        return table["rmse_heldout"].dropna().sort_values()

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
    """Usable rows on one held-out text and objective: the named ones, else where this group has most runs."""
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
    return frame[(frame["eval_data"] == text["eval_data"]) & (frame["objective"] == text["objective"])], text
