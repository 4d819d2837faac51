"""Losses that were measured under different protocols share no fit, and a decaying rate counts at its end only."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import FitError, fit, recommend_tokens
from leaderboard.laws.catalogue import LAWS
from leaderboard.logs.contract import COLUMNS, usable
from leaderboard.logs.load import as_logs
from leaderboard.logs.origin import WORDS, protocol, usual_protocol
from leaderboard.planning.budget import Question
from leaderboard.planning.outlook import nearest_runs
from leaderboard.planning.plan import plan
from leaderboard.ranking.cells import score_cells
from leaderboard.ranking.tracks import groups, on_text
from leaderboard.serving.board import Board
from leaderboard.serving.runs import group_name, panels

TEXT = [c.name for c in COLUMNS if c.kind == "text"]
OTHER = {"seq_len": 1024, "packing": "bfd_split", "eval_tokens": 4096.0, "vocab_size": 32_000}
ASKED = {"family": "llama-3", "method": "depth", "rate": 0.25, "n0": 34e6, "l0": 2.72, "excess": 0.1, "law": "p2"}


def joined(*frames):
    whole = pd.concat([f.astype(dict.fromkeys(TEXT, object)) for f in frames], ignore_index=True)
    return whole.astype(dict.fromkeys(TEXT, "category"))


def again(frame, loss=0.0, **columns):
    """The runs a second time under other ids and with other columns."""
    return frame.assign(run_id=frame["run_id"].astype(str).str[::-1], loss=frame["loss"] + loss, **columns)


@pytest.fixture(scope="module")
def depth(seed):
    return seed[(seed["method"] == "depth") & (seed["family"] == "llama-3")]


@pytest.fixture(scope="module")
def mixed(seed, depth):
    """The seed, and the depth runs of one family again in longer sequences, a nat higher."""
    return joined(seed, again(depth, 1.0, seq_len=1024))


@pytest.mark.parametrize("column", OTHER)
def test_a_difference_parts_groups(depth, column):
    both = joined(depth, again(depth, **{column: OTHER[column]}))
    own = groups(usable(both))
    assert [rows[column].nunique(dropna=False) for _, rows in own] == [1, 1]
    assert own[0][0]["protocol"] != own[1][0]["protocol"]
    for key, rows in own:
        assert len(on_text(usable(both), key)) == len(rows)
    with pytest.raises(FitError, match=r"mixes runs measured with sequences of .* and with sequences of .* at a time"):
        fit(LAWS["p2"], both)
    assert len(groups(usable(both.drop(columns=column)))) == 1  # a column that is missing counts as equal


def test_two_runs_that_differ_in_the_measured_slice_alone_share_a_run_id_and_no_group(log_table):
    one, other = (log_table(eval_tokens=n).to_pandas() for n in (16_384, 32_768))
    assert one["run_id"].iloc[0] == other["run_id"].iloc[0]
    assert len(groups(usable(joined(one, other.assign(contributor="bob"))))) == 2


def test_what_could_not_be_recorded_yet_is_that_of_runs_otherwise_alike(depth):
    first, second = np.unique(depth["run_id"].astype(str))[:2]
    one, other = (depth[depth["run_id"] == run] for run in (first, second))
    known = one.assign(tokenizer_sha256="a" * 64)
    assert set(protocol(joined(known, other))) == {""}
    foreign = again(one, tokenizer_sha256="b" * 64)
    assert len(set(protocol(joined(known, foreign)))) == 2
    assert len(set(protocol(joined(known, foreign, other)))) == 3  # nobody knows which of the two it is


def test_a_text_measured_in_one_way_is_not_parted_by_another_text(depth):
    both = joined(depth, again(depth, seq_len=1024, eval_data="another"))
    assert set(protocol(both)) == {""}
    assert all("protocol" not in key for key, _ in groups(usable(both)))


def test_the_usual_protocol_is_that_of_most_runs(mixed, depth):
    rows, words = usual_protocol(mixed)
    assert (set(rows["seq_len"]), words[:16]) == ({512}, "sequences of 512")
    rows, _ = usual_protocol(mixed, (mixed["seq_len"] == 1024).to_numpy())
    assert set(rows["seq_len"]) == {1024}


def test_answers_are_those_without_the_others_and_say_so(seed, mixed):
    plain, answer = recommend_tokens(seed, **ASKED), recommend_tokens(mixed, **ASKED)
    assert answer.tokens == plain.tokens > 1e6
    assert answer.group["protocol"].startswith("sequences of 512")
    assert any("measured otherwise share no fit" in line for line in answer.why)
    assert "protocol" not in plain.group
    asked = {"deployed": 8e6, "tokens": 1e7, "family": "llama-3", "law": "p2-no-l0"}
    pd.testing.assert_frame_equal(plan(mixed, **asked), plan(seed, **asked))


def test_a_board_keeps_them_apart(mixed):
    board = Board(as_logs(mixed, (), "mixed"))
    key = next(key for key, rows in board.groups if set(rows["seq_len"]) == {1024})
    assert "sequences of 1,024" in group_name(key)
    rows = usable(mixed[(mixed["family"] == "llama-3") & (mixed["method"] == "depth")])
    residual = board.predicted(rows, "p2")["residual"]
    assert residual.abs().max() < 0.3  # the nat between them is in no fit
    names = panels(mixed, board.runs)[0]["panel"].astype(str)
    assert names[names.str.contains("sequences of 1,024")].nunique() == 1
    near = nearest_runs(mixed, key, Question(family="llama-3", method="depth", rate=0.25, n0=34e6, l0=2.7))
    assert set(near["seq_len"]) == {1024}


def test_cells_of_two_protocols_bear_two_names_and_are_those_of_each_alone(mixed, depth):
    cells, alone = (score_cells(frame, {"p2": LAWS["p2"]}, ("size",), draws=1) for frame in (mixed, depth))
    own = cells[(cells["method"] == "depth") & (cells["family"] == "llama-3")].sort_values("protocol")
    assert own["cell"].nunique() == len(own) == 2
    assert own["rmse"].iloc[1] == pytest.approx(alone["rmse"].iloc[0], rel=1e-9)


def test_the_words_name_columns_of_the_contract():
    assert set(WORDS) < {c.name for c in COLUMNS}


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_rows_midway_of_a_decaying_rate_are_no_finished_budgets(depth, schedule):
    moving = usable(depth.assign(schedule=schedule))
    last = depth.groupby("run_id", observed=True)["tokens"].max()
    assert sorted(moving["tokens"]) == sorted(last)
    assert len(usable(depth.assign(schedule=schedule, tokens_planned=10**9))) == 0  # not finished
    assert len(usable(depth.assign(schedule=schedule).drop(columns="tokens_planned"))) == 0
    assert (
        len(usable(depth.assign(schedule=None))) == len(usable(depth.assign(schedule="constant"))) == len(usable(depth))
    )
