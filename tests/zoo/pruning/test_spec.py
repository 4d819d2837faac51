"""Every refusal of a pruning spec, and its defaults."""

import pytest

from leaderboard.errors import P2Error
from zoo.pruning.methods import DEPTH, TWO_OF_FOUR, importances
from zoo.pruning.spec import PruneSpec


@pytest.mark.parametrize("method", importances())
def test_the_first_importance_is_the_default(method):
    spec = PruneSpec(method=method, rate=None if method in ("2:4", "none") else 0.25)
    assert spec.criterion == importances()[method][0]
    assert spec.needs_calibration == (method != "none")


@pytest.mark.parametrize(
    ("given", "logged"),
    [
        ({"method": "depth"}, "block-influence"),
        ({"method": "depth", "contiguous": True}, "block-influence-contiguous"),
        ({"method": "width"}, "minitron"),
        ({"method": "width", "axes": ("ffn", "hidden")}, "minitron-hidden-ffn"),
        ({"method": "depth+2:4", "contiguous": True}, "block-influence-contiguous+wanda"),
        ({"method": "depth", "layers": (9, 8), "rate": None}, "given-8-9"),
        ({"method": "depth+2:4", "layers": (3,), "rate": None, "importance": "given+magnitude"}, "given-3+magnitude"),
    ],
)
def test_a_log_names_what_decides_what_goes(given, logged):
    assert PruneSpec(**{"rate": 0.2} | given).logged == logged


def test_magnitude_needs_no_text():
    assert not PruneSpec(method="2:4", importance="magnitude").needs_calibration
    assert PruneSpec(method="depth+2:4", rate=0.2, importance="block-influence+magnitude").needs_calibration


def test_a_combined_method_has_two_parts():
    spec = PruneSpec(method="depth+2:4", rate=0.2, contiguous=True)
    assert (spec.structured, spec.sparse, spec.criterion) == (DEPTH, TWO_OF_FOUR, "block-influence+wanda")
    assert (spec.sparse_criterion, PruneSpec(method="2:4").structured) == ("wanda", None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": 124}, "quote it: '2:4'"),
        ({"method": "widht", "rate": 0.2}, "Did you mean 'width'"),
        ({"method": ["depth"], "rate": 0.2}, "unknown pruning method"),
        ({"method": "depth"}, "rate: missing"),
        ({"method": "depth", "rate": 25}, "0.25 removes a quarter"),
        ({"method": "depth", "rate": 0}, "0.25 removes a quarter"),
        ({"method": "depth", "rate": float("nan")}, "0.25 removes a quarter"),
        ({"method": "depth", "rate": "25%"}, r"'25%' \(str\)"),
        ({"method": "depth", "rate": True}, r"True \(bool\)"),
        ({"method": "2:4", "rate": 0.5}, "has only one rate"),
        ({"method": "2:4", "importance": "wand"}, "Did you mean 'wanda'"),
        ({"method": "depth", "rate": 0.2, "importance": "wanda"}, "Known: block-influence"),
        ({"method": "width", "rate": 0.2, "contiguous": True}, "contiguous: is for depth"),
        ({"method": "depth", "rate": 0.2, "contiguous": "yes"}, "true and false"),
        ({"method": "width", "layers": (1,)}, "layers: is for depth"),
        ({"method": "none", "layers": (1,)}, "layers: is for depth"),
        ({"method": "depth", "layers": (1,), "rate": 0.2}, "exactly what goes"),
        ({"method": "depth", "layers": (1,), "contiguous": True}, "prune.layers names the layers"),
        ({"method": "depth", "layers": (1,), "importance": "block-influence"}, "Known: given"),
        ({"method": "depth", "layers": (1, 2, 1)}, "names 1 more than once"),
        ({"method": "depth", "layers": ()}, "counted from 0"),
        ({"method": "depth", "layers": (-1,)}, "counted from 0"),
        ({"method": "depth", "layers": (True,)}, "counted from 0"),
        ({"method": "depth", "rate": 0.2, "axes": ("ffn",)}, "axes: is for width"),
        ({"method": "width", "rate": 0.2, "axes": ()}, "one or more of"),
        ({"method": "width", "rate": 0.2, "axes": ("hiden",)}, "Did you mean 'hidden'"),
        ({"method": "width", "rate": 0.2, "axes": ("ffn", "ffn")}, "once"),
        ({"method": "unstructured"}, "rate: missing"),
        ({"method": "2:4+depth", "rate": 0.2}, r"Known: 2:4, depth, depth\+2:4"),
        ({"method": "depth+2:4", "rate": 0.2, "importance": "wanda"}, r"Known: block-influence\+magnitude"),
        ({"method": "width+2:4", "rate": 0.2, "contiguous": True}, "contiguous: is for depth"),
        ({"method": "2:4", "calibration_tokens": 0}, "calibration_tokens"),
        ({"method": "2:4", "seed": 1.5}, "seed"),
    ],
)
def test_refusals_say_what_is_allowed(given, words):
    with pytest.raises(P2Error, match=words):
        PruneSpec(**given)
