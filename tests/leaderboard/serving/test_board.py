"""A board answers as the functions behind it do, once for all who ask, and never keeps a failure."""

import threading
from dataclasses import replace

import pytest

from leaderboard import load_logs, rank, recommend_tokens
from leaderboard.errors import P2Error
from leaderboard.logs.frame import as_logs
from leaderboard.once import Once
from leaderboard.planning.budget import Question
from leaderboard.serving import as_json
from leaderboard.serving.board import MOST_KEPT, Board

ASKED = Question(family="llama-3", method="depth", rate=0.25, n0=34e6, l0=2.72, excess=0.05)


@pytest.fixture(scope="module")
def board():
    return Board(load_logs())


def test_a_budget_is_that_of_recommend_tokens(board):
    found, predictor = board.budget(ASKED, gpu="h100")
    same = recommend_tokens(
        board.frame, family="llama-3", method="depth", rate=0.25, n0=34e6, l0=2.72, excess=0.05, gpu="h100"
    )
    assert found == same
    assert predictor.law == found.law


def test_a_price_of_ones_own_changes_the_cost_alone(board):
    usual, _ = board.budget(ASKED, gpu="h100")
    dear, _ = board.budget(ASKED, gpu="h100", price=30.0)
    assert dear.gpu_hours == usual.gpu_hours
    assert dear.cost == pytest.approx(10 * usual.cost)


def test_what_is_asked_by_many_is_made_once():
    made, gate, once = [], threading.Barrier(8), Once()

    def make():
        made.append(1)
        return object()

    answers = []

    def ask():
        gate.wait(60)
        answers.append(once.get("asked by many", make))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == 1
    assert len(set(map(id, answers))) == 1


def test_a_failure_is_not_kept_and_what_was_not_asked_for_longest_goes(board):
    for _ in range(2):
        with pytest.raises(P2Error, match="unknown family"):
            board.predictor("lama-3", "depth")
    made, once = [], Once(2)
    for key in (1, 2, 1, 3, 1, 2):
        once.get(key, lambda key=key: made.append(key))
    assert made == [1, 2, 3, 2]
    with pytest.raises(ZeroDivisionError):
        once.get(4, lambda: 1 / 0)
    assert len(once) == 2


def test_an_answer_being_made_is_not_the_one_that_goes():
    once, started, go_on, made = Once(1), threading.Event(), threading.Event(), []

    def slow():
        made.append("slow")
        started.set()
        return go_on.wait(10)

    thread = threading.Thread(target=once.get, args=("slow", slow))
    thread.start()
    assert started.wait(10)
    for key in range(3):
        once.get(key, lambda: None)
    go_on.set()
    thread.join(60)
    once.get("slow", slow)
    assert made == ["slow"]


def test_a_group_named_or_found_is_one_answer_and_tables_are_never_evicted(board):
    runs = board.runs
    asked = {"family": "llama-3", "method": "depth"}
    (key,) = (key for key, _ in board.groups if asked.items() <= key.items())
    found = board.predictor(**key)
    for price in range(MOST_KEPT + 1):  # what visitors choose
        board._answers.get(("asked", price), lambda: 0)
        assert board.predictor(**asked, eval_data=key["eval_data"]) is board.predictor(**asked) is found
    assert board.runs is runs


def test_families_without_runs_share_one_answer_under_their_own_names(board):
    one, other = board.predictor("olmo-2", "depth"), board.predictor("gemma-3", "depth")
    assert (one.group["family"], other.group["family"]) == ("olmo-2", "gemma-3")
    assert one.members is other.members
    assert one.resamples is other.resamples


def test_a_board_without_a_usable_run_is_made_ready_and_says_so(board):
    assert board.usable
    for rows in (board.frame[:0], board.frame[board.frame["rate"] == 0]):
        none = Board(as_logs(rows.reset_index(drop=True), (), source="nothing pruned")).ready()
        assert not none.usable
        table, cells = none.ranking
        assert table.empty
        assert cells.empty
        assert as_json.ranking(table, cells) == []
        with pytest.raises(P2Error, match="no usable rows"):
            _ = none.wanted
        with pytest.raises(P2Error):
            none.budget(ASKED)


def test_a_loss_that_nobody_measured_is_read_off_the_family_and_said_so(board):
    bases = {base.name: base for base in board.bases(board.texts[0])}
    assert bases["p2lab/llama-3-s3"].l0 == pytest.approx(2.719, abs=1e-3)
    assert not bases["p2lab/llama-3-s3"].interpolated
    assert bases["meta-llama/Llama-3.1-8B"].interpolated


def test_predicted_rows_are_those_of_the_groups_own_fits(board):
    rows = board.run("1972cf7b8b54a76d")
    said = board.predicted(rows, "p2")
    (fit,) = (f for key, f in board.fits("p2") if (key["family"], key["method"]) == ("llama-3", "depth"))
    assert said["predicted"].to_numpy()[1:] == pytest.approx(fit.predict(rows)[1:])
    assert (said["residual"] + said["predicted"]).to_numpy()[1:] == pytest.approx(rows["loss"].to_numpy()[1:])


def test_ways_to_the_same_size_cost_what_their_own_tokens_cost(board):
    rows = board.rivals(ASKED, eval_data=board.texts[0], gpu="h100", price=2.0)
    unpruned = rows["method"] == "none"
    assert set(unpruned) == {True, False}
    assert rows.loc[unpruned, ["gpu_hours", "cost"]].isna().all(axis=None)
    assert rows.loc[~unpruned, "cost"].to_numpy() == pytest.approx(2 * rows.loc[~unpruned, "gpu_hours"].to_numpy())
    assert (rows["parameters"] >= 0.25 * ASKED.n0 * (1 - ASKED.rate)).all()


@pytest.mark.parametrize("l_pruned", [None, 3.6])
def test_the_row_of_the_question_is_the_answer_itself_and_its_base_has_the_visitors_own_loss(l_pruned, board):
    question = replace(ASKED, l0=2.65, l_pruned=l_pruned)
    budget, _ = board.budget(question)
    base = next(base for base in board.bases(board.texts[0]) if base.name == "p2lab/llama-3-s3")
    for named, name in ((base, base.name), (None, "your model")):
        rows = board.rivals(question, eval_data=board.texts[0], base=named)
        own = rows[rows["base_model"] == name]
        (row,) = own[own["method"] == question.method].to_dict("records")
        assert row["loss"] == pytest.approx(budget.loss, abs=1e-6)
        assert (own["l0"] == 2.65).all()
        assert (own["l0_from"] == "measured").all()


def test_what_is_asked_twice_is_answered_once(board):
    assert board.budget(ASKED)[0] is board.budget(ASKED)[0]


def test_an_unknown_run_is_no_rows(board):
    assert board.run("0000000000000000").empty


@pytest.mark.slow
def test_a_board_made_ready_has_the_ranking(board):
    board.ready()
    table, _ = board.ranking
    assert table["law"].tolist() == rank(board.frame)["law"].tolist()
