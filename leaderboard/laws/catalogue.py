"""The laws p2zoo fits and ranks, as data.

Units: parameters and tokens in billions, losses in nats per token, rates as shares of all parameters. "Reconstructed"
in a source means: written here from the paper's description, its own formula or numbers not being public.
"""

from dataclasses import replace

import numpy as np

from leaderboard.laws.law import Array, Inputs, Law, Linear, Mask, Nonlinear, Pin, Powers, no_offset


def _l0(x: Inputs) -> Array:
    return x["l0"]


def _damaged(x: Inputs) -> Mask:
    return (x["damage"] > 0) & (x["rate"] > 0) if "rate" in x else x["damage"] > 0


def _pruned(x: Inputs) -> Mask:
    return x["rate"] > 0


_ALPHA = Nonlinear("alpha", (0.01, 3), (0.1, 0.35, 0.8), Pin(0.35, "n0", 3))
_BETA = Nonlinear("beta", (0.01, 3), (0.1, 0.3, 0.6, 1.0))
_GAMMA = Nonlinear("gamma", (-8, 4), (-2.5, -1.2, -0.3), Pin(0, "rate", 2))
_DELTA = Nonlinear("delta", (-3, 4), (-0.3, 0.1, 0.5), Pin(0, "n0", 2))
_P2_EXPONENTS = {"alpha": ("n0", -1), "beta": ("tokens", -1), "gamma": ("rate", -1), "delta": ("n0", -1)}
_P2_LINEAR = {"N_C": Linear("N_C", 1, Pin(0, "n0", 2)), "D_C": Linear("D_C"), "E": Linear("E", 0)}
_P2_PAPER = "arXiv:2411.10272, P² Law; the excess grows with the rate, so gamma is negative"


def _p2(name: str, without: str, latex: str, source: str, nonlinear: tuple[Nonlinear, ...], n_c: bool = True) -> Law:
    """P² or what is left of it when an input is taken away."""
    kept = [q.name for q in nonlinear]
    shared = tuple(q for q in ("gamma", "delta") if q in kept)
    terms = {"N_C": (*shared, "alpha"), "D_C": (*shared, "beta"), "E": shared}
    if not n_c:
        del terms["N_C"]
    powers = Powers({q: _P2_EXPONENTS[q] for q in kept}, tuple(terms.values()))
    return Law(
        name=name,
        latex=latex,
        source=source,
        inputs=tuple(c for c in ("n0", "tokens", "rate", "l0") if c != without),
        linear=tuple(_P2_LINEAR[t] for t in terms),
        nonlinear=nonlinear,
        basis=powers.basis,
        jacobian=powers.jacobian,
        offset=no_offset if without == "l0" else _l0,
    )


P2 = _p2(
    "p2",
    "",
    r"L_0 + (1/\rho)^\gamma (1/N_0)^\delta (N_C/N_0^\alpha + D_C/D^\beta + E)",
    _P2_PAPER,
    (_ALPHA, _BETA, _GAMMA, _DELTA),
)
P2_NO_NC = _p2(
    "p2-no-nc",
    "",
    r"L_0 + (1/\rho)^\gamma (1/N_0)^\delta (D_C/D^\beta + E)",
    "ablation of P²: without the N_C term",
    (_BETA, _GAMMA, _DELTA),
    n_c=False,
)
P2_NO_N0 = _p2(
    "p2-no-n0",
    "n0",
    r"L_0 + (1/\rho)^\gamma (D_C/D^\beta + E)",
    "ablation of P²: without the size before pruning",
    (_BETA, _GAMMA),
    n_c=False,
)
P2_NO_RATE = _p2(
    "p2-no-rate",
    "rate",
    r"L_0 + (1/N_0)^\delta (N_C/N_0^\alpha + D_C/D^\beta + E)",
    "ablation of P²: without the pruning rate",
    (_ALPHA, _BETA, _DELTA),
)
P2_NO_L0 = _p2(
    "p2-no-l0",
    "l0",
    r"(1/\rho)^\gamma (1/N_0)^\delta (N_C/N_0^\alpha + D_C/D^\beta + E)",
    "ablation of P²: without the loss before pruning",
    (_ALPHA, _BETA, _GAMMA, _DELTA),
)


