"""The real recipes, from one table: `python recipes/make_recipes.py` writes them beside this file.

What all share stands in base.yaml, what those of one model share in MODEL/base.yaml, and what is left in a file is
the experiment. Memory is what `p2zoo run ... --dry-run` estimates; one GPU has 80 GB.
"""

from pathlib import Path

# folder -> the model's id on the Hub, and training settings that are not those of base.yaml
MODELS: dict[str, tuple[str, dict[str, str]]] = {
    "llama-3.2-1b": ("meta-llama/Llama-3.2-1B", {}),
    "llama-3.2-3b": ("meta-llama/Llama-3.2-3B", {"micro_batch": "2"}),
    # 16 bytes a parameter, of fp32 weights and AdamW, do not fit one GPU from 7 B on: bf16 master weights take 8
    "llama-3.1-8b": ("meta-llama/Llama-3.1-8B", {"micro_batch": "1", "precision": "bf16-master"}),
    "qwen-2.5-0.5b": ("Qwen/Qwen2.5-0.5B", {}),
    "qwen-2.5-1.5b": ("Qwen/Qwen2.5-1.5B", {"micro_batch": "4"}),
    "qwen-2.5-3b": ("Qwen/Qwen2.5-3B", {"micro_batch": "2"}),
    "qwen-2.5-7b": ("Qwen/Qwen2.5-7B", {"micro_batch": "1", "precision": "bf16-master"}),
}
METHODS = ("depth", "width")
RATES = ("0.15", "0.25", "0.35")


def files() -> dict[str, str]:
    """Path below this folder -> content, for every file but base.yaml itself."""
    made = {}
    for folder, (name, train) in MODELS.items():
        settings = "".join(f"  {key}: {value}\n" for key, value in train.items())
        made[f"{folder}/base.yaml"] = f"# {name}.\nextends: ../base.yaml\nmodel:\n  name: {name}\n" + (
            f"train:\n{settings}" if settings else ""
        )
        for method in METHODS:
            for rate in RATES:
                made[f"{folder}/{method}-{rate}.yaml"] = _experiment(f"  method: {method}\n  rate: {rate}\n")
        made[f"{folder}/2of4.yaml"] = _experiment('  method: "2:4"\n  importance: sparsegpt\n')
    return made


def _experiment(prune: str) -> str:
    return f"extends: base.yaml\nprune:\n{prune}"


if __name__ == "__main__":
    for path, text in files().items():
        target = Path(__file__).parent / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
