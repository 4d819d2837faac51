"""The command line of a wanted run: which bundled recipe comes closest, and what to change in it. Knows names only."""

from collections.abc import Mapping
from typing import Any

FOLDERS = {
    "meta-llama/Llama-3.2-1B": "llama-3.2-1b",
    "meta-llama/Llama-3.2-3B": "llama-3.2-3b",
    "meta-llama/Llama-3.1-8B": "llama-3.1-8b",
    "Qwen/Qwen2.5-0.5B": "qwen-2.5-0.5b",
    "Qwen/Qwen2.5-1.5B": "qwen-2.5-1.5b",
    "Qwen/Qwen2.5-3B": "qwen-2.5-3b",
    "Qwen/Qwen2.5-7B": "qwen-2.5-7b",
}
RATES = (0.15, 0.25, 0.35)  # of the bundled depth and width recipes
SPARSE = "2:4"


def command(run: Mapping[str, Any]) -> str:
    """`p2zoo run …` for a row of `wanted`: base_model ("" where none exists yet), method, rate, tokens.

    A base without a recipe of its own takes the quickstart's, with YOUR/MODEL for one that has no name.
    """
    method, base, rate = str(run["method"]), str(run["base_model"]), float(run["rate"])
    kind = method if method in ("depth", "width") else "2of4" if method == SPARSE else "depth"
    folder = FOLDERS.get(base)
    near = min(RATES, key=lambda r: abs(r - rate))
    changes = [] if kind != "depth" or method == "depth" else [f"prune.method={method}"]
    changes += [] if folder else [f"model.name={base or 'YOUR/MODEL'}"]
    changes += [] if method == SPARSE or (folder and f"{rate:.3g}" == f"{near:.3g}") else [f"prune.rate={rate:.3g}"]
    changes.append(f"train.tokens={int(run['tokens'])}")
    recipe = f"{folder}/{kind}" + (f"-{near:.2f}" if kind != "2of4" else "") if folder else f"quickstart/{kind}"
    return " ".join(["p2zoo run", recipe, *(f"--set {change}" for change in changes)])
