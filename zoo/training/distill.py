"""Distillation: a teacher's next-token distribution, and the next token, without keeping the logits of the model.

    loss = w T^2 KL(p || q) + (1 - w) CE,   p, q = softmax(logits / T) of teacher and model, CE at temperature 1

in nats, summed over the places that predict a token. As in next_token.py, the output layers are applied to a few rows
at a time and the gradient of those rows is taken while their logits are at hand: T w (q - p) + (1 - w) (q1 - onehot).

Of a teacher that is kept on disk (teacher.py) only the k likeliest tokens are known; all others together are one more
outcome, on both sides, so KL stays a divergence and no mass is made up. Within that rest the slope follows the model's
own shares: q_j - p_rest q_j / q_rest. Softmax in fp32, the sum over rows in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from zoo.evaluation.next_token import IGNORE, NO_BEND, Bend, ChunkedSum, bend_of, chunk_rows, product_dtype
from zoo.recipe.spec import DistillSpec

PLAIN = DistillSpec()
KEPT = ("kept_ids", "kept_log_p", "kept_rest")  # inputs of a batch: (batch, seq_len - 1, k) twice, and without k


@dataclass(frozen=True)
class TopK:
    """The k likeliest next tokens of some rows: ids, log_p (rows, k); log of the others' probability rest (rows, 1)."""

    ids: Tensor
    log_p: Tensor
    rest: Tensor

    def __getitem__(self, part: slice) -> "TopK":
        return TopK(self.ids[part], self.log_p[part], self.rest[part])


def top_k(logits: Tensor, k: int, temperature: float) -> TopK:
    """Of logits (rows, vocab), at a temperature; k below the size of the vocabulary."""
    scaled = logits.float() / temperature
    values, ids = scaled.topk(k, 1)
    norm = scaled.logsumexp(1, keepdim=True)
    return TopK(ids, values - norm, scaled.scatter(1, ids, -torch.inf).logsumexp(1, keepdim=True) - norm)


def next_token_kl(
    model: Any,
    teacher: Any,
    input_ids: Tensor,
    labels: Tensor,
    compiled: bool = False,
    spec: DistillSpec = PLAIN,
    **inputs: Tensor,
) -> Tensor:
    """Sum over a batch of the loss above, where a next token is predicted.

    Shapes: input_ids, labels (batch, seq_len), as for `next_token_nll`. `teacher` shares the vocabulary and is not
    trained; without one `inputs` holds what was kept of it, under the names of KEPT.
    """
    kept = [inputs.pop(name).flatten(0, 1) for name in KEPT if name in inputs]
    hidden = model.get_decoder()(input_ids=input_ids, use_cache=False, **inputs).last_hidden_state[:, :-1].flatten(0, 1)
    weight, aims, bend = model.get_output_embeddings().weight, labels[:, 1:].flatten(), bend_of(model)
    if kept:
        known = TopK(kept[0], kept[1], kept[2][:, None])
        return _summed(hidden, weight, aims, spec, lambda part: known[part], compiled, bend=bend)
    with torch.no_grad():
        wanted = teacher.get_decoder()(input_ids=input_ids, use_cache=False, **inputs).last_hidden_state[:, :-1]
    head = teacher.get_output_embeddings().weight
    logits = _logits(wanted.flatten(0, 1), head, product_dtype(hidden), bend_of(teacher))
    if spec.top_k is None:
        return _summed(hidden, weight, aims, spec, logits, compiled, bend=bend)
    k = spec.top_k
    told = lambda part: top_k(logits(part), k, spec.temperature)  # noqa: E731
    return _summed(hidden, weight, aims, spec, told, compiled, bend=bend)


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
    aims = torch.where(counted, 0, IGNORE)
    return _summed(
        hidden, weight, aims, PLAIN, _logits(wanted, wanted_weight, product_dtype(hidden)), compiled, at_once
    )


