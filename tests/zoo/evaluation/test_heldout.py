"""Held-out loss: the plain definition, whatever the batching, and no trace left on the model."""

import numpy as np
import pytest
import torch

from zoo.evaluation.heldout import heldout_loss
from zoo.inputs.base_model import load_model
from zoo.inputs.packing import Blocks, pack


@pytest.fixture
def model(bench_folder):
    return load_model(bench_folder / "model", "fp32")


def random_documents(count):
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, draw.integers(3, 90)).tolist() for _ in range(count)]


def test_it_is_the_mean_cross_entropy_of_predicted_tokens(model):
    blocks = pack(random_documents(20), 32, "wrapped", 10**9)
    ids = torch.from_numpy(blocks.ids.astype(np.int64))
    with torch.no_grad():
        reference = model(input_ids=ids, labels=ids).loss.item()
    assert heldout_loss(model, blocks) == pytest.approx(reference, rel=1e-6)


def test_under_bfd_split_each_piece_counts_as_if_alone(model):
    """Documents shorter than a block, so packing cuts none of them."""
    documents = [document[:30] for document in random_documents(12)]
    blocks = pack(documents, 32, "bfd_split", 10**9)
    total = count = 0
    with torch.no_grad():
        for document in documents:
            ids = torch.tensor([document])
            total += model(input_ids=ids, labels=ids).loss.item() * (len(document) - 1)
            count += len(document) - 1
    assert heldout_loss(model, blocks) == pytest.approx(total / count, rel=1e-5)


def test_batching_does_not_change_it_and_the_model_stays_as_it_was(model, monkeypatch):
    blocks = pack(random_documents(20), 32, "wrapped", 10**9)
    model.train()
    together = heldout_loss(model, blocks)
    monkeypatch.setattr("zoo.evaluation.heldout._TOKENS", 32)
    assert heldout_loss(model, blocks) == pytest.approx(together, rel=1e-7)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_autocast_around_it_changes_nothing(model):
    blocks = pack(random_documents(20), 32, "wrapped", 10**9)
    alone = heldout_loss(model, blocks)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert heldout_loss(model, blocks) == alone


def test_uniform_logits_give_ln_vocab(model):
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    blocks = pack(random_documents(8), 32, "wrapped", 10**9)
    assert isinstance(blocks, Blocks)
    assert heldout_loss(model, blocks) == pytest.approx(np.log(260), rel=1e-6)
