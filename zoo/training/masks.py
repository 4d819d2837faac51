"""Keeping the zeros of a pruned model through training.

Plain training fills the zeros within one step. A tensor hook on each pruned weight multiplies its gradient
by the mask, so clipping and the logged gradient norm see the true gradient; `reapply` after each step is
the guard, and `check` before each save the proof. Of a sharded matrix each process keeps the mask of its own rows:
groups of four lie within a row, so nobody needs another's.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from transformers import PreTrainedModel

from leaderboard.errors import RunFailed
from zoo.distributed import local
from zoo.pruning.methods import TWO_OF_FOUR, Sparse
from zoo.pruning.zeros import lost_words, require_zeros, sparse_linears


class MaskKeeper:
    """Holds the masks of a sparse model while it trains.

    `pruned` is the folder of the pruned checkpoint; give it on resume, when `model` may hold later weights.
    Without it the masks come from the model's own zeros. `sparse` is the sparse part of the method.
    Raises RunFailed when its zeros are not there.
    """

    def __init__(self, model: PreTrainedModel, pruned: Path | None = None, sparse: Sparse = TWO_OF_FOUR):
        self.sparse = sparse
        self.weights = {f"{layer}.{name}": linear.weight for layer, name, linear in sparse_linears(model)}
        if pruned is None:
            source = {name: local(weight) for name, weight in self.weights.items()}
            require_zeros(source, sparse)
        else:
            source = _weights_on_disk(model, pruned, sparse)
        self.masks = {name: sparse.mask(source[name]).to(weight.device) for name, weight in self.weights.items()}
        self.handles = [self._watch(name, weight) for name, weight in self.weights.items()]
        self.reapply()

    def _watch(self, name: str, weight: Tensor) -> Any:
        """Mask the gradient of a weight. That of a shard is set, not accumulated, so it is masked once it is there."""
        if local(weight) is weight:
            return weight.register_hook(self._hook(name))
        return weight.register_post_accumulate_grad_hook(self._mask_grad(name))

    def _mask_grad(self, name: str) -> Callable[[Tensor], None]:
        def hook(weight: Tensor) -> None:
            assert weight.grad is not None
            own = local(weight.grad)
            own.mul_(self._mask(name, own))

        return hook

    def _hook(self, name: str) -> Callable[[Tensor], Tensor]:
        return lambda gradient: gradient * self._mask(name, gradient)

    def _mask(self, name: str, like: Tensor) -> Tensor:
        if self.masks[name].device != like.device:  # the model moved after the keeper was built
            self.masks[name] = self.masks[name].to(like.device)
        return self.masks[name]

    @torch.no_grad()
    def reapply(self) -> None:
        """Zero what must be zero; after every optimiser step."""
        for name, weight in self.weights.items():
            own = local(weight)
            own.mul_(self._mask(name, own))

    @torch.no_grad()
    def check(self) -> None:
        """Raise RunFailed unless every masked weight is exactly zero."""
        own = {name: local(weight) for name, weight in self.weights.items()}
        lost = [name for name, weight in own.items() if (weight * ~self._mask(name, weight)).any()]
        if lost:
            raise RunFailed(lost_words(lost, len(self.weights), self.sparse))

    def close(self) -> None:
        """Remove the hooks; the model trains freely again."""
        for handle in self.handles:
            handle.remove()


def _weights_on_disk(model: PreTrainedModel, folder: Path, sparse: Sparse) -> dict[str, Tensor]:
    """The pruned matrices of a saved checkpoint in any number of files; of sharded ones this process's rows.

    The whole matrix must hold zeros: the rows of one process may have none, and a process may have no rows.
    """
    full = {id(p): name for name, p in model.named_parameters()}
    wanted = {full[id(linear.weight)]: f"{layer}.{name}" for layer, name, linear in sparse_linears(model)}
    rows = {full[id(linear.weight)]: _own_rows(linear.weight) for _, _, linear in sparse_linears(model)}
    matrices: dict[str, Tensor] = {}
    lost = []
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in [name for name in file.keys() if name in wanted]:  # noqa: SIM118
                matrices[wanted[name]] = own = file.get_slice(name)[rows[name]]
                if not sparse.holds(own) and not sparse.holds(file.get_tensor(name)):
                    lost.append(wanted[name])
    if missing := sorted(set(wanted.values()) - set(matrices)):
        raise RunFailed(f"{folder}: not the pruned checkpoint of this model: lacks {len(missing)} matrices.")
    if lost:
        raise RunFailed(lost_words(lost, len(wanted), sparse))
    return matrices


def _own_rows(weight: Tensor) -> slice:
    """Which rows of a matrix this process holds; all where it is not sharded."""
    if not isinstance(weight, DTensor):
        return slice(None)
    shape, offset = compute_local_shape_and_global_offset(weight.shape, weight.device_mesh, weight.placements)
    return slice(offset[0], offset[0] + shape[0])
