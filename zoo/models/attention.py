"""Which attention a model computes with, and the plain one that held-out losses are always measured with."""

import contextlib
from collections.abc import Iterator

import torch
from transformers import PreTrainedModel

_PLAIN = "sdpa"  # how the held-out loss is measured, always


@contextlib.contextmanager
def plain(model: PreTrainedModel) -> Iterator[None]:
    """The arithmetic of the held-out loss, whatever the training uses: sdpa, nothing compiled."""
    before = model.config._attn_implementation
    set_attention(model, _PLAIN)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        set_attention(model, before)


def set_attention(model: PreTrainedModel, name: str) -> None:
    """Compute attention by `name` from now on; `sdpa-cudnn` is sdpa with its kernels in another order."""
    name = _PLAIN if name == "sdpa-cudnn" else name
    if model.config._attn_implementation != name:
        model.set_attn_implementation(name)
