"""What a person sees while a run works: a line for each station and evaluation, a bar while it trains."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


@contextmanager
def stage(words: str, quiet: bool = False) -> Iterator[None]:
    """Says on stderr what is under way and may take a while: a spinner on a terminal, a line elsewhere. Not nested."""
    console = Console(stderr=True, quiet=quiet)
    if console.is_terminal:
        with console.status(words):
            yield
    else:
        console.print(f"{words} ...", highlight=False, markup=False, soft_wrap=True)
        yield


class TrainingBar:
    """Tokens, loss, tokens a second and time left. Without a terminal only the evaluations are printed."""

    def __init__(self, console: Console, tokens: int, done: int):
        self.console = console
        self.progress = Progress(
            TextColumn("post-training"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("", total=tokens, completed=done, shown="")
        self.tokens = tokens

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.progress.stop()

    def tick(self, tokens: int, loss: float, seconds: float) -> None:
        """One optimiser step is done."""
        shown = f"{tokens:,} tokens  loss {loss:.3f}  {tokens / max(seconds, 1e-9):,.0f} tok/s"
        self.progress.update(self.task, completed=tokens, shown=shown)

    def row(self, row: dict[str, Any]) -> None:
        """One evaluation is done."""
        speed = row["tokens"] / max(row["wall_s"], 1e-9)
        left = (self.tokens - row["tokens"]) / max(speed, 1e-9)
        self.console.print(
            f"  {row['tokens']:>13,} tokens   held-out {row['loss']:.4f}   train {row['train_loss']:.4f}   "
            f"{speed:>7,.0f} tok/s   {left:,.0f} s left",
            highlight=False,
            soft_wrap=True,
        )


def quiet() -> None:
    """Switch off the bars of transformers and datasets: p2zoo shows its own. Their warnings stay."""
    import datasets
    from transformers.utils import logging

    logging.disable_progress_bar()
    datasets.disable_progress_bars()
