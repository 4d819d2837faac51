"""Parameter arithmetic against real models, and what a family table refuses."""

import json

import pytest

from leaderboard.errors import P2Error
from leaderboard.planning.bases import BASES
from leaderboard.shapes import ARCHITECTURES, bundled_config, parameters, parameters_nonembedding, shape_of
from leaderboard.shapes.configs import CONFIGS
from zoo.inputs.base_model import save_model
from zoo.inputs.weights import check_weights
from zoo.models import sizes
from zoo.pruning.prune import count

BIASES = [{}, {"attention_bias": True}, {"mlp_bias": True}]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_arithmetic_counts_a_built_model(build, model_type, tied):
    for changes in BIASES if model_type == "llama" else [{}]:
        model = build(model_type, tied, **changes)
        shape = shape_of(model.config.to_dict())
        assert (parameters(shape), parameters_nonembedding(shape)) == count(model)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_saved_model_holds_the_tensors_of_its_row_and_reads_rope_in_both_spellings(build, model_type, tmp_path):
    model = build(model_type, False)
    save_model(model, tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    check_weights(tmp_path, shape_of(saved), "here")
    del saved["rope_parameters"]  # as transformers 4 would have written it
    rope = type(model.config)(**saved).rope_parameters
    assert {k: v for k, v in rope.items() if v is not None} == model.config.rope_parameters


@pytest.mark.parametrize("base", BASES.values(), ids=lambda base: base.name)
def test_arithmetic_counts_published_models(base):
    shape = shape_of(bundled_config(base.name))
    assert (parameters(shape), parameters_nonembedding(shape)) == (base.n0, base.n0_nonembedding)
    assert shape.architecture.name == base.family


@pytest.mark.parametrize("model_id", sorted(path.stem.replace("--", "/") for path in CONFIGS.glob("*.json")))
def test_transformers_builds_the_bundled_configs(model_id):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = bundled_config(model_id)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    model.tie_weights()
    assert count(model)[0] == parameters(shape_of(config))


def test_counts_are_those_that_the_makers_publish():
    """Pythia's table says both counts (its model card); others that print one say it of all parameters."""
    pythia = BASES["EleutherAI/pythia-1.4b"]
    assert (pythia.n0, pythia.n0_nonembedding) == (1_414_647_808, 1_208_602_624)
    assert round(BASES["Qwen/Qwen3-0.6B-Base"].n0_nonembedding / 1e9, 2) == 0.44  # 0.6 B, 0.44 B without embedding
    assert round(BASES["Qwen/Qwen3-4B-Base"].n0_nonembedding / 1e9, 1) == 3.6


@pytest.mark.parametrize(("name", "total"), [("tiny-llama-3", 4_312_192), ("tiny-qwen-2.5", 4_315_264)])
def test_arithmetic_counts_the_quickstart_checkpoints(quickstart, name, total):
    config = json.loads((quickstart / name / "config.json").read_text())
    assert parameters(shape_of(config)) == total


def test_an_unknown_id_has_no_bundled_config():
    assert bundled_config("nobody/nothing") is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "lama"}, "Did you mean 'llama'"),
        ({"model_type": None}, "unknown model_type None"),
        ({"auto_map": {"AutoModel": "modeling.Model"}}, "remote code"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
        ({"num_key_value_heads": 5}, "32 query heads cannot share 5"),
        ({"hidden_size": "2048"}, "hidden_size is '2048'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    ],
)
def test_refusals_name_the_trouble(changes, words):
    with pytest.raises(P2Error, match=words):
        shape_of({**bundled_config("meta-llama/Llama-3.2-1B"), **changes})


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_config_that_leaves_keys_out_means_what_its_class_takes_for_them(model_type):
    from transformers import AutoConfig

    row = ARCHITECTURES[model_type]
    short = {k: v for k, v in sizes.config(row.name, "s0", 512).items() if k not in row.defaults}
    assert shape_of(short) == shape_of(AutoConfig.for_model(**short).to_dict())


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_size_of_the_ladder_is_as_large_in_every_family(model_type):
    settings = sizes.config(ARCHITECTURES[model_type].name, "s2", 16_384)
    assert parameters(shape_of(settings)) == pytest.approx(12.9e6, rel=0.07)  # GPT-NeoX has no fewer keys than queries
