"""Laws from a user's own module: `my_laws.py:MY_LAW`, checked before they are fitted.

A dozen lines make a law, with `Powers` for products of powers:

    from leaderboard import Law, Linear, Nonlinear, Powers

    powers = Powers({"b": ("tokens", -1), "g": ("rate", 1)}, (("g", "b"), ("g",)))
    MY_LAW = Law(
        name="my-law",
        latex=r"L_0 + \\rho^g (a D^{-b} + e)",
        source="mine",
        inputs=("l0", "rate", "tokens"),
        linear=(Linear("a"), Linear("e", 0)),
        nonlinear=(Nonlinear("b", (0.01, 3), (0.1, 0.5)), Nonlinear("g", (0, 5), (1.0, 2.0))),
        basis=powers.basis,
        jacobian=powers.jacobian,
        offset=lambda x: x["l0"],
    )

Such a module is run: load only files that you trust.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterable
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leaderboard.errors import P2Error, unknown_name
from leaderboard.laws.catalogue import LAWS
from leaderboard.laws.law import Array, Inputs, Law
from leaderboard.logs.contract import COLUMNS

NUMBERS = tuple(c.name for c in COLUMNS if c.kind in ("int", "float"))
STARTS = 64  # points of the start grid that are checked
STEP = 1e-5  # of a central difference, relative
AGREE = 1e-4


def find_law(name: str, where: str) -> Law:
    """A law by its name, or from a user's file as `FILE.py:NAME`."""
    if is_path(name):
        return load_law(name)
    if name not in LAWS:
        raise unknown_name("law", name, LAWS, where)
    return LAWS[name]


def choose_laws(names: Iterable[str], where: str) -> dict[str, Law]:
    """The laws to compare: names restrict to those, files add theirs; nothing given means all registered ones."""
    names = list(names)
    known = [name for name in names if not is_path(name)]
    chosen = {name: find_law(name, where) for name in known} if known else dict(LAWS)
    for law in (load_law(name) for name in names if is_path(name)):
        if law.name in chosen:
            raise P2Error(f"{where}: two laws are called {law.name!r}; give yours another name.")
        chosen[law.name] = law
    return chosen


def is_path(name: str) -> bool:
    """Whether this names a law in a file."""
    return ".py:" in name


def load_law(where: str) -> Law:
    """The law that `my_laws.py:MY_LAW` names. Raises P2Error saying what is wrong with the file or the law."""
    path, _, name = where.rpartition(":")
    if not path or not name:
        raise P2Error(f"law {where!r}: write it as FILE.py:NAME, e.g. my_laws.py:MY_LAW.")
    module = _run(Path(path))
    if not hasattr(module, name):
        raise unknown_name("law", name, [k for k, v in vars(module).items() if isinstance(v, Law)], path)
    law = getattr(module, name)
    if not isinstance(law, Law):
        raise P2Error(f"{where}: is a {type(law).__name__}; it must be a leaderboard.Law.")
    check_law(law, where)
    return law


