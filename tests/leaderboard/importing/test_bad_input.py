"""Files that are no log, broken ones and hostile ones: one message each, quickly, and nothing is executed."""

import gzip
import json
import pickle
import re
import zipfile

import pytest

from leaderboard.child import Limits
from leaderboard.errors import P2Error
from leaderboard.importing import import_log, read_runs
from leaderboard.importing.apart import read_apart
from leaderboard.importing.readers import MAX_BYTES
from leaderboard.logs.contract import write_log
from tests.leaderboard.importing.conftest import history, loss, state, steps

DATA = state(history())
LINES = "\n".join(map(json.dumps, history())).encode()
BAD = {
    "empty": (b" \n ", "is empty"),
    "truncated JSON": (DATA[: len(DATA) // 2], "is cut off; copy it again"),
    "truncated gzip": (gzip.compress(DATA)[:-20], "the gzip file is cut off"),
    "damaged gzip": (gzip.compress(DATA)[:10] + b"\xff" * 50, "a damaged gzip file"),
    "gzip bomb": (gzip.compress(bytes(MAX_BYTES + 1)), "unpacked more than"),
    "a bad line": (LINES[:300] + b"}{" + LINES[300:], "no JSON"),
    "deep nesting": (b'{"log_history": ' + b"[" * 200_000, "nested too deeply"),
    "deep nesting in a line": (b'{"step": 1}\n{"a":' + b"[" * 200_000 + b"\n" + b'{"step": 1}', "nested too deeply"),
    "a number without end": (b'[{"step": ' + b"1" * 10_000 + b"}]", "a number of thousands of digits"),
    "results of a run": (json.dumps({"train_runtime": 5.0, "epoch": 1.0}).encode(), "no held-out series"),
    "a config": (json.dumps({"architectures": ["X"], "hidden_size": 8}, indent=1).encode(), "JSON, but no log"),
    "prose": (b"The loss went down, and then up again.\n" * 10, "no log that is known here. Read are"),
    "a list of words": (b'["step", "loss"]', "no row with a number"),
    "CSV without numbers": (b"step,loss\none,two\n", "no log that is known"),
    "a pickle": (pickle.dumps({"log_history": []}), "a pickle, which is never opened"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(50), "a picture"),
    "a database": (b"SQLite format 3\0" + bytes(50), "an SQLite database"),
    "event file": (b"\x18\0\0\0\0\0\0\0\xa3\x7fbrain.Event:2" + bytes(20), "TensorBoard event file"),
    "binary": (bytes(range(256)) * 10, "is no text"),
    "parquet in name": (b"PAR1junkPAR1", "unreadable parquet"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_log_is_refused_in_words(kind, facts):
    data, words = BAD[kind]
    with pytest.raises(P2Error, match=re.escape(words)):
        import_log(data, "trainer_state.json", **facts())


def test_a_file_of_200_mb_is_refused_unread(tmp_path):
    path = tmp_path / "huge.jsonl"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(P2Error, match=r"200,000,000 bytes, allowed are 64,000,000"):
        read_runs(path)


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: None])
def test_a_folder_without_a_state_and_a_missing_file_are_told(make, tmp_path):
    make(tmp_path / "out")
    with pytest.raises(P2Error, match=r"no trainer_state\.json|no such file"):
        read_runs(tmp_path / "out")


def test_a_torch_file_is_not_opened(tmp_path):
    with zipfile.ZipFile(tmp_path / "optimizer.pt", "w") as archive:
        archive.writestr("data.pkl", pickle.dumps([1]))
    with pytest.raises(P2Error, match="a zip archive or a PyTorch file"):
        read_runs(tmp_path / "optimizer.pt")


def test_a_p2zoo_log_needs_no_import(tmp_path, log_table):
    with pytest.raises(P2Error, match="is a run log of p2zoo already"):
        read_runs(write_log(tmp_path / "log.parquet", log_table()))


def test_a_last_line_that_is_cut_off_is_left_out_and_told(facts):
    found = import_log(LINES[:-10], "run.jsonl", **facts())
    assert [n.words for n in found.notes if n.code == "reader"] == ["The last line is cut off and was left out."]
    assert len(found.frame) == len(steps()) - 1


def test_odd_rows_among_good_ones_are_passed_over(facts):
    rows = [*history(), None, 7, {"eval_loss": "high", "step": True}, {"metrics": {"a": [1]}, "\ud800": 1.0}]
    assert len(import_log(json.dumps({"log_history": rows}).encode(), **facts()).frame) == len(steps())


def test_a_run_named_by_a_lone_surrogate_is_told_in_plain_text():
    data = json.dumps({"\ud800": [{"step": 1}], "\u202eb": [{"step": 1}]}).encode()
    with pytest.raises(P2Error) as refused:
        import_log(data, "runs.json")
    assert str(refused.value).isprintable()
    assert str(refused.value).encode()


@pytest.mark.parametrize(
    "line",
    ["step=" + "1" * 15_000 + "x", "step=1 " * 2_000, "{'" * 8_000, "{'a': " + "1" * 15_000 + "x}", "a" * 3_000_000],
)
def test_long_lines_do_not_hold_it_up(line, facts):
    data = "\n".join([*(f"step={s} val_loss={loss(s)}" for s in steps()), *[line] * 3]).encode()
    assert len(import_log(data, "out.log", **facts()).frame) == len(steps())


def test_a_file_is_read_alike_in_a_child_and_ends_only_that(tmp_path, facts):
    path = tmp_path / "runs.json"
    path.write_text(json.dumps({"a": history(), "b\ud800": [*history(), {"step": 1, "eval_loss": float("nan")}]}))
    apart, here = read_apart(path), read_runs(path)
    assert [one.name for one in apart] == [one.name for one in here]
    a, b = (import_log(runs[0], **facts()) for runs in (apart, here))
    assert a.table.drop(["created_at"]).equals(b.table.drop(["created_at"]))
    assert [n.code for n in a.notes] == [n.code for n in b.notes]
    path.write_bytes(b"[" + b'{"step": 1, "eval_loss": 2.5},' * 200_000 + b"{}]")
    with pytest.raises(P2Error, match="takes more memory"):
        read_apart(path, Limits(memory=20_000_000))
    path.write_bytes(DATA[: len(DATA) // 2])
    with pytest.raises(P2Error, match="is cut off"):
        read_apart(path)
