"""A fitted law: its numbers, how far they can be trusted, and how it is kept on disk.

A saved fit is one .npz holding JSON text and the numbers, no pickle; what comes back predicts bit for bit the same. The
file knows the hash of the data it was fitted to, the engine that made it and what its law predicts at fixed rows, so
that a fit of other data, of an older engine or of a law that has changed since is refused.
"""

import json
import os
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from leaderboard.errors import FitError, P2Error
from leaderboard.files import whole_file
from leaderboard.laws.catalogue import LAWS
from leaderboard.laws.law import Array, Columns, Law
from leaderboard.laws.user import probe_rows

ENGINE_VERSION = 1  # raised whenever the same data would give another fit
SAME = 1e-9  # relative: the arithmetic of another machine may differ in the last digits
NUMBERS = ("objective", "delta", "rmse", "gradient", "condition")


class Status(StrEnum):
    """How a fit ended. All but `not_converged` are optima."""

    OK = "ok"
    AT_BOUND = "at_bound"  # a parameter ended at its bound: the optimum may lie outside
    FLAT = "flat"  # some parameters trade against each other; predictions inside the data hold
    NOT_CONVERGED = "not_converged"  # the best point seen


@dataclass(frozen=True)
class Fit:
    """A fitted law. `pinned` says which parameters were held and why; `notes` are codes for programs."""

    law: Law
    params: dict[str, float]
    objective: float
    status: Status
    loss: str
    delta: float
    rmse: float  # nats per token over the fitted rows
    gradient: float  # largest entry of the scaled gradient at the end
    condition: float  # of the scaled Jacobian at the end
    n_rows: int
    n_runs: int
    pinned: dict[str, str]
    notes: tuple[str, ...]
    second: float | None  # objective of the next best basin that was found

    @property
    def held_words(self) -> str:
        """Which parameters these runs could not fix, what each says, and why it was held; empty where none was."""
        of = {q.name: q.pin.of for q in self.law.parameters if q.pin}
        return "; ".join(f"{name}, how the loss depends on {of[name]}, {why}" for name, why in self.pinned.items())

    def predict(self, frame: Columns) -> Array:
        """Loss in nats per token, shape (n,), from the law's input columns; NaN where the law is undefined."""
        require_inputs(self.law, frame)
        return self.law.value(self.params, self.law.read(frame))

    def save(self, path: str | os.PathLike[str], data: str = "") -> Path:
        """Write this fit to one .npz file; `data` is the hash of its rows (`Logs.revision`)."""
        return save_fit(self, path, data)

    @staticmethod
    def load(path: str | os.PathLike[str], law: Law | None = None, data: str | None = None) -> "Fit":
        """A fit as it was saved, bit for bit; `law` for one that is not registered, `data` to insist on these rows."""
        return load_fit(path, law, data)


def require_inputs(law: Law, frame: Columns, also: tuple[str, ...] = ()) -> None:
    """Raise FitError unless `frame` has the law's input columns and `also` these."""
    missing = [c for c in (*law.inputs, *also) if c not in frame]
    if missing:
        raise FitError("missing_column", f"{law.name}: needs the columns {', '.join(missing)}; got {list(frame)}.")


def save_fit(fit: Fit, path: str | os.PathLike[str], data: str = "") -> Path:
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


def load_fit(path: str | os.PathLike[str], law: Law | None = None, data: str | None = None) -> Fit:
    """A fit as it was saved. `law` is needed for one that is not in LAWS; `data` asks for a fit of exactly these rows.

    Raises P2Error when the file is none of ours, its law is unknown or has changed, or its engine or data are others.
    """
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
