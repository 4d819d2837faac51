"""Which form the recovery law should have: all that were tried, by `python -m leaderboard.evidence.forms`.

Each model is left out in turn; all are fitted to ln excess of the depth cuts that healed, under the same Huber loss.
The form in recovery_law.py was chosen on these figures, so they flatter it. `chosen_blind` says what choosing costs:
there the form is chosen without the model it is judged on.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from leaderboard.evidence.figures import load_evidence
from leaderboard.evidence.recovery_law import HUBER, losses

Array = npt.NDArray[np.float64]
Column = Callable[[pd.DataFrame], Array]
Form = Callable[[Array, pd.DataFrame], Array]

RANGES = ((0.1, 0.36), (0.1, 0.5), (0.0, 1.0))


def linear(*columns: Column) -> tuple[Form, int]:
    """ln excess as a constant and these columns, and how many numbers that takes."""

    def value(p: Array, rows: pd.DataFrame) -> Array:
        return np.asarray(p[0] + sum(b * c(rows) for b, c in zip(p[1:], columns, strict=True)), float)

    return value, 1 + len(columns)


def below_damage(form: tuple[Form, int], sharpness: float) -> tuple[Form, int]:
    """The same joined to the damage, so that excess stays below it: excess^-s = damage^-s + E^-s."""
    inner, count = form

    def value(p: Array, rows: pd.DataFrame) -> Array:
        damage = np.log(rows["damage"].to_numpy(float))
        return np.asarray(-np.logaddexp(-sharpness * damage, -sharpness * inner(p, rows)) / sharpness, float)

    return value, count


def ln(*names: str) -> Column:
    """ln of the product of these columns."""
    return lambda rows: np.log(rows[list(names)].to_numpy(float)).sum(axis=1)


def of(values: Callable[[pd.DataFrame], "pd.Series[float]"]) -> Column:
    """ln of what is computed from the rows."""
    return lambda rows: np.log(values(rows).to_numpy(float))


LN_CAPPED = of(lambda rows: np.log1p(rows["damage"]))

FORMS: dict[str, tuple[Form, int]] = {
    "damage": linear(ln("damage")),
    "ln(1 + damage)": linear(LN_CAPPED),
    "damage / l0": linear(of(lambda r: r["damage"] / r["l0"])),
    "l_pruned - control": linear(of(lambda r: r["l_pruned"] - r["l0_control"])),
    "rate": linear(ln("rate")),
    "odds": linear(ln("odds")),
    "1 - rate": linear(of(lambda r: 1 - r["rate"])),
    "rate, n0": linear(ln("rate"), ln("n0")),
    "damage, rate": linear(ln("damage"), ln("rate")),
    "damage, odds": linear(ln("damage"), ln("odds")),
    "damage, n0": linear(ln("damage"), ln("n0")),
    "damage, rate, n0": linear(ln("damage"), ln("rate"), ln("n0")),
    "ln(1 + damage), rate": linear(LN_CAPPED, ln("rate")),
    "ln(1 + damage), odds": linear(LN_CAPPED, ln("odds")),
    "damage x rate": linear(ln("damage", "rate")),
    "damage x odds": linear(ln("damage", "odds")),
    "damage x odds, l0": linear(ln("damage", "odds"), ln("l0")),
    "odds, below damage (1)": below_damage(linear(ln("odds")), 1.0),
    "damage x odds, below damage (1)": below_damage(linear(ln("damage", "odds")), 1.0),
    "damage x odds, below damage (2)": below_damage(linear(ln("damage", "odds")), 2.0),
    "damage x odds, below damage (4)": below_damage(linear(ln("damage", "odds")), 4.0),
}


def depth_rows() -> pd.DataFrame:
    """All depth recoveries; `judged` are those with less excess than damage."""
    rows = losses(load_evidence())
    rows = rows[rows["method"] == "depth"].reset_index(drop=True)
    return rows.assign(judged=rows["excess"] < rows["damage"])


def left_out(form: tuple[Form, int], rows: pd.DataFrame) -> "pd.Series[float]":
    """ln of observed over predicted excess of every row, by the form fitted to the healed cuts of the other models."""
    errors = pd.Series(np.nan, index=rows.index)
    for model in rows["model"].unique():
        own = rows["model"] == model
        errors[own] = _errors(form, rows[~own], rows[own])
    return errors


def _errors(form: tuple[Form, int], others: pd.DataFrame, own: pd.DataFrame) -> Array:
    from scipy.optimize import least_squares

    value, count = form
    healed = others[others["healed"]]
    target = np.log(healed["excess"].to_numpy(float))
    start = np.r_[np.zeros(1), np.full(count - 1, 0.4)]

    def residuals(p: Array) -> Array:
        return np.asarray(value(p, healed) - target, float)

    fit = least_squares(residuals, start, loss="huber", f_scale=HUBER)
    return np.asarray(np.log(own["excess"].to_numpy(float)) - value(fit.x, own), float)


def forms_table() -> pd.DataFrame:
    """A row a form: root mean square error of ln excess with a model left out, by range of rates; best first."""
    rows = depth_rows()
    table = {name: _by_range(left_out(form, rows), rows) for name, form in FORMS.items()}
    return pd.DataFrame.from_dict(table, orient="index").sort_values(f"{RANGES[-1][0]:g} to {RANGES[-1][1]:g}")


def chosen_blind() -> dict[str, float]:
    """The same errors where the form for each model is the best one with another of the other models left out."""
    rows = depth_rows()
    errors = pd.Series(np.nan, index=rows.index)
    for model in rows["model"].unique():
        own = rows["model"] == model
        others = rows[~own]
        spread = {name: float(left_out(form, others)[others["judged"]].abs().mean()) for name, form in FORMS.items()}
        errors[own] = _errors(FORMS[min(spread, key=lambda name: spread[name])], others, rows[own])
    return _by_range(errors, rows)


def _by_range(errors: "pd.Series[float]", rows: pd.DataFrame) -> dict[str, float]:
    within = {f"{low:g} to {high:g}": rows["judged"] & rows["rate"].between(low, high) for low, high in RANGES}
    return {name: float(np.sqrt((errors[chosen] ** 2).mean())) for name, chosen in within.items()}


def main() -> None:
    """Print the table, and what choosing without seeing gives."""
    print(forms_table().to_string(float_format="{:.3f}".format))
    blind = ", ".join(f"{error:.3f} ({rates})" for rates, error in chosen_blind().items())
    print(f"\nChosen without the model it is judged on: {blind}")


if __name__ == "__main__":
    main()
