"""Data sets as strangers have them, a Hub that is busy, a proxy in the way, and no network at all.

A client reads its environment on import, so each is a process of its own; one process tries many data sets.
"""

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from huggingface_hub import HfApi

from tests.zoo.faults import Line, bad_line
from tests.zoo.inputs.test_text_files import PACKED
from zoo.devhub import client_env, serve

pytestmark = pytest.mark.slow
TOKEN = "hf_owner_token"
LINES = "".join(json.dumps({"text": f"document {i} of some length"}) + "\n" for i in range(50)).encode()


def parquet(**columns):
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer)
    return buffer.getvalue()


# What a data set is made of, and what reading it says: its number of documents, or the error.
SETS = {
    "lines": ({"a.jsonl": LINES}, 50),
    "zstd": ({"a.jsonl.zst": PACKED[".zst"](LINES)}, 50),
    "nulls": ({"a.parquet": parquet(text=["a", None, "b"])}, 2),
    "script": ({"script.py": b"import datasets\n"}, "is made by a script, which is not run; .*as `file`"),
    "shards": (
        {
            "data/train-00000-of-00002.parquet": parquet(text=["a"] * 3),
            "data/train-00001-of-00002.parquet": parquet(body=["a"], n=[1]),
        },
        "after 3 documents: its files do not have the same columns: .*body",
    ),
    "lists": ({"a.parquet": parquet(text=[["a"]], id=["x"])}, "document 1: column 'text' holds list, .*stands in: id"),
    "mixed": ({"a.jsonl": b'{"text": "a"}\n{"text": 2}\n'}, "document 2: column 'text' holds int, not text"),
    "cut": ({"a.jsonl.gz": gzip.compress(LINES)[:60]}, "cannot be read: Compressed file ended before"),
    "line": ({"a.jsonl": LINES + b'{"text": "cut\n' + LINES}, "cannot be read: JSON parse error.* row 50"),
    "half": ({"a.jsonl": b'{"text": "half \\ud83d"}\n'}, "surrogate pair in string is invalid. in row 0"),
    "other": ({"a.parquet": parquet(body=["a"])}, r"data\.train\.column: unknown column 'text'. Known: body"),
    "nothing": ({"notes.bin": b"x"}, "cannot be read: .*data files"),
    "latin": ({"a.txt": b"caf\xe9\n"}, "cannot be read: 'utf-8' codec can't decode"),
    "private": ({"a.jsonl": LINES}, "is not on the Hub, or is private: see http://127.0.0.1:.*/datasets/owner/private"),
    "absent": (None, "is not on the Hub, or is private"),
}
READ = """
import json, sys
from pathlib import Path
from leaderboard.errors import P2Error
from zoo.inputs.text import documents, fingerprint
from zoo.recipe.spec import TextSpec
for name in sys.argv[1:]:
    spec = TextSpec(dataset=f"owner/{name}")
    try:
        commit = fingerprint(spec, Path(), "data.train")
        print(json.dumps([name, len(list(documents(spec, Path(), "data.train", commit=commit)))]))
    except P2Error as error:
        print(json.dumps([name, str(error)]))
"""


class BusyLine(Line):
    """Answers `answer` to the next `left` requests whose path holds `path`."""

    path, left, answer = "datasets/owner/lines", 0, "429"

    def fault_of(self, request_line: str) -> str:
        with self.lock:
            self.seen.append(request_line)
            hit = self.left > 0 and self.path in request_line
            self.left -= hit
            return self.answer if hit else ""


@pytest.fixture(scope="module")
def line(tmp_path_factory, bench_folder):
    with serve(tmp_path_factory.mktemp("hub"), {"owner": TOKEN}) as url, bad_line(url, BusyLine) as line:
        api = HfApi(endpoint=url, token=TOKEN)
        folder = tmp_path_factory.mktemp("sets")
        for name, (files, _) in SETS.items():
            for path, content in (files or {}).items():
                (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / name / path).write_bytes(content)
            if files is not None:
                api.create_repo(f"owner/{name}", repo_type="dataset", private=name == "private")
                api.upload_folder(folder_path=folder / name, repo_id=f"owner/{name}", repo_type="dataset")
        api.create_repo("owner/model")
        api.upload_folder(folder_path=bench_folder / "model", repo_id="owner/model")
        api.create_repo("owner/text", repo_type="dataset")
        for name, split in (("train", "train"), ("heldout", "test")):
            api.upload_file(
                path_or_fileobj=bench_folder / f"{name}.jsonl",
                path_in_repo=f"{split}.jsonl",
                repo_id="owner/text",
                repo_type="dataset",
            )
        yield line


