"""`p2zoo demo`: the whole idea on a laptop, as the commands a user would type, one after another."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from leaderboard.errors import RunFailed

RECIPES = ("depth", "width", "2of4")
QUESTION = "--family llama-3 --method depth --rate 0.25 --n0 34e6 --l0 2.72 --excess 0.05 --gpu h100"


def steps(out: Path) -> Iterator[tuple[str, list[str]]]:
    """What each step shows, and its `p2zoo` arguments."""
    for name in RECIPES:
        yield (
            f"Prune a pretrained model ({name}) and post-train it",
            ["run", f"quickstart/{name}", "--out", str(out / name), *_resume(out / name)],
        )
    yield "Check the three loss logs", ["check", str(out)]
    yield (
        "Draw them beside the 37 curves of the bundled seed; they are groups of their own, on other held-out text",
        ["plot", "seed", str(out), "--out", str(out / "curves.png")],
    )
    yield "Fit and rank the laws on the seed's groups", ["rank"]
    yield (
        "How many tokens does a 34 M Llama-3 pruned by a quarter need to come within 0.05 nats? The seed answers",
        ["budget", *QUESTION.split()],
    )


def _resume(folder: Path) -> list[str]:
    """A demo that was cut off goes on where it was."""
    return ["--resume"] if (folder / "run.json").is_file() else []


def play(out: Path) -> None:
    """Run every step in a process of its own, and sum up. Raises RunFailed at the first that fails."""
    began = time.monotonic()
    for i, (what, arguments) in enumerate(steps(out), start=1):
        print(f"\n[{i}] {what}\n$ p2zoo {' '.join(arguments)}", flush=True)
        done = subprocess.run([sys.executable, "-m", "zoo", *arguments], check=False)
        if done.returncode:
            raise RunFailed(f"demo: step {i} ended with code {done.returncode}; the command above shows it again.")
    print(f"\nAll of it took {time.monotonic() - began:.0f} s. What the pruned models won back:")
    for name in RECIPES:
        run = json.loads((out / name / "run.json").read_text(encoding="utf-8"))
        print(
            f"  {name:6s} rate {run['rate']:.3f}: {run['l0']:.3f} -> {run['l_pruned']:.3f} -> {run['loss']:.3f} "
            f"nats per token after {run['tokens']:,} tokens: {run['recovered']:.0%} of the damage"
        )
    print(f"Models, logs and pictures: {out}/")
