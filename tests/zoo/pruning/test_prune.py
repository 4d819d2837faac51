"""Every family, tied and untied, by every method: counted, saved, loaded back; masked equals sliced."""

import copy
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from leaderboard.errors import P2Error
from leaderboard.shapes import ARCHITECTURES, parameters, shape_of
from zoo.models.families import MODULES
from zoo.pruning.depth import layers_to_remove, remove_layers
from zoo.pruning.plan import plan
from zoo.pruning.prune import prune
from zoo.pruning.scores import collect
from zoo.pruning.spec import PruneSpec
from zoo.pruning.width import choose, slice_width
from zoo.pruning.zeros import check_zeros, count_zeros, is_n_of_m, sparse_linears

TIED = [(m, t) for m in ARCHITECTURES for t in (True, False)]
every_model = pytest.mark.parametrize(("model_type", "tied"), TIED, ids=lambda v: str(v))
every_narrow_model = pytest.mark.parametrize(
    ("model_type", "tied"), [(m, t) for m, t in TIED if "width" not in ARCHITECTURES[m].without], ids=lambda v: str(v)
)
THREE = ["sliding_attention", "full_attention", "sliding_attention"]
SPECS = {
    "depth": PruneSpec(method="depth", rate=0.42),
    "width": PruneSpec(method="width", rate=0.4),
    "2:4": PruneSpec(method="2:4"),
    "2:4 magnitude": PruneSpec(method="2:4", importance="magnitude"),
    "2:4 sparsegpt": PruneSpec(method="2:4", importance="sparsegpt"),
    "unstructured": PruneSpec(method="unstructured", rate=0.3),
    "unstructured magnitude": PruneSpec(method="unstructured", rate=0.3, importance="magnitude"),
    "unstructured sparsegpt": PruneSpec(method="unstructured", rate=0.3, importance="sparsegpt"),
    "depth+2:4": PruneSpec(method="depth+2:4", rate=0.42, importance="block-influence+sparsegpt"),
    "width+2:4": PruneSpec(method="width+2:4", rate=0.4),
}


@pytest.mark.parametrize("name", SPECS)
@every_model
def test_pruned_as_planned_and_loads_back(build, batches, tmp_path, model_type, tied, name):
    model = build(model_type, tied)
    shape = shape_of(model.config.to_dict())
    if any(method in ARCHITECTURES[model_type].without for method in SPECS[name].method.split("+")):
        with pytest.raises(P2Error, match="is not pruned by width: its attention is as wide"):
            plan(shape, SPECS[name])
        return
    planned = plan(shape, SPECS[name])
    done = prune(model, planned, batches)
    assert shape_of(done.model.config.to_dict()) == planned.target
    assert 0 < planned.rate < 1
    assert (done.calibration_sha256 is None) == name.endswith(" magnitude")
    zeros = count_zeros(linear.weight for _, _, linear in sparse_linears(done.model))
    assert planned.n_pruned == parameters(planned.target) - zeros
    if "2:4" in name:
        check_zeros(done.model)
    done.model.save_pretrained(tmp_path)
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert (loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight) == tied
    with torch.no_grad():
        assert loaded(batches[0], labels=batches[0]).loss == done.model(batches[0], labels=batches[0]).loss
        torch.testing.assert_close(loaded(batches[0]).logits, done.model(batches[0]).logits, rtol=0, atol=1e-5)
    fixed = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    cached, uncached = (loaded.generate(batches[0], use_cache=c, **fixed) for c in (True, False))
    assert torch.equal(cached, uncached)


def test_exactly_the_named_layers_go(build):
    model = build("llama", True, num_hidden_layers=4)
    norms = [layer.input_layernorm.weight.clone() for layer in model.model.layers]
    done = prune(model, plan(shape_of(model.config.to_dict()), PruneSpec(method="depth", layers=(2, 0))), [])
    assert (done.removed, done.calibration_sha256) == ({"layers": [0, 2]}, None)
    kept = [layer.input_layernorm.weight for layer in done.model.model.layers]
    assert [torch.equal(*pair) for pair in zip(kept, (norms[1], norms[3]), strict=True)] == [True, True]


