"""Nearest achievable rates, checked by brute force and by hand, and the refusals."""

import json
from dataclasses import replace
from itertools import product

import pytest

from leaderboard.errors import P2Error
from leaderboard.shapes import bundled_config, parameters, shape_of
from zoo.pruning.plan import SLACK, plan
from zoo.pruning.spec import PruneSpec

LLAMA = shape_of(bundled_config("meta-llama/Llama-3.2-1B"))
QWEN = shape_of(bundled_config("Qwen/Qwen2.5-0.5B"))


@pytest.fixture(scope="module")
def tiny(quickstart):
    return shape_of(json.loads((quickstart / "tiny-llama-3" / "config.json").read_text()))


def test_three_of_twelve_layers_by_hand(tiny):
    got = plan(tiny, PruneSpec(method="depth", rate=0.128))
    layer = 128 * 128 * 2 + 128 * 64 * 2 + 3 * 128 * 352 + 2 * 128  # q and o, k and v, MLP, norms
    assert got.target == replace(tiny, layers=9)
    assert (got.n0, got.n_pruned) == (4_312_192, 4_312_192 - 3 * layer)
    assert got.rate == pytest.approx(3 * layer / 4_312_192, rel=1e-12)
    assert got.rate_nonembedding == pytest.approx(0.25, abs=1e-4)
    assert "layers 12 -> 9" in got.summary


def test_named_layers_tell_the_rate(tiny):
    asked = plan(tiny, PruneSpec(method="depth", rate=0.128))
    named = plan(tiny, PruneSpec(method="depth", layers=(8, 9, 10)))
    assert named.target == asked.target
    assert (asked.rate_requested, named.rate_requested) == (0.128, asked.rate)
    both = plan(tiny, PruneSpec(method="depth+2:4", layers=(8, 9, 10)))
    assert both.rate_requested == asked.rate < both.rate
    assert plan(tiny, PruneSpec(method="2:4")).rate_requested is None


@pytest.mark.parametrize("rate", [0.15, 0.25, 0.35])
@pytest.mark.parametrize("shape", [LLAMA, QWEN], ids=["llama", "qwen"])
def test_depth_takes_the_nearest_layer_count(shape, rate):
    rates = [1 - parameters(replace(shape, layers=n)) / parameters(shape) for n in range(1, shape.layers)]
    assert plan(shape, PruneSpec(method="depth", rate=rate)).rate == min(rates, key=lambda r: abs(r - rate))


@pytest.mark.parametrize("rate", [0.15, 0.25, 0.35])
@pytest.mark.parametrize("shape", [LLAMA, QWEN], ids=["llama", "qwen"])
def test_width_is_near_the_request_in_steps_of_64(shape, rate):
    got = plan(shape, PruneSpec(method="width", rate=rate))
    grid = product(range(64, shape.hidden + 1, 64), range(64, shape.ffn + 1, 64), range(1, shape.group + 1))
    shapes = (replace(shape, hidden=h, ffn=f, heads=g * shape.kv_heads) for h, f, g in grid)
    allowed = (s for s in shapes if (s.hidden % s.heads == 0 if shape == LLAMA else s.hidden == 64 * s.heads))
    best = min(abs(1 - parameters(s) / got.n0 - rate) for s in allowed)
    assert abs(got.rate - rate) <= best + SLACK
    assert (got.target.hidden % 64, got.target.ffn % 64, got.target.heads % shape.kv_heads) == (0, 0, 0)
    assert (got.target.kv_heads, got.target.head_dim, got.target.layers) == (shape.kv_heads, 64, shape.layers)


def test_width_spreads_the_cut():
    target = plan(LLAMA, PruneSpec(method="width", rate=0.25)).target
    assert target.hidden < LLAMA.hidden
    assert target.ffn < LLAMA.ffn
    assert abs(target.hidden / LLAMA.hidden - target.ffn / LLAMA.ffn) < 0.05


@pytest.mark.parametrize("axis", ["hidden", "ffn"])
def test_an_axis_left_out_stays_whole(tiny, axis):
    target = plan(tiny, PruneSpec(method="width", rate=0.2, axes=(axis,))).target
    assert target == replace(tiny, **{axis: getattr(target, axis)})
    assert getattr(target, axis) < getattr(tiny, axis)


def test_2of4_halves_the_matrices_only(tiny):
    got = plan(tiny, PruneSpec(method="2:4"))
    assert got.target == tiny
    assert got.n0 - got.n_pruned == 12 * (128 * 128 * 2 + 128 * 64 * 2 + 3 * 128 * 352) // 2
    assert 0.25 < got.rate < 0.26
    assert 0.36 < plan(QWEN, PruneSpec(method="2:4")).rate < plan(LLAMA, PruneSpec(method="2:4")).rate < 0.45


@pytest.mark.parametrize(
    ("changes", "spec", "words"),
    [
        ({}, {"method": "depth", "rate": 0.9}, r"0.9 is out of reach.*0.4708 \(layers 12 -> 1\)"),
        ({}, {"method": "depth", "rate": 0.01}, r"0.01 is out of reach.*0.0428 \(layers 12 -> 11\)"),
        ({"layers": 2}, {"method": "depth", "rate": 0.15}, r"nearest achievable: 0\.\d+ \(layers 2 -> 1\)"),
        (
            {"layers": 4, "vocab": 512},
            {"method": "depth", "rate": 0.34},
            r"0\.\d+ \(layers 4 -> 3\) and 0\.\d+ \(layers 4 -> 2\)",
        ),
        ({"layers": 1}, {"method": "depth", "rate": 0.3}, "too small to lose anything"),
        ({}, {"method": "width", "rate": 0.3, "axes": ("heads",)}, r"0.0456 \(heads 4 -> 2\)"),
        ({"kv_heads": 4}, {"method": "width", "rate": 0.1, "axes": ("heads",)}, "one head a group"),
        ({"hidden": 126}, {"method": "2:4"}, "hidden size is 126"),
        ({}, {"method": "depth", "layers": (3, 12)}, "names 12, allowed is 0 to 11"),
        ({}, {"method": "depth", "layers": tuple(range(12))}, "all 12 layers"),
        ({"ffn": 350}, {"method": "2:4"}, "FFN size is 350"),
    ],
)
def test_refusals_name_the_neighbours(tiny, changes, spec, words):
    with pytest.raises(P2Error, match=words):
        plan(replace(tiny, **changes), PruneSpec(**spec))


@pytest.mark.parametrize("size", ["0.5B", "1.5B", "3B", "7B"])
def test_heads_of_a_narrower_qwen_2_fill_its_hidden_size_as_those_who_load_it_ask(size):
    full = shape_of(bundled_config(f"Qwen/Qwen2.5-{size}"))
    for rate in (0.15, 0.25, 0.35):
        got = plan(full, PruneSpec(method="width", rate=rate))
        assert got.target.heads * got.target.head_dim == got.target.hidden <= full.hidden
        assert got.rate == pytest.approx(rate, abs=0.007)
    with pytest.raises(P2Error, match="hidden and heads get narrower together"):
        plan(full, PruneSpec(method="width", rate=0.15, axes=("hidden", "ffn")))


def test_llama_hidden_stays_a_multiple_of_its_heads():
    smol = replace(LLAMA, layers=30, hidden=576, ffn=1536, heads=9, kv_heads=3, vocab=49_152)
    for rate in (0.15, 0.25, 0.35):
        target = plan(smol, PruneSpec(method="width", rate=rate)).target
        assert target.hidden % target.heads == 0
