"""What is told about a run that is unlike those beside it: each rule on a run of the seed with one thing changed."""

import numpy as np
import pandas as pd
import pytest

from leaderboard.logs.contract import IMPORTED
from leaderboard.ranking.neighbours import unusual
from leaderboard.shapes import bundled_config, layer_parameters, parameters, shape_of

BASE = "meta-llama/Llama-3.2-1B"
SHAPE = shape_of(bundled_config(BASE))
N0, LAYER = parameters(SHAPE), layer_parameters(SHAPE)


@pytest.fixture(scope="module")
def frame(seed):
    """The seed's runs with texts as texts, so that any may be changed."""
    return seed.astype(dict.fromkeys(seed.select_dtypes("category"), object))


def codes(frame, change, copy=False):
    """Codes of what is unusual about one depth run of the seed, or a copy of it, once changed; none of another run."""
    run = frame.loc[(frame["method"] == "depth").to_numpy(), "run_id"].iloc[0]
    own = frame[frame["run_id"] == run].copy()
    rest = frame if copy else frame[frame["run_id"] != run]
    own["run_id"] = "new" if copy else run
    own = change(own)
    rows = pd.concat([rest, own], ignore_index=True)
    told = list(unusual(rows, np.arange(len(rows)) >= len(rest)))
    assert {run_id for (_, _, run_id), _ in told} <= set(own["run_id"])
    return {finding.code for _, finding in told}


def test_a_run_of_the_seed_is_like_the_others(frame):
    assert codes(frame, lambda own: own) == set()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda own: own.assign(l0=5e-324), "l0_low"),
        (lambda own: own.assign(l0=own["l0"] - 1), "l0_differs"),
        (lambda own: own.assign(l0=own["l0"] / np.log(2)), "l0_differs"),
        (lambda own: own.assign(base_model="another", l0=own["l0"] + 2), "l0_far"),
        (lambda own: own.assign(n0=own["n0"] + 1), "n0_differs"),
        (lambda own: own.assign(family="aaa"), "family_differs"),
        (lambda own: own.assign(vocab_size=32_000), "vocab_differs"),
        (lambda own: own.assign(batch_tokens=32), "batch_below_sequence"),
        (lambda own: own.assign(rate=0.999), "rate_far"),
        (lambda own: own.assign(rate=0.7), "rate_far"),
        (lambda own: own.assign(n0=own["n0"] * 100, base_model="another"), "size_far"),
        (lambda own: own.assign(tokens=own["tokens"] * 1000), "tokens_far"),
        (lambda own: own.assign(loss=own["l_pruned"]), "flat"),
        (lambda own: own.assign(loss=own["loss"] + np.linspace(0, 1, len(own))), "climbs"),
        (lambda own: pd.concat([own] * 100).assign(tokens=np.arange(100 * len(own)) * 1000), "rows_far"),
    ],
)
def test_what_is_unlike_its_neighbours_is_told(frame, change, code):
    assert code in codes(frame, change)


def test_bits_are_named(frame):
    first = frame[(frame["method"] == "depth").to_numpy()]["run_id"].iloc[0]
    own = frame["run_id"] == first
    rows = pd.concat([frame[~own], frame[own].assign(l0=lambda r: r["l0"] / np.log(2))], ignore_index=True)
    new = np.arange(len(rows)) >= int((~own).sum())
    (finding,) = [f for _, f in unusual(rows, new) if f.code == "l0_differs"]
    assert "bits" in finding.fix


@pytest.mark.parametrize("other", [lambda loss: loss + 0.3, lambda loss: loss + 1e-5 * np.sin(np.arange(len(loss)))])
def test_a_copy_but_for_a_constant_or_a_little_noise_is_told(frame, other):
    assert "near_copy" in codes(frame, lambda own: own.assign(loss=other(own["loss"])), copy=True)


@pytest.mark.parametrize(
    ("removed", "provenance", "code"),
    [
        (4 * LAYER, "p2zoo", False),
        (4 * LAYER + 1, "p2zoo", True),
        (round(4.3 * LAYER), IMPORTED, False),  # whose rate a person told, in per cent
        (round(N0 * 0.999), IMPORTED, True),
    ],
)
def test_depth_leaves_a_known_base_less_whole_layers(frame, removed, provenance, code):
    known = {"base_model": BASE, "n0": N0, "n_pruned": N0 - removed, "provenance": provenance}
    assert ("n_pruned_differs" in codes(frame, lambda own: own.assign(**known))) == code


def test_the_size_of_a_known_base_is_known(frame):
    assert "n0_differs" in codes(frame, lambda own: own.assign(base_model=BASE, n0=N0 - 5))
