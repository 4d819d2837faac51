"""From a recorded run to its curve: which column is what, how many tokens a row stands at, which losses in which unit.

Column names are data (`ROLES`); where they leave a choice the user makes it (`columns`, by option --map).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from leaderboard.errors import P2Error
from leaderboard.importing.facts import Facts, option
from leaderboard.importing.recorded import Recorded, plain_name
from leaderboard.laws.law import Array
from leaderboard.logs.findings import printable

ROLES: dict[str, tuple[str, ...]] = {  # plain names, the surest first
    "step": ("train_global_step", "global_step", "step", "steps", "iteration", "iter", "trainer_global_step"),
    "tokens": (
        "tokens", "tokens_seen", "num_tokens", "train_num_tokens", "eval_num_tokens", "num_input_tokens_seen",
        "train_num_input_tokens_seen", "n_tokens", "total_tokens", "consumed_tokens", "train_tokens",
    ),
    "epoch": ("epoch", "train_epoch"),
    "train_loss": ("loss", "train_loss", "training_loss"),
    "lr": ("learning_rate", "lr", "train_learning_rate", "train_lr"),
}  # fmt: skip
_SPLIT = r"(eval|evaluation|val|valid|validation|dev|test|heldout|held_out|holdout)"
_HELD_OUT = re.compile(rf"({_SPLIT}_(.+_)?(loss|ce|nll|cross_entropy)|(loss|nll)_{_SPLIT})")
_UNITS = {
    "ppl": re.compile(r"(.*_)?(ppl|perplexity|word_perplexity|token_perplexity)"),
    "bits": re.compile(r"(.*_)?(bpb|bpc|bpt|bits_per_byte|bits_per_token|bits_per_character|bits)"),
}
_OF_A_TRAINER = ("learning_rate", "grad_norm", "train_learning_rate", "train_grad_norm", "train_epoch")
MAPPED = ("step", "tokens", "epoch", "loss", "train_loss", "lr")


@dataclass(frozen=True)
class Curve:
    """Evaluations in the order of the file, shape (n,) each: `row` numbers rows of the recorded run, NaN = not said.

    `held_out` is the column the losses are from, `tokens_from` where the tokens are.
    """

    row: NDArray[np.int64]
    step: Array
    epoch: Array
    tokens: Array
    loss: Array
    held_out: str
    tokens_from: str

    def take(self, keep: NDArray[np.bool_]) -> "Curve":
        """The evaluations that `keep` marks."""
        columns = {name: getattr(self, name)[keep] for name in ("row", "step", "epoch", "tokens", "loss")}
        return replace(self, **columns)


def curve_of(run: Recorded, facts: Facts, columns: Mapping[str, str]) -> Curve:
    """The evaluations of a run, losses in nats a token. Raises P2Error naming what is missing and how to say it."""
    names = _columns(run, columns)
    held_out = names.get("loss") or _held_out(run, facts)
    row = run.named(held_out)
    at = {role: run.column(names[role])[row] if role in names else np.full(len(row), np.nan) for role in MAPPED[:3]}
    tokens, source = _tokens(run, names, facts, row, at)
    loss = _nats(run.column(held_out)[row], facts)
    return Curve(row, at["step"], at["epoch"], tokens, loss, held_out, source)


def beside(run: Recorded, columns: Mapping[str, str], curve: Curve) -> dict[str, Array]:
    """Mean training loss since the last evaluation, and the learning rate, at each, shape (n,); NaN where unsaid."""
    names = _columns(run, columns)
    out: dict[str, Array] = {}
    if (train := names.get("train_loss")) and train != curve.held_out and len(run.named(train)) > 1:
        trained = run.named(train)
        out["train_loss"] = _mean_between(trained, run.column(train)[trained], curve.row)
    if lr := names.get("lr"):
        rows = run.named(lr)
        last = np.searchsorted(rows, curve.row, side="right") - 1
        out["lr"] = np.where(last < 0, np.nan, run.column(lr)[rows[np.maximum(last, 0)]])
    return out


def _mean_between(rows: NDArray[np.int64], values: Array, ends: NDArray[np.int64]) -> Array:
    """Mean of the finite values at rows after the previous end, up to each end."""
    finite = np.isfinite(values)
    lot = np.searchsorted(ends, rows[finite], side="left")
    inside = lot < len(ends)
    count = np.bincount(lot[inside], minlength=len(ends))
    total = np.bincount(lot[inside], values[finite][inside], minlength=len(ends))
    with np.errstate(invalid="ignore"):
        mean: Array = total / count
    return mean


def _columns(run: Recorded, columns: Mapping[str, str]) -> dict[str, str]:
    """The column of each role: the one that was named, else the surest known name. The held-out loss has no default."""
    known: dict[str, list[str]] = {}
    for name in run.columns:
        known.setdefault(plain_name(name), []).append(name)
    chosen = {}
    for role, name in columns.items():
        if role not in MAPPED:
            raise P2Error(f"import: --map {role}={name}: unknown role {role!r}; known are {', '.join(MAPPED)}.")
        if name not in run.columns:
            raise P2Error(f"{run.name}: no column {printable(name)!r} with numbers; there are {listed(run)}.")
        chosen[role] = name
    for role, plain in ROLES.items():
        hit = next((known[p][0] for p in plain if p in known), None)
        if role not in chosen and hit is not None:
            chosen[role] = hit
    if "tokens" in chosen and not any(value > 0 for value in run.columns[chosen["tokens"]][1]):
        del chosen["tokens"]  # Trainer writes 0 unless it was told to count
    return chosen


def _held_out(run: Recorded, facts: Facts) -> str:
    """The one column of held-out losses in the unit that was said."""
    plain = {name: plain_name(name) for name in run.columns}
    units = {unit: [n for n, p in plain.items() if looks.fullmatch(p)] for unit, looks in _UNITS.items()}
    found = [n for n in units.get(facts.unit, []) if not plain[n].startswith("train")]
    found = found or [n for n, p in plain.items() if _HELD_OUT.fullmatch(p)]
    if not found and not _of_a_trainer(plain.values()):
        found = [n for n, p in plain.items() if p in ("loss", "ce", "nll", "cross_entropy")]
    if len(found) == 1:
        return found[0]
    if found:
        raise P2Error(
            f"{run.name}: several held-out losses: {', '.join(map(printable, sorted(found)))}. Say which by "
            f"--map loss={printable(sorted(found)[0])}."
        )
    if facts.unit == "nats" and (other := [n for names in units.values() for n in names]):
        unit = next(unit for unit, names in units.items() if other[0] in names)
        raise P2Error(
            f"{run.name}: no held-out loss in nats, but {printable(other[0])}. Say --unit {unit} to convert it."
        )
    raise P2Error(
        f"{run.name}: no held-out series: only training losses or none among {listed(run)}. Forecasts and laws are "
        "about a held-out text: evaluate on one as you train (Trainer: eval_strategy='steps'). "
        "If a column is one, name it by --map loss=COLUMN; so a training loss is taken too, and the log says so."
    )


def _of_a_trainer(plain: Iterable[str]) -> bool:
    """Whether these are a Trainer's columns, whose `loss` is the training loss."""
    return bool(set(plain) & set(_OF_A_TRAINER))


