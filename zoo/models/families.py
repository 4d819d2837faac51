"""The model families: an architecture (its torch-free twin in leaderboard/shapes) and where its modules are."""

from dataclasses import dataclass

from leaderboard.errors import unknown_name
from leaderboard.shapes import ARCHITECTURES, Shape


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
    whole: tuple[str, ...] = ()  # norms over one head, which stay as they are when the model gets narrower
    not_read: tuple[str, ...] = ("rotary_emb.inv_freq",)  # ends of names that old checkpoints hold and nobody reads

    @property
    def linears(self) -> tuple[str, ...]:
        """The seven linear maps of a layer."""
        return (self.q, self.k, self.v, self.o, self.gate, self.up, self.down)

    def layer(self, index: int, name: str) -> str:
        """Full name of a module inside layer `index`."""
        return f"{self.layers}.{index}.{name}"

    def passed_over(self, name: str) -> bool:
        """Whether a tensor of this name in a checkpoint is one that transformers does not read, by intent."""
        return name.endswith(self.not_read)


def check_targets(targets: tuple[str, ...], model_type: str) -> tuple[str, ...]:
    """The linear maps of a layer that LoRA's adapters go on, all where none is named; P2Error for one not there."""
    names = [linear.rpartition(".")[2] for linear in MODULES[model_type].linears if linear]
    for target in targets:
        if target not in names:
            raise unknown_name("module", target, names, "train.lora.targets")
    return targets or tuple(names)


# Llama's names, unless a row says otherwise.
MODULES: dict[str, Modules] = {model_type: Modules() for model_type in ARCHITECTURES}


def matrix_shapes(shape: Shape) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of the seven matrices of a layer, by the name of the module inside the layer."""
    names = MODULES[shape.model_type]
    q, kv, hidden, ffn = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.hidden, shape.ffn
    return {
        names.q: (q, hidden),
        names.k: (kv, hidden),
        names.v: (kv, hidden),
        names.o: (hidden, q),
        names.gate: (ffn, hidden),
        names.up: (ffn, hidden),
        names.down: (hidden, ffn),
    }


def tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a checkpoint of this shape holds; a tied head is not one."""
    names = MODULES[shape.model_type]
    table: tuple[int, ...] = (shape.vocab, shape.hidden)
    sizes = {f"{names.embedding}.weight": table, f"{names.final_norm}.weight": (shape.hidden,)}
    if not shape.tied:
        sizes[f"{names.head}.weight"] = table
    inside = _layer_tensors(names, shape)
    for index in range(shape.layers):
        sizes |= {names.layer(index, name): size for name, size in inside.items()}
    return sizes


def _layer_tensors(names: Modules, shape: Shape) -> dict[str, tuple[int, ...]]:
    matrices = matrix_shapes(shape)
    biased = {
        **dict.fromkeys((names.q, names.k, names.v), shape.qkv_bias),
        names.o: shape.o_bias,
        **dict.fromkeys((names.gate, names.up, names.down), shape.mlp_bias),
    }
    sizes: dict[str, tuple[int, ...]] = {f"{name}.weight": size for name, size in matrices.items()}
    sizes |= {f"{name}.bias": (matrices[name][0],) for name, bias in biased.items() if bias}
    sizes |= {f"{name}.weight": (shape.hidden,) for name in names.norms}
    return sizes | {f"{name}.weight": (shape.head_dim,) for name in names.whole}
