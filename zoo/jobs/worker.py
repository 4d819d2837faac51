"""What runs inside a Hugging Face Job, or on any machine that may be taken away: restore, run, publish, clean up.

`python -m zoo.jobs.worker RECIPE --state ME/REPO [--to ME] [--logs ORG/DATASET]`. Each complete checkpoint goes to
the state repository; started again there, or anywhere else, the same command goes on from the last one. Publishing
is left to `zoo.publish.publish`, which does nothing twice. Several GPUs are put to work by torchrun, as FSDP2.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leaderboard.errors import P2Error


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="job", description=__doc__.split("\n")[0])
    parser.add_argument("recipe", help="recipe file or bundled name")
    parser.add_argument("--state", required=True, metavar="REPO", help="private repository for checkpoints")
    parser.add_argument("--out", type=Path, default=Path("run"), metavar="DIR", help="run folder; default run")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--to", metavar="NAMESPACE", help="publish there when the run is finished")
    parser.add_argument("--logs", metavar="DATASET", help="log data set for the pull request")
    parser.add_argument("--license", metavar="ID", help="licence of a base model that p2zoo does not know")
    parser.add_argument("--wheel", help="p2zoo itself; installed before this script starts")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 failed, 2 cannot be done as asked, 75 stopped by SIGTERM and to be started again."""
    try:
        words = sys.argv[1:] if words is None else words
        done = work(arguments(words), words)
        print(json.dumps(done, indent=2) if done else "", end="\n" if done else "", flush=True)
    except P2Error as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def work(asked: argparse.Namespace, words: Sequence[str]) -> dict[str, Any]:
    """Restore, run, publish, clean up; returns what was published, in the first of several processes."""
    from zoo.endpoint import hub
    from zoo.inputs.base_model import describe
    from zoo.jobs.backup import Backup
    from zoo.publish.licences import licence_of
    from zoo.recipe.catalog import find_recipe
    from zoo.recipe.files import load_recipe

    recipe = load_recipe(find_recipe(asked.recipe), asked.set)
    if asked.to:
        source = describe(recipe.model, recipe.folder)
        known = source.revision if source else recipe.model.revision
        licence_of(recipe.model.label, known, asked.license)  # refused now, not after the training
    api = hub(None)
    backup = Backup(api, asked.state)
    first = os.environ.get("RANK", "0") == "0"
    over = backup.restore(asked.out) if first else None
    if over is not None:
        print(f"job: {asked.state}: this run is over; nothing to do.", flush=True)
        return over
    import torch

    from zoo.distributed import launched, relaunch
    from zoo.publish.publish import plan, publish
    from zoo.run.pipeline import run

    if not launched() and (gpus := torch.cuda.device_count()) > 1:
        relaunch(gpus, ["-m", "zoo.jobs.worker", *words])
    try:
        state = run(recipe, asked.out, resume=True, saved=lambda: backup.save(asked.out))
    finally:
        backup.wait()
    if not first:
        return {}
    done: dict[str, Any] = {"run_id": state["run_id"], "loss": state["loss"]}
    if asked.to:
        done |= publish(api, plan(asked.out, asked.to, asked.logs, licence=asked.license)).as_dict()
    backup.finish(asked.out, done)
    return done


if __name__ == "__main__":
    sys.exit(main())
