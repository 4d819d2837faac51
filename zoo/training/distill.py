"""Distillation: the forward KL divergence from a teacher's next-token distribution, without keeping any logits.

As in next_token.py, the output layers are applied to a few rows at a time and the gradient of those rows is taken while
their logits are at hand. KL(p || q) = sum_v p_v (ln p_v - ln q_v), p the teacher's, q the student's, temperature 1; its
slope in the student's logits is q - p. Sums in nats; softmax in fp32, the sum over rows in float64.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from zoo.evaluation.next_token import IGNORE, ChunkedSum, chunk_rows, product_dtype


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
    hidden: Tensor,
    weight: Tensor,
    wanted: Tensor,
    wanted_weight: Tensor,
    counted: Tensor,
    compiled: bool = False,
    at_once: int | None = None,
) -> Tensor:
    """Sum of KL(teacher || student) over the rows that count.

    Shapes: hidden (rows, width), weight (vocab, width); of the teacher wanted (rows, its width), wanted_weight (vocab,
    its width); counted (rows,) bool. Differentiable in hidden and weight. `at_once`: logits held, of both together.
    """
    low, step = product_dtype(hidden), _compiled_chunk() if compiled else _chunk
    aim = wanted_weight.to(low)

    def chunk(part: slice, logits: Tensor, _want_slope: bool) -> tuple[Tensor, Tensor]:
        return step(logits, wanted[part].to(low) @ aim.T, counted[part, None])

    return ChunkedSum.apply(hidden, weight, chunk, max(1, chunk_rows(hidden, weight, at_once) // 2))


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
