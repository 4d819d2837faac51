"""All recipes but the quickstart, from the tables here: `python recipes/make_recipes.py` writes them beside this file.

What all share stands in base.yaml, what those of one model share in MODEL/base.yaml, and what is left in a file is
the experiment. Memory is what `p2zoo run ... --dry-run` estimates; one GPU has 80 GB. The ladder's sizes are rows of
zoo/models/sizes.py; recipes/README.md says what each family of recipes is for.
"""

from dataclasses import dataclass, field
from pathlib import Path

# 16 bytes a parameter, of fp32 weights and AdamW, do not fit one GPU from 7 B on; these take 6, rounding stochastically
LEAN = {"optimizer": "adamw-8bit", "precision": "bf16-master"}


@dataclass(frozen=True)
class Real:
    """A model on the Hub, and what its recipes have that those of base.yaml have not."""

    name: str
    train: dict[str, str] = field(default_factory=dict)
    base_tokens: int | None = None  # what it was trained on, as its makers say
    methods: tuple[str, ...] = ("depth", "width")


MODELS = {
    "llama-3.2-1b": Real("meta-llama/Llama-3.2-1B"),
    "llama-3.2-3b": Real("meta-llama/Llama-3.2-3B"),
    "llama-3.1-8b": Real("meta-llama/Llama-3.1-8B", LEAN),
    "qwen-2.5-0.5b": Real("Qwen/Qwen2.5-0.5B"),
    "qwen-2.5-1.5b": Real("Qwen/Qwen2.5-1.5B"),
    "qwen-2.5-3b": Real("Qwen/Qwen2.5-3B"),
    "qwen-2.5-7b": Real("Qwen/Qwen2.5-7B", LEAN),
    "qwen-3-0.6b": Real("Qwen/Qwen3-0.6B-Base"),
    "qwen-3-4b": Real("Qwen/Qwen3-4B-Base", LEAN),
    "smollm-3-3b": Real("HuggingFaceTB/SmolLM3-3B-Base", base_tokens=11_200_000_000_000),  # its model card
    "olmo-2-1b": Real("allenai/OLMo-2-0425-1B", base_tokens=4_000_000_000_000),  # arXiv:2501.00656 and its model card
    "gemma-3-1b": Real("google/gemma-3-1b-pt", base_tokens=2_000_000_000_000),  # arXiv:2503.19786
    # arXiv:2304.01373: 143,000 steps of 2,097,152 tokens
    "pythia-1.4b": Real("EleutherAI/pythia-1.4b", base_tokens=299_892_736_000, methods=("depth",)),
}
RATES = ("0.15", "0.25", "0.35")

# The ladder. Size -> peak learning rate of pretraining; shares of all parameters in two, three and four of 12 layers
LADDER: dict[str, tuple[str, dict[str, str]]] = {
    "s1": ("0.003", {"depth-2": "0.086", "depth-3": "0.128", "depth-4": "0.171"}),
    "s2": ("0.002", {"depth-2": "0.112", "depth-3": "0.169", "depth-4": "0.225"}),
    "s3": ("0.0015", {"depth-2": "0.131", "depth-3": "0.196", "depth-4": "0.261"}),
}
LADDER_FAMILIES = ("llama-3", "qwen-2.5")
AGAIN = ("depth-3", "width-0.25")  # with another seed, in both families at s2: the noise floor
# architectures that the seed does not have
OTHER: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("mistral", "qwen-3", "smollm-3", "olmo-2", "gemma-3"), ("depth-3", "width-0.25", "2of4")),
    "gpt-neox": ("depth-3", "2of4"),
}
NOISE = ("0.25", "0.5")  # shares of lines that change places
NOISY = [("llama-3", size, f"depth-{layers}") for size in ("s1", "s2") for layers in (2, 3, 4)]
DISTILLED = [("llama-3", size, what) for size in ("s1", "s2") for what in ("depth-3", "width-0.25", "2of4")]


def files() -> dict[str, str]:
    """Path below this folder -> content, for every file but base.yaml itself."""
    made = {}
    for folder, real in MODELS.items():
        settings = "".join(f"  {key}: {value}\n" for key, value in real.train.items())
        seen = f"  base_tokens: {real.base_tokens:_}\n" if real.base_tokens else ""
        made[f"{folder}/base.yaml"] = (
            f"# {real.name}.\nextends: ../base.yaml\nmodel:\n  name: {real.name}\n{seen}"
        ) + (f"train:\n{settings}" if settings else "")
        for method in real.methods:
            for rate in RATES:
                made[f"{folder}/{method}-{rate}.yaml"] = _experiment(f"  method: {method}\n  rate: {rate}\n")
        made[f"{folder}/2of4.yaml"] = _experiment('  method: "2:4"\n  importance: sparsegpt\n')
        made[f"{folder}/none.yaml"] = _experiment("  method: none\n")
    return made | ladder() | noise() | distill()


def ladder() -> dict[str, str]:
    """The bases, and what is pruned from each."""
    made = {}
    full = [(family, size, tuple(_prunings(size))) for family in LADDER_FAMILIES for size in LADDER]
    others = [(family, "s2", whats) for family, whats in OTHER.items()]
    for family, size, whats in (*full, *others):
        made[f"ladder/bases/{family}-{size}.yaml"] = (
            f"extends: base.yaml\nmodel:\n  name: {family}-{size}\n  scratch:\n    family: {family}\n    size: {size}\n"
            f"train:\n  lr_peak: {LADDER[size][0]}\n"
        )
        for what in whats:
            made[f"ladder/{family}-{size}-{what}.yaml"] = _rung(family, size, _prunings(size)[what])
        made[f"ladder/{family}-{size}-none.yaml"] = _rung(family, size, "  method: none\n")
    for family in LADDER_FAMILIES:
        for what in AGAIN:
            made[f"ladder/{family}-s2-{what}-seed1.yaml"] = f"extends: {family}-s2-{what}.yaml\ntrain:\n  seed: 1\n"
    return made


def noise() -> dict[str, str]:
    """Some of the ladder, on clean and on noisy text."""
    made = {}
    for family, size, what in NOISY:
        name, above = f"noise/{family}-{size}-{what}", f"extends: ../ladder/{family}-{size}-{what}.yaml\n"
        made[f"{name}-clean.yaml"] = above
        for share in NOISE:
            made[f"{name}-{share}.yaml"] = f"{above}data:\n  train:\n    noise: {share}\n"
    return made


def distill() -> dict[str, str]:
    """Some of the ladder, recovered by distillation."""
    objective = "train:\n  objective: distill\n"
    return {
        f"distill/{family}-{size}-{what}.yaml": f"extends: ../ladder/{family}-{size}-{what}.yaml\n{objective}"
        for family, size, what in DISTILLED
    }


def _prunings(size: str) -> dict[str, str]:
    """Name of a pruning of the ladder -> its settings."""
    depth = {name: f"  method: depth\n  rate: {rate}\n" for name, rate in LADDER[size][1].items()}
    width = {f"width-{rate}": f"  method: width\n  rate: {rate}\n" for rate in RATES}
    return depth | width | {"2of4": '  method: "2:4"\n'}


def _rung(family: str, size: str, prune: str) -> str:
    return f"extends: base.yaml\nmodel:\n  name: ./bases/{family}-{size}.yaml\nprune:\n{prune}"


def _experiment(prune: str) -> str:
    return f"extends: base.yaml\nprune:\n{prune}"


if __name__ == "__main__":
    for path, text in files().items():
        target = Path(__file__).parent / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
