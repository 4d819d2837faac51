"""Two-layer models built in code, one for each family, and the tiny pretrained checkpoints."""

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


def _build(model_type: str, tied: bool, seed: int = 0, **changes):
    """A random float32 model in which every bias, norm and embedding row is non-trivial."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, **{**SIZES, "tie_word_embeddings": tied, **changes})
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture(scope="session")
def build():
    """build(model_type, tied, seed=0, **config changes) -> a two-layer causal language model."""
    return _build


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
