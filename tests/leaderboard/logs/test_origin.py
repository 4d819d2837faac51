"""Imported and LoRA runs: what their logs may lack, and that they share no fit with p2zoo's own."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from leaderboard import FitError, fit, load_logs, recommend_tokens
from leaderboard.laws.catalogue import LAWS
from leaderboard.logs.check import check_files
from leaderboard.logs.contract import BY_NAME, COLUMNS, REQUIRED_OF_IMPORTED, run_id, usable
from leaderboard.logs.load import as_logs
from leaderboard.logs.origin import origins, standard
from leaderboard.ranking.tracks import groups, on_text
from leaderboard.serving.board import Board
from leaderboard.serving.runs import group_name, panels, runs_table

LATER = [c.name for c in COLUMNS if c.later]
OPTIONAL = [c.name for c in COLUMNS if not c.nullable and c.name not in REQUIRED_OF_IMPORTED]
IMPORTED = {"provenance": "imported", "import_sha256": "a" * 64}
SPARSE = IMPORTED | dict.fromkeys(OPTIONAL)


def report(path):
    return {(f.code, f.where.split(",")[0]) for f in check_files([path]).reports[0].findings}


def sparse(log_file, name="a.parquet", **more):
    """An imported log with nothing but what it must have; its rows begin after 0 tokens."""

    def without_zero_row(rows):
        del rows[0]
        run = rows[0] | SPARSE | more
        for row in rows:
            row.update(SPARSE | more | {"run_id": run_id(run)})

    return log_file(name, without_zero_row)


def test_an_imported_log_may_lack_all_but_a_few_columns(log_file):
    path = sparse(log_file)
    assert report(path) == set()
    frame = load_logs(path).frame
    assert set(frame["family"]) == set(frame["objective"]) == set(frame["base_model"]) == {"unknown"}
    assert len(usable(frame)) == 12


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_run_of_p2zoo_may_not(name, log_file):
    def without(rows):
        for row in rows:
            row[name] = None

    assert ("null", name) in report(log_file("a.parquet", without))


@pytest.mark.parametrize("name", [n for n in REQUIRED_OF_IMPORTED if not BY_NAME[n].nullable])
def test_what_an_imported_log_must_have(name, log_file):
    path = log_file("a.parquet", lambda rows: [row.update(IMPORTED | {name: None}) for row in rows])
    assert ("null", name) in report(path)


def test_its_row_at_0_tokens_stands_only_where_l_pruned_is_known(log_file):
    def null(rows):
        for row in rows:
            row.update(IMPORTED | {"l_pruned": None})
            row["run_id"] = run_id(rows[0] | IMPORTED)

    assert report(log_file("a.parquet", null)) == {("zero_row_loss", "loss")}


@pytest.mark.parametrize("name", LATER)
def test_a_log_from_before_a_late_column_reads_as_null(name, tmp_path, log_table):
    table = log_table()
    pq.write_table(table.drop_columns(LATER), tmp_path / "a.parquet")
    checked = check_files([tmp_path / "a.parquet"])
    assert checked.reports[0].ok
    assert checked.frame[name].isna().all()
    assert checked.frame["run_id"].iloc[0] == table["run_id"][0].as_py()


def test_a_late_column_enters_the_run_id_only_with_a_value(run_columns):
    assert run_id(run_columns) == run_id(run_columns | dict.fromkeys(LATER))
    values = {"int": 5, "text": "x"}
    others = {run_id(run_columns | {name: values[BY_NAME[name].kind]}) for name in LATER if BY_NAME[name].defines_run}
    assert run_id(run_columns) not in others
    assert len(others) == sum(BY_NAME[name].defines_run for name in LATER)


@pytest.fixture(scope="module")
def mixed(seed):
    """The seed, and five of its runs again as somebody's own: three imported, one by LoRA, one both."""
    pruned = seed[(seed["method"] == "depth") & (seed["family"] == "llama-3")]
    runs = pruned["run_id"].unique()[:5]
    marks = [("imported", np.nan)] * 3 + [(None, 1e5), ("imported", 1e5)]
    own = [
        pruned[pruned["run_id"] == run].assign(
            run_id=f"{i:016x}", provenance=source, trainable_params=some, loss=pruned["loss"] + 1.0
        )
        for i, (run, (source, some)) in enumerate(zip(runs, marks, strict=True))
    ]
    text = [c.name for c in COLUMNS if c.kind == "text"]
    frames = [f.astype(dict.fromkeys(text, object)) for f in (seed, *own)]
    return pd.concat(frames, ignore_index=True).astype(dict.fromkeys(text, "category"))


def test_they_are_groups_of_their_own(seed, mixed):
    named = [key.get("origin", "") for key, _ in groups(usable(mixed))]
    assert named == [""] * len(groups(usable(seed))) + ["LoRA", "imported", "imported, LoRA"]
    for key, rows in groups(usable(mixed)):
        assert origins(on_text(usable(mixed), key)) == origins(rows) == [key.get("origin", "")]


def test_no_fit_mixes_them(mixed):
    depth = mixed[mixed["method"] == "depth"]
    with pytest.raises(FitError, match="mixes runs that are p2zoo's own and LoRA and imported"):
        fit(LAWS["p2"], depth)


def test_answers_are_those_without_them(seed, mixed):
    asked = {"family": "llama-3", "method": "depth", "rate": 0.25, "n0": 34e6, "l0": 2.72, "law": "p2"}
    assert recommend_tokens(mixed, **asked).tokens == recommend_tokens(seed, **asked).tokens


def test_without_others_they_answer_among_themselves(mixed):
    own = mixed[mixed["provenance"].notna()]
    assert origins(standard(own)) == ["imported"]
    assert standard(own)["run_id"].nunique() == 3


def test_a_board_shows_them_and_says_what_they_are(mixed):
    board = Board(as_logs(mixed, (), "mixed"))
    drawn, _ = panels(board.frame, board.runs)
    assert {name for name in drawn["panel"].astype(str) if name.endswith("imported, LoRA")}
    own = board.frame[board.frame["provenance"].notna()]
    assert len(board.predicted(own, "p2")) == len(own)
    assert board.bases(board.texts[0])


def test_a_sparse_log_beside_the_seed_hinders_nothing(seed, log_file):
    path = sparse(log_file)
    text = [c.name for c in COLUMNS if c.kind == "text"]
    frames = [f.astype(dict.fromkeys(text, object)) for f in (seed, load_logs(path).frame)]
    both = pd.concat(frames, ignore_index=True).astype(dict.fromkeys(text, "category"))
    board = Board(as_logs(both, (), "both"))
    assert len(board.groups) == len(groups(usable(seed))) + 1
    assert runs_table(both)["recovered"].isna().sum() >= 1
    assert all(base.l0 is None or base.l0 > 0 for text in board.texts for base in board.bases(text))


def test_a_groups_name_says_its_origin():
    key = {"family": "unknown", "method": "depth", "eval_data": "t", "objective": "unknown", "origin": "imported"}
    assert group_name(key) == "unknown · depth · t · imported"
