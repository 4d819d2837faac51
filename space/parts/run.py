"""One run as people see it: where it is from, what it says, and its curve against what a law predicts."""

import json
import os
from typing import Any
from urllib.parse import quote

import plotly.graph_objects as go

from leaderboard import words
from leaderboard.logs.contract import nats_per_byte
from leaderboard.logs.frame import Logs
from leaderboard.serving.board import Board
from space.parts import figures
from space.parts.table import facts

HUB = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"  # a mirror's links lead to the mirror


def told(board: Board, name: str, back: str = "curves") -> str:
    """A run's facts as HTML; what a log says is shown as text. `back` is the list that it was opened from."""
    if not name:
        return ""
    rows = board.run(name)
    if rows.empty:
        return f'<p class="warning" role="alert">No run {words.text(name)} is on this board.</p>'
    last = rows.iloc[-1]
    run_id = str(last["run_id"])
    losses = ", ".join(words.loss(last[name]) for name in ("l0", "l_pruned", "loss"))
    per_byte = nats_per_byte(rows.tail(1)).iloc[0]
    model = last["model_repo"]
    given = [
        ("Base model", words.text(last["base_model"])), ("at commit", _short(last["base_revision"])),
        ("Method", f"{words.text(last['method'])}, {words.text(last['importance'])}"),
        ("Rate", words.share(last["rate"])),
        ("Parameters", f"{words.count(last['n0'])} to {words.count(last['n_pruned'])}"),
        ("Before, right after, last", losses),
        ("Last, nats per byte", words.NONE if words.missing(per_byte) else words.loss(per_byte)),
        ("Tokens", f"{words.count(last['tokens'])} of {words.count(last['tokens_planned'])} planned"),
        ("Learning rate", f"{last['lr_peak']:g}, {words.text(last['schedule'])}"),
        ("Train text", words.text(last["train_data"])), ("Held-out text", words.text(last["eval_data"])),
        ("Precision", words.text(last["precision"])), ("Seed", str(int(last["seed"]))),
        ("Contributor", words.text(last["contributor"])), ("Date", words.day(last["created_at"])),
        ("Hardware", words.text(last["hardware"])), ("Speed", f"{words.count(last['tokens_per_second'])} tokens/s"),
        ("Software", _software(last["software"])), ("Recipe", _short(last["recipe_sha256"])),
        ("Model", words.NONE if words.missing(model) else _link(str(model), str(model))),
        ("Log", _log(board.logs, str(last["contributor"]), run_id)),
    ]  # fmt: skip
    left = f'<p><a href="{words.text(back)}">Back to all runs</a></p>'
    return f"<h2>Run <code>{words.text(run_id)}</code></h2>{left}{facts(given)}"


def picture(board: Board, name: str, law: str) -> tuple[go.Figure | None, str]:
    """The plot and its caption; no plot where there is no such run, or none of its rows is trained."""
    rows = board.run(name)
    if not (rows["tokens"] > 0).any():
        return None, ""
    caption = f"This run as measured and as {law}, fitted to all runs of its kind, predicts it; below, the difference."
    return figures.one_run(board.predicted(rows, law)), f"<p>{words.text(caption)}</p>"


def _log(logs: Logs, contributor: str, run_id: str) -> str:
    """The log as a file, and where it stands on the Hub, at the commit that is served, with its pull requests."""
    own = f"download/log/{quote(contributor, safe='')}/{quote(run_id, safe='')}"
    files = " · ".join(f'<a href="{own}.{kind}">log.{kind}</a>' for kind in ("parquet", "csv"))
    if logs.dataset is None:
        return files
    at = _link(f"datasets/{logs.dataset}/blob/{logs.revision}/runs/{contributor}/{run_id}.parquet", "on the Hub")
    return f"{files} · {at} · {_link(f'datasets/{logs.dataset}/discussions', 'pull requests')}"


def _link(path: str, label: str) -> str:
    return f'<a href="{HUB}/{words.text(path)}">{words.text(label)}</a>'


def _short(value: Any) -> str:
    return words.NONE if words.missing(value) else f"<code>{words.text(str(value)[:12])}</code>"


def _software(value: Any) -> str:
    try:
        packages = json.loads(value)
        return ", ".join(f"{words.text(k)} {words.text(v)}" for k, v in packages.items()) or words.NONE
    except (TypeError, ValueError, AttributeError):  # not what the contract says
        return words.text(value)
