"""The tokenizer of a base: token ids are those of its tokenizer.json, whatever class its config names.

transformers builds some tokenizers anew from its own rules: for a model of type qwen2 it takes Qwen's splitting of
text, so a base that splits otherwise is measured and trained on the wrong tokens, in silence. Therefore the file
itself is loaded, and what comes of it is compared with the `tokenizers` library on a sample of the text.
"""

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from leaderboard.errors import P2Error
from zoo.inputs.weights import LFS_POINTER

FILE = "tokenizer.json"
SAMPLE, PIECE = 64, 4_000  # documents that are compared, and characters of each at most


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder; raises P2Error where there is none that can be used."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    kind = PreTrainedTokenizerFast if (folder / FILE).is_file() else AutoTokenizer
    try:
        _check_file(folder)
        return kind.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the library raises bare ones for files that it cannot read
        raise P2Error(f"model.name: no usable tokenizer in {folder.name}: {first_line(error)}") from error


def check_ids(tokenizer: Any, folder: Path, texts: Iterable[str], vocab: int) -> None:
    """Refuse a tokenizer that gives other ids than tokenizer.json, or ids that the embedding of `vocab` rows lacks."""
    sample = [text[:PIECE] for text in islice(texts, SAMPLE)]
    ids = [tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in sample]
    end = tokenizer.eos_token_id
    most = max([max(row, default=0) for row in ids] + [0 if end is None else end], default=0)
    if most >= vocab:
        raise P2Error(
            f"model.name: the tokenizer of {folder.name} gives token {most:,}, the model has {vocab:,} (vocab_size); "
            "they are not of one model."
        )
    if not (folder / FILE).is_file():
        return
    own = own_tokenizer(folder)
    for text, row in zip(sample, ids, strict=True):
        wanted = own.encode(text, add_special_tokens=False).ids
        if row != wanted:
            at = next(
                (i for i, (a, b) in enumerate(zip(row, wanted, strict=False)) if a != b), min(len(row), len(wanted))
            )
            raise P2Error(
                f"model.name: transformers gives other token ids than the {FILE} of {folder.name} on the text of this "
                f"recipe: {row[at : at + 4]} in place of {wanted[at : at + 4]}. Losses would be of another model; "
                "make its tokenizer_config.json agree, or save the tokenizer anew."
            )


def own_tokenizer(folder: Path) -> Any:
    """tokenizer.json as the `tokenizers` library reads it; raises P2Error where it is none."""
    from tokenizers import Tokenizer

    try:
        _check_file(folder)
        own = Tokenizer.from_file(str(folder / FILE))
    except Exception as error:  # the library raises bare ones
        raise P2Error(f"model.name: no usable tokenizer in {folder.name}: {first_line(error)}") from error
    own.no_truncation()  # transformers heeds neither
    own.no_padding()
    return own


def _check_file(folder: Path) -> None:
    """A plain word for what the library would only call a syntax error."""
    for name in (FILE, "tokenizer_config.json"):
        if (folder / name).is_file():
            text = (folder / name).read_text(encoding="utf-8")
            if text.startswith(LFS_POINTER.decode()):
                raise P2Error(f"{name} is a git-lfs pointer; run `git lfs pull` there.")
            try:
                data = json.loads(text)
            except ValueError as error:
                raise P2Error(f"{name} is no JSON: {error}") from None
            if not isinstance(data, dict):
                raise P2Error(f"{name} is no JSON object")


def first_line(error: Exception) -> str:
    """What an error of a library says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
