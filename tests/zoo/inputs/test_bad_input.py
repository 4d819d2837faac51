"""Models that cannot be had and folders that cannot be written: a clear message, nothing lost, nothing fetched."""

import json
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from rich.console import Console
from typer.testing import CliRunner

from leaderboard.errors import P2Error, RunFailed
from leaderboard.shapes import bundled_config, shape_of
from zoo.estimate.dry_run import estimate
from zoo.estimate.memory import GIB, Machine, check_fits
from zoo.files import new_folder
from zoo.inputs.base_model import describe, hub_error, load_model, load_tokenizer, resolve
from zoo.inputs.packing import pack
from zoo.recipe.catalog import find_recipe
from zoo.recipe.files import load_recipe
from zoo.recipe.spec import ModelSpec
from zoo.run.folder import RunFolder
from zoo.run.pipeline import run
from zoo.training.callback import Curve
from zoo.training.checkpoints import FRESH, last_complete
from zoo.training.trainer import Training, post_train, tokens_after

ROOT = Path(__file__).parents[3]
LLAMA = ModelSpec(name="meta-llama/Llama-3.2-1B")


def answer(kind, status):
    return kind("no", response=httpx2.Response(status, request=httpx2.Request("GET", "https://huggingface.co")))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            answer(GatedRepoError, 403),
            r"is gated: accept its licence at https://huggingface\.co/meta-llama/Llama-3\.2-1B",
        ),
        (answer(GatedRepoError, 401), r"hf auth login.*HF_TOKEN"),
        (
            answer(RepositoryNotFoundError, 404),
            r"is not on the Hub, or is private: see https://huggingface\.co/meta-llama",
        ),
        (answer(RevisionNotFoundError, 404), r"model\.name: .* has no revision"),
        (answer(HfHubHTTPError, 401), r"not signed in, or the token is no longer valid"),
        (answer(HfHubHTTPError, 403), r"your token may not do this"),
        (answer(HfHubHTTPError, 429), r"asks to slow down"),
        (answer(HfHubHTTPError, 503), r"the Hub has trouble \(HTTP 503\)"),
        (HFValidationError("bad"), r"is no Hub id; write owner/name"),
        (LocalEntryNotFoundError("offline"), r"the Hub is out of reach"),
        (ConnectionError("refused"), r"the Hub is out of reach.*download the model to a folder"),
    ],
)
def test_every_failed_download_has_its_message(error, message):
    assert isinstance(hub_error(error, LLAMA), P2Error)
    with pytest.raises(P2Error, match=message):
        raise hub_error(error, LLAMA)


@pytest.fixture
def copy(bench_folder, tmp_path):
    """A copy of the bench model to break."""
    return shutil.copytree(bench_folder / "model", tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "x.Y"}}, "needs remote code"),
        ({"model_type": "gpt2"}, "unknown model_type 'gpt2'"),
        ({"model_type": "lama"}, "Did you mean 'llama'"),
        ({"quantization_config": {"bits": 4}}, "are quantized"),
        ({"num_key_value_heads": 3}, "4 query heads cannot share 3 key-value heads"),
    ],
)
def test_configs_that_cannot_be_pruned(copy, change, message):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(P2Error, match=message):
        describe(ModelSpec(name="./model"), copy.parent)


def test_a_hidden_size_that_2of4_cannot_take(copy, bench_folder):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"hidden_size": 30, "num_attention_heads": 2}))
    recipe = load_recipe(bench_folder / "recipe.yaml", [f"model.name={copy}", "prune.method='2:4'", "prune.rate=null"])
    with pytest.raises(P2Error, match="hidden size is 30"):
        run(recipe, copy.parent / "run", console=Console(quiet=True))
    assert not (copy.parent / "run").exists()


