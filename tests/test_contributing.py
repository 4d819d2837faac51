"""The examples of CONTRIBUTING.md: a method or a family is a row and its twin, and everything else follows."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from leaderboard.logs import methods as facts
from leaderboard.logs.check import check_files
from leaderboard.logs.contract import build_table, write_log
from leaderboard.shapes import ARCHITECTURES, parameters, shape_of
from tests.leaderboard.conftest import RUN, curve
from tests.pages import blocks
from zoo.evaluation.next_token import next_token_nll
from zoo.models.families import MODULES
from zoo.pruning.methods import METHODS, importances
from zoo.pruning.prune import count
from zoo.pruning.zeros import count_zeros, sparse_linears
from zoo.training.masks import MaskKeeper

REGISTRIES = (METHODS, facts.METHODS, ARCHITECTURES, MODULES)


@pytest.fixture
def example():
    """example(words): the names of the block that holds `words`, after it has run; its rows go with the test."""
    before = [dict(rows) for rows in REGISTRIES]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(words):
        (block,) = [b for b in blocks("CONTRIBUTING.md") if b.how == "example" and words in b.code]
        names = {}
        exec(block.code, names)
        return names

    yield run
    torch.set_num_threads(threads)
    for rows, old in zip(REGISTRIES, before, strict=True):
        rows.clear()
        rows.update(old)


def loads_back(model, folder):
    """Whether plain Transformers loads a save of the model, with the same logits."""
    model.eval().save_pretrained(folder)
    loaded, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    tokens = torch.arange(32)[None]
    with torch.no_grad():
        same = torch.allclose(loaded(tokens).logits, model(tokens).logits, rtol=0, atol=1e-5)
    return same and not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def findings(folder, **changes):
    """What the check says of a valid log with other run-level columns."""
    run = RUN | changes
    (report,) = check_files([write_log(folder / "log.parquet", build_table(run, curve()))], own=True).reports
    return [finding.code for finding in report.findings]


def test_a_structured_method(example, tmp_path):
    assert findings(tmp_path, method="last-layers", importance="position") == ["unknown_method"]
    names = example("last-layers")
    model, planned = names["pruned"].model, names["planned"]
    assert names["pruned"].removed == {"layers": [4, 5]}
    assert names["pruned"].calibration_sha256 is None
    assert count(model)[0] == planned.n_pruned == parameters(shape_of(model.config.to_dict())) < planned.n0
    assert loads_back(model, tmp_path / "model")
    assert "position+magnitude" in importances()["last-layers+2:4"]
    assert findings(tmp_path, method="last-layers", importance="position") == []


def test_a_sparse_method(example, tmp_path):
    names = example("4:8")
    model, planned = names["pruned"].model, names["planned"]
    matrices = [linear.weight for _, _, linear in sparse_linears(model)]
    assert count_zeros(matrices) == planned.zeros == sum(w.numel() for w in matrices) // 2
    assert all(((w == 0).unflatten(-1, (-1, 8)).sum(-1) == 4).all() for w in matrices)
    keeper = MaskKeeper(model, sparse=METHODS["4:8"])
    with torch.no_grad():
        matrices[0].add_(1)
    keeper.reapply()
    assert count_zeros(matrices) == planned.zeros
    assert loads_back(model, tmp_path / "model")
    assert facts.is_masked("depth+4:8")
    assert "block-influence+wanda" in importances()["depth+4:8"]
    assert findings(tmp_path, method="4:8", importance="magnitude", rate_requested=None) == []
    assert findings(tmp_path, method="4:8", importance="magnitude", rate_requested=0.25)


def test_a_family(example, tmp_path):
    names = example("granite")
    assert set(names["pruned"]) == {"depth", "width", "2:4"}
    ids = torch.arange(32)[None]
    for method, pruned in names["pruned"].items():
        assert pruned.model.config.model_type == "granite"
        assert 0 < pruned.plan.rate < 1
        assert loads_back(pruned.model, tmp_path / method.replace(":", "of"))
        own = pruned.model(ids, labels=ids).loss.item()
        assert next_token_nll(pruned.model, ids, ids).item() / 31 == pytest.approx(own, rel=1e-5)
