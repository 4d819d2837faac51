"""The yardstick: every tokenizer reads the same bytes of it, in a fixed slice of a text that ships with p2zoo."""

import numpy as np
import pytest
import torch

from zoo.evaluation.yardstick import TEXT, WINDOW, WINDOWS, Yardstick, landmarks, measured_windows, windows

END = 256


class Letters:
    """A tokenizer of `width` bytes a token."""

    eos_token_id, bos_token_id = END, None

    def __init__(self, width=1):
        self.width = width

    def __call__(self, text, **_):
        data = text.encode()
        return {"input_ids": [data[i] for i in range(0, len(data), self.width)]}


def test_the_text_is_cut_into_pieces_that_lose_nothing():
    text = TEXT.read_text(encoding="utf-8")
    assert 95_000 < len(text.encode()) < 105_000
    assert "".join(windows()) == text
    assert all(len(piece.encode()) <= WINDOW or piece.count("\n") == 1 for piece in windows())
    measured = measured_windows()
    assert len(measured) == WINDOWS
    assert {measured[0], measured[-1]} == {windows()[0], windows()[-1]}


@pytest.mark.parametrize("width", [1, 3])
def test_nats_a_byte_are_the_same_for_every_tokenizer(width, uniform_model):
    """A model that gives every token the same chance needs ln 260 nats for each."""
    yardstick = Yardstick.of(Letters(width))
    tokens = sum(-(-len(text.encode()) // width) for text in measured_windows())
    assert yardstick.bytes == sum(len(text.encode()) for text in measured_windows())
    assert yardstick.loss(uniform_model) == pytest.approx(np.log(260) * tokens / yardstick.bytes, rel=1e-6)


def test_every_piece_is_measured_on_its_own():
    blocks = Yardstick.of(Letters()).blocks
    assert len(blocks) == WINDOWS
    assert (blocks.ids[:, 0] == END).all()
    assert (blocks.positions[:, 0] == 0).all()


def test_a_tokenizer_is_told_by_what_it_makes_of_the_text():
    assert Yardstick.of(Letters()).tokenizer_sha256 == Yardstick.of(Letters()).tokenizer_sha256
    assert Yardstick.of(Letters()).tokenizer_sha256 != Yardstick.of(Letters(2)).tokenizer_sha256


def test_a_loss_that_is_no_number_is_none(uniform_model):
    with torch.no_grad():
        uniform_model.get_output_embeddings().weight.fill_(float("nan"))
    assert Yardstick.of(Letters(8)).loss(uniform_model) is None


def test_it_is_measured_first_at_doublings_and_at_the_end():
    assert landmarks([1, 2, 3, 4, 6, 7, 9, 10], np.arange(11) * 128) == {1, 2, 4, 9, 10}
    assert landmarks([], np.arange(3)) == {2}


@pytest.fixture
def uniform_model():
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=260, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, tie_word_embeddings=False,
        )
    )  # fmt: skip
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    return model
