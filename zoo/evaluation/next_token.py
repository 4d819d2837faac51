"""Next-token loss straight from hidden states, without keeping the logits.

A full-size vocabulary makes the logits the largest tensor of a step. Here the output layer is applied
to a few rows at a time, and the gradients of those rows are taken while their logits are at hand, so
nothing is computed twice and memory stays flat. Losses are sums in nats; the softmax is in fp32, the
sum over rows in float64. Shapes never depend on the labels and nothing waits for the device.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leaderboard.shapes import ARCHITECTURES
from zoo.inputs.packing import Blocks

IGNORE = -100  # label of a position that predicts nothing
LOGITS = {"cpu": 2**24, "cuda": 2**28}  # fp32 logits held at once: 64 MiB, 1 GiB


@dataclass(frozen=True)
class Bend:
    """What some architectures do to x W^T before the softmax: c tanh(s x W^T / c), without a cap s x W^T."""

    scale: float = 1.0
    cap: float | None = None

    def __bool__(self) -> bool:
        return self.scale != 1 or self.cap is not None

    def logits(self, products: Tensor) -> Tensor:
        """The logits of x W^T, in fp32 where anything is done to it."""
        if not self:
            return products
        scaled = products.float() * self.scale
        return scaled if self.cap is None else torch.tanh(scaled / self.cap) * self.cap

    def slope(self, logits: Tensor) -> Tensor | float:
        """d logits / d products, where the logits are these."""
        return self.scale if self.cap is None else self.scale * (1 - (logits / self.cap).square())


NO_BEND = Bend()


def bend_of(model: Any) -> Bend:
    """What the architecture of a model does to its logits, as its config says."""
    row, config = ARCHITECTURES[model.config.model_type], model.config
    scale = (getattr(config, row.logit_scale) if row.logit_scale else 1.0) / (
        getattr(config, row.logit_divisor) if row.logit_divisor else 1.0
    )
    return Bend(scale, getattr(config, row.logit_cap) if row.logit_cap else None)


def nll_sum(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    compiled: bool = False,
    at_once: int | None = None,
    bend: Bend = NO_BEND,
) -> Tensor:
    """Sum of -log p(label) over rows whose label is not IGNORE.

    Shapes: hidden (rows, width), weight (vocab, width), labels (rows,) int64. Differentiable in hidden
    and weight. Under autocast the products are in its dtype, the softmax always in fp32. `at_once`: logits held.
    """
    chunk = _compiled_chunk() if compiled else _chunk

    def step(part: slice, logits: Tensor, want_slope: bool) -> tuple[Tensor, Tensor]:
        return chunk(logits, labels[part, None], want_slope)

    return ChunkedSum.apply(hidden, weight, step, chunk_rows(hidden, weight, at_once), bend)


def next_token_nll(model: Any, input_ids: Tensor, labels: Tensor, compiled: bool = False, **inputs: Tensor) -> Tensor:
    """Sum over a batch of -log p(next token), in nats.

    Shapes: input_ids, labels (batch, seq_len). Labels stand where their token stands and are IGNORE where
    nothing predicts it; they are shifted here.
    """
    hidden = model.get_decoder()(input_ids=input_ids, use_cache=False, **inputs).last_hidden_state
    head = model.get_output_embeddings()
    rows, aims = hidden[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return nll_sum(rows, head.weight, aims, compiled, bend=bend_of(model))


def as_inputs(blocks: Blocks, rows: Any) -> dict[str, Tensor]:
    """Tensors for `next_token_nll` from some blocks; position_ids only where a block holds several pieces."""
    positions = torch.from_numpy(blocks.positions[rows].astype(np.int64))
    ids = torch.from_numpy(blocks.ids[rows].astype(np.int64))
    inputs = {"input_ids": ids, "labels": ids.masked_fill(positions <= 0, IGNORE)}
    if not torch.equal(positions, torch.arange(positions.shape[1]).expand_as(positions)):
        inputs["position_ids"] = positions.clamp(min=0)  # a step other than 1 starts a new piece
    return inputs


def chunk_rows(hidden: Tensor, weight: Tensor, at_once: int | None = None) -> int:
    """Rows whose logits are at hand together."""
    return max(1, (at_once or LOGITS.get(hidden.device.type, LOGITS["cuda"])) // len(weight))


def product_dtype(hidden: Tensor) -> torch.dtype:
    """In which the output layer is applied: autocast's where that is on."""
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


class ChunkedSum(torch.autograd.Function):
    """A loss summed over rows of logits, `size` rows at a time; forward takes loss and gradients together.

    `chunk(part, logits, want_slope)` gives the loss of the rows in the slice `part` and, where it is wanted, its slope
    in their logits, in their dtype; it may overwrite them. `bend` is what comes between products and logits.
    Differentiable in hidden and weight.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        chunk: Callable[..., tuple[Tensor, Tensor]],
        size: int,
        bend: Bend = NO_BEND,
    ) -> Tensor:
        low = product_dtype(hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(low)
            want_hidden, want_weight = ctx.needs_input_grad[:2]
            d_hidden = torch.empty_like(hidden) if want_hidden else None
            d_weight = torch.zeros_like(weight) if want_weight else None
            total = hidden.new_zeros((), dtype=torch.float64)
            for start in range(0, len(hidden), size):
                part = slice(start, start + size)
                x = hidden[part].to(low)
                logits = bend.logits(x @ matrix.T)
                inner = bend.slope(logits) if bend and (want_hidden or want_weight) else None
                loss, slope = chunk(part, logits, want_hidden or want_weight)
                total += loss
                slope = slope if inner is None else (slope * inner).to(low)
                if d_hidden is not None:
                    d_hidden[part] = slope @ matrix
                if d_weight is not None:
                    d_weight.addmm_(slope.T, x) if low == weight.dtype else d_weight.add_(slope.T @ x)
        ctx.save_for_backward(d_hidden, d_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if d is None else d * grads[0] for d in ctx.saved_tensors), None, None, None)


def _chunk(logits: Tensor, labels: Tensor, want_slope: bool) -> tuple[Tensor, Tensor]:
    """Loss of some rows and its slope, d loss / d logits = softmax - onehot; both 0 where the label is IGNORE.

    Shapes: logits (rows, vocab), overwritten; labels (rows, 1) -> (), (rows, vocab) in the dtype of the logits.
    """
    counted, at, wide = labels != IGNORE, labels.clamp(min=0), logits.float()
    norm = wide.logsumexp(1, keepdim=True)
    loss = (norm - wide.gather(1, at)).masked_fill(~counted, 0.0).sum()
    if not want_slope:
        return loss, wide
    slope = wide.sub_(norm).exp_()
    slope.scatter_add_(1, at, slope.new_full(at.shape, -1.0))
    return loss, slope.mul_(counted).to(logits.dtype)


@cache
def _compiled_chunk() -> Any:
    return torch.compile(_chunk, dynamic=False)
