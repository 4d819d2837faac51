"""A log dataset on a real Hub, its contributors, and small logs to send."""

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from leaderboard.logs.contract import build_table, write_log
from leaderboard.logs.findings import Finding
from zoo.devhub import serve
from zoo.publish.log_dataset import init
from zoo.review.check import Verdict, check_pull_request, not_loaded
from zoo.review.pull_request import Submission

USERS = {"owner": "hf_owner_token", "ann": "hf_ann_token", "bob": "hf_bob_token"}
DATASET = "owner/logs"
KIND = {"repo_id": DATASET, "repo_type": "dataset"}
RUN: dict[str, Any] = {
    "contributor": "ann", "base_model": "ann/base-1m", "family": "llama-3", "method": "depth",
    "importance": "block-influence", "rate_requested": 0.25, "rate": 0.25, "rate_nonembedding": 0.3,
    "n0": 1_000_000, "n0_nonembedding": 800_000, "n_pruned": 750_000, "software": '{"torch": "2.13.0"}',
    "created_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "objective": "clm", "train_data": "ann/text",
    "seq_len": 256, "batch_tokens": 2048, "lr_peak": 3e-4, "schedule": "constant", "optimizer": "adamw",
    "precision": "fp32", "packing": "wrapped", "warmup_tokens": 0, "tokens_planned": 24_576, "seed": 0,
    "eval_data": "ann/heldout", "eval_tokens": 16_384, "vocab_size": 16_384, "l0": 3.0, "l_pruned": 3.5,
}  # fmt: skip


@pytest.fixture(scope="package", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Caches of these tests only, in this process and in those that they start."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("P2ZOO_CACHE", str(folder / "p2zoo"))
        patch.setenv("HF_HOME", str(folder / "home"))
        yield folder


@pytest.fixture
def hub_url(tmp_path: Path) -> Iterator[str]:
    with serve(tmp_path / "hub", USERS) as url:
        yield url


@pytest.fixture
def as_user(hub_url: str) -> Callable[[str], HfApi]:
    return lambda name: HfApi(endpoint=hub_url, token=USERS[name])


@pytest.fixture
def owner(as_user) -> HfApi:
    """The owner of the dataset, which is set up."""
    api = as_user("owner")
    init(api, DATASET)
    return api


@pytest.fixture
def ann(owner, as_user) -> HfApi:
    return as_user("ann")


@pytest.fixture
def bob(owner, as_user) -> HfApi:
    return as_user("bob")


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., tuple[str, bytes]]:
    """`log(**changes)`: path and bytes of a valid log; `bend` shifts its losses, `steps` is its length."""

    def make(bend: float = 0.0, steps: int = 13, **changes: Any) -> tuple[str, bytes]:
        run = RUN | changes
        drop = [(0.3 + bend) * i / (i + 3) for i in range(steps)]
        curve = [{"tokens": i * run["batch_tokens"], "loss": run["l_pruned"] - d} for i, d in enumerate(drop)]
        table = build_table(run, curve)
        path = write_log(tmp_path / "log.parquet", table)
        return f"runs/{run['contributor']}/{table['run_id'][0]}.parquet", path.read_bytes()

    return make


@pytest.fixture
def check(owner: HfApi) -> Callable[..., Verdict]:
    """`check(num, **options)`: the owner's check, loading in this process; a process of its own takes seconds."""
    return lambda num, **options: check_pull_request(owner, DATASET, num, load=load_here, **options)


def load_here(api: HfApi, submission: Submission) -> Finding | None:
    """Load a submission with `datasets` from its files and its card."""
    import datasets

    with tempfile.TemporaryDirectory() as folder:
        api.snapshot_download(repo_id=DATASET, repo_type="dataset", revision=submission.head, local_dir=f"{folder}/set")
        if not list(Path(folder, "set").rglob("*.parquet")):
            return None  # the last log is withdrawn
        try:
            datasets.load_dataset(f"{folder}/set", split="train", cache_dir=f"{folder}/cache")
        except datasets.exceptions.DatasetGenerationError as error:
            return not_loaded(str(error))
    return None


@pytest.fixture
def send() -> Callable[..., int]:
    """`send(api, {path: bytes or None})`: open a pull request that writes and deletes files; its number."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    def open_one(api: HfApi, files: dict[str, bytes | None], **options: Any) -> int:
        work = [CommitOperationDelete(p) if data is None else CommitOperationAdd(p, data) for p, data in files.items()]
        done = api.create_commit(operations=work, commit_message="logs", create_pr=True, **KIND, **options)
        assert done.pr_num is not None
        return done.pr_num

    return open_one
