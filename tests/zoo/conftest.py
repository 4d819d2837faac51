"""Two-layer models built in code, one for each family, and the tiny pretrained checkpoints."""

import json
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart"
SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
OF = {  # what else a config of two layers needs
    "gemma3_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 8,
        "query_pre_attn_scalar": 8,
        "final_logit_softcapping": 2.0,
        "pad_token_id": None,
    },
    "smollm3": {"no_rope_layers": [1, 0], "layer_types": ["full_attention", "full_attention"], "pad_token_id": None},
    "olmo2": {"pad_token_id": None, "eos_token_id": 0},
}


def _build(model_type: str, tied: bool, seed: int = 0, **changes):
    """A random float32 model in which every bias, norm and embedding row is non-trivial."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        model_type, **{**SIZES, "tie_word_embeddings": tied, **OF.get(model_type, {}), **changes}
    )
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture
def build():
    """build(model_type, tied, seed=0, **config changes) -> a two-layer causal language model.

    On one thread: such models are too small for two, which only wait for each other on a busy machine.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield _build
    torch.set_num_threads(threads)


@pytest.fixture
def batches():
    """Two batches of calibration tokens, the second with longer rows."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 64, (2, length), generator=generator) for length in (16, 24)]


@pytest.fixture(scope="session")
def quickstart() -> Path:
    """The folder of the tiny checkpoints and their text."""
    return QUICKSTART


@pytest.fixture(scope="session")
def bench_folder(tmp_path_factory) -> Path:
    """A folder with a four-layer byte-level model, text to train and measure on, and `recipe.yaml` naming them."""
    import numpy as np
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bench")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate([*letters, "<end>"])}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")
    tokenizer.save_pretrained(folder / "model")
    model = _build("llama", tied=True, vocab_size=260, num_hidden_layers=4, eos_token_id=256, bos_token_id=256)
    model.save_pretrained(folder / "model")
    words = np.array(["alpha", "beta", "gamma", "delta", "of", "the", "loss", "tokens"])
    draw = np.random.default_rng(0)
    for name, count in (("train", 40), ("heldout", 10)):
        lines = [json.dumps({"text": " ".join(draw.choice(words, 60))}) for _ in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


RECIPE = """
model: {name: ./model}
prune: {method: depth, rate: 0.2, calibration_tokens: 256}
data:
  train: {file: train.jsonl}
  heldout: {file: heldout.jsonl}
train:
  tokens: 1_536
  seq_len: 32
  batch_tokens: 128
  micro_batch: 2
  lr_peak: 0.001
  precision: fp32
  checkpoint_tokens: 384
evaluate: {tokens: 256, log_points: 3, linear_points: 4}
contributor: tester
"""
