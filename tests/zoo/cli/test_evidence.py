"""`p2zoo evidence`: all published rows, those nearest to a model, and what they say of it."""

import json

import pytest
from typer.testing import CliRunner

from leaderboard import P2Error, recovery
from leaderboard.evidence import load_evidence
from zoo.cli import app

QUESTION = ["--method", "depth", "--rate", "25%", "--n0", "8B", "--l0", "1.95", "--tokens", "100M"]


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["evidence", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_it_lists_every_row_with_its_source():
    answer = json.loads(printed("--json"))
    assert len(answer["rows"]) == len(load_evidence())
    assert {row["source"] for row in answer["rows"]} == {source["name"] for source in answer["sources"]}
    assert answer["recovery"] is None


def test_a_model_gets_its_nearest_rows_and_the_recovery_of_python():
    answer = json.loads(printed(*QUESTION, "--l-pruned", "3.6", "--json"))
    same = recovery(method="depth", rate=0.25, n0=8e9, l0=1.95, l_pruned=3.6, tokens=1e8)
    assert answer["recovery"]["loss"] == same.loss
    assert answer["recovery"]["loss_80"] == list(same.interval(0.8))
    assert answer["rows"][0]["model"] == "meta-llama/Meta-Llama-3-8B"


def test_people_read_the_rows_the_answer_and_where_it_comes_from():
    text = printed(*QUESTION)
    assert "A recovery like the published ones ends at" in text
    assert "with the damage taken from the rate" in text
    assert "https://github.com/hipml/llm-pruning-thesis" in text


def test_half_a_question_says_what_is_missing():
    assert "needs --rate, --l0, --tokens too" in printed("--method", "depth", "--n0", "8B")


def test_the_backtest_is_a_table():
    answer = json.loads(printed("--backtest", "--json"))
    assert {row["method"] for row in answer["backtest"]} == {"depth", "2:4"}
    assert answer["failures"]
    assert "One model left out" in printed("--backtest")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--method", "magic"], "unknown pruning method 'magic'"), (["--rate", "130%"], "rate is 1.3")],
)
def test_what_no_model_has_is_one_message(arguments, words):
    result = CliRunner().invoke(app, ["evidence", *arguments])
    assert isinstance(result.exception, P2Error)
    assert words in str(result.exception)
