"""The model card of a pruned, post-trained model: made from a finished run, the same text every time.

Its metadata hold the numbers for programs (`numbers_of` reads them back), its text, card.md.jinja, the same for people.
Losses are nats per token on the held-out text, rates shares of all parameters.
"""

import json
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined, Template

from leaderboard.errors import P2Error
from leaderboard.logs.hub_errors import link
from leaderboard.logs.methods import METHODS, parts_of
from zoo import front_matter
from zoo.loads.check import words
from zoo.publish.benchmarks import measured
from zoo.publish.licences import Licence
from zoo.run.finished import FinishedRun, weights_sha256

KEY = "p2zoo"  # of the metadata that are ours
TAG = "p2zoo"
ENGLISH = ("HuggingFaceFW/fineweb-edu", "DKYoon/SlimPajama-6B")  # data sets of text that are in English
PAPER = "arxiv:2411.10272"  # as a tag; the Hub links a repository to the paper by it


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What a card claims. `loss` is that of the published weights; `logs` the data set with the run's log."""

    run_id: str
    method: str
    rate: float
    n0: int
    n_pruned: int
    l0: float
    l_pruned: float
    loss: float
    tokens: int
    eval_data: str
    eval_data_revision: str | None
    weights_sha256: str
    logs: str | None = None


def numbers(run: FinishedRun, logs: str | None) -> Numbers:
    """The numbers of a run."""
    same = ("method", "rate", "n0", "n_pruned", "l0", "l_pruned", "eval_data", "eval_data_revision")
    return Numbers(
        run_id=run.run_id,
        loss=run.loss,
        tokens=run.curve[-1]["tokens"],
        weights_sha256=weights_sha256(run.model),
        logs=logs,
        **{name: run.columns[name] for name in same},
    )


def numbers_of(card: str, where: str) -> Numbers:
    """The numbers in a card. Raises P2Error where there are none of ours."""
    try:
        data = front_matter.metadata(card).get(KEY, {})
        given = {f.name: data[f.name] for f in fields(Numbers) if f.name in data}
        found = Numbers(**given)
    except (TypeError, ValueError) as error:
        raise P2Error(
            f"{where}: its card is none of p2zoo's; only models of `p2zoo publish` can be checked."
        ) from error
    wrong = [name for name, kind in get_type_hints(Numbers).items() if not _is(getattr(found, name), kind)]
    if wrong:
        raise P2Error(f"{where}: its card has something else than the value of {', '.join(wrong)}.")
    return found


def _is(value: Any, kind: Any) -> bool:
    """Whether a value from YAML has a type; a whole number is a float too, a truth value is no number."""
    return isinstance(value, int | float if kind is float else kind) and not isinstance(value, bool)


def render(run: FinishedRun, repo: str, licence: Licence, claimed: Numbers, pull: str | None = None) -> str:
    """The README.md of model repository `repo`; `pull` is the address of the log's pull request, once there is one."""
    head = metadata(run, repo, licence, claimed).to_yaml(line_break="\n")
    text = _template().render(
        run=run,
        c=run.columns,
        repo=repo,
        licence=licence,
        claimed=claimed,
        pull=pull,
        methods=run.columns["method"].split("+"),
        says={name: row.sentence for name, row in METHODS.items()},
        sources=run.state.get("loss_by_source") or {},
        sources_before=run.state.get("l0_by_source") or {},
        scores=_scores(run, claimed),
        link=link,
        software=json.loads(run.columns["software"] or "{}"),
        loads=words(run.model, run.state, claimed.weights_sha256),
        peak_memory=run.state.get("peak_memory_bytes"),
    )
    return f"---\n{head}\n---\n\n{text}"


def metadata(run: FinishedRun, repo: str, licence: Licence, claimed: Numbers) -> ModelCardData:
    """The metadata, through the Hub's own classes."""
    run_, train = run.columns, run.recipe.data.train
    result = EvalResult(
        task_type="text-generation",
        dataset_type=run.recipe.data.heldout.dataset or "text",
        dataset_name=run_["eval_data"],
        dataset_revision=run_["eval_data_revision"],
        metric_type="loss",
        metric_name="held-out loss, nats per token",
        metric_value=claimed.loss,
    )
    ours: dict[str, Any] = {KEY: {name: value for name, value in asdict(claimed).items() if value is not None}}
    return ModelCardData(
        license=licence.id,
        license_name=licence.card_name,
        license_link=licence.link if licence.card_name else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=None if run.pretrained else run_["base_model"],
        base_model_relation=None if run.pretrained else "finetune",
        datasets=[part.dataset for part in train.parts if part.dataset] or None,
        tags=[
            TAG,
            PAPER,
            *(["pretrained"] if run.pretrained else ["pruning", "pruned", *_method_tags(run_["method"])]),
        ],
        language=["en"] if all(part.dataset in ENGLISH for part in train.parts) else None,
        model_name=repo.split("/")[-1],
        eval_results=[result, *_task_results(run, claimed)],
        **ours,
    )


def _task_results(run: FinishedRun, claimed: Numbers) -> list[EvalResult]:
    """Benchmarks for the model-index."""
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=task["dataset"] or name,
            dataset_name=name,
            metric_type=metric,
            metric_name=f"{metric}, {task['shots']}-shot",
            metric_value=number["value"],
        )
        for name, task, metric, number in _scores(run, claimed)
    ]


def _scores(run: FinishedRun, claimed: Numbers) -> list[tuple[str, dict[str, Any], str, dict[str, Any]]]:
    """Benchmarks measured on these weights: task, what it is, metric, its number."""
    return [
        (name, task, metric, number)
        for name, task in measured(run.state, claimed.weights_sha256).items()
        for metric, number in task["metrics"].items()
    ]


@cache
def _template() -> Template:
    """The card's text, beside this file. Markdown: no escaping, strangers' words go through `code`."""
    page = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    page.filters |= {"form": format, "code": _code}
    return page.from_string(Path(__file__).with_name("card.md.jinja").read_text(encoding="utf-8"))


def _code(text: str) -> str:
    """Any text as code in a table."""
    return f"`{' '.join(text.split()).replace('`', chr(39)).replace('|', '/')}`"


def _method_tags(method: str) -> list[str]:
    return [METHODS[part].tag for part in parts_of(method) if part in METHODS]