def _logits(hidden: Tensor, weight: Tensor, low: torch.dtype, bend: Bend = NO_BEND) -> Callable[[slice], Tensor]:
    """The teacher's logits of some rows."""
    aim = weight.to(low)
    return lambda part: bend.logits(hidden[part].to(low) @ aim.T)


def _summed(
    hidden: Tensor,
    weight: Tensor,
    aims: Tensor,
    spec: DistillSpec,
    teacher: Callable[[slice], Tensor | TopK],
    compiled: bool,
    at_once: int | None = None,
    bend: Bend = NO_BEND,
) -> Tensor:
    """The loss over all rows; `aims` (rows,) are their next tokens, IGNORE where none counts."""
    steps = _compiled_chunks() if compiled else (_chunk, _chunk_top)

    def chunk(part: slice, logits: Tensor, _want_slope: bool) -> tuple[Tensor, Tensor]:
        told, aim = teacher(part), aims[part, None]
        if isinstance(told, TopK):
            return steps[1](logits, told.ids, told.log_p, told.rest, aim, spec.weight, spec.temperature)
        return steps[0](logits, told, aim, spec.weight, spec.temperature)

    return ChunkedSum.apply(hidden, weight, chunk, max(1, chunk_rows(hidden, weight, at_once) // 2), bend)


def _chunk(student: Tensor, teacher: Tensor, aim: Tensor, share: float, heat: float) -> tuple[Tensor, Tensor]:
    """The loss of some rows and its slope in their logits, in the dtype of these; both 0 where a row does not count.

    Shapes: logits (rows, vocab) both; aim (rows, 1) -> (), (rows, vocab).
    """
    log_q, log_p = (student.float() / heat).log_softmax(1), (teacher.float() / heat).log_softmax(1)
    p = log_p.exp()
    divergence = ((log_p - log_q) * p).sum(1, keepdim=True)
    return _mixed(student, divergence, log_q.exp() - p, aim, share, heat)


def _chunk_top(
    student: Tensor, ids: Tensor, log_p: Tensor, rest: Tensor, aim: Tensor, share: float, heat: float
) -> tuple[Tensor, Tensor]:
    """As `_chunk`, of a teacher whose likeliest tokens are known: ids, log_p (rows, k), rest (rows, 1)."""
    scaled = student.float() / heat
    norm = scaled.logsumexp(1, keepdim=True)
    log_q = scaled.gather(1, ids) - norm
    log_rest = scaled.scatter(1, ids, -torch.inf).logsumexp(1, keepdim=True) - norm
    p, p_rest = log_p.exp(), rest.exp()
    divergence = (p * (log_p - log_q)).sum(1, keepdim=True) + p_rest * (rest - log_rest)
    log_all = scaled - norm
    slope = log_all.exp() - p_rest * (log_all - log_rest).exp()
    return _mixed(student, divergence, slope.scatter(1, ids, log_q.exp() - p), aim, share, heat)


def _mixed(
    student: Tensor, divergence: Tensor, slope: Tensor, aim: Tensor, share: float, heat: float
) -> tuple[Tensor, Tensor]:
    """Both parts of the loss together. `slope` is the divergence's in logits / T."""
    counted, loss = aim != IGNORE, divergence
    if share != 1 or heat != 1:
        loss, slope = share * heat**2 * loss, share * heat * slope
    if share != 1:
        log_q, at = student.float().log_softmax(1), aim.clamp(min=0)
        loss = loss - (1 - share) * log_q.gather(1, at)
        onehot = torch.zeros_like(slope).scatter(1, at, 1.0)
        slope = slope + (1 - share) * (log_q.exp() - onehot)
    return loss.masked_fill(~counted, 0.0).sum(), (slope * counted).to(student.dtype)


@cache
def _compiled_chunks() -> tuple[Any, Any]:
    return torch.compile(_chunk, dynamic=False), torch.compile(_chunk_top, dynamic=False)
