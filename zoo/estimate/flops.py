"""Model FLOPs: what training one token takes by the usual formula, and which share of a card's peak a run reached.

FLOPs a token = 6 N + 6 x layers x hidden x sequence: N parameters that compute (all but an untied input embedding;
masked zeros compute like the rest), and causal attention. What is recomputed to save memory does not count.
"""

from leaderboard.planning.gpus import GPUS, gpu_named
from leaderboard.shapes import Shape, parameters


def flops_per_token(shape: Shape, seq_len: int) -> int:
    """Model FLOPs of forward and backward for one token in a sequence of `seq_len`."""
    computing = parameters(shape) - (0 if shape.tied else shape.vocab * shape.hidden)
    return 6 * computing + 6 * shape.layers * shape.hidden * seq_len


def peak(device: str) -> float | None:
    """Dense bf16 peak of a card by its full name, FLOP/s; None for a CPU and a card that is not in the table."""
    name = gpu_named(device)
    return None if name is None else GPUS[name].peak


def mfu(shape: Shape, seq_len: int, tokens_per_second: float, device: str, gpus: int = 1) -> float | None:
    """Share of the peak of `gpus` such cards that went into model FLOPs; None where the peak is not known."""
    top = peak(device)
    return None if top is None else tokens_per_second * flops_per_token(shape, seq_len) / (top * gpus)
