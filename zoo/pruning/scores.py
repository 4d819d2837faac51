"""Importance scores of depth and width from one pass over calibration text, block by block, cached on disk.

Scores are float32 tensors by name (L layers, d hidden, f FFN, h query heads):

    change      (L+1, L+1)  mean 1 - cos of the residual stream at two layer boundaries; the entries next
                            to the diagonal are block influence (arXiv:2403.03853) and see every token, those
                            further away, which need all boundaries at once, every k-th of at most 16,384 tokens
    hidden      (d,)        mean |x| of every norm output, L2 over sequences, summed over norms
    ffn         (L, f)      mean |x| of the down projection's input, L2 over sequences
    heads       (L, h)      mean L2 norm of a head's slice of the output projection's input, L2 over sequences

hidden, ffn and heads follow Minitron (arXiv:2407.14679). Nothing is drawn at random. What 2:4 and unstructured
pruning measure depends on the blocks pruned before, so it is never cached: sparsity.py.
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
from leaderboard.shapes import Shape, shape_of
from zoo.models.families import MODULES
from zoo.pruning.blocks import Forward, walk

Scores = dict[str, Tensor]
_FORMAT = "3"  # raise when a score changes its meaning, so that old caches are not read
_SAMPLE = 16_384  # tokens whose residual streams are kept at every layer boundary


def calibration_sha256(batches: Sequence[Tensor]) -> str:
    """Hash of the calibration tokens, row by row; how rows are batched does not matter."""
    digest = hashlib.sha256()
    for batch in batches:
        for row in batch:
            digest.update(len(row).to_bytes(8, "little"))
            digest.update(row.to("cpu", torch.int64).numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def scores(
    model: PreTrainedModel,
    batches: Sequence[Tensor],
    cache_dir: Path | None = None,
    cache_key: str | None = None,
    device: torch.device | None = None,
) -> Scores:
    """All scores, from the cache if this model in its dtype, this calibration text and kind of device were seen before.

    `batches` are token ids, (batch, sequence) each. `cache_key` names the weights, e.g. id@commit. Blocks are run
    on `device`; None: where the model is.
    """
    if cache_dir is None:
        return collect(model, batches, device)
    if not cache_key:
        raise P2Error("calibration: a score cache needs cache_key, the name and commit of the weights.")
    kind = f"{model.dtype}|{(device or model.device).type}"  # which round differently, and may rank near-ties otherwise
    key = f"{_FORMAT}|{cache_key}|{kind}|{calibration_sha256(batches)}"
    path = Path(cache_dir) / f"scores-{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"
    if path.is_file():
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    measured = collect(model, batches, device)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.partial")
    save_file(measured, unfinished, metadata={"key": key})
    unfinished.replace(path)
    return measured


@torch.no_grad()
def collect(model: PreTrainedModel, batches: Sequence[Tensor], device: torch.device | None = None) -> Scores:
    """Run the decoder (not its output head) once over `batches` and return every score."""
    if not batches:
        raise P2Error("calibration: no text came; give one batch of tokens or more.")
    device = device or model.device
    shape = shape_of(model.config.to_dict())
    recorder = _Recorder(shape, sum(batch.numel() for batch in batches), device)

    def visit(index: int, layer: nn.Module, forward: Forward) -> list[Tensor]:
        with ExitStack() as hooks:
            recorder.attach(index, layer, hooks)
            return forward()

    norm = model.get_submodule(MODULES[shape.model_type].final_norm)
    for output in walk(model, batches, device, visit):
        recorder.add_final(norm(output.to(model.device)).to(device))
    return {name: tensor.cpu().contiguous() for name, tensor in recorder.result().items()}


class _Recorder:
    """float32 sums over tokens and sequences, filled by hooks on the layer under way."""

    def __init__(self, shape: Shape, tokens: int, device: torch.device):
        zeros = partial(torch.zeros, dtype=torch.float32, device=device)
        self.shape = shape
        self.names = MODULES[shape.model_type]
        self.norms = {name: zeros(shape.layers, shape.hidden) for name in self.names.norms}
        self.final_norm = zeros(shape.hidden)
        self.ffn = zeros(shape.layers, shape.ffn)
        self.heads = zeros(shape.layers, shape.heads)
        self.influence = zeros(shape.layers)
        self.tokens = tokens
        self.every = -(-tokens // _SAMPLE)
        self.streams: list[list[Tensor]] = [[] for _ in range(shape.layers + 1)]  # sampled, at each boundary
        self.device = device

    def attach(self, index: int, layer: nn.Module, hooks: ExitStack) -> None:
        """Listen to layer `index` until `hooks` is left."""
        hooks.callback(layer.register_forward_hook(partial(self._add_boundaries, index)).remove)
        for name in self.names.norms:
            norm = layer.get_submodule(name)
            hooks.callback(norm.register_forward_hook(partial(self._add_norm, name, index)).remove)
        for name, add in ((self.names.down, self._add_ffn), (self.names.o, self._add_heads)):
            hooks.callback(layer.get_submodule(name).register_forward_pre_hook(partial(add, index)).remove)

    def _add_norm(self, name: str, layer: int, _module: nn.Module, _args: Any, output: Tensor) -> None:
        self.norms[name][layer] += output.float().abs().mean(1).square().sum(0)

    def _add_ffn(self, layer: int, _module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.ffn[layer] += args[0].float().abs().mean(1).square().sum(0)

    def _add_heads(self, layer: int, _module: nn.Module, args: tuple[Tensor, ...]) -> None:
        per_head = args[0].float().unflatten(-1, (self.shape.heads, self.shape.head_dim)).norm(dim=-1)
        self.heads[layer] += per_head.mean(1).square().sum(0)

    def _add_boundaries(self, layer: int, _module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        before, after = (nn.functional.normalize(x.flatten(0, 1).float(), dim=-1) for x in (args[0], output))
        self.influence[layer] += (1 - (before * after).sum(-1)).sum()
        self.streams[layer].append(before[:: self.every].cpu())
        if layer == self.shape.layers - 1:
            self.streams[-1].append(after[:: self.every].cpu())

    def add_final(self, output: Tensor) -> None:
        self.final_norm += output.float().abs().mean(1).square().sum(0)

    def _change(self) -> Tensor:
        """Mean 1 - cos between all boundaries on the sampled tokens, between neighbours on all tokens."""
        total, tokens = self.influence.new_zeros(self.shape.layers + 1, self.shape.layers + 1), 0
        for batch in zip(*self.streams, strict=True):
            for unit in torch.stack(batch).split(1_024, dim=1):
                unit = unit.to(self.device)
                total += unit.shape[1] - torch.einsum("itd,jtd->ij", unit, unit)
                tokens += unit.shape[1]
        change = total / tokens
        for side in (1, -1):
            change.diagonal(side).copy_(self.influence / self.tokens)
        return change

    def result(self) -> Scores:
        """The scores, as the head of this file names them."""
        norms = torch.stack([total.sqrt().sum(0) for total in self.norms.values()]).sum(0) + self.final_norm.sqrt()
        return {
            "change": self._change(),
            "hidden": norms,
            "ffn": self.ffn.sqrt(),
            "heads": self.heads.sqrt(),
        }
