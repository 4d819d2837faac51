"""Benchmarks of a finished run's model with EleutherAI's lm-eval, kept in its run.json for the card.

Optional: lm-eval comes with the extra `tasks` and is imported only here. A result is `{"version", "shots", "samples",
"dataset", "metrics": {name: {"value", "stderr"}}}` by task; it counts for the weights whose hash stands beside it.
"""

import difflib
import importlib.metadata
import importlib.util
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leaderboard.errors import P2Error
from zoo.files import write_atomic
from zoo.run.finished import weights_sha256
from zoo.run.folder import read_state

KEY = "tasks"  # in run.json
Results = dict[str, dict[str, Any]]


def measured(state: dict[str, Any], model: Path) -> Results:
    """What run.json holds of the weights in folder `model`; empty where nothing was measured on them."""
    kept = state.get(KEY) or {}
    return kept["results"] if kept and kept["weights_sha256"] == weights_sha256(model) else {}


def measure(run_dir: Path, tasks: Sequence[str]) -> Results:
    """Measure the tasks that are not measured yet, add them to run.json, and return all.

    A task is a name that lm-eval knows, of a group too, or the YAML file of one of your own, named as the task in it.
    Raises P2Error where lm-eval is not installed or does not know a task.
    """
    model = run_dir / "model"
    state = read_state(run_dir)
    known = measured(state, model)
    groups = set(state[KEY].get("groups", ())) if known else set()  # their results stand under their tasks
    wanted = [task for task in tasks if Path(task).stem not in groups | set(known)]
    if wanted:
        known = known | _evaluate(model, wanted)
        groups |= {Path(task).stem for task in wanted} - set(known)
        kept = {"weights_sha256": weights_sha256(model), "lm_eval": importlib.metadata.version("lm_eval")}
        state |= {KEY: kept | {"groups": sorted(groups), "results": known}}
        write_atomic(run_dir / "run.json", json.dumps(state, indent=2, allow_nan=False) + "\n")
    return known


def _evaluate(model: Path, tasks: Sequence[str]) -> Results:
    if importlib.util.find_spec("lm_eval") is None:
        raise P2Error(
            "--tasks: lm_eval is not installed; run `pip install 'p2zoo[tasks]'`, or publish without --tasks."
        )
    import lm_eval
    import torch
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    own = [Path(task) for task in tasks if task.endswith(".yaml")]
    if missing := [path for path in own if not path.is_file()]:
        raise P2Error(
            f"--tasks: {missing[0]} is not a file; give the name of a task of lm-eval, or a task's YAML file."
        )
    manager = TaskManager(include_path=[str(path.parent.resolve()) for path in own] or None)
    names = [Path(task).stem if task.endswith(".yaml") else task for task in tasks]
    for name in names:
        if name not in manager.all_tasks:
            near = difflib.get_close_matches(name, manager.all_tasks)
            raise P2Error(
                f"--tasks: unknown task {name!r}. Near: {', '.join(near) or 'none'}; `lm-eval ls tasks` has all."
            )
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model)},
        tasks=names,
        task_manager=manager,
        device="cuda" if torch.cuda.is_available() else "cpu",
        batch_size=8,
        log_samples=False,
        verbosity="ERROR",
    )
    return {name: _result(found, name) for name in found["results"] if name in found["n-samples"]}


def _result(found: dict[str, Any], name: str) -> dict[str, Any]:
    """One task of lm-eval's answer; its metrics are named `acc,none`, their errors `acc_stderr,none`."""
    row = {key.removesuffix(",none"): value for key, value in found["results"][name].items()}
    numbers = {key: float(value) for key, value in row.items() if isinstance(value, float) and value == value}
    metrics = {
        key: {"value": value, "stderr": numbers.get(f"{key}_stderr")}
        for key, value in numbers.items()
        if not key.endswith("_stderr")
    }
    where = str(found["configs"][name].get("dataset_path", ""))
    return {
        "version": found["versions"][name],
        "shots": found["n-shot"][name],
        "samples": found["n-samples"][name]["effective"],
        "dataset": where if where.count("/") == 1 and not Path(where).exists() else None,
        "metrics": metrics,
    }
