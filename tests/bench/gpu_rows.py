"""The rows of `make bench-gpu`: each builds random weights in a real shape, does one thing and says what it took.

A row is a function of the bench that returns `Measured`. Training goes through `post_train` as a run does, the
first step (which finds out what fits, compiles and makes the optimizer state) not timed. No row needs a download.
"""

import dataclasses
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, TrainerCallback
from trl import SFTConfig, SFTTrainer

from leaderboard.errors import RunFailed
from leaderboard.shapes import Shape, bundled_config, parameters, shape_of
from zoo.distributed import join
from zoo.estimate.flops import mfu
from zoo.inputs.base_model import load_tokenizer
from zoo.inputs.packing import Blocks
from zoo.pruning.plan import plan
from zoo.pruning.prune import prune
from zoo.pruning.spec import PruneSpec
from zoo.pruning.zeros import keep_n_of_m, sparse_linears
from zoo.recipe.spec import TrainSpec
from zoo.training.autotune import release
from zoo.training.execution import Execution
from zoo.training.masks import MaskKeeper
from zoo.training.trainer import Training, post_train

ONE_B = bundled_config("meta-llama/Llama-3.2-1B")
THREE_B = ONE_B | {
    "hidden_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "head_dim": 128,
}
EIGHT_B = ONE_B | {
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "head_dim": 128,
    "tie_word_embeddings": False,
}
TOY = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Sizes of a bench: the configs of the three models and how much goes through them."""

    configs: dict[str, dict]
    seq_len: int
    step_rows: int  # sequences in a step of the 1B model; the larger ones take half
    steps: int  # timed
    planned_tokens: int  # of the training that is acted out; a long one has its attention and compile timed first
    calibration: tuple[int, int]  # rows, in batches of
    sparse_blocks: int  # of the 8B model, for SparseGPT
    precision: str = "fp32-master-bf16-autocast"


REAL = Scale(
    configs={"1B": ONE_B, "3B": THREE_B, "8B": EIGHT_B},
    seq_len=2_048, step_rows=64, steps=3, planned_tokens=500_000_000, calibration=(128, 8), sparse_blocks=3,
)  # fmt: skip
TINY = Scale(
    configs={name: ONE_B | TOY | {"tie_word_embeddings": name != "8B"} for name in ("1B", "3B", "8B")},
    seq_len=32, step_rows=8, steps=2, planned_tokens=10_000, calibration=(8, 4), sparse_blocks=2, precision="fp32",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One row: the figure that the target is about, in `unit`, and what else was seen."""

    value: float | None
    unit: str
    told: str
    more: dict = field(default_factory=dict)


class Clock(TrainerCallback):
    """Times the steps after the first, and keeps the masks of a sparse model."""

    trainer = None

    def __init__(self, masks: MaskKeeper | None = None):
        self.masks, self.start, self.seconds, self.steps = masks, 0.0, 0.0, 0

    def on_optimizer_step(self, args, state, control, **_):
        if self.masks is not None:
            self.masks.reapply()

    def on_step_end(self, args, state, control, **_):
        if state.global_step == 1:
            wait()
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            self.start = time.perf_counter()
        elif state.global_step == state.max_steps:
            wait()
            self.seconds, self.steps = time.perf_counter() - self.start, state.global_step - 1


