"""`p2zoo plan|wanted` and `--law FILE.py:NAME` as a user meets them."""

import json
import sys

import pytest

from leaderboard.planning.plan import COLUMNS as PLAN
from leaderboard.planning.wanted import COLUMNS as WANTED
from zoo import cli

LAW_FILE = """
from leaderboard import Law, Linear, Nonlinear, Powers

powers = Powers({"b": ("tokens", -1), "g": ("rate", 1)}, (("g", "b"), ("g",)))
MY_LAW = Law(
    "my-law", "L_0", "mine", ("l0", "rate", "tokens"), (Linear("a"), Linear("e", 0)),
    (Nonlinear("b", (0.01, 3), (0.1, 0.5)), Nonlinear("g", (0, 5), (1.0, 2.0))),
    powers.basis, powers.jacobian, offset=lambda x: x["l0"],
)
BROKEN = Law(
    "broken", "L_0", "mine", ("l0", "rate", "tokens"), (Linear("a"), Linear("e", 0)),
    (Nonlinear("b", (0.01, 3), (0.1, 0.5)), Nonlinear("g", (0, 5), (1.0, 2.0))),
    powers.basis, lambda theta, x: -powers.jacobian(theta, x), offset=lambda x: x["l0"],
)
"""


@pytest.fixture
def p2zoo(monkeypatch, capsys):
    """`p2zoo(*arguments)`: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["p2zoo", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return (0 if code is None else int(code), *capsys.readouterr())

    return run


@pytest.fixture
def own_law(tmp_path):
    """`FILE.py:` of a module with a law that is right and one that is not."""
    (tmp_path / "my_laws.py").write_text(LAW_FILE)
    return f"{tmp_path / 'my_laws.py'}:"


@pytest.mark.parametrize("command", ["plan", "wanted"])
def test_help_shows_examples(command, p2zoo):
    code, out, _ = p2zoo(command, "--help")
    assert code == 0
    assert "Examples" in out
    assert f"p2zoo {command}" in out
    assert "--json" in out


def test_plan_as_json(p2zoo):
    code, out, _ = p2zoo("plan", "--deployed", "25e6", "--tokens", "10e6", "--law", "p2", "--json")
    answer = json.loads(out, parse_constant=pytest.fail)
    assert code == 0
    assert set(answer) == {"data", "asked", "recipe", "candidates"}
    assert answer["asked"] == {"deployed": 25e6, "tokens": 10e6, "family": None}
    assert all(set(row) == set(PLAN) for row in answer["candidates"])
    assert {row["method"] for row in answer["candidates"]} == {"depth", "width", "2:4", "none"}
    assert any(row["loss_low"] is None for row in answer["candidates"])


def test_plan_as_a_table_calls_a_guess_a_guess(p2zoo):
    code, out, _ = p2zoo("plan", "--deployed", "25e6", "--tokens", "10e6", "--law", "p2")
    assert code == 0
    assert max(map(len, out.split("comes first")[0].splitlines()[:-1])) <= 80
    assert "outside the measured runs: a guess" in out
    assert "the best inside is p2lab/llama-3-s3 by depth" in out


def test_plan_says_which_losses_it_read_off(p2zoo):
    asked = ("--deployed", "6e9", "--tokens", "1e9", "--family", "llama-3", "--law", "p2")
    assert "~ rests on an l0 read off" in p2zoo("plan", *asked, "--base", "meta-llama/Llama-3.1-8B")[1]
    assert "read off" not in p2zoo("plan", *asked, "--base", "meta-llama/Llama-3.1-8B=2.0")[1]
    code, _, err = p2zoo("plan", *asked, "--base", "meta-llama/Llama-3.1-8b")
    assert code == 2
    assert "Did you mean 'meta-llama/Llama-3.1-8B'" in err


def test_plan_far_from_all_runs_names_no_winner(p2zoo):
    code, out, _ = p2zoo("plan", "--deployed", "1e5", "--tokens", "1", "--law", "p2")
    assert code == 0
    assert "No candidate has a prediction that makes sense" in out


def test_wanted_as_json(p2zoo):
    code, out, _ = p2zoo("wanted", "--law", "p2", "--gpu", "a100", "--json")
    answer = json.loads(out, parse_constant=pytest.fail)
    assert code == 0
    assert set(answer) == {"data", "gpu", "recipe", "said", "runs"}
    assert answer["gpu"] == "a100"
    assert "p2lab/docs-heldout, cannot be had" in answer["said"]
    assert all(set(row) == {*WANTED, "base", "commands", "group", "joins"} for row in answer["runs"])
    assert all(row["commands"] and row["base"].startswith("ladder/bases/") for row in answer["runs"])
    assert all(row["gpu_hours"] > 0 for row in answer["runs"])


def test_wanted_as_a_table(p2zoo):
    code, out, _ = p2zoo("wanted", "--law", "p2", "--base", "meta-llama/Llama-3.2-1B=2.4")
    assert code == 0
    assert max(map(len, out.split("In the order")[0].splitlines()[1:])) <= 80
    assert "Most for a GPU-hour" in out
    assert "p2zoo run llama-3.2-1b/" in out
    assert out.index("p2zoo pretrain ladder/bases/llama-3-s1") < out.index("p2zoo run ladder/llama-3-s1-")
    assert p2zoo("wanted", "--gpu", "h1000")[0] == 2


def test_a_law_of_ones_own_is_fitted(p2zoo, own_law):
    code, out, _ = p2zoo("fit", "--law", f"{own_law}MY_LAW", "--json")
    assert code == 0
    assert json.loads(out)["law"] == "my-law"
    assert {row["status"] for row in json.loads(out)["fits"]} <= {"ok", "flat", "at_bound"}


def test_laws_are_named_and_added_for_a_ranking(p2zoo, own_law):
    code, out, _ = p2zoo("rank", "--law", "p2-no-nc", "--law", f"{own_law}MY_LAW", "--json")
    assert code == 0
    assert {law["law"] for law in json.loads(out)["laws"]} == {"p2-no-nc", "my-law"}


def test_a_budget_by_a_law_of_ones_own(p2zoo, own_law):
    asked = ("--family", "llama-3", "--method", "depth", "--rate", "0.25", "--n0", "34e6", "--l0", "2.72")
    code, out, _ = p2zoo("budget", *asked, "--excess", "0.1", "--law", f"{own_law}MY_LAW", "--json")
    assert code == 0
    assert json.loads(out)["law"] == "my-law"


@pytest.mark.parametrize("command", [["fit"], ["rank"], ["plan", "--deployed", "25e6", "--tokens", "1e7"], ["wanted"]])
def test_a_law_that_is_wrong_is_refused_in_words(command, p2zoo, own_law):
    code, _, err = p2zoo(*command, "--law", f"{own_law}BROKEN")
    assert code == 2
    assert "derivative of the a term by b" in err
    assert p2zoo(*command, "--law", "absent.py:LAW")[0] == 2
    assert p2zoo(*command, "--law", "damge")[2].startswith(f"error: {command[0]}: unknown law 'damge'")
