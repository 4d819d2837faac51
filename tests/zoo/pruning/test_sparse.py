"""SparseGPT against brute force, block by block against the whole model, unstructured rates."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from leaderboard.errors import P2Error, RunFailed
from leaderboard.shapes import bundled_config, parameters, shape_of
from zoo.pruning.blocks import walk
from zoo.pruning.plan import plan, zeros_a_row
from zoo.pruning.sparsegpt import DAMPING, inverse_factor, prune_columns
from zoo.pruning.sparsity import magnitude, make_sparse, sparsegpt, wanda
from zoo.pruning.spec import PruneSpec


def _inputs(rows=400, width=32, seed=0):
    """Correlated inputs with features of very different size, as in a language model."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(rows, width, generator=generator) @ torch.randn(width, width, generator=generator)
    return mixed * torch.logspace(-0.5, 0.5, width)[torch.randperm(width, generator=generator)]


def test_a_pruned_column_is_made_up_for_as_least_squares_would():
    """First columns zeroed: what stays must be the best answer of all, which least squares gives."""
    x, weight = _inputs(width=8).double(), torch.randn(3, 8, generator=torch.Generator().manual_seed(1)).double()
    hessian = x.T @ x
    factor = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True).float()
    got = prune_columns(weight.float(), factor, 4, lambda score, first: (first == 0) & torch.ones_like(score).bool())
    assert (got[:, :4] == 0).all()
    best = torch.linalg.lstsq(x[:, 4:], x @ weight.T).solution.T
    torch.testing.assert_close(got[:, 4:].double(), best, rtol=1e-3, atol=1e-3)


def test_sparsegpt_beats_wanda_beats_magnitude_on_one_matrix():
    x, weight = _inputs(), torch.randn(24, 32, generator=torch.Generator().manual_seed(2))
    factor, damping = inverse_factor(x.T @ x)
    assert damping == DAMPING[0]
    for sparse in ("2:4", "unstructured"):
        pruned = (
            sparsegpt(weight, factor, sparse, 0.5),
            wanda(weight, x.square().sum(0), sparse, 0.5),
            magnitude(weight, None, sparse, 0.5),
        )
        assert all((new == 0).sum() == weight.numel() // 2 for new in pruned)
        errors = [((x @ (new - weight).T).norm() / (x @ weight.T).norm()).item() for new in pruned]
        assert errors == sorted(errors)
        assert errors[0] < 0.9 * errors[1]


def test_sparsegpt_takes_the_best_pair_of_the_last_four():
    """In the last group nothing is left to move, so the pair with the least exact error must go."""
    x, weight = _inputs(width=4), torch.tensor([[1.0, -2.0, 0.5, 3.0]])
    orthogonal = torch.linalg.qr(x).Q * torch.tensor([4.0, 1.0, 3.0, 0.5])
    factor, _ = inverse_factor(orthogonal.T @ orthogonal)
    got = sparsegpt(weight, factor, "2:4", 0.5)
    errors = {pair: (orthogonal[:, pair] @ weight[0, list(pair)]).norm() for pair in combinations(range(4), 2)}
    assert tuple((got[0] == 0).nonzero().flatten().tolist()) == min(errors, key=errors.get)


def test_cholesky_is_tried_again_with_more_damping():
    """A matrix that is no product of inputs, as rounding may leave one: its least eigenvalue is -0.05."""
    basis = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0))).Q
    hessian = basis @ torch.diag(torch.tensor([-0.05, *([1.0] * 7)])) @ basis.T
    factor, damping = inverse_factor(hessian)
    assert damping == DAMPING[1]
    assert factor.isfinite().all()
    with pytest.raises(RunFailed, match=r"8-input matrix has no Cholesky factor.*use importance wanda"):
        inverse_factor(hessian.fill_(torch.nan))


def test_inputs_that_are_always_zero_change_no_count():
    x = _inputs()
    x[:, 4:12] = 0
    factor, _ = inverse_factor(x.T @ x)
    for sparse in ("2:4", "unstructured"):
        assert (sparsegpt(torch.randn(5, 32), factor, sparse, 0.5) == 0).sum() == 80


