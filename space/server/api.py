"""What programs may ask, over HTTP and MCP: eight typed functions, registered once. See README.md beside this file.

They only ask `leaderboard/` and put its answers into plain data. Losses are nats per token, rates shares of all
parameters, parameters and tokens counts. What cannot be answered is refused in a sentence.
"""

import functools
import inspect
import logging
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from leaderboard.errors import P2Error
from leaderboard.logs.check import MAX_BYTES
from leaderboard.planning.budget import MOST_TOKENS, Question
from leaderboard.planning.forecasting.answer import answer as forecast_answer
from leaderboard.planning.forecasting.forecast import forecast as look_ahead
from leaderboard.planning.gpus import check_offer
from leaderboard.planning.losses import check_losses
from leaderboard.planning.outlook import losses_at
from leaderboard.serving import as_json
from leaderboard.serving.judge import judged
from leaderboard.serving.models import snippet
from leaderboard.serving.runs import filter_runs
from leaderboard.serving.upload import MAX_BYTES as UPLOAD_BYTES
from leaderboard.serving.upload import as_dict, read_upload
from space.server.blocks import Refused
from space.server.store import Store
from space.server.uploads import decoded, place

logger = logging.getLogger(__name__)
MOST_NUMBER = 1e300
MOST_ROWS = 10_000
LEAST_TOKENS = 1e3
MOST_TOKEN_COUNTS = 1_000
MOST_TEXT = 300  # characters of a name or a search


def register(store: Store) -> None:
    """Add the functions to the Blocks that is being built."""
    for function in functions(store).values():
        gr.api(function, api_name=function.__name__, queue=False, api_visibility="public")


