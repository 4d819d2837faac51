"""How good forecasts are: every run's later rows from its first 10, 20 and 40 %, in the way they would have been made.

Three kinds, by what other runs were known: `run`, all but the run and its other seeds; `size`, only smaller bases;
`rate`, only lower rates of the method (and other methods on other bases). Beside the forecast stand the laws alone
(their plain mean) and the curve alone: level + amplitude D^-b by least squares. Errors are over the last half of a run.
`python -m leaderboard.studies.forecasts [LOGS]` prints the table.
"""

import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd

from leaderboard.errors import P2Error
from leaderboard.laws.law import Array
from leaderboard.logs.contract import curve_numbers, usable
from leaderboard.planning.forecasting.forecast import forecast
from leaderboard.planning.forecasting.prior import Prior, prior_of

SHARES = (0.1, 0.2, 0.4)
KINDS = ("run", "size", "rate")
SAME = 1.01  # sizes and rates that differ by less are one
EXPONENTS = np.linspace(0.05, 1.5, 60)


def backtest(frame: pd.DataFrame, shares: tuple[float, ...] = SHARES, kinds: tuple[str, ...] = KINDS) -> pd.DataFrame:
    """One row a kind, run and share: RMSE in nats of the forecast, the laws and the curve, and shares inside bands.

    Columns: kind, run_id, n0, rate, share, rmse, law, curve, inside_80, inside_95; law is NaN where none speaks.
    """
    rows = []
    for kind, own, others in _cases(frame, kinds):
        end = float(own["tokens"].max())
        late = own[own["tokens"] > end / 2]
        for share in shares:
            begin = own[own["tokens"] <= share * end * (1 + 1e-9)]
            try:
                errors = _errors(others, begin, late)
            except P2Error:
                continue  # too few rows in this beginning
            head = own.iloc[0]
            names = {"kind": kind, "run_id": head["run_id"], "n0": head["n0"], "rate": head["rate"], "share": share}
            rows.append(names | errors)
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over runs by kind and share, and how many runs; `worst` is the largest RMSE."""
    grouped = table.groupby(["kind", "share"], sort=False)
    means = grouped[["rmse", "law", "curve", "inside_80", "inside_95"]].mean()
    return means.assign(worst=grouped["rmse"].max(), runs=grouped.size()).reset_index()


def _cases(frame: pd.DataFrame, kinds: tuple[str, ...]) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Kind, the rows of a run, and the rows that its forecast may know."""
    pruned = frame[frame["method"] != "none"]
    curve = curve_numbers(pruned)
    for number in np.unique(curve):
        own, others = pruned[curve == number].sort_values("tokens"), pruned[curve != number]
        head = own.iloc[0]
        smaller = others["n0"] * SAME < head["n0"]
        method, base = others["method"] == head["method"], others["base_model"] == head["base_model"]
        lower = np.where(method, others["rate"] * SAME < head["rate"], ~base)
        twin = method & base & ~(np.abs(np.log(others["rate"] / head["rate"])) > np.log(SAME))
        for kind, kept in (("run", ~twin), ("size", smaller), ("rate", lower)):
            if kind in kinds and (kind == "run" or _tells(others[kept], str(head["method"]), kind)):
                yield kind, own, others[kept]


def _tells(others: pd.DataFrame, method: str, kind: str) -> bool:
    """Whether the others have two sizes, or the method's rates, to go on from."""
    own = others[others["method"] == method]
    sizes = np.unique(np.round(np.log(own["n0"]) / np.log(1.1)))
    return len(sizes) > 1 if kind == "size" else own["rate"].nunique() > 1


def _errors(others: pd.DataFrame, begin: pd.DataFrame, late: pd.DataFrame) -> dict[str, float]:
    tokens, loss = late["tokens"].to_numpy(dtype=float), late["loss"].to_numpy(dtype=float)
    ahead = forecast(others, begin)
    head = begin.iloc[0]
    prior = prior_of(others, lambda name: head[name] if name in head and pd.notna(head[name]) else None)
    laws = rmse(prior.curves(tokens).mean(axis=0) - loss) if isinstance(prior, Prior) else np.nan
    inside = [np.mean((low <= loss) & (loss <= high)) for low, high in (ahead.interval(tokens, p) for p in (0.8, 0.95))]
    return {
        "rmse": rmse(np.asarray(ahead.predict(tokens)) - loss),
        "law": laws,
        "curve": rmse(curve_alone(begin, tokens) - loss),
        "inside_80": float(inside[0]),
        "inside_95": float(inside[1]),
    }


def curve_alone(begin: pd.DataFrame, tokens: Array) -> Array:
    """Level + amplitude D^-b through a beginning by least squares, at token counts (n,)."""
    known = usable(begin)
    x, y = known["tokens"].to_numpy(dtype=float), known["loss"].to_numpy(dtype=float)
    best, losses = np.inf, np.full(len(tokens), np.nan)
    for b in EXPONENTS:
        basis = np.stack([np.ones(len(x)), (x / x[-1]) ** -b], axis=1)
        c = np.linalg.lstsq(basis, y)[0]
        if (error := float(((y - basis @ c) ** 2).sum())) < best:
            best, losses = error, c[0] + c[1] * (tokens / x[-1]) ** -b
    return losses


def rmse(error: Array) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(error**2)))


def main(logs: str | None = None) -> None:
    """Print the table of one source of logs."""
    from leaderboard.logs.load import load_logs

    table = summary(backtest(load_logs(logs).frame))
    print("| known | from | runs | forecast | worst | laws alone | curve alone | inside 80 % | inside 95 % |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in table.to_dict("records"):
        figures = " | ".join(f"{row[k]:.4f}" for k in ("rmse", "worst", "law", "curve"))
        inside = " | ".join(f"{row[k]:.0%}" for k in ("inside_80", "inside_95"))
        print(f"| {row['kind']} | {row['share']:.0%} | {row['runs']} | {figures} | {inside} |")


if __name__ == "__main__":
    main(*sys.argv[1:2])
