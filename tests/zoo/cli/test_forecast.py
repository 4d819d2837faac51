"""`p2zoo forecast`: an unfinished run gives losses, a goal and a picture; `budget --pilot` is the same."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from leaderboard import load_logs
from leaderboard.errors import P2Error
from zoo.cli import app


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """The folder of an unfinished run: the first fifth of one of the seed's."""
    frame = load_logs().frame
    run = frame[(frame["method"] == "depth") & (frame["n0"] > 3e7)]
    run = run[run["run_id"] == run["run_id"].iloc[0]]
    folder = tmp_path_factory.mktemp("begun")
    rows = run.loc[run["tokens"] < 2e6, ["tokens", "loss"]].to_dict("records")
    (folder / "log.jsonl").write_text("".join(json.dumps(row | {"lr": 2e-4}) + "\n" for row in rows))
    head = run.iloc[0]
    known = {name: head[name] for name in ("method", "family")} | {n: float(head[n]) for n in ("l0", "rate", "n0")}
    (folder / "run.json").write_text(json.dumps(known | {"status": "running"}))
    return folder


def asked(*words: object) -> dict:
    result = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_json_has_state_losses_and_bands(begun):
    told = asked("forecast", begun, "--at", "1e7", "--at", "5M", "--excess", 0.05, "--gpu", "h100")
    assert told["state"] == "inside"
    first, second = told["at"]
    assert (first["tokens"], second["tokens"]) == (1e7, 5e6)
    for place in told["at"]:
        assert place["low_95"] < place["low_80"] < place["loss"] < place["high_80"] < place["high_95"]
    assert first["loss"] < second["loss"] < told["now"]["loss"]
    assert told["goal"]["tokens_80"][0] < told["goal"]["tokens"] < told["goal"]["tokens_80"][1]
    assert told["doubling"]["cost"] > 0


def test_far_ahead_there_is_no_number(begun):
    told = asked("forecast", begun, "--at", "1T")
    assert told["state"] == "too_far"
    assert told["at"][0]["loss"] is None


def test_words_and_picture_for_people(begun, tmp_path):
    picture = tmp_path / "band.png"
    result = CliRunner().invoke(app, ["forecast", str(begun), "--target-loss", "2.78", "--out", str(picture)])
    assert result.exit_code == 0, result.output
    assert "Inside what such forecasts were tested on." in result.output
    assert "It comes to a loss of 2.7800 at" in result.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_budget_of_a_pilot_is_its_forecast(begun):
    goal = asked("budget", "--pilot", begun, "--excess", 0.05)["goal"]
    assert goal == asked("forecast", begun, "--excess", 0.05)["goal"]
    with pytest.raises(P2Error, match="--rate, --l0 must be given, or --pilot"):
        CliRunner().invoke(
            app, ["budget", "--family", "llama-3", "--method", "depth", "--n0", "34M"], catch_exceptions=False
        )
