"""Metadata at the top of a README.md: reading it, judging it, and the tags that the Hub derives from it."""

from typing import Any

from zoo.front_matter import MOST_BYTES, metadata

MOST_READ = 2 * MOST_BYTES  # bytes of a README that are looked at
_TAGGED = {"license": "license:", "datasets": "dataset:", "language": "language:", "base_model": "base_model:"}


def metadata_or_empty(text: str) -> dict[str, Any]:
    """The metadata of a card that somebody else wrote: broken ones count as none."""
    try:
        return metadata(text)
    except ValueError:
        return {}


def judge(text: str) -> dict[str, list[dict[str, str]]]:
    """Errors and warnings in the form of `/api/validate-yaml`."""
    try:
        data = metadata(text)
    except ValueError as error:
        return {"errors": [{"message": str(error)}], "warnings": []}
    return {"errors": [], "warnings": [] if data else [{"message": "empty or missing yaml metadata in repo card"}]}


def tags(card: dict[str, Any]) -> list[str]:
    """The card's own tags, and those that lists are filtered by, e.g. `base_model:quantized:org/name`."""
    out = [str(tag) for tag in _listed(card.get("tags"))]
    out += [str(card[key]) for key in ("library_name", "pipeline_tag") if card.get(key)]
    for key, prefix in _TAGGED.items():
        out += [f"{prefix}{value}" for value in _listed(card.get(key))]
    if relation := card.get("base_model_relation"):
        out += [f"base_model:{relation}:{base}" for base in _listed(card.get("base_model"))]
    return list(dict.fromkeys(out))


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