@every_narrow_model
def test_width_equals_the_masked_model(build, batches, model_type, tied):
    """In float64; a masked norm needs weights x sqrt(d'/d) and eps x d'/d, since it averages over d."""
    model = build(model_type, tied, **({"attention_bias": True, "mlp_bias": True} if model_type == "llama" else {}))
    model = model.double()
    shape = shape_of(model.config.to_dict())
    target = replace(shape, hidden=24, ffn=32, heads=2)
    kept = choose(collect(model, batches), shape, target)
    masked = _masked(_with_float64_norms(copy.deepcopy(model)), kept, shape)
    sliced = _with_float64_norms(slice_width(model, kept, target))
    with torch.no_grad():
        difference = masked(batches[1]).logits - sliced(batches[1]).logits
    assert difference.abs().max() < (1e-5 if MODULES[model_type].scaled_embedding else 1e-9)  # that scale is in float32


class Norm64(nn.Module):
    """RMSNorm without the float32 inside transformers' own."""

    def __init__(self, weight, eps):
        super().__init__()
        self.weight, self.variance_epsilon = weight, eps

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)


def _with_float64_norms(model):
    for name, norm in list(model.named_modules()):
        if hasattr(norm, "variance_epsilon"):
            model.set_submodule(name, Norm64(norm.weight, norm.variance_epsilon))
        elif hasattr(norm, "eps"):  # Gemma's, whose factor is 1 + weight
            model.set_submodule(name, Norm64(nn.Parameter(1 + norm.weight), norm.eps))
    return model


@torch.no_grad()
def _masked(model, kept, shape):
    """Zero what `kept` lacks, in place, at full width."""
    hidden = torch.zeros(shape.hidden, dtype=torch.bool).index_fill(0, kept.hidden, True)
    share = len(kept.hidden) / shape.hidden
    model.model.embed_tokens.weight *= hidden
    names = MODULES[shape.model_type]
    hidden_norms = [model.get_submodule(names.layer(i, n)) for i in range(shape.layers) for n in names.norms]
    for norm in (*hidden_norms, model.get_submodule(names.final_norm)):
        _narrow(norm, share)
    for name in names.wide[:1]:  # the queries'; there are as many keys as before
        for layer, heads in zip(model.model.layers, kept.heads, strict=True):
            _narrow(layer.get_submodule(name), len(heads) / shape.heads)
            by_head = layer.self_attn.q_proj.weight.unflatten(0, (shape.heads, shape.head_dim))
            by_head *= torch.zeros(shape.heads, 1, 1).index_fill(0, heads, 1)
    for layer, ffn, heads in zip(model.model.layers, kept.ffn, kept.heads, strict=True):
        by_head = layer.self_attn.o_proj.weight.unflatten(1, (shape.heads, shape.head_dim))
        by_head *= torch.zeros(shape.heads, 1).index_fill(0, heads, 1)
        layer.mlp.down_proj.weight *= torch.zeros(shape.ffn).index_fill(0, ffn, 1)
        for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
            linear.weight *= hidden[:, None]
            if linear.bias is not None:
                linear.bias *= hidden
    return model


def _narrow(norm, share):
    norm.weight *= share**0.5
    norm.variance_epsilon *= share


@every_model
def test_depth_equals_the_model_with_that_layer_skipped(build, batches, model_type, tied):
    lists = {"layer_types": THREE} if "layer_types" in ARCHITECTURES[model_type].per_layer else {}
    lists |= {"no_rope_layers": [0, 1, 0]} if "no_rope_layers" in ARCHITECTURES[model_type].per_layer else {}
    model = build(model_type, tied, num_hidden_layers=3, sliding_window=8, use_sliding_window=True, **lists)
    skipping = copy.deepcopy(model)
    layers = MODULES[model_type].layers
    skipping.get_submodule(layers)[1].forward = lambda hidden_states, **_: hidden_states
    cut = remove_layers(model, [1])
    with torch.no_grad():
        torch.testing.assert_close(cut(batches[0]).logits, skipping(batches[0]).logits, rtol=0, atol=1e-6)
    attention = MODULES[model_type].o.partition(".")[0]
    assert [layer.get_submodule(attention).layer_idx for layer in cut.get_submodule(layers)] == [0, 1]
    for name, entries in lists.items():
        assert getattr(cut.config, name) == [entries[0], entries[2]]


def test_depth_cuts_the_layer_types_of_qwen(build):
    model = build("qwen2", True, num_hidden_layers=4, use_sliding_window=True, sliding_window=8, max_window_layers=3)
    config = remove_layers(model, [0, 2]).config
    assert config.layer_types == ["full_attention", "sliding_attention"]
    assert (config.num_hidden_layers, config.max_window_layers) == (2, 2)