def test_walking_block_by_block_is_the_plain_forward(build, batches):
    """With sliding and full attention in one model, so that layers get masks of their own."""
    model = build("qwen2", True, num_hidden_layers=4, use_sliding_window=True, sliding_window=4, max_window_layers=2)
    seen = []
    outputs = walk(model, batches, torch.device("cpu"), lambda index, _layer, run: seen.append(index) or run())
    assert seen == [0, 1, 2, 3]
    with torch.no_grad():
        for batch, output in zip(batches, outputs, strict=True):
            torch.testing.assert_close(model.model.norm(output), model.model(batch).last_hidden_state)
    assert all("forward" not in vars(layer) for layer in model.model.layers)


def test_a_layer_is_judged_on_what_pruned_layers_let_through(build, batches):
    """Layer 1 of Wanda's model is what Wanda does to layer 1 alone on inputs taken behind the pruned layer 0."""
    model, dense = build("llama", True), build("llama", True)
    report = make_sparse(model, "wanda", "2:4", 0.5, batches)
    seen = []
    handle = model.model.layers[1].mlp.down_proj.register_forward_pre_hook(
        lambda _m, a: seen.append(a[0].flatten(0, 1))
    )
    with torch.no_grad():
        dense.model.layers[0].load_state_dict(model.model.layers[0].state_dict())
        dense.model.layers[1].mlp.down_proj.register_forward_pre_hook(lambda _m, a: seen.append(a[0].flatten(0, 1)))
        for batch in batches:
            dense(batch)
        squares = torch.cat(seen).square().sum(0)
        wanted = wanda(dense.model.layers[1].mlp.down_proj.weight, squares, "2:4", 0.5)
    handle.remove()
    assert torch.equal(model.model.layers[1].mlp.down_proj.weight, wanted)
    assert len(report["output_error"]) == 2


@pytest.mark.parametrize("rate", [0.01, 0.25, 0.6])
def test_unstructured_meets_a_rate_of_all_parameters(rate):
    for name in ("meta-llama/Llama-3.2-1B", "Qwen/Qwen2.5-0.5B"):
        shape = shape_of(bundled_config(name))
        got = plan(shape, PruneSpec(method="unstructured", rate=rate))
        assert got.rate == pytest.approx(rate, abs=1e-3)
        assert (got.target, got.zeros) == (shape, parameters(shape) - got.n_pruned)
        assert "of every attention and MLP matrix zeroed" in got.summary
    assert zeros_a_row(4, 0.99) == 3


@pytest.mark.parametrize(("rate", "words"), [(0.73, r"they are 0\.72\d+ of all parameters"), (0.0001, "ask for more")])
def test_an_unstructured_rate_out_of_reach(rate, words):
    with pytest.raises(P2Error, match=words):
        plan(shape_of(bundled_config("Qwen/Qwen2.5-0.5B")), PruneSpec(method="unstructured", rate=rate))


def test_sparsegpt_needs_more_tokens_than_a_matrix_has_inputs():
    """SmolLM2 with 1,024 tokens, for 1,536 inputs: held-out 2.85, and 2.62 for Wanda; with 4,096 tokens 2.49, 2.64."""
    shape = shape_of(bundled_config("Qwen/Qwen2.5-0.5B"))
    enough = PruneSpec(method="2:4", importance="sparsegpt", calibration_tokens=9_728)
    assert plan(shape, enough).n_pruned == plan(shape, PruneSpec(method="2:4", calibration_tokens=1)).n_pruned
    with pytest.raises(P2Error, match=r"got 9,727, but sparsegpt needs 9,728 or more here.*4,864 inputs.*wanda"):
        plan(shape, replace(enough, calibration_tokens=9_727))


def test_a_combined_rate_is_that_of_the_structured_part():
    shape = shape_of(bundled_config("meta-llama/Llama-3.2-1B"))
    depth = plan(shape, PruneSpec(method="depth", rate=0.25))
    both = plan(shape, PruneSpec(method="depth+2:4", rate=0.25))
    assert both.target == depth.target
    assert both.n_pruned == depth.n_pruned - plan(depth.target, PruneSpec(method="2:4")).zeros
    assert both.rate > depth.rate + 0.25
    assert "layers 16 -> 11, half of every attention and MLP matrix zeroed" in both.summary