def _run(path: Path) -> Any:
    """Execute a user's file as a module."""
    if not path.is_file():
        raise P2Error(f"law file {path}: no such file.")
    spec = importlib.util.spec_from_file_location(f"p2zoo_law_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise P2Error(f"law file {path}: is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    write, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's own code raises
        raise P2Error(f"law file {path}: {_words(error)}") from error
    finally:
        sys.dont_write_bytecode = write
    return module


def check_law(law: Law, where: str) -> None:
    """Raise P2Error unless the law can be evaluated and its derivatives agree with central differences."""
    names = [q.name for q in law.parameters]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise P2Error(f"{where}: the parameter name {twice[0]!r} is there twice; every parameter needs its own.")
    if not law.linear or not law.nonlinear:
        raise P2Error(
            f"{where}: needs a linear and a nonlinear parameter or more: offset + sum of coefficient x basis."
        )
    if empty := [q.name for q in law.nonlinear if not q.start]:
        raise P2Error(f"{where}: {empty[0]} has no start values; give a few inside its bounds.")
    for name in law.inputs:
        if name not in NUMBERS:
            raise unknown_name("input", name, NUMBERS, where)
    grid = np.array(list(islice(product(*(q.start for q in law.nonlinear)), STARTS)), dtype=float)
    theta = grid.T[:, :, None]
    x = law.read(probe_rows())
    with np.errstate(all="ignore"):
        _check_values(law, theta, x, where)
        _check_jacobian(law, theta, x, where)


def probe_rows() -> pd.DataFrame:
    """Rows over the usual ranges of every input, to try a law on."""
    n0, rate, tokens = (v.ravel() for v in np.meshgrid([5e6, 2e8, 8e9], [0.1, 0.25, 0.5], [1e6, 1e8, 1e10]))
    l0 = 2.0 + 0.1 * np.log(1e10 / n0)
    known = {"n0": n0, "rate": rate, "tokens": tokens, "l0": l0, "l_pruned": l0 + 4 * rate, "n_pruned": n0 * (1 - rate)}
    known |= {"n0_nonembedding": 0.8 * n0, "rate_nonembedding": 1.1 * rate}
    return pd.DataFrame(dict.fromkeys(NUMBERS, np.ones(len(n0))) | known)


def _check_values(law: Law, theta: Array, x: Inputs, where: str) -> None:
    """The basis has its shape, one start or many, and is finite somewhere."""
    batch, n = theta.shape[1], x.size
    basis = _called(law.basis, (theta, x), f"{where}: basis")
    _check_shape(basis, (len(law.linear), batch, n), f"{where}: basis", "theta (p, starts, 1)")
    _check_shape(
        _called(law.basis, (theta[:, 0], x), f"{where}: basis"), (len(law.linear), n), f"{where}: basis", "theta (p, 1)"
    )
    offset = _called(law.offset, (x,), f"{where}: offset")
    _check_shape(offset, (n,), f"{where}: offset", "inputs (n,)")
    _check_shape(_called(law.domain, (x,), f"{where}: domain"), (n,), f"{where}: domain", "inputs (n,)")
    if not (np.isfinite(basis).all(axis=0) & np.isfinite(offset)).any():
        raise P2Error(
            f"{where}: gives NaN or infinity everywhere on its start grid; check its formula and start values."
        )


def _check_jacobian(law: Law, theta: Array, x: Inputs, where: str) -> None:
    """Every derivative against a central difference, wherever both are finite."""
    jacobian = _called(law.jacobian, (theta, x), f"{where}: jacobian")
    shape = (len(law.nonlinear), len(law.linear), theta.shape[1], x.size)
    _check_shape(jacobian, shape, f"{where}: jacobian", "theta (p, starts, 1)")
    for p, q in enumerate(law.nonlinear):
        step = np.zeros_like(theta)
        step[p] = STEP * np.maximum(np.abs(theta[p]), 0.01)
        up, down = law.basis(theta + step, x), law.basis(theta - step, x)
        expected = (up - down) / (2 * step[p])
        noise = np.finfo(float).eps * (np.abs(up) + np.abs(down)) / step[p]
        off = np.abs(jacobian[p] - expected) - AGREE * np.abs(expected) - 100 * noise
        if (np.isfinite(expected) & ~np.isfinite(jacobian[p])).any():
            raise P2Error(f"{where}: the derivative by {q.name} is not finite where the law is.")
        if (off[np.isfinite(off)] > 0).any():
            at = np.unravel_index(np.nanargmax(off), off.shape)
            raise P2Error(
                f"{where}: the derivative of the {law.linear[at[0]].name} term by {q.name} is {jacobian[p][at]:.6g} "
                f"where central differences give {expected[at]:.6g}; correct the jacobian (Powers writes it for you)."
            )


def _called(function: Callable[..., Any], arguments: tuple[object, ...], what: str) -> Array:
    try:
        return np.asarray(function(*arguments))
    except KeyError as error:
        raise P2Error(f"{what} asks for the input {error}, which the law does not list in its inputs.") from error
    except Exception as error:  # whatever a user's own code raises
        raise P2Error(f"{what}: {_words(error)}") from error


def _check_shape(value: Array, shape: tuple[int, ...], what: str, given: str) -> None:
    if value.shape != shape:
        raise P2Error(f"{what} has the shape {value.shape}; for {given} it must be {shape}.")


def _words(error: Exception) -> str:
    line = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
    return f"{type(error).__name__}: {error}{line}"
