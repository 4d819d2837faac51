"""The libraries that read and write the Hub, each in a process of its own, as a user has them.

They read their environment on import, so each runs a script with `client_env` and prints JSON.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from zoo.devhub import client_env

QUICKSTART = Path(__file__).parents[3] / "recipes" / "quickstart"
KIND = {"repo_type": "dataset"}


@pytest.fixture
def environment(hub_url: str, tmp_path: Path) -> dict[str, str]:
    """An empty home and cache, the owner's token, two threads."""
    settings = client_env(hub_url, "hf_owner_token")
    settings |= {"HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "2", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return os.environ | settings


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path):
    """Run a command or a script and return what it prints; its stderr is shown where it fails."""

    def execute(*command: str, script: str = "") -> str:
        words = [sys.executable, "-c", textwrap.dedent(script)] if script else list(command)
        done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return execute


@pytest.mark.slow
def test_datasets_reads_streams_and_pushes(owner: HfApi, repo: str, run):
    owner.upload_file(
        path_or_fileobj=QUICKSTART / "text/heldout.parquet", path_in_repo="data/a.parquet", repo_id=repo, **KIND
    )
    printed = run(
        script=f"""
        import json
        from datasets import Dataset, load_dataset
        whole = load_dataset("{repo}", split="train")
        streamed = load_dataset("{repo}", split="train", streaming=True)
        first = next(iter(streamed))
        Dataset.from_dict({{"x": [1, 2, 3]}}).push_to_hub("owner/pushed")
        Dataset.from_dict({{"x": [4]}}).push_to_hub("owner/pushed", create_pr=True)
        pushed = load_dataset("owner/pushed", split="train")["x"][:]
        proposed = load_dataset("owner/pushed", split="train", revision="refs/pr/1")["x"][:]
        print(json.dumps([len(whole), first["text"] == whole[0]["text"], pushed, proposed]))
        """
    )
    assert json.loads(printed.splitlines()[-1]) == [113, True, [1, 2, 3], [4]]


@pytest.mark.slow
def test_transformers_loads_a_model_and_pushes_it_back(owner: HfApi, run):
    owner.create_repo("owner/tiny")
    owner.upload_folder(folder_path=QUICKSTART / "tiny-llama-3", repo_id="owner/tiny")
    printed = run(
        script="""
        import json
        from transformers import AutoModelForCausalLM, AutoTokenizer
        model = AutoModelForCausalLM.from_pretrained("owner/tiny")
        tokenizer = AutoTokenizer.from_pretrained("owner/tiny")
        model.push_to_hub("owner/tiny-copy", private=True)
        again = AutoModelForCausalLM.from_pretrained("owner/tiny-copy")
        same = all((a == b).all().item() for a, b in zip(model.parameters(), again.parameters()))
        print(json.dumps([model.num_parameters(), tokenizer.decode(tokenizer("hello")["input_ids"]), same]))
        """
    )
    parameters, text, same = json.loads(printed.splitlines()[-1])
    assert (parameters, "hello" in text, same) == (4_312_192, True, True)
    assert owner.model_info("owner/tiny-copy").private is True


def test_the_hf_command_uploads_and_downloads(owner: HfApi, run, tmp_path: Path):
    (tmp_path / "up").mkdir()
    (tmp_path / "up/a.txt").write_text("a")
    (tmp_path / "up/b.parquet").write_bytes(b"PAR1")
    hf = str(Path(sys.executable).with_name("hf"))
    assert "owner" in run(hf, "auth", "whoami")
    run(hf, "upload", "owner/by-command", "up", ".", "--repo-type", "dataset")
    run(hf, "upload", "owner/by-command", "up/a.txt", "c.txt", "--repo-type", "dataset", "--create-pr")
    run(hf, "download", "owner/by-command", "--repo-type", "dataset", "--local-dir", "down")
    found = {path.name: path.read_bytes() for path in (tmp_path / "down").iterdir() if path.is_file()}
    assert found.keys() >= {"a.txt", "b.parquet"}
    assert found["b.parquet"] == b"PAR1"
    assert [pull.author for pull in owner.get_repo_discussions("owner/by-command", **KIND)] == ["owner"]


@pytest.mark.slow
def test_a_trainer_pushes_its_model(owner: HfApi, run):
    run(
        script=f"""
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer
        data = Dataset.from_dict({{"text": ["Prune the model, then train it."] * 8}})
        options = SFTConfig("out", push_to_hub=True, hub_model_id="owner/trained", max_steps=2, max_length=32,
                            per_device_train_batch_size=2, save_steps=1, report_to=[], use_cpu=True)
        trainer = SFTTrainer("{QUICKSTART / "tiny-llama-3"}", options, train_dataset=data)
        trainer.train()
        trainer.push_to_hub()
        """
    )
    assert {"model.safetensors", "README.md", "tokenizer.json"} <= set(owner.list_repo_files("owner/trained"))
    assert len(owner.list_repo_commits("owner/trained")) > 2
