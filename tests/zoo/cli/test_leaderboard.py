"""`p2zoo check|fit|rank|budget` as a user meets them: exit codes, tables, JSON, messages."""

import json
import shutil
import sys

import pyarrow.parquet as pq
import pytest

from leaderboard import LAWS, load_logs
from leaderboard.logs.contract import GROUP
from leaderboard.logs.load import SEED
from leaderboard.ranking.cells import METRICS
from leaderboard.serving.board import Board
from tests import commands
from zoo import cli
from zoo.cli.options import count, share

ASK = ["--family", "llama-3", "--method", "depth", "--rate", "0.25", "--n0", "34e6", "--l0", "2.72"]


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


@pytest.fixture(scope="module")
def group_folder(tmp_path_factory):
    """The seed's llama-3 depth runs, a stray note and a broken log."""
    folder = tmp_path_factory.mktemp("logs")
    frame = load_logs().frame
    for run in frame.loc[(frame["family"] == "llama-3") & (frame["method"] == "depth"), "run_id"].unique():
        shutil.copy(SEED / "p2lab" / f"{run}.parquet", folder)
    (folder / "notes.txt").write_text("not a log\n")
    (folder / "broken.parquet").write_bytes(b"PAR1")
    return folder


@pytest.fixture
def clean_log():
    """One log of the seed."""
    return next(iter(sorted(SEED.rglob("*.parquet"))))


@pytest.mark.parametrize("command", ["check", "fit", "rank", "budget"])
def test_help_shows_examples(command, p2zoo):
    code, out, _ = p2zoo(command, "--help")
    assert code == 0
    assert "Example" in out
    assert f"p2zoo {command}" in out
    assert "--json" in out


