"""Several processes on one recipe: gloo on CPUs, through torchrun, as several GPUs would be launched."""

import json
import os
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

from leaderboard.errors import P2Error
from zoo import fresh
from zoo.distributed import join, relaunch
from zoo.preemption import Preempted
from zoo.pruning.zeros import check_zeros
from zoo.recipe.files import load_recipe
from zoo.run.pipeline import run
from zoo.training.checkpoints import newest

ROOT = Path(__file__).parents[3]
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
    check_zeros(model)


@pytest.mark.slow
@pytest.mark.sample
def test_two_processes_killed_and_resumed_make_the_run_of_one(alone, bench_folder, tmp_path):
    """One of two dies after a checkpoint: what was trained since is lost, no more."""
    out = tmp_path / "two"
    recipe = bench_folder / "recipe.yaml"
    with launch(2, command(recipe, out), tmp_path) as first:
        for line in first.stdout:
            if line.lstrip().startswith("512 tokens"):  # checkpoints are due at 384, 768 and 1,152
                os.kill(worker(first.pid, rank=1), signal.SIGKILL)
    assert first.returncode != 0
    assert not (out / "log.parquet").exists()
    checkpoint, kept = newest(out / ".work" / "checkpoints")
    assert kept["tokens"] >= 384
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
    check_zeros(AutoModelForCausalLM.from_pretrained(tmp_path / "four" / "model", dtype=torch.float32))


@pytest.mark.slow
def test_sigterm_saves_a_checkpoint_and_says_resume_me(alone, bench_folder, tmp_path):
    """It comes with the first checkpoint; the step after it is saved too, and the run goes on from there."""
    out, recipe = tmp_path / "stopped", load_recipe(bench_folder / "recipe.yaml", SETTINGS)
    quiet = Console(quiet=True)
    with pytest.raises(Preempted, match=r"stopped by SIGTERM after 512 tokens, which are saved") as stopped:
        run(recipe, out, console=quiet, saved=lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert stopped.value.exit_code == 75
    _, marker = newest(out / ".work" / "checkpoints")
    assert marker["tokens"] == 512
    assert run(recipe, out, resume=True, console=quiet)["loss"] == alone[1]["loss"]


def together(entry, words, tmp_path):
    """Two fresh processes with what a launcher tells them; their codes, and all they said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
    both = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with (tmp_path / "said").open("wb") as said:
        processes = [
            fresh.popen(
                entry, words, env=environment(tmp_path, RANK=rank, LOCAL_RANK=rank, **both), stdout=said, stderr=said
            )
            for rank in ("0", "1")
        ]
        codes = [process.wait(200) for process in processes]
    return codes, (tmp_path / "said").read_text()


@pytest.mark.parametrize(
    ("name", "said"), [("RANK", "do not agree on the GPU: process 0 has 0, process 1 has 1"), ("HOME", "they agree")]
)
def test_processes_must_agree(tmp_path, name, said):
    codes, words = together("tests.zoo.entries:agree", [name], tmp_path)
    assert words.count(said) == 2
    assert (codes == [0, 0]) == (name == "HOME")


@pytest.mark.slow
def test_nothing_of_a_team_lives_once_it_is_left(tmp_path):
    """Of 20 launches that trained and held a group as Python ended, 6 aborted."""
    codes, words = together("tests.zoo.entries:leave_a_team", [], tmp_path)
    assert codes == [0, 0], words
    assert words.count("threads of groups: True and then 0.") == 2


OWN_SEED = """
import os, sys
from zoo.cli import main
sys.argv += ["--set", "train.seed=" + os.environ["RANK"]]
main()
"""


@pytest.mark.slow
def test_a_run_whose_processes_have_other_recipes_stops_at_once(bench_folder, tmp_path):
    (tmp_path / "each.py").write_text(OWN_SEED)
    words = command(bench_folder / "recipe.yaml", tmp_path / "out")[2:]
    code, said = finish(launch(2, [str(tmp_path / "each.py"), *words], tmp_path))
    assert code != 0
    assert "the processes do not agree on the recipe" in said
    assert not (tmp_path / "out").exists()


FULL = """
import os, resource, sys
from zoo.cli import main
if os.environ["RANK"] == "1":
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
main()
"""


@pytest.mark.slow
def test_a_full_disk_on_one_process_ends_the_run_in_words_and_keeps_what_was_complete(alone, bench_folder, tmp_path):
    """Process 1 can write no file above 20 kB, which its part of a checkpoint is."""
    (tmp_path / "full.py").write_text(FULL)
    out = tmp_path / "out"
    words = command(bench_folder / "recipe.yaml", out)
    code, said = finish(launch(2, [str(tmp_path / "full.py"), *words[2:]], tmp_path))
    assert code != 0
    assert "cannot be written" in said
    assert not list(out.glob(".work/checkpoints/*/complete.json"))
    code, said = finish(launch(2, [*words, "--resume"], tmp_path))
    assert code == 0, said
    same_run(alone, out)


TIGHT = """
import os
import torch
from zoo.cli import main

def hook(module, given):
    if os.environ["RANK"] == "1" and module.training and isinstance(module, torch.nn.Embedding) and len(given[0]) > 1:
        torch.empty(2**50, dtype=torch.uint8)

torch.nn.modules.module.register_module_forward_pre_hook(hook)
main()
"""


@pytest.mark.slow
def test_out_of_memory_in_one_process_ends_the_launch_and_the_next_steps_down(alone, bench_folder, tmp_path):
    """Process 1 has no room for more than a sequence at a time in the first launch: a real failed allocation."""
    (tmp_path / "tight.py").write_text(TIGHT)
    out = tmp_path / "out"
    words = command(bench_folder / "recipe.yaml", out)
    code, said = finish(launch(2, [str(tmp_path / "tight.py"), *words[2:]], tmp_path))
    assert code != 0
    assert "process 1 of 2 is out of memory with micro-batch 2" in said
    code, said = finish(launch(2, [*words, "--resume"], tmp_path))
    assert code == 0, said
    assert "post-training with micro-batch 2, recomputed: every second block" in said
    same_run(alone, out)


@pytest.mark.slow
def test_a_port_in_use_is_told(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        rank = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "HOME": "x"}
        rank["MASTER_PORT"] = str(taken.getsockname()[1])
        done = fresh.run("tests.zoo.entries:agree", ["HOME"], env=environment(tmp_path, **rank), timeout=200)
    assert "If the port is in use, choose another" in done.stderr


def test_hardware_that_is_not_there_is_refused(bench_folder, monkeypatch):
    with pytest.raises(P2Error, match=r"asked for 64, .* lower it"):
        relaunch(64, [])
    with pytest.raises(P2Error, match="allowed is 1 or more"):
        load_recipe(bench_folder / "recipe.yaml", ["hardware.gpus=0"])
    with pytest.raises(P2Error, match=r"asks for 4, this is one process; .* --gpus 4"):
        join(4)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(P2Error, match="the recipe asks for 4, 2 processes were launched"):
        join(4)


def test_the_machine_does_not_change_the_experiment(bench_folder):
    recipes = [load_recipe(bench_folder / "recipe.yaml", sets) for sets in ([], ["hardware.gpus=8"])]
    assert recipes[0].sha256 == recipes[1].sha256