def without_tokens(law: Law) -> Law:
    """P² without the post-training tokens: curves are flat, at the level its other terms give."""
    kept = [q for q in law.nonlinear if q.name != "beta"]
    powers = Powers({q.name: _P2_EXPONENTS[q.name] for q in kept}, (("gamma", "delta", "alpha"), ("gamma", "delta")))
    return replace(
        law,
        name="p2-no-d",
        latex=r"L_0 + (1/\rho)^\gamma (1/N_0)^\delta (N_C/N_0^\alpha + E)",
        source="ablation of P²: without the post-training tokens",
        inputs=tuple(c for c in law.inputs if c != "tokens"),
        linear=tuple(q for q in law.linear if q.name != "D_C"),
        nonlinear=tuple(kept),
        basis=powers.basis,
        jacobian=powers.jacobian,
    )


_CHINCHILLA = Powers({"alpha": ("n_pruned", -1), "beta": ("tokens", -1)}, (("alpha",), ("beta",), ()))
CHINCHILLA = Law(
    name="chinchilla",
    latex=r"E + A/N^\alpha + B/D^\beta",
    source="arXiv:2203.15556, eq. 2; N = parameters kept",
    inputs=("n_pruned", "tokens"),
    linear=(Linear("A", 1, Pin(0, "n_pruned", 2)), Linear("B"), Linear("E")),
    nonlinear=(Nonlinear("alpha", (0.01, 3), (0.15, 0.35, 0.7), Pin(0.35, "n_pruned", 3)), _BETA),
    basis=_CHINCHILLA.basis,
    jacobian=_CHINCHILLA.jacobian,
)


def _kaplan_inner(theta: Array, x: Inputs) -> tuple[Array, Array]:
    alpha_n, alpha_d, ratio = theta
    size = np.exp(-alpha_n / alpha_d * x.log("n_pruned"))
    return size, size + ratio / x["tokens"]


def _kaplan(theta: Array, x: Inputs) -> Array:
    basis: Array = _kaplan_inner(theta, x)[1] ** theta[1]
    return basis[None]


def _kaplan_jacobian(theta: Array, x: Inputs) -> Array:
    alpha_n, alpha_d, _ = theta
    size, inner = _kaplan_inner(theta, x)
    slope, log_n = alpha_d * inner ** (alpha_d - 1), x.log("n_pruned")
    d_alpha_n = slope * size * -log_n / alpha_d
    d_alpha_d = inner**alpha_d * np.log(inner) + slope * size * log_n * alpha_n / alpha_d**2
    return np.stack([d_alpha_n, d_alpha_d, slope / x["tokens"]])[:, None]


KAPLAN = Law(
    name="kaplan",
    latex=r"s\,(N^{-\alpha_N/\alpha_D} + r/D)^{\alpha_D}",
    source="arXiv:2001.08361, eq. 1.5 with N_c = s^(1/alpha_N), D_c = r s^(1/alpha_D); N = parameters kept",
    inputs=("n_pruned", "tokens"),
    linear=(Linear("s"),),
    nonlinear=(
        Nonlinear("alpha_N", (1e-3, 2), (0.03, 0.08, 0.2), Pin(0.08, "n_pruned", 2)),
        Nonlinear("alpha_D", (1e-3, 2), (0.03, 0.1, 0.3)),
        Nonlinear("r", (0, 1e4), (0.001, 0.03, 1.0, 30.0)),
    ),
    basis=_kaplan,
    jacobian=_kaplan_jacobian,
)

