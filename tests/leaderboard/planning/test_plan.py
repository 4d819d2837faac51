"""The planner: every candidate is what it says, pruned and unpruned ones compete, and a guess is called one."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from leaderboard import LAWS, P2Error, recommended_fit
from leaderboard.logs.contract import usable
from leaderboard.planning.bases import BASES, Base
from leaderboard.planning.plan import COLUMNS, plan

P2 = LAWS["p2"]


@pytest.fixture(scope="module")
def table(seed):
    """What to deploy at 25 M parameters after 10 M tokens."""
    return plan(seed, deployed=25e6, tokens=10e6, law=P2)


def test_every_way_to_the_size_is_there(table):
    assert list(table.columns) == list(COLUMNS)
    pruned = table[table["method"] != "none"]
    assert set(pruned["method"]) == {"depth", "width", "2:4"}
    assert set(pruned["base_model"]) == {"p2lab/llama-3-s3"}  # the only base that is larger
    assert set(table.loc[table["method"] == "none", "base_model"]) == {
        "p2lab/llama-3-s1", "p2lab/llama-3-s2", "p2lab/qwen-2.5-s1", "p2lab/qwen-2.5-s2",
    }  # fmt: skip
    assert (table["parameters"] <= 25e6).all()
    assert table["loss"].is_monotonic_increasing


def test_the_rate_follows_from_the_size(table):
    s3 = 33_930_176
    for row in table[table["method"].isin(["depth", "width"])].to_dict("records"):
        assert row["rate"] == pytest.approx(1 - 25e6 / s3)
        assert row["parameters"] == 25_000_000
    (sparse,) = table[table["method"] == "2:4"].to_dict("records")
    assert sparse["rate"] == pytest.approx(0.5 * 26_590_144 / s3)
    assert sparse["parameters"] == pytest.approx(s3 - 26_590_144 / 2, abs=1)


def test_losses_are_those_of_the_laws_together(seed):
    rows = plan(seed, deployed=25e6, tokens=10e6)
    row = rows[rows["method"] == "depth"].iloc[0]
    asked = pd.DataFrame({"n0": [33930176.0], "rate": row["rate"], "l0": row["l0"], "tokens": 10e6})
    fitted = recommended_fit(seed, family="llama-3", method="depth", l_pruned_known=False)
    assert row["loss"] == pytest.approx(fitted.predict(asked)[0], rel=1e-9)
    low, high = fitted.band(asked).ends(0.9)
    assert (row["loss_low"], row["loss_high"]) == pytest.approx((low[0], high[0]))
    assert row["loss_low"] < row["loss"] < row["loss_high"]
    assert (row["law"], row["state"]) == ("mixture", "inside")


def test_what_is_too_far_has_no_loss(seed):
    rows = plan(
        seed, deployed=6e9, tokens=1e9, family="llama-3", bases=[replace(BASES["meta-llama/Llama-3.1-8B"], l0=1.95)]
    )
    far = rows[rows["base_model"].str.startswith("meta-llama") & (rows["method"] != "none")]
    assert len(far)
    assert (far["state"] == "too_far").all()
    assert far[["loss", "loss_low", "loss_high"]].isna().all(axis=None)


def _text(seed):
    text = usable(seed)
    return text.assign(**{c: text[c].astype(str) for c in ("family", "method", "eval_data", "objective", "base_model")})


def test_unpruned_bases_have_their_measured_loss(table, seed):
    for row in table[table["method"] == "none"].to_dict("records"):
        own = seed[seed["base_model"] == row["base_model"]]
        assert row["loss"] == own["l0"].iloc[0]
        assert (row["rate"], row["tokens"], row["beyond"]) == (0, 0, 1)
        assert np.isnan(row["loss_low"])
    (control,) = table[(table["base_model"] == "p2lab/llama-3-s2") & (table["method"] == "none")].to_dict("records")
    assert "post-trained unpruned, it reached 2.822" in control["note"]


def test_what_lies_outside_the_runs_is_a_factor(seed, table):
    sparse = table[table["method"] == "2:4"].iloc[0]
    assert sparse["beyond_size"] == pytest.approx(33_930_176 / 12_906_752)  # 2:4 was run on two smaller bases
    assert sparse["beyond"] == max(sparse[["beyond_size", "beyond_rate", "beyond_tokens"]])
    assert "2 runs are too few" in sparse["note"]
    far = plan(seed, deployed=8e6, tokens=1e9, family="qwen-2.5", law=P2).set_index("method")
    assert far.loc["depth", "beyond_tokens"] == pytest.approx(1e9 / 9_994_240)
    assert far.loc["depth", "beyond_rate"] == pytest.approx(
        far.loc["depth", "rate"] / 0.261220, rel=1e-4
    )  # of either family
    assert "alpha, how the loss depends on n0, held at 0.35: needs 3 values" in far.loc["depth", "note"]


def test_a_base_of_ones_own_competes_with_its_loss(seed):
    known = replace(BASES["meta-llama/Llama-3.1-8B"], l0=2.05)
    table = plan(seed, deployed=6e9, tokens=1e9, family="llama-3", bases=[known], law=P2)
    own = table[table["base_model"] == known.name]
    assert set(own["method"]) == {"depth", "width", "2:4"}
    assert set(own["l0"]) == {2.05}
    assert set(own["l0_from"]) == {"measured"}
    assert own["rate"].to_numpy()[own["method"] == "depth"] == pytest.approx(1 - 6e9 / known.n0)
    assert (own["beyond"] > 200).all()


def test_a_loss_that_nobody_measured_is_read_off_and_said(seed):
    table = plan(seed, deployed=6e9, tokens=1e9, family="llama-3", bases=[BASES["meta-llama/Llama-3.2-3B"]], law=P2)
    (row,) = table[table["base_model"] == "meta-llama/Llama-3.2-3B"].to_dict("records")
    assert row["l0_from"] == "power law"
    assert row["loss"] < 2.719
    assert row["beyond"] == pytest.approx(3_212_749_824 / 33_930_176)


def test_a_law_that_breaks_down_predicts_nothing(seed):
    table = plan(seed, deployed=1e5, tokens=1, law=P2)
    assert table["loss"].isna().all()
    assert table["note"].str.contains("breaks down").all()


def test_laws_that_need_a_pruned_model_stand_aside(seed):
    table = plan(seed, deployed=25e6, tokens=10e6)
    assert set(table.loc[table["method"] != "none", "law"]) == {"mixture"}
    assert table.loc[table["method"] != "none", "loss"].notna().all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"deployed": 0}, "both are counts"),
        ({"deployed": float("nan")}, "both are counts"),
        ({"tokens": float("inf")}, "both are counts"),
        ({"family": "lama-3"}, "Did you mean 'llama-3'"),
        ({"eval_data": "p2lab/docs"}, "unknown eval_data 'p2lab/docs'"),
        ({"law": LAWS["damage"]}, "needs l_pruned"),
        ({"law": "p3"}, "unknown law 'p3'"),
        ({"bases": [Base("a/b", "mistral", 10**9, 10**9)]}, "nobody measured the loss of a/b on p2lab/docs-heldout"),
    ],
)
def test_what_cannot_be_planned_is_refused(wrong, words, seed):
    with pytest.raises(P2Error, match=f"^plan: .*{words}"):
        plan(seed, **({"deployed": 25e6, "tokens": 10e6, "law": P2} | wrong))


def test_no_candidate_is_said(seed):
    only = seed[(seed["method"] == "2:4") & (seed["base_model"] == "p2lab/llama-3-s2")]
    with pytest.raises(P2Error, match="every base is larger than 2e\\+06 parameters"):
        plan(only, deployed=2e6, tokens=1e7, law=LAWS["chinchilla"])


def test_losses_under_two_tokenizers_do_not_compare(seed):
    other = seed.assign(vocab_size=np.where(seed["family"] == "qwen-2.5", 151_936, 16_384))
    with pytest.raises(P2Error, match=r"compare only under one tokenizer.*name a family"):
        plan(other, deployed=8e6, tokens=1e7, law=P2)
    assert set(plan(other, deployed=8e6, tokens=1e7, law=P2, family="qwen-2.5")["family"]) == {"qwen-2.5"}


def test_a_missing_column_is_named(seed):
    with pytest.raises(P2Error, match="plan: needs the column n0_nonembedding;"):
        plan(seed.drop(columns="n0_nonembedding"), deployed=25e6, tokens=10e6)
