"""2:4 masks: what is kept, what training does to them, and how they come back on resume."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from leaderboard.errors import RunFailed
from leaderboard.shapes import shape_of
from zoo.pruning.methods import METHODS, UNSTRUCTURED
from zoo.pruning.plan import plan
from zoo.pruning.prune import prune
from zoo.pruning.sparsity import magnitude, wanda
from zoo.pruning.spec import PruneSpec
from zoo.pruning.zeros import check_zeros, is_n_of_m, keep_n_of_m, mask_pattern
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
    assert magnitude(weight, None, METHODS["2:4"], 0.5).tolist() == [[-4, 3, 0, 0]]
    assert wanda(weight, squares, METHODS["2:4"], 0.5).tolist() == [[0, 3, 1, 0]]
    assert wanda(weight, squares, METHODS["unstructured"], 0.75).tolist() == [[0, 0, 1, 0]]
    pair = torch.tensor([[5.0, 4.0], [3.0, 1.0]])
    assert magnitude(pair, None, METHODS["unstructured"], 0.5).tolist() == [[5, 4], [0, 0]]  # over the whole matrix
    assert wanda(pair, torch.ones(2), METHODS["unstructured"], 0.5).tolist() == [[5, 0], [3, 0]]  # row by row


def test_a_mask_is_half_even_where_more_is_zero():
    weight = torch.tensor([[0.0, 0.0, 7.0, 0.0]])
    assert is_n_of_m(weight)
    assert mask_pattern(weight).tolist() == [[True, False, True, False]]


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
    _train(model, batches, MaskKeeper(model, sparse=UNSTRUCTURED))
    after = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    assert not torch.equal(before, after)
    assert torch.equal(before == 0, after == 0)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.fill_(1)
    MaskKeeper(model, tmp_path, UNSTRUCTURED).check()  # from the checkpoint, not from what the model holds
    assert torch.equal(before == 0, model.model.layers[0].mlp.up_proj.weight == 0)
    with pytest.raises(RunFailed, match="14 of 14 matrices lost the pattern"):
        MaskKeeper(build("qwen2", True), sparse=UNSTRUCTURED)


def test_a_shard_may_hold_no_zero_where_the_matrix_does(build, batches, tmp_path):
    """Process 1 of 2, alone: such a group talks to nobody, and nothing here needs an answer."""
    model = _pruned(build, batches, method="unstructured", rate=0.3)
    weight = model.model.layers[0].mlp.up_proj.weight
    with torch.no_grad():
        weight[len(weight) // 2 :] += (weight[len(weight) // 2 :] == 0) * 0.5
    model.save_pretrained(tmp_path)
    dist.init_process_group("fake", rank=1, world_size=2, store=FakeStore())
    try:
        fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
        masks = MaskKeeper(model, tmp_path, METHODS["unstructured"]).masks
    finally:
        dist.destroy_process_group()
    assert masks["0.mlp.up_proj"].shape == (len(weight) // 2, weight.shape[1])
    assert masks["0.mlp.up_proj"].all()
    assert not masks["1.mlp.up_proj"].all()


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
