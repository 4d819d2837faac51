"""How well the recovery law predicts a published model that it has not seen: `p2zoo evidence --backtest`.

Each model of a table is left out in turn and the law, its scatter and its damage by rate are fitted to the others. An
error is ln of observed over predicted excess; coverage is the share of losses inside the stated interval.
"""

from typing import Any

import numpy as np
import pandas as pd

from leaderboard.evidence.figures import load_evidence
from leaderboard.evidence.recovery import Question, predict
from leaderboard.evidence.recovery_law import RecoveryLaw, fit_law, losses

KNOWN = ("control and damage", "damage", "control", "neither")
RANGES = {"depth": ((0.1, 0.36), (0.1, 0.5), (0.0, 1.0)), "2:4": ((0.0, 1.0),)}
COLUMNS = ("method", "known", "rates", "rows", "rmse", "rmse_healed", "rmse_loss", "covered_80", "covered_95")


def backtest() -> pd.DataFrame:
    """A row a method, what is known, and range of rates, with the columns COLUMNS.

    `rmse` is that of ln excess over all rows with less excess than damage, `rmse_healed` over those of them that won
    back a tenth of the damage; `rmse_loss` is of the loss in nats. Then what the intervals cover.
    """
    errors = left_out_errors()
    table: list[tuple[Any, ...]] = []
    for (method, known), rows in errors.groupby(["method", "known"], sort=False):
        for low, high in RANGES[str(method)]:
            inside = rows[rows["rate"].between(low, high)]
            table.append((method, known, f"{low:g} to {high:g}", len(inside), *_scores(inside)))
    return pd.DataFrame(table, columns=list(COLUMNS))


def _scores(rows: pd.DataFrame) -> tuple[float, ...]:
    errors = (rows["error"], rows["error"][rows["healed"]], rows["error_loss"])
    rmse = [float(np.sqrt(np.mean(e**2))) for e in errors]
    return *rmse, float(rows["inside_80"].mean()), float(rows["inside_95"].mean())


def left_out_errors() -> pd.DataFrame:
    """A row a published loss with less excess than damage, predicted without its model, for each of KNOWN.

    2:4 has no control: its excess is over l0, which stands as the control, and only its damage may be unknown.
    """
    rows = losses(load_evidence())
    asked = rows[rows["excess"] < rows["damage"]]
    out = []
    for (method, model), own in asked.groupby(["method", "model"], sort=False):
        law = fit_law(rows[(rows["model"] != model) | (rows["method"] != method)])
        for row in own.to_dict("records"):
            known = [k for k in KNOWN if method == "depth" or "control" in k]
            out += [_error(law, {str(name): value for name, value in row.items()}, k) for k in known]
    return pd.DataFrame(out)


def _error(law: RecoveryLaw, row: dict[str, Any], known: str) -> dict[str, Any]:
    control = row["l0"] if np.isnan(row["l0_control"]) else row["l0_control"]
    question = Question(
        row["method"], row["rate"], row["n0"], row["l0"], row["tokens"],
        l_pruned=row["l_pruned"] if "damage" in known else None,
        l0_control=control if "control" in known else None,
    )  # fmt: skip
    answer = predict(law, question)
    intervals = {level: answer.interval(level / 100) for level in (80, 95)}
    return (
        {name: row[name] for name in ("method", "model", "rate", "damage", "excess", "loss", "healed")}
        | {"known": known, "predicted": answer.loss, "error": float(np.log(row["excess"] / answer.excess))}
        | {"error_loss": row["loss"] - answer.loss}
        | {f"inside_{level}": low <= row["loss"] <= high for level, (low, high) in intervals.items()}
    )


def failures() -> pd.DataFrame:
    """The published cuts that did not heal and are not fitted, with their damage and the share of it left."""
    rows = losses(load_evidence())
    return rows.loc[~rows["healed"], ["source", "model", "rate", "damage", "share_left"]].reset_index(drop=True)


def main() -> None:
    """Print the tables."""
    print("One model left out. rmse: of ln excess, then without failed cuts, then of the loss in nats.")
    print(backtest().to_string(index=False, float_format="{:.3f}".format))
    print("\nCuts that did not heal, not fitted:")
    print(failures().to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
