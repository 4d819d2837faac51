"""The last station: the final model, the checked log, the picture, the recipe and run.json; then the scratch goes.

The log must pass the leaderboard's own check before the run counts as finished.
"""

import importlib.metadata
import json
import platform
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch

from leaderboard.errors import RunFailed
from leaderboard.logs.check import check_files
from leaderboard.logs.contract import build_table, run_id, write_log
from zoo.estimate.flops import mfu
from zoo.evaluation.heldout import heldout_loss
from zoo.files import disk, new_folder, write_atomic
from zoo.inputs import base_model
from zoo.inputs.base_model import Source
from zoo.inputs.gather import Materials
from zoo.pruning.plan import Plan
from zoo.recipe.files import to_yaml
from zoo.recipe.spec import PRETRAIN, Recipe
from zoo.run.extension import KEPT, extension_of, keep_checkpoint
from zoo.run.folder import FINISHED, RunFolder, read_state
from zoo.run.gate import gate
from zoo.run.job import Inputs, Job
from zoo.run.plot import draw_curve
from zoo.run.pruned import by_source
from zoo.training.checkpoints import newest
from zoo.training.execution import Execution

PACKAGES = ("p2zoo", "torch", "transformers", "trl", "datasets", "accelerate", "safetensors")


def save_final(job: Job, inputs: Inputs, model: Any) -> None:
    """`model/` in the dtype of the checkpoint it came from; it takes its name only after the gate."""
    folder = job.folder
    dtype = getattr(torch, base_model.dtype_of(inputs.source))
    base_model.cast_weights(model.eval(), dtype)
    with job.stage("saving model/, loading it back in a fresh process and measuring its loss"):
        with new_folder(folder.path / "model") as new:
            base_model.save_model(model, new)
            base_model.copy_companions(inputs.source, new)
            report = gate(model, new, inputs.probe, job.recipe.prune.method, inputs.plan.zeros)
        loss = heldout_loss(model.float(), inputs.materials.heldout)
    folder.update(loss_by_source=by_source(model, inputs.materials))
    folder.update(gate_final=asdict(report), loss_saved=loss, dtype=str(dtype).removeprefix("torch."))
    job.say(f"model/ loads back in a fresh process ({folder.state['dtype']}, held-out {loss:.4f})")


def finish(job: Job, inputs: Inputs) -> dict[str, Any]:
    """Write the log and all that goes with it; returns the finished run.json."""
    folder, recipe, plan, materials = job.folder, job.recipe, inputs.plan, inputs.materials
    columns = log_columns(folder.state, recipe, inputs.source, plan, materials, job.team.size)
    rows = folder.rows()
    with disk(folder.path):
        log = write_log(folder.path / "log.parquet", build_table(columns, rows))
        draw_curve(
            folder.path / "curve.png",
            rows,
            columns["l0"],
            columns["l_pruned"],
            f"{recipe.name}, {columns['base_model']}",
        )
    (report,) = check_files([log], own=True).reports
    if not report.ok:
        raise RunFailed(f"{log}: does not pass the check of the leaderboard: " + "; ".join(map(str, report.findings)))
    write_atomic(folder.path / "recipe.yaml", to_yaml(recipe, folder.path))
    folder.state.pop("columns", None)
    last, damage = rows[-1], columns["l_pruned"] - columns["l0"]
    folder.update(
        status=FINISHED,
        run_id=run_id(columns),
        base_model=columns["base_model"],
        method=columns["method"],
        rate=plan.rate,
        rate_nonembedding=plan.rate_nonembedding,
        n0=plan.n0,
        n_pruned=plan.n_pruned,
        tokens=last["tokens"],
        loss=last["loss"],
        nats_per_byte=last["loss"] * columns["eval_tokens"] / size if (size := columns["eval_bytes"]) else None,
        recovered=(columns["l_pruned"] - last["loss"]) / damage if damage > 0 else None,
        tokens_per_second=columns["tokens_per_second"],
        mfu=columns["mfu"],
        objective=recipe.objective,
        noise=recipe.data.train.noise,
        kept_share=materials.train.kept,
        train_tokens_sha256=materials.train.sha256,
        heldout_tokens_sha256=materials.heldout.sha256,
        software=json.loads(columns["software"]),
        hardware=columns["hardware"],
        created_at=columns["created_at"].isoformat(),
    )
    _leave_checkpoint(folder, job.keep)
    shutil.rmtree(folder.work)
    return folder.state


