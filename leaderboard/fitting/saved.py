"""Fits on disk: one .npz holding JSON text and the numbers, no pickle; what comes back predicts bit for bit the same.

A file knows the hash of the data it was fitted to, the engine that made it and what its law predicts at fixed rows, so
that a fit of other data, of an older engine or of a law that has changed since is refused.
"""

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from leaderboard.errors import P2Error
from leaderboard.files import whole_file
from leaderboard.laws.catalogue import LAWS
from leaderboard.laws.law import Array, Law
from leaderboard.laws.user import probe_rows

if TYPE_CHECKING:
    from leaderboard.fitting.fit import Fit

ENGINE_VERSION = 1  # raised whenever the same data would give another fit
SAME = 1e-9  # relative: the arithmetic of another machine may differ in the last digits
NUMBERS = ("objective", "delta", "rmse", "gradient", "condition")


def save_fit(fit: "Fit", path: str | os.PathLike[str], data: str = "") -> Path:
    """Write a fit so that a reader sees the whole file or none. `data` is the hash of its rows (`Logs.revision`)."""
    path = Path(path)
    names = [f.name for f in fields(fit) if f.name not in ("law", "params", "second", *NUMBERS)]
    words = {name: getattr(fit, name) for name in names}
    words |= {"law": fit.law.name, "parameters": list(fit.params), "engine": ENGINE_VERSION, "data": data}
    arrays: dict[str, Any] = {
        "words": np.frombuffer(json.dumps(words, sort_keys=True).encode(), dtype=np.uint8),
        "params": np.array(list(fit.params.values()), dtype=float),
        "numbers": np.array([getattr(fit, name) for name in NUMBERS], dtype=float),
        "second": np.array([] if fit.second is None else [fit.second], dtype=float),
        "probe": _probe(fit.law, fit.params),
    }
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # numbers alone, so nothing is pickled
    return path


def load_fit(path: str | os.PathLike[str], law: Law | None = None, data: str | None = None) -> "Fit":
    """A fit as it was saved. `law` is needed for one that is not in LAWS; `data` asks for a fit of exactly these rows.

    Raises P2Error when the file is none of ours, its law is unknown or has changed, or its engine or data are others.
    """
    from leaderboard.fitting.fit import Fit, Status

    words, arrays = _read(Path(path))
    if words["engine"] != ENGINE_VERSION:
        raise P2Error(f"{path}: was fitted by engine {words['engine']}, this one is {ENGINE_VERSION}; fit again.")
    if data is not None and words["data"] != data:
        raise P2Error(f"{path}: is a fit of the data {words['data'] or 'unknown'}, not of {data}; fit again.")
    law = _law(str(words["law"]), law, path)
    numbers: dict[str, Any] = dict(zip(NUMBERS, map(float, arrays["numbers"]), strict=True))
    params = dict(zip(words["parameters"], map(float, arrays["params"]), strict=True))
    if list(params) != [q.name for q in law.parameters] or not _agree(_probe(law, params), arrays["probe"]):
        raise P2Error(f"{path}: the law {law.name} has changed since this fit was saved; fit again.")
    return Fit(
        law=law,
        params=params,
        second=float(arrays["second"][0]) if len(arrays["second"]) else None,
        status=Status(words["status"]),
        notes=tuple(words["notes"]),
        **{name: words[name] for name in ("loss", "n_rows", "n_runs", "pinned")},
        **numbers,
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    if not path.is_file():
        raise P2Error(f"{path}: no such file; Fit.save writes one.")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("words", "params", "numbers", "second", "probe")}
        return json.loads(arrays.pop("words").tobytes()), arrays
    except (ValueError, KeyError, OSError, EOFError, BadZipFile, AttributeError) as error:
        raise P2Error(f"{path}: is not a saved fit, or is damaged; fit again and save it with Fit.save.") from error


def _law(name: str, given: Law | None, path: object) -> Law:
    if given is not None and given.name != name:
        raise P2Error(f"{path}: is a fit of the law {name!r}, not of {given.name!r}.")
    if given is None and name not in LAWS:
        raise P2Error(f"{path}: its law {name!r} is not registered; pass it: load_fit(path, law=load_law(...)).")
    return given or LAWS[name]


def _probe(law: Law, params: dict[str, float]) -> Array:
    """What the law predicts at fixed rows: the fingerprint of its formula."""
    return law.value(params, law.read(probe_rows()))


def _agree(now: Array, then: Array) -> bool:
    return now.shape == then.shape and np.allclose(now, then, rtol=SAME, atol=0, equal_nan=True)
