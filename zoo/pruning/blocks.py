"""One block at a time: calibration text walks through a decoder, layer after layer.

The model may stay on the CPU. The layer under way is on the accelerator, with what is measured on it; the text's
activations rest on the CPU, or on the accelerator where they are small beside its free memory. Without an
accelerator everything is on the CPU and the arithmetic is the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from zoo.models.families import MODULES

Forward = Callable[[], list[Tensor]]
Visit = Callable[[int, nn.Module, Forward], list[Tensor]]
_SHARE = 4  # activations rest on the accelerator where this many times their size is free


@torch.no_grad()
def walk(model: PreTrainedModel, batches: Sequence[Tensor], device: torch.device, visit: Visit) -> list[Tensor]:
    """Call visit(index, layer, forward) for every layer in order; returns the last layer's outputs.

    `batches` are token ids, (batch, sequence) each. `forward()` runs the layer, as it is then, on all of them; hooks
    see them one by one on `device`. What `visit` returns, (batch, sequence, hidden) each, goes into the next layer.
    """
    was_training = model.training
    model.eval()
    try:
        stream, keywords = _enter(model, batches)
        rest = _resting_place(stream, device)
        layers = model.get_submodule(MODULES[model.config.model_type].layers)
        for index, layer in enumerate(layers.children()):
            home = next(layer.parameters()).device
            layer.to(device)
            inputs, given = stream, [batch[index] for batch in keywords]
            stream = visit(index, layer, lambda: _run(layer, inputs, given, device, rest))  # noqa: B023
            layer.to(home)
        return stream
    finally:
        model.train(was_training)


def _run(
    layer: nn.Module, inputs: list[Tensor], keywords: list[dict[str, Any]], device: torch.device, rest: torch.device
) -> list[Tensor]:
    """The layer on every batch; on a GPU in bf16 arithmetic, as in training."""
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        return [layer(x.to(device), **_move(k, device)).to(rest) for x, k in zip(inputs, keywords, strict=True)]


def _enter(model: PreTrainedModel, batches: Sequence[Tensor]) -> tuple[list[Tensor], list[list[dict[str, Any]]]]:
    """What goes into the first layer, and what each layer is given beside it: masks, positions. By batch.

    The decoder itself makes these; for one pass its layers do nothing but note them.
    """
    layers = list(model.get_submodule(MODULES[model.config.model_type].layers).children())
    stream: list[Tensor] = []
    given: list[list[dict[str, Any]]] = []

    def note(hidden_states: Tensor, **keywords: Any) -> Tensor:
        given[-1].append(keywords)
        return hidden_states

    handle = layers[0].register_forward_pre_hook(lambda _m, args: stream.append(args[0]))
    for layer in layers:
        layer.forward = note
    try:
        for batch in batches:
            given.append([])
            model.base_model(batch.to(model.device), use_cache=False)
    finally:
        handle.remove()
        for layer in layers:
            del layer.forward
    return stream, given


def _move(value: Any, device: torch.device) -> Any:
    """Tensors of a keyword on the device, whatever holds them."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _move(item, device) for key, item in value.items()}
    return tuple(_move(item, device) for item in value) if isinstance(value, tuple) else value


def _resting_place(stream: list[Tensor], device: torch.device) -> torch.device:
    if device.type != "cuda":
        return torch.device("cpu")
    free, _ = torch.cuda.mem_get_info(device)
    size = sum(x.nbytes for x in stream)
    return device if _SHARE * size < free else torch.device("cpu")