def _leave_checkpoint(folder: RunFolder, keep: bool) -> None:
    """The last checkpoint stays where that was asked for; that of a run which this one extends goes."""
    last, _ = newest(folder.work / "checkpoints")
    if keep and last is not None:
        keep_checkpoint(last, folder.path)
    else:
        shutil.rmtree(folder.path / KEPT, ignore_errors=True)


def note_columns(job: Job, inputs: Inputs) -> None:
    """Write what is known of the log before the training, so that a forecast of the rows so far knows the run."""
    columns = log_columns(job.folder.state, job.recipe, inputs.source, inputs.plan, inputs.materials, job.team.size)
    known = {name: value for name, value in columns.items() if isinstance(value, int | float | str)}
    job.folder.update(columns=known)


def log_columns(
    state: dict[str, Any], recipe: Recipe, source: Source, plan: Plan, materials: Materials, processes: int = 1
) -> dict[str, Any]:
    """The run-level columns of the log; `processes` trained, a GPU each."""
    train, inputs = recipe.train, state["inputs"]
    speed = state["train_tokens"] / state["train_s"] if "train_s" in state else None
    computed = 2 / 3 if train.lora else 1  # of frozen weights no gradient is taken
    teacher = source.shape if train.teacher_in_memory else None
    executed = Execution(**state["execution"]).as_software() if "execution" in state else {}
    return {
        "contributor": recipe.contributor,
        "base_model": source.label,
        "base_revision": inputs["model"],
        "base_tokens": base_tokens(recipe, source),
        "family": source.family,
        "recipe_sha256": recipe.sha256,
        "software": json.dumps(software() | executed, sort_keys=True),
        "hardware": hardware(processes),
        "created_at": datetime.now(UTC),
        "method": recipe.prune.method,
        "importance": recipe.prune.logged,
        "rate_requested": plan.rate_requested,
        "rate": plan.rate,
        "rate_nonembedding": plan.rate_nonembedding,
        "n0": plan.n0,
        "n0_nonembedding": plan.n0_nonembedding,
        "n_pruned": plan.n_pruned,
        "calibration_sha256": state["calibration_sha256"],
        "objective": recipe.objective,
        "trainable_params": state.get("trainable_params"),
        "train_data": f"{recipe.data.train.label}@{_short(inputs['train'])}",
        "train_data_revision": inputs["train"],
        "seq_len": train.seq_len,
        "batch_tokens": train.batch_tokens,
        "lr_peak": train.lr_peak,
        "schedule": train.schedule,
        "optimizer": train.optimizer,
        "precision": train.precision,
        "packing": train.packing,
        "warmup_tokens": train.warmup_tokens,
        "tokens_planned": train.planned_tokens,
        "seed": train.seed,
        "tokens_per_second": speed,
        "mfu": speed and mfu(plan.target, train.seq_len, speed * computed, hardware(processes), processes, teacher),
        "eval_data": f"{recipe.data.heldout.label}@{inputs['heldout'][:12]}",
        "eval_data_revision": inputs["heldout"],
        "eval_tokens": materials.heldout.tokens,
        "eval_bytes": materials.heldout_bytes,
        "heldout_in_train": materials.heldout_in_train,
        "vocab_size": source.shape.vocab,
        "l0": state["l0"],
        "l_pruned": state["l_pruned"],
        **{name: state.get(name) for name in ("tokenizer_sha256", "yardstick_l0", "yardstick_l_pruned")},
        "pruned_from": f"{recipe.ready.label}@{inputs['from'][:12]}" if recipe.ready else None,
        "base_run": (state.get("origin") or {}).get("run_id"),
        "trunk" if train.trunk else "extends": extension.run_id if (extension := extension_of(state)) else None,
    }


def _short(pin: str) -> str:
    """The first digits of what pins a text; of a blend those of each of its texts."""
    return "+".join(one[:12] for one in pin.split(","))


def base_tokens(recipe: Recipe, source: Source) -> int | None:
    """Tokens the base model was trained on: what its own pretraining run counted, else what the recipe states."""
    made = source.folder and source.folder.parent / "run.json"
    if made and source.folder and source.folder.name == "model" and made.is_file():
        state = read_state(made.parent)
        if state.get("objective") == PRETRAIN and "tokens" in state:
            return int(state["tokens"])
    return recipe.model.base_tokens


def software() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # p2zoo itself, run from a checkout
            continue
    return {"python": platform.python_version(), **installed}


def hardware(processes: int) -> str:
    """The device, e.g. `1 x NVIDIA H100 80GB HBM3` or `CPU x86_64, 2 threads`."""
    if torch.cuda.is_available():
        return f"{processes} x {torch.cuda.get_device_name()}"
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"
