"""How a training step is carried out, and nothing of what is optimised: micro-batch, recomputation, attention, compile.

The same blocks enter a step whatever stands here, and the loss is normalised over the whole step, so a run
may change its execution on the way (after running out of memory, or on another card). `ladder` lists what
may be tried, fastest first; autotune.py finds out what fits and what is fast on the device at hand.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from leaderboard.shapes import Shape, parameters
from zoo.estimate.memory import PASS_TOKENS, ROOM, activations, parameter_bytes, this_machine
from zoo.models.attention import set_attention
from zoo.recipe.spec import TrainSpec

WORTH_TOKENS = 4_096  # a GPU below this many tokens a pass is better off recomputing some blocks
BLOCKS = {"none": 0, "every second block": 2, "every block": 1}  # whose activations are computed twice
ATTENTION = ("sdpa", "sdpa-cudnn", "flash_attention_2", "eager")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """`micro_batch` sequences a forward pass; a key of BLOCKS; one of ATTENTION; blocks and loss compiled or not."""

    micro_batch: int
    recomputed: str = "none"
    attention: str = "sdpa"
    compiled: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For run.json."""
        return asdict(self)

    def as_software(self) -> dict[str, str]:
        """For the log's `software`: what the last bits of a loss may depend on."""
        return {"attention": self.attention, "compile": "per block" if self.compiled else "off"}

    def __str__(self) -> str:
        return (
            f"micro-batch {self.micro_batch}, recomputed: {self.recomputed}, attention {self.attention}, "
            f"compile {'per block' if self.compiled else 'off'}"
        )


def ladder(sequences: int, seq_len: int, wanted: int | None, recompute: bool | None, kind: str) -> list[Execution]:
    """Executions of a step of `sequences` x `seq_len` tokens that differ in memory only, the fastest first.

    A micro-batch divides the step; `wanted` is the largest to try (None: PASS_TOKENS). `recompute` True means
    every block from the start, False never, None only where nothing else fits, every second block first.
    """
    top = wanted or max(1, PASS_TOKENS.get(kind, PASS_TOKENS["cuda"]) // seq_len)
    sizes = [size for size in range(min(top, sequences), 0, -1) if sequences % size == 0]
    if recompute is not None:
        return [Execution(micro_batch=size, recomputed="every block" if recompute else "none") for size in sizes]
    good = [size for size in sizes if size * seq_len >= WORTH_TOKENS] or sizes[:1]
    rungs = [Execution(micro_batch=size, recomputed=how) for how in BLOCKS for size in good]
    return rungs + [Execution(micro_batch=size, recomputed="every block") for size in sizes if size not in good]


def expected_to_fit(rungs: Sequence[Execution], shape: Shape, train: TrainSpec, processes: int) -> Execution:
    """The first rung that the estimate of memory gives room here, each process with its share; else the last.

    It is the same in all of them, since they have the same GPUs.
    """
    room = ROOM * this_machine().memory - parameter_bytes(train) * parameters(shape) / processes
    for rung in rungs:
        held = [activations(shape, train, rung.micro_batch, recomputed) for recomputed in (False, True)]
        if {"none": held[0], "every second block": sum(held) / 2, "every block": held[1]}[rung.recomputed] <= room:
            return rung
    return rungs[-1]


def apply(model: PreTrainedModel, execution: Execution) -> None:
    """Set a model to train this way. Names in its state_dict stay as they are."""
    if every := BLOCKS[execution.recomputed]:
        model.activation_checkpointing_enable({"use_reentrant": False}, every_n_layers=every)
    else:
        model.activation_checkpointing_disable()
    for layer in model.get_decoder().layers:
        layer._compiled_call_impl = None
        if execution.compiled:
            layer.compile(dynamic=False)
    set_attention(model, execution.attention)


@contextlib.contextmanager
def executed(execution: Execution) -> Iterator[None]:
    """What must hold around forward and backward of a step."""
    with contextlib.ExitStack() as stack:
        if execution.attention == "sdpa-cudnn":
            order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
            stack.enter_context(sdpa_kernel([*order, SDPBackend.MATH], set_priority=True))
        yield
