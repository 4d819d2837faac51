"""The zoo: published models as one table, from the logs that name them and what the Hub says of them.

Losses are nats per token, parameters counts, rates shares of all parameters. What was not measured, or not to the
end, stays empty; it is never zero. Losses compare only on one held-out text under one tokenizer (`COMPARABLE`).
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from leaderboard.logs.contract import require
from leaderboard.logs.rules import FINISHED

if TYPE_CHECKING:
    from huggingface_hub import HfApi

COMPARABLE = ("eval_data", "vocab_size")
COLUMNS = (
    "model", "revision", "contributor", "base_model", "family", "method", "rate", "n0", "parameters", "eval_data",
    "vocab_size", "l0", "l_pruned", "loss", "recovered", "tokens", "tokens_planned", "gpu_hours", "run_id", "pareto",
)  # fmt: skip
HUB_COLUMNS = ("licence", "downloads", "likes", "updated")
_GPUS = re.compile(r"(\d+) x (?!CPU)")


def models_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each published model: `parameters` are those that are not zero, `recovered` is a share of the damage.

    `loss`, `recovered` and `gpu_hours` are empty for runs that stopped before their planned tokens. Best loss first
    within a held-out text. Raises P2Error when columns are missing.
    """
    require(frame, ["model_repo", "model_revision", "tokens_planned", "hardware", *GIVEN], "models")
    published = frame[frame["model_repo"].notna()]
    last = published.sort_values("tokens").drop_duplicates(["run_id", "contributor"], keep="last")
    text = {name: last[name].astype(object) for name in ("model_repo", "model_revision", "hardware")}
    whole = last["tokens"] >= FINISHED * last["tokens_planned"]
    loss = last["loss"].where(whole)
    damage = (last["l_pruned"] - last["l0"]).where(lambda d: d > 0)
    table = last[list(GIVEN)].assign(
        model=text["model_repo"],
        revision=text["model_revision"],
        parameters=last["n_pruned"],
        tokens_planned=last["tokens_planned"],
        loss=loss,
        recovered=(last["l_pruned"] - loss) / damage,
        gpu_hours=(last["wall_s"] / 3600 * text["hardware"].map(gpus).astype(float)).where(
            whole & (last["wall_s"] > 0)
        ),
    )
    table = table.assign(pareto=pareto(table)).sort_values(["eval_data", "loss", "model"], na_position="last")
    return table[list(COLUMNS)].reset_index(drop=True)


GIVEN = (  # taken from the log as they are
    "run_id", "contributor", "base_model", "family", "method", "rate", "n0", "eval_data", "vocab_size", "l0",
    "l_pruned", "tokens",
)  # fmt: skip


def gpus(hardware: Any) -> float:
    """Number of GPUs in a log's hardware, e.g. `2 x NVIDIA H100`; NaN where it names none."""
    found = _GPUS.match(hardware) if isinstance(hardware, str) else None
    return float(found.group(1)) if found else np.nan


def pareto(table: pd.DataFrame) -> pd.Series:
    """Whether no comparable model has at most as many parameters and at most the loss, and less of one.

    A model without a loss is on no front. Needs the columns parameters, loss and those of COMPARABLE.
    """
    on_front = pd.Series(False, index=table.index)
    for _, group in table[table["loss"].notna()].groupby(list(COMPARABLE), observed=True):
        n, loss = group["parameters"].to_numpy(float), group["loss"].to_numpy(float)
        no_more = (n[None] <= n[:, None]) & (loss[None] <= loss[:, None])
        less = (n[None] < n[:, None]) | (loss[None] < loss[:, None])
        on_front.loc[group.index] = np.logical_not((no_more & less).any(axis=1))
    return on_front


def hub_metadata(models: Iterable[str], api: "HfApi") -> pd.DataFrame:
    """What the Hub says of each model, indexed by it: licence, downloads, likes, date of the last change.

    One request an owner, not one a model. Empty for a model that is gone or private, and for all that follow when the
    Hub does not answer.
    """
    from huggingface_hub import errors

    wanted = set(models)
    rows: dict[str, dict[str, Any]] = {}
    for owner in sorted({model.partition("/")[0] for model in wanted}):
        try:
            theirs = list(api.list_models(author=owner, expand=["cardData", "downloads", "lastModified", "likes"]))
        except (errors.HfHubHTTPError, errors.HFValidationError):
            continue
        except (errors.HTTPError, OSError):  # type: ignore[attr-defined]  # no answer
            break
        rows |= {info.id: _said(info) for info in theirs if info.id in wanted}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(HUB_COLUMNS))


def _said(info: Any) -> dict[str, Any]:
    """The columns HUB_COLUMNS of a model, from the Hub's own words on it."""
    card = info.card_data
    return {
        "licence": card and (card.get("license_name") or card.get("license")),
        "downloads": info.downloads,
        "likes": info.likes,
        "updated": info.last_modified,
    }


def snippet(model: str, revision: str | None = None) -> str:
    """Python that loads a model, at the commit that was measured if it is known."""
    pinned = f", revision={revision!r}" if revision else ""
    return f"AutoModelForCausalLM.from_pretrained({model!r}{pinned})"
