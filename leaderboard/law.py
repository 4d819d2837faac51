"""A law is a row of data: L = offset(x) + sum_k c_k basis_k(theta, x), linear in c once theta is given.

Inputs reach a law as arrays by name in the law's units: `n0`, `n_pruned` and `tokens` in billions, `rate` as a share,
`l0` and `damage` (= l_pruned - l0) in nats per token. The laws themselves stand in laws.py; fitting is fit.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
Inputs = Mapping[str, Array]
BILLION = 1e9
COUNTS = {"n0", "n_pruned", "tokens", "n0_nonembedding"}  # columns that laws see in billions


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


def zero(x: Inputs) -> Array:
    """The offset of a law that has none."""
    return np.zeros_like(next(iter(x.values())))


def everywhere(x: Inputs) -> NDArray[np.bool_]:
    """The domain of a law that speaks about every row."""
    return np.ones_like(next(iter(x.values())), dtype=bool)


@dataclass(frozen=True)
class Law:
    """One parameterization of the loss after pruning and post-training.

    `inputs` are columns of the run log. Outside its `domain` a law predicts `offset`. A `pool`ed law is fitted over
    all families and methods that share a held-out text. `latex` and `source` are for people; a law written here
    from a description, not from its authors' own formula, says "reconstructed" in `source`.
    """

    name: str
    latex: str
    source: str
    inputs: tuple[str, ...]
    linear: tuple[Linear, ...]
    nonlinear: tuple[Nonlinear, ...]
    basis: Basis
    jacobian: Jacobian
    offset: Callable[[Inputs], Array] = zero
    domain: Callable[[Inputs], NDArray[np.bool_]] = everywhere
    pool: bool = False

    @property
    def parameters(self) -> tuple[Nonlinear | Linear, ...]:
        """All parameters, nonlinear before linear: the order of every parameter vector."""
        return (*self.nonlinear, *self.linear)

    def read(self, frame: pd.DataFrame) -> dict[str, Array]:
        """The law's inputs from run-log columns, in the law's units. Raises KeyError on a missing column."""
        columns = {name: frame[name].to_numpy(dtype=float) for name in self.inputs}
        x = {name: v / BILLION if name in COUNTS else v for name, v in columns.items()}
        if "l_pruned" in x:
            x["damage"] = x.pop("l_pruned") - x["l0"]
        return x

    def value(self, params: Mapping[str, float], x: Inputs) -> Array:
        """Loss in nats per token, shape (n,); NaN where the law is undefined."""
        theta = np.array([params[q.name] for q in self.nonlinear])[:, None]
        c = np.array([params[q.name] for q in self.linear])
        with np.errstate(all="ignore"):
            excess = c @ self.basis(theta, x)
            loss = self.offset(x) + np.where(self.domain(x), excess, 0.0)
        return np.where(np.isfinite(loss), loss, np.nan)


@dataclass(frozen=True)
class Powers:
    """Basis terms that are products of powers: basis_k = factor_k(x) * prod_p variable_p(x) ** (sign_p theta_p).

    `exponents` gives every nonlinear parameter, in the law's order, its variable and sign; `terms[k]` names those in
    term k. `factors[k]`, where given, multiplies term k and has no parameter.
    """

    exponents: Mapping[str, tuple[Callable[[Inputs], Array], int]]
    terms: tuple[tuple[str, ...], ...]
    factors: Mapping[int, Callable[[Inputs], Array]] = field(default_factory=dict)

    def _logs(self, x: Inputs) -> Array:
        """d ln basis_k / d theta_p, shape (p, k, n)."""
        n = len(next(iter(x.values())))
        logs = np.zeros((len(self.exponents), len(self.terms), n))
        for p, (name, (variable, sign)) in enumerate(self.exponents.items()):
            logs[p, [name in term for term in self.terms]] = sign * np.log(variable(x))
        return logs

    def _basis(self, logs: Array, theta: Array, x: Inputs) -> Array:
        batch = theta.shape[1:-1]
        p, k, n = logs.shape
        terms = np.exp(np.einsum("pb,pkn->kbn", theta.reshape(p, -1), logs)).reshape(k, *batch, n)
        for index, factor in self.factors.items():
            terms[index] *= factor(x)
        return terms

    def basis(self, theta: Array, x: Inputs) -> Array:
        """Shape (k, *batch, n) for theta (p, *batch, 1)."""
        return self._basis(self._logs(x), theta, x)

    def jacobian(self, theta: Array, x: Inputs) -> Array:
        """Shape (p, k, *batch, n)."""
        logs = self._logs(x)
        terms = self._basis(logs, theta, x)
        return logs.reshape(*logs.shape[:2], *(1,) * (terms.ndim - 2), -1) * terms
