"""A board answers as the functions behind it do, once for all who ask, and never keeps a failure."""

import threading

import pytest

from leaderboard import load_logs, rank, recommend_tokens
from leaderboard.board import MOST_KEPT, Board
from leaderboard.budget import Question
from leaderboard.errors import P2Error

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
    assert predictor.fit.law.name == found.law


def test_a_price_of_ones_own_changes_the_cost_alone(board):
    usual, _ = board.budget(ASKED, gpu="h100")
    dear, _ = board.budget(ASKED, gpu="h100", price=30.0)
    assert dear.gpu_hours == usual.gpu_hours
    assert dear.cost == pytest.approx(10 * usual.cost)


def test_what_is_asked_by_many_is_made_once(board):
    made, gate = [], threading.Barrier(8)

    def make():
        made.append(1)
        return object()

    answers = []

    def ask():
        gate.wait()
        answers.append(board._once("asked by many", make))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(set(map(id, answers))) == 1


def test_a_failure_is_not_kept_and_old_answers_go(board):
    for _ in range(2):
        with pytest.raises(P2Error, match="unknown family"):
            board.predictor("lama-3", "depth")
    for i in range(MOST_KEPT + 10):
        board._once(("filler", i), lambda: 0)
    assert len(board._slots) <= MOST_KEPT + 1


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


def test_an_unknown_run_is_no_rows(board):
    assert board.run("0000000000000000").empty


@pytest.mark.slow
def test_a_board_made_ready_has_the_ranking(board):
    board.ready()
    table, _ = board.ranking
    assert table["law"].tolist() == rank(board.frame)["law"].tolist()