@pytest.fixture
def call(line, tmp_path):
    """call(*words, **environment) -> a finished process of this Python, a client of the hub without a token."""
    known = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "NO_PROXY", "no_proxy")}
    settings = client_env(line.url, "") | {"HF_HOME": str(tmp_path / "home"), "P2ZOO_CACHE": str(tmp_path / "cache")}
    settings.pop("HF_TOKEN")

    def execute(*words, **environment):
        return subprocess.run(
            [sys.executable, *map(str, words)],
            env=known | settings | environment,
            capture_output=True,
            text=True,
            timeout=800,
        )

    yield execute
    line.left = 0


def outcomes(done):
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.sample
def test_what_strangers_publish_is_read_or_refused_in_one_line(call):
    told = outcomes(call("-c", READ, *SETS))
    assert told.keys() == SETS.keys()
    for name, (_, wanted) in SETS.items():
        if isinstance(wanted, int):
            assert told[name] == wanted, name
        else:
            assert isinstance(told[name], str), name
            assert re.search(wanted, told[name]), told[name]
            assert "\n" not in told[name]


def test_a_folder_of_the_same_name_is_not_the_data_set(call, tmp_path):
    (tmp_path / "owner" / "lines").mkdir(parents=True)
    (tmp_path / "owner" / "lines" / "a.jsonl").write_text('{"text": "mine"}\n')
    script = f"import os\nos.chdir({str(tmp_path)!r})\n" + READ
    assert outcomes(call("-c", script, "lines")) == {"lines": 50}


@pytest.mark.parametrize("answer", ["429", "503", "html"])
def test_a_busy_hub_is_waited_for(call, line, answer):
    line.answer, line.left = answer, 2
    assert outcomes(call("-c", READ, "lines")) == {"lines": 50}
    assert line.left == 0


def test_a_gated_data_set_is_told_from_a_private_one(call, line):
    line.answer, line.left = "gated", 1_000
    told = outcomes(call("-c", READ, "lines"))["lines"]
    assert re.search(
        r"data\.train\.dataset: owner/lines is gated: accept its licence at http://127\.0\.0\.1:\d+/", told
    )
    assert line.left >= 997  # and is not asked for again and again


RUN = [
    "--set=data.train={dataset: owner/text, split: train, file: null}",
    "--set=data.heldout={dataset: owner/text, split: test, file: null}",
    "--set=model.name=owner/model",
    "--set=train.tokens=256",
    "--set=evaluate.tokens=64",
]
FETCH = """
from huggingface_hub import snapshot_download
snapshot_download("owner/model")
snapshot_download("owner/text", repo_type="dataset")
"""


def test_a_run_without_a_network_takes_all_from_the_cache_and_says_so(call, line, bench_folder, tmp_path):
    run = ["-m", "zoo", "run", bench_folder / "recipe.yaml", *RUN, "--out"]
    refused = call(*run, tmp_path / "none", HF_HUB_OFFLINE="1")
    assert refused.returncode == 2
    assert re.search(r"error: model\.name: owner/model is not whole in the cache.*hf download", refused.stderr)
    assert call("-c", FETCH).returncode == 0
    assert call(*run, tmp_path / "online").returncode == 0
    line.spoil()
    done = call(*run, tmp_path / "offline", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert line.seen == []
    assert re.search("offline, as asked: from the cache .* come model at .*, train at .*, heldout at", done.stdout)
    online, offline = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("online", "offline"))
    for key in ("run_id", "train_tokens_sha256", "heldout_tokens_sha256", "inputs"):
        assert offline[key] == online[key]
    shutil.rmtree(tmp_path / "home" / "hub" / "datasets--owner--text")
    refused = call(*run, tmp_path / "half", HF_HUB_OFFLINE="1")
    assert refused.returncode == 2
    assert re.search(r"error: data\.train\.dataset: owner/text is not whole in the cache", refused.stderr)


def test_a_proxy_in_the_way_is_named_and_loopback_spared(call, bench_folder, tmp_path):
    run = ["-m", "zoo", "run", bench_folder / "recipe.yaml", *RUN, "--out", tmp_path / "run"]
    proxy = {"HTTP_PROXY": "http://me:secret@127.0.0.1:9", "HTTPS_PROXY": "http://me:secret@127.0.0.1:9"}
    there = call(*run, **proxy)  # the hub is on loopback
    assert there.returncode == 0, there.stderr
    away = call(*run[:-1], tmp_path / "away", HF_ENDPOINT="http://hub.invalid", **proxy)
    assert away.returncode in (1, 2)
    assert "through the proxy http://127.0.0.1:9 (HTTP_PROXY)" in away.stderr
    assert "secret" not in away.stderr
    assert away.stderr.count("error:") == 1
    assert "Traceback" not in away.stderr
