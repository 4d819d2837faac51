"""`p2zoo import`: exit code 0 only for a log that `p2zoo check` accepts."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from leaderboard import load_logs
from leaderboard.errors import P2Error
from tests.leaderboard.importing.conftest import TOKENS, history, state
from zoo.cli import app

SAID = f"--tokens-per-step {TOKENS} --method depth --eval-data my/heldout --l0 2.9 --l-pruned 3.9".split()
SIZES = ["--n0", "1M", "--n-pruned", "750k"]


def p2zoo(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def lifted(by):
    """The same history with other losses."""
    return [row | ({"eval_loss": row["eval_loss"] + by} if "eval_loss" in row else {}) for row in history()]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "trainer_state.json"
    path.write_bytes(state(history()))
    return path


def test_a_trainer_state_becomes_a_log_that_is_checked_and_drawn(log, tmp_path):
    done = p2zoo("import", log, *SAID, *SIZES, "--out", tmp_path / "mine.parquet")
    assert done.exit_code == 0, done.output
    assert "21 rows to 4,096,000 tokens, loss 3.1500; depth, 25.0% of 1,000,000 parameters" in done.output
    assert p2zoo("check", tmp_path / "mine.parquet").exit_code == 0
    drawn = p2zoo("plot", tmp_path / "mine.parquet", "--out", tmp_path / "mine.png")
    assert "1 run in 1 group" in drawn.output
    assert len(load_logs(tmp_path / "mine.parquet").frame) == 21


def test_base_and_pruned_model_are_counted_from_their_configs(log, tmp_path):
    base = "meta-llama/Llama-3.2-1B"  # its config ships
    done = p2zoo("import", log, *SAID, "--base", base, "--rate", "25%", "--out", tmp_path / "a.parquet", "--json")
    (told,) = json.loads(done.output)["logs"]
    assert (told["base_model"], told["family"], told["n0"]) == (base, "llama-3", 1_235_814_400)
    assert told["rate"] == pytest.approx(0.25)
    assert told["provenance"] == "imported"


def test_several_runs_go_into_a_folder(tmp_path):
    data = tmp_path / "runs.json"
    data.write_text(json.dumps({"a/1": history(), "a 2": lifted(0.1)}))
    with pytest.raises(P2Error, match=r"2 runs: a/1, a 2\. Name one by --run"):
        CliRunner().invoke(
            app, ["import", str(data), *SAID, *SIZES, "--out", str(tmp_path / "x.parquet")], catch_exceptions=False
        )
    assert not (tmp_path / "x.parquet").exists()
    done = p2zoo("import", data, *SAID, *SIZES, "--out", tmp_path / "logs")
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in (tmp_path / "logs").iterdir()) == ["01-a-1.parquet", "02-a-2.parquet"]
    assert p2zoo("check", tmp_path / "logs").exit_code == 0


def test_facts_come_from_yaml_those_of_a_run_first_options_last(tmp_path):
    data, facts = tmp_path / "runs.json", tmp_path / "facts.yaml"
    data.write_text(json.dumps({"a": history(), "b": lifted(0.1)}))
    facts.write_text(
        f"tokens_per_step: {TOKENS}\nmethod: '2:4'\nn0: 1000000\nrate: 0.3\neval_data: mine\nseed: 3\nlr_peak: 1.0e-4\n"
        "runs:\n  b: {rate: 0.4, seed: 5}\n"
    )
    done = p2zoo("import", data, "--facts", facts, "--method", "unstructured", "--out", tmp_path / "logs")
    assert done.exit_code == 0, done.output
    heads = load_logs(tmp_path / "logs").frame.drop_duplicates("run_id").sort_values("rate")
    assert heads["rate"].tolist() == pytest.approx([0.3, 0.4])
    assert heads["seed"].tolist() == [3, 5]
    assert set(heads["method"]) == {"unstructured"}


def test_runs_that_repeat_each_other_are_not_written(tmp_path):
    data = tmp_path / "runs.json"
    data.write_text(json.dumps({"a": history(), "b": history()[:-1]}))
    with pytest.raises(P2Error, match=r"b: .*near_duplicate"):
        CliRunner().invoke(app, ["import", str(data), *SAID, *SIZES, "--out", str(tmp_path)], catch_exceptions=False)
    assert [p.name for p in tmp_path.iterdir()] == ["runs.json"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--map", "loss"], "expected ROLE=COLUMN"),
        (["--map", "los=eval_loss"], "unknown role 'los'"),
        (["--run", "other"], "no run 'other' in this file; there are trainer_state"),
        (["--unit", "ppl"], "--l0 2.9 lies above the whole curve"),
        (["--facts", "absent.yaml"], "absent.yaml cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said(words, said, log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(P2Error) as refused:
        CliRunner().invoke(app, ["import", str(log), *SAID, *SIZES, *words], catch_exceptions=False)
    assert said in str(refused.value)
    assert not (tmp_path / "log.parquet").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("- method\n", "holds no keys"),
        ("method: 2:4\n", "YAML reads 2:4 as a number"),
        ("n0: 1e9\n", "YAML reads 1e9 as text"),
        ("runs: [a]\n", "`runs:` of --facts"),
        ("metod: depth\n", "unknown fact 'metod'"),
        ("{" * 5000, "cannot be read"),
    ],
)
def test_a_wrong_facts_file_is_told(text, said, log, tmp_path):
    (tmp_path / "facts.yaml").write_text(text)
    given = ["import", str(log), "--facts", str(tmp_path / "facts.yaml"), "--out", str(tmp_path / "x.parquet")]
    with pytest.raises(P2Error) as refused:
        CliRunner().invoke(app, given, catch_exceptions=False)
    assert said in str(refused.value)


def test_the_help_shows_examples():
    assert "p2zoo import" in p2zoo("import", "--help").output


def test_a_csv_of_perplexities_is_converted(tmp_path):
    csv = tmp_path / "wandb.csv"
    columns = {"train/global_step": range(100, 1100, 100), "mine - eval/ppl": 20.0 - pd.RangeIndex(10)}
    pd.DataFrame(columns).to_csv(csv, index=False)
    given = ["--unit", "ppl", "--rate", "20%", "--method", "depth", "--eval-data", "c4", "--tokens-per-step", "2k"]
    done = p2zoo("import", csv, *given, "--n0", "1M", "--out", tmp_path / "log.parquet")
    assert done.exit_code == 0, done.output
    assert load_logs(tmp_path / "log.parquet").frame["loss"].iloc[0] == pytest.approx(2.995732, abs=1e-6)
