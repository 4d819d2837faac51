"""What checking a base adds to the start of a run: CPU seconds of its checks over those from the start to l0.

The quickstart's base, in one process; imports count as a part of the start. Checks: weights, settings, tokenizer ids.
"""

import time
from collections.abc import Callable
from pathlib import Path


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    """Print the row."""
    from zoo.estimate.dry_run import estimate
    from zoo.evaluation.heldout import heldout_loss
    from zoo.inputs import base_model, text
    from zoo.inputs.gather import heldout_blocks
    from zoo.inputs.settings import check_config, check_files, check_sample
    from zoo.inputs.tokenizer import check_ids
    from zoo.inputs.weights import check_weights
    from zoo.recipe.files import load_recipe

    recipe = load_recipe(Path(__file__).parents[2] / "recipes" / "quickstart" / "depth.yaml")
    source = estimate(recipe).source
    assert source is not None and source.folder is not None  # noqa: PT018
    tokenizer = base_model.load_tokenizer(source.folder)
    blocks, *_ = heldout_blocks(recipe, tokenizer, "")
    loss = heldout_loss(base_model.load_model(source.folder, "fp32"), blocks)
    start = time.process_time()  # of this process: all that was above

    def checks() -> None:
        assert source is not None and source.folder is not None  # noqa: PT018
        sample = list(text.documents(recipe.data.heldout, recipe.folder, "data.heldout"))
        check_config(source.config, source.shape, "base")
        check_files(source.folder, source.shape, "base")
        check_weights(source.folder, source.shape, "base")
        check_sample(source.folder, source.shape, sample, "base")
        check_ids(tokenizer, source.folder, sample, source.shape.vocab)

    took = min(seconds(checks) for _ in range(3))
    print("| what | measured | target |\n|---|---|---|")
    share = f"{took:.2f} s of {start:.1f} s, {took / start:.1%}"
    print(f"| checks of a base, of the start of a run up to l0 ({loss:.3f}) | {share} | 5 % |")


if __name__ == "__main__":
    main()
