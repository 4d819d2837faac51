"""A base model before its first step: a tokenizer, given or trained, and random weights.

What follows is a run like any other (pipeline.py) with nothing pruned: the same trainer, curve, resume and gate. Its
log says objective `pretrain`, so its losses share a fit with no other's.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from leaderboard.errors import P2Error
from zoo.files import new_folder
from zoo.inputs import base_model, text
from zoo.inputs.base_model import Source
from zoo.models.sizes import config
from zoo.recipe.spec import ModelSpec, Recipe

END = "<|endoftext|>"
_LETTERS_READ = 50_000_000  # characters that a tokenizer is trained on, at most


def initial_model(recipe: Recipe, commit: str, where: Path) -> Source:
    """The untrained model of a recipe in a folder below `where`; one that is there already is taken.

    `commit` pins the training text, should a tokenizer be trained on it. Weights follow from train.seed.
    """
    folder = where / recipe.model.name
    if not folder.is_dir():
        with new_folder(folder) as new:
            tokenizer = _tokenizer(recipe, commit)
            tokenizer.save_pretrained(new)
            base_model.save_model(_random(recipe, tokenizer), new)
    return base_model.resolve(ModelSpec(name=str(folder.resolve())), where)


def _tokenizer(recipe: Recipe, commit: str) -> Any:
    scratch = recipe.model.scratch
    assert scratch is not None
    if scratch.tokenizer is not None:
        tokenizer = base_model.load_tokenizer(recipe.path(scratch.tokenizer))
    else:
        texts = text.documents(recipe.data.train, recipe.folder, "data.train", seed=0, commit=commit)
        tokenizer = train_tokenizer(texts, scratch.vocab_size)
    if len(tokenizer) > scratch.vocab_size:
        raise P2Error(
            f"model.scratch.vocab_size: got {scratch.vocab_size:,}, the tokenizer has {len(tokenizer):,} tokens."
        )
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """A byte-level BPE of at most `vocab_size` tokens, token 0 the end of a text. One text gives one tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(_up_to(texts, _LETTERS_READ), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, bos_token=END, pad_token=END)


def _up_to(texts: Iterable[str], letters: int) -> Iterator[str]:
    for one in texts:
        yield one
        letters -= len(one)
        if letters <= 0:
            return


def _random(recipe: Recipe, tokenizer: Any) -> Any:
    """Weights as the architecture draws them (normal, 0.02), in fp32."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    scratch = recipe.model.scratch
    assert scratch is not None
    fields = config(scratch.family, scratch.size, scratch.vocab_size, tokenizer.eos_token_id)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.train.seed)
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields), dtype=torch.float32)
