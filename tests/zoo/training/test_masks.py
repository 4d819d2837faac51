"""2:4 masks: what is kept, what training does to them, and how they come back on resume."""

import pytest
import torch

from leaderboard.errors import RunFailed
from leaderboard.shapes import shape_of
from zoo.pruning.plan import plan
from zoo.pruning.prune import prune
from zoo.pruning.sparsity import keep_n_of_m, magnitude, wanda
from zoo.pruning.spec import PruneSpec
from zoo.pruning.zeros import check_zeros, is_2of4, mask_of
from zoo.training.masks import MaskKeeper


@pytest.fixture
def sparse(build, batches):
    return _pruned(build, batches, method="2:4")


def _pruned(build, batches, **spec):
    model = build("qwen2", True)
    return prune(model, plan(shape_of(model.config.to_dict()), PruneSpec(**spec)), batches).model


def _train(model, batches, keeper=None, steps=5):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for step in range(steps):
        model(batches[step % 2], labels=batches[step % 2]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if keeper:
            keeper.reapply()


def test_keep_by_hand():
    score = torch.tensor([[1.0, 3.0, 2.0, 0.0, 5.0, 5.0, 5.0, 5.0]])
    assert keep_n_of_m(score).tolist() == [[False, True, True, False, True, True, False, False]]
    weight, squares = torch.tensor([[-4.0, 3.0, 1.0, 2.0]]), torch.tensor([0.01, 1.0, 100.0, 1.0])
    assert magnitude(weight, None, "2:4", 0.5).tolist() == [[-4, 3, 0, 0]]
    assert wanda(weight, squares, "2:4", 0.5).tolist() == [[0, 3, 1, 0]]
    assert wanda(weight, squares, "unstructured", 0.75).tolist() == [[0, 0, 1, 0]]
    pair = torch.tensor([[5.0, 4.0], [3.0, 1.0]])
    assert magnitude(pair, None, "unstructured", 0.5).tolist() == [[5, 4], [0, 0]]  # over the whole matrix
    assert wanda(pair, torch.ones(2), "unstructured", 0.5).tolist() == [[5, 0], [3, 0]]  # row by row


def test_a_mask_is_half_even_where_more_is_zero():
    weight = torch.tensor([[0.0, 0.0, 7.0, 0.0]])
    assert is_2of4(weight)
    assert mask_of(weight).tolist() == [[True, False, True, False]]


def test_training_loses_the_pattern_without_a_keeper(sparse, batches):
    _train(sparse, batches, steps=1)
    with pytest.raises(RunFailed, match="14 of 14 matrices lost the pattern"):
        check_zeros(sparse)


def test_training_keeps_the_pattern_with_one(sparse, batches):
    before = sparse.model.layers[0].mlp.up_proj.weight.detach().clone()
    keeper = MaskKeeper(sparse)
    _train(sparse, batches, keeper)
    keeper.check()
    check_zeros(sparse)
    after = sparse.model.layers[0].mlp.up_proj.weight
    assert not torch.equal(before, after)
    assert torch.equal(before == 0, after == 0)


def test_unstructured_zeros_are_kept_and_come_back(build, batches, tmp_path):
    model = _pruned(build, batches, method="unstructured", rate=0.3)
    model.save_pretrained(tmp_path)
    before = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    _train(model, batches, MaskKeeper(model, sparse="unstructured"))
    after = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    assert not torch.equal(before, after)
    assert torch.equal(before == 0, after == 0)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.fill_(1)
    MaskKeeper(model, tmp_path, "unstructured").check()  # from the checkpoint, not from what the model holds
    assert torch.equal(before == 0, model.model.layers[0].mlp.up_proj.weight == 0)
    with pytest.raises(RunFailed, match="14 of 14 matrices lost the pattern"):
        MaskKeeper(build("qwen2", True), sparse="unstructured")


def test_the_hook_alone_masks_gradients(sparse, batches):
    """So that gradient norms and clipping see what is really trained."""
    MaskKeeper(sparse)
    sparse(batches[0], labels=batches[0]).loss.backward()
    weight = sparse.model.layers[1].self_attn.q_proj.weight
    assert (weight.grad[weight == 0] == 0).all()
    assert (weight.grad != 0).any()


def test_check_sees_one_filled_zero(sparse):
    keeper = MaskKeeper(sparse)
    weight = sparse.model.layers[1].mlp.down_proj.weight
    row, column = (weight == 0).nonzero()[0]
    with torch.no_grad():
        weight[row, column] = 1e-8
    with pytest.raises(RunFailed, match=r"1 of 14 .* \(first: layer 1\.mlp\.down_proj\)"):
        keeper.check()
    keeper.reapply()
    keeper.check()


def test_a_resumed_keeper_reads_the_pruned_checkpoint(sparse, batches, tmp_path):
    sparse.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    masks = MaskKeeper(sparse).masks
    with torch.no_grad():  # a trained checkpoint in which one kept weight happened to reach zero
        weight = sparse.model.layers[0].mlp.gate_proj.weight
        weight[0, weight[0].nonzero()[-1]] = 0
    resumed = MaskKeeper(sparse, tmp_path)
    assert all(torch.equal(masks[name], resumed.masks[name]) for name in masks)


def test_a_dense_model_or_folder_is_refused(build, sparse, tmp_path):
    with pytest.raises(RunFailed, match="14 of 14"):
        MaskKeeper(build("qwen2", True))
    with pytest.raises(RunFailed, match="not the pruned checkpoint"):
        MaskKeeper(sparse, tmp_path)


def test_a_closed_keeper_lets_go(sparse, batches):
    MaskKeeper(sparse).close()
    _train(sparse, batches, steps=1)
    with pytest.raises(RunFailed):
        check_zeros(sparse)
