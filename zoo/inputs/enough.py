"""Whether a local text holds the tokens that a recipe asks for, told before all of it is tokenized.

No token is shorter than a byte; where the model's tokenizer is at hand, a sample of the text says how long they are.
What is nearly enough passes: gather.py counts exactly when the run begins.
"""

from bisect import bisect_right
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

from leaderboard.errors import P2Error
from zoo.inputs.text import documents
from zoo.inputs.tokenizer import FILE, own_tokenizer
from zoo.recipe.spec import Recipe, TextSpec

SAMPLE = 200  # pieces, evenly spread over all characters
PIECE = 1_000  # characters of each
NEARLY = 1.25  # times what the sample says


def check_enough(recipe: Recipe, model: Path | None) -> int | None:
    """About how many training tokens a local text holds; None where `model` has no tokenizer, or the text is not here.

    Raises P2Error where training or evaluation asks for clearly more than there are.
    """
    train, found = recipe.train, None
    for part, spec, wanted, key in (
        ("heldout", recipe.data.heldout, recipe.evaluate.tokens, "evaluate.tokens"),
        ("train", recipe.data.train, train.planned_tokens, "train.tokens"),
    ):
        found = None
        if not spec.local:
            continue
        count, size, sample = _measure(replace(spec, noise=None), recipe.folder, part)
        found = _by_sample(model, count, size, sample)
        most = size + count if found is None else NEARLY * found
        if wanted > most:
            holds = f"at most {most:,} tokens" if found is None else f"about {found:,} tokens"
            raise P2Error(
                f"data.{part}: {spec.label} holds {holds}, {key} asks for {wanted:,}, {wanted / (found or most):.1f} "
                f"times as many; give more text or lower {key}. Text is never repeated: a second pass is not fresh "
                "tokens."
            )
    return found


@lru_cache(maxsize=4)  # a sweep asks for each of its recipes
def _measure(spec: TextSpec, folder: Path, part: str) -> tuple[int, int, tuple[str, ...]]:
    """Documents of a slice, their bytes, and pieces of them."""
    texts = list(documents(spec, folder, f"data.{part}"))
    ends = list(accumulate(map(len, texts), initial=0))
    starts = range(0, ends[-1], max(PIECE, ends[-1] // SAMPLE))
    places = [(at, bisect_right(ends, at) - 1) for at in starts]
    sample = tuple(texts[i][at - ends[i] : at - ends[i] + PIECE] for at, i in places)
    return len(texts), sum(len(text.encode("utf-8", "surrogatepass")) for text in texts), sample


def _by_sample(model: Path | None, count: int, size: int, sample: tuple[str, ...]) -> int | None:
    """Tokens of a text by a sample of it; each document ends in one more."""
    if model is None or not (model / FILE).is_file():
        return None
    tokenizer = own_tokenizer(model)
    tokenizer.encode_special_tokens = True  # what stands in a text is text
    tokens = sum(len(found.ids) for found in tokenizer.encode_batch_fast(list(sample)))
    read = sum(len(text.encode("utf-8", "surrogatepass")) for text in sample)
    return round(size * tokens / max(read, 1)) + count
