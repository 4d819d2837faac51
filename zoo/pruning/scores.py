"""Importance scores of every method from one forward pass over calibration text, cached on disk.

Scores are float32 tensors by name (L layers, d hidden, f FFN, h query heads, e head size):

    change      (L+1, L+1)  mean 1 - cos of the residual stream at two layer boundaries; the entries next
                            to the diagonal are block influence (arXiv:2403.03853)
    hidden      (d,)        mean |x| of every norm output, L2 over sequences, summed over norms
    ffn         (L, f)      mean |x| of the down projection's input, L2 over sequences
    heads       (L, h)      mean L2 norm of a head's slice of the output projection's input, L2 over sequences
    input.q     (L, d)      L2 norm over tokens of the input features of q, k and v (arXiv:2306.11695)
    input.o     (L, h e)    the same for the output projection; input.gate (L, d) for gate and up; input.down (L, f)

hidden, ffn and heads follow Minitron (arXiv:2407.14679). Nothing is drawn at random.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from leaderboard.errors import P2Error
from zoo.families import FAMILIES, Family, Shape, shape_of

Scores = dict[str, Tensor]
_FORMAT = "1"  # raise when a score changes its meaning, so that old caches are not read


def calibration_sha256(batches: Sequence[Tensor]) -> str:
    """Hash of the calibration tokens, row by row; how rows are batched does not matter."""
    digest = hashlib.sha256()
    for batch in batches:
        for row in batch:
            digest.update(len(row).to_bytes(8, "little"))
            digest.update(row.to("cpu", torch.int64).numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def scores(
    model: PreTrainedModel, batches: Sequence[Tensor], cache_dir: Path | None = None, cache_key: str | None = None
) -> Scores:
    """All scores, from the cache if this model and this calibration text were seen before.

    `batches` are token ids, (batch, sequence) each. `cache_key` names the weights, e.g. id@commit.
    """
    if not batches:
        raise P2Error("calibration: no text came; give one batch of tokens or more.")
    if cache_dir is None:
        return collect(model, batches)
    if not cache_key:
        raise P2Error("calibration: a score cache needs cache_key, the name and commit of the weights.")
    key = f"{_FORMAT}|{cache_key}|{calibration_sha256(batches)}"
    path = Path(cache_dir) / f"scores-{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"
    if path.is_file():
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    found = collect(model, batches)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.partial")
    save_file(found, unfinished, metadata={"key": key})
    unfinished.replace(path)
    return found


@torch.no_grad()
def collect(model: PreTrainedModel, batches: Sequence[Tensor]) -> Scores:
    """Run the decoder (not its output head) once over `batches` and return every score."""
    shape = shape_of(model.config.to_dict())
    recorder = _Recorder(shape, model.device)
    was_training = model.training
    model.eval()
    try:
        with ExitStack() as hooks:
            recorder.attach(model, FAMILIES[shape.model_type], hooks)
            for batch in batches:
                model.base_model(batch.to(model.device), use_cache=False)
                recorder.end_batch()
    finally:
        model.train(was_training)
    return {name: tensor.cpu().contiguous() for name, tensor in recorder.result().items()}


class _Recorder:
    """float32 sums over tokens and sequences, filled by forward hooks."""

    def __init__(self, shape: Shape, device: torch.device):
        widths = {"q": shape.hidden, "o": shape.heads * shape.head_dim, "gate": shape.hidden, "down": shape.ffn}
        zeros = partial(torch.zeros, dtype=torch.float32, device=device)
        self.shape = shape
        self.squares = {name: zeros(shape.layers, width) for name, width in widths.items()}
        self.means = {name: zeros(shape.layers, width) for name, width in widths.items()}
        self.final_norm = zeros(shape.hidden)
        self.heads = zeros(shape.layers, shape.heads)
        self.change = zeros(shape.layers + 1, shape.layers + 1)
        self.tokens = 0
        self.stream: list[Tensor] = []  # the residual stream at every layer boundary of the current batch

    def attach(self, model: nn.Module, family: Family, hooks: ExitStack) -> None:
        """Listen to the model until `hooks` is left."""
        names = family.modules
        layers = list(model.get_submodule(names.layers).children())
        norm = model.get_submodule(names.final_norm)
        handles = [
            layers[0].register_forward_pre_hook(lambda _m, args: self.stream.append(args[0])),
            norm.register_forward_hook(lambda _m, _a, out: self._add_final(out)),
        ]
        for index, layer in enumerate(layers):
            handles.append(layer.register_forward_hook(lambda _m, _a, out: self.stream.append(out)))
            for short, name in (("q", names.q), ("o", names.o), ("gate", names.gate), ("down", names.down)):
                linear = layer.get_submodule(name)
                handles.append(linear.register_forward_pre_hook(self._input_hook(short, index)))
        for handle in handles:
            hooks.callback(handle.remove)

    def _input_hook(self, name: str, layer: int) -> Any:
        def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0].float()
            self.squares[name][layer] += x.square().sum((0, 1))
            self.means[name][layer] += x.abs().mean(1).square().sum(0)
            if name == "o":
                per_head = x.unflatten(-1, (self.shape.heads, self.shape.head_dim)).norm(dim=-1)
                self.heads[layer] += per_head.mean(1).square().sum(0)

        return hook

    def _add_final(self, output: Tensor) -> None:
        self.final_norm += output.float().abs().mean(1).square().sum(0)

    def end_batch(self) -> None:
        """Compare all layer boundaries, one sequence at a time to keep memory flat."""
        for row in range(len(self.stream[0])):
            unit = nn.functional.normalize(torch.stack([x[row] for x in self.stream]).float(), dim=-1)
            self.change += unit.shape[1] - torch.einsum("itd,jtd->ij", unit, unit)
            self.tokens += unit.shape[1]
        self.stream.clear()

    def result(self) -> Scores:
        """The scores, as the head of this file names them."""
        norms = self.means["q"].sqrt().sum(0) + self.means["gate"].sqrt().sum(0) + self.final_norm.sqrt()
        inputs = {f"input.{name}": total.sqrt() for name, total in self.squares.items()}
        return {
            "change": self.change / self.tokens,
            "hidden": norms,
            "ffn": self.means["down"].sqrt(),
            "heads": self.heads.sqrt(),
            **inputs,
        }
