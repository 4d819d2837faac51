"""What planning needs before a model is pruned: rows of one held-out text, base models with their losses, the laws of
every family and method that need no measurement of the new model, and how far a question is from the runs.
"""

from collections.abc import Iterable

import pandas as pd

from leaderboard.errors import FitError, P2Error, unknown_name
from leaderboard.laws.law import Law
from leaderboard.logs.contract import GROUP, usable
from leaderboard.logs.methods import CONTROL
from leaderboard.logs.origin import standard, usual_protocol
from leaderboard.planning.bases import Base, measured_bases, with_losses
from leaderboard.planning.mixture import Mixture
from leaderboard.planning.recommend import mixture


def one_text(frame: pd.DataFrame, eval_data: str | None, objective: str | None, where: str) -> pd.DataFrame:
    """All rows, controls too, on one held-out text and objective: the named ones, else those with most runs."""
    frame = standard(frame)
    frame = frame.assign(**{name: frame[name].astype(str) for name in ("base_model", *GROUP)})
    for name, wanted in (("eval_data", eval_data), ("objective", objective)):
        if wanted is not None:
            if wanted not in set(frame[name]):
                raise unknown_name(name, wanted, frame[name].unique(), where)
            frame = frame[frame[name] == wanted]
    heads = usable(frame)[["run_id", *GROUP[2:]]].drop_duplicates()
    if heads.empty:
        raise P2Error(f"{where}: these logs hold no usable rows (tokens > warmup_tokens, something pruned).")
    text, aim = heads.value_counts(list(GROUP[2:])).index[0]
    same: pd.DataFrame = frame[(frame["eval_data"] == text) & (frame["objective"] == aim)]
    return same


def measured_alike(text: pd.DataFrame, family: str | None) -> pd.DataFrame:
    """The rows on one text that were measured as most of its pruned runs were, or most of a family's."""
    own = (text["method"] != CONTROL).to_numpy()
    mine = own & (text["family"] == family).to_numpy() if family is not None else own
    return usual_protocol(text, mine if mine.any() else own)[0]


def group_mixtures(text: pd.DataFrame, law: str | Law | None, family: str | None, where: str) -> list[Mixture]:
    """What answers about every family and method with runs that can be fitted, or those of one family.

    `law` None: all laws together that answer before a model is pruned (mixture.py).
    """
    rows = usable(text)
    if family is not None and family not in set(rows["family"]):
        raise unknown_name("family", family, rows["family"].unique(), where)
    mixtures, errors = [], []
    for (name, method), own in rows.groupby(["family", "method"]):
        if family in (None, name):
            group = {"family": str(name), "method": str(method)} | {c: str(own[c].iloc[0]) for c in GROUP[2:]}
            try:
                mixtures.append(mixture(rows, group, law, l_pruned_known=False, where=where))
            except FitError as error:
                errors.append(str(error))
    if not mixtures:
        raise P2Error(f"{where}: no family and method of these logs can be fitted. {errors[0]}")
    return mixtures


def known_bases(text: pd.DataFrame, given: Iterable[Base], family: str | None, where: str) -> list[Base]:
    """Base models of the logs and given ones, all with an l0; a given loss counts before a measured one."""
    table = {base.name: base for base in measured_bases(text)}
    for base in given:
        table[base.name] = table.get(base.name, base) if base.l0 is None else base
    wanted = [base for base in table.values() if family in (None, base.family)]
    known = with_losses(wanted)
    if missing := sorted({base.name for base in wanted} - {base.name for base in known}):
        raise P2Error(
            f"{where}: nobody measured the loss of {missing[0]} on {text['eval_data'].iloc[0]}, and its family has "
            f"fewer than two sizes to read it off; give it, e.g. {missing[0]}=2.31."
        )
    return known


def beyond(rows: pd.DataFrame, column: str, value: float) -> float:
    """How many times a value lies outside the range of the rows; 1 inside."""
    return max(1.0, value / float(rows[column].max()), float(rows[column].min()) / value)
