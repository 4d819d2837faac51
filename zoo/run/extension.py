"""Going on: a finished run made longer on fresh text, as one curve.

Only `train.tokens` may differ. A constant learning rate goes on as if it had never stopped; a decayed one cannot. The
optimiser goes on with its state where that was kept (`--keep-optimizer`), else its moments are rebuilt from the text
that was trained on last. Until the longer run is finished, the log and the model of the shorter one stay.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from leaderboard.errors import P2Error
from leaderboard.logs.contract import COLUMNS
from zoo.files import disk, new_folder, write_atomic
from zoo.recipe.files import load_recipe
from zoo.recipe.spec import Recipe, as_data
from zoo.run.folder import FINISHED, RunFolder, read_state, refuse_other

_FINISHED = "finished.json"  # in .work: run.json as it was before the extension
KEPT = "checkpoint"  # in a run folder: weights and optimiser as they were at the end
STEADY = "constant"  # the schedule that can go on
_OF_A_BRANCH = ("name", "contributor", "train.schedule", "train.trunk")  # what a decay branch has for itself
SAME_LOSS = 1e-3  # nats: a model that was saved has the loss it had, but for kernels of another device
FREE = (
    "train.tokens", "train.checkpoint_tokens", "train.micro_batch", "train.gradient_checkpointing", "train.report_to",
    "hardware.gpus",
)  # fmt: skip
_STAY = (
    "inputs", "l0", "l0_by_source", "l_pruned", "removed", "calibration_sha256", "gate_pruned", "train_s",
    "train_tokens", "execution", "notes", "peak_memory_bytes", "dtype", "origin", "yardstick_l0", "yardstick_l_pruned",
    "tokenizer_sha256",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Extension:
    """How a finished run goes on: the run_id it extends, and what was trained by then.

    `stages` are the budgets so far, in tokens from the start: of the first run, and of each one that extended it.
    `loss` is that of the last row, `loss_saved` that of the weights in model/, `text_sha256` that of the last stage.
    """

    run_id: str
    tokens: int
    steps: int
    stages: tuple[int, ...]
    to: int
    optimizer: str  # kept or rebuilt
    loss: float
    loss_saved: float
    text_sha256: str

    @property
    def words(self) -> str:
        """One line for people."""
        how = "kept" if self.optimizer == "kept" else "rebuilt from the text trained on last"
        return (
            f"run {self.run_id} goes on from {self.tokens:,} to {self.to:,} tokens, on fresh text; "
            f"optimiser state {how}"
        )


def extension_of(state: dict[str, Any]) -> Extension | None:
    """The extension that run.json tells of."""
    known = state.get("extends")
    return None if known is None else Extension(**known | {"stages": tuple(known["stages"])})


def look(out: Path, recipe: Recipe, resume: bool) -> Extension | None:
    """The extension that `recipe` means for what is in `out`; None where it means none.

    Raises P2Error where it means one that cannot be, and says what can.
    """
    if not (out / "run.json").is_file():
        return None
    state = _standing(out, recipe)
    if state.get("recipe_sha256") == recipe.sha256 or state.get("name") != recipe.name:
        return None
    if state["status"] != FINISHED:
        _refuse_unfinished(out, state)
        return None
    before = load_recipe(out / "recipe.yaml")
    changed = _changed(before, recipe)
    if "train.tokens" not in changed:
        return None
    _refuse(out, before, recipe, [key for key in changed if key not in FREE], state)
    if not resume:
        raise P2Error(
            f"{out}: holds this run, finished with {before.train.planned_tokens:,} tokens; add --resume to extend it "
            f"to {recipe.train.planned_tokens:,}, or choose another --out."
        )
    return _extension(out, before, recipe, state)


def _extension(out: Path, before: Recipe, recipe: Recipe, state: dict[str, Any]) -> Extension:
    """How `recipe` goes on from the finished run in `out`."""
    earlier = extension_of(state)
    return Extension(
        run_id=state["run_id"],
        tokens=int(state["tokens"]),
        steps=int(state.get("train_steps", state["tokens"] // before.train.batch_tokens)),
        stages=(*(earlier.stages if earlier else ()), before.train.planned_tokens),
        to=recipe.train.planned_tokens,
        optimizer="kept" if _kept(out, state) is not None else "rebuilt",
        loss=float(state["loss"]),
        loss_saved=float(state.get("loss_saved", state["loss"])),
        text_sha256=state["train_tokens_sha256"],
    )


def extend(out: Path, recipe: Recipe, resume: bool) -> None:
    """Make a finished run in `out` one to go on with, where `recipe` asks for more tokens; else nothing is done.

    Whatever happens meanwhile, the folder is the finished run or the one to go on with: run.json is written last.
    """
    if not (out / "run.json").is_file():
        return
    if look(out, recipe, resume) is None and _standing(out, recipe) == read_state(out):
        _refuse_other(out, recipe)
        return
    with RunFolder(out) as folder:
        folder.lock()
        extension = look(out, recipe, resume)  # nobody else has been at it
        state = _standing(out, recipe)
        if extension is None:
            folder.update(**state)
            return
        write_atomic(folder.work / _FINISHED, json.dumps(state))
        _reopen(folder, recipe, state, extension)


def _reopen(folder: RunFolder, recipe: Recipe, state: dict[str, Any], extension: Extension) -> None:
    """Make the finished run of a folder the beginning of a longer one; run.json is written last."""
    out = folder.path
    _keep_model(folder)
    if (kept := _kept(out, state)) is not None:
        keep_checkpoint(kept, out)
    with disk(out):
        for name in ("checkpoints", "train", "before"):
            shutil.rmtree(folder.work / name, ignore_errors=True)
    write_atomic(folder.log, "".join(json.dumps(row, allow_nan=False) + "\n" for row in _rows(out)))
    folder.state = {}
    folder.update(
        status="running",
        name=recipe.name,
        recipe_sha256=recipe.sha256,
        **{key: state[key] for key in _STAY if key in state},
        extends=vars(extension) | {"stages": list(extension.stages)},
    )


def look_at_trunk(recipe: Recipe) -> Extension | None:
    """How a decay branch leaves the run that `train.trunk` names; None where none is named.

    Raises P2Error for a trunk that is not there, not finished, not at a constant rate, or another experiment.
    """
    if recipe.train.trunk is None:
        return None
    trunk = recipe.path(recipe.train.trunk)
    if not (trunk / "run.json").is_file():
        raise P2Error(
            f"train.trunk: {trunk} holds no run; `p2zoo run RECIPE --out {trunk} --keep-optimizer` makes one."
        )
    state = read_state(trunk)
    if state["status"] != FINISHED:
        raise P2Error(f"train.trunk: {trunk} is not finished; --resume it first.")
    before = load_recipe(trunk / "recipe.yaml")
    changed = [key for key in _differences(as_data(before), as_data(recipe)) if not _same_path(key, before, recipe)]
    _refuse(trunk, before, recipe, [key for key in changed if key not in (*FREE, *_OF_A_BRANCH)], state)
    return _extension(trunk, before, recipe, state)


def branch(out: Path, recipe: Recipe) -> bool:
    """Begin the decay branch that `recipe` means in a new folder, if it means one; the trunk stays as it is."""
    if recipe.train.trunk is None or (out / "run.json").is_file():
        return False
    from zoo.training.checkpoints import complete

    extension = look_at_trunk(recipe)
    assert extension is not None
    refuse_other(out)
    trunk = recipe.path(recipe.train.trunk)
    with new_folder(out) as new, disk(out):
        for name in ("model", KEPT):
            if (trunk / name).is_dir():
                shutil.copytree(trunk / name, new / name)
        for name in ("run.json", "log.parquet", "recipe.yaml"):
            shutil.copy2(trunk / name, new / name)
        _from_the_peak(new / KEPT / "scheduler.pt")
        if (marker := kept_marker(new)) is not None:
            complete(new / KEPT, marker)  # the sums of its files as they are now
        _reopen(RunFolder(new), recipe, read_state(new), extension)
        shutil.rmtree(new / "model")
        for name in ("log.parquet", "recipe.yaml"):
            (new / name).unlink()
    return True


def _from_the_peak(scheduler: Path) -> None:
    """A kept schedule counts from 0 again: the decay begins at the next step."""
    if not scheduler.is_file():
        return
    import torch

    state = torch.load(scheduler, weights_only=True)
    torch.save(state | {"last_epoch": 0, "_step_count": 1, "_last_lr": state["base_lrs"]}, scheduler)


def keep_checkpoint(checkpoint: Path, out: Path) -> None:
    """Move a finished run's last checkpoint to where an extension finds it; it counts as step 0 of what follows."""
    if checkpoint == out / KEPT:
        return
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    write_atomic(checkpoint / "trainer_state.json", json.dumps(state | {"global_step": 0, "epoch": 0.0}, indent=2))
    with disk(out):
        shutil.rmtree(out / KEPT, ignore_errors=True)
        checkpoint.replace(out / KEPT)


