"""The published figures: each has a source, agrees with itself, and is found by those who ask for one like it."""

import json
import math

import pytest

from leaderboard import P2Error
from leaderboard.evidence import COLUMNS, load_evidence, load_sources, nearest, records

# layers, hidden size, vocabulary, positions: from the models' config.json
GPT2 = {
    "openai-community/gpt2": (12, 768, 50257, 1024),
    "openai-community/gpt2-medium": (24, 1024, 50257, 1024),
    "openai-community/gpt2-large": (36, 1280, 50257, 1024),
    "openai-community/gpt2-xl": (48, 1600, 50257, 1024),
}


@pytest.fixture(scope="module")
def evidence():
    return load_evidence()


def test_every_row_has_a_source_and_every_source_a_row(evidence):
    sources = load_sources()
    assert set(evidence["source"]) == set(sources)
    assert list(evidence.columns) == list(COLUMNS)
    for source in sources.values():
        assert source.where.startswith("https://")
        assert all([source.title, source.table, source.licence, source.text, source.recipe, source.note])


def test_no_figure_stands_twice(evidence):
    key = ["source", "model", "method", "importance", "kind", "rate", "tokens", "note"]
    assert not evidence.duplicated(key).any()


def test_rates_are_what_the_counts_say(evidence):
    removed = 1 - evidence["n_pruned"] / evidence["n0"]
    assert removed.to_numpy() == pytest.approx(evidence["rate"].to_numpy(), abs=1e-4)


@pytest.mark.parametrize("model", GPT2)
def test_2of4_zeroes_half_of_the_block_matrices(evidence, model):
    layers, hidden, vocabulary, positions = GPT2[model]
    matrices = layers * 12 * hidden**2
    biases_and_norms = layers * 13 * hidden + 2 * hidden
    rows = evidence[evidence["model"] == model]
    assert set(rows["n0"]) == {(vocabulary + positions) * hidden + matrices + biases_and_norms}
    assert set(rows["n0"] - rows["n_pruned"]) == {matrices // 2}


def test_a_perplexity_becomes_a_loss_and_a_share_of_the_damage(evidence):
    gpt2 = evidence[(evidence["model"] == "openai-community/gpt2") & (evidence["importance"] == "wanda")]
    row = gpt2[gpt2["kind"] == "full"].iloc[0]
    assert row["l0"] == pytest.approx(math.log(29.95))
    assert row["damage"] == pytest.approx(math.log(115.64 / 29.95))
    assert row["share_left"] == pytest.approx(math.log(32.23 / 29.95) / math.log(115.64 / 29.95))


def test_an_accuracy_is_no_loss(evidence):
    accuracies = evidence[evidence["score"].notna()]
    assert len(accuracies)
    assert accuracies[["l0", "l0_control", "l_pruned", "loss", "damage", "healed"]].isna().all(axis=None)
    assert evidence.loc[evidence["score"].isna(), "loss"].notna().all()


def test_losses_are_in_order_and_excess_is_over_the_control(evidence):
    losses = evidence[evidence["loss"].notna()]
    assert (losses["l_pruned"] > losses["l0"]).all()
    over = losses["loss"] - losses["l0_control"].fillna(losses["l0"])
    assert (losses["excess"] - over).abs().max() < 1e-12
    assert (losses["excess"] > 0).all()


def test_failed_cuts_won_back_less_than_a_tenth(evidence):
    failed = evidence[evidence["healed"].eq(False).fillna(False)]
    assert set(failed["model"]) == {"Qwen/Qwen2.5-0.5B", "meta-llama/Meta-Llama-3-8B"}
    assert (failed["loss"] > failed["l_pruned"] - 0.1 * failed["damage"]).all()


def test_a_loaded_frame_is_ones_own(evidence):
    mine = load_evidence()
    mine["rate"] = 0.0
    assert load_evidence()["rate"].equals(evidence["rate"])


def test_whoever_asks_for_a_row_gets_it_first(evidence):
    rows = evidence[(evidence["method"] == "depth") & evidence["loss"].notna()]
    for row in rows.sample(12, random_state=0).to_dict("records"):
        question = {name: row[name] for name in ("method", "rate", "n0", "tokens", "l0", "l_pruned")}
        first = nearest(**question)[0]
        assert (first["model"], first["note"]) == (row["model"], row["note"])


def test_the_nearest_are_of_several_models_and_plain_data():
    near = nearest(method="depth", rate=0.25, n0=8.03e9, l0=1.95, count=6)
    assert near[0]["model"] == "meta-llama/Meta-Llama-3-8B"
    assert len({(row["source"], row["model"], row["tokens"]) for row in near}) == 6
    assert json.loads(json.dumps(near, allow_nan=False)) == near
    assert all(row["where"].startswith("https://") for row in near)


def test_a_method_is_met_by_its_own_rows_first():
    assert nearest(method="2:4", rate=0.45, n0=1.3e9)[0]["method"] == "2:4"
    assert nearest(method="depth", rate=0.45, n0=1.3e9)[0]["method"] == "depth"
    assert nearest(method="width", rate=0.25, n0=1.24e9)  # nothing is published for it alone: others answer


def test_records_are_plain_for_every_row(evidence):
    everything = records(evidence)
    assert len(everything) == len(evidence)
    json.dumps(everything, allow_nan=False)


@pytest.mark.parametrize("question", [{"rate": 1.5}, {"rate": 25}, {"n0": 0}, {"tokens": -1.0}, {"n0": math.nan}])
def test_what_no_model_has_is_refused(question):
    (name,) = question
    with pytest.raises(P2Error, match=f"evidence: {name} is .*must be a number"):
        nearest(**question)
