"""What the two scripts share: pretrain, cut layers, heal with the Trainer, import the curve, fit laws to all of them.

Nothing of p2zoo trains here: the models and the Trainer are those of Transformers, and a curve comes in as any other
log does, through `import_log` of the `trainer_state.json` that the Trainer leaves.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments

from leaderboard import LAWS, fit
from leaderboard.errors import P2Error
from leaderboard.importing import import_log

LAWS_ASKED = ("p2", "p2-no-n0", "capacity", "damage", "chinchilla")
LAYERS = 8
GONE = (0, 1, 2, 3)  # layers taken away; 0 is the control


def curves(
    make: Callable[[int], PreTrainedModel],
    layers: str,
    sizes: tuple[int, ...],
    data: dict[str, Any],
    facts: dict[str, Any],
    steps: tuple[int, int],
    out: Path,
) -> pd.DataFrame:
    """Log rows of every size of `sizes` with 0 to 3 of its 8 layers gone.

    `make` builds a model from a hidden size, `layers` is where its layer list lies, `data` holds data sets train, heal
    and heldout, `steps` says how many steps pretraining and healing take, `facts` are what import_log is told.
    """
    frames = []
    for size in sizes:
        torch.manual_seed(size)
        base = make(size)
        _train(base, data["train"], data["heldout"], steps[0], 1e-3, out / f"{size}-base", data.get("collate"))
        for gone in GONE:
            model = copy.deepcopy(base)
            _cut(model, layers, gone)
            run = out / f"{size}-without-{gone}"
            losses = _train(model, data["heal"], data["heldout"], steps[1], 3e-4, run, data.get("collate"))
            counts = {"n0": _count(base), "n_pruned": _count(model)}
            if gone == 0:
                l0 = losses[0]
            known = {"method": "depth" if gone else "none", "l0": l0, "base": f"tiny-{facts['family']}-{size}"}
            if gone:
                known |= {"l_pruned": losses[0], "importance": "middle layers"}
            log = import_log(run / "trainer_state.json", **facts, **counts, **known)
            print(f"{run.name}: l0 {l0:.3f}, cut {losses[0]:.3f}, healed {losses[-1]:.3f}, {len(log.frame)} rows")
            frames.append(log.frame)
    return pd.concat(frames, ignore_index=True)


def report(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a law: RMSE in nats on its own curves, and on the highest rate and the larger size kept from it."""
    pruned = frame[(frame["rate"] > 0) & (frame["tokens"] > 0)]
    gone = (pruned["rate"] / pruned.groupby("n0")["rate"].transform("max")).round(6)
    kept = {"highest rate": gone == 1, "larger size": pruned["n0"] == pruned["n0"].max()}
    rows = {}
    for name in LAWS_ASKED:
        rows[name] = {"all curves": _error(name, pruned, pruned)} | {
            f"{part} kept back": _error(name, pruned[~mask], pruned[mask]) for part, mask in kept.items()
        }
    return pd.DataFrame(rows).T.round(3)


def _error(law: str, known: pd.DataFrame, asked: pd.DataFrame) -> float:
    try:
        predicted = fit(LAWS[law], known).predict(asked)
    except P2Error:  # too few sizes or rates for this law
        return float("nan")
    return float(np.sqrt(np.mean((predicted - asked["loss"].to_numpy()) ** 2)))


def _cut(model: PreTrainedModel, where: str, gone: int) -> None:
    """Take `gone` layers out of the middle; the first and the last two stay."""
    stack = model.get_submodule(where)
    first = (LAYERS - gone) // 2 + 1
    del stack[first : first + gone]
    model.config.num_hidden_layers = len(stack)


def _train(
    model: PreTrainedModel, train: Any, heldout: Any, steps: int, lr: float, out: Path, collate: Any
) -> list[float]:
    """Held-out losses, the one before the first step first."""
    settings = TrainingArguments(
        str(out), max_steps=steps, learning_rate=lr, lr_scheduler_type="constant", per_device_train_batch_size=32,
        per_device_eval_batch_size=64, eval_strategy="steps", eval_steps=steps // 10, eval_on_start=True,
        logging_steps=steps // 10, save_strategy="no", report_to=[], use_cpu=True, seed=0, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model, settings, train_dataset=train, eval_dataset=heldout, data_collator=collate)
    trainer.train()
    trainer.save_state()
    return [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]


def _count(model: PreTrainedModel) -> int:
    return sum(p.numel() for p in model.parameters())
