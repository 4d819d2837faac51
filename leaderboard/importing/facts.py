"""What a log does not say of itself: `Facts`, from options, a small YAML or Python, never guessed.

Losses are nats a token whatever the unit of the file, counts counts, rates shares of all parameters.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from leaderboard.errors import P2Error, unknown_name
from leaderboard.logs.contract import BY_NAME

UNITS = ("nats", "ppl", "bits")
PER = ("token", "byte")
CONTROL = "none"
_WORDS = {int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One run. `base` and `pruned` are folders with a config.json or Hub ids; n0 and n_pruned stand in for them.

    The fields below the blank line go into the log as they are (leaderboard/logs/contract.py says what each means).
    """

    tokens_per_step: int | None = None
    tokens_per_epoch: int | None = None
    base: str | None = None
    pruned: str | None = None
    unit: str = "nats"  # of the losses in the file
    per: str = "token"
    bytes_per_token: float | None = None  # of the held-out text, where losses are per byte

    method: str | None = None
    eval_data: str | None = None
    family: str | None = None
    n0: int | None = None
    n_pruned: int | None = None
    n0_nonembedding: int | None = None
    rate: float | None = None
    rate_nonembedding: float | None = None
    l0: float | None = None
    l_pruned: float | None = None
    contributor: str | None = None
    base_revision: str | None = None
    importance: str | None = None
    objective: str | None = None
    train_data: str | None = None
    seq_len: int | None = None
    batch_tokens: int | None = None
    lr_peak: float | None = None
    schedule: str | None = None
    optimizer: str | None = None
    precision: str | None = None
    packing: str | None = None
    warmup_tokens: int | None = None
    tokens_planned: int | None = None
    seed: int | None = None
    trainable_params: int | None = None
    eval_tokens: int | None = None
    vocab_size: int | None = None
    hardware: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("unit", UNITS), ("per", PER)):
            if getattr(self, name) not in allowed:
                raise unknown_name(name, getattr(self, name), allowed, "import")
        for name in ("tokens_per_step", "tokens_per_epoch", "bytes_per_token"):
            value = getattr(self, name)
            if value is not None and not (0 < value < math.inf):
                raise P2Error(f"import: {option(name)} is {value!r}; it must be above 0.")
        for field in fields(self):
            _in_range(field.name, getattr(self, field.name))

    def columns(self) -> dict[str, Any]:
        """What goes into the log as it is."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name in BY_NAME}


def _in_range(name: str, value: Any) -> None:
    """Refuse a fact that its column would not take, before anything is read."""
    column = BY_NAME.get(name)
    if column is None or value is None or column.kind == "text":
        return
    low, high = -math.inf if column.low is None else column.low, math.inf if column.high is None else column.high
    if not (low <= value <= high and math.isfinite(value)):
        hint = " Write 0.25 for 25 %." if column.unit == "share" else ""
        raise P2Error(f"import: {option(name)} is {value!r}; allowed is {low:g} to {high:g} ({column.meaning}).{hint}")


def facts_of(data: Mapping[str, Any]) -> Facts:
    """Facts by name, those at None left out. Raises P2Error on a name that is none and on a value of another type."""
    known = {field.name: next(k for k in (*get_args(field.type), field.type) if k) for field in fields(Facts)}
    for name in data:
        if name not in known:
            raise unknown_name("fact", name, known, "import")
    return Facts(**{name: _typed(name, value, known[name]) for name, value in data.items() if value is not None})


def _typed(name: str, value: Any, kind: Any) -> Any:
    """The value as its field has it: a whole number where a count is meant, never text for a number."""
    value = value.item() if hasattr(value, "item") else value
    if kind is float and type(value) is int:
        return float(value)
    if kind is int and type(value) is float and value.is_integer():
        return int(value)
    if type(value) is not kind:
        hint = " YAML reads 1e9 as text: write 1.0e+9 or 1000000000." if isinstance(value, str) else ""
        hint = " YAML reads 2:4 as a number: write '2:4'." if name == "method" else hint
        raise P2Error(f"import: {name} is {value!r}; it must be {_WORDS[kind]}.{hint}")
    return value


def option(name: str) -> str:
    """How a fact is named on a command line."""
    return f"--{name.replace('_', '-')}"
