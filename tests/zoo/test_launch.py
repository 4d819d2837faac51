"""Several processes on one recipe: gloo on CPUs, through torchrun, as several GPUs would be launched."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM

from zoo.pruning.masks import check_2of4
from zoo.recipe_file import load_recipe
from zoo.run import run

ROOT = Path(__file__).parents[2]
SETTINGS = ["prune.method='2:4'", "prune.rate=null"]


def command(recipe, out, *more, settings=SETTINGS):
    sets = [word for change in settings for word in ("--set", change)]
    return ["-m", "zoo", "run", str(recipe), "--out", str(out), *sets, *more]


def environment(tmp_path, **more):
    return os.environ | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "P2ZOO_CACHE": str(tmp_path / "cache"), **more,
    }  # fmt: skip


def launch(processes, words, tmp_path, **more):
    """torchrun, and what it said."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.Popen(
        [*launcher, *words],
        env=environment(tmp_path, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    said = process.communicate(timeout=300)[0]
    return process.returncode, said


@pytest.fixture(scope="module")
def alone(bench_folder, tmp_path_factory):
    """The same recipe by one process without a launcher."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    return folder, run(load_recipe(bench_folder / "recipe.yaml", SETTINGS), folder, console=Console(quiet=True))


def same_run(alone, folder):
    """The curve within 1e-3 nats, the tokens to the last one, the identity, and a model that is 2:4."""
    one, many = (pd.read_parquet(path / "log.parquet") for path in (alone[0], folder))
    assert many.tokens.tolist() == one.tokens.tolist()
    assert np.abs(many.loss - one.loss).max() < 1e-3
    assert np.abs(many.train_loss - one.train_loss).max() < 1e-3
    assert many.run_id[0] == one.run_id[0]
    assert many.loss.iloc[-1] == pytest.approx(json.loads((folder / "run.json").read_text())["loss_saved"], abs=1e-4)
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    check_2of4(model)


def test_two_processes_killed_and_resumed_make_the_run_of_one(alone, bench_folder, tmp_path):
    """One of two dies after the second checkpoint: what was trained since is lost, no more."""
    out = tmp_path / "two"
    recipe = bench_folder / "recipe.yaml"
    with launch(2, command(recipe, out), tmp_path) as first:
        for line in first.stdout:
            if line.lstrip().startswith("1,024 tokens"):  # checkpoints are due at 384, 768 and 1,152
                os.kill(worker(first.pid, rank=1), signal.SIGKILL)
    assert first.returncode != 0
    assert not (out / "log.parquet").exists()
    (checkpoint,) = [p for p in (out / ".work" / "checkpoints").iterdir() if (p / "complete.json").exists()]
    kept = json.loads((checkpoint / "complete.json").read_text())
    assert kept["tokens"] >= 768
    assert list(checkpoint.glob("pytorch_model_fsdp_0/*.distcp"))
    code, said = finish(launch(2, command(recipe, out, "--resume"), tmp_path))
    assert code == 0, said
    assert f"resuming after {kept['tokens']:,} tokens" in said
    assert said.count("results ") == 1  # one of them speaks
    same_run(alone, out)


def worker(parent, rank):
    """The process id of a rank below a launcher."""
    for entry in Path("/proc").iterdir():
        try:
            above = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) if entry.name.isdigit() else 0
            if above == parent and f"\0RANK={rank}\0" in "\0" + (entry / "environ").read_text():
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError("no such worker")


@pytest.mark.slow
def test_four_processes_make_the_run_of_one(alone, bench_folder, tmp_path):
    settings = [*SETTINGS, "train.micro_batch=1", "hardware.gpus=4"]
    code, said = finish(
        launch(4, command(bench_folder / "recipe.yaml", tmp_path / "four", settings=settings), tmp_path)
    )
    assert code == 0, said
    one, many = (pd.read_parquet(path / "log.parquet") for path in (alone[0], tmp_path / "four"))
    assert many.tokens.tolist() == one.tokens.tolist()
    assert np.abs(many.loss - one.loss).max() < 1e-3
    check_2of4(AutoModelForCausalLM.from_pretrained(tmp_path / "four" / "model", dtype=torch.float32))


def test_sigterm_saves_a_checkpoint_and_says_resume_me(alone, bench_folder, tmp_path):
    out, recipe = tmp_path / "stopped", bench_folder / "recipe.yaml"
    process = subprocess.Popen(
        [sys.executable, *command(recipe, out)], env=environment(tmp_path, PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if line.lstrip().startswith("512 tokens"):
            process.terminate()
            break
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 75, said
    assert "stopped by SIGTERM after" in said
    (checkpoint,) = (out / ".work" / "checkpoints").iterdir()
    assert json.loads((checkpoint / "complete.json").read_text())["tokens"] not in (384, 768, 1152, 1536)
    result = run(load_recipe(recipe, SETTINGS), out, resume=True, console=Console(quiet=True))
    assert result["loss"] == alone[1]["loss"]


OWN_SEED = """
import os, sys
from zoo.cli import main
sys.argv += ["--set", "train.seed=" + os.environ["RANK"]]
main()
"""


def test_processes_that_disagree_on_the_recipe_stop_at_once(bench_folder, tmp_path):
    words = (
        "import os, sys; sys.argv += ['--set', 'train.seed=' + os.environ['RANK']]; from zoo.cli import main; main()"
    )
    script = tmp_path / "each.py"
    script.write_text(words)
    code, said = finish(
        launch(2, [str(script), *command(bench_folder / "recipe.yaml", tmp_path / "out")[2:]], tmp_path)
    )
    assert code != 0
    assert "the processes do not agree on the recipe" in said
    assert not (tmp_path / "out").exists()


def test_a_port_in_use_is_told(bench_folder, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        rank = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        rank["MASTER_PORT"] = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, *command(bench_folder / "recipe.yaml", tmp_path / "out")],
            env=environment(tmp_path, **rank), capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "If the port is in use, choose another" in done.stderr


@pytest.mark.parametrize(
    ("settings", "launched", "said"),
    [
        (["hardware.gpus=64"], {}, "asked for 64, .* has 0; lower it"),
        (["hardware.gpus=4"], {"RANK": "0", "WORLD_SIZE": "2"}, "the recipe asks for 4, 2 processes were launched"),
        (["hardware.gpus=0"], {}, "allowed is 1 or more"),
    ],
)
def test_hardware_that_is_not_there_is_refused(bench_folder, tmp_path, settings, launched, said):
    words = command(bench_folder / "recipe.yaml", tmp_path / "out", settings=settings)
    done = subprocess.run(
        [sys.executable, *words], env=environment(tmp_path, **launched), capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert re.search(said, done.stderr)
