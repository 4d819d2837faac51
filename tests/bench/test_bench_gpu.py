"""`make bench-gpu`, rehearsed: every row runs at toy size, and one that fails leaves the others alone."""

import json

import pytest
import torch

from tests.bench import gpu
from tests.bench.gpu_rows import ROWS, Measured, Row


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_row_runs_at_toy_size(tmp_path, capsys):
    assert gpu.main(["--toy", "--out", str(tmp_path / "toy.json")]) == 0
    found = json.loads((tmp_path / "toy.json").read_text())
    told = {row["name"]: row["told"] for row in found["rows"]}
    assert list(told) == [row.name for row in ROWS]
    left_out = {name for name, words in told.items() if words.startswith("not measured")}
    assert left_out <= {"sparsegpt"}
    assert found["toy"]
    assert all(row.get("reached") is None for row in found["rows"])
    assert all(f"| {row.what} |" in capsys.readouterr().out for row in ROWS[:1])


def test_a_row_that_fails_says_how_and_the_next_one_runs():
    def greedy(bench):
        torch.empty(2**50, dtype=torch.uint8)

    def broken(bench):
        raise KeyError("x")

    rows = [Row("a", "a", "", greedy), Row("b", "b", "", broken)]
    rows.append(Row("c", "c", "1 x", lambda bench: Measured(2.0, "x", "2.0 x"), lambda found: found.value >= 1))
    results = [gpu.run(row, None, float("inf"), toy=False) for row in rows]
    assert [result["told"] for result in results] == ["out of memory", "failed: KeyError: 'x'", "2.0 x"]
    assert results[2]["reached"] is True
    assert gpu.run(rows[2], None, end=0.0, toy=False)["told"] == "not measured: the time was over"
    assert "| c | 2.0 x | 1 x | reached |" in gpu.table(results)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here, so it would measure")
def test_without_a_gpu_it_says_so_and_measures_nothing(tmp_path, capsys):
    assert gpu.main(["--out", str(tmp_path / "none.json")]) == 0
    assert "not run: PyTorch sees no GPU" in capsys.readouterr().out
    assert not (tmp_path / "none.json").exists()
