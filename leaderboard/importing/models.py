"""How many parameters the base and the pruned model have: from a config.json, or from stored tensors.

A model is a folder, a config that ships, or a Hub id; of a model on the Hub only its config.json is fetched. Where no
formula knows the architecture, the headers of a folder's *.safetensors files are counted: tied ones stand there once.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leaderboard.errors import P2Error
from leaderboard.shapes import architecture_of, bundled_config, parameters, parameters_nonembedding, shape_of

_NO_ID = re.compile(r"[^A-Za-z0-9_.-]+")  # a folder's name stands where a Hub id would
MAX_CONFIG = 5_000_000  # bytes
MAX_HEADER = 100_000_000


@dataclass(frozen=True)
class Model:
    """One model. What its config does not tell is None."""

    label: str
    n: int
    n_nonembedding: int | None = None
    vocab: int | None = None
    family: str | None = None


def read_model(name: str) -> Model:
    """The model that a folder, a bundled config or a Hub id describes. Raises P2Error where its size is not known."""
    folder = Path(name).expanduser()
    folder = folder.parent if folder.name == "config.json" else folder
    local = folder.is_dir()
    label = _NO_ID.sub("-", folder.resolve().name).strip("-.") if local else name
    bundled = None if local else bundled_config(name)
    config = bundled or (_config(folder) if local else _from_hub(name))
    try:
        shape = shape_of(config)
        return Model(
            label, parameters(shape), parameters_nonembedding(shape), shape.vocab, architecture_of(config).name
        )
    except P2Error as error:
        stored = stored_parameters(folder) if local else None
        if stored is None:
            raise P2Error(f"{name}: {error} Give --n0 and --n-pruned, the numbers of parameters.") from None
        size = config.get("vocab_size")
        return Model(label, stored, None, size if isinstance(size, int) else None, _type(config))


def _type(config: Mapping[str, Any]) -> str | None:
    """What an unknown architecture calls itself."""
    return str(config.get("model_type") or "") or None


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        if path.stat().st_size > MAX_CONFIG:
            raise P2Error(f"{path}: {path.stat().st_size:,} bytes; a config.json is far smaller.")
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise P2Error(f"{folder}: no config.json there; a model folder is what save_pretrained writes.") from None
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, P2Error):
            raise
        raise P2Error(f"{path}: cannot be read: {error}.") from None
    if not isinstance(config, dict):
        raise P2Error(f"{path}: is no JSON object.")
    return config


def _from_hub(name: str) -> dict[str, Any]:
    from huggingface_hub import errors, hf_hub_download

    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise P2Error(f"{name}: no such folder, and no Hub id, which would be owner/name.")
    try:
        return _config(Path(hf_hub_download(name, "config.json")).parent)
    except (errors.HTTPError, errors.HFValidationError, errors.OfflineModeIsEnabled, OSError) as error:  # type: ignore[attr-defined]
        raise P2Error(
            f"{name}: no folder here, and its config.json cannot be fetched from the Hub ({type(error).__name__}). "
            "Name a folder with its config.json, or give the numbers of parameters by --n0 and --n-pruned."
        ) from None


def stored_parameters(folder: Path) -> int | None:
    """Numbers in the *.safetensors files of a folder, from their headers; None where there are none."""
    files = sorted(folder.glob("*.safetensors"))
    return sum(map(_in_header, files)) if files else None


def _in_header(path: Path) -> int:
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= MAX_HEADER:
                raise ValueError("no safetensors header")
            header = json.loads(file.read(size))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise P2Error(f"{path}: its header cannot be read ({error}); is it a git-lfs pointer?") from None
