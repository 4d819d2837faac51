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
    derived: tuple[str, ...] = ("model.rotary_emb",)  # modules of buffers alone, which follow from the config
    scaled_embedding: bool = False  # its embedding has a buffer `embed_scale`, the root of the hidden size
    head: str = "lm_head"
    stored_head: str = ""  # what files call the head, where that is another name
    q: str = "self_attn.q_proj"  # queries, keys and values in one where `k` and `v` are empty
    k: str = "self_attn.k_proj"
    v: str = "self_attn.v_proj"
    o: str = "self_attn.o_proj"
    gate: str = "mlp.gate_proj"  # empty: there is none
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")  # over the hidden size
    whole: tuple[str, ...] = ()  # norms over one head, which stay as they are when the model gets narrower
    wide: tuple[str, ...] = ()  # the norm over all query heads together, and that over all key heads
    not_read: tuple[str, ...] = ("rotary_emb.inv_freq",)  # ends of names that old checkpoints hold and nobody reads

    @property
    def linears(self) -> tuple[str, ...]:
        """The linear maps of a layer: seven, or fewer where some are one or there is no gate."""
        return tuple(filter(None, (self.q, self.k, self.v, self.o, self.gate, self.up, self.down)))

    @property
    def sharing(self) -> dict[str, tuple[str, ...]]:
        """The linear maps that have the same input, by the first of them."""
        groups = [(self.q, self.k, self.v), (self.o,), (self.gate, self.up), (self.down,)]
        named = [tuple(filter(None, group)) for group in groups]
        return {group[0]: group for group in named}

    def layer(self, index: int, name: str) -> str:
        """Full name of a module inside layer `index`."""
        return f"{self.layers}.{index}.{name}"

    def inside(self, stored: str) -> str:
        """The name inside the model of a tensor that a file calls `stored`."""
        head = self.stored_head
        return f"{self.head}{stored.removeprefix(head)}" if head and stored.startswith(f"{head}.") else stored

    def passed_over(self, name: str) -> bool:
        """Whether a tensor of this name in a checkpoint is one that transformers does not read, by intent."""
        return name.endswith(self.not_read)


def check_targets(targets: tuple[str, ...], model_type: str) -> tuple[str, ...]:
    """The linear maps of a layer that LoRA's adapters go on, all where none is named; P2Error for one not there."""
    names = [linear.rpartition(".")[2] for linear in MODULES[model_type].linears]
    for target in targets:
        if target not in names:
            raise unknown_name("module", target, names, "train.lora.targets")
    return targets or tuple(names)


# Llama's names, unless a row says otherwise.
_QK_NORMS = ("self_attn.q_norm", "self_attn.k_norm")
MODULES: dict[str, Modules] = {model_type: Modules() for model_type in ARCHITECTURES} | {
    "qwen3": Modules(whole=_QK_NORMS),
    "olmo2": Modules(norms=("post_attention_layernorm", "post_feedforward_layernorm"), wide=_QK_NORMS),
    "gemma3_text": Modules(
        scaled_embedding=True,
        norms=(
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        ),
        whole=_QK_NORMS,
    ),
    "gpt_neox": Modules(
        layers="gpt_neox.layers",
        embedding="gpt_neox.embed_in",
        final_norm="gpt_neox.final_layer_norm",
        derived=("gpt_neox.rotary_emb",),
        stored_head="embed_out",
        q="attention.query_key_value",
        k="",
        v="",
        o="attention.dense",
        gate="",
        up="mlp.dense_h_to_4h",
        down="mlp.dense_4h_to_h",
        not_read=("rotary_emb.inv_freq", "attention.bias", "attention.masked_bias"),
    ),
}


def matrix_shapes(shape: Shape) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of the matrices of a layer, by the name of the module inside the layer."""
    names = MODULES[shape.model_type]
    q, kv, hidden, ffn = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.hidden, shape.ffn
    sizes = {
        names.q: (q if names.k else q + 2 * kv, hidden),
        names.k: (kv, hidden),
        names.v: (kv, hidden),
        names.o: (hidden, q),
        names.gate: (ffn, hidden),
        names.up: (ffn, hidden),
        names.down: (hidden, ffn),
    }
    return {name: size for name, size in sizes.items() if name}


def tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a model of this shape holds; a tied head is not one."""
    names, row = MODULES[shape.model_type], shape.architecture
    table: tuple[int, ...] = (shape.vocab, shape.hidden)
    sizes = {f"{names.embedding}.weight": table, f"{names.final_norm}.weight": (shape.hidden,)}
    if row.norm_bias:
        sizes[f"{names.final_norm}.bias"] = (shape.hidden,)
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
    sizes |= {f"{name}.bias": (matrices[name][0],) for name, bias in biased.items() if bias and name}
    norms = dict.fromkeys(names.norms, shape.hidden) | dict.fromkeys(names.whole, shape.head_dim)
    norms |= {name: n * shape.head_dim for name, n in zip(names.wide, (shape.heads, shape.kv_heads), strict=False)}
    kinds = ("weight", "bias") if shape.architecture.norm_bias else ("weight",)
    return sizes | {f"{name}.{kind}": (size,) for name, size in norms.items() for kind in kinds}
