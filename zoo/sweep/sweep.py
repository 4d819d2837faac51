"""A sweep: a folder of recipes, each run as a child process, and what became of each.

A recipe that names the recipe of its base model waits until that is pretrained, beside the run folders in `bases/`.
`plan` looks and starts nothing: finished runs are left alone, cut-off ones go on, a recipe that cannot be read is
known before the first starts. `carry_out` runs the rest, `jobs` at a time; one that fails stops no other. A child's
words go to NAME.log beside its run folder.
"""

import glob
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from leaderboard.errors import P2Error
from zoo import fresh
from zoo.estimate.dry_run import Estimate, estimate
from zoo.files import disk
from zoo.inputs.text import forget
from zoo.preemption import Preempted, heed_sigterm
from zoo.recipe.catalog import recipe_names, recipes_folder
from zoo.recipe.files import default_name, load_recipe
from zoo.run.folder import FINISHED, read_state

NEW, UNFINISHED, REFUSED, FAILED, RUNNING = "new", "unfinished", "refused", "failed", "running"
_POLL_S = 0.2
_GRACE_S = 60.0  # for children to write a checkpoint when the sweep is stopped


@dataclass(frozen=True)
class Item:
    """One recipe of a sweep: where it runs, how it stands, and what it needs; `why` says what is wrong."""

    name: str
    recipe: Path
    folder: Path
    status: str  # new, unfinished, finished or refused
    why: str = ""
    planned: Estimate | None = None
    words: tuple[str, ...] = ()  # options of its command
    needs: str | None = None  # name of the item that makes its base model

    @property
    def pretrains(self) -> bool:
        """Whether it makes a base model and prunes nothing."""
        return self.planned is not None and self.planned.recipe.model.scratch is not None

    @property
    def log(self) -> Path:
        """What its process says."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def cost(self, gpu: str) -> tuple[float, float] | None:
        """GPU-hours and US dollars of post-training on `gpu`; None where the model's config is not at hand."""
        return None if self.planned is None else self.planned.cost(gpu, "sweep")

    def as_dict(self, gpu: str) -> dict[str, Any]:
        """JSON form, with its cost on `gpu`."""
        hours, dollars = self.cost(gpu) or (None, None)
        tokens = self.planned and self.planned.tokens
        return {
            "name": self.name, "recipe": str(self.recipe), "folder": str(self.folder), "status": self.status,
            "why": self.why or None, "needs": self.needs, "tokens": tokens, "gpu": gpu, "gpu_hours": hours,
            "cost": dollars,
        }  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How an item ended: finished or failed, with the last words of what failed."""

    item: Item
    status: str
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"name": self.item.name, "folder": str(self.item.folder), "status": self.status, "why": self.why or None}


def plan(where: str, out: Path, overrides: Sequence[str] = (), corpus: Path | None = None) -> list[Item]:
    """The recipes of a folder, a pattern or a bundled group as items, in order of their names. Starts nothing.

    Base models come first, those in `where` and those that its recipes name. `overrides` are for what is pruned, and
    for base models where `where` has nothing else.
    """
    text = ("--corpus", str(corpus.resolve())) if corpus else ()
    words = (*(word for change in overrides for word in ("--set", change)), *text)
    paths = find_recipes(where)
    named = [path for path in paths if _is_base(path)]
    own = (overrides, words) if named == paths else ((), text)
    bases = {path.resolve(): _base(path, out, *own, corpus) for path in named}
    items: list[Item] = []
    for path in (path for path in paths if path not in named):
        item = replace(_item(path, out, overrides, corpus), words=words)
        if item.planned is not None and (made_by := item.planned.recipe.model.made_by) is not None:
            maker = item.planned.recipe.path(made_by)
            if maker not in bases:
                bases[maker] = _base(maker, out, (), text, corpus)
            made = f"model.name={bases[maker].folder.resolve()}"
            item = replace(item, needs=bases[maker].name, words=(*words, "--set", made))
        items.append(item)
    items = [*bases.values(), *items]
    for name in (item.name for item in items):
        if len(twice := [str(item.recipe) for item in items if item.name == name]) > 1:
            raise P2Error(f"sweep: {' and '.join(twice)} have the same name, {name}, and would share a run folder.")
    forget()
    return items


def find_recipes(where: str) -> list[Path]:
    """Recipe files below a folder, of a pattern, or of a bundled group such as `quickstart`, but for `base` files."""
    folder = Path(where)
    if not folder.exists() and any(name.startswith(f"{where.rstrip('/')}/") for name in recipe_names()):
        folder = recipes_folder() / where
    named = glob.glob(where, recursive=True)  # noqa: PTH207 - a pattern may be absolute
    files = folder.rglob("*.yaml") if folder.is_dir() else map(Path, named)
    paths = sorted(path for path in files if path.suffix in (".yaml", ".yml") and path.stem != "base")
    if not paths:
        raise P2Error(
            f"sweep: {where}: no recipe there; give a folder or a quoted pattern such as 'my-recipes/*.yaml', or a "
            "bundled group (p2zoo recipes list)."
        )
    return paths


def _is_base(path: Path) -> bool:
    """Whether a recipe makes a base model; one that cannot be read is told of when it is planned."""
    try:
        return load_recipe(path).model.scratch is not None
    except P2Error:
        return False


def _base(path: Path, out: Path, overrides: Sequence[str], words: tuple[str, ...], corpus: Path | None) -> Item:
    """The item of a base model, in a folder with the name that its runs will log."""
    item = _item(path, out / "bases", overrides, corpus, path.stem)
    if item.planned is not None and item.planned.recipe.model.name != path.stem:
        why = (
            f"{path}: model.name: got {item.planned.recipe.model.name!r}, allowed is the file's own name, {path.stem}."
        )
        return replace(item, status=REFUSED, why=why)
    return replace(item, words=words)


def _item(path: Path, out: Path, overrides: Sequence[str], corpus: Path | None, name: str | None = None) -> Item:
    known, name = name, name or default_name(path)
    try:
        recipe = load_recipe(path, overrides, corpus)
        name = known or recipe.name
        folder = out / name
        planned = estimate(recipe)
        if not (folder / "run.json").is_file():
            return Item(name, path, folder, NEW, planned=planned)
        state = read_state(folder)
        if state.get("recipe_sha256") != recipe.sha256:
            raise P2Error(f"{folder}: holds a run of another recipe; choose another --out.")
    except P2Error as error:
        return Item(name, path, out / name, REFUSED, str(error))
    return Item(name, path, folder, FINISHED if state["status"] == FINISHED else UNFINISHED, planned=planned)


def carry_out(
    items: Sequence[Item], jobs: int, extra: Iterable[str], watch: Callable[[Item, str, dict[str, Any]], None]
) -> list[Outcome]:
    """Run what is not finished, `jobs` at a time, with `extra` words added to `p2zoo run`.

    `watch(item, status, row)` hears of every start and end, and of the newest row of each running item's log. SIGTERM
    stops the children, which save what they have, and raises Preempted.
    """
    done = {item.name: Outcome(item, item.status, item.why) for item in items if item.status in (FINISHED, REFUSED)}
    for outcome in done.values():
        watch(outcome.item, outcome.status, newest_row(outcome.item.folder))
    waiting = [item for item in items if item.name not in done]
    running: dict[str, tuple[Item, fresh.Process]] = {}
    with heed_sigterm() as stop, stop.training(), ExitStack() as stack:
        stack.callback(_stop, running)
        while waiting or running:
            if stop.asked:
                raise Preempted("sweep: stopped by SIGTERM; the same command goes on.")
            for item in [one for one in waiting if one.needs in done and done[one.needs].status != FINISHED]:
                waiting.remove(item)
                why = f"its base model {item.needs} was not made: {done[str(item.needs)].why}"
                done[item.name] = Outcome(item, FAILED, why)
                watch(item, FAILED, {})
            while len(running) < jobs and (ready := [one for one in waiting if not one.needs or one.needs in done]):
                item = ready[0]
                waiting.remove(item)
                running[item.name] = (item, _start(item, extra, stack))
                watch(item, RUNNING, {})
            time.sleep(_POLL_S)
            for name, (item, process) in list(running.items()):
                code = process.poll()
                watch(item, RUNNING, newest_row(item.folder))
                if code is not None:
                    del running[name]
                    done[name] = Outcome(item, FAILED, last_words(item.log, code)) if code else Outcome(item, FINISHED)
                    watch(item, done[name].status, newest_row(item.folder))
    return [done[item.name] for item in items]


def _start(item: Item, extra: Iterable[str], stack: ExitStack) -> fresh.Process:
    """The child for an item. It inherits nothing of this terminal."""
    with disk(item.log):
        item.log.parent.mkdir(parents=True, exist_ok=True)
        log: IO[bytes] = stack.enter_context(item.log.open("ab"))
    does = "pretrain" if item.pretrains else "run"
    words = [does, str(item.recipe), "--out", str(item.folder), *item.words, *extra]
    words += ["--resume"] if item.status == UNFINISHED else []
    return fresh.popen("zoo.cli:main", words, stdout=log, stderr=log)


def _stop(running: dict[str, tuple[Item, fresh.Process]]) -> None:
    """Ask children to stop, and wait while they save what they have."""
    for _, process in running.values():
        process.terminate()
    for _, process in running.values():
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()


def newest_row(folder: Path) -> dict[str, Any]:
    """The last whole row of a run's log, or {} while there is none."""
    try:
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError:
        return {}
    whole = [line for line in lines if line.endswith("\n")]
    return json.loads(whole[-1]) if whole else {}


def last_words(log: Path, code: int) -> str:
    """Why a child ended: its own error line, else its last line, else its exit code."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    how = f"ended with code {code}" if code > 0 else f"was killed by signal {-code}"
    said = errors[-1] if errors else (lines[-1] if lines else "it said nothing")
    return f"{how}: {said}"
