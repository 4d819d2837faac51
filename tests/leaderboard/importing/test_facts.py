"""Facts: nothing is guessed, everything missing is named at once, units are converted only when said."""

import json
import math

import numpy as np
import pytest

from leaderboard.errors import P2Error
from leaderboard.importing import import_log, read_runs, write_imported
from leaderboard.importing.models import stored_parameters
from leaderboard.logs.check import check_files
from tests.leaderboard.importing.conftest import TOKENS, history, loss, state, steps

DATA = state(history())


def test_all_that_is_missing_is_named_at_once():
    with pytest.raises(P2Error) as refused:
        import_log(DATA, tokens_per_step=TOKENS)
    for words in ("--method", "--eval-data", "--base", "--pruned"):
        assert words in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate": 25.0, "n_pruned": None}, "--rate is 25.0; allowed is 0 to 1"),
        ({"n0": 0}, "--n0 is 0"),
        ({"l0": math.nan}, "--l0 is nan"),
        ({"unit": "pp"}, "unknown unit 'pp'. Did you mean 'ppl'?"),
        ({"tokens_per_step": -1}, "--tokens-per-step is -1"),
        ({"n0": "1e6"}, "n0 is '1e6'; it must be a whole number"),
        ({"method": 124}, "YAML reads 2:4 as a number"),
        ({"n_pruned": 2_000_000}, "keeps 2,000,000 of 1,000,000 parameters; are they swapped?"),
        ({"n_pruned": 1_000_000}, "give the share that is zero by --rate"),
        ({"l_prune": 3.0}, "unknown fact 'l_prune'. Did you mean"),
        ({"per": "byte"}, "--bytes-per-token"),
        ({"eval_data": " two\nlines "}, "odd_text: eval_data"),
    ],
)
def test_a_wrong_fact_is_refused_in_words(changes, words, facts):
    with pytest.raises(P2Error) as refused:
        import_log(DATA, "file", **facts(**changes))
    assert words in str(refused.value)


def test_a_row_at_0_tokens_stands_only_where_l_pruned_is_known(facts):
    assert import_log(DATA, **facts()).frame["tokens"].min() == 50 * TOKENS
    first = import_log(DATA, **facts(l_pruned=3.9)).frame.iloc[0]
    assert (first["tokens"], first["loss"], first["l_pruned"]) == (0, 3.9, 3.9)


def test_the_files_own_row_at_0_tokens_is_l_pruned(facts):
    data = json.dumps([{"step": s, "eval_loss": loss(s)} for s in (0, *steps())]).encode()
    assert set(import_log(data, **facts()).frame["l_pruned"]) == {loss(0)}
    assert set(import_log(data, **facts(l_pruned=3.9)).frame["l_pruned"]) == {loss(0)}
    with pytest.raises(P2Error, match=r"at 0 tokens the file says 3\.9000, --l-pruned 4\.2000"):
        import_log(data, **facts(l_pruned=4.2))


BITS_PER_BYTE = {"unit": "bits", "per": "byte", "bytes_per_token": 4.2}


@pytest.mark.parametrize(
    ("column", "convert", "said"),
    [
        ("eval_perplexity", math.exp, {"unit": "ppl"}),
        ("eval_loss", math.exp, {"unit": "ppl"}),
        ("eval_bits_per_byte", lambda nats: nats / math.log(2) / 4.2, BITS_PER_BYTE),
        ("eval_loss", lambda nats: nats / math.log(2), {"unit": "bits"}),
        ("eval_loss", lambda nats: nats / 4.2, {"per": "byte", "bytes_per_token": 4.2}),
    ],
)  # fmt: skip
def test_units_are_converted_when_said(column, convert, said, facts):
    data = json.dumps([{"step": s, column: convert(loss(s))} for s in steps()]).encode()
    np.testing.assert_allclose(import_log(data, **facts(**said)).frame["loss"], [loss(s) for s in steps()])


def test_tokens_come_by_epochs_too(facts):
    data = "\n".join(str({"eval_loss": loss(s), "epoch": s / 1000}) for s in steps()).encode()
    frame = import_log(data, "out.log", **facts(tokens_per_step=None, tokens_per_epoch=1000 * TOKENS)).frame
    assert frame["tokens"].tolist() == [s * TOKENS for s in steps()]


