"""`p2zoo demo`: the whole loop on a laptop, as the commands a user would type, one after another.

A contributor prunes and post-trains a real pretrained model three ways and publishes it; the owner of a log data set
checks and merges the logs; anybody reads them back, ranks the laws and asks for a token budget. The Hub is the embedded
one, on this machine, and goes with the demo.
"""

import json
import os
import shlex
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from leaderboard.errors import RunFailed
from zoo import fresh

RECIPES = ("depth", "width", "2of4")
CONTRIBUTOR, OWNER = "ann", "p2zoo"
DATASET = f"{OWNER}/p2-logs"
QUESTION = "--family llama-3 --method depth --rate 0.25 --n0 34e6 --l0 2.72 --excess 0.05 --gpu h100"


@dataclass(frozen=True)
class Step:
    """What a step shows, who does it, and the command."""

    what: str
    command: str
    who: str = ""


def steps(out: Path) -> Iterator[Step]:
    """The demo, in order. Pull requests count from 1, as the Hub is new."""
    runs, picture = {name: shlex.quote(str(out / name)) for name in RECIPES}, shlex.quote(str(out / "curves.png"))
    for name in RECIPES:
        resume = " --resume" if (out / name / "run.json").is_file() else ""  # one that was cut off goes on
        yield Step(
            f"Prune a pretrained model ({name}) and post-train it", f"run quickstart/{name} --out {runs[name]}{resume}"
        )
    yield Step("Check the three loss logs", f"check {shlex.quote(str(out))}")
    yield Step(
        "Draw them beside the 37 bundled curves; they are groups of their own, on other held-out text",
        f"plot seed {shlex.quote(str(out))} --out {picture}",
    )
    yield Step("Set up a log data set that begins with the seed's runs", f"dataset init {DATASET} --seed", OWNER)
    for name in RECIPES:
        yield Step(
            f"Publish the {name} model, and its log as a pull request",
            f"publish {runs[name]} --to {CONTRIBUTOR} --logs {DATASET}",
            CONTRIBUTOR,
        )
    for number, _ in enumerate(RECIPES, start=1):
        yield Step(
            "Check the pull request, and merge it when clean", f"check {DATASET} --pr {number} --merge-if-clean", OWNER
        )
    yield Step("List the zoo", f"models {DATASET}", CONTRIBUTOR)
    yield Step("Read the data set back; fit and rank the laws on its groups", f"rank {DATASET}", CONTRIBUTOR)
    yield Step(
        "How many tokens does a 34 M Llama-3 pruned by a quarter need to come within 0.05 nats? Bundled runs answer",
        f"budget {DATASET} {QUESTION}",
        CONTRIBUTOR,
    )


def play(out: Path) -> None:
    """Run every step in a process of its own, and sum up. Raises RunFailed at the first that fails."""
    from zoo.devhub import client_env, serve

    began = time.monotonic()
    users = {who: f"hf_demo_{who}" for who in (CONTRIBUTOR, OWNER)}
    with tempfile.TemporaryDirectory(prefix="p2zoo-hub-") as folder, serve(Path(folder), users) as url:
        print(f"An embedded Hub runs at {url} while the demo does.")
        quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HOME": folder}
        os.environ.update(client_env(url, "") | quiet)
        os.environ.pop(fresh.ADDRESS, None)  # in this environment a server of the demo's own forks every step
        for i, step in enumerate(steps(out), start=1):
            _run(i, step, {"HF_TOKEN": users[step.who], "P2ZOO_CACHE": folder} if step.who else {})
    print(f"\nAll of it took {time.monotonic() - began:.0f} s. What the pruned models won back:")
    for name in RECIPES:
        run = json.loads((out / name / "run.json").read_text(encoding="utf-8"))
        print(
            f"  {name:6s} rate {run['rate']:.3f}: {run['l0']:.3f} -> {run['l_pruned']:.3f} -> {run['loss']:.3f} "
            f"nats per token after {run['tokens']:,} tokens: {run['recovered']:.0%} of the damage"
        )
    print(f"Models, logs and pictures: {out}/")


def _run(number: int, step: Step, env: dict[str, str]) -> None:
    who = f" (as {step.who})" if step.who else ""
    print(f"\n[{number}] {step.what}{who}\n$ p2zoo {step.command}", flush=True)
    if code := fresh.popen("zoo.cli:main", shlex.split(step.command), env=os.environ | env).wait():
        raise RunFailed(f"demo: step {number} ended with code {code}; its command stands above.")
