"""What a law's design can tell apart, against the ranks known for P² on ladders of sizes and rates."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from leaderboard import LAWS, Linear, Powers, fit
from leaderboard.fitting.identifiability import identify


def _ladder(sizes: list[float], rates: list[float]) -> pd.DataFrame:
    """One run a size and rate with losses of a P² law."""
    rows = [
        {"run_id": f"{n0:g}-{rate:g}", "base_model": f"{n0:g}", "n0": n0, "rate": rate, "l0": 3 - 0.2 * np.log10(n0)}
        | {"tokens": tokens, "l_pruned": 3.5 + rate, "n_pruned": n0 * (1 - rate)}
        for n0 in sizes
        for rate in rates
        for tokens in np.geomspace(1e7, 1e9, 20)
    ]
    frame = pd.DataFrame(rows)
    planted = {"alpha": 0.4, "beta": 0.3, "gamma": -1.5, "delta": 0.2, "N_C": 0.1, "D_C": 0.4, "E": 0.3}
    return frame.assign(loss=LAWS["p2"].value(planted, LAWS["p2"].read(frame)))


@pytest.mark.parametrize(
    ("sizes", "rates", "rank", "confounded"),
    [
        ([2e9, 4e9, 8e9], [0.15, 0.25, 0.35], 7, set()),
        ([2e9, 4e9], [0.15, 0.25, 0.35], 6, {"N_C", "E", "alpha"}),
        ([2e9], [0.15, 0.25, 0.35], 4, {"N_C", "E", "alpha", "delta", "D_C"}),
        ([2e9, 4e9, 8e9], [0.4], 6, {"gamma", "N_C", "D_C", "E"}),
    ],
    ids=["three sizes", "two sizes", "one size", "one rate"],
)
def test_p2_on_ladders(sizes, rates, rank, confounded):
    design = identify(LAWS["p2"], _ladder(sizes, rates))
    assert (design.rank, design.parameters) == (rank, 7)
    assert set(design.confounded) == confounded
    assert design.condition < 1e6  # what the pins leave free can be told


@pytest.mark.parametrize("law", LAWS.values(), ids=lambda law: law.name)
def test_the_pins_leave_every_law_solvable(law):
    for sizes in ([2e9], [2e9, 4e9], [2e9, 4e9, 8e9]):
        for rates in ([0.25], [0.15, 0.35]):
            runs = _ladder(sizes, rates)
            runs["base_tokens"] = runs["n0"] * 1e3
            design = identify(law, runs)
            assert design.condition < 1e8, (sizes, rates, design)


def test_pins_are_said_with_their_reason():
    fitted = fit(LAWS["p2"], _ladder([2e9, 4e9], [0.3]))
    assert fitted.params["gamma"] == 0
    assert "pinned:gamma" in fitted.notes
    assert fitted.pinned["gamma"] == "held at 0: needs 2 values of rate in any base model, has 1"
    assert set(fitted.pinned) == {"gamma", "alpha"}


def test_a_law_that_says_one_thing_twice_is_flat_by_name():
    p2 = LAWS["p2-no-nc"]
    powers = Powers(
        {"beta": ("tokens", -1), "gamma": ("rate", -1), "delta": ("n0", -1)},
        (("gamma", "delta", "beta"), ("gamma", "delta"), ("gamma", "delta")),
    )
    twice = replace(p2, linear=(*p2.linear, Linear("E2", 0)), basis=powers.basis, jacobian=powers.jacobian)
    frame = _ladder([2e9, 4e9, 8e9], [0.15, 0.35])
    assert identify(twice, frame).confounded == ("E", "E2")
    fitted = fit(twice, frame)
    assert fitted.status == "flat"
    assert np.isfinite(fitted.predict(frame)).all()
    np.testing.assert_allclose(fitted.predict(frame), fit(p2, frame).predict(frame), atol=1e-7)
