"""The command line of a wanted run: which bundled recipe comes closest, and what to change in it. Knows names only."""

from collections.abc import Mapping
from typing import Any

QUICKSTART = {"depth": "quickstart/depth", "width": "quickstart/width", "2:4": "quickstart/2of4"}
PARTED = {"depth": "depth-0.25", "width": "width-0.25", "2:4": "2of4"}  # bundled for every known base model


def command(run: Mapping[str, Any]) -> str:
    """`p2zoo run …` for a row of `wanted`: base_model ("" where none exists yet), method, rate, tokens."""
    method, base = str(run["method"]), str(run["base_model"])
    recipe = QUICKSTART.get(method, QUICKSTART["depth"])
    changes = [] if method in QUICKSTART else [f"prune.method={method}"]
    changes.append(f"model.name={base or 'YOUR/MODEL'}")
    changes += [] if method == "2:4" else [f"prune.rate={run['rate']:.3g}"]
    changes.append(f"train.tokens={int(run['tokens'])}")
    return " ".join([f"p2zoo run {recipe}", *(f"--set {change}" for change in changes)])
