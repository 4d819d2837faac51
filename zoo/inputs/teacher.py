"""What was kept of a teacher: whose, of which text, how many tokens a place; refused where it is another's.

    about.json      the facts below, written first
    ids.bin         the k likeliest next tokens of each place, int32 (blocks, seq_len - 1, k)
    log_p.bin       logs of their probabilities at the temperature, fp32, the same shape
    rest.bin        log of the probability of all others together, fp32 (blocks, seq_len - 1)
    complete.json   written last

It depends on the teacher, the text and k, not on the pruned model: one folder serves many students.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leaderboard.errors import P2Error
from zoo.inputs.base_model import Source
from zoo.inputs.text import fingerprint
from zoo.recipe.spec import Recipe

ABOUT, COMPLETE = "about.json", "complete.json"
BYTES = 8  # a kept token: its number and its probability
_SAYS = {
    "teacher": "teacher",
    "teacher_revision": "weights of the teacher",
    "vocab": "vocabulary",
    "text": "text",
    "text_revision": "text",
    "seq_len": "sequence length",
    "packing": "packing",
    "top_k": "top_k",
    "temperature": "temperature",
    "precision": "precision",
    "tokens": "number of tokens",
    "seed": "seed, so other blocks of the text",
    "tokens_sha256": "tokens",
}


def facts(recipe: Recipe, source: Source | None, text_revision: str | None) -> dict[str, Any]:
    """What decides the kept logits, as far as it is known; None stands for what is not yet."""
    train, spec = recipe.train, recipe.train.distill
    assert spec is not None
    return {
        "teacher": recipe.model.label,
        "teacher_revision": source and source.revision,
        "vocab": source and source.shape.vocab,
        "text": recipe.data.train.label,
        "text_revision": text_revision,
        "seq_len": train.seq_len,
        "packing": train.packing,
        "top_k": spec.top_k,
        "temperature": spec.temperature,
        "precision": train.precision,
        "tokens": train.planned_tokens,
        "seed": train.seed,
    }


def check_teacher(recipe: Recipe, source: Source | None) -> int | None:
    """Bytes that a distillation keeps on disk, None for one that keeps none; refuses offline what cannot be.

    Raises P2Error for more tokens than the vocabulary has, and for kept logits that are another teacher's or text's.
    """
    spec = recipe.train.distill
    if spec is None or spec.top_k is None:
        return None
    if source is not None and spec.top_k >= source.shape.vocab:
        raise P2Error(
            f"train.distill.top_k: got {spec.top_k:,}, the vocabulary of {source.label} has {source.shape.vocab:,} "
            "tokens; allowed is fewer, or null for the whole distribution."
        )
    if spec.logits is not None:
        train = recipe.data.train
        revision = fingerprint(train, recipe.folder, "data.train") if train.local else None
        check_kept(recipe.path(spec.logits), facts(recipe, source, revision))
    return recipe.train.planned_tokens * (BYTES * spec.top_k + 4)


def check_kept(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Raise P2Error where `folder` holds something else than the kept logits that are wanted, or none and a file."""
    if not folder.exists():
        return
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        if folder.is_dir() and not any(folder.iterdir()):
            return
        raise P2Error(f"train.distill.logits: {folder} holds no kept logits; name a new folder, or theirs.") from None
    for key, value in wanted.items():
        if value is not None and key in about and about[key] != value:
            raise P2Error(
                f"train.distill.logits: {folder} was kept of another {_SAYS[key]}: {about[key]}, this run has {value}; "
                "name another folder, in which they will be made."
            )
