"""A law is a row of data: L = offset(x) + sum_k c_k basis_k(theta, x), linear in c once theta is given.

Inputs reach a law as arrays by name in the law's units: `n0`, `n_pruned`, `tokens` and `base_tokens` in billions,
`rate` as a share, `l0` and `damage` (= l_pruned - l0) in nats per token. The laws themselves stand in catalogue.py;
fitting is fit.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
Columns = pd.DataFrame | Mapping[str, Array]  # columns by name, all of one length
Mask = NDArray[np.bool_]
BILLION = 1e9
COUNTS = {"n0", "n_pruned", "tokens", "n0_nonembedding", "base_tokens"}  # columns that laws see in billions


class Inputs(dict[str, Array]):
    """A law's inputs by name, shape (n,) each; derived ones and logarithms are computed once, when asked for."""

    def __missing__(self, name: str) -> Array:
        if name not in DERIVED:
            raise KeyError(name)
        return self.setdefault(name, DERIVED[name](self))

    def log(self, name: str) -> Array:
        """Natural logarithm of an input."""
        return self.setdefault(f"log {name}", np.log(self[name]))

    def take(self, rows: NDArray[np.int64] | Mask) -> "Inputs":
        """The same inputs at some rows."""
        return Inputs({name: values[rows] for name, values in self.items()})

    @property
    def size(self) -> int:
        """How many rows."""
        return len(next(iter(self.values())))


DERIVED: dict[str, Callable[[Inputs], Array]] = {
    "kept": lambda x: 1 - x["rate"],
    "damage": lambda x: x["l_pruned"] - x["l0"],
    "capacity_loss": lambda x: (1 - x["rate"]) ** -2 - 1,
    "one_plus_rate": lambda x: 1 + x["rate"],
    "one_plus_inverse_mega_tokens": lambda x: 1 + 1 / (x["tokens"] * 1e3 + 1),
    "log1p_mega_tokens": lambda x: np.log1p(x["tokens"] * 1e3),
    "tokens_to_log_base": lambda x: x["tokens"] ** x.log("base_tokens"),  # its power a is D^(a ln D_1)
    "drift": lambda x: x["tokens"] / (x["tokens"] + 0.01),
}


@dataclass(frozen=True)
class Pin:
    """Hold a parameter at `value` where the fit has fewer than `levels` different values of the input `of`.

    Levels of `rate` and `damage` are counted within a base model: across base models they move together with the size.
    Without `of` the parameter is always held.
    """

    value: float
    of: str = ""
    levels: int = 0


@dataclass(frozen=True)
class Linear:
    """A coefficient that enters linearly. `sign` +1: >= 0, -1: <= 0, 0: free."""

    name: str
    sign: int = 1
    pin: Pin | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper bound that the sign means."""
        return (0.0 if self.sign > 0 else -np.inf, 0.0 if self.sign < 0 else np.inf)


@dataclass(frozen=True)
class Nonlinear:
    """A parameter inside the basis: bounds, and the start values the grid search tries."""

    name: str
    bounds: tuple[float, float]
    start: tuple[float, ...]
    pin: Pin | None = None


Basis = Callable[[Array, Inputs], Array]  # theta (p, *batch, 1), x of (n,) -> (k, *batch, n)
Jacobian = Callable[[Array, Inputs], Array]  # the same -> (p, k, *batch, n): d basis_k / d theta_p


def no_offset(x: Inputs) -> Array:
    """The offset of a law that has none."""
    return np.zeros(x.size)


def everywhere(x: Inputs) -> Mask:
    """The domain of a law that speaks about every row."""
    return np.ones(x.size, dtype=bool)


@dataclass(frozen=True)
class Law:
    """One parameterization of the loss after pruning and post-training.

    `inputs` are columns of the run log. Outside its `domain` a law predicts `offset`. A `pool`ed law is fitted over
    all families and methods that share a held-out text, or, with `within` "method", over the families of one method;
    every family then has its `own` linear terms of those names (pooled.py). `drift` names the linear term by which a
    base goes on improving without any pruning. `latex` and `source` are for people; a law
    written here from a description, not from its authors' own formula, says "reconstructed" in `source`.
    """

    name: str
    latex: str
    source: str
    inputs: tuple[str, ...]
    linear: tuple[Linear, ...]
    nonlinear: tuple[Nonlinear, ...]
    basis: Basis
    jacobian: Jacobian
    offset: Callable[[Inputs], Array] = no_offset
    domain: Callable[[Inputs], Mask] = everywhere
    pool: bool = False
    within: str = ""
    own: tuple[str, ...] = ()
    varies: tuple[str, ...] = ()
    drift: str = ""

    def testable(self, frame: Columns) -> bool:
        """Whether each input that `varies` is known in every row of run-log columns and takes two values or more."""
        varied = [pd.Series(frame[c]) if c in frame else pd.Series(dtype=float) for c in self.varies]
        return all(bool(values.notna().all()) and values.nunique() > 1 for values in varied)

    @property
    def parameters(self) -> tuple[Nonlinear | Linear, ...]:
        """All parameters, nonlinear before linear: the order of every parameter vector."""
        return (*self.nonlinear, *self.linear)

    def read(self, frame: Columns) -> Inputs:
        """The law's inputs from run-log columns, in the law's units. Raises KeyError on a missing column."""
        columns = {name: np.asarray(frame[name], dtype=float) for name in self.inputs}
        return Inputs({name: v / BILLION if name in COUNTS else v for name, v in columns.items()})

    def value(self, params: Mapping[str, float], x: Inputs) -> Array:
        """Loss in nats per token, shape (n,); NaN where the law is undefined."""
        theta = np.array([params[q.name] for q in self.nonlinear])[:, None]
        c = np.array([params[q.name] for q in self.linear])
        with np.errstate(all="ignore"):
            excess = c @ self.basis(theta, x)
            loss = self.offset(x) + np.where(self.domain(x), excess, 0.0)
        missing = np.isnan(np.stack([x[name] for name in self.inputs])).any(axis=0)
        return np.where(np.isfinite(loss) & ~missing, loss, np.nan)


@dataclass(frozen=True)
class Powers:
    """Basis terms that are products of powers: basis_k = factor_k * prod_p variable_p ** (sign_p theta_p).

    `exponents` gives every nonlinear parameter, in the law's order, the input it is the exponent of and a sign;
    `terms[k]` names the parameters in term k. `factors[k]`, where given, is an input that multiplies term k.
    """

    exponents: Mapping[str, tuple[str, int]]
    terms: tuple[tuple[str, ...], ...]
    factors: Mapping[int, str] = field(default_factory=dict)

    def basis(self, theta: Array, x: Inputs) -> Array:
        """Shape (k, *batch, n) for theta (p, *batch, 1)."""
        log_power = {
            name: sign * value * x.log(variable)
            for (name, (variable, sign)), value in zip(self.exponents.items(), theta, strict=True)
        }
        out = np.empty((len(self.terms), *theta.shape[1:-1], x.size))
        for k, term in enumerate(self.terms):
            out[k] = np.exp(sum((log_power[name] for name in term), np.zeros(())))
            if k in self.factors:
                out[k] *= x[self.factors[k]]
        return out

    def jacobian(self, theta: Array, x: Inputs) -> Array:
        """Shape (p, k, *batch, n)."""
        basis = self.basis(theta, x)
        out = np.zeros((len(self.exponents), *basis.shape))
        for p, (name, (variable, sign)) in enumerate(self.exponents.items()):
            for k, term in enumerate(self.terms):
                if name in term:
                    np.multiply(basis[k], sign * x.log(variable), out=out[p, k])
        return out