def test_exit_codes_of_the_real_process(clean_log, tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")

    def code(*arguments):
        ended = commands.p2zoo("check", *arguments)
        assert "Traceback" not in ended.stderr
        return ended.returncode

    assert [code(clean_log), code(tmp_path), code(tmp_path / "absent")] == [0, 1, 2]


def test_check_counts_and_shows(p2zoo, group_folder, clean_log):
    code, out, _ = p2zoo("check", clean_log)
    assert code == 0
    assert out.startswith("1 log(s) checked: 1 clean, 0 with errors\n")
    assert "stands alone" in out
    code, out, _ = p2zoo("check", group_folder)
    assert code == 1
    assert "1 with errors" in out
    assert "notes.txt" not in out


def test_check_as_json(p2zoo, group_folder):
    code, out, _ = p2zoo("check", group_folder, "--json")
    answer = json.loads(out)
    assert code == 1
    assert set(answer) == {"files"}
    assert all(set(f) == {"path", "ok", "verdict", "findings"} for f in answer["files"])
    (bad,) = [f for f in answer["files"] if not f["ok"]]
    assert bad["path"].endswith("broken.parquet")
    assert set(bad["findings"][0]) == {"code", "severity", "where", "got", "allowed", "fix"}


def test_check_of_nothing_is_a_usage_error(p2zoo, tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        code, _, err = p2zoo("check", path)
        assert code == 2
        assert err.startswith("error: check:")
    assert p2zoo("check")[0] == 2
    assert p2zoo("check", tmp_path, "--jsn")[0] == 2


def test_check_of_one_file_that_is_no_log(p2zoo, tmp_path):
    (tmp_path / "log.csv").write_text("tokens,loss\n")
    code, out, _ = p2zoo("check", tmp_path / "log.csv", "--json")
    assert code == 1
    assert json.loads(out)["files"][0]["findings"][0]["code"] == "unreadable"


def test_fit_as_json(p2zoo, group_folder):
    code, out, err = p2zoo("fit", group_folder, "--law", "p2-no-nc", "--json")
    answer = json.loads(out)
    assert code == 0
    assert "left out: broken.parquet: error unreadable" in err
    assert set(answer) == {"data", "law", "loss", "latex", "fits"}
    (only,) = answer["fits"]
    assert only["group"]["method"] == "depth"
    assert set(only["params"]) == {q.name for q in LAWS["p2-no-nc"].parameters}
    assert answer["data"]["quarantined"][0]["path"] == "broken.parquet"


def test_fit_as_a_table(p2zoo, group_folder):
    code, out, _ = p2zoo("fit", group_folder, "--law", "chinchilla", "--loss", "log-huber")
    assert code == 0
    assert "llama-3" in out
    assert "alpha" in out


def test_a_pooled_law_is_the_one_that_budgets_are_read_from(p2zoo):
    """The runs of other groups on the text count, as they do on the board."""
    fits = json.loads(p2zoo("fit", "--law", "capacity", "--json")[1])["fits"]
    board = Board(load_logs()).fits("capacity")
    assert [row["group"] for row in fits] == [key for key, _ in board]
    for row, (_, found) in zip(fits, board, strict=True):
        assert row["params"] == pytest.approx(found.params)
        assert row["runs"] == found.n_runs
    assert {row["runs"] for row in fits if row["group"]["method"] == "depth"} == {16}


def test_text_of_strangers_is_plain_in_a_terminal(p2zoo, tmp_path, clean_log):
    table = pq.read_table(clean_log)
    bad = tmp_path / "bad.parquet"
    pq.write_table(table.append_column("\x1b[31mred\n/x: clean", table["seed"]), bad)
    code, out, _ = p2zoo("check", bad)
    assert code == 1
    assert "\x1b" not in out
    assert "\\u001b[31mred\\u000a/x: clean" in out


def test_the_evidence_behind_a_ranking(p2zoo, group_folder):
    code, out, _ = p2zoo("rank", group_folder, "--ablate", "--json")
    assert code == 0
    assert {row["without"] for row in json.loads(out)["ablation"]} >= {"N0", "D", "rho", "L0"}
    code, out, _ = p2zoo("rank", group_folder, "--metrics", "--law", "p2", "--law", "damage")
    assert code == 0
    assert "asd_doubling" in out
    code, _, err = p2zoo("rank", group_folder, "--ablate", "--metrics")
    assert code != 0
    assert "--ablate takes" in err


def test_fits_over_the_control_say_which_runs_have_none(p2zoo):
    code, out, _ = p2zoo("fit", "--over-control", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["controls"].startswith("9 of 36 pruned runs have a control")
    assert {(f["group"]["family"], f["runs"]) for f in told["fits"]} == {("llama-3", 1), ("llama-3", 4)}
    _, out, _ = p2zoo("fit", "--over-control", "--law", "p2")
    assert "9 of 36 pruned runs have a control" in out


def test_without_any_control_nothing_is_fitted_over_it(p2zoo, group_folder):
    for command in ("fit", "rank"):
        code, _, err = p2zoo(command, group_folder, "--over-control")
        assert code == 2
        assert "has a control: a run of the method none" in err


def test_rank_as_json_is_the_contracts(p2zoo, group_folder):
    code, out, _ = p2zoo("rank", group_folder, "--json")
    answer = json.loads(out, parse_constant=pytest.fail)  # no NaN, no Infinity
    assert code == 0
    assert set(answer) == {"data", "laws"}
    assert {law["law"] for law in answer["laws"]} == set(LAWS)
    for law in answer["laws"]:
        figures = {"score", "score_doubling", "score_90", "wins", "rmse_heldout"}
        assert set(law) == {"law", "rank", "recommended", "cells"} | figures
        untestable = all(cell["status"] == "not_testable" for cell in law["cells"])
        assert (law["rank"] is None) == untestable
        assert isinstance(law["recommended"], bool)
        assert [c["track"] for c in law["cells"]] == ["fit", "tokens", "size", "rate"]
        for cell in law["cells"]:
            assert set(cell) == {"group", "track", "status", *METRICS, "asd_90"}
            assert set(cell["group"]) == set(GROUP)
    ranks = [law["rank"] for law in answer["laws"] if law["rank"] is not None]
    assert ranks == sorted(ranks)
    assert len(ranks) == len(LAWS) - 1  # all bases here saw as many tokens: nothing tests saturation
    assert any(c["asd_doubling"] is None for law in answer["laws"] for c in law["cells"])  # too few rows: null
    assert answer["data"]["runs"] == 9 + 1  # a second seed of one run


def test_budget_as_json(p2zoo):
    code, out, _ = p2zoo("budget", *ASK, "--law", "p2", "--excess", "0.2", "--gpu", "h100", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["status"] == "reached"
    assert answer["law"] == "p2"
    assert answer["gpu_hours"] > 0
    own = json.loads(
        p2zoo("budget", *ASK, "--law", "p2", "--excess", "0.2", "--gpu", "h100", "--price", "7", "--json")[1]
    )
    assert own["cost"] == pytest.approx(7 * answer["gpu_hours"])


def test_budget_in_words(p2zoo):
    code, out, _ = p2zoo("budget", *ASK, "--law", "p2", "--target-loss", "1.0")
    assert code == 0
    state, said = out.splitlines()[:2]
    assert state == "beyond what was measured."
    assert said.startswith("No number of tokens reaches the goal")
    code, out, _ = p2zoo("budget", *ASK, "--law", "damage-pooled", "--l-pruned", "3.4", "--target-loss", "3.5")
    assert "No tokens are needed" in out
    far = [a if a != "34e6" else "8e9" for a in ASK]
    out = p2zoo("budget", *far, "--law", "p2")[1]
    assert out.startswith("too far to say: ")
    assert "8 B parameters is 236 times outside what was measured" in out
    assert "tokens reach" not in out
    new = [a if a != "llama-3" else "gemma" for a in ASK]
    out = p2zoo("budget", *new, "--law", "damage-pooled", "--l-pruned", "3.4", "--excess", "0.2")[1]
    assert out.startswith("beyond: no run of the family gemma was measured")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "--law", "p3x"], "unknown law 'p3x'"),
        (["fit", "--loss", "huber", "--delta", "-1"], "width of the Huber loss, above 0"),
        (["fit", "absent/folder/of/logs"], "neither an existing path nor a Hub dataset"),
        (["budget", *ASK, "--excess", "0.1", "--gain", "0.1"], "give one goal"),
        (["budget", *ASK, "--law", "damage"], "--l-pruned"),
        (["budget", *ASK, "--price", "2"], "--price is that of a --gpu"),
        (["budget", *[a if a != "0.25" else "25" for a in ASK]], "0.25 for 25 %"),
    ],
)
def test_what_can_be_mended_is_one_message(arguments, words, p2zoo):
    code, out, err = p2zoo(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("read", "words", "value"),
    [
        (count, "34M", 34e6), (count, "8b", 8e9), (count, "61_440", 61440.0), (count, "1e9", 1e9),
        (count, "1.5k", 1500.0), (count, "61,440", 61440.0), (count, "1,500,000", 1.5e6), (share, "25%", 0.25),
        (share, "0.25", 0.25), (share, " 12.5% ", 0.125),
    ],
)  # fmt: skip
def test_counts_and_shares_as_people_write_them(read, words, value):
    assert read(words) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("option", "words"),
    [(["--n0", "34X"], "write 34M, 8B"), (["--n0", "1,5B"], "write 34M, 8B"), (["--rate", "a"], "write 25% or 0.25")],
)
def test_what_is_no_count_or_share_is_told_how_to_write_it(p2zoo, option, words):
    code, _, said = p2zoo("budget", *ASK, *option)
    assert code == 2
    assert words in " ".join(said.replace("│", " ").split())


