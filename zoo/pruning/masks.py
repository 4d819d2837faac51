"""Keeping 2:4 zeros through training.

Plain training fills the zeros within one step. A tensor hook on each pruned weight multiplies its gradient
by the mask, so clipping and the logged gradient norm see the true gradient; `reapply` after each step is
the guard, and `check` before each save the proof.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from leaderboard.errors import RunFailed
from zoo.pruning.sparsity import keep_n_of_m, sparse_linears


def is_2of4(weight: Tensor) -> bool:
    """Whether every four neighbouring inputs hold two exact zeros or more."""
    return bool(((weight == 0).unflatten(-1, (-1, 4)).sum(-1) >= 2).all())


def mask_of(weight: Tensor) -> Tensor:
    """The 2:4 mask of a pruned matrix, from its exact zeros.

    Where a group holds more than two zeros the lower indices count as kept, so the mask is always half.
    """
    return keep_n_of_m(weight != 0)


class MaskKeeper:
    """Holds the masks of a 2:4-pruned model while it trains.

    `pruned` is the folder of the pruned checkpoint; give it on resume, when `model` may hold later weights.
    Without it the masks come from the model's own zeros. Raises RunFailed when the pattern is not there.
    """

    def __init__(self, model: PreTrainedModel, pruned: Path | None = None):
        self.weights = {f"{layer}.{name}": linear.weight for layer, name, linear in sparse_linears(model)}
        source = self.weights if pruned is None else _weights_on_disk(model, pruned)
        _require_pattern(source)
        self.masks = {name: mask_of(source[name]).to(weight.device) for name, weight in self.weights.items()}
        self.handles = [weight.register_hook(self._hook(name)) for name, weight in self.weights.items()]
        self.reapply()

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
            weight.mul_(self._mask(name, weight))

    @torch.no_grad()
    def check(self) -> None:
        """Raise RunFailed unless every masked weight is exactly zero."""
        lost = [name for name, weight in self.weights.items() if (weight * ~self._mask(name, weight)).any()]
        if lost:
            raise RunFailed(_lost(lost, len(self.weights)))

    def close(self) -> None:
        """Remove the hooks; the model trains freely again."""
        for handle in self.handles:
            handle.remove()


def check_2of4(model: PreTrainedModel) -> None:
    """Raise RunFailed unless every attention and MLP matrix of `model` is 2:4."""
    _require_pattern({f"{layer}.{name}": linear.weight for layer, name, linear in sparse_linears(model)})


def _require_pattern(weights: dict[str, Tensor]) -> None:
    lost = [name for name, weight in weights.items() if not is_2of4(weight)]
    if lost:
        raise RunFailed(_lost(lost, len(weights)))


def _lost(names: list[str], total: int) -> str:
    return f"2:4: {len(names)} of {total} matrices lost the pattern (first: layer {names[0]})."


def _weights_on_disk(model: PreTrainedModel, folder: Path) -> dict[str, Tensor]:
    """The pruned matrices of a saved checkpoint, whatever number of files it has."""
    full = {id(p): name for name, p in model.named_parameters()}
    wanted = {full[id(linear.weight)]: f"{layer}.{name}" for layer, name, linear in sparse_linears(model)}
    found: dict[str, Tensor] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= {wanted[name]: file.get_tensor(name) for name in file.keys() if name in wanted}  # noqa: SIM118
    if missing := sorted(set(wanted.values()) - set(found)):
        raise RunFailed(f"{folder}: not the pruned checkpoint of this model: lacks {len(missing)} matrices.")
    return found
