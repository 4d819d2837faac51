"""The model families: an architecture (its torch-free twin in leaderboard/shapes) and where its modules are."""

from dataclasses import dataclass

from leaderboard.errors import unknown_name
from leaderboard.shapes import ARCHITECTURES


@dataclass(frozen=True)
class Modules:
    """Where things are in the module tree; names below `layers` are inside one layer."""

    layers: str = "model.layers"
    embedding: str = "model.embed_tokens"
    final_norm: str = "model.norm"
    rotary: str = "model.rotary_emb"
    head: str = "lm_head"
    q: str = "self_attn.q_proj"
    k: str = "self_attn.k_proj"
    v: str = "self_attn.v_proj"
    o: str = "self_attn.o_proj"
    gate: str = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")  # over the hidden size
    whole: tuple[str, ...] = ()  # what stays as it is when the model gets narrower, such as norms of one head

    @property
    def linears(self) -> tuple[str, ...]:
        """The seven linear maps of a layer."""
        return (self.q, self.k, self.v, self.o, self.gate, self.up, self.down)

    def layer(self, index: int, name: str) -> str:
        """Full name of a module inside layer `index`."""
        return f"{self.layers}.{index}.{name}"


def check_targets(targets: tuple[str, ...], model_type: str) -> tuple[str, ...]:
    """The linear maps of a layer that LoRA's adapters go on, all where none is named; P2Error for one not there."""
    names = [linear.rpartition(".")[2] for linear in MODULES[model_type].linears if linear]
    for target in targets:
        if target not in names:
            raise unknown_name("module", target, names, "train.lora.targets")
    return targets or tuple(names)


# Llama's names, unless a row says otherwise.
MODULES: dict[str, Modules] = {model_type: Modules() for model_type in ARCHITECTURES}
