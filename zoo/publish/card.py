"""The model card of a pruned, post-trained model: made from a finished run, the same text every time.

Its metadata hold the numbers for programs (`numbers_of` reads them back), its text the same for people. Losses are
nats per token on the held-out text, rates shares of all parameters.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, get_type_hints

from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml

from leaderboard.errors import P2Error
from zoo.publish.benchmarks import measured
from zoo.publish.licences import Licence
from zoo.run.finished import FinishedRun, weights_sha256

KEY = "p2zoo"  # of the metadata that are ours
TAG = "p2zoo"
TASK = "heldout_loss"  # in .eval_results


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
    data = ModelCard(card, ignore_metadata_errors=True).data.to_dict().get(KEY)
    try:
        given = {f.name: data[f.name] for f in fields(Numbers) if f.name in data}
        found = Numbers(**given)
    except TypeError as error:
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
    parts = (
        _what(run, repo, licence),
        _table(run, claimed),
        *_tasks(run),
        _use(run, repo),
        _recipe(run),
        _origin(run, licence, claimed, pull),
    )
    return f"---\n{head}\n---\n\n" + "\n\n".join(parts) + "\n"


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
        datasets=[train.dataset] if train.dataset else None,
        tags=[TAG, "pretrained"] if run.pretrained else [TAG, "pruning", "pruned", *_method_tags(run_["method"])],
        model_name=repo.split("/")[-1],
        eval_results=[result, *_task_results(run)],
        **ours,
    )


def eval_results(run: FinishedRun, claimed: Numbers) -> list[dict[str, Any]]:
    """Entries for `.eval_results/*.yaml`: under the held-out data set, or the log data set where the text is a file."""
    dataset = run.recipe.data.heldout.dataset
    benchmark = dataset or claimed.logs
    if benchmark is None:
        return []
    entry = EvalResultEntry(
        dataset_id=benchmark,
        task_id=TASK,
        value=claimed.loss,
        dataset_revision=claimed.eval_data_revision if dataset else None,
        date=run.columns["created_at"].isoformat(),
        notes=f"nats per token on {claimed.eval_data}, {run.columns['eval_tokens']} tokens; run {claimed.run_id}",
    )
    return eval_result_entries_to_yaml([entry])


def _task_results(run: FinishedRun) -> list[EvalResult]:
    """Benchmarks for the model-index."""
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=one["dataset"] or name,
            dataset_name=name,
            metric_type=metric,
            metric_name=f"{metric}, {one['shots']}-shot",
            metric_value=number["value"],
        )
        for name, one in measured(run.state, run.model).items()
        for metric, number in one["metrics"].items()
    ]


def _tasks(run: FinishedRun) -> list[str]:
    """Benchmarks as a table, where they were measured on these weights."""
    rows = [
        (_code(name), str(one["version"]), str(one["shots"]), f"{one['samples']:,}", metric, _with_error(number))
        for name, one in measured(run.state, run.model).items()
        for metric, number in one["metrics"].items()
    ]
    heads = ("task", "version", "shots", "samples", "metric", "value")
    title = f"## Benchmarks\n\nMeasured with lm-eval {run.state['tasks']['lm_eval']}:" if rows else ""
    return [title, _markdown(heads, rows)] if rows else []


def _with_error(number: dict[str, Any]) -> str:
    error = "" if number["stderr"] is None else f" ± {number['stderr']:.4f}"
    return f"{number['value']:.4f}{error}"


def _method_tags(method: str) -> list[str]:
    return [{"2:4": "2of4-sparse"}.get(part, f"{part}-pruned") for part in method.split("+")]


def _what(run: FinishedRun, repo: str, licence: Licence) -> str:
    """Title, one paragraph, and what the licence wants shown."""
    c = run.columns
    if run.pretrained:
        return (
            f"# {repo.split('/')[-1]}\n\nA {c['family']}-shaped model of {c['n0']:,} parameters, pretrained by p2zoo "
            f"from random weights on {c['tokens_planned']:,} tokens of {c['train_data']}: a base model for experiments "
            "with pruning. It is no assistant."
        )
    how = {"depth": "whole layers were removed", "width": "every layer was made narrower"}
    how |= {"2:4": "of every four neighbouring weights in the attention and MLP matrices two are zero"}
    how |= {"unstructured": "single weights of the attention and MLP matrices are zero"}
    methods = " and ".join(how.get(part, part) for part in c["method"].split("+"))
    lines = [
        f"# {repo.split('/')[-1]}",
        f"{_base_link(c['base_model'])} after pruning ({c['method']}: {methods}; "
        f"{c['rate']:.1%} of all parameters) and post-training on {c['tokens_planned']:,} tokens: a run of p2zoo, "
        "which asks how many post-training tokens a pruned model needs. It is an experiment, no assistant.",
    ]
    if licence.shown:
        lines.insert(1, f"**{licence.shown}**")
    return "\n\n".join(lines)


def _base_link(base: str) -> str:
    return f"[{base}](https://huggingface.co/{base})" if "/" in base else base


def _table(run: FinishedRun, claimed: Numbers) -> str:
    c, damage = run.columns, claimed.l_pruned - claimed.l0
    tokens = f"{c['eval_tokens']:,}" if c["eval_tokens"] else ""
    if run.pretrained:
        rows = [
            ("parameters", f"{c['n0']:,}"),
            ("training tokens", f"{claimed.tokens:,}"),
            ("peak learning rate, schedule", f"{c['lr_peak']:g}, {c['schedule']}"),
        ]
        heads: tuple[str, ...] = ("held-out text", "tokens", "random weights", "this model")
        shown = (f"`{c['eval_data']}`", tokens, f"{claimed.l0:.4f}", f"**{claimed.loss:.4f}**")
        return _numbers(run, rows, heads, shown, "training")
    won = f"{(claimed.l_pruned - claimed.loss) / damage:.1%}" if damage > 0 else ""
    part = f", for {c['method'].split('+')[0]} alone" if "+" in c["method"] else ""
    asked = "" if c["rate_requested"] is None else f" ({c['rate_requested']:.1%} asked for{part})"
    rows = [
        ("parameters before", f"{c['n0']:,}"),
        ("parameters kept, zeros not counted", f"{c['n_pruned']:,}"),
        ("pruning rate, all parameters", f"{c['rate']:.2%}{asked}"),
        ("pruning rate without embeddings", f"{c['rate_nonembedding']:.2%}"),
        ("post-training tokens", f"{claimed.tokens:,}"),
        ("share of the damage won back", won),
    ]
    heads = ("held-out text", "tokens", "before pruning (l0)", "pruned", "this model")
    losses = (f"{claimed.l0:.4f}", f"{claimed.l_pruned:.4f}", f"**{claimed.loss:.4f}**")
    return _numbers(run, rows, heads, (f"`{c['eval_data']}`", tokens, *losses), "post-training")


def _numbers(
    run: FinishedRun, rows: Iterable[Sequence[str]], heads: Sequence[str], losses: Sequence[str], of: str
) -> str:
    return "\n\n".join(
        [
            "## Numbers",
            _markdown(("", ""), rows),
            "Held-out loss, nats per token:",
            _markdown(heads, [losses]),
            *_by_source(run),
            f"![Held-out loss against {of} tokens](curve.png)",
        ]
    )


def _by_source(run: FinishedRun) -> list[str]:
    """The held-out loss by source of the text, where the run measured it."""
    before, now = (run.state.get(name) or {} for name in ("l0_by_source", "loss_by_source"))
    rows = [
        (_code(name), f"{one['tokens']:,}", f"{before[name]['loss']:.4f}", f"{one['loss']:.4f}")
        for name, one in now.items()
        if name in before
    ]
    first = "random weights" if run.pretrained else "before pruning (l0)"
    heads = ("source", "tokens predicted", first, "this model")
    return ["By source of the held-out text:", _markdown(heads, rows)] if rows else []


def _code(text: str) -> str:
    """Any text as code in a table."""
    return f"`{' '.join(text.split()).replace('`', chr(39)).replace('|', '/')}`"


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _use(run: FinishedRun, repo: str) -> str:
    code = f'''## How to load

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{repo}")
tokenizer = AutoTokenizer.from_pretrained("{repo}")
```

`p2zoo pull {repo} --verify` downloads it and measures the loss again.'''
    return code + _SPARSE if "2:4" in run.columns["method"].split("+") else code


_SPARSE = """

