"""What answers are made from: runs weigh alike, contributors are bounded, runs no law expects are out."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import LAWS, fit
from leaderboard.fitting.robust import CLIMB, climbed, trusted
from leaderboard.logs.contract import curve_numbers, usable

DEPTH = {"family": "llama-3", "method": "depth"}


@pytest.fixture(scope="module")
def rows(seed):
    """Usable rows of the seed's runs by depth."""
    depth = usable(seed)
    return depth[(depth["method"] == "depth").to_numpy()].astype({"run_id": str, "contributor": str, "family": str})


def run_like(rows, name, change, contributor="eve", rate=0.168714, n0=12_900_608):
    """A run's rows under another name, changed."""
    own = rows[(rows["n0"] == n0) & (abs(rows["rate"] - rate) < 1e-4)]
    own = own[own["run_id"] == own["run_id"].iloc[0]].assign(run_id=name, contributor=contributor)
    return change(own)


def rising(own):
    return own.assign(loss=own["l_pruned"] + np.linspace(0, 1.5, len(own)))


def restarted(own):
    half = len(own) // 2
    return own.assign(loss=np.r_[own["loss"][:half], own["loss"][: len(own) - half] + 0.2])


BAD = {
    "climbs": rising,
    "restarts": restarted,
    "nats off": lambda own: own.assign(loss=own["loss"] + 0.15),
    "too good": lambda own: own.assign(loss=own["loss"] - 0.15),
    "three nats off": lambda own: own.assign(loss=own["loss"] - 2),
    "flat": lambda own: own.assign(loss=own["l_pruned"]),
    "rate near one": lambda own: own.assign(rate=1 - 1e-7, n_pruned=1),
    "new family": lambda own: rising(own).assign(family="aaa"),
    "rate": lambda own: own.assign(rate=0.7, n_pruned=0.3 * own["n0"]),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_run_is_discounted_and_named(rows, kind):
    bad = run_like(rows, "b" * 16, BAD[kind])
    judged = trusted(pd.concat([rows, bad], ignore_index=True))
    assert [doubt.run_id for doubt in judged.doubts] == ["b" * 16]
    assert set(judged.rows["run_id"]) == set(rows["run_id"])
    (said,) = judged.words
    assert said.startswith("1 run discounted: eve/bbbbbbbbbbbbbbbb, ")


def test_the_seed_is_believed(seed):
    judged = trusted(usable(seed))
    assert judged.words == ()
    assert "weight" not in judged.rows
    assert climbed(seed, curve_numbers(seed)).max() < CLIMB / 4


def test_a_tenth_of_a_methods_runs_may_be_bad(rows):
    bad = [run_like(rows, f"{i:016x}", lambda own: own.assign(loss=own["loss"] + 0.2)) for i in range(2)]
    judged = trusted(pd.concat([rows, *bad], ignore_index=True))
    assert {doubt.run_id for doubt in judged.doubts} == {f"{i:016x}" for i in range(2)}


def test_a_run_weighs_as_one_whatever_its_rows(rows):
    """Sixteen times the rows of one run move a fit no further than its own do."""

    def lower(own):
        return own.assign(loss=own["loss"] - 0.02)

    def many(own):
        at = np.geomspace(own["tokens"].min(), own["tokens"].max(), 16 * len(own))
        low = lower(own)
        return low.iloc[np.zeros(len(at), dtype=int)].assign(tokens=at, loss=np.interp(at, own["tokens"], low["loss"]))

    few, lots = (
        trusted(pd.concat([rows, run_like(rows, "c" * 16, make)], ignore_index=True)) for make in (lower, many)
    )
    weight = lots.rows.groupby("run_id")["weight"].sum().to_numpy()
    assert weight == pytest.approx(np.full(len(weight), weight[0]))
    one, other, plain = (fit(LAWS["damage"], part).predict(rows) for part in (few.rows, lots.rows, rows))
    assert abs(one - plain).max() > 1e-4
    assert abs(other - plain).max() < 1.25 * abs(one - plain).max()


def test_weights_of_one_change_no_fit(rows):
    alone, weighed = fit(LAWS["damage"], rows), fit(LAWS["damage"], rows.assign(weight=3.0))
    assert weighed.params == pytest.approx(alone.params, rel=1e-6)
    assert weighed.rmse == pytest.approx(alone.rmse, rel=1e-6)
    names = rows["run_id"].unique()
    twice = pd.concat([rows, rows[rows["run_id"] == names[0]].assign(run_id="twin")], ignore_index=True)
    doubled = rows.assign(weight=np.where(rows["run_id"] == names[0], 2.0, 1.0))
    assert fit(LAWS["damage"], doubled).params == pytest.approx(fit(LAWS["damage"], twice).params, rel=1e-5)


def test_a_contributor_is_lowered_to_a_third_and_the_owner_is_not(rows):
    noise = np.random.default_rng(0).normal(0, 0.005, 12)
    many = [
        run_like(rows, f"{i:016x}", lambda own, by=by: own.assign(loss=own["loss"] + by), "mallory")
        for i, by in enumerate(noise)
    ]
    frame = pd.concat([rows, *many], ignore_index=True)
    judged = trusted(frame)
    group = judged.rows[(judged.rows["family"] == "llama-3")].drop_duplicates(["contributor", "run_id"])
    share = group.groupby("contributor")["weight"].sum() / group["weight"].sum()
    assert share["mallory"] == pytest.approx(1 / 3)
    assert group.loc[group["contributor"] == "p2lab", "weight"].max() == 1
    assert "runs of mallory are lowered to 0.42" in " ".join(judged.words)
    frame.attrs["owner"] = "mallory"
    assert trusted(frame).words == ()
