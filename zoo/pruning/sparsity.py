"""Sparsity: zeros in the attention and MLP matrices, two of every four (2:4) or a share of every row (unstructured).

Embedding, output head, norms and biases stay dense; the result is an ordinary dense checkpoint with zeros in it.
Wanda and SparseGPT go layer by layer, as in their papers: a layer is judged on what the layers pruned before it
let through. However weights are chosen, a matrix ends with the number of zeros that was planned.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from zoo.models.families import MODULES, Modules
from zoo.pruning.blocks import Forward, walk
from zoo.pruning.methods import Sparse
from zoo.pruning.sparsegpt import DAMPING, inverse_factor, prune_columns
from zoo.pruning.targets import zeros_a_row
from zoo.pruning.zeros import sparse_linears

Prune = Callable[[Tensor, Tensor, Sparse, float], Tensor]


def magnitude(weight: Tensor, _statistic: Tensor | None, sparse: Sparse, sparsity: float) -> Tensor:
    """|W|, compared among the four, or over the whole matrix. Shape: weight (out, in), as is the result."""
    zeros = len(weight) * zeros_a_row(weight.shape[1], sparsity)
    return weight * sparse.keep(weight.abs().reshape(1, -1), zeros).view_as(weight)


def wanda(weight: Tensor, squares: Tensor, sparse: Sparse, sparsity: float) -> Tensor:
    """|W| x L2 norm of the input feature (arXiv:2306.11695), compared among the four, or within the row.

    Shapes: weight (out, in), as is the result; squares (in,), the summed squares of the inputs.
    """
    return weight * sparse.keep(weight.abs().float() * squares.sqrt(), zeros_a_row(weight.shape[1], sparsity))


def sparsegpt(weight: Tensor, factor: Tensor, sparse: Sparse, sparsity: float) -> Tensor:
    """SparseGPT (arXiv:2301.00774): the least error first, and the weights that stay make up for it; see sparsegpt.py.

    Shapes: weight (out, in), as is the result; factor (in, in). Unstructured, the weights of 128 columns compete.
    """
    rows, columns = weight.shape
    zeros = zeros_a_row(columns, sparsity)

    def drop(score: Tensor, first: int) -> Tensor:
        last = first + score.shape[1]
        count = rows * (zeros * last // columns - zeros * first // columns)  # adds up to `zeros` a row over all blocks
        dropped: Tensor = ~sparse.keep(score.reshape(1, -1), count).view_as(score)
        return dropped

    return prune_columns(weight, factor, sparse.block, drop).to(weight.dtype)


@torch.no_grad()
def make_sparse(
    model: PreTrainedModel,
    criterion: str,
    sparse: Sparse,
    sparsity: float,
    batches: Sequence[Tensor] = (),
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Zero `sparsity` of every attention and MLP matrix of `model`, in place; blocks are worked on at `device`.

    Returns a report, JSON-ready: the number of matrices; where text was needed, `output_error`, by layer the L2 norm
    of the change of what the layer adds to the residual stream over the norm of that; and `damping`, by matrix,
    where SparseGPT needed more than usual.
    """
    matrices = sum(1 for _ in sparse_linears(model))
    device = device or model.device
    if criterion == "magnitude":
        for _, _, linear in sparse_linears(model):
            linear.weight.copy_(magnitude(linear.weight.to(device), None, sparse, sparsity))
        return {"matrices": matrices}
    modules = MODULES[model.config.model_type]
    errors: list[float] = []
    raised: dict[str, float] = {}

    def visit(index: int, layer: nn.Module, forward: Forward) -> list[Tensor]:
        inputs = _Inputs(criterion == "sparsegpt")
        with ExitStack() as hooks:
            inputs.listen(layer, modules, hooks)
            dense = forward()
        for source, names in modules.sharing.items():
            statistic = inputs.sums[source]
            if criterion == "sparsegpt":
                statistic, damping = inverse_factor(statistic)
                raised.update({f"{index}.{name}": damping for name in names if damping > DAMPING[0]})
            for name in names:
                weight: Any = layer.get_submodule(name).weight
                weight.copy_(_MEASURED[criterion](weight, statistic, sparse, sparsity))
        pruned = forward()
        errors.append(inputs.relative(pruned, dense))
        return pruned

    walk(model, batches, device, visit)
    return {"matrices": matrices, "output_error": errors} | ({"damping": raised} if raised else {})


_MEASURED: dict[str, Prune] = {"wanda": wanda, "sparsegpt": sparsegpt}


class _Inputs:
    """Sums over the tokens that go into the matrices of one layer: squares (in,), or products (in, in); float32."""

    def __init__(self, products: bool):
        self.products = products
        self.sums: dict[str, Tensor] = {}
        self.branch: list[float] = []  # squared norm of what the layer adds to the stream, by batch

    def listen(self, layer: nn.Module, modules: Modules, hooks: ExitStack) -> None:
        """Listen until `hooks` is left."""
        hooks.callback(layer.register_forward_hook(self._add_branch).remove)
        for source in modules.sharing:
            handle = layer.get_submodule(source).register_forward_pre_hook(partial(self._add, source))
            hooks.callback(handle.remove)

    def _add(self, source: str, _module: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].flatten(0, 1).float()
        with torch.autocast(x.device.type, enabled=False):
            new = x.T @ x if self.products else x.square().sum(0)
        self.sums[source] = self.sums[source].add_(new) if source in self.sums else new

    def _add_branch(self, _module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        self.branch.append(float((output - args[0]).float().square().sum()))

    def relative(self, pruned: list[Tensor], dense: list[Tensor]) -> float:
        """How far the layer's outputs moved, over the norm of what it adds to the stream."""
        moved = sum(float((new - old).float().square().sum()) for new, old in zip(pruned, dense, strict=True))
        return float((moved / sum(self.branch)) ** 0.5)