The zeros are stored as in any dense checkpoint. To use the 2:4 kernels of a GPU that has them (PyTorch):

```python
import torch

for name, linear in model.bfloat16().cuda().named_modules():
    if isinstance(linear, torch.nn.Linear) and name != "lm_head":
        linear.weight = torch.nn.Parameter(torch.sparse.to_sparse_semi_structured(linear.weight))
```

They pay only for large-batch prefill or scoring. Measured on one H100 (bf16, cuSPARSELt): with 16,384 tokens at a time
1.1 to 1.3 times the dense speed on MLP matrices of 2048 x 8192 and 4096 x 14336, but 0.4 to 0.7 times on square
attention matrices; with 2,048 tokens 0.2 to 0.6 times, and when decoding (1 to 64 tokens) 10 to 100 times slower than
dense. `p2zoo bench-sparse` measures a model's matrices on your GPU."""


def _recipe(run: FinishedRun) -> str:
    speed, share, peak = run.columns["tokens_per_second"], run.columns["mfu"], run.state.get("peak_memory_bytes")
    software = json.loads(run.columns["software"] or "{}")
    rows = [
        ("hardware", run.columns["hardware"] or ""),
        ("software", ", ".join(f"{name} {version}" for name, version in software.items())),
        ("speed", "" if speed is None else f"{speed:,.0f} tokens/s"),
    ]
    if share is not None:
        rows.append(("model FLOP utilisation", f"{share:.1%} of the card's dense bf16 peak"))
    if peak is not None:
        rows.append(("peak memory while training", f"{peak / 2**30:.1f} GiB"))
    yaml = f"```yaml\n{run.recipe_yaml}```"
    command = f"`p2zoo {'pretrain' if run.pretrained else 'run'} recipe.yaml`, with"
    return "\n\n".join(["## How it was made", command, yaml, _markdown(("", ""), rows)])


def _origin(run: FinishedRun, licence: Licence, claimed: Numbers, pull: str | None) -> str:
    if run.pretrained:
        return (
            f"## Licence\n\nThe weights are published under the [{licence.title}]({licence.link}), whose text is in "
            "this repository. The text they were trained on keeps its own licences."
        )
    c, lines = run.columns, ["## Log and licence"]
    if pull and claimed.logs:
        lines.append(f"The run's log (`{claimed.run_id}`, CC-BY-4.0) went to {claimed.logs}: [pull request]({pull}).")
    use = "" if licence.commercial else " It allows no commercial use."
    revision = f" at `{c['base_revision']}`" if c["base_revision"] else ""
    lines.append(
        f"A modified version of {c['base_model']}{revision}: pruned and trained further as above. The base model's "
        f"licence, the [{licence.title}]({licence.link}), applies; its text is in this repository.{use}"
    )
    return "\n\n".join(lines)
