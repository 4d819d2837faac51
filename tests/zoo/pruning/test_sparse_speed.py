"""Dense against 2:4: shapes, table and advice. The kernels need a GPU; no CPU timing stands in for them."""

import io
import json

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from leaderboard.errors import P2Error, RunFailed
from leaderboard.shapes import bundled_config, parameters_nonembedding, shape_of
from zoo.cli import app
from zoo.cli.model import timing_table
from zoo.pruning.sparse_speed import Matrix, Timing, advice, as_dict, matrices, measure, seconds, time_matrix, why_not

CPU = torch.device("cpu")
LLAMA = shape_of(bundled_config("meta-llama/Llama-3.2-1B"))
DOWN = Matrix(("down_proj",), 2048, 8192, 16)
SQUARE = Matrix(("q_proj", "o_proj"), 2048, 2048, 32)
no_gpu = pytest.mark.skipif(why_not() is None, reason="this machine has a GPU with 2:4 kernels")


def test_every_matrix_that_2of4_prunes_is_there_once():
    found = matrices(LLAMA)
    assert [(m.names, m.outputs, m.inputs, m.count) for m in found] == [
        (("q_proj", "o_proj"), 2048, 2048, 32),
        (("k_proj", "v_proj"), 512, 2048, 32),
        (("gate_proj", "up_proj"), 8192, 2048, 32),
        (("down_proj",), 2048, 8192, 16),
    ]
    norms = (2 * LLAMA.layers + 1) * LLAMA.hidden
    assert sum(m.outputs * m.inputs * m.count for m in found) == parameters_nonembedding(LLAMA) - norms


def test_a_kernel_that_fails_or_errs_is_noted_and_not_timed():
    def off_by_ten_percent(weight):
        return 1.1 * weight

    def absent(weight):
        raise NotImplementedError("no such kernel\nand more")

    packers = {"dense again": torch.Tensor.clone, "wrong": off_by_ten_percent, "absent": absent}
    timing = time_matrix(Matrix(("a",), 64, 32, 1), 16, CPU, packers, lambda: None)
    assert set(timing.sparse_s) == {"dense again"}
    assert timing.refused == {"wrong": "wrong result, relative error 0.1", "absent": "no such kernel"}
    assert timing.dense_s > 0 < timing.ratio("dense again")
    assert timing.ratio("wrong") is None


def test_a_call_is_timed_by_itself_however_many_are_made():
    calls = []
    assert 0 < seconds(lambda: calls.append(1), lambda: None) < 1
    assert len(calls) > 8


def test_advice_switches_on_what_pays_and_counts_every_matrix():
    timings = [
        Timing(DOWN, 16_384, 4.0, {"cusparselt": 2.0, "cutlass": 5.0}),
        Timing(SQUARE, 16_384, 1.0, {"cusparselt": 1.5}),
        Timing(DOWN, 1, 1.0, {"cusparselt": 10.0}),
        Timing(SQUARE, 1, 1.0, refused={"cusparselt": "no"}),
    ]
    decode, prefill = advice(timings)
    assert decode.startswith("decode (1 tokens at a time): leave every matrix dense")
    assert "switch on down_proj (cusparselt, 2.00 x); all matrices" in prefill
    dense, mixed = 16 * 4.0 + 32 * 1.0, 16 * 2.0 + 32 * 1.0
    assert f"{dense / mixed:.2f} times as fast" in prefill
    assert "o_proj" not in prefill


def test_the_table_says_who_refused():
    timings = [Timing(DOWN, 64, 2e-4, {"cusparselt": 1e-3}, {"cutlass": "needs SM 8.x"})]
    console = Console(file=io.StringIO(), width=100)
    console.print(timing_table(timings, "a GPU"))
    (row,) = [line for line in console.file.getvalue().splitlines() if "down_proj" in line]
    assert row.split()[-5:] == ["64", "200.0", "0.20", "x", "refused"]
    assert json.loads(json.dumps(as_dict(timings)))[0]["ratio"] == {"cusparselt": pytest.approx(0.2)}


@no_gpu
def test_without_a_gpu_it_shows_shapes_and_measures_nothing(tmp_path):
    shown = CliRunner().invoke(app, ["bench-sparse", "meta-llama/Llama-3.2-1B"])
    assert isinstance(shown.exception, RunFailed)
    assert shown.exception.exit_code == 1
    assert "not measured: PyTorch sees no CUDA GPU here" in str(shown.exception)
    assert "8192 x 2048" in shown.output
    assert "each on 1, 64, 2,048, 16,384 tokens at a time" in shown.output
    (tmp_path / "config.json").write_text(json.dumps(bundled_config("Qwen/Qwen2.5-0.5B")))
    found = json.loads(CliRunner().invoke(app, ["bench-sparse", str(tmp_path), "--json"]).stdout)
    assert (found["timings"], found["advice"], found["device"]) == ([], [], None)
    assert found["not_measured"]
    assert found["matrices"][0] == {"names": ["q_proj", "o_proj"], "outputs": 896, "inputs": 896, "count": 48}


@pytest.mark.skipif(why_not() is not None, reason="needs a GPU with 2:4 kernels")
def test_on_a_gpu_both_times_are_there():
    for timing in measure([Matrix(("gate_proj",), 8192, 2048, 1)], (2048,)):
        assert timing.sparse_s.keys() | timing.refused.keys() == {"cusparselt", "cutlass"}
        assert timing.sparse_s


def test_a_folder_without_a_config(tmp_path):
    shown = CliRunner().invoke(app, ["bench-sparse", str(tmp_path)])
    assert isinstance(shown.exception, P2Error)
    assert "no config.json there" in str(shown.exception)