@dataclass(frozen=True)
class Functions:
    """What may be asked of the state that `store` holds at that moment."""

    store: Store

    def rank(self) -> dict[str, Any]:
        """Ranking of the scaling laws by how well they predict the slope of unseen loss curves (ASD), best first.

        Returns:
            `data` (source, revision, date, runs, quarantined, noise_floor) and `laws`, each with rank, score (its ASD
            over the best law's; 1 would win everywhere), score_90, wins (share of resamples won), rmse_heldout (nats
            per token), recommended, and its cells: group, track, status, asd (nats per billion tokens), rmse.

        Example:
            rank()
        """
        board = self.store.board
        table, cells = board.ranking
        floor = as_json.plain(board.floor)
        return {"data": as_json.data(board.logs) | {"noise_floor": floor}, "laws": as_json.ranking(table, cells)}

    def budget(
        self,
        family: str,
        method: str,
        rate: float,
        n0: float,
        l0: float,
        l_pruned: float | None = None,
        target_loss: float | None = None,
        excess: float | None = None,
        gain: float | None = None,
        eval_data: str | None = None,
        law: str | None = None,
        gpu: str | None = None,
        price: float | None = None,
    ) -> dict[str, Any]:
        """How many post-training tokens a pruned model needs. Give one goal at most: target_loss, excess or gain.

        Args:
            family: Model family, e.g. llama-3.
            method: Pruning method, e.g. depth or 2:4.
            rate: Share of all parameters removed, between 0 and 1; 0.25 removes a quarter.
            n0: Parameters before pruning, a count; 8e9 for 8B.
            l0: Held-out loss before pruning, in nats per token.
            l_pruned: Held-out loss right after pruning, in nats per token, when measured.
            target_loss: Goal: this held-out loss, in nats per token.
            excess: Goal: this many nats per token above l0.
            gain: Goal: the next doubling of tokens wins less than this many nats per token; 0.01 by default.
            eval_data: Held-out text of the losses; by default the one with most runs.
            law: Law that answers alone; by default several answer together.
            gpu: Also GPU-hours and cost on this GPU: h200, h100, a100, l40s or rtx-4090.
            price: US dollars a GPU-hour; by default a typical price.

        Returns:
            state (inside, beyond, too_far: the data cannot answer, and every number is null), tokens (null where the
            goal is unreachable), at_most (the goal is met at the fewest tokens that any run measured), tokens_80 and
            tokens_95 (intervals for a new run), loss (nats per token), status (reached, already_met, unreachable), law
            (`mixture` of several), weights (their shares), group, extrapolation (factors beyond the measured range, 1
            inside), recipe (schedule, peak_rate, batch, precision, text of the runs), evidence (published recoveries
            near it), gpu_hours, cost (US dollars), sentence, warning (how far outside) and why (sentences).

        Example:
            budget(family="llama-3", method="depth", rate=0.25, n0=34e6, l0=2.72, excess=0.05, gpu="h100")
        """
        asked = _question(family, method, rate, n0, l0, l_pruned, target_loss, excess, gain)
        gpu = check_offer(gpu, price)
        answer, _ = self.store.board.budget(asked, eval_data=eval_data, law=law, gpu=gpu, price=price)
        return typing.cast(dict[str, Any], as_json.plain(answer.as_dict()))

    def runs(
        self,
        search: str = "",
        family: str | None = None,
        method: str | None = None,
        base_model: str | None = None,
        contributor: str | None = None,
        rate_from: float | None = None,
        rate_to: float | None = None,
        limit: int = 100,
    ) -> dict[str, Any]:
        """Measured runs, newest first; every filter may be left out.

        Args:
            search: Text in a run's id, model, family, method, contributor or data sets.
            family: Only this model family, e.g. qwen-2.5.
            method: Only this pruning method, e.g. depth; none for controls.
            base_model: Only runs of this base model.
            contributor: Only runs of this Hub user.
            rate_from: Lowest rate, a share of all parameters.
            rate_to: Highest rate, a share of all parameters.
            limit: Most rows to return, 1 to 10,000.

        Returns:
            `data`, `found` (number of runs that match), `runs` (run_id, base_model, method, rate, n0, l0, l_pruned,
            tokens, loss, recovered and every other column of a run) and `note`: which filter leaves nothing.

        Example:
            runs(family="llama-3", rate_to=0.2, limit=5)
        """
        if not 1 <= limit <= MOST_ROWS:
            raise P2Error(f"runs: limit is {limit}; give 1 to {MOST_ROWS:,} rows.")
        board = self.store.board
        left = filter_runs(
            board.runs, search=search, family=family, method=method, base_model=base_model, contributor=contributor,
            rate_from=rate_from, rate_to=rate_to,
        )  # fmt: skip
        shown = as_json.rows(left.rows.head(limit))
        return {"data": as_json.data(board.logs), "found": len(left.rows), "runs": shown, "note": left.words or None}

    def models(self) -> dict[str, Any]:
        """Published models: losses in nats per token, what was recovered, whether on the Pareto front, how to load.

        Returns:
            `data` and `models`: model, revision, base_model, method, rate, parameters (non-zero), loss, recovered
            (share of the damage won back), tokens, gpu_hours, pareto and snippet (Python that loads it).

        Example:
            models()
        """
        board = self.store.board
        rows = as_json.rows(board.models)
        return {
            "data": as_json.data(board.logs),
            "models": [row | {"snippet": snippet(row["model"], row["revision"])} for row in rows],
        }

    def predict(
        self,
        family: str,
        method: str,
        rate: float,
        n0: float,
        l0: float,
        tokens: list[float],
        l_pruned: float | None = None,
        eval_data: str | None = None,
        law: str | None = None,
        level: float = 0.8,
    ) -> dict[str, Any]:
        """Held-out loss that a planned run is predicted to have at given token counts.

        Args:
            family: Model family, e.g. llama-3.
            method: Pruning method, e.g. depth or 2:4.
            rate: Share of all parameters removed, between 0 and 1.
            n0: Parameters before pruning, a count.
            l0: Held-out loss before pruning, in nats per token.
            tokens: Post-training token counts, 1e3 to 1e13 each, at most 1,000 of them.
            l_pruned: Held-out loss right after pruning, in nats per token, when measured.
            eval_data: Held-out text of the losses; by default the one with most runs.
            law: Law that answers alone; by default several answer together.
            level: Share of new runs whose loss falls within low and high, e.g. 0.8.

        Returns:
            law (`mixture` of several), weights (their shares), group, recipe (how the runs were trained), level, why
            (sentences) and `losses`: tokens, loss, low, high, state; losses in nats per token. low and high are null
            where there are too few runs for an interval, all three where the state is too_far.

        Example:
            predict(family="llama-3", method="depth", rate=0.25, n0=34e6, l0=2.72, tokens=[1e6, 1e7])
        """
        if len(tokens) > MOST_TOKEN_COUNTS:
            raise P2Error(f"predict: {len(tokens):,} token counts; give at most {MOST_TOKEN_COUNTS:,}.")
        if wrong := [count for count in tokens if not LEAST_TOKENS <= count <= MOST_TOKENS]:
            raise P2Error(f"predict: {wrong[0]:g} tokens; give counts from {LEAST_TOKENS:g} to {MOST_TOKENS:g}.")
        if not 0 < level < 1:
            raise P2Error(f"predict: level is {level}; it is a share between 0 and 1, 0.8 for 80 %.")
        asked = _question(family, method, rate, n0, l0, l_pruned)
        found = self.store.board.predictor(
            family, method, eval_data=eval_data, law=law, l_pruned_known=l_pruned is not None
        )  # fmt: skip
        check_losses(asked, found.rows, "predict")
        losses = as_json.rows(losses_at(found, asked, tokens, level))
        return {
            "law": found.law,
            "weights": found.named_weights(asked.curve(np.array(tokens[:1], dtype=float))),
            "group": found.group,
            "recipe": as_json.plain(found.recipe),
            "level": level,
            "why": list(found.why),
            "losses": losses,
        }

    def check_log(self, parquet_base64: str) -> dict[str, Any]:
        """Judge a run log before it is submitted: the same check that a pull request gets. Nothing is kept.

        Args:
            parquet_base64: The log, one parquet file of at most 5 MB, in base64.

        Returns:
            ok (whether it would be accepted), verdict (clean; unusual, which waits for a person; wrong) and findings:
            code, severity, where, got, allowed, fix.

        Example:
            check_log(base64.b64encode(open("log.parquet", "rb").read()).decode())
        """
        with decoded("parquet_base64", parquet_base64, MAX_BYTES, "check_log") as path, place():
            (report,) = judged([path], self.store.board.frame, ["log.parquet"])
        return {name: value for name, value in report.as_dict().items() if name != "path"}

    def import_log(
        self,
        file_base64: str,
        file_name: str = "log",
        tokens_per_step: float | None = None,
        tokens_per_epoch: float | None = None,
        method: str | None = None,
        base: str | None = None,
        n0: float | None = None,
        n_pruned: float | None = None,
        rate: float | None = None,
        family: str | None = None,
        l0: float | None = None,
        l_pruned: float | None = None,
        eval_data: str | None = None,
        unit: str | None = None,
        run: str | None = None,
        loss_column: str | None = None,
    ) -> dict[str, Any]:
        """Turn another program's training log into a checked run log, provenance `imported`. Nothing is kept.

        Nothing is guessed: what the file does not say is named in `missing`; call again with it.

        Args:
            file_base64: trainer_state.json, a log_history list, JSON lines, CSV, printed text, a trackio export; also
                gzipped; at most 20 MB, in base64.
            file_name: What messages call it.
            tokens_per_step: Tokens of one optimiser step, without padding.
            tokens_per_epoch: Tokens of the training text, where only epochs are logged.
            method: How the model was pruned, e.g. depth; none for a control.
            base: The model before pruning, by the id of a config that ships, e.g. meta-llama/Llama-3.2-1B.
            n0: Parameters before pruning, a count, in place of base.
            n_pruned: Parameters kept, a count.
            rate: Or the share of all parameters removed, between 0 and 1.
            family: Model family; by default the base's.
            l0: Held-out loss before pruning, in nats per token.
            l_pruned: Held-out loss right after pruning, in nats per token.
            eval_data: A name for the held-out text of the losses.
            unit: Unit of the file's losses: nats, ppl or bits.
            run: Which run, of a file that holds several.
            loss_column: Column of the held-out loss, where it is not known by its name.

        Returns:
            ok; missing (names of arguments), words (the same as a sentence), runs and columns (to choose from) where
            something is missing; else notes (code, words), rows, tokens and loss of the last row, and parquet_base64,
            the log, which forecast, check_log and `p2zoo check` read.

        Example:
            import_log(file_base64, tokens_per_step=65536, method="depth", n0=1.24e9, rate=0.25, eval_data="mine")
        """
        counts = {name: value if value is None else round(value) for name, value in (
            ("tokens_per_step", tokens_per_step), ("tokens_per_epoch", tokens_per_epoch), ("n0", n0),
            ("n_pruned", n_pruned),
        )}  # fmt: skip
        facts = counts | {
            "method": method, "base": base, "rate": rate, "family": family, "l0": l0, "l_pruned": l_pruned,
            "eval_data": eval_data, "unit": unit,
        }  # fmt: skip
        with decoded("file_base64", file_base64, UPLOAD_BYTES, "import_log") as path, place():
            return as_dict(read_upload(path, file_name, facts, run, loss_column))

    def forecast(
        self,
        log_base64: str,
        at: list[float] | None = None,
        target_loss: float | None = None,
        excess: float | None = None,
        gain: float | None = None,
        gpu: str | None = None,
        price: float | None = None,
    ) -> dict[str, Any]:
        """Where a run is going: its rows so far and the laws of other runs, as one curve with its band.

        Args:
            log_base64: log.parquet or log.jsonl of a run, finished or not, or what import_log gave; in base64.
            at: Token counts at which the loss is wanted; by default the planned budget, or twice and ten times so far.
            target_loss: Goal: this held-out loss, in nats per token.
            excess: Goal: this many nats per token above the run's l0.
            gain: Goal: the next doubling of tokens wins less than this many nats per token.
            gpu: Also GPU-hours and cost on this GPU: h200, h100, a100, l40s or rtx-4090.
            price: US dollars a GPU-hour; by default a typical price.

        Returns:
            state (inside, beyond, too_far: no number), now (tokens, loss, rows), `at`: tokens, loss, low_80, high_80,
            low_95, high_95 (one evaluation of this run), state; goal (tokens, more_tokens, tokens_80, tokens_95,
            gpu_hours, cost), doubling (what training as long again wins, in nats, and costs), weights of the laws,
            run (what is known of it) and why (sentences).

        Example:
            forecast(import_log(...)["parquet_base64"], at=[1e9])
        """
        if at and len(at) > MOST_TOKEN_COUNTS:
            raise P2Error(f"forecast: {len(at):,} token counts; give at most {MOST_TOKEN_COUNTS:,}.")
        if at and (wrong := [count for count in at if not LEAST_TOKENS <= count <= MOST_TOKENS]):
            raise P2Error(f"forecast: {wrong[0]:g} tokens; give counts from {LEAST_TOKENS:g} to {MOST_TOKENS:g}.")
        with decoded("log_base64", log_base64, UPLOAD_BYTES, "forecast") as path, place():
            upload = read_upload(path, "the log", {})
            if upload.table is None:
                raise P2Error("forecast: this is another program's log; turn it into a run log by import_log first.")
            board = self.store.board
            ahead = look_ahead(board.logs.frame, upload.frame)
        told = forecast_answer(ahead, at or (), target_loss, excess, gain, gpu, price)
        return {"data": as_json.data(board.logs)} | typing.cast(dict[str, Any], as_json.plain(told))


