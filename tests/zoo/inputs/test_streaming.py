"""Text streamed from a Hub, over a line that breaks; and a model on it that cannot be pruned.

The data set has four files, fetched one by one with range requests. Clients read their environment on import, so
each is a process of its own.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import HfApi

from tests.zoo.faults import Line, bad_line
from zoo.devhub import client_env, serve
from zoo.inputs.text import documents
from zoo.recipe.spec import TextSpec

pytestmark = pytest.mark.slow
TOKEN = "hf_owner_token"


class CutLine(Line):
    """Answers 404 to the next `left` requests whose path holds `path`, as for a repository that went away."""

    path, left = "train-2.parquet", 0

    def fault_of(self, request_line: str) -> str:
        with self.lock:
            self.seen.append(request_line)
            hit = self.left > 0 and self.path in request_line and request_line.startswith("GET")
            self.left -= hit
            return "404" if hit else ""


@pytest.fixture(scope="module")
def line(tmp_path_factory, bench_folder):
    """A line to a hub with `owner/text`, and with `owner/gpt`, of an architecture that p2zoo does not know."""
    rows = pd.read_json(bench_folder / "train.jsonl", lines=True)
    rows["source"] = ["web", "books"] * (len(rows) // 2) + ["web"] * (len(rows) % 2)
    folder = tmp_path_factory.mktemp("text")
    for i in range(4):
        rows.iloc[10 * i : 10 * i + 10].to_parquet(folder / f"train-{i}.parquet")
    with serve(tmp_path_factory.mktemp("hub"), {"owner": TOKEN}) as url, bad_line(url, CutLine) as line:
        api = HfApi(endpoint=url, token=TOKEN)
        api.create_repo("owner/text", repo_type="dataset")
        api.upload_folder(folder_path=folder, repo_id="owner/text", repo_type="dataset", path_in_repo="data")
        api.create_repo("owner/gpt")
        api.upload_file(path_or_fileobj=b'{"model_type": "gpt2"}', path_in_repo="config.json", repo_id="owner/gpt")
        api.upload_file(path_or_fileobj=b"weights", path_in_repo="model.safetensors", repo_id="owner/gpt")
        yield line


@pytest.fixture
def call(line, tmp_path):
    """call(*words) -> a finished process of this Python as a client of the hub."""
    settings = client_env(line.url, TOKEN) | {"HF_HOME": str(tmp_path / "home"), "P2ZOO_CACHE": str(tmp_path / "cache")}

    def execute(*words):
        return subprocess.run(
            [sys.executable, *words], env=os.environ | settings, capture_output=True, text=True, timeout=800
        )

    yield execute
    line.left = 0


READ = """
import json, sys
from pathlib import Path
from zoo.recipe.spec import TextSpec
from zoo.inputs.text import documents
print(json.dumps(list(documents(TextSpec(dataset="owner/text", skip=5, take=30), Path(), "data.train", seed=3))))
"""


def test_a_stream_that_breaks_off_goes_on_where_it_was(call, line, bench_folder):
    whole = json.loads(call("-c", READ).stdout)
    assert line.left == 0
    line.left = 2
    again = call("-c", READ)
    assert json.loads(again.stdout) == whole
    assert line.left == 0
    local = documents(TextSpec(file="train.jsonl", skip=5, take=30), bench_folder, "data.train")
    assert sorted(whole) == sorted(local)


def test_a_run_whose_text_is_gone_stops_in_words_and_resumes(call, line, bench_folder, tmp_path):
    texts = {"train": {"dataset": "owner/text", "skip": 10}, "heldout": {"dataset": "owner/text", "take": 10}}
    sets = [f"--set=data.{part}={json.dumps(text | {'file': None})}" for part, text in texts.items()]
    run = ["-m", "zoo", "run", str(bench_folder / "recipe.yaml"), "--out", str(tmp_path / "run"), *sets]
    run += ["--set=train.tokens=256", "--set=evaluate.tokens=64"]
    line.left = 1_000
    failed = call(*run)
    assert failed.returncode == 1, failed.stderr
    assert "data.train.dataset: the stream of owner/text/train[10:] broke off after" in failed.stderr
    assert "(HTTP 404)" in failed.stderr
    assert "--resume" in failed.stderr
    line.left = 0
    done = call(*run, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    pins = json.loads(done.stdout)["inputs"]
    assert len(pins["heldout_sha256"]) == 64
    assert pins["train"] == pins["heldout"] != pins["heldout_sha256"]  # a commit, and the hash of a text

    state = json.loads((tmp_path / "run" / "run.json").read_text())
    parts = state["loss_by_source"]
    assert list(parts) == ["books", "web"] == list(state["l0_by_source"])
    mean = np.average([part["loss"] for part in parts.values()], weights=[part["tokens"] for part in parts.values()])
    assert mean == pytest.approx(state["loss_saved"], abs=1e-5)
    state |= {"status": "running", "inputs": pins | {"heldout_sha256": "0" * 64}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(state))
    other = call(*run, "--resume")
    assert other.returncode == 2
    assert "heldout_sha256 changed since the run began" in other.stderr


def test_an_unknown_architecture_is_refused_before_its_weights_are_fetched(call, line, bench_folder, tmp_path):
    line.spoil()
    refused = call(
        "-m", "zoo", "run", str(bench_folder / "recipe.yaml"), "--set=model.name=owner/gpt", f"--out={tmp_path}/r"
    )
    assert refused.returncode == 2
    assert "model.name: owner/gpt: unknown model_type 'gpt2'. p2zoo can prune llama (llama-3)" in refused.stderr
    assert any("config.json" in request for request in line.seen)
    assert not any("model.safetensors" in request for request in line.seen)
