"""Which peak rate: short runs at several, half of them dropped each round, the rest going on for twice the tokens.

A round trains every rate left on the same text, for a budget that doubles; the better half, by held-out loss, goes on.
Where the schedule is constant a run is extended, as `--resume` extends any; a rate that decays has come to rest at the
end of its budget, so the next round trains anew. All runs are ordinary ones with logs of their own, in a folder of
theirs: rates that are no good should enter no fit. Same command again goes on.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leaderboard.errors import P2Error, RunFailed
from zoo.estimate.dry_run import estimate
from zoo.files import disk, write_atomic
from zoo.recipe.files import load_recipe, to_yaml
from zoo.recipe.spec import Recipe
from zoo.run.folder import FINISHED, read_state
from zoo.sweep.sweep import FAILED, NEW, UNFINISHED, Item, Outcome, carry_out

TIMES = (0.25, 0.5, 1.0, 2.0, 4.0)  # the recipe's own peak rate
SHARE = 0.1  # of the recipe's tokens: the last round, unless it is told
STEADY = "constant"
_LEAST = 2  # steps of the first round

Watch = Callable[[Item, str, dict[str, Any]], None]


@dataclass(frozen=True)
class Tuning:
    """What is tried: `recipe` at `rates`, in rounds of `tokens`, with `sets` on top; `path` and `out` are places."""

    recipe: Recipe
    path: Path
    out: Path
    rates: tuple[float, ...]
    tokens: tuple[int, ...]
    sets: tuple[str, ...] = ()
    corpus: Path | None = None

    @property
    def trained(self) -> int:
        """Tokens that all rounds train on together, where no run fails."""
        total, before, alive = 0, 0, len(self.rates)
        for tokens in self.tokens:
            total += alive * (tokens - (before if self.extends else 0))
            before, alive = tokens, -(-alive // 2)
        return total

    @property
    def extends(self) -> bool:
        """Whether the runs of a round go on in the next."""
        return self.recipe.train.schedule == STEADY


def plan_tuning(
    path: Path,
    out: Path,
    rates: Sequence[float] = (),
    tokens: float | None = None,
    sets: Sequence[str] = (),
    corpus: Path | None = None,
) -> Tuning:
    """Rates and rounds for a recipe. P2Error for what cannot be tried, before anything is."""
    recipe = load_recipe(path, sets, corpus)
    train = recipe.train
    chosen = tuple(sorted(rates or (train.lr_peak * times for times in TIMES)))
    if len(chosen) < 2 or len(set(chosen)) < len(chosen) or not all(0 < rate < 1 for rate in chosen):
        told = ", ".join(f"{rate:g}" for rate in chosen)
        raise P2Error(f"--rates: got {told}, allowed are two or more different rates in (0, 1), e.g. 1e-4,3e-4,1e-3.")
    rounds = math.ceil(math.log2(len(chosen)))
    last = tokens or SHARE * train.planned_tokens
    step = train.batch_tokens
    budgets = tuple(round(last / 2 ** (rounds - 1 - number) / step) * step for number in range(rounds))
    least = (-(-train.warmup_tokens // step) + _LEAST) * step * 2 ** (rounds - 1)
    if budgets[0] < (-(-train.warmup_tokens // step) + _LEAST) * step:
        raise P2Error(
            f"--tokens: got {last:,.0f} for the last of {rounds} rounds, whose first would train {budgets[0]:,}: less "
            f"than {_LEAST} steps after the warm-up of {train.warmup_tokens:,}; allowed is {least:,} or more, or fewer "
            "--rates."
        )
    tuning = Tuning(recipe, path, out, chosen, budgets, tuple(sets), corpus)
    estimate(_at(tuning, chosen[0], budgets[-1]))
    return tuning


def carry_out_tuning(tuning: Tuning, jobs: int, watch: Watch) -> dict[str, Any]:
    """Run all rounds, write tune.json and winner.yaml, and return what they say. RunFailed where every rate failed."""
    alive, rows, best = list(tuning.rates), list[dict[str, Any]](), math.nan
    for number, tokens in enumerate(tuning.tokens, 1):
        outcomes = carry_out([_item(tuning, rate, tokens) for rate in alive], jobs, (), watch)
        losses = {rate: _loss(tuning, one, tokens) for rate, one in zip(alive, outcomes, strict=True)}
        kept = sorted((rate for rate in alive if math.isfinite(losses[rate])), key=losses.__getitem__)
        kept = kept[: 1 if number == len(tuning.tokens) else -(-len(alive) // 2)]
        for rate, one in zip(alive, outcomes, strict=True):
            loss = losses[rate] if math.isfinite(losses[rate]) else None
            row = {"round": number, "tokens": tokens, "lr_peak": rate, "loss": loss, "kept": rate in kept}
            rows.append(row | {"folder": str(one.item.folder), "why": one.why or None})
        if not kept:
            raise RunFailed(f"tune: no rate of round {number} came to its end: {outcomes[0].why}")
        alive, best = sorted(kept), losses[kept[0]]
        if len(alive) == 1:
            break
    return _written(tuning, rows, alive[0], best)


def _written(tuning: Tuning, rows: list[dict[str, Any]], winner: float, loss: float) -> dict[str, Any]:
    recipe = replace(tuning.recipe, train=replace(tuning.recipe.train, lr_peak=winner))
    object.__setattr__(recipe, "folder", tuning.recipe.folder)
    tried = [row["lr_peak"] for row in rows if row["round"] == 1 and row["loss"] is not None]
    edge = {min(tried): "lowest", max(tried): "highest"}.get(winner) if len(tried) > 1 else None
    said = {
        "recipe": tuning.recipe.name,
        "lr_peak": winner,
        "loss": loss,
        "tokens": rows[-1]["tokens"],
        "edge": edge,
        "winner": str(tuning.out / "winner.yaml"),
        "runs": rows,
    }
    with disk(tuning.out):
        write_atomic(tuning.out / "winner.yaml", to_yaml(recipe, tuning.out))
        write_atomic(tuning.out / "tune.json", json.dumps(said, indent=2, allow_nan=False) + "\n")
    return said


def _at(tuning: Tuning, rate: float, tokens: int) -> Recipe:
    return load_recipe(tuning.path, [*tuning.sets, *_sets(rate, tokens)], tuning.corpus)


def _sets(rate: float, tokens: int) -> tuple[str, ...]:
    return (f"train.lr_peak={rate!r}", f"train.tokens={tokens}")


def _item(tuning: Tuning, rate: float, tokens: int) -> Item:
    """The run of a rate in a round, and how it stands."""
    name = f"lr-{rate:g}" + ("" if tuning.extends else f"-{tokens}")
    folder = tuning.out / name
    words = [word for change in (*tuning.sets, *_sets(rate, tokens)) for word in ("--set", change)]
    words += ["--corpus", str(tuning.corpus)] if tuning.corpus else []
    words += ["--keep-optimizer"] if tuning.extends else []
    status = NEW
    if (folder / "run.json").is_file():
        status = FINISHED if _reached(folder, tokens) is not None else UNFINISHED
    recipe = _at(tuning, rate, tokens)
    return Item(name, tuning.path, folder, status, planned=estimate(recipe), words=tuple(words))


def _reached(folder: Path, tokens: int) -> float | None:
    """The held-out loss at the end of a round, once a run has come there."""
    state = read_state(folder)
    stages = (state.get("extends") or {}).get("stages", ())
    if state["status"] != FINISHED and tokens not in stages:
        return None
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return next((row["loss"] for row in map(json.loads, lines) if row["tokens"] >= tokens), None)


def _loss(tuning: Tuning, outcome: Outcome, tokens: int) -> float:
    loss = None if outcome.status == FAILED else _reached(outcome.item.folder, tokens)
    return math.inf if loss is None else loss
