"""A base is checked before it is measured: what its files cannot be is refused by name, at the dry run."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from leaderboard.errors import P2Error
from zoo.estimate.dry_run import estimate
from zoo.inputs import base_model, weights
from zoo.inputs.tokenizer import check_ids, load_tokenizer
from zoo.recipe.files import load_recipe
from zoo.run.finished import portable
from zoo.run.pipeline import run

TENSOR = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def base(bench_folder, tmp_path):
    """A copy of the bench model to spoil."""
    return shutil.copytree(bench_folder / "model", tmp_path / "spoilt")


def recipe_of(base, bench_folder):
    words = [f"model.name={base}", "prune.method=none", "prune.rate=null"]
    return load_recipe(bench_folder / "recipe.yaml", words)


def change_weights(base, change):
    from safetensors.torch import load_file, save_file

    tensors = load_file(base / "model.safetensors")
    save_file(change(tensors), base / "model.safetensors", metadata={"format": "pt"})


def change_json(base, change, name="config.json"):
    data = json.loads((base / name).read_text())
    change(data)
    (base / name).write_text(json.dumps(data))


def filled(tensors, name, value):
    tensors[name].view(-1)[5] = value
    return tensors


def without(*parts):
    return lambda tensors: {name: t for name, t in tensors.items() if not any(part in name for part in parts)}


def renamed(change):
    return lambda tensors: {change(name): tensor for name, tensor in tensors.items()}


def own_head(tensors):
    return tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 0.01}


def narrow_layer(tensors):
    return tensors | {name: t[:40].contiguous() for name, t in tensors.items() if name.endswith("1.mlp.up_proj.weight")}


SPOILT = {
    "one tensor missing": (without(TENSOR), rf"1 missing \({TENSOR}\)"),
    "last layer missing": (without("layers.3."), r"9 missing \(model\.layers\.3\.self_attn"),
    "a layer too many": (
        renamed(lambda n: n.replace("layers.3", "layers.7")),
        r"9 missing .*9 unexpected \(model\.layers\.7",
    ),
    "norms of queries that llama has not": (
        lambda t: t | {"model.layers.0.self_attn.q_norm.weight": t["model.norm.weight"][:8].clone()},
        r"1 unexpected \(model\.layers\.0\.self_attn\.q_norm",
    ),
    "layers of unequal width": (
        narrow_layer,
        r"layers\.1\.mlp\.up_proj\.weight is \(40, 32\), by config\.json \(48, 32\)",
    ),
    "a prefix of torch.compile": (renamed(lambda n: f"_orig_mod.{n}"), r"begins with '_orig_mod\.'"),
    "the inner model": (renamed(lambda n: n.removeprefix("model.")), r"names lack 'model\.'"),
    "a head of its own": (own_head, r"ties the output head .*lm_head\.weight of their own"),
    "nan": (lambda t: filled(t, TENSOR, float("nan")), rf"{TENSOR} holds a number that is not finite .*\(0, 5\)"),
    "infinite": (lambda t: filled(t, "model.norm.weight", float("inf")), r"model\.norm\.weight .*not finite .*\(5,\)"),
    "never filled": (
        lambda t: t | {"model.embed_tokens.weight": t["model.embed_tokens.weight"] * 0},
        "embed_tokens.weight holds only zeros",
    ),
    "eight bits": (lambda t: t | {TENSOR: t[TENSOR].char()}, rf"{TENSOR} is stored as I8, allowed are F32"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_weights_that_are_not_those_of_the_config(base, bench_folder, kind):
    change, words = SPOILT[kind]
    change_weights(base, change)
    with pytest.raises(P2Error, match=words):
        estimate(recipe_of(base, bench_folder))


FILES = {
    "pointer": (
        lambda f: f.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
        "git lfs pull",
    ),
    "cut off": (lambda f: f.write_bytes(f.read_bytes()[:-100]), "was cut off or written over"),
    "cut off in its header": (lambda f: f.write_bytes(f.read_bytes()[:300]), "not a safetensors file, or was cut off"),
    "empty": (lambda f: f.write_bytes(b""), "not a safetensors file, or was cut off"),
    "a page of the web": (lambda f: f.write_text("<html>" * 100), "not a safetensors file, or was cut off"),
    "a header of nonsense": (lambda f: f.write_bytes((4).to_bytes(8, "little") + b"[[[["), r"header .* cannot be read"),
    "gone": (lambda f: f.unlink(), r"no \*\.safetensors weights"),
    "another format": (lambda f: f.rename(f.with_name("pytorch_model.bin")), r"pytorch_model\.bin is another format"),
    "under another name": (lambda f: f.rename(f.with_name("consolidated.safetensors")), r"no \*\.safetensors weights"),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_that_are_no_weights(base, bench_folder, kind):
    change, words = FILES[kind]
    change(base / "model.safetensors")
    with pytest.raises(P2Error, match=words):
        estimate(recipe_of(base, bench_folder))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_attention_heads": 6}, "num_attention_heads is 6, which does not divide hidden_size 32"),
        ({"tie_word_embeddings": False}, r"1 missing \(lm_head\.weight\)"),
        ({"num_hidden_layers": 3}, "9 unexpected"),
        ({"vocab_size": 300}, r"embed_tokens\.weight is \(260, 32\), by config\.json \(300, 32\)"),
        ({"head_dim": "8"}, "head_dim is '8'"),
    ],
)
def test_configs_that_are_not_those_of_the_weights(base, bench_folder, change, words):
    change_json(base, lambda config: config.update(change))
    with pytest.raises(P2Error, match=words):
        estimate(recipe_of(base, bench_folder))


def test_weights_in_several_files(base, bench_folder):
    """What the index names counts, all of it and nothing else."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    parts = {"a.safetensors": {}, "b.safetensors": {}}
    for i, (name, tensor) in enumerate(tensors.items()):
        parts[list(parts)[i % 2]][name] = tensor
    for file, part in parts.items():
        save_file(part, base / file, metadata={"format": "pt"})
    places = {name: file for file, part in parts.items() for name in part}
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    save_file(tensors, base / "consolidated.safetensors")
    recipe = recipe_of(base, bench_folder)
    assert estimate(recipe).source.folder == base
    (base / "b.safetensors").unlink()
    with pytest.raises(P2Error, match=r"b\.safetensors is not there, which model\.safetensors\.index\.json names"):
        estimate(recipe)


