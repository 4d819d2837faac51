"""The processes of one launch (`torchrun`, `accelerate launch`, `p2zoo run --gpus`): who is who, and do they agree.

A run that nobody launched is a team of one, which talks to nobody. In a larger one the first process alone writes the
log and the model; what it cannot do is told to all, so none waits for a process that has given up.
"""

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from leaderboard.errors import P2Error

T = TypeVar("T")
PATIENCE = timedelta(hours=12)  # for the others while the first prunes; a process that dies ends the launch at once


@dataclass
class Team:
    """This process is number `rank` of `size`; `launched`: the model is sharded over them, even over one.

    `words` is a group of their own for what is said on CPUs, where waiting for hours keeps no GPU busy.
    """

    rank: int = 0
    size: int = 1
    words: Any = None

    @property
    def launched(self) -> bool:
        return self.words is not None

    def first(self, step: Callable[[], T]) -> T | None:
        """Let process 0 do `step` while the others wait; they get None. Its P2Error is raised in all."""
        if self.size == 1:
            return step()
        result, error = None, None
        if self.rank == 0:
            try:
                result = step()
            except P2Error as raised:
                error = raised
        errors: list[Any] = [error]
        dist.broadcast_object_list(errors, group=self.words)
        if errors[0] is not None:
            raise errors[0]
        return result

    def any(self, value: bool) -> bool:
        """Whether it is so in one of them."""
        return value if self.size == 1 else bool(self._sum(float(value)))

    def total(self, *values: float) -> tuple[float, ...]:
        """Sums over all processes, in float64."""
        return values if self.size == 1 else tuple(self._sum(*values).tolist())

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier(self.words)

    def _sum(self, *values: float) -> torch.Tensor:
        summed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(summed, group=self.words)
        return summed

    def agree(self, facts: Mapping[str, str]) -> None:
        """Raise P2Error in all unless each process says the same of everything in `facts`."""
        if self.size == 1:
            return
        all_facts: list[Any] = [None] * self.size
        dist.all_gather_object(all_facts, dict(facts), group=self.words)
        for name in facts:
            seen = [one[name] for one in all_facts]
            other = next((rank for rank, value in enumerate(seen) if value != seen[0]), None)
            if other is not None:
                raise P2Error(
                    f"launch: the processes do not agree on the {name}: process 0 has {seen[0]}, process {other} has "
                    f"{seen[other]}. Start all of them with the same recipe, options, code and kind of GPU."
                )

    def leave(self) -> None:
        """End the team, its work done.

        A group that is still held here when Python ends takes its threads down then, and the process may abort.
        """
        if self.launched:
            dist.destroy_process_group()
            self.words = None

    def whole(self, model: Any) -> dict[str, torch.Tensor]:
        """The weights of a sharded model on the CPU of process 0; {} in the others."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return cast(dict[str, torch.Tensor], get_model_state_dict(model, options=options))


ALONE = Team()


def launched() -> bool:
    """Whether a launcher started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def relaunch(gpus: int, words: Sequence[str]) -> None:
    """Become `gpus` processes of `python WORDS`, by torchrun. P2Error where there are fewer GPUs."""
    here = torch.cuda.device_count()
    if gpus > here:
        raise P2Error(
            f"hardware.gpus: asked for {gpus}, {socket.gethostname()} has {here}; lower it, or send the run to a "
            "larger machine with --on."
        )
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}"]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *launcher, *words])


def join(wanted: int | None = None) -> Team:
    """The team of this process, of `wanted` processes where a recipe says so.

    Raises P2Error where there are fewer GPUs than processes, another number of them, or nobody to meet.
    """
    if not launched():
        if wanted is not None and wanted > 1:
            raise P2Error(
                f"hardware.gpus: the recipe asks for {wanted}, this is one process; start it with `p2zoo run --gpus "
                f"{wanted}` or a launcher (torchrun, accelerate launch), or set hardware.gpus to 1."
            )
        return ALONE
    if wanted not in (None, size := int(os.environ["WORLD_SIZE"])):
        raise P2Error(
            f"hardware.gpus: the recipe asks for {wanted}, {size} processes were launched; make them the same."
        )
    rank = int(os.environ["RANK"])
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if gpus and here > gpus:
        raise P2Error(
            f"launch: {here} processes on {socket.gethostname()}, which has {gpus} GPUs; start {gpus} or fewer."
        )
    if not dist.is_initialized():
        _meet(rank, size)
    return Team(rank, size, dist.new_group(backend="gloo", timeout=PATIENCE))


def _meet(rank: int, size: int) -> None:
    from accelerate import PartialState

    where = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
    try:
        PartialState(cpu=not torch.cuda.is_available())
    except dist.DistNetworkError as error:
        raise P2Error(
            f"launch: process {rank} of {size} cannot meet the others at {where} ({str(error).splitlines()[0]}). If "
            "the port is in use, choose another: `torchrun --standalone` finds one, or set MASTER_PORT."
        ) from error
    except dist.DistStoreError as error:
        raise P2Error(f"launch: process {rank} of {size} waited in vain for the others at {where}: {error}") from error


def kind_of_gpu() -> str:
    """The name of this process's device."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this process holds: its shard, or all of it."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
