"""Held-out loss by source: the parts are those of the tokens, and together they are the whole."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from zoo.evaluation.heldout import heldout_loss, loss_by_source
from zoo.inputs.base_model import load_model, load_tokenizer
from zoo.inputs.gather import MOST, heldout_blocks
from zoo.inputs.text import tokenize
from zoo.recipe.files import load_recipe

TEXTS = [f"{word} " * n for word, n in (("alpha", 30), ("loss", 7), ("tokens of the", 25), ("beta", 40), ("x", 90))]


@pytest.fixture
def told(bench_folder):
    """told(packing, sources) -> recipe with such a held-out text, the tokenizer, the blocks and their sources."""

    def make(packing: str, sources: list[str] | None):
        columns = {"text": TEXTS * 5} | ({"source": sources} if sources else {})
        pq.write_table(pa.table(columns), bench_folder / "told.parquet")
        changes = ["data.heldout.file=told.parquet", "data.heldout.skip=1", f"train.packing={packing}"]
        recipe = load_recipe(bench_folder / "recipe.yaml", changes)
        tokenizer = load_tokenizer(bench_folder / "model")
        blocks, _, found = heldout_blocks(recipe, tokenizer, "")
        return tokenizer, blocks, found

    return make


@pytest.mark.parametrize("packing", ["wrapped", "bfd_split"])
def test_the_parts_are_the_whole(told, bench_folder, packing):
    _, blocks, sources = told(packing, ["web", "books", "web", "code", "books"] * 5)
    model = load_model(bench_folder / "model", "fp32")
    parts = loss_by_source(model, blocks, sources)
    assert list(parts) == ["books", "code", "web"]
    mean = np.average([p["loss"] for p in parts.values()], weights=[p["tokens"] for p in parts.values()])
    assert mean == pytest.approx(heldout_loss(model, blocks), abs=1e-6)
    assert len({round(p["loss"], 3) for p in parts.values()}) == 3


def test_a_token_counts_for_its_own_document(told, bench_folder):
    """By hand, where documents are joined: each token's source by its place in the text, its loss by transformers."""
    names = ["web", "books", "web", "code", "books"] * 5
    tokenizer, blocks, sources = told("wrapped", names)
    lengths = [len(ids) for ids in tokenize((TEXTS * 5)[1:], tokenizer)]
    whole = np.repeat(names[1:], lengths)
    all_blocks = whole[: len(whole) // 32 * 32].reshape(-1, 32)
    mine = all_blocks[np.linspace(0, len(all_blocks) - 1, len(blocks)).round().astype(int)]
    model = load_model(bench_folder / "model", "fp32").eval()
    ids = torch.from_numpy(blocks.ids.astype("int64"))
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    nll = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    for name, part in loss_by_source(model, blocks, sources).items():
        at = torch.from_numpy(mine[:, 1:].flatten() == name)
        assert part == {"loss": pytest.approx(float(nll[at].mean()), abs=1e-5), "tokens": int(at.sum())}


@pytest.mark.parametrize("sources", [None, [str(i) for i in range(25)]])
def test_a_text_that_does_not_tell_or_tells_too_many_has_none(told, sources):
    assert len(set(sources or ())) in (0, MOST + 5)
    assert told("wrapped", sources)[2] is None
