"""What the weight files of a base hold, read before anything is loaded and without PyTorch.

A checkpoint that lacks a tensor loads all the same, with random numbers in its place. So names and shapes in the
headers must be exactly those of the architecture, every number finite, and a tied head the embedding itself.
Format of the headers: https://huggingface.co/docs/safetensors.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leaderboard.errors import P2Error
from leaderboard.shapes import Shape
from zoo.models.families import MODULES, tensors

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_HEADER_BYTES = 100_000_000  # the format allows no more
_AT_ONCE = 2**22  # numbers looked at together
_NAMED = 3  # tensors that a message names
_WRAPPERS = ("_orig_mod.", "module.", "base_model.model.", "language_model.", "model.")  # of programs that save others


@dataclass(frozen=True)
class Dtype:
    """A dtype that weights are stored in: its name in configs, and which bits of a number are its exponent."""

    name: str
    bits: np.dtype[Any]
    exponent: int


DTYPES = {
    "F32": Dtype("float32", np.dtype("<u4"), 0x7F800000),
    "F16": Dtype("float16", np.dtype("<u2"), 0x7C00),
    "BF16": Dtype("bfloat16", np.dtype("<u2"), 0x7F80),
}


@dataclass(frozen=True)
class Stored:
    """One tensor in a file: where its bytes begin and how many they are."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    def numbers(self) -> np.ndarray:
        """Its bits as whole numbers, mapped from the file, flat."""
        bits = DTYPES[self.dtype].bits
        if not self.size:
            return np.zeros(0, bits)
        return np.memmap(self.file, bits, "r", self.start, (self.size // bits.itemsize,))


def weight_names(names: Mapping[str, Any] | set[str], index: Mapping[str, Any] | None) -> list[str]:
    """The weight files among `names` that transformers reads: model.safetensors, else what the index names."""
    if SINGLE in names:
        return [SINGLE]
    return sorted(set(map(str, index["weight_map"].values()))) if index else []


def weight_files(folder: Path, where: str) -> list[Path]:
    """The weight files of a model folder; refuses a folder without, or without one that its index names."""
    present = {path.name for path in folder.iterdir()}
    files = [folder / name for name in weight_names(present, read_index(folder, where))]
    if not files:
        other = next((name for name in sorted(present) if name.endswith((".bin", ".pt", ".pth", ".gguf"))), None)
        instead = f" {other} is another format: load it with transformers and save it anew." if other else ""
        raise P2Error(
            f"{where} has a config but no *.safetensors weights that transformers reads ({SINGLE}, or what {INDEX} "
            f"names); save the model there.{instead}"
        )
    if lost := [path.name for path in files if not path.is_file()]:
        raise P2Error(f"{where}: {', '.join(lost[:_NAMED])} is not there, which {INDEX} names; fetch the model anew.")
    return files


def read_index(folder: Path, where: str) -> dict[str, Any] | None:
    """The index of a checkpoint in several files; None without one, or beside a whole file, which goes first."""
    path = folder / INDEX
    if (folder / SINGLE).exists() or not path.exists():
        return None
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        names = index["weight_map"].values()
        if any(Path(name).name != name for name in names):
            raise ValueError("a weight_map names files of this folder only")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise P2Error(f"{where}: its {INDEX} cannot be read: {error}; fetch the model anew.") from None
    return dict(index)


def read_headers(files: list[Path], where: str) -> dict[str, Stored]:
    """Every tensor of these files by its name."""
    stored: dict[str, Stored] = {}
    for file in files:
        for name, tensor in _header(file, where).items():
            if name in stored:
                raise P2Error(f"{where}: {name} stands in {stored[name].file.name} and {file.name}; fetch it anew.")
            stored[name] = tensor
    return stored


def _header(file: Path, where: str) -> dict[str, Stored]:
    """The tensors of one file; refuses pointers, and files that were cut off."""
    whole = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(len(LFS_POINTER))
        if start == LFS_POINTER:
            raise P2Error(f"{where}: {file.name} is a git-lfs pointer, not weights; run `git lfs pull` there.")
        length = int.from_bytes(start[:8], "little")
        if len(start) < 8 or length > min(_HEADER_BYTES, whole):
            raise P2Error(f"{where}: {file.name} is not a safetensors file, or was cut off; fetch it anew.")
        opened.seek(8)
        text = opened.read(length)
    try:
        entries = {name: value for name, value in json.loads(text).items() if name != "__metadata__"}
        tensors = {name: _stored(file, entry, 8 + length) for name, entry in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise P2Error(f"{where}: the header of {file.name} cannot be read: {error}; fetch it anew.") from None
    end = max((tensor.start + tensor.size for tensor in tensors.values()), default=8 + length)
    if end != whole:
        raise P2Error(
            f"{where}: {file.name} has {whole:,} bytes, its header speaks of {end:,}: it was cut off or written over; "
            "fetch it anew."
        )
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise P2Error(
                f"{where}: {name} is stored as {tensor.dtype}, allowed are {', '.join(DTYPES)}; "
                "prune a checkpoint that is not quantized."
            )
        if math.prod(tensor.shape) * DTYPES[tensor.dtype].bits.itemsize != tensor.size:
            raise P2Error(f"{where}: the header of {file.name} gives {name} another size than its shape has.")
    return tensors


def _stored(file: Path, entry: Mapping[str, Any], data: int) -> Stored:
    first, last = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not all(type(size) is int and size >= 0 for size in (*shape, first, last)) or last < first:
        raise ValueError(f"shape {shape}, offsets {first} to {last}")
    return Stored(file, str(entry["dtype"]), shape, data + first, last - first)


def check_weights(folder: Path, shape: Shape, where: str) -> dict[str, Stored]:
    """The tensors of a model folder, which are exactly those of its config, all finite, a tied head the embedding.

    Raises P2Error that names what is missing, unexpected, of another shape, not finite or tied to something else.
    """
    modules = MODULES[shape.model_type]
    headers = read_headers(weight_files(folder, where), where)
    stored = {modules.inside(name): tensor for name, tensor in headers.items()}
    _check_names(stored, shape, where)
    embedding, head = f"{modules.embedding}.weight", f"{modules.head}.weight"
    for name, tensor in stored.items():
        _check_finite(name, tensor, where)
    table = stored[embedding]
    if not any((part & DTYPES[table.dtype].exponent).any() for _, part in _parts(table.numbers())):
        raise P2Error(f"{where}: {embedding} holds only zeros; the checkpoint was never filled, fetch it anew.")
    if shape.tied and head in stored and not _same(stored[head], stored[embedding]):
        raise P2Error(
            f"{where}: config.json ties the output head to the embedding (tie_word_embeddings), but the weights hold a "
            f"{head} of their own: loaded and pruned they would be two models. Set tie_word_embeddings to false, or "
            f"remove {head}."
        )
    return stored


def _check_names(stored: Mapping[str, Stored], shape: Shape, where: str) -> None:
    wanted, modules = tensors(shape), MODULES[shape.model_type]
    optional = {f"{modules.head}.weight"} if shape.tied else set()
    extra = [name for name in stored if name not in wanted and name not in optional and not modules.passed_over(name)]
    missing = [name for name in wanted if name not in stored]
    known = wanted | dict.fromkeys(optional, wanted[f"{modules.embedding}.weight"])
    other = [name for name, size in known.items() if name in stored and stored[name].shape != size]
    said = [
        f"{len(names)} {kind} ({_few(names)})" for kind, names in (("missing", missing), ("unexpected", extra)) if names
    ]
    said += [f"{name} is {stored[name].shape}, by config.json {known[name]}" for name in other[:_NAMED]]
    if said:
        hint = _prefix(missing, extra) or (
            "Missing ones would be filled with random numbers; fetch the model anew, or mend config.json."
        )
        raise P2Error(f"{where}: its weights are not those of its config.json: {'; '.join(said)}. {hint}")


def _prefix(missing: list[str], extra: list[str]) -> str | None:
    """What to do where names differ by something before them only."""
    for prefix in _WRAPPERS:
        if missing and all(prefix + name in extra for name in missing):
            return f"Every name begins with {prefix!r}, of the program that saved it: save the model inside it."
        if missing and extra and all(prefix + name in missing for name in extra):
            return f"The names lack {prefix!r}: save the whole causal language model, not its inner part."
    return None


def _few(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _check_finite(name: str, tensor: Stored, where: str) -> None:
    exponent = DTYPES[tensor.dtype].exponent
    for start, part in _parts(tensor.numbers()):
        odd = (part & exponent) == exponent
        if odd.any():
            at = start + int(odd.argmax())
            place = np.unravel_index(at, tensor.shape)
            raise P2Error(
                f"{where}: {name} holds a number that is not finite (NaN or infinite), at "
                f"{tuple(int(i) for i in place)}; the checkpoint is broken, fetch it anew."
            )


def _parts(numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    return ((start, numbers[start : start + _AT_ONCE]) for start in range(0, len(numbers), _AT_ONCE))


def _same(one: Stored, other: Stored) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return all(
        np.array_equal(a, b) for (_, a), (_, b) in zip(_parts(one.numbers()), _parts(other.numbers()), strict=True)
    )


def stored_dtype(stored: Mapping[str, Stored]) -> str:
    """The dtype that most of the weights are stored in, as a config names it."""
    sizes: Counter[str] = Counter()
    for tensor in stored.values():
        sizes[tensor.dtype] += tensor.size
    return DTYPES[sizes.most_common(1)[0][0]].name
