"""How well the recovery law predicts a published model that it has not seen: `python -m leaderboard.evidence.backtest`.

Each model of a table is left out in turn and the law, its scatter and its damage by rate are fitted to the others. An
error is ln of observed over predicted excess; coverage is the share of losses inside the stated interval.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from leaderboard.evidence.figures import load_evidence
from leaderboard.evidence.recovery import Question, predict
from leaderboard.evidence.recovery_law import fit_law, losses

KNOWN = ("control and damage", "damage", "control", "neither")
RANGES = ((0.1, 0.36), (0.1, 0.5), (0.0, 1.0))
COLUMNS = ("known", "rates", "rows", "rmse", "rmse_healed", "rmse_loss", "covered_80", "covered_95")


def backtest() -> pd.DataFrame:
    """A row a question (what is known) and range of rates, with the columns COLUMNS.

    `rmse` is over all rows with less excess than damage, `rmse_healed` over those that won back a tenth of the damage
    (`healed`), both of ln excess over the true control; `rmse_loss` is of the loss in nats. Then what intervals cover.
    """
    errors = left_out_errors()
    table = []
    for known in KNOWN:
        for low, high in RANGES:
            rows = errors[(errors["known"] == known) & errors["rate"].between(low, high)]
            table.append((known, f"{low:g} to {high:g}", len(rows), *_scores(rows)))
    return pd.DataFrame(table, columns=list(COLUMNS))


def _scores(rows: pd.DataFrame) -> Iterable[float]:
    healed = rows[rows["healed"]]
    errors = (rows["error"], healed["error"], rows["error_loss"])
    return *(float(np.sqrt(np.mean(e**2))) for e in errors), rows["inside_80"].mean(), rows["inside_95"].mean()


def left_out_errors() -> pd.DataFrame:
    """A row a published depth recovery with less excess than damage, predicted without its model, for each of KNOWN."""
    rows = losses(load_evidence())
    depth = rows[(rows["method"] == "depth") & (rows["excess"] < rows["damage"])]
    out = []
    for model, own in depth.groupby("model", sort=False):
        law = fit_law(rows[rows["model"] != model])
        for row in own.to_dict("records"):
            for known in KNOWN:
                control = row["l0_control"] if "control" in known else None
                pruned = row["l_pruned"] if "damage" in known else None
                question = Question("depth", row["rate"], row["n0"], row["l0"], row["tokens"], pruned, control)
                answer = predict(law, question)
                inside = {
                    f"inside_{level}": low <= row["loss"] <= high
                    for level in (80, 95)
                    for low, high in [answer.interval(level / 100)]
                }
                out.append(
                    {name: row[name] for name in ("model", "rate", "damage", "excess", "loss", "healed")}
                    | {"known": known, "predicted": answer.loss, "error": np.log(row["excess"] / answer.excess)}
                    | {"error_loss": row["loss"] - answer.loss}
                    | inside
                )
    return pd.DataFrame(out)


def failures() -> pd.DataFrame:
    """The published cuts that did not heal, with their damage and the share of it that was left."""
    rows = losses(load_evidence())
    return rows.loc[~rows["healed"], ["source", "model", "rate", "damage", "share_left"]].reset_index(drop=True)


def main() -> None:
    """Print the tables."""
    table = backtest()
    print("One model left out: ln excess (RMSE, healed = the same without failed cuts), loss in nats, coverage")
    print(table.to_string(index=False, float_format="{:.3f}".format))
    print("\nCuts that did not heal, not fitted")
    print(failures().to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
