"""Base models: those whose size is known beforehand, as data, and those that run logs have measured.

`n0` counts parameters exactly, tied embeddings once; `n0_nonembedding` leaves out the embedding and the output head. A
held-out loss belongs to a text, so `l0` is there only for bases that logs measured on that text.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leaderboard.errors import P2Error, unknown_name
from leaderboard.logs.contract import UNKNOWN, require
from leaderboard.logs.frame import YARDSTICK
from leaderboard.logs.methods import takes_rate
from leaderboard.shapes import ARCHITECTURES, bundled_config, parameters, parameters_nonembedding, shape_of


@dataclass(frozen=True)
class Base:
    """A model before pruning. `name` is its Hub id; `l0` in nats per token, None where nobody measured it."""

    name: str
    family: str
    n0: int
    n0_nonembedding: int
    l0: float | None = None
    interpolated: bool = False  # l0 is read off the sizes around it, not measured
    recipes: str | None = None  # folder of its bundled recipes


BASES: dict[str, Base] = {
    base.name: base
    for base in (
        Base("meta-llama/Llama-3.2-1B", "llama-3", 1_235_814_400, 973_146_112, recipes="llama-3.2-1b"),
        Base("meta-llama/Llama-3.2-3B", "llama-3", 3_212_749_824, 2_818_747_392, recipes="llama-3.2-3b"),
        Base("meta-llama/Llama-3.1-8B", "llama-3", 8_030_261_248, 6_979_588_096, recipes="llama-3.1-8b"),
        Base("Qwen/Qwen2.5-0.5B", "qwen-2.5", 494_032_768, 357_898_112, recipes="qwen-2.5-0.5b"),
        Base("Qwen/Qwen2.5-1.5B", "qwen-2.5", 1_543_714_304, 1_310_340_608, recipes="qwen-2.5-1.5b"),
        Base("Qwen/Qwen2.5-3B", "qwen-2.5", 3_085_938_688, 2_774_773_760, recipes="qwen-2.5-3b"),
        Base("Qwen/Qwen2.5-7B", "qwen-2.5", 7_615_616_512, 6_525_621_760, recipes="qwen-2.5-7b"),
        Base("Qwen/Qwen3-0.6B-Base", "qwen-3", 596_049_920, 440_467_456, recipes="qwen-3-0.6b"),
        Base("Qwen/Qwen3-4B-Base", "qwen-3", 4_022_468_096, 3_633_511_936, recipes="qwen-3-4b"),
        Base("HuggingFaceTB/SmolLM3-3B-Base", "smollm-3", 3_075_098_624, 2_812_430_336, recipes="smollm-3-3b"),
        Base("allenai/OLMo-2-0425-1B", "olmo-2", 1_484_916_736, 1_073_874_944, recipes="olmo-2-1b"),
        Base("google/gemma-3-1b-pt", "gemma-3", 999_885_952, 697_896_064, recipes="gemma-3-1b"),
        Base("EleutherAI/pythia-1.4b", "gpt-neox", 1_414_647_808, 1_208_602_624, recipes="pythia-1.4b"),
    )
}

LOST = {"p2lab/docs-heldout": "p2lab/"}  # held-out texts that nobody can have, and what their bases' names begin with
LADDER: dict[str, dict[str, int]] = {  # sizes of the base models that recipes make, in parameters
    "llama-3": {"s1": 4_312_192, "s2": 12_900_608, "s3": 33_930_176},
    "qwen-2.5": {"s1": 4_315_264, "s2": 12_906_752, "s3": 33_940_928},
    "mistral": {"s2": 12_900_608}, "qwen-3": {"s2": 12_901_376}, "smollm-3": {"s2": 12_900_608},
    "olmo-2": {"s2": 12_905_216}, "gemma-3": {"s2": 12_907_520}, "gpt-neox": {"s2": 13_721_184},
}  # fmt: skip
NEAR = 1.25  # a size this near stands for another
FINEWEB = "HuggingFaceFW/fineweb-edu/sample-10BT/train"
TEXTS = (f"{FINEWEB}[0:2000]", f"{FINEWEB}[0:400]")  # held out by the recipes of real bases, and by the ladder's
RATES = (0.15, 0.25, 0.35)  # of the bundled depth and width recipes
RECIPES = {"depth": "depth-{:.2f}", "width": "width-{:.2f}", "2:4": "2of4"}  # bundled, by method


def measured_bases(frame: pd.DataFrame) -> list[Base]:
    """The base models of run logs on one held-out text, by family and size, with their measured l0."""
    columns = ["base_model", "family", "n0", "n0_nonembedding", "l0"]
    require(frame, columns, "bases")
    text = frame[columns].dropna().astype({"base_model": str, "family": str})
    text = text[text["base_model"] != UNKNOWN]
    heads = text.groupby(["base_model", "family"], sort=False).median().reset_index().sort_values(["family", "n0"])
    return [
        Base(row["base_model"], row["family"], int(row["n0"]), int(row["n0_nonembedding"]), float(row["l0"]))
        for row in heads.to_dict("records")
    ]


def read_base(words: str, known: Iterable[Base] = ()) -> Base:
    """A base from `HUB_ID` or `HUB_ID=L0`, looked up among `known` and then BASES."""
    name, _, loss = words.partition("=")
    table = BASES | {base.name: base for base in known}
    if name not in table:
        raise unknown_name("base model", name, table, "base")
    if not loss:
        return table[name]
    try:
        l0 = float(loss)
    except ValueError:
        l0 = math.nan
    if not 0 < l0 < 30:
        raise P2Error(f"base {name}: l0 is {loss!r}; it must be its held-out loss in nats per token, e.g. {name}=2.31.")
    return replace(table[name], l0=l0)


def base_at_hand(model: str) -> Base:
    """A known base by its Hub id, or one that a config.json at hand describes: a folder, a file, one that ships here.

    Raises P2Error where there is none.
    """
    if model in BASES:
        return BASES[model]
    path = Path(model)
    path = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else bundled_config(model)
    except (OSError, ValueError) as error:
        raise P2Error(f"model: {path} is no config.json that can be read ({error}).") from None
    if config is None:
        raise P2Error(
            f"model: no config of {model!r} is at hand. Give a folder with its config.json, or --family and --n0. "
            f"Known: {', '.join(BASES)}."
        )
    shape = shape_of(config, str(path))
    return Base(model, shape.architecture.name, parameters(shape), parameters_nonembedding(shape))


def with_losses(bases: Sequence[Base]) -> list[Base]:
    """The same bases, missing l0 read off the power law l0 = a n0^b through the family's others; left out without two.

    The exponent law of loss and size is Kaplan's (arXiv:2001.08361); it holds within models trained alike.
    """
    out = []
    for base in bases:
        ladder = [b for b in bases if b.family == base.family and b.l0 is not None]
        if base.l0 is not None:
            out.append(base)
        elif len({b.n0 for b in ladder}) >= 2:
            out.append(replace(base, l0=loss_at(base.n0, ladder), interpolated=True))
    return out


def loss_at(n0: float, ladder: Sequence[Base]) -> float:
    """l0 of a size, by least squares on ln l0 = ln a + b ln n0 through two or more sizes."""
    size = np.log([b.n0 for b in ladder])
    slope, level = np.polyfit(size, np.log([b.l0 or math.nan for b in ladder]), 1)
    return float(np.exp(level + slope * np.log(n0)))


def allowed(family: str, method: str) -> bool:
    """Whether models of a family are pruned by a method; of a family that is not known nothing forbids it."""
    return not any(row.name == family and method in row.without for row in ARCHITECTURES.values())


def joinable(text: str) -> bool:
    """Whether a new run can be measured on a held-out text: on the yardstick, or a data set that is not lost."""
    return text == YARDSTICK or ("/" in text and text.partition("@")[0] not in LOST)


def named(run: Mapping[str, Any]) -> str | None:
    """A base that exists for a row of `wanted`: its Hub id, or the recipe of the ladder that makes it; None without.

    A base without a name is the next size: the ladder's nearest within NEAR stands for it.
    """
    name, family = str(run["base_model"]), str(run["family"])
    rungs = {f"{family}-{size}": n0 for size, n0 in LADDER.get(family, {}).items()}
    if name and "/" in name and not name.startswith(tuple(LOST.values())):
        return name
    rung = name.rpartition("/")[2]
    if not name and rungs:
        rung = min(rungs, key=lambda one: abs(math.log(rungs[one] / run["n0"])))
        rung = rung if abs(math.log(rungs[rung] / run["n0"])) <= math.log(NEAR) else ""
    return f"ladder/bases/{rung}" if rung in rungs else None


def commands(run: Mapping[str, Any], text: str = "") -> list[str]:
    """The commands of a row of `wanted` (family, base_model, n0, method, rate, tokens), in order: of a base of the
    ladder that which makes it comes first. `text` is the held-out text of the group to join.

    None where no base exists, for a method that its family does not allow, and for joined methods: their rate here
    counts what both parts take, a recipe's that of the first alone.
    """
    base, method, rate, family = named(run), str(run["method"]), float(run["rate"]), str(run["family"])
    if base is None or "+" in method or not allowed(family, method):
        return []
    changes = [] if method in RECIPES else [f"prune.method={method}"]
    if base.startswith("ladder/"):
        rung = base.rpartition("/")[2]
        first = [f"p2zoo pretrain {base} --out runs/{rung}"]
        near = 0.25 if method == "width" else math.nan
        recipe = f"ladder/{rung}-" + {"width": "width-0.25", "2:4": "2of4"}.get(method, "depth-3")
        changes.append(f"model.name=$PWD/runs/{rung}")
    else:
        known = BASES.get(base)
        folder = known.recipes if known else next((b.recipes for b in BASES.values() if b.family == family), None)
        if folder is None:
            return []
        first, near = [], min(RATES, key=lambda r: abs(r - rate))
        recipe = f"{folder}/{RECIPES.get(method, RECIPES['depth']).format(near)}"
        changes += [] if known else [f"model.name={base}"]
    changes += [f"prune.rate={rate:.3g}"] if takes_rate(method) and f"{rate:.3g}" != f"{near:.3g}" else []
    changes += [f"train.tokens={int(run['tokens'])}", *_on_text(text, base.startswith("ladder/"))]
    return [*first, " ".join([f"p2zoo run {recipe}", *(f"--set {change}" for change in changes)])]


def _on_text(text: str, of_ladder: bool) -> list[str]:
    """The settings that measure a run on a held-out text, as logs name it; none where its recipe does already."""
    label = text.partition("@")[0]
    if not joinable(text) or text == YARDSTICK or label == TEXTS[of_ladder]:
        return []
    name, _, part = label.partition("[")
    owner, data, *rest = name.split("/")
    skip, _, end = part.rstrip("]").partition(":")
    changes = {"dataset": f"{owner}/{data}", "subset": "/".join(rest[:-1]) or "null", "split": (rest or ["train"])[-1]}
    changes["skip"] = skip or "0"
    changes["take"] = str(int(end) - int(skip)) if end.isdigit() and skip.isdigit() else "null"
    return [f"data.heldout.{key}={value}" for key, value in changes.items()]