def kept_marker(out: Path) -> dict[str, Any] | None:
    """What the kept checkpoint says of itself; None where there is none."""
    try:
        marker: dict[str, Any] = json.loads((out / KEPT / "complete.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return marker


def _standing(out: Path, recipe: Recipe) -> dict[str, Any]:
    """run.json; that of the finished run, where an extension has trained nothing yet and another recipe is given."""
    state, finished = read_state(out), out / ".work" / _FINISHED
    begun = "extends" in state and state["status"] != FINISHED and state["recipe_sha256"] != recipe.sha256
    if begun and finished.is_file() and not list(out.glob(".work/checkpoints/*/complete.json")):
        state = json.loads(finished.read_text(encoding="utf-8"))
    return state


def _kept(out: Path, state: dict[str, Any]) -> Path | None:
    """The checkpoint of the end of a finished run, where it was kept."""
    folder = out / KEPT
    marker = kept_marker(out)
    return folder if marker is not None and marker["tokens"] == state["tokens"] else None


def _keep_model(folder: RunFolder) -> None:
    """The model that was made, for what must start from it: weights, and the zeros of its masks."""
    with new_folder(folder.pruned) as new:
        shutil.copytree(folder.path / "model", new, dirs_exist_ok=True)


def _rows(out: Path) -> list[dict[str, Any]]:
    """The curve as the checked log has it."""
    names = [column.name for column in COLUMNS if column.curve]
    table = pq.read_table(out / "log.parquet")
    return table.select([name for name in names if name in table.column_names]).to_pylist()


def _refuse_unfinished(out: Path, state: dict[str, Any]) -> None:
    if (under_way := extension_of(state)) is not None:
        raise P2Error(
            f"{out}: its extension to {under_way.to:,} tokens is under way; finish that with --set "
            f"train.tokens={under_way.to} --resume before you go further, or choose another --out."
        )


def _refuse_other(out: Path, recipe: Recipe) -> None:
    """A folder that an experiment with other settings has taken; which, its recipe.yaml tells."""
    state = read_state(out)
    if state.get("recipe_sha256") == recipe.sha256 or not (out / "recipe.yaml").is_file():
        return
    before = load_recipe(out / "recipe.yaml")
    if changed := [key for key in _changed(before, recipe) if key == "train.tokens" or key not in FREE]:
        raise P2Error(
            f"{out}: holds another run: {_changes(before, recipe, changed)}. Set that as it was, or choose another "
            "--out."
        )


def _changed(before: Recipe, recipe: Recipe) -> list[str]:
    """Keys in which two recipes differ, but for where their files lie."""
    return [key for key in _differences(as_data(before), as_data(recipe)) if not _same_path(key, before, recipe)]


def _changes(before: Recipe, recipe: Recipe, changed: list[str]) -> str:
    was, now = (as_data(one) for one in (before, recipe))
    return ", ".join(f"{key} was {_at(was, key)}, is {_at(now, key)}" for key in changed)


def _refuse(out: Path, before: Recipe, recipe: Recipe, changed: list[str], state: dict[str, Any]) -> None:
    """What cannot go on as one curve."""
    old, new = before.train, recipe.train
    if changed:
        raise P2Error(
            f"{out}: holds another run, which train.tokens alone would extend: {_changes(before, recipe, changed)}. "
            "Set that as it was, or choose another --out for a run of its own."
        )
    if new.planned_tokens <= old.planned_tokens:
        raise P2Error(
            f"{out}: this run has trained on {state['tokens']:,} tokens already, train.tokens asks for {new.tokens:,}; "
            "ask for more to extend it, or choose another --out. Its rows up to there are in its log."
        )
    if old.schedule != STEADY:
        raise P2Error(
            f"{out}: its {old.schedule} schedule has lowered the learning rate over {old.planned_tokens:,} tokens, "
            "so more tokens make no curve of one schedule. What can be done: train anew for "
            f"{new.planned_tokens:,} tokens with another --out; `p2zoo forecast {out}` for what more tokens would win; "
            f"or a recipe with train.schedule: {STEADY}, which can be extended."
        )


def _differences(one: Any, other: Any, above: str = "") -> Iterator[str]:
    """Dotted keys whose values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one | other:
            yield from _differences(one.get(key), other.get(key), f"{above}.{key}" if above else key)
    elif one != other:
        yield above


def _at(data: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _same_path(key: str, one: Recipe, other: Recipe) -> bool:
    """Whether two written paths name one thing: they start at different folders, and count by their last part."""
    names = [_at(as_data(recipe), key) for recipe in (one, other)]
    if not all(isinstance(name, str) for name in names) or not key.endswith((".file", ".name", ".from", ".tokenizer")):
        return key == "hardware"
    return Path(names[0]).name == Path(names[1]).name