_COMPRESSION = Powers(
    {"a": ("l0", 1), "b": ("one_plus_rate", 1), "c": ("one_plus_inverse_mega_tokens", 1)},
    (("a", "b", "c"),),
)
COMPRESSION = Law(
    name="compression",
    latex=r"L_0^a (1+\rho)^b \left(1 + 1/(D+1)\right)^c",
    source="arXiv:2504.04342v1 (Sengupta et al.), structured pruning and recovery fine-tuning; D in millions of tokens "
    "here, which the paper's 1 to 25 M tokens suggest and nothing we read states",
    inputs=("l0", "rate", "tokens"),
    linear=(Linear("scale", pin=Pin(1)),),
    nonlinear=(
        Nonlinear("a", (-5, 10), (0.6, 1.0, 1.5), Pin(1, "l0", 2)),
        Nonlinear("b", (-5, 20), (0.0, 0.8, 2.5), Pin(0, "rate", 2)),
        Nonlinear("c", (-1, 5), (0.02, 0.1, 0.4)),
    ),
    basis=_COMPRESSION.basis,
    jacobian=_COMPRESSION.jacobian,
)

_SPARSE = Powers(
    {"b_S": ("kept", 1), "b_N": ("n_pruned", -1), "b_D": ("tokens", -1)},
    (("b_S", "b_N"), ("b_N",), ("b_D",), ()),
)
SPARSE = Law(
    name="sparse",
    latex=r"(a_S (1-\rho)^{b_S} + c_S) N^{-b_N} + (a_D/D)^{b_D} + c",
    source="arXiv:2309.08520 (Frantar et al.), eq. 1, with A_D = a_D^b_D; N = non-zero parameters; made for training "
    "sparse from scratch",
    inputs=("rate", "n_pruned", "tokens"),
    linear=(Linear("a_S", 0, Pin(0, "rate", 2)), Linear("c_S", 1, Pin(0, "n_pruned", 2)), Linear("A_D"), Linear("c")),
    nonlinear=(
        Nonlinear("b_S", (-5, 5), (-1.0, 0.6, 2.0), Pin(1, "rate", 3)),
        Nonlinear("b_N", (0.01, 3), (0.1, 0.3, 0.8), Pin(0.3, "n_pruned", 3)),
        Nonlinear("b_D", (0.01, 3), (0.1, 0.3, 0.8)),
    ),
    basis=_SPARSE.basis,
    jacobian=_SPARSE.jacobian,
)

_FINE_TUNING = Powers({"alpha": ("n_pruned", -1), "beta": ("tokens", -1)}, (("alpha", "beta"), ()))
FINE_TUNING = Law(
    name="fine-tuning",
    latex=r"A\,N^{-\alpha} D^{-\beta} + E",
    source="arXiv:2402.17193 (Zhang et al.), eq. 1 with the size of the model as its X; N = parameters kept",
    inputs=("n_pruned", "tokens"),
    linear=(Linear("A"), Linear("E")),
    nonlinear=CHINCHILLA.nonlinear,
    basis=_FINE_TUNING.basis,
    jacobian=_FINE_TUNING.jacobian,
)

_PRUNING = Powers({"alpha": ("kept", -1)}, (("alpha",),), {0: "l0"})
PRUNING = Law(
    name="pruning",
    latex=r"L_0 (1-\rho)^{-\alpha} / P_0, \quad s = 1/P_0",
    source="arXiv:2504.04342v2 (Sengupta et al.): score = score_0 P_0 (1-r)^alpha, language modelling scored by "
    "1/ln(perplexity) = 1/L; no tokens in it, so its curves are flat",
    inputs=("l0", "rate"),
    linear=(Linear("s"),),
    nonlinear=(Nonlinear("alpha", (-5, 10), (0.1, 0.7, 2.4), Pin(0, "rate", 2)),),
    basis=_PRUNING.basis,
    jacobian=_PRUNING.jacobian,
)

