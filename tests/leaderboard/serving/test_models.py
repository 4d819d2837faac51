"""The zoo table: what it takes from logs, what stays empty, and a Pareto front worked by hand."""

import ast

import numpy as np
import pandas as pd
import pytest

from leaderboard import load_logs
from leaderboard.errors import P2Error
from leaderboard.serving.models import hub_metadata, models_table, pareto, snippet


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Three runs of the seed: one published and measured on a GPU, one that stopped half-way, one not published."""
    seed = load_logs().frame.astype({"model_repo": object, "model_revision": object, "hardware": object})
    seed = seed[seed["rate"] > 0]
    ids = list(seed["run_id"].unique()[:3])
    rows = seed[seed["run_id"].isin(ids)].copy()
    whole, half = rows["run_id"] == ids[0], rows["run_id"] == ids[1]
    rows.loc[whole | half, "model_repo"] = rows["run_id"].map(lambda run: f"ann/{run}")
    rows.loc[whole | half, "model_revision"] = "c" * 40
    rows.loc[whole, ["hardware", "wall_s"]] = ["2 x NVIDIA H100", 1800.0]
    rows.loc[half, ["hardware", "wall_s"]] = ["CPU x86_64, 2 threads", 1800.0]
    return rows[~(half & (rows["tokens"] > rows["tokens_planned"] / 2))]


def test_a_row_for_each_published_model(frame):
    table = models_table(frame).set_index("model")
    whole, half = (f"ann/{run}" for run in frame["run_id"].unique()[:2])
    assert set(table.index) == {whole, half}
    last = frame[frame["run_id"] == frame["run_id"].iloc[0]].iloc[-1]
    row = table.loc[whole]
    assert (row["loss"], row["parameters"], row["tokens"]) == (last["loss"], last["n_pruned"], last["tokens"])
    assert row["recovered"] == pytest.approx((last["l_pruned"] - last["loss"]) / (last["l_pruned"] - last["l0"]))
    assert row["gpu_hours"] == pytest.approx(1.0)
    assert row["pareto"]


def test_what_was_not_measured_to_the_end_stays_empty(frame):
    table = models_table(frame).set_index("model")
    row = table.loc[f"ann/{frame['run_id'].unique()[1]}"]
    assert row["tokens"] > 0
    assert row[["loss", "recovered", "gpu_hours"]].isna().all()
    assert not row["pareto"]


def test_no_published_model_is_an_empty_table():
    assert models_table(load_logs().frame).empty
    with pytest.raises(P2Error, match="model_repo"):
        models_table(pd.DataFrame({"tokens": [1]}))


def test_pareto_by_hand():
    rows = [
        ("text", 10, 100, 3.0, True),  # smallest
        ("text", 10, 200, 2.5, True),
        ("text", 10, 250, 2.5, False),  # larger for the same loss
        ("text", 10, 300, 2.9, False),  # larger and worse
        ("text", 10, 400, 2.0, True),  # best
        ("text", 10, 400, 2.0, True),  # its equal
        ("text", 10, 50, np.nan, False),  # not measured
        ("text", 99, 300, 9.0, True),  # another tokenizer
        ("other", 10, 300, 9.0, True),  # another text
    ]
    table = pd.DataFrame(rows, columns=["eval_data", "vocab_size", "parameters", "loss", "front"])
    assert pareto(table).tolist() == table["front"].tolist()


@pytest.mark.slow
def test_hub_metadata_is_empty_where_nobody_answers():
    from huggingface_hub import HfApi

    found = hub_metadata(["a/b", "a/c"], HfApi(endpoint="http://127.0.0.1:9", token=False))
    assert found.empty
    assert list(found.columns) == ["licence", "downloads", "likes", "updated"]


def test_snippets():
    assert snippet("a/b") == "AutoModelForCausalLM.from_pretrained('a/b')"
    assert snippet("a/b", "c1") == "AutoModelForCausalLM.from_pretrained('a/b', revision='c1')"
    (call,) = ast.parse(snippet('a"); evil("', "c'")).body
    assert [ast.literal_eval(part) for part in (call.value.args[0], call.value.keywords[0].value)] == [
        'a"); evil("',
        "c'",
    ]