def test_a_control_needs_no_pruned_model(facts):
    first = import_log(DATA, **facts(method="none", n_pruned=None, l0=3.9, l_pruned=3.9)).frame.iloc[0]
    assert (first["rate"], first["n_pruned"]) == (0, 1_000_000)


def test_methods_and_families_of_others_pass_the_check(tmp_path, facts):
    log = import_log(DATA, **facts(method="lottery-ticket", family="vit", trainable_params=10_000))
    (report,) = check_files([write_imported(tmp_path / "log.parquet", log)]).reports
    assert report.ok


def test_the_same_curve_has_the_same_run_id_and_another_has_not(facts):
    one, again, other = (import_log(DATA, **facts(**more)) for more in ({}, {}, {"trainable_params": 5}))
    lifted = import_log(state([{"step": s, "eval_loss": loss(s) + 1} for s in steps()]), **facts())
    ids = [log.frame["run_id"].iloc[0] for log in (one, again, other, lifted)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_a_run_of_read_runs_is_a_source(facts):
    (run,) = read_runs(DATA, "trainer_state.json")
    assert import_log(run, **facts()).run == "trainer_state"


CONFIG = {"model_type": "toy", "hidden_size": 8, "vocab_size": 50}
TINY = {
    "model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 50, "tie_word_embeddings": True,
}  # fmt: skip


def folder(path, **config):
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG | config))
    return str(path)


def test_counts_come_from_configs(tmp_path, facts):
    """A layer: 8 x (2 x 8 + 2 x 4) of attention, 3 x 8 x 16 of MLP, two norms; one embedding and a last norm."""
    layer, rest = 8 * 24 + 3 * 8 * 16 + 16, 8
    base, pruned = (folder(tmp_path / name, **TINY, num_hidden_layers=n) for name, n in (("my base", 4), ("cut", 3)))
    first = import_log(DATA, **facts(n0=None, n_pruned=None, base=base, pruned=pruned)).frame.iloc[0]
    assert (first["n0"], first["n_pruned"]) == (4 * layer + rest + 400, 3 * layer + rest + 400)
    assert (first["n0_nonembedding"], first["vocab_size"]) == (4 * layer + rest, 50)
    assert (first["base_model"], first["family"]) == ("my-base", "llama-3")
    assert first["rate_nonembedding"] == pytest.approx(layer / (4 * layer + rest))


def test_without_a_formula_stored_tensors_are_counted(tmp_path, facts):
    header = json.dumps({"a": {"dtype": "F32", "shape": [10, 20]}, "b": {"shape": [5]}, "__metadata__": {}}).encode()
    base, pruned = folder(tmp_path / "base"), folder(tmp_path / "cut")
    for name, take in ((base, header), (pruned, header.replace(b"[10, 20]", b"[10, 10]"))):
        (tmp_path / name / "model.safetensors").write_bytes(len(take).to_bytes(8, "little") + take)
    assert stored_parameters(tmp_path / "base") == 205
    frame = import_log(DATA, **facts(n0=None, n_pruned=None, base=base, pruned=pruned)).frame
    assert (frame["n0"].iloc[0], frame["n_pruned"].iloc[0], frame["family"].iloc[0]) == (205, 105, "toy")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: (path / "config.json").unlink(), "no config.json there"),
        (lambda path: (path / "config.json").write_text("[" * 100_000), "cannot be read"),
        (lambda path: (path / "config.json").write_text("[1]"), "is no JSON object"),
        (lambda path: None, "Give --n0 and --n-pruned"),
        (lambda path: (path / "model.safetensors").write_text("version https://git-lfs"), "is it a git-lfs pointer?"),
    ],
)
def test_a_model_whose_size_cannot_be_had_is_refused(spoil, words, tmp_path, facts):
    base = folder(tmp_path / "base")
    spoil(tmp_path / "base")
    with pytest.raises(P2Error) as refused:
        import_log(DATA, **facts(n0=None, base=base))
    assert words in str(refused.value)


def test_no_hub_id_is_refused_before_the_hub_is_asked(facts):
    with pytest.raises(P2Error, match="no such folder, and no Hub id"):
        import_log(DATA, **facts(n0=None, base="./not-here"))
