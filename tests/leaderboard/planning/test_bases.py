"""Base models: sizes counted from their shapes, losses from logs, and the rule that fills what is missing."""

import math

import pytest

from leaderboard import P2Error
from leaderboard.planning.bases import BASES, Base, loss_at, measured_bases, read_base, with_losses

# layers, hidden, ffn, query heads, key-value heads, head size, vocabulary, tied, bias: from the models' config.json
SHAPES = {
    "meta-llama/Llama-3.2-1B": (16, 2048, 8192, 32, 8, 64, 128256, True, False),
    "meta-llama/Llama-3.2-3B": (28, 3072, 8192, 24, 8, 128, 128256, True, False),
    "meta-llama/Llama-3.1-8B": (32, 4096, 14336, 32, 8, 128, 128256, False, False),
    "Qwen/Qwen2.5-0.5B": (24, 896, 4864, 14, 2, 64, 151936, True, True),
    "Qwen/Qwen2.5-1.5B": (28, 1536, 8960, 12, 2, 128, 151936, True, True),
    "Qwen/Qwen2.5-3B": (36, 2048, 11008, 16, 2, 128, 151936, True, True),
    "Qwen/Qwen2.5-7B": (28, 3584, 18944, 28, 4, 128, 152064, False, True),
}


@pytest.mark.parametrize("base", [BASES[name] for name in SHAPES], ids=lambda base: base.name)
def test_sizes_are_those_of_the_shapes(base):
    layers, hidden, ffn, heads, kv, head, vocab, tied, bias = SHAPES[base.name]
    attention = 2 * hidden * head * (heads + kv) + bias * head * (heads + 2 * kv)
    inner = layers * (attention + 3 * hidden * ffn + 2 * hidden) + hidden
    assert base.n0_nonembedding == inner
    assert base.n0 == inner + (1 if tied else 2) * vocab * hidden
    assert base.l0 is None
    assert base.family == ("llama-3" if "llama" in base.name else "qwen-2.5")


def test_the_seeds_bases_have_their_measured_losses(seed):
    bases = measured_bases(seed)
    assert [b.name for b in bases] == [
        "p2lab/llama-3-s1", "p2lab/llama-3-s2", "p2lab/llama-3-s3", "p2lab/qwen-2.5-s1", "p2lab/qwen-2.5-s2",
    ]  # fmt: skip
    assert bases[0] == Base("p2lab/llama-3-s1", "llama-3", 4_312_192, 2_215_040, bases[0].l0)
    assert bases[0].l0 == pytest.approx(3.1227, abs=1e-4)
    assert not any(b.interpolated for b in bases)


def test_a_missing_loss_comes_from_the_familys_power_law():
    ladder = [Base(f"a/{n}", "llama-3", n, n, 5 * n**-0.07) for n in (10**6, 10**7, 10**8)]
    missing = Base("a/big", "llama-3", 10**9, 10**9)
    assert loss_at(10**9, ladder) == pytest.approx(5 * 10**-0.63)
    filled = with_losses([*ladder, missing])[-1]
    assert filled.interpolated
    assert filled.l0 == pytest.approx(5 * 10**-0.63)


def test_one_size_or_another_family_fills_nothing():
    known = Base("a/small", "llama-3", 10**6, 10**6, 3.0)
    missing = Base("a/big", "llama-3", 10**9, 10**9)
    other = Base("b/small", "qwen-2.5", 10**7, 10**7, 2.5)
    assert with_losses([known, other, missing]) == [known, other]
    assert with_losses([missing]) == []


def test_a_base_is_read_from_words(seed):
    assert read_base("Qwen/Qwen2.5-7B") == BASES["Qwen/Qwen2.5-7B"]
    assert read_base("Qwen/Qwen2.5-7B=2.25").l0 == 2.25
    assert read_base("p2lab/llama-3-s1", measured_bases(seed)).n0 == 4_312_192


@pytest.mark.parametrize("words", ["Qwen/Qwen2.5-7B=two", "Qwen/Qwen2.5-7B=-1", "Qwen/Qwen2.5-7B=nan"])
def test_an_impossible_loss_is_refused(words):
    with pytest.raises(P2Error, match="it must be its held-out loss in nats"):
        read_base(words)


def test_an_unknown_base_is_refused():
    with pytest.raises(P2Error, match=r"Did you mean 'Qwen/Qwen2.5-7B'"):
        read_base("Qwen/Qwen2.5-7b")
    assert math.isfinite(read_base("Qwen/Qwen2.5-7B").n0)
