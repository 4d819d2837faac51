"""Optimal brain surgeon, column by column: zero some weights of a matrix and move the others to make up for it.

SparseGPT, arXiv:2301.00774. The Hessian of a linear map's squared output error is X^T X over its inputs X, the
same for every output row. Weights are handled in float32, from the first column to the last.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from leaderboard.errors import RunFailed

DAMPING = (0.01, 0.1, 1.0)  # share of the mean diagonal added to it; the next one where Cholesky fails
BLOCK = 128  # columns between two updates of the whole rest


def inverse_factor(hessian: Tensor) -> tuple[Tensor, float]:
    """Upper U with U^T U = (hessian + damping)^-1, and the damping it took.

    Shape: hessian (in, in), symmetric. Inputs that never were anything but 0 get a diagonal of 1. Raises RunFailed
    where no damping helps.
    """
    diagonal = hessian.diagonal().clone()
    diagonal[diagonal == 0] = 1
    for damping in DAMPING:
        damped = hessian.clone()
        damped.diagonal().copy_(diagonal + damping * diagonal.mean())
        lower, failed = torch.linalg.cholesky_ex(damped)
        if failed:
            continue
        upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not failed and upper.isfinite().all():
            return upper, damping
    raise RunFailed(
        f"sparsegpt: the Hessian of a {len(hessian):,}-input matrix has no Cholesky factor, even with "
        f"{DAMPING[-1]:g} of its mean diagonal added; give more calibration text, or use importance wanda."
    )


def prune_columns(weight: Tensor, factor: Tensor, span: int, drop: Callable[[Tensor, int], Tensor]) -> Tensor:
    """A pruned float32 copy of `weight`.

    Shapes: weight (out, in), factor (in, in) from `inverse_factor`. `drop(score, first)` says which weights go
    among `span` columns from `first` on, (out, span) bool, once the columns before them are done. A score is what
    zeroing the weight alone would add to the squared output error. `span` divides BLOCK.
    """
    weight = weight.float().clone()
    for start in range(0, weight.shape[1], BLOCK):
        here = slice(start, start + BLOCK)
        block, local = weight[:, here].clone(), factor[here, here]
        errors, gone = torch.zeros_like(block), torch.zeros_like(block, dtype=torch.bool)
        for j in range(block.shape[1]):
            if j % span == 0:
                part = slice(j, j + span)
                gone[:, part] = drop((block[:, part] / local.diagonal()[part]).square(), start + j)
            column = block[:, j].clone()
            kept = column.masked_fill(gone[:, j], 0)
            errors[:, j] = (column - kept) / local[j, j]
            block[:, j:] -= errors[:, j, None] * local[j, j:]
            block[:, j] = kept
        weight[:, here] = block
        weight[:, start + BLOCK :] -= errors @ factor[here, start + BLOCK :]
    return weight
