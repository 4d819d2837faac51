"""Training speed on this machine: a bare Hugging Face loop, p2zoo's trainer, SFTTrainer as it comes.

    python tests/bench/bench_train.py [--steps 12] [--stock]

Tiny Llama-3-shaped model, fp32, 8 x 256 tokens a step, the loops taking turns so that a busy machine is
busy for all of them. Prints tokens a second (the best turn of each) and the ratio to the bare loop.

Tried and dropped: a thread that makes the next batch during a step. A batch of 8 x 256 tokens is made in 0.23 ms,
0.014 % of the fastest step seen (1.7 s, one thread of a busy machine); six pairs of turns with and without it went from
0.59 to 1.86 in speed, the load of others. On GPUs it was not measured.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from zoo.inputs.base_model import load_model, load_tokenizer
from zoo.inputs.packing import Blocks
from zoo.progress import quiet
from zoo.recipe.catalog import find_recipe
from zoo.recipe.files import load_recipe
from zoo.training.trainer import ADAM_BETA2, CLIP, Training, post_train

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12, help="steps in one turn")
    parser.add_argument("--stock", action="store_true", help="also time SFTTrainer as it comes (slow)")
    chosen = parser.parse_args()
    quiet()
    recipe = load_recipe(find_recipe("quickstart/depth"))
    source = recipe.path(recipe.model.name)
    tokenizer = load_tokenizer(source)
    blocks = random_blocks(chosen.steps * 8, recipe.train.seq_len, len(tokenizer))
    loops = {
        "bare loop": lambda: bare(load_model(source, "fp32"), blocks, recipe.train.lr_peak),
        "p2zoo": lambda: timed(lambda model: ours(model, blocks, recipe.train, tokenizer), load_model(source, "fp32")),
    }
    if chosen.stock:
        loops["SFTTrainer"] = lambda: timed(lambda m: stock(m, blocks, tokenizer), load_model(source, "fp32"))
    best = dict.fromkeys(loops, 0.0)
    for _ in range(ROUNDS):
        for name, loop in loops.items():
            best[name] = max(best[name], blocks.tokens / loop())
    print(f"{torch.get_num_threads()} threads, tiny Llama-3 shape, {blocks.tokens:,} tokens a turn")
    for name, speed in best.items():
        print(f"{name:12} {speed:7,.0f} tokens/s   {speed / best['bare loop']:.2f} x bare")


def random_blocks(rows: int, seq_len: int, vocab: int) -> Blocks:
    ids = np.random.default_rng(0).integers(0, vocab, (rows, seq_len), dtype=np.int32)
    return Blocks(ids, np.broadcast_to(np.arange(seq_len, dtype=np.int32), ids.shape), ids.size, ids.size)


def timed(train, model) -> float:
    start = time.perf_counter()
    train(model)
    return time.perf_counter() - start


def bare(model, blocks: Blocks, lr: float) -> float:
    """Seconds of forward, backward, clip and fused AdamW on the model's own loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, ADAM_BETA2), weight_decay=0.0, fused=True)
    model.train()
    start = time.perf_counter()
    for ids in torch.from_numpy(blocks.ids.astype(np.int64)).split(8):
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start


def ours(model, blocks: Blocks, spec, tokenizer) -> None:
    with tempfile.TemporaryDirectory() as folder:
        post_train(Training(model, blocks, spec, tokenizer, Path(folder)))


def stock(model, blocks: Blocks, tokenizer) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder, per_device_train_batch_size=8, max_steps=len(blocks) // 8, save_strategy="no",
            report_to="none", disable_tqdm=True, bf16=False, dataloader_pin_memory=False,
        )  # fmt: skip
        rows = Dataset.from_dict({"input_ids": blocks.ids.tolist(), "labels": blocks.ids.tolist()})
        SFTTrainer(model, settings, train_dataset=rows, processing_class=tokenizer).train()


if __name__ == "__main__":
    main()