class Bench:
    """One card, one scale; what a row found that later rows compare with."""

    def __init__(self, scale: Scale, device: torch.device, tokenizer_folder: Path, full: bool):
        self.scale, self.device, self.full = scale, device, full
        self.tokenizer = load_tokenizer(tokenizer_folder)
        self.card = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
        self.rates: dict[str, float] = {}
        self.execution: Execution | None = None
        self.team = join()  # launched: all training here is sharded

    def model(self, config: dict, dtype: torch.dtype = torch.float32):
        """Random weights, made on the device."""
        made = AutoConfig.for_model(**config)
        with self.device:
            model = AutoModelForCausalLM.from_config(made, dtype=dtype, attn_implementation="sdpa")
        return model.to(dtype)

    def blocks(self, rows: int, vocab: int) -> Blocks:
        ids = np.random.default_rng(0).integers(0, vocab, (rows, self.scale.seq_len), dtype=np.int32)
        return Blocks(ids, np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape), ids.size, ids.size)

    def train(self, name: str, config: dict, masked: bool = False, rows: int | None = None, **changes) -> Measured:
        """Tokens a second of post_train on this shape, its MFU and peak memory. `name` keeps the rate for others."""
        scale = self.scale
        rows = rows or scale.step_rows
        batch = rows * scale.seq_len
        settings = {"precision": scale.precision, "optimizer": "adamw", **changes}
        spec = TrainSpec(
            tokens=max(scale.planned_tokens, batch), batch_tokens=batch, seq_len=scale.seq_len, lr_peak=1e-5,
            checkpoint_tokens=10**12, **settings,
        )  # fmt: skip
        dtype = torch.bfloat16 if spec.precision == "bf16-master" else torch.float32
        model = self.model(config, dtype)
        if masked:
            with torch.no_grad():
                for _, _, linear in sparse_linears(model):
                    linear.weight.mul_(keep_n_of_m(linear.weight.abs()))
        clock, notes = Clock(MaskKeeper(model) if masked else None), []
        shape, data = shape_of(config), self.blocks(rows * (1 + scale.steps), config["vocab_size"])
        chosen = self.execution if rows == scale.step_rows else None
        with tempfile.TemporaryDirectory() as folder:
            training = Training(
                model, data, spec, self.tokenizer, Path(folder), chosen,
                lambda execution, why: notes.append((execution, f"{why}: {execution}")), self.team,
            )  # fmt: skip
            post_train(training, [clock])
        if notes and rows == scale.step_rows:
            self.execution = notes[-1][0]
        rate = clock.steps * batch / clock.seconds
        self.rates[name] = rate
        return self.told(shape, rate, notes=[why for _, why in notes])

    def told(self, shape: Shape, rate: float, **more) -> Measured:
        share, peak = mfu(shape, self.scale.seq_len, rate, self.card), peak_gib()
        told = [f"{rate:,.0f} tok/s"]
        told += [f"{share:.1%} MFU"] if share is not None else []
        told += [f"{peak:.1f} GiB"] if peak is not None else []
        more |= {"tokens_per_second": rate, "mfu": share, "peak_gib": peak, "parameters": parameters(shape)}
        return Measured(rate, "tok/s", ", ".join(told), more)


def one_b(bench: Bench) -> Measured:
    return bench.train("1B", bench.scale.configs["1B"])


def trl_as_it_comes(bench: Bench) -> Measured:
    """SFTTrainer with its own defaults on the same blocks, 8 sequences a step."""
    config, rows = bench.scale.configs["1B"], 8
    model, data = bench.model(config), bench.blocks(rows * (1 + bench.scale.steps), config["vocab_size"])
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder, per_device_train_batch_size=rows, max_steps=1 + bench.scale.steps, save_strategy="no",
            report_to="none", disable_tqdm=True, max_length=bench.scale.seq_len, bf16=bench.device.type == "cuda",
            dataloader_pin_memory=bench.device.type == "cuda",
        )  # fmt: skip
        text = Dataset.from_dict({"input_ids": data.ids.tolist(), "labels": data.ids.tolist()})
        trainer = SFTTrainer(model, settings, train_dataset=text, processing_class=bench.tokenizer, callbacks=[clock])
        trainer.train()
    rate = clock.steps * rows * bench.scale.seq_len / clock.seconds
    bench.rates["TRL"] = rate
    return bench.told(shape_of(config), rate)


def pruned(bench: Bench, method: str) -> Measured:
    """The 1B shape with a quarter of all parameters gone, against its unpruned rate."""
    config = bench.scale.configs["1B"]
    target = plan(shape_of(config), PruneSpec(method=method, rate=0.25)).target
    return ratio(bench, bench.train(method, narrowed(config, target)))


def masked(bench: Bench) -> Measured:
    return ratio(bench, bench.train("masked", bench.scale.configs["1B"], masked=True))