def test_a_config_without_dtype_takes_that_of_the_weights(base, bench_folder):
    import torch

    change_weights(base, lambda tensors: {name: tensor.to(torch.float16) for name, tensor in tensors.items()})
    change_json(base, lambda config: config.update(dtype=None))
    source = estimate(recipe_of(base, bench_folder)).source
    assert base_model.dtype_of(source) == "float16"
    assert base_model.dtype_of(replace(source, config=source.config | {"torch_dtype": "bfloat16"})) == "bfloat16"


def test_token_ids_are_those_of_tokenizer_json(quickstart):
    """The bundled model of type qwen2 splits text by its own rules; transformers would split by Qwen's."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    folder, text = quickstart / "tiny-qwen-2.5", "def f(x):\n    return 123456 + x  # don't\n\n\n"
    own = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    assert load_tokenizer(folder)(text)["input_ids"] == own != AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    check_ids(load_tokenizer(folder), folder, [text], 16_384)
    with pytest.raises(P2Error, match=r"other token ids than the tokenizer\.json of tiny-qwen-2\.5"):
        check_ids(AutoTokenizer.from_pretrained(folder), folder, [text], 16_384)
    with pytest.raises(P2Error, match="the model has 100 "):
        check_ids(load_tokenizer(folder), folder, [text], 100)


def test_the_bundled_qwen_is_measured_on_its_own_tokens(quickstart):
    """2.5586, where the splitting of text that transformers builds for its type gives 2.8874."""
    from zoo.evaluation.heldout import heldout_loss
    from zoo.inputs.gather import heldout_blocks

    recipe = load_recipe(quickstart / "depth.yaml")
    folder = quickstart / "tiny-qwen-2.5"
    blocks, *_ = heldout_blocks(recipe, load_tokenizer(folder), "")
    assert heldout_loss(base_model.load_model(folder, "fp32"), blocks) == pytest.approx(2.5586, abs=1e-3)


def test_a_model_that_is_worse_than_a_guess_is_not_measured_further(base, bench_folder, tmp_path):
    change_weights(base, lambda t: t | {"model.norm.weight": t["model.norm.weight"] * 400})
    recipe = recipe_of(base, bench_folder)
    with pytest.raises(P2Error, match=r"held-out loss of .*, where guessing among its 260 tokens has 5\.561"):
        run(recipe, tmp_path / "run", console=Console(quiet=True))


def test_what_is_read_is_every_number_once(base):
    """The largest odd number at the very end of a tensor of more than one part is seen."""
    stored = weights.read_headers(weights.weight_files(base, "x"), "x")
    assert sum(tensor.numbers().size for tensor in stored.values()) == sum(
        int(np.prod(tensor.shape)) for tensor in stored.values()
    )


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model_type", ["llama"], "unknown model_type"),
        ("num_hidden_layers", 1_000_000_000, "num_hidden_layers is 1000000000, allowed is a whole number from 1 to"),
        ("vocab_size", 10**40, "vocab_size is 1"),
        ("tie_word_embeddings", "no", "tie_word_embeddings is 'no', allowed is true or false"),
        ("attention_bias", "yes", "attention_bias is 'yes', allowed is true or false"),
    ],
)
def test_what_a_config_cannot_say_is_refused_at_once(base, bench_folder, key, value, said):
    change_json(base, lambda config: config.update({key: value}))
    with pytest.raises(P2Error, match=said):
        estimate(recipe_of(base, bench_folder))


def test_a_folder_declares_the_hub_model_that_it_is(base, bench_folder):
    folder, hub = recipe_of(base, bench_folder), [f"model.name={base}", "model.base=me/mine"]
    named = load_recipe(bench_folder / "recipe.yaml", hub)
    assert estimate(named).source.label == "me/mine"
    assert named.sha256 == load_recipe(bench_folder / "recipe.yaml", ["model.name=me/mine"]).sha256 != folder.sha256
    shown = portable(named)
    assert (shown.model.name, shown.model.base, shown.sha256) == ("me/mine", None, named.sha256)
    with pytest.raises(P2Error, match=r"is not Qwen/Qwen2\.5-0\.5B: model_type is llama, there qwen2"):
        estimate(load_recipe(bench_folder / "recipe.yaml", [hub[0], "model.base=Qwen/Qwen2.5-0.5B"]))
    with pytest.raises(P2Error, match=r"model\.base: says which Hub model a folder is"):
        load_recipe(bench_folder / "recipe.yaml", ["model.name=me/mine", "model.base=me/mine"])


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", {"hidden_act": "swiglu"}, "hidden_act is 'swiglu'"),
        ("config.json", {"dtype": "float8_e4m3fn"}, "dtype is 'float8_e4m3fn', allowed is float32"),
        ("config.json", {"rope_parameters": {"rope_type": "mrope", "rope_theta": 1e4}}, "rope_type is 'mrope'"),
        ("config.json", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor is None"),
        ("config.json", {"rope_theta": "10000"}, "rope_theta is '10000'"),
        ("config.json", {"eos_token_id": [256, 260]}, r"eos_token_id is \[256, 260\], allowed is a token"),
        ("config.json", {"pad_token_id": 300}, "pad_token_id is 300"),
        ("generation_config.json", {"bos_token_id": 1000}, r"generation_config\.json: bos_token_id is 1000"),
        ("tokenizer_config.json", {"eos_token": None}, "no end-of-text token"),
        ("tokenizer_config.json", {"eos_token": "<other>"}, "'<other>', is none of tokenizer"),
        ("tokenizer.json", {"model": {"type": "none"}}, "no usable tokenizer"),
    ],
)
def test_the_dry_run_refuses_settings_that_the_run_would(base, bench_folder, file, change, said):
    change_json(base, lambda settings: settings.update(change), file)
    with pytest.raises(P2Error, match=said):
        estimate(recipe_of(base, bench_folder))


def test_the_dry_run_refuses_a_tokenizer_of_another_vocabulary(base, bench_folder, quickstart):
    shutil.copy(quickstart / "tiny-llama-3" / "tokenizer.json", base)
    with pytest.raises(P2Error, match=r"has 16,384 tokens, the model 260 \(vocab_size\)"):
        estimate(recipe_of(base, bench_folder))
