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


def command(run: Mapping[str, Any]) -> str | None:
    """`p2zoo run …` for a row of `wanted`: base_model ("" where none exists yet), method, rate, tokens.

    None without a bundled recipe of the base, and for joined methods: their rate here counts what both parts take, a
    recipe's that of the first alone.
    """
    folder, method, rate = FOLDERS.get(str(run["base_model"])), str(run["method"]), float(run["rate"])
    if folder is None or "+" in method:
        return None
    near = min(RATES, key=lambda r: abs(r - rate))
    changes = [] if method in ("depth", "width", SPARSE) else [f"prune.method={method}"]
    changes += [] if method == SPARSE or f"{rate:.3g}" == f"{near:.3g}" else [f"prune.rate={rate:.3g}"]
    changes.append(f"train.tokens={int(run['tokens'])}")
    kind = "2of4" if method == SPARSE else f"{method if method == 'width' else 'depth'}-{near:.2f}"
    return " ".join([f"p2zoo run {folder}/{kind}", *(f"--set {change}" for change in changes)])