def sharded(bench: Bench) -> Measured:
    """The 1B shape by FSDP2 on this one card, in a process that torchrun starts, carried out as the plain run was."""
    if bench.execution is None:
        bench.train("1B", bench.scale.configs["1B"])
    release()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    how = json.dumps(bench.execution.as_dict())
    words = ["-m", "tests.bench.gpu_sharded", how, *(["--toy"] if bench.scale is TINY else [])]
    done = subprocess.run([*launcher, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunFailed(f"FSDP2: {done.stderr[-300:]}")
    return ratio(bench, Measured(**json.loads(done.stdout.splitlines()[-1])))


def three_b(bench: Bench) -> Measured:
    return share(bench.train("3B", bench.scale.configs["3B"], rows=bench.scale.step_rows // 2))


def eight_b(bench: Bench) -> Measured:
    """bf16 weights with stochastic rounding and 8-bit moments."""
    return bench.train(
        "8B",
        bench.scale.configs["8B"],
        rows=bench.scale.step_rows // 2,
        precision="bf16-master",
        optimizer="adamw-8bit",
    )


def structured(bench: Bench) -> Measured:
    """Scores of the 8B shape once, then depth and width from them; the slower of the two runs with its scores."""
    config, took = bench.scale.configs["8B"], {}
    reset_peak()
    with tempfile.TemporaryDirectory() as cache:
        for method in ("depth", "width"):
            model, chosen = (
                bench.model(config, torch.bfloat16),
                plan(shape_of(config), PruneSpec(method=method, rate=0.25)),
            )
            wait()
            start = time.perf_counter()
            prune(model, chosen, calibration(bench, config), Path(cache), "random")
            wait()
            took[method] = time.perf_counter() - start
            del model
            gc.collect()
    peak = peak_gib()
    told = f"scores + depth {took['depth']:.0f} s, width from the same scores {took['width']:.0f} s"
    return Measured(sum(took.values()), "s", told + (f", {peak:.1f} GiB" if peak else ""), took | {"peak_gib": peak})


def sparsegpt(bench: Bench) -> Measured:
    """SparseGPT 2:4 on some blocks of the 8B shape, scaled to all of them and marked so; all with --full."""
    config = bench.scale.configs["8B"]
    layers = config["num_hidden_layers"]
    blocks = layers if bench.full else bench.scale.sparse_blocks
    part = config | {"num_hidden_layers": blocks}
    spec = PruneSpec(method="2:4", importance="sparsegpt")
    model = bench.model(part, torch.bfloat16)
    reset_peak()
    wait()
    start = time.perf_counter()
    prune(model, plan(shape_of(part), spec), calibration(bench, config))
    wait()
    seconds, peak = time.perf_counter() - start, peak_gib()
    whole = seconds * layers / blocks
    told = f"{whole / 60:.1f} min" if bench.full else f"{whole / 60:.1f} min, scaled from {blocks} of {layers} blocks"
    told += f", {peak:.1f} GiB" if peak else ""
    return Measured(whole, "s", told, {"measured_s": seconds, "blocks": blocks, "layers": layers, "peak_gib": peak})


def narrowed(config: dict, target: Shape) -> dict:
    """A config with the sizes of a shape."""
    return config | {
        "hidden_size": target.hidden,
        "intermediate_size": target.ffn,
        "num_hidden_layers": target.layers,
        "num_attention_heads": target.heads,
        "num_key_value_heads": target.kv_heads,
        "head_dim": target.head_dim,
    }


def ratio(bench: Bench, found: Measured) -> Measured:
    """A rate as a multiple of the unpruned one; alone where that was not measured."""
    if "1B" not in bench.rates:
        return dataclasses.replace(found, value=None, told=f"{found.told} (no unpruned rate to compare with)")
    times = found.value / bench.rates["1B"]
    return dataclasses.replace(found, value=times, unit="x", told=f"{times:.2f} x; {found.told}")


def share(found: Measured) -> Measured:
    """A rate as its MFU."""
    return dataclasses.replace(found, value=found.more["mfu"], unit="MFU")


def calibration(bench: Bench, config: dict) -> list[torch.Tensor]:
    rows, batch = bench.scale.calibration
    return list(torch.from_numpy(bench.blocks(rows, config["vocab_size"]).ids.astype("int64")).split(batch))


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_gib() -> float | None:
    """Most memory allocated since the last reset; None on a CPU."""
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None


@dataclass(frozen=True)
class Row:
    """One line of the table: what it measures, how, and the target; `reached` judges value and what else was seen."""

    name: str
    what: str
    target: str
    measure: Callable[[Bench], Measured]
    reached: Callable[[Measured], bool] | None = None


ROWS = (
    Row("1b", "Llama-3.2-1B shape, 2,048 tokens, fp32 master + bf16 autocast", "61,000 tok/s, 48 % MFU", one_b,
        lambda m: m.value >= 61_000 and m.more["mfu"] >= 0.48),
    Row("trl", "the same through TRL as it comes", "peer: 34,200 tok/s", trl_as_it_comes),
    Row("depth", "5 of 16 layers pruned, against unpruned", "1.28 x", lambda bench: pruned(bench, "depth"),
        lambda m: m.value >= 1.28),
    Row("width", "a quarter pruned by width, against unpruned", "1.2 x", lambda bench: pruned(bench, "width"),
        lambda m: m.value >= 1.2),
    Row("masked", "2:4-masked training against unmasked", "0.97 x", masked, lambda m: m.value >= 0.97),
    Row("fsdp2", "FSDP2 on 1 GPU against plain", "0.95 x", sharded, lambda m: m.value >= 0.95),
    Row("3b", "Llama-3.2-3B shape", "45 % MFU, fits", three_b, lambda m: m.value >= 0.45),
    Row("8b", "Llama-3.1-8B shape, bf16 weights, 8-bit moments", "runs", eight_b, lambda m: m.value > 0),
    Row("scores", "scores, depth and width of the 8B shape", "180 s, 40 GiB", structured,
        lambda m: m.value <= 180 and m.more["peak_gib"] <= 40),
    Row("sparsegpt", "SparseGPT 2:4 of the 8B shape, 128 x 2,048 tokens", "12 min, 40 GiB", sparsegpt,
        lambda m: m.value <= 720 and m.more["peak_gib"] <= 40),
)  # fmt: skip
