"""Text and packing: what is read, what is kept, what is refused."""

import itertools
import json
import tracemalloc

import numpy as np
import pytest
from datasets.exceptions import DatasetNotFoundError

from leaderboard.errors import P2Error, RunFailed
from zoo.inputs.base_model import load_tokenizer
from zoo.inputs.enough import check_enough
from zoo.inputs.gather import gather, text_bytes
from zoo.inputs.packing import PADDING, best_fit, load_blocks, pack, save_blocks
from zoo.inputs.text import Hashed, check_text, documents, fingerprint, tokenize
from zoo.recipe.files import load_recipe
from zoo.recipe.spec import TextSpec

DOCUMENTS = [list(range(100 * i, 100 * i + n)) for i, n in enumerate((5, 30, 8, 3, 17, 64, 1), 1)]


def test_wrapped_joins_everything_and_cuts():
    blocks = pack(DOCUMENTS, 16, "wrapped", 10**9)
    joined = list(itertools.chain.from_iterable(DOCUMENTS))
    assert blocks.ids.ravel().tolist() == joined[: 16 * 8]
    assert blocks.padding == 0
    assert blocks.kept == 128 / len(joined)


def test_bfd_split_keeps_every_token_once():
    blocks = pack(DOCUMENTS, 16, "bfd_split", 10**9)
    kept = blocks.ids[blocks.positions != PADDING]
    assert sorted(kept.tolist()) == sorted(itertools.chain.from_iterable(DOCUMENTS))
    assert blocks.kept == 1.0
    assert len(blocks) == 8  # 128 tokens in full and split pieces need no more
    starts = (blocks.positions == 0).sum()
    assert starts == sum(-(-len(document) // 16) for document in DOCUMENTS)


def test_best_fit_worked_by_hand():
    """6 opens a bin, 5 another; 4 fits best beside 6, 3 beside 5, 2 beside 3 + 5."""
    assert best_fit([2, 6, 4, 5, 3], 10) == [[1, 2], [3, 4, 0]]


@pytest.mark.parametrize("packing", ["wrapped", "bfd_split"])
def test_draw_takes_whole_steps_that_reach_the_budget(packing):
    blocks = pack(DOCUMENTS * 20, 16, packing, 10**9)
    drawn = blocks.draw(500, 4, seed=3)
    assert len(drawn) % 4 == 0
    assert drawn.tokens >= 500
    assert drawn.lengths[:-4].sum() < 500
    assert drawn.sha256 == blocks.draw(500, 4, seed=3).sha256 != blocks.draw(500, 4, seed=4).sha256
    assert blocks.draw(10**9, 4, seed=0).tokens < 10**9


def test_text_that_cannot_be_read_is_not_told_as_a_full_disk(tmp_path):
    (tmp_path / "data.txt").symlink_to("/proc/self/mem")  # a file whose reading fails for everybody
    with pytest.raises(
        P2Error, match=r"data\.train\.file: data\.txt cannot be read: Input/output error; mend the file"
    ):
        check_text(TextSpec(file="data.txt"), tmp_path, "data.train")


def test_blocks_that_cannot_be_written_are_told_with_the_folder(tmp_path):
    (tmp_path / "train").write_text("a file where a folder is to be")
    with pytest.raises(RunFailed, match=r"train: cannot be written: .* choose another --out"):
        save_blocks(pack(DOCUMENTS, 16, "bfd_split", 10**9), tmp_path / "train")


def test_blocks_come_back_from_disk_and_damage_shows(tmp_path):
    blocks = pack(DOCUMENTS, 16, "bfd_split", 10**9)
    save_blocks(blocks, tmp_path)
    again = load_blocks(tmp_path)
    assert again.sha256 == blocks.sha256
    assert again.kept == blocks.kept
    np.save(tmp_path / "ids.npy", blocks.ids + 1)
    assert load_blocks(tmp_path) is None


def test_bytes_of_packed_text_are_those_of_its_documents(quickstart):
    tokenizer = load_tokenizer(quickstart / "tiny-llama-3")
    texts = ["A plain line.", "Ünïcödé, and more of it.", "x" * 40]
    blocks = pack(tokenize(texts, tokenizer), 200, "bfd_split", 2**62)
    assert blocks.tokens == sum(len(ids) for ids in tokenize(texts, tokenizer)) < blocks.ids.size  # the rest is padding
    assert text_bytes(blocks, tokenizer) == sum(len(text.encode()) for text in texts)


@pytest.fixture
def texts(tmp_path):
    import pandas as pd

    wanted = ["one\ntwo", "three", ""]
    pd.DataFrame({"text": wanted, "n": range(3)}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in wanted))
    (tmp_path / "a.txt").write_text("one\ntwo")
    return tmp_path


def test_three_kinds_of_file_are_read(texts):
    for name in ("a.parquet", "a.jsonl"):
        assert list(documents(TextSpec(file=name), texts, "data.train")) == ["one\ntwo", "three", ""]
    assert list(documents(TextSpec(file="a.txt"), texts, "data.train")) == ["one\ntwo"]
    assert list(documents(TextSpec(file="a.jsonl", skip=1, take=1), texts, "data.train")) == ["three"]


def test_one_seed_one_order(quickstart):
    spec = TextSpec(file="text/heldout.parquet", take=20)
    first, again, other = (list(documents(spec, quickstart, "data", seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(first) == sorted(other)


def test_documents_end_with_the_end_of_text_token(bench_folder):
    tokenizer = load_tokenizer(bench_folder / "model")
    assert [ids[-1] for ids in tokenize(["ab", ""], tokenizer)] == [256, 256]
    tokenizer.eos_token = None
    with pytest.raises(P2Error, match="no end-of-text token"):
        list(tokenize(["ab"], tokenizer))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, r"data\.train\.file: missing\.txt is not a file beside the recipe"),
        ("empty.txt", b"", "holds no text in this slice"),
        ("blank.jsonl", b'{"text": " "}\n', "holds no text in this slice"),
        ("cut.parquet", b"PAR1 and then nothing", r"cannot be read as parquet.*cut off"),
        ("cut.jsonl", b'{"text": "a"}\n{"text": ', "cannot be read as jsonl"),
        ("other.jsonl", b'{"body": "a"}\n', "no text under 'text'"),
        ("latin.txt", b"caf\xe9", "cannot be read as txt"),
    ],
)
def test_bad_files_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(P2Error, match=message):
        check_text(TextSpec(file=name), tmp_path, "data.train")


def test_a_missing_column_names_the_near_one(texts):
    with pytest.raises(P2Error, match=r"data\.train\.column: unknown column 'txt'\. Did you mean 'text'"):
        check_text(TextSpec(file="a.parquet", column="txt"), texts, "data.train")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.tokens=1_000_000", r"data\.train: train\.jsonl gives [\d,]+ tokens.*train\.tokens asks for 1,000,064"),
        ("evaluate.tokens=100_000", r"data\.heldout: heldout\.jsonl gives .*evaluate\.tokens asks for 100,000"),
        ("prune.calibration_tokens=100_000", r"prune\.calibration_tokens asks for 100,000"),
    ],
)
def test_text_too_short_for_what_is_asked(bench_folder, tmp_path, override, message):
    recipe = load_recipe(bench_folder / "recipe.yaml", [override])
    with pytest.raises(P2Error, match=message):
        gather(recipe, load_tokenizer(bench_folder / "model"), {"train": "", "heldout": ""}, tmp_path)


