"""Distillation: the forward KL divergence from a teacher's next-token distribution, without keeping any logits.

As in lm_loss.py, the output layers are applied to a few rows at a time and the gradient of those rows is taken while
their logits are at hand. KL(p || q) = sum_v p_v (ln p_v - ln q_v), p the teacher's, q the student's, temperature 1; its
slope in the student's logits is q - p. Sums in nats; softmax in fp32, the sum over rows in float64.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from zoo.lm_loss import IGNORE, LOGITS


def next_token_kl(
    model: Any, teacher: Any, input_ids: Tensor, labels: Tensor, compiled: bool = False, **inputs: Tensor
) -> Tensor:
    """Sum over a batch of KL(teacher || model) where a next token is predicted.

    Shapes: input_ids, labels (batch, seq_len), as for `next_token_nll`; the labels only say where. `teacher` shares the
    vocabulary and is not trained.
    """
    hidden = model.get_decoder()(input_ids=input_ids, use_cache=False, **inputs).last_hidden_state[:, :-1]
    with torch.no_grad():
        wanted = teacher.get_decoder()(input_ids=input_ids, use_cache=False, **inputs).last_hidden_state[:, :-1]
    weights = (model.get_output_embeddings().weight, teacher.get_output_embeddings().weight)
    counted = labels[:, 1:].flatten() != IGNORE
    return kl_sum(hidden.flatten(0, 1), weights[0], wanted.flatten(0, 1), weights[1], counted, compiled)


def kl_sum(
    hidden: Tensor, weight: Tensor, wanted: Tensor, wanted_weight: Tensor, counted: Tensor, compiled: bool = False
) -> Tensor:
    """Sum of KL(teacher || student) over the rows that count.

    Shapes: hidden (rows, width), weight (vocab, width); of the teacher wanted (rows, its width), wanted_weight (vocab,
    its width); counted (rows,) bool. Differentiable in hidden and weight.
    """
    return _KlSum.apply(hidden, weight, wanted, wanted_weight, counted, compiled)


class _KlSum(torch.autograd.Function):
    """Forward computes loss and gradients together, a chunk of rows at a time."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, wanted: Tensor, wanted_weight: Tensor, counted: Tensor, compiled: bool
    ) -> Tensor:
        kind = hidden.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        chunk = _compiled_chunk() if compiled else _chunk
        with torch.autocast(kind, enabled=False):
            matrix, aim = weight.to(low), wanted_weight.to(low)
            want_hidden, want_weight = ctx.needs_input_grad[:2]
            d_hidden = torch.empty_like(hidden) if want_hidden else None
            d_weight = torch.zeros_like(weight) if want_weight else None
            total = hidden.new_zeros((), dtype=torch.float64)
            size = max(1, LOGITS.get(kind, LOGITS["cuda"]) // (2 * len(weight)))
            for start in range(0, len(counted), size):
                part = slice(start, start + size)
                x = hidden[part].to(low)
                loss, slope = chunk(x @ matrix.T, wanted[part].to(low) @ aim.T, counted[part, None])
                total += loss
                if d_hidden is not None:
                    d_hidden[part] = slope @ matrix
                if d_weight is not None:
                    d_weight.addmm_(slope.T, x) if low == weight.dtype else d_weight.add_(slope.T @ x)
        ctx.save_for_backward(d_hidden, d_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [None if d is None else d * grads[0] for d in ctx.saved_tensors]
        return (*scaled, None, None, None, None)


def _chunk(student: Tensor, teacher: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """KL of some rows, and q - p in the dtype of the logits; both 0 where a row does not count.

    Shapes: logits (rows, vocab) both; counted (rows, 1) bool -> (), (rows, vocab).
    """
    log_q, log_p = student.float().log_softmax(1), teacher.float().log_softmax(1)
    p = log_p.exp()
    loss = ((log_p - log_q) * p).sum(1, keepdim=True).masked_fill(~counted, 0.0).sum()
    return loss, (log_q.exp() - p).mul_(counted).to(student.dtype)


@cache
def _compiled_chunk() -> Any:
    return torch.compile(_chunk, dynamic=False)
