"""Every law: its formula written twice, its Jacobian against differences, planted parameters found again."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from leaderboard import LAWS, fit
from leaderboard.laws.law import BILLION

ALL = pytest.mark.parametrize("law", LAWS.values(), ids=lambda law: law.name)


def _damage(x, p):
    return x.l0 + (x.l_pruned - x.l0) ** p.k * x.n0**-p.d * (p.a * x.tokens**-p.b + p.e)


def _damage_drift(x, p):
    damage_term = (x.l_pruned - x.l0) ** p.k * x.n0**-p.d * (p.a * x.tokens**-p.b + p.e)
    return x.l0 + damage_term + p.c * np.log(1 + x.tokens * 1e9 / 1e6)


def _capacity(x, p, damage=1.0):
    lost = (1 / (1 - x.rate) ** 2 - 1) ** p.g * damage
    return x.l0 + lost * x.n0**-p.d * (p.a * x.tokens**-p.b + p.e) + p.c * x.tokens / (x.tokens + 1e7 / 1e9)


def _rectified(x, p):
    return x.l0 + (x.l_pruned - x.l0) ** p.k * x.n0**-p.d * (p.B / (p.D_l + x.tokens**p.beta) + p.E)


def _saturation(x, p):
    curve = p.A * x.base_tokens**-p.alpha_1 * x.tokens ** (-p.alpha_2 + p.alpha_3 * np.log(x.base_tokens)) + p.E
    return x.l0 + (x.l_pruned - x.l0) ** p.k * x.n0**-p.d * curve


# Written from the formulas, in billions and nats, without a look at the package's own arithmetic.
FORMULAS: dict[str, Callable[[SimpleNamespace, SimpleNamespace], np.ndarray]] = {
    "p2": lambda x, p: (
        x.l0
        + (1 / x.rate) ** p.gamma * (1 / x.n0) ** p.delta * (p.N_C / x.n0**p.alpha + p.D_C / x.tokens**p.beta + p.E)
    ),
    "p2-no-nc": lambda x, p: x.l0 + (1 / x.rate) ** p.gamma * (1 / x.n0) ** p.delta * (p.D_C / x.tokens**p.beta + p.E),
    "p2-no-n0": lambda x, p: x.l0 + (1 / x.rate) ** p.gamma * (p.D_C / x.tokens**p.beta + p.E),
    "p2-no-rate": lambda x, p: x.l0 + (1 / x.n0) ** p.delta * (p.N_C / x.n0**p.alpha + p.D_C / x.tokens**p.beta + p.E),
    "p2-no-l0": lambda x, p: (
        (1 / x.rate) ** p.gamma * (1 / x.n0) ** p.delta * (p.N_C / x.n0**p.alpha + p.D_C / x.tokens**p.beta + p.E)
    ),
    "chinchilla": lambda x, p: p.E + p.A / x.n_pruned**p.alpha + p.B / x.tokens**p.beta,
    "kaplan": lambda x, p: p.s * (x.n_pruned ** (-p.alpha_N / p.alpha_D) + p.r / x.tokens) ** p.alpha_D,
    "compression": lambda x, p: x.l0**p.a * (1 + x.rate) ** p.b * (1 + 1 / (1000 * x.tokens + 1)) ** p.c,
    "pruning": lambda x, p: x.l0 * (1 - x.rate) ** -p.alpha * p.s,
    "fine-tuning": lambda x, p: p.A * x.n_pruned**-p.alpha * x.tokens**-p.beta + p.E,
    "sparse": lambda x, p: (p.a_S * (1 - x.rate) ** p.b_S + p.c_S) * x.n_pruned**-p.b_N + p.A_D / x.tokens**p.b_D + p.c,
    "damage": _damage,
    "damage-drift": _damage_drift,
    "damage-pooled": _damage,
    "damage-drift-pooled": _damage_drift,
    "rectified": _rectified,
    "saturation": _saturation,
    "capacity": _capacity,
    "capacity-damage": lambda x, p: _capacity(x, p, (x.l_pruned - x.l0) ** p.k),
}
_P2 = {"alpha": 0.45, "beta": 0.4, "gamma": -1.4, "delta": 0.15, "N_C": 0.6, "D_C": 0.9, "E": 0.2}
_DAMAGE = {"k": 0.9, "d": 0.1, "b": 0.35, "a": 0.25, "e": 0.1}


def _without(*names: str) -> dict[str, float]:
    return {k: v for k, v in _P2.items() if k not in names}


PLANTED = {
    "p2": _P2,
    "p2-no-nc": _without("N_C", "alpha"),
    "p2-no-n0": _without("N_C", "alpha", "delta"),
    "p2-no-rate": _without("gamma"),
    "p2-no-l0": _P2,
    "chinchilla": {"alpha": 0.34, "beta": 0.4, "A": 0.5, "B": 0.7, "E": 1.7},
    "kaplan": {"alpha_N": 0.08, "alpha_D": 0.1, "r": 0.4, "s": 2.6},
    "compression": {"a": 1.1, "b": 0.7, "c": 0.2, "scale": 1.0},
    "pruning": {"alpha": 0.7, "s": 1.1},
    "fine-tuning": {"alpha": 0.2, "beta": 0.3, "A": 0.6, "E": 1.9},
    "sparse": {"b_S": 0.7, "b_N": 0.25, "b_D": 0.4, "a_S": 0.8, "c_S": 0.3, "A_D": 0.5, "c": 1.2},
    "damage": _DAMAGE,
    "damage-drift": _DAMAGE | {"c": -0.02},
    "damage-pooled": _DAMAGE,
    "damage-drift-pooled": _DAMAGE | {"c": -0.02},
    "rectified": {"k": 0.9, "d": 0.1, "beta": 0.5, "D_l": 0.2, "B": 0.4, "E": 0.1},
    "saturation": {"k": 0.9, "d": 0.1, "alpha_1": 0.1, "alpha_2": 0.4, "alpha_3": 0.03, "A": 0.5, "E": 0.1},
    "capacity": {"g": 1.1, "d": 0.1, "b": 0.35, "a": 0.25, "e": 0.1, "c": -0.02},
    "capacity-damage": _DAMAGE | {"g": 0.6, "c": -0.02},
}


@pytest.fixture(scope="module")
def design() -> pd.DataFrame:
    """Five sizes by four rates by sixteen token counts, losses and damages that do not follow from the size alone."""
    random = np.random.default_rng(20)
    runs = [(n0, rate) for n0 in (0.1e9, 0.5e9, 1e9, 3e9, 8e9) for rate in (0.1, 0.2, 0.35, 0.5)]
    tokens = np.geomspace(5e6, 5e9, 16).round()
    parts = []
    for number, (n0, rate) in enumerate(runs):
        l0 = 3.2 - 0.15 * np.log(n0 / 1e9) + random.uniform(-0.2, 0.2)
        run = {"run_id": f"run-{number}", "base_model": f"base-{n0:g}", "n0": n0, "rate": rate}
        run["base_tokens"] = (6e7, 3e11, 4e12)[number % 3]
        run |= {"n_pruned": n0 * (1 - rate), "l0": l0, "l_pruned": l0 + random.uniform(0.1, 2.5)}
        parts.append(pd.DataFrame({"tokens": tokens, **run}))
    return pd.concat(parts, ignore_index=True)


def _planted(law, frame: pd.DataFrame) -> np.ndarray:
    """Losses by the formula above, from counts."""
    in_billions = frame.assign(**{c: frame[c] / 1e9 for c in ("n0", "n_pruned", "tokens", "base_tokens")})
    x = SimpleNamespace(**{c: in_billions[c].to_numpy() for c in in_billions})
    return FORMULAS[law.name](x, SimpleNamespace(**PLANTED[law.name]))


def test_every_law_is_written_twice():
    assert set(FORMULAS) == set(PLANTED) == set(LAWS)
    assert all(set(PLANTED[name]) == {q.name for q in law.parameters} for name, law in LAWS.items())


@ALL
def test_a_law_says_what_it_is(law):
    assert law.latex
    assert law.source
    assert law.inputs
    assert law.pool == (law.name.startswith("capacity") or law.name.endswith("-pooled"))
    assert set(law.own) <= {q.name for q in law.linear}
    for q in law.nonlinear:
        low, high = q.bounds
        assert low <= min(q.start) <= max(q.start) <= high


def test_a_curve_put_into_another_law_says_so():
    assert [law.name for law in LAWS.values() if "here as the curve" in law.source] == ["rectified", "saturation"]


@ALL
def test_values_are_those_of_the_formula(law, design):
    np.testing.assert_allclose(law.value(PLANTED[law.name], law.read(design)), _planted(law, design), rtol=1e-12)


@ALL
def test_shapes_with_and_without_a_batch(law, design):
    x, k, p, n = law.read(design), len(law.linear), len(law.nonlinear), len(design)
    starts = np.array([[q.start[0], q.start[-1], np.mean(q.start)] for q in law.nonlinear])
    assert law.basis(starts[:, :1], x).shape == (k, n)
    assert law.jacobian(starts[:, :1], x).shape == (p, k, n)
    batch = law.basis(starts[:, :, None], x)
    assert batch.shape == (k, 3, n)
    assert law.jacobian(starts[:, :, None], x).shape == (p, k, 3, n)
    for i in range(3):
        np.testing.assert_allclose(batch[:, i], law.basis(starts[:, i, None], x), rtol=1e-12)


@ALL
def test_the_jacobian_matches_central_differences(law, design):
    x = law.read(design)
    theta = np.array([[PLANTED[law.name][q.name]] for q in law.nonlinear])
    analytic = law.jacobian(theta, x)
    for i, q in enumerate(law.nonlinear):
        step = np.zeros_like(theta)
        step[i] = 1e-5 * max(1.0, abs(theta[i, 0]))
        numeric = (law.basis(theta + step, x) - law.basis(theta - step, x)) / (2 * step[i])
        np.testing.assert_allclose(analytic[i], numeric, rtol=1e-6, atol=1e-8, err_msg=q.name)


@ALL
def test_planted_parameters_are_found_again(law, design):
    frame = design.assign(loss=_planted(law, design))
    found = fit(law, frame)
    assert found.pinned == {}
    np.testing.assert_allclose(found.predict(design), frame["loss"], rtol=0, atol=1e-6)
    for name, value in PLANTED[law.name].items():
        assert found.params[name] == pytest.approx(value, rel=1e-4), name


@ALL
def test_a_law_is_undefined_at_tokens_0_unless_it_does_not_mind(law, design):
    value = law.value(PLANTED[law.name], law.read(design.assign(tokens=0.0)))
    minds = law.name not in ("compression", "pruning", "rectified")  # D + 1, no D, D_l + D^beta
    assert np.isnan(value).all() if minds else np.isfinite(value).all()


@pytest.mark.parametrize("name", [n for n in LAWS if n.startswith("damage")])
def test_a_run_without_damage_is_predicted_as_l0(name, design):
    law = LAWS[name]
    frame = design.assign(l_pruned=np.where(design["rate"] < 0.15, design["l0"] - 0.01, design["l_pruned"]))
    x, undamaged = law.read(frame), (design["rate"] < 0.15).to_numpy()
    value = law.value(PLANTED[name], x)
    np.testing.assert_array_equal(value[undamaged], design["l0"][undamaged])
    assert np.isfinite(value).all()
    found = fit(law, frame.assign(loss=np.where(undamaged, 99.0, value)))
    assert found.n_runs == 15
    assert found.rmse < 1e-6


def test_counts_are_read_in_billions(design):
    x = LAWS["p2"].read(design)
    np.testing.assert_allclose(x["n0"], design["n0"] / BILLION)
    np.testing.assert_allclose(x["tokens"], design["tokens"] / 1e9)
    np.testing.assert_array_equal(x["rate"], design["rate"])