@pytest.mark.parametrize("at_hand", [True, False])
def test_far_too_little_text_is_known_before_it_is_tokenized(bench_folder, at_hand):
    """By a sample, or without a tokenizer by its bytes; what may be enough passes."""
    path, model = bench_folder / "recipe.yaml", bench_folder / "model"
    texts = documents(load_recipe(path).data.train, bench_folder, "data.train")
    held = sum(map(len, tokenize(texts, load_tokenizer(model))))
    known = model if at_hand else None
    assert check_enough(load_recipe(path), known) == (pytest.approx(held, rel=0.02) if at_hand else None)
    check_enough(load_recipe(path, [f"train.tokens={held - 128}"]), known)
    for key in ("train.tokens", "evaluate.tokens"):
        with pytest.raises(P2Error, match=rf"holds .* tokens, {key} asks for .* times as many"):
            check_enough(load_recipe(path, [f"{key}={2 * held}"]), known)


def test_no_corpus_stays_in_memory_once_its_tokens_are_there(bench_folder, tmp_path):
    (tmp_path / "large.txt").write_text("alpha beta gamma\0" * 100_000)
    recipe = load_recipe(bench_folder / "recipe.yaml", [f"data.train.file={tmp_path / 'large.txt'}"])
    tokenizer = load_tokenizer(bench_folder / "model")
    tracemalloc.start()
    try:
        check_text(recipe.data.train, recipe.folder, "data.train")
        assert tracemalloc.get_traced_memory()[0] > 5e6  # the run will ask for it again
        gather(recipe, tokenizer, {"train": "", "heldout": ""}, tmp_path / "train")
        assert tracemalloc.get_traced_memory()[0] < 3e6
    finally:
        tracemalloc.stop()


def test_a_text_whose_head_is_unlike_the_rest_is_sampled_all_over(bench_folder, tmp_path):
    """One document: prose that the tokenizer knows, then ten times as much that takes a token a character or so."""
    known = next(iter(documents(load_recipe(bench_folder / "recipe.yaml").data.train, bench_folder, "data.train")))
    body = "".join(str(number) for number in range(20_000))
    (tmp_path / "mixed.txt").write_text((known * 20)[:10_000] + body, encoding="utf-8")
    held = sum(map(len, tokenize([(known * 20)[:10_000] + body], load_tokenizer(bench_folder / "model"))))
    recipe = load_recipe(bench_folder / "recipe.yaml", [f"data.train.file={tmp_path / 'mixed.txt'}"])
    assert check_enough(recipe, bench_folder / "model") == pytest.approx(held, rel=0.1)


def test_a_data_set_that_is_gone_names_another(tmp_path, monkeypatch):
    with pytest.raises(P2Error, match=r"SlimPajama-627B is not on the Hub.*use DKYoon/SlimPajama-6B"):
        check_text(TextSpec(dataset="cerebras/SlimPajama-627B"), tmp_path, "data.train")

    def gone(*_, **__):
        raise DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed.")

    monkeypatch.setattr("datasets.load_dataset", gone)
    with pytest.raises(P2Error, match=r"data\.train\.dataset: a/b is not on the Hub.*fineweb-edu"):
        next(documents(TextSpec(dataset="a/b"), tmp_path, "data.train"))


def test_a_text_has_one_hash_whatever_its_tokens():
    def sha(*texts):
        hashed = Hashed(texts)
        assert tuple(hashed) == texts
        return hashed.sha256

    assert sha("ab", "c") == sha("ab", "c")
    assert len({sha("ab", "c"), sha("c", "ab"), sha("abc"), sha("ab", "c", "")}) == 4


def test_a_file_is_pinned_by_its_content(texts):
    spec = TextSpec(file="a.txt")
    before = fingerprint(spec, texts, "data.train")
    (texts / "a.txt").write_text("one\ntwo!")
    assert fingerprint(spec, texts, "data.train") != before