def functions(store: Store) -> dict[str, Callable[..., Any]]:
    """All by name, refusing in words."""
    asked = Functions(store)
    every = (
        asked.rank, asked.budget, asked.runs, asked.models, asked.predict, asked.check_log, asked.import_log,
        asked.forecast,
    )  # fmt: skip
    return {function.__name__: in_words(function) for function in every}


def _question(*known: Any) -> Question:
    names = ("family", "method", "rate", "n0", "l0", "l_pruned", "target_loss", "excess", "gain")
    return Question(**dict(zip(names, known, strict=False)))


def in_words(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arguments held to their types, and everything that goes wrong said in a sentence."""
    parameters = inspect.signature(function).parameters
    hints = typing.get_type_hints(function)

    @functools.wraps(function)
    def asked(*values: Any, **named: Any) -> Any:
        given = dict(zip(parameters, values, strict=False)) | named
        try:
            typed = {name: _typed(function.__name__, name, value, hints[name]) for name, value in given.items()}
            return function(**typed)
        except P2Error as error:
            raise Refused(str(error)) from None
        except Exception:
            logger.exception("%s", function.__name__)
            raise Refused(f"{function.__name__}: this could not be answered; the error is in the log.") from None

    return asked


KINDS = {str: "a text", float: "a finite number", int: "a whole number", list[float]: "a list of finite numbers"}


def _typed(where: str, name: str, value: Any, hint: Any) -> Any:
    """`value` as the parameter's type, or P2Error. JSON knows one kind of number: 3 is a float too, 3.0 an int."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if type(None) in kinds and (value is None or value == ""):  # an empty form field
        return None
    kind = kinds[0]
    if kind is str and isinstance(value, str):
        if not name.endswith("_base64") and len(value) > MOST_TEXT:
            raise P2Error(f"{where}: {name} is {len(value):,} characters long; at most {MOST_TEXT}.")
        if not value.isascii() and value != value.encode("utf-8", "replace").decode():
            raise P2Error(f"{where}: {name} holds half a surrogate pair, which is no text.")
        return value
    if kind == list[float] and isinstance(value, list) and value:
        return [_typed(where, f"{name}[{i}]", one, float) for i, one in enumerate(value)]
    number = kind in (float, int) and isinstance(value, int | float) and not isinstance(value, bool)
    if number and abs(value) < MOST_NUMBER and (kind is float or value == int(value)):  # not NaN, not infinity
        return kind(value)
    got = repr(value) if value is None or isinstance(value, int | float | str) else type(value).__name__
    raise P2Error(f"{where}: {name} is {got[:60]}; it must be {KINDS[kind]}.")
