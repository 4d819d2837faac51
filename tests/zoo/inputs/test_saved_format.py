"""A saved model reads as its base does, by older programs too: spellings of its config, modes of its files."""

import json
import stat

import pytest

from zoo.inputs.base_model import load_model, old_spellings, save_model


def test_a_saved_config_has_the_spellings_of_both_times_and_anybody_may_read_the_files(quickstart, tmp_path):
    model = load_model(quickstart / "tiny-llama-3", "fp32")
    save_model(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["rope_parameters"]["rope_theta"] == config["rope_theta"] == 500_000
    assert config["dtype"] == config["torch_dtype"] == "float32"
    weights = stat.S_IMODE((tmp_path / "model.safetensors").stat().st_mode)
    (tmp_path / "plain").touch()
    assert weights == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize(
    ("rope", "scaling"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, None),
        ({"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}, {"rope_type": "llama3", "factor": 8.0}),
    ],
)
def test_rope_is_told_as_transformers_4_asks_for_it(rope, scaling, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"rope_parameters": rope, "dtype": "bfloat16"}))
    old_spellings(path)
    config = json.loads(path.read_text())
    assert (config["rope_theta"], config["rope_scaling"]) == (rope["rope_theta"], scaling)
    assert (config["rope_parameters"], config["torch_dtype"]) == (rope, "bfloat16")
