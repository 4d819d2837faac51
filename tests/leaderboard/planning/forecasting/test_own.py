"""Reading a run of one's own: folders, parquet, half-written lines, and what is none of these."""

import json

import pytest

from leaderboard import P2Error, forecast
from leaderboard.planning.forecasting.own import read_own


def lines(count: int) -> str:
    return "".join(json.dumps({"tokens": i * 1000, "loss": 4 - 0.1 * i, "lr": 1e-4}) + "\n" for i in range(count))


def test_an_unfinished_run_is_read_up_to_its_last_whole_line(tmp_path, seed):
    (tmp_path / "log.jsonl").write_text(lines(8) + '{"tokens": 9000, "lo')
    (tmp_path / "run.json").write_text(json.dumps({"l0": 3.0, "status": "running", "inputs": {"a": 1}}))
    own = read_own(tmp_path)
    assert len(own) == 8
    assert set(own["l0"]) == {3.0}
    assert forecast(seed, own).last == 7000


def test_a_finished_log_is_read(log_file):
    path = log_file("log.parquet")
    assert list(read_own(path)["tokens"]) == list(read_own(path.parent)["tokens"])


BROKEN = {
    "neither log.parquet nor log.jsonl": ("", ""),
    "is no parquet file": ("log.parquet", "PAR1 or so"),
    "no rows yet": ("log.jsonl", '{"tokens": 1'),
    "line 2": ("log.jsonl", '{"tokens": 1, "loss": 2}\n[1, 2]\n'),
    "line 1": ("log.jsonl", "[" * 100_000 + "\n"),
}


@pytest.mark.parametrize("words", BROKEN)
def test_what_is_no_run_is_named(tmp_path, words):
    name, text = BROKEN[words]
    if name:
        (tmp_path / name).write_text(text)
    with pytest.raises(P2Error, match=words):
        read_own(tmp_path)


def test_other_files_are_pointed_to_import(tmp_path):
    (tmp_path / "trainer_state.json").write_text("{}")
    with pytest.raises(P2Error, match="p2zoo import"):
        read_own(tmp_path / "trainer_state.json")
    with pytest.raises(P2Error, match="does not exist"):
        read_own(tmp_path / "nowhere")