def test_a_rate_that_no_layer_count_reaches_names_its_neighbours(bench_folder, tmp_path):
    recipe = load_recipe(bench_folder / "recipe.yaml", ["prune.rate=0.3"])
    with pytest.raises(P2Error, match=r"0\.3 is out of reach.*layers 4 -> 3.*layers 4 -> 2"):
        run(recipe, tmp_path / "run", console=Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_folders_that_are_no_models(copy, tmp_path):
    with pytest.raises(P2Error, match=r"no config\.json there"):
        describe(ModelSpec(name="./nowhere"), tmp_path)
    (copy / "model.safetensors").unlink()
    with pytest.raises(P2Error, match=r"no \*\.safetensors weights"):
        resolve(ModelSpec(name="./model"), copy.parent)
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(P2Error, match="no usable tokenizer"):
        load_tokenizer(copy)


def test_a_family_that_the_config_contradicts(copy):
    with pytest.raises(P2Error, match=r"got 'qwen-2.5', but the config of ./model says 'llama-3'"):
        describe(ModelSpec(name="./model", family="qwen-2.5"), copy.parent)
    with pytest.raises(P2Error, match=r"unknown family 'llama3'. Did you mean 'llama-3'"):
        describe(ModelSpec(name="./model", family="llama3"), copy.parent)


def test_a_folder_that_holds_something_else(tmp_path, bench_folder):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(P2Error, match="exists and holds no run"):
        run(load_recipe(bench_folder / "recipe.yaml"), tmp_path, console=Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_folder_that_cannot_be_made(tmp_path, bench_folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFailed, match=r"cannot be written: .*choose another --out"):
        run(load_recipe(bench_folder / "recipe.yaml"), tmp_path / "file" / "run", console=Console(quiet=True))


def test_a_full_disk_keeps_what_was_complete(tmp_path):
    """A limit on file sizes is how a process can run out of room without filling the disk."""
    folder = RunFolder.open(tmp_path / "run", {"name": "x"}, resume=False)
    folder.append({"tokens": 0, "loss": 3.0})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(RunFailed, match=r"cannot be written.*--resume goes on"):
            folder.append({"tokens": 1, "loss": 2.0, "note": "x" * 200})
        with pytest.raises(RunFailed, match="cannot be written"):
            folder.update(long="x" * 200)
        with pytest.raises(RunFailed, match="cannot be written"), new_folder(tmp_path / "model") as new:
            (new / "weights").write_text("x" * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert folder.rows() == [{"tokens": 0, "loss": 3.0}]
    assert not (tmp_path / "model").exists()
    folder.close()
    with RunFolder.open(tmp_path / "run", {"name": "x"}, resume=True) as again:
        assert "long" not in again.state


def test_two_processes_in_one_folder(bench_folder, tmp_path):
    """The second is told so, does no harm, and can go on once the first has died."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "run"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert holder.stdout.readline() == "open\n"
        for resume in (False, True):
            with pytest.raises(P2Error, match=r"unfinished run" if not resume else "another p2zoo process is at work"):
                RunFolder.open(tmp_path / "run", {"name": "x"}, resume)
    finally:
        holder.kill()
        holder.communicate(timeout=200)
    with RunFolder.open(tmp_path / "run", {"name": "x"}, resume=True) as folder:
        assert folder.state == {"status": "running", "name": "x"}


HOLDER = """
import pathlib, sys, time
from zoo.run.folder import RunFolder
folder = RunFolder.open(pathlib.Path(sys.argv[1]), {"name": "x"}, resume=False)
print("open", flush=True)
time.sleep(60)
"""


def test_a_run_killed_before_its_first_word_can_begin_again(tmp_path):
    (tmp_path / "run" / ".work").mkdir(parents=True)
    with RunFolder.open(tmp_path / "run", {"name": "x"}, resume=False) as folder:
        assert folder.state["status"] == "running"


@pytest.mark.parametrize("room", [5_000, 200_000])  # the weights do not fit; the weights do, the optimizer does not
def test_a_disk_that_fills_up_during_a_save(bench_folder, tmp_path, room):
    spec = load_recipe(bench_folder / "recipe.yaml", ["train.tokens=256"]).train
    model, tokenizer = load_model(bench_folder / "model", "fp32"), load_tokenizer(bench_folder / "model")
    blocks = pack([[i % 256 for i in range(256)]], 32, "wrapped", 256)
    curve = Curve(
        tokens=tokens_after(blocks, spec),
        grid=[],
        checkpoint_tokens=128,
        measure=lambda: 1.0,
        write=lambda row: None,
        tick=lambda *_: None,
        masks=None,
        start=FRESH,
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(RunFailed, match=r"cannot be written.*--resume goes on"):
            post_train(Training(model, blocks, spec, tokenizer, tmp_path), [curve])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert last_complete(tmp_path) == (None, FRESH)


def test_the_command_shows_one_message_and_no_traceback(bench_folder):
    from zoo.cli import app

    result = CliRunner().invoke(app, ["run", str(bench_folder / "recipe.yaml"), "--set", "prune.rate=25", "--dry-run"])
    assert isinstance(result.exception, P2Error)
    assert str(result.exception).startswith("--set: prune.rate: got 25.0")


GPU_24, GPU_80 = Machine("a 24 GB card", 24 * GIB), Machine("an 80 GB card", 80 * GIB)


def real(*overrides):
    """Shape and training of the recipe for Llama-3.2-1B, before pruning."""
    train = load_recipe(find_recipe("llama-3.2-1b/depth-0.25"), overrides).train
    return shape_of(bundled_config("meta-llama/Llama-3.2-1B")), train


def test_what_cannot_fit_is_refused_with_what_would():
    shape, train = real()
    check_fits(shape, train, 0, GPU_80)
    eight = replace(shape, hidden=4096, ffn=14_336, layers=32, head_dim=128, tied=False)
    with pytest.raises(
        P2Error, match=r"8,030,\d+,\d+ parameters need at least 12\d GiB here \(16 bytes a .*80 GB card has 80 GiB"
    ) as caught:
        check_fits(eight, train, 0, GPU_80)
    assert "Nothing was downloaded" in str(caught.value)
    assert re.search(r"adamw-8bit, train.precision: bf16-master\) needs 4\d GiB, which fits", str(caught.value))
    assert re.search(r"FSDP2 on 2 such GPUs needs \d\d GiB on each", str(caught.value))
    lean = replace(train, optimizer="adamw-8bit", precision="bf16-master")
    check_fits(eight, lean, 0, GPU_80)
    with pytest.raises(
        P2Error, match=r"\(6 bytes a parameter.*FSDP2 with train.optimizer: adamw and .* on 8"
    ) as caught:
        check_fits(eight, lean, 0, GPU_24)
    assert "adamw-8bit" not in str(caught.value)
    distilled = replace(train, objective="distill", precision="fp32")
    check_fits(shape, distilled, 0, GPU_24)
    with pytest.raises(P2Error, match=r"one sequence of 2,048 tokens\), a 24 GB card") as caught:
        check_fits(shape, distilled, 1_236_000_000, GPU_24)
    assert "FSDP2" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["train.optimizer=adamw-8bit"], "adamw-8bit does not shard"),
        (["train.objective=distill"], "whole teacher on one device"),
        (["train.batch_tokens=65536"], "a step has 32 sequences, which 64 processes cannot share"),
    ],
)
def test_what_processes_cannot_share_is_refused_by_the_dry_run(changes, said):
    path = find_recipe("llama-3.2-1b/depth-0.25")
    estimate(load_recipe(path, changes))
    with pytest.raises(P2Error, match=said):
        estimate(load_recipe(path, [*changes, "hardware.gpus=64"]))


def test_a_card_without_bf16_is_told_so():
    with pytest.raises(P2Error, match=r"needs bf16 arithmetic, which an old card does not have; use precision fp32"):
        check_fits(*real(), 0, Machine("an old card", 80 * GIB, bf16=False))


def test_a_run_that_cannot_fit_ends_before_any_download(tmp_path):
    """The bundled config of Llama-3.2-1B, with a context that no machine holds."""
    sizes = ["train.micro_batch=1", *(f"train.{key}={2**34}" for key in ("seq_len", "batch_tokens", "tokens"))]
    recipe = load_recipe(find_recipe("llama-3.2-1b/depth-0.25"), sizes)
    with pytest.raises(P2Error, match=r"parameters need at least .* Nothing was downloaded"):
        run(recipe, tmp_path / "run", console=Console(quiet=True))
    assert not (tmp_path / "run").exists()