_DAMAGE_EXPONENTS = {"k": ("damage", 1), "d": ("n0", -1), "b": ("tokens", -1)}
_DAMAGE = Powers(_DAMAGE_EXPONENTS, (("k", "d", "b"), ("k", "d")))
_DRIFT = Powers(_DAMAGE_EXPONENTS, (("k", "d", "b"), ("k", "d"), ()), {2: "log1p_mega_tokens"})
DAMAGE = Law(
    name="damage",
    latex=r"L_0 + \Delta^k N_0^{-d} (a\,D^{-b} + e), \quad \Delta = L_{pruned} - L_0",
    source="p2zoo: the measured damage in place of the rate",
    inputs=("l0", "l_pruned", "n0", "tokens"),
    linear=(Linear("a"), Linear("e", 0)),
    nonlinear=(
        Nonlinear("k", (-1, 4), (0.4, 0.8, 1.3), Pin(1, "damage", 2)),
        Nonlinear("d", (-3, 4), (-0.2, 0.0, 0.3), Pin(0, "n0", 2)),
        Nonlinear("b", (0.01, 3), (0.1, 0.3, 0.6, 1.0)),
    ),
    basis=_DAMAGE.basis,
    jacobian=_DAMAGE.jacobian,
    offset=_l0,
    domain=_damaged,
)
DAMAGE_DRIFT = replace(
    DAMAGE,
    name="damage-drift",
    latex=DAMAGE.latex.replace(r", \quad", r" + c \ln(1 + D/10^6), \quad"),
    source="p2zoo: damage law with the drift of a base model that is still improving (c is negative then)",
    linear=(*DAMAGE.linear, Linear("c", 0)),
    basis=_DRIFT.basis,
    jacobian=_DRIFT.jacobian,
    drift="c",
)
DAMAGE_POOLED = replace(
    DAMAGE, name="damage-pooled", source="p2zoo: one damage law for all families and methods on a text", pool=True
)
DAMAGE_DRIFT_POOLED = replace(
    DAMAGE_DRIFT,
    name="damage-drift-pooled",
    source="p2zoo: one damage law with drift for all families and methods on a text",
    pool=True,
)


def _rectified(theta: Array, x: Inputs) -> Array:
    k, d, beta, learned = theta
    front = np.exp(k * x.log("damage") - d * x.log("n0"))
    return np.stack([front / (learned + x["tokens"] ** beta), front])


def _rectified_jacobian(theta: Array, x: Inputs) -> Array:
    _, _, beta, learned = theta
    curve, level = _rectified(theta, x)
    power = x["tokens"] ** beta
    steeper = -curve / (learned + power)
    zero = np.zeros_like(curve)
    of_front = [np.stack([curve, level]) * v for v in (x.log("damage"), -x.log("n0"))]
    return np.stack([*of_front, np.stack([steeper * power * x.log("tokens"), zero]), np.stack([steeper, zero])])


RECTIFIED = replace(
    DAMAGE,
    name="rectified",
    latex=r"L_0 + \Delta^k N_0^{-d} (B/(D_l + D^\beta) + E), \quad \Delta = L_{pruned} - L_0",
    source="arXiv:2402.02314 (Lin et al.): B/(D_l + D^beta) + E for one model, here as the curve of the damage law",
    linear=(Linear("B"), Linear("E", 0)),
    nonlinear=(
        *DAMAGE.nonlinear[:2],
        Nonlinear("beta", (0.01, 3), (0.1, 0.3, 0.6, 1.0)),
        Nonlinear("D_l", (0, 100), (0.0, 0.02, 0.2), Pin(0, "tokens", 6)),
    ),
    basis=_rectified,
    jacobian=_rectified_jacobian,
)

