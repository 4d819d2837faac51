"""Scores against their definitions, their determinism, and the cache that saves the forward pass."""

import pytest
import torch

from leaderboard.errors import P2Error
from leaderboard.shapes import shape_of
from zoo.pruning.plan import plan
from zoo.pruning.prune import prune
from zoo.pruning.scores import calibration_sha256, collect, scores
from zoo.pruning.spec import PruneSpec


def test_scores_follow_their_definitions(build, batches):
    """Recomputed from the hidden states and inputs of plain forwards, one sequence at a time."""
    model = build("qwen2", True)
    layer, seen = model.model.layers[1], {}
    layer.self_attn.o_proj.register_forward_pre_hook(lambda _m, args: seen.__setitem__("o_proj", args[0][0]))
    layer.mlp.down_proj.register_forward_pre_hook(lambda _m, args: seen.__setitem__("down", args[0][0]))
    ffn, heads, change, tokens = torch.zeros(48), torch.zeros(4), torch.zeros(3, 3), 0
    with torch.no_grad():
        for row in (row for batch in batches for row in batch):
            states = model(row[None], output_hidden_states=True).hidden_states
            unit = torch.nn.functional.normalize(torch.stack(_boundaries(model, row, states)), dim=-1)
            change += len(row) - torch.einsum("itd,jtd->ij", unit, unit)
            ffn += seen["down"].abs().mean(0) ** 2
            heads += seen["o_proj"].view(-1, 4, 8).norm(dim=-1).mean(0) ** 2
            tokens += len(row)
    got = collect(model, batches)
    torch.testing.assert_close(got["change"], change / tokens)
    torch.testing.assert_close(got["ffn"][1], ffn.sqrt())
    torch.testing.assert_close(got["heads"][1], heads.sqrt())


def _boundaries(model, row, states):
    """The residual stream around every layer; the last of transformers' own hidden states has gone through the norm."""
    last = []
    handle = model.model.norm.register_forward_pre_hook(lambda _m, args: last.append(args[0][0]))
    model(row[None])
    handle.remove()
    return [*(state[0] for state in states[:-1]), *last]


def test_hidden_scores_sum_over_all_norms(build, batches):
    model, total = build("llama", True), torch.zeros(32)
    norms = [m for m in model.modules() if hasattr(m, "variance_epsilon")]
    outputs = {norm: [] for norm in norms}
    handles = [n.register_forward_hook(lambda m, _a, out: outputs[m].append(out.abs().mean(1))) for n in norms]
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    for norm in norms:
        total += torch.cat(outputs[norm]).norm(dim=0)
    assert len(norms) == 5
    torch.testing.assert_close(collect(model, batches)["hidden"], total)


def test_scores_are_the_same_twice_and_float32_for_bfloat16(build, batches):
    model = build("llama", False).bfloat16()
    first, second = collect(model, batches), collect(model, batches)
    assert {t.dtype for t in first.values()} == {torch.float32}
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_new_rate_needs_no_new_forward(build, batches, tmp_path):
    forwards = 0

    def pruned(rate, key="tiny@1"):
        nonlocal forwards
        model = build("llama", True, num_hidden_layers=4)

        def seen(*_):
            nonlocal forwards
            forwards += 1

        model.model.embed_tokens.register_forward_hook(seen)
        spec = PruneSpec(method="depth", rate=rate)
        return prune(model, plan(shape_of(model.config.to_dict()), spec), batches, tmp_path, key)

    rates = [plan(shape_of(build("llama", True, num_hidden_layers=4).config.to_dict()), s).rate for s in _DEPTHS]
    first = pruned(rates[0])
    assert forwards == len(batches)
    second = pruned(rates[1])
    assert forwards == len(batches)
    assert len(first.removed["layers"]) < len(second.removed["layers"])
    assert first.calibration_sha256 == second.calibration_sha256
    assert pruned(rates[0]).removed == first.removed
    pruned(rates[0], key="tiny@2")
    assert forwards == 2 * len(batches)


_DEPTHS = (PruneSpec(method="depth", rate=0.23), PruneSpec(method="depth", rate=0.45))


def test_the_calibration_hash_sees_tokens_and_rows_not_batching():
    rows = torch.arange(12).view(4, 3)
    same = calibration_sha256([rows])
    assert calibration_sha256([rows[:1], rows[1:].int()]) == same
    assert calibration_sha256([rows.view(2, 6)]) != same
    assert calibration_sha256([rows + 1]) != same


def test_calibration_refusals(build, batches, tmp_path):
    with pytest.raises(P2Error, match="no text"):
        scores(build("llama", True), [])
    with pytest.raises(P2Error, match="cache_key"):
        scores(build("llama", True), batches, tmp_path)