def test_a_budget_asked_in_people_s_numbers_is_the_same_budget(p2zoo):
    asked = ["budget", "--family", "llama-3", "--method", "depth", "--l0", "2.72", "--law", "damage-drift", "--json"]
    asked += ["--l-pruned", "3.2"]
    told = [p2zoo(*asked, "--rate", rate, "--n0", n0)[1] for rate, n0 in (("0.25", "34e6"), ("25%", "34M"))]
    assert told[0] == told[1]
    assert json.loads(told[0])["state"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--l0", "7.03", "--excess", "0.1"], "Is that a perplexity? Its natural logarithm, 1.95"),
        (["--l0", "2.72", "--target-loss", "12.5"], "Is that a perplexity?"),
        (["--l0", "2.72", "--l-pruned", "40", "--excess", "0.1"], "to guess among 16,384 tokens costs 9.70"),
    ],
)
def test_a_perplexity_is_no_loss(asked, said, p2zoo):
    code, _, err = p2zoo("budget", *ASK[:-2], *asked)
    assert code == 2
    assert said in err


def test_a_known_model_brings_its_family_and_size(p2zoo):
    code, _, err = p2zoo("budget", "--model", "meta-llama/Llama-3.1-8B", "--method", "2of4")
    assert (code, "--l0 must be given" in err) == (2, True)  # family, size and share are known
    code, _, err = p2zoo("budget", "--model", "nobody/nothing", "--method", "depth", "--l0", "2")
    assert (code, "no config of 'nobody/nothing' is at hand" in err) == (2, True)


def test_the_version_is_said(p2zoo):
    assert p2zoo("--version")[1].startswith("p2zoo 0.")
