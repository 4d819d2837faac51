"""`p2zoo pretrain`: a small base model from text."""

from pathlib import Path
from typing import Annotated, Any

import typer

from leaderboard.errors import P2Error
from zoo.cli.options import Corpus, DryRun, Gpus, Out, ResultJson, Resume, Sets
from zoo.cli.run import carry_out, with_gpus


def pretrain(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe file whose model has `scratch`, or a bundled name.")
    ],
    out: Out = None,
    set_: Sets = None,
    corpus: Corpus = None,
    resume: Resume = False,
    gpus: Gpus = None,
    dry_run: DryRun = False,
    as_json: ResultJson = False,
) -> None:
    """Train a small Llama-3-, Qwen-2.5- or Mistral-shaped model from random weights, as RECIPE says.

    The result is a model folder that a recipe can prune, and that `p2zoo publish` publishes like any other.

    Examples:

    - `p2zoo pretrain ladder/bases/llama-3-s1 --dry-run`

    - `CORPUS=text.txt.xz p2zoo pretrain ladder/bases/llama-3-s1`

    - `p2zoo run my.yaml --set model.name=$PWD/runs/llama-3-s1`
    """
    from zoo.recipe.catalog import find_recipe
    from zoo.recipe.files import load_recipe

    experiment = load_recipe(find_recipe(recipe), with_gpus(set_, gpus), corpus)
    if experiment.model.scratch is None:
        raise P2Error(
            f"p2zoo pretrain: {recipe} names a model that has weights; `p2zoo run` prunes it. A model to train "
            "from scratch is written as model: {name: NAME, scratch: {family: llama-3, size: s1}}."
        )
    carry_out(experiment, out or Path("runs") / experiment.model.name, resume, dry_run, as_json, summary)


def summary(result: dict[str, Any], folder: Path) -> str:
    """What came out, for people."""
    return "\n".join(
        [
            f"model        {result['n0']:,} parameters",
            f"loss         {result['l0']:.4f} with random weights",
            f"             {result['loss']:.4f} after {result['tokens']:,} tokens",
            f"speed        {result['tokens_per_second']:,.0f} tokens a second on {result['hardware']}",
            f"results      {folder}: model/, log.parquet, curve.png, run.json, recipe.yaml (run {result['run_id']})",
        ]
    )
