"""`p2zoo check-load` and `bench-sparse`: whether a model loads elsewhere, and whether this GPU's 2:4 kernels pay."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leaderboard.errors import P2Error, RunFailed

if TYPE_CHECKING:
    from zoo.pruning.sparse_speed import Matrix, Timing


class Program(StrEnum):
    """What else may load a model."""

    TRANSFORMERS_4 = "transformers-4"
    GGUF = "gguf"
    VLLM = "vllm"


def check_load(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a model folder, or a model on the Hub.")],
    programs: Annotated[
        list[Program] | None, typer.Option("--for", help="What is to load it; may be given again. Default: all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Whether MODEL loads in other programs: transformers 4 is tried, gguf (llama.cpp) and vllm are judged by rule.

    transformers 4 is installed into a folder of the cache at first, without its dependencies. Exit code 1 where one
    of them would not load it.

    Examples: `p2zoo check-load runs/mine --for vllm`, `p2zoo check-load me/model --for transformers-4 --json`
    """
    try:
        from zoo.inputs.base_model import resolve
        from zoo.loads.check import PROGRAMS, TRIED, check, note
    except ModuleNotFoundError as error:
        raise P2Error(f"p2zoo check-load: {error.name} is not installed; pip install 'p2zoo[train]'.") from error
    from zoo.recipe.spec import ModelSpec

    source = resolve(ModelSpec(name=_named(model)), Path())
    assert source.folder is not None
    answers = [check(source.folder, name) for name in (programs or list(Program))]
    if (Path(model) / "run.json").is_file():
        for answer in answers:
            if answer.program == TRIED:
                note(Path(model), answer)
    if as_json:
        print(json.dumps({"model": model, "programs": [answer.as_dict() for answer in answers]}, indent=2))
    else:
        for answer in answers:
            by = "by rule" if answer.by_rule else "tried"
            print(f"{PROGRAMS[answer.program]} ({by}): {'loads' if answer.ok else 'does not load'}")
            for finding in answer.findings:
                mark = {True: "yes", False: "no ", None: "?  "}[finding.ok]
                print(f"  {mark} {finding.what}: {finding.said}" if finding.said else f"  {mark} {finding.what}")
    if bad := [PROGRAMS[answer.program] for answer in answers if not answer.ok]:
        raise RunFailed(f"check-load: {model} does not load in {' or '.join(bad)}.")


def _named(model: str) -> str:
    """A folder as recipes write it."""
    local = Path(model).is_dir() and not model.startswith((".", "/"))
    return f"./{model}" if local else model


def bench_sparse(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model on the Hub, or a folder with its config.json.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Dense against 2:4 for each matrix shape of MODEL on this GPU, and what to switch on.

    Only the model's config is read. Exit code 1 where no GPU here has 2:4 kernels: nothing is measured then.

    Examples: `p2zoo bench-sparse meta-llama/Llama-3.2-1B`, `p2zoo bench-sparse runs/mine --json`
    """
    try:
        import torch

        from zoo.inputs.base_model import look_up
        from zoo.pruning import sparse_speed
    except ModuleNotFoundError as error:
        raise P2Error(f"p2zoo bench-sparse: {error.name} is not installed; pip install 'p2zoo[train]'.") from error
    from zoo.recipe.spec import ModelSpec

    shapes = sparse_speed.matrices(look_up(ModelSpec(name=_named(model)), Path()).shape)
    why_not = sparse_speed.why_not()
    timings = [] if why_not else sparse_speed.measure(shapes)
    advice = sparse_speed.advice(timings)
    device = None if why_not else torch.cuda.get_device_name()
    if as_json:
        found: dict[str, Any] = {"model": model, "device": device, "torch": torch.__version__, "dtype": "bfloat16"}
        found |= {"tokens": list(sparse_speed.USES), "matrices": [vars(matrix) for matrix in shapes]}
        found |= {"not_measured": why_not, "timings": sparse_speed.as_dict(timings), "advice": advice}
        print(json.dumps(found, indent=2))
    elif why_not:
        _show_shapes(shapes, list(sparse_speed.USES))
    else:
        _show_timings(timings, f"{device}, PyTorch {torch.__version__}, bf16", advice)
    if why_not:
        raise RunFailed(f"bench-sparse: not measured: {why_not}. Run it on a GPU that will serve the model.")


def _show_shapes(shapes: "list[Matrix]", tokens: list[int]) -> None:
    """What would be measured."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title="What would be measured, dense and 2:4", title_justify="left")
    for name in ("modules", "outputs x inputs", "in the model"):
        table.add_column(name, justify="left" if name == "modules" else "right")
    for matrix in shapes:
        table.add_row(", ".join(matrix.names), f"{matrix.outputs} x {matrix.inputs}", str(matrix.count))
    console = Console()
    console.print(table)
    console.print(f"each on {', '.join(f'{many:,}' for many in tokens)} tokens at a time", highlight=False)


def _show_timings(timings: "list[Timing]", where: str, advice: list[str]) -> None:
    from rich.console import Console

    console = Console()
    console.print(timing_table(timings, where))
    for reason in sorted({f"{name}: {why}" for timing in timings for name, why in timing.refused.items()}):
        console.print(f"- {reason}", highlight=False, markup=False)
    console.print("\n".join(advice), highlight=False, markup=False)


def timing_table(timings: "list[Timing]", where: str) -> Any:
    """A row for each matrix and number of tokens: dense time, then each backend's speed against it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from zoo.pruning.sparse_speed import USES, backends

    table = Table(box=SIMPLE_HEAD, title=f"2:4 against dense: {where}", title_justify="left")
    for name in ("modules", "use", "tokens", "dense, us", *backends()):
        table.add_column(name, justify="left" if name in ("modules", "use") else "right")
    for t in timings:
        ratios = (t.ratio(name) for name in backends())
        shown = ("refused" if ratio is None else f"{ratio:.2f} x" for ratio in ratios)
        who = f"{', '.join(t.matrix.names)} {t.matrix.outputs} x {t.matrix.inputs}"
        table.add_row(who, USES.get(t.tokens, ""), f"{t.tokens:,}", f"{t.dense_s * 1e6:,.1f}", *shown)
    return table
