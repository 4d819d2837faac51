"""Controls: what a base does on a text without any pruning, and what pruning cost over that.

A base model goes on improving, or adapts to the text, when it is trained unpruned; its excess over l0 would then be no
cost of pruning. A control is a run of the method `none` on the same base, text and recipe; losses are nats per token.
Of a schedule that decays, only a control of the same length says anything. Nothing is extrapolated: beyond a control's
tokens, and where there is none, the loss of a control is missing.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from leaderboard.errors import P2Error
from leaderboard.logs.contract import is_steady, require
from leaderboard.logs.methods import CONTROL

Array = npt.NDArray[np.float64]

SAME = (  # what a run shares with its control; seed and contributor may differ
    "base_model", "base_revision", "eval_data", "eval_tokens", "objective", "train_data", "seq_len", "batch_tokens",
    "lr_peak", "schedule", "optimizer", "precision", "packing", "warmup_tokens",
)  # fmt: skip
NEEDED = ("run_id", "method", "l0", "tokens", "tokens_planned", "loss", "schedule")
COLUMNS = ("base_model", "eval_data", "train_data", "runs", "controls", "tokens", "drift")


def with_controls(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the columns `control`, a run_id, and `control_loss` at the row's tokens; both may be missing.

    Several controls of one recipe are averaged and the first is named. Between evaluations a control's loss is linear
    in ln(1 + tokens / batch_tokens). Columns of SAME that the frame lacks do not part runs; null is equal to null.
    Raises P2Error when a column of NEEDED is missing.
    """
    require(frame, NEEDED, "controls")
    control = pd.Series(None, index=frame.index, dtype=object)
    loss = pd.Series(np.nan, index=frame.index, dtype=float)
    for _, rows in _recipes(frame):
        is_control = rows["method"].astype(str) == CONTROL
        if not is_control.any():
            continue
        one = [name for name in ("run_id", "contributor") if name in rows]
        curves = [curve for _, curve in rows[is_control].groupby(one, observed=True, sort=False)]
        control[rows.index] = str(curves[0]["run_id"].iloc[0])
        at = np.stack([_at(curve, rows["tokens"].to_numpy(float)) for curve in curves])
        covered = np.isfinite(at).sum(axis=0)
        loss[rows.index] = np.where(covered > 0, np.nansum(at, axis=0) / np.maximum(covered, 1), np.nan)
    return frame.assign(control=control, control_loss=loss)


def over_control(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows with a control, `loss` less what the control moved by since l0, and a sentence on the runs without one.

    Laws fitted to these rows say what pruning cost: l0 stays the loss before pruning, and a loss of l0 is that of the
    base trained unpruned on as many tokens. Raises P2Error where no pruned run has a control.
    """
    rows = with_controls(frame)
    rows = rows[(rows["method"].astype(str) != CONTROL).to_numpy()]
    fine = rows["control_loss"].notna()
    runs, kept = (int(rows.loc[mask, "run_id"].nunique()) for mask in (rows["run_id"].notna(), fine))
    if not kept:
        raise P2Error(
            f"over_control: none of the {runs} pruned runs has a control: a run of the method {CONTROL} on the same "
            "base, text and recipe, e.g. `p2zoo run RECIPE --set prune.method=none`."
        )
    moved = rows["control_loss"] - rows["l0"]
    words = f"{kept} of {runs} pruned runs have a control; the losses of these are over it, the others are left out."
    return rows.assign(loss=rows["loss"] - moved)[fine.to_numpy()].reset_index(drop=True), words


def controls_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a base, text and recipe with a pruned run, with the columns COLUMNS.

    `controls` counts the control runs, `tokens` is how far they reach and `drift` their last loss less l0: what text
    and training did without pruning. Both are missing where there is no control.
    """
    require(frame, (*NEEDED, "base_model", "eval_data", "train_data"), "controls")
    table = []
    for _, rows in _recipes(frame):
        is_control = rows["method"].astype(str) == CONTROL
        pruned = rows.loc[~is_control, "run_id"].nunique()
        last = rows[is_control].sort_values("tokens").drop_duplicates("run_id", keep="last")
        head = rows.iloc[0]
        named = (str(head["base_model"]), str(head["eval_data"]), str(head["train_data"]), pruned, len(last))
        table.append((*named, last["tokens"].max(), (last["loss"] - last["l0"]).mean()))
    whole = pd.DataFrame(table, columns=list(COLUMNS))
    return whole[whole["runs"] > 0].sort_values(["base_model", "eval_data"], kind="stable").reset_index(drop=True)


def _recipes(frame: pd.DataFrame) -> "list[tuple[object, pd.DataFrame]]":
    """The rows of each base, text and recipe; runs on a decaying schedule only with those of their own length."""
    length = frame["tokens_planned"].where(~is_steady(frame["schedule"]), 0)
    keys = [frame[name].astype(object) for name in SAME if name in frame]
    return list(frame.groupby([*keys, length], sort=False, dropna=False))


def _at(curve: pd.DataFrame, tokens: Array) -> Array:
    """A control's loss at these tokens, l0 at none; NaN beyond its last evaluation."""
    curve = curve.sort_values("tokens")
    batch = float(curve["batch_tokens"].iloc[0]) if "batch_tokens" in curve else 1.0
    known, losses = curve["tokens"].to_numpy(float), curve["loss"].to_numpy(float)
    if known[0] > 0:
        known, losses = np.r_[0.0, known], np.r_[float(curve["l0"].iloc[0]), losses]
    return np.asarray(np.interp(np.log1p(tokens / batch), np.log1p(known / batch), losses, right=np.nan), float)
