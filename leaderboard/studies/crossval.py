"""How well laws predict runs unlike those they saw: cross-validation over sizes, rates, tokens, families and methods.

A fold holds out rows of one kind everywhere on a text, so that no other group lends what is held out. A group is judged
where its own training rows still have two sizes (two rates a base); over families and methods pooled laws alone
are. tracks.py has the three folds that rank laws; these are all of them.
`python -m leaderboard.studies.crossval [LOGS]` prints the table.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from leaderboard.errors import FitError, P2Error
from leaderboard.fitting.fit import fit
from leaderboard.fitting.pooled import lend, marked
from leaderboard.fitting.result import Fit
from leaderboard.laws.catalogue import LAWS
from leaderboard.laws.law import Law, Mask
from leaderboard.logs.contract import GROUP, usable
from leaderboard.logs.origin import standard
from leaderboard.ranking.tracks import groups, split

KINDS = ("size", "other sizes", "rate", "lowest rate", "size and rate", "tokens", "family", "method")
SAME_SIZE = 1.1  # base models of one size in two families differ by less than this factor


@dataclass(frozen=True)
class Fold:
    """Rows kept from the fit and rows judged, masks (n,) over one text. `pooled`: only for laws that pool `over` it."""

    kind: str
    name: str
    held: Mask
    test: Mask
    over: str = ""


def folds(text: pd.DataFrame) -> Iterator[Fold]:
    """All folds of the usable rows on one text."""
    size = size_levels(text["n0"].to_numpy(dtype=float))
    high, low = extreme_rates(text, 1), extreme_rates(text, -1)
    largest = size == size.max()
    for level in reversed(np.unique(size)):
        held = size == level
        yield Fold("size" if level == size.max() else "other sizes", f"n0 {text['n0'][held].max():.3g}", held, held)
    yield Fold("rate", "highest", high, high)
    yield Fold("lowest rate", "lowest", low, low)
    yield Fold("size and rate", "largest, highest", largest | high, largest & high)
    last = np.zeros(len(text), dtype=bool)
    for _, group in groups(text):
        if (part := split(group, "tokens")) is not None:
            last[text.index.get_indexer(group.index[part.test])] = True
    yield Fold("tokens", "last 20 %", last, last)
    for column in ("family", "method"):
        for name in sorted(map(str, text[column].unique())):
            held = (text[column] == name).to_numpy()
            yield Fold(column, name, held, held, over=column)


def cross_validate(frame: pd.DataFrame, laws: Mapping[str, Law] | None = None) -> pd.DataFrame:
    """One row a law, fold and group: kind, fold, the group's columns, law, `rmse` and `bias` (mean of predicted minus
    measured) in nats per token, both NaN where the law could not be fitted.
    """
    laws = {name: law for name, law in (LAWS if laws is None else laws).items() if law.testable(frame)}
    found: list[dict[str, object]] = []
    rows = standard(usable(frame)).reset_index(drop=True)
    if rows.empty:
        raise P2Error("crossval: no usable row (tokens > warmup_tokens, something pruned) in these logs.")
    for _, text in groups(rows, GROUP[2:]):
        text = text.reset_index(drop=True)
        for fold in folds(text):
            if fold.test.any() and not fold.held.all():
                for law in laws.values():
                    found += _judge(law, text, fold)
    return pd.DataFrame(found, columns=["kind", "fold", *GROUP, "law", "rmse", "bias"])


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Mean held-out RMSE over cells: a row a law, a column a kind; NaN where a law cannot be or was not fitted."""
    mean = found.groupby(["law", "kind"], sort=False)["rmse"].agg(lambda cells: cells.mean(skipna=False))
    table = mean.unstack("kind")
    return table[[k for k in KINDS if k in table]]


def _judge(law: Law, text: pd.DataFrame, fold: Fold) -> Iterator[dict[str, object]]:
    """The cells of one law in one fold."""
    if fold.over and not law.pool:
        return
    train = text[~fold.held]
    fits: dict[str, Fit | None] = {}
    for key, group in groups(text[fold.test]):
        own = train[(train["family"] == key["family"]) & (train["method"] == key["method"])]
        if not fold.over and not _testable(own, fold.kind):
            continue
        lot = key.get(law.within, "") if law.pool else str(key)
        if lot not in fits:
            fits[lot] = _fit(*lend(law, train, key))
        error = np.full(len(group), np.nan)
        if (fitted := fits[lot]) is not None:
            error = fitted.predict(marked(fitted.law, group)) - group["loss"].to_numpy(dtype=float)
        rmse = float(np.sqrt((error**2).mean()))
        yield {"kind": fold.kind, "fold": fold.name, **key, "law": law.name, "rmse": rmse, "bias": float(error.mean())}


def _fit(law: Law, rows: pd.DataFrame) -> Fit | None:
    try:
        return fit(law, rows)
    except FitError:
        return None


def _testable(own: pd.DataFrame, kind: str) -> bool:
    """Whether a group's own training rows can say anything about what was held out."""
    if own.empty:
        return False
    if "size" in kind and len(np.unique(size_levels(own["n0"].to_numpy(dtype=float)))) < 2:
        return False
    rates = own["rate"].round(9).groupby(own["base_model"], observed=True).nunique().max()
    return bool("rate" not in kind or rates >= 2)


def size_levels(n0: np.ndarray) -> np.ndarray:
    """Sizes as numbers from 0, those within a factor of 1.1 of the next smaller one together."""
    values = np.unique(n0)
    level = np.concatenate([[0], np.cumsum(np.diff(np.log(values)) > np.log(SAME_SIZE))])
    return level[np.searchsorted(values, n0)]


def extreme_rates(text: pd.DataFrame, sign: int) -> Mask:
    """Rows at the highest (`sign` 1) or lowest rate of every base model and method that has two rates or more."""
    rate = sign * text["rate"].round(9)
    within = rate.groupby([text["base_model"], text["method"]], observed=True)
    return ((rate == within.transform("max")) & (within.transform("nunique") >= 2)).to_numpy()


def main() -> None:
    """Print the table of mean held-out RMSE, in nats per token."""
    from leaderboard.logs.load import load_logs

    table = summary(cross_validate(load_logs(*sys.argv[1:2]).frame))
    print(table.sort_values("size").to_string(float_format="{:.4f}".format, na_rep=""))


if __name__ == "__main__":
    main()