_SATURATION = Powers(
    {
        "k": ("damage", 1),
        "d": ("n0", -1),
        "alpha_1": ("base_tokens", -1),
        "alpha_2": ("tokens", -1),
        "alpha_3": ("tokens_to_log_base", 1),
    },
    (("k", "d", "alpha_1", "alpha_2", "alpha_3"), ("k", "d")),
)
SATURATION = replace(
    DAMAGE,
    name="saturation",
    latex=r"L_0 + \Delta^k N_0^{-d} (A\,D_1^{-\alpha_1} D^{-\alpha_2 + \alpha_3 \ln D_1} + E), "
    r"\quad \Delta = L_{pruned} - L_0",
    source="arXiv:2510.06548 (Liew & Kato): A D_1^-a_1 D_2^(-a_2 + a_3 ln D_1) + E, here as the curve of the damage "
    "law; D_1 = tokens the base was trained on, in billions",
    inputs=("l0", "l_pruned", "n0", "tokens", "base_tokens"),
    linear=(Linear("A"), Linear("E", 0)),
    nonlinear=(
        *DAMAGE.nonlinear[:2],
        Nonlinear("alpha_1", (-3, 3), (-0.2, 0.0, 0.3), Pin(0, "base_tokens", 2)),
        Nonlinear("alpha_2", (0.01, 3), (0.1, 0.3, 0.6, 1.0)),
        Nonlinear("alpha_3", (-1, 1), (0.0, 0.02, 0.1), Pin(0, "base_tokens", 2)),
    ),
    basis=_SATURATION.basis,
    jacobian=_SATURATION.jacobian,
    varies=("base_tokens",),
)

_CAPACITY_EXPONENTS = {"g": ("capacity_loss", 1), "d": ("n0", -1), "b": ("tokens", -1)}
_G = Nonlinear("g", (-4, 8), (0.3, 0.7, 1.2), Pin(0, "rate", 2))
_D, _B = DAMAGE.nonlinear[1:]
_CAPACITY = Powers(_CAPACITY_EXPONENTS, (("g", "d", "b"), ("g", "d"), ()), {2: "drift"})
CAPACITY = Law(
    name="capacity",
    latex=r"L_0 + C^g N_0^{-d} (a_f D^{-b} + e) + c\,D/(D + 10^7), \quad C = (1-\rho)^{-2} - 1",
    source="p2zoo: the loss of capacity in place of the rate, and a bounded drift; one fit a method, an a each family",
    inputs=("l0", "rate", "n0", "tokens"),
    linear=DAMAGE_DRIFT.linear,
    nonlinear=(_G, _D, _B),
    basis=_CAPACITY.basis,
    jacobian=_CAPACITY.jacobian,
    offset=_l0,
    domain=_pruned,
    pool=True,
    within="method",
    own=("a",),
    drift="c",
)
_CAPACITY_DAMAGE = Powers(
    {"k": ("damage", 1), **_CAPACITY_EXPONENTS},
    (("k", "g", "d", "b"), ("k", "g", "d"), ()),
    {2: "drift"},
)
CAPACITY_DAMAGE = replace(
    CAPACITY,
    name="capacity-damage",
    latex=CAPACITY.latex.replace("C^g", r"\Delta^k C^g") + r",\ \Delta = L_{pruned} - L_0",
    source="p2zoo: capacity law times a power of the measured damage",
    inputs=("l0", "l_pruned", "rate", "n0", "tokens"),
    nonlinear=(DAMAGE.nonlinear[0], *CAPACITY.nonlinear),
    basis=_CAPACITY_DAMAGE.basis,
    jacobian=_CAPACITY_DAMAGE.jacobian,
    domain=_damaged,
)

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        P2,
        P2_NO_NC,
        P2_NO_N0,
        P2_NO_RATE,
        P2_NO_L0,
        CHINCHILLA,
        KAPLAN,
        COMPRESSION,
        PRUNING,
        FINE_TUNING,
        SPARSE,
        DAMAGE,
        DAMAGE_DRIFT,
        DAMAGE_POOLED,
        DAMAGE_DRIFT_POOLED,
        RECTIFIED,
        SATURATION,
        CAPACITY,
        CAPACITY_DAMAGE,
    )
}
