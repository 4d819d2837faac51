"""Memory of a training, estimated from the shape alone, and the refusal of what cannot fit before any download.

What several processes cannot share is refused here too.

Bytes a parameter: weights, gradients and two moments: 16 with fp32 AdamW, 8 with bf16 masters, 6 with bf16
masters and 8-bit moments. Activations are those of one micro-batch; what a pass needs besides is in too: one block
recomputed and the loss. 1.24 B parameters at 8 x 2,048 tokens come out at 49 GiB, measured were 49.
"""

import os
from dataclasses import dataclass, replace

from leaderboard.errors import P2Error
from leaderboard.logs.contract import DISTILL
from leaderboard.shapes import Shape, parameters
from zoo.recipe.spec import LoraSpec, TrainSpec

GIB = 2**30
PASS_TOKENS = {"cpu": 2_048, "cuda": 32_768}  # in one forward pass; more makes nothing faster
ROOM = 0.95  # share of a card's memory that a training may take; the rest goes to the driver and fragments
GPUS = (2, 4, 8, 16)  # how many together are worth naming
_SHARDED = "fp32-master-bf16-autocast"  # precision in which plain AdamW loses no small updates
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


def memory(shape: Shape, train: TrainSpec, n0: int, micro_batch: int, recomputed: bool, processes: int = 1) -> int:
    """Bytes on each device to train a model of this shape: its share of parameters and optimizer, and one micro-batch.

    A distillation from memory keeps the weights of the model before pruning beside it, `n0` parameters.
    """
    teacher = n0 * (2 if train.precision == "bf16-master" else 4) if train.teacher_in_memory else 0
    held = parameter_bytes(train) * parameters(shape) / processes
    if train.lora is not None:  # weights without gradients and moments, and adapters in fp32 with all of them
        value = 2 if train.precision == "bf16-master" else 4
        held = value * parameters(shape) + (8 + state_bytes(train)) * adapter_parameters(shape, train.lora)
    return round(held) + teacher + activations(shape, train, micro_batch, recomputed)


def adapter_parameters(shape: Shape, lora: LoraSpec) -> int:
    """Parameters of the adapters in a model of this shape."""
    wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    sides = {
        "q_proj": shape.hidden + wide, "k_proj": shape.hidden + narrow, "v_proj": shape.hidden + narrow,
        "o_proj": wide + shape.hidden, "gate_proj": shape.hidden + shape.ffn, "up_proj": shape.hidden + shape.ffn,
        "down_proj": shape.ffn + shape.hidden,
    }  # fmt: skip
    return shape.layers * lora.rank * sum(sides.get(name, shape.hidden + shape.ffn) for name in lora.targets or sides)


def least_memory(shape: Shape, train: TrainSpec, n0: int, processes: int = 1) -> int:
    """The same at micro-batch 1, every block recomputed unless the recipe forbids it."""
    return memory(shape, train, n0, 1, train.gradient_checkpointing is not False, processes)


def activations(shape: Shape, train: TrainSpec, micro_batch: int, recomputed: bool) -> int:
    """Bytes that forward and backward of one micro-batch hold; `recomputed`: every block is."""
    per_value = 4 if train.precision == "fp32" else 2
    layer = 10 * shape.hidden + 2 * (shape.heads + 2 * shape.kv_heads) * shape.head_dim + 4 * shape.ffn
    kept = layer + shape.layers * shape.hidden if recomputed else layer * shape.layers
    head = shape.vocab * shape.hidden * (4 if train.precision != "bf16-master" else 2)  # gradient of the output layer
    return micro_batch * train.seq_len * kept * per_value + head


def unshared(train: TrainSpec, processes: int) -> str | None:
    """Why so many launched processes cannot share this training; None where they can."""
    sequences = train.batch_tokens // train.seq_len
    if sequences % processes:
        return (
            f"train.batch_tokens: a step has {sequences} sequences, which {processes} processes cannot share equally; "
            "start a number that divides it."
        )
    if train.objective == DISTILL:
        return "train.objective: distill keeps the whole teacher on one device; use one process, or clm."
    if train.lora is not None:
        return "train.lora: adapters are not shared by several processes; use one, or train all weights."
    if train.optimizer == "adamw-8bit":
        return (
            "train.optimizer: adamw-8bit does not shard; use one GPU, or several with train.optimizer: adamw and "
            f"train.precision: {_SHARDED}."
        )
    return None


def check_shared(train: TrainSpec, processes: int) -> None:
    """Raise P2Error for what so many launched processes cannot share."""
    if why := unshared(train, processes):
        raise P2Error(why)


def check_fits(shape: Shape, train: TrainSpec, n0: int, machine: Machine, processes: int = 1) -> None:
    """Raise P2Error for what cannot be trained on this machine even at micro-batch 1 with every block recomputed.

    Of several processes each holds its share of the parameters; `n0` as in `memory`.
    """
    if "bf16" in train.precision and not machine.bf16:
        raise P2Error(
            f"train.precision: {train.precision} needs bf16 arithmetic, which {machine.name} does not have; "
            "use precision fp32, or a GPU from Ampere (A100, RTX 30) on."
        )
    room, name = machine.memory * ROOM, machine.name
    least = least_memory(shape, train, n0, processes)
    if least <= room:
        return
    raise P2Error(
        f"train: {parameters(shape):,} parameters need at least {least / GIB:.0f} GiB here "
        f"({parameter_bytes(train):.0f} bytes a parameter, and one sequence of {train.seq_len:,} tokens), "
        f"{name} has {machine.memory / GIB:.0f} GiB. Nothing was downloaded. {_remedies(shape, train, n0, room)}"
    )


def _remedies(shape: Shape, train: TrainSpec, n0: int, room: float) -> str:
    """What would fit, or how far from it each way is."""
    lean = replace(train, optimizer="adamw-8bit", precision="bf16-master")
    ways = []
    if train != lean:
        needed = memory(shape, lean, n0, 1, True)
        verdict = "which fits" if needed <= room else "too much as well"
        ways.append(
            "8-bit AdamW with stochastic rounding (train.optimizer: adamw-8bit, train.precision: bf16-master) "
            f"needs {needed / GIB:.0f} GiB, {verdict}"
        )
    shared = replace(train, optimizer="adamw", precision=_SHARDED) if train.optimizer == "adamw-8bit" else train
    each = {gpus: memory(shape, shared, n0, 1, True, gpus) for gpus in GPUS if not unshared(shared, gpus)}
    enough = next((gpus for gpus, needed in each.items() if needed <= room), None)
    if enough is not None:
        how = "" if shared == train else f" with train.optimizer: adamw and train.precision: {_SHARDED}"
        ways.append(f"FSDP2{how} on {enough} such GPUs needs {each[enough] / GIB:.0f} GiB on each")
    return "What would do: " + "; ".join([*ways, "a smaller model"]) + "."
