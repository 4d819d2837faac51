"""The log dataset's repository: its card, made from the contract, and how a contributor adds a run to it.

The card pins the features, so `datasets` and the Hub's viewer read every log alike and refuse one of another shape.
What a maintainer writes outside the two marks stays as it is when the card is made again.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from leaderboard.logs.check import log_files
from leaderboard.logs.contract import COLUMNS, SCHEMA_VERSION
from leaderboard.logs.hub_errors import Patience
from leaderboard.logs.load import SEED

if TYPE_CHECKING:
    from huggingface_hub import HfApi

BEGIN, END = "<!-- p2zoo: begin -->", "<!-- p2zoo: end -->"
LFS = "*.parquet filter=lfs diff=lfs merge=lfs -text\n"
PATTERN = "runs/*/*.parquet"
_DTYPE = {"int": "int64", "float": "float64", "text": "string", "time": "timestamp[us, tz=UTC]"}


def init(api: "HfApi", dataset: str, seed: bool = False, private: bool = False) -> list[str]:
    """Make the dataset what p2zoo expects, in one commit at most; what was written. Does nothing twice.

    `seed` also uploads the bundled logs, so that a young leaderboard has curves to fit. Raises P2Error in words where
    the Hub refuses.
    """
    patience = Patience()
    patience(
        f"creating {dataset}", lambda: api.create_repo(dataset, repo_type="dataset", private=private, exist_ok=True)
    )
    return patience(f"writing the card of {dataset}", lambda: _commit(api, dataset, seed))


def _commit(api: "HfApi", dataset: str, seed: bool) -> list[str]:
    from huggingface_hub import CommitOperationAdd

    head = api.dataset_info(dataset).sha
    there = set(api.list_repo_files(dataset, repo_type="dataset", revision=head))
    old = _text(api, dataset, "README.md", head) if "README.md" in there else ""
    wanted: dict[str, bytes | Path] = {} if old == card(dataset, old) else {"README.md": card(dataset, old).encode()}
    if ".gitattributes" not in there:
        wanted[".gitattributes"] = LFS.encode()
    if seed:
        logs = {f"runs/{p.relative_to(SEED).as_posix()}": p for p in log_files(SEED)}
        wanted |= {name: path for name, path in logs.items() if name not in there}
    if wanted:
        files = [CommitOperationAdd(name, data) for name, data in wanted.items()]
        api.create_commit(dataset, files, commit_message="p2zoo dataset init", repo_type="dataset", parent_commit=head)
    return list(wanted)


def _text(api: "HfApi", dataset: str, name: str, revision: str | None) -> str:
    path = api.hf_hub_download(dataset, name, repo_type="dataset", revision=revision)
    return Path(path).read_text(encoding="utf-8")


def card(dataset: str, old: str = "") -> str:
    """The README.md of a log dataset; of an older one, the text outside the marks is kept."""
    before, mark, rest = old.partition(BEGIN)
    own, after = (before.split("---\n", 2)[-1].strip("\n"), rest.partition(END)[2]) if mark else ("", "\n")
    head = yaml.safe_dump(metadata(), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n{own + 2 * chr(10) if own else ''}{BEGIN}\n{_body(dataset)}{END}{after}"


def metadata() -> dict[str, Any]:
    """The card's metadata: one config over all runs, its features pinned."""
    features = [{"name": c.name, "dtype": _DTYPE[c.kind]} for c in COLUMNS]
    files = [{"split": "train", "path": PATTERN}]
    return {
        "license": "cc-by-4.0",
        "pretty_name": "p2zoo run logs",
        "tags": ["p2zoo", "arxiv:2411.10272", "pruning", "scaling-laws", "llm", "leaderboard"],
        "task_categories": ["tabular-regression"],
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": {"config_name": "default", "features": features},
    }


def _body(dataset: str) -> str:
    rows = "\n".join(
        _row(c.name, c.kind, c.unit, c.meaning + (" (may be null)" if c.nullable else "")) for c in COLUMNS
    )
    return _BODY.format(dataset=dataset, version=SCHEMA_VERSION, pattern=PATTERN, rows=rows)


def _row(*cells: str) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


_BODY = """# Loss curves of pruned language models

One parquet file a run, one row an evaluation: held-out loss in nats per token against post-training tokens, after
depth, width or 2:4 pruning. p2zoo fits scaling laws to these curves, ranks the laws and answers how many tokens the
next pruned model needs.

```python
from datasets import load_dataset
from leaderboard import load_logs

rows = load_dataset("{dataset}", split="train")
logs = load_logs("{dataset}")  # the same, each file checked: logs.frame, logs.quarantined
```

## Add a run

`p2zoo publish RUN_DIR --to YOUR_NAME --logs {dataset}` opens a pull request with one file,
`runs/<your Hub name>/<run_id>.parquet`. By opening it you put the log under
[CC-BY-4.0](https://creativecommons.org/licenses/by/4.0/). A check comments on it; a maintainer merges. To correct a log
replace your file, to withdraw one delete it, both by pull request. Nobody changes the files of others.

## Columns

Contract version {version}. Rates are shares of all parameters, tied ones counted once.

| column | type | unit | meaning |
|---|---|---|---|
{rows}
"""