def test_the_least_influential_layers_go():
    change = torch.zeros(5, 5)
    change.diagonal(1).copy_(torch.tensor([0.5, 0.1, 0.4, 0.1]))
    change.diagonal(2).copy_(torch.tensor([0.6, 0.3, 0.5]))
    assert layers_to_remove(change, 1) == [1]
    assert layers_to_remove(change, 3) == [1, 2, 3]
    assert layers_to_remove(change, 2) == [1, 3]
    assert layers_to_remove(change, 2, contiguous=True) == [1, 2]


def test_heads_go_inside_their_groups(build, batches):
    model = build("llama", True, hidden_size=64, num_attention_heads=8, num_key_value_heads=2)
    spec = PruneSpec(method="width", rate=0.19, axes=("heads",))
    gone = prune(model, plan(shape_of(model.config.to_dict()), spec), batches).removed
    assert gone["hidden"] == gone["ffn"][0] == []
    for heads in gone["heads"]:
        assert len([h for h in heads if h < 4]) == len([h for h in heads if h >= 4]) > 0


def test_every_sparse_matrix_is_exactly_half_zero(build, batches):
    done = prune(model := build("qwen2", False), plan(shape_of(model.config.to_dict()), SPECS["2:4"]), batches)
    for _, _, linear in sparse_linears(done.model):
        assert is_n_of_m(linear.weight)
        assert (linear.weight == 0).sum() * 2 == linear.weight.numel()
    assert (done.model.lm_head.weight != 0).all()
    assert done.removed["matrices"] == 14
    assert all(0 < error < 1 for error in done.removed["output_error"])
    assert len(done.removed["output_error"]) == 2


@every_narrow_model
def test_combined_equals_one_after_the_other(build, batches, model_type, tied):
    """The sparse part sees the model that the structured part left."""
    shape = shape_of(build(model_type, tied).config.to_dict())
    both, width = SPECS["width+2:4"], SPECS["width"]
    done = prune(build(model_type, tied), plan(shape, both), batches).model
    narrow = prune(build(model_type, tied), plan(shape, width), batches).model
    alone = prune(narrow, plan(shape_of(narrow.config.to_dict()), SPECS["2:4"]), batches).model
    assert all(torch.equal(a, b) for a, b in zip(done.parameters(), alone.parameters(), strict=True))


def test_a_plan_for_another_model_is_refused(build, batches):
    shape = shape_of(build("llama", True, num_hidden_layers=3).config.to_dict())
    with pytest.raises(P2Error, match="another model"):
        prune(build("llama", True), plan(shape, SPECS["2:4"]), batches)


def test_block_influence_beats_the_worst_choice_on_a_real_checkpoint(quickstart):
    """Three of twelve layers: the damage is real, and far from that of the three most influential."""
    calibration, heldout = _tokens(quickstart).split(8)
    model = AutoModelForCausalLM.from_pretrained(quickstart / "tiny-llama-3", dtype=torch.float32)
    before = _loss(model, heldout)
    worst_layers = collect(model, [calibration])["change"].diagonal(1).argsort(descending=True)[:3].tolist()
    worst = _loss(remove_layers(model, worst_layers), heldout)
    planned = plan(shape_of(model.config.to_dict()), PruneSpec(method="depth", rate=0.128))
    after = _loss(prune(model, planned, [calibration]).model, heldout)
    assert 2 < before < 3.6
    assert before + 0.2 < after < before + 1.2 < worst


def _tokens(quickstart):
    """(16, 128) token ids: the last ones of sixteen held-out documents."""
    texts = pd.read_parquet(quickstart / "text" / "heldout.parquet").text[:16]
    tokenizer = AutoTokenizer.from_pretrained(quickstart / "tiny-llama-3")
    return torch.tensor([tokenizer(text[-1500:]).input_ids[-128:] for text in texts])


@torch.no_grad()
def _loss(model, tokens):
    return model(tokens, labels=tokens).loss.item()


def test_what_a_row_does_not_know_is_refused_by_name(build, batches):
    """A module, a buffer, and a list of the config with an entry a layer."""
    for part, name in ((nn.Linear(2, 2), "model.layers.1.extra.weight"), (nn.BatchNorm1d(2, affine=False), "running_")):
        model = build("qwen3", True)
        model.model.layers[1].extra = part
        with pytest.raises(P2Error, match=name):
            prune(model, plan(shape_of(model.config.to_dict()), SPECS["depth"]), batches)
    with pytest.raises(P2Error, match="window_sizes is a list of 2 entries"):
        shape_of(build("qwen3", True).config.to_dict() | {"window_sizes": [4, 8]})