def is_training(name: str, run: Recorded) -> bool:
    """Whether a column named as the loss is a training loss."""
    plain = plain_name(name)
    ours = plain in ROLES["train_loss"] and _of_a_trainer([plain_name(n) for n in run.columns])
    return ours or plain.startswith("train")


def listed(run: Recorded, most: int = 12) -> str:
    """The columns of a run in words."""
    names = [printable(name)[:60] for name in list(run.columns)[:most]]
    return ", ".join(names) + (f" and {len(run.columns) - most} more" if len(run.columns) > most else "")


def _tokens(
    run: Recorded, names: Mapping[str, str], facts: Facts, row: NDArray[np.int64], at: Mapping[str, Array]
) -> tuple[Array, str]:
    """Tokens trained at each evaluation and where they are from: what was said, else a column that counts them."""
    if facts.tokens_per_step is not None:
        if np.isnan(at["step"]).all():
            raise P2Error(
                f"{run.name}: {option('tokens_per_step')} needs steps, and no evaluation has one among {listed(run)}. "
                "Name the column by --map step=COLUMN, or say --tokens-per-epoch where there are epochs."
            )
        return at["step"] * facts.tokens_per_step, "steps"
    if facts.tokens_per_epoch is not None:
        if np.isnan(at["epoch"]).all():
            raise P2Error(f"{run.name}: {option('tokens_per_epoch')} needs epochs; there are {listed(run)}.")
        return at["epoch"] * facts.tokens_per_epoch, "epochs"
    if "tokens" in names:
        tokens = run.column(names["tokens"])
        if np.isnan(tokens[row]).any() and "step" in names:  # counted in other rows than those evaluated
            tokens = _between(run.column(names["step"]), tokens)
        return tokens[row], names["tokens"]
    zero = [name for name in run.columns if plain_name(name) in ROLES["tokens"]]
    why = (
        f"{printable(zero[0])} is 0 in every row (Trainer counts only when told to)"
        if zero
        else "no column counts them"
    )
    raise P2Error(
        f"{run.name}: tokens a step are not known: {why}. Say --tokens-per-step: sequences a step (devices x batch "
        "x accumulation) times their tokens without padding; or name a column by --map tokens=COLUMN."
    )


def _between(step: Array, tokens: Array) -> Array:
    """Tokens at every step, linear between the rows that count them; NaN outside."""
    told = np.isfinite(step) & np.isfinite(tokens)
    if not told.any():
        return tokens
    order = np.argsort(step[told], kind="stable")
    return np.interp(step, step[told][order], tokens[told][order], left=np.nan, right=np.nan)


def _nats(loss: Array, facts: Facts) -> Array:
    """Losses in nats a token, from the unit that was said."""
    if facts.per == "byte" and facts.bytes_per_token is None:
        raise P2Error(
            "import: losses per byte become losses per token by the bytes a token of the held-out text has: give "
            f"{option('bytes_per_token')} (bytes of the text over its tokens)."
        )
    with np.errstate(all="ignore"):
        nats: Array = np.log(loss) if facts.unit == "ppl" else loss * (np.log(2) if facts.unit == "bits" else 1.0)
    return nats * facts.bytes_per_token if facts.per == "byte" and facts.bytes_per_token else nats
