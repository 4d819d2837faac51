"""Memory of a training, estimated from the shape alone, and the refusal of what cannot fit before any download.

Bytes a parameter: weights, gradients and two moments: 16 with fp32 AdamW, 8 with bf16 masters, 6 with bf16
masters and 8-bit moments. Activations are those of one micro-batch; what a pass needs besides is in too: one block
recomputed and the loss. 1.24 B parameters at 8 x 2,048 tokens come out at 49 GiB, measured were 49.
"""

import os
from dataclasses import dataclass, replace

from leaderboard.errors import P2Error
from zoo.families import Shape, parameters
from zoo.recipe import TrainSpec

GIB = 2**30
PASS_TOKENS = {"cpu": 2_048, "cuda": 32_768}  # in one forward pass; more makes nothing faster
ROOM = 0.95  # share of a card's memory that a training may take; the rest goes to the driver and fragments
GPUS = (2, 4, 8, 16)  # how many together are worth naming
_MOMENTS = {"adamw": 2.0, "adamw-8bit": 2 * (1 + 4 / 256) / 4}  # in values of 4 bytes


@dataclass(frozen=True)
class Machine:
    """What a training runs on: a name for people, bytes on one device, and whether bf16 arithmetic is there."""

    name: str
    memory: int
    bf16: bool = True


def this_machine() -> Machine:
    """The first GPU that PyTorch sees, else this computer's memory."""
    import torch

    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        return Machine(about.name, about.total_memory, torch.cuda.is_bf16_supported(including_emulation=False))
    return Machine("the CPU", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def parameter_bytes(train: TrainSpec) -> float:
    """Bytes a parameter takes while it is trained: weight, gradient, moments."""
    value = 2 if train.precision == "bf16-master" else 4
    return 2 * value + state_bytes(train)


def state_bytes(train: TrainSpec) -> float:
    """Bytes a parameter of optimizer state."""
    wide = 4 if train.optimizer == "adamw-8bit" or train.precision != "bf16-master" else 2
    return _MOMENTS[train.optimizer] * wide


def memory(shape: Shape, train: TrainSpec, micro_batch: int, recomputed: bool) -> int:
    """Bytes to train a model of this shape: parameters and their optimizer, and one micro-batch."""
    return round(parameter_bytes(train) * parameters(shape)) + activations(shape, train, micro_batch, recomputed)


def activations(shape: Shape, train: TrainSpec, micro_batch: int, recomputed: bool) -> int:
    """Bytes that forward and backward of one micro-batch hold; `recomputed`: every block is."""
    per_value = 4 if train.precision == "fp32" else 2
    layer = 10 * shape.hidden + 2 * (shape.heads + 2 * shape.kv_heads) * shape.head_dim + 4 * shape.ffn
    kept = layer + shape.layers * shape.hidden if recomputed else layer * shape.layers
    head = shape.vocab * shape.hidden * (4 if train.precision != "bf16-master" else 2)  # gradient of the output layer
    return micro_batch * train.seq_len * kept * per_value + head


def check_fits(shape: Shape, train: TrainSpec, machine: Machine, processes: int = 1) -> None:
    """Raise P2Error for what cannot be trained on this machine even at micro-batch 1 with every block recomputed.

    Of several processes each holds its share of the parameters.
    """
    if "bf16" in train.precision and not machine.bf16:
        raise P2Error(
            f"train.precision: {train.precision} needs bf16 arithmetic, which {machine.name} does not have; "
            "use precision fp32, or a GPU from Ampere (A100, RTX 30) on."
        )
    room = machine.memory * ROOM
    recomputed = train.gradient_checkpointing is not False
    held = parameter_bytes(train) * parameters(shape) / processes
    least = round(held) + activations(shape, train, 1, recomputed)
    if least <= room:
        return
    raise P2Error(
        f"train: {parameters(shape):,} parameters need at least {least / GIB:.0f} GiB here "
        f"({parameter_bytes(train):.0f} bytes a parameter, and one sequence of {train.seq_len:,} tokens), "
        f"{machine.name} has {machine.memory / GIB:.0f} GiB. Nothing was downloaded. {_remedies(shape, train, room)}"
    )


def _remedies(shape: Shape, train: TrainSpec, room: float) -> str:
    """What would fit, or how far from it each way is."""
    lean = replace(train, optimizer="adamw-8bit", precision="bf16-master")
    ways = []
    if train != lean:
        needed = memory(shape, lean, 1, True)
        verdict = "which fits" if needed <= room else "too much as well"
        ways.append(
            "8-bit AdamW with stochastic rounding (train.optimizer: adamw-8bit, train.precision: bf16-master) "
            f"needs {needed / GIB:.0f} GiB, {verdict}"
        )
    held, passing = parameter_bytes(train) * parameters(shape), activations(shape, train, 1, True)
    enough = next((gpus for gpus in GPUS if held / gpus + passing <= room), None)
    if enough is not None:
        ways.append(f"FSDP2 on {enough} such GPUs needs {(held / enough + passing) / GIB:.0f} GiB on each")
    return "What would do: " + "; ".join([*ways, "a smaller model"]) + "."
