"""Convert the lab's 37 loss curves (lab-runs.jsonl) into run logs: `python -m leaderboard.seed.convert`.

The ladder: Llama-3- and Qwen-2.5-shaped models of 4.3 M to 33.9 M parameters, pretrained on 60 M tokens of English
technical documentation and Python code, pruned, then post-trained on 10 M fresh tokens of the same corpus on one
H100. The lab asked for layers and channels, not for a share of all parameters, so `rate_requested` is the achieved
rate. What it did not record (size of its held-out text, software, wall time) stays missing.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from leaderboard.logs.contract import CLM, WRAPPED, build_table, write_log
from leaderboard.logs.methods import CONTROL, takes_rate

HERE = Path(__file__).parent
FAMILY = {"llama3": "llama-3", "qwen2.5": "qwen-2.5"}
IMPORTANCE = {"depth": "block-influence", "width": "minitron", "2:4": "wanda", "none": "none"}
WARMUP_STEPS = 20
COMMON = {
    "contributor": "p2lab",
    "created_at": datetime(2026, 11, 22, tzinfo=UTC),
    "hardware": "1 x NVIDIA H100 80GB",
    "objective": CLM,
    "train_data": "p2lab/docs",
    "eval_data": "p2lab/docs-heldout",
    "seq_len": 512,
    "schedule": "constant-with-warmup",
    "optimizer": "adamw",
    "precision": "fp32-master-bf16-autocast",
    "packing": WRAPPED,
    "vocab_size": 16384,
}


def run_columns(record: dict[str, Any]) -> dict[str, Any]:
    """The run-level columns of one lab record."""
    family, method = FAMILY[record["family"]], record["method"]
    rate = 1 - record["n_after"] / record["n0"]
    return COMMON | {
        "base_model": f"p2lab/{family}-{record['size']}",
        "family": family,
        "method": method,
        "importance": IMPORTANCE[method],
        "rate_requested": rate if takes_rate(method) or method == CONTROL else None,
        "rate": rate,
        "rate_nonembedding": record["rho_nonemb"],
        "n0": record["n0"],
        "n0_nonembedding": record["n0_nonemb"],
        "n_pruned": record["n_after"],
        "batch_tokens": record["batch_tokens"],
        "lr_peak": record["lr"],
        "warmup_tokens": WARMUP_STEPS * record["batch_tokens"],
        "tokens_planned": record["curve"][-1][0],
        "seed": record["seed"],
        "tokens_per_second": record["tok_per_s"],
        "l0": record["l0"],
        "l_pruned": record["curve"][0][1],
    }


def curve_columns(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of one lab record; the learning rate is constant once warmed up, and unrecorded before."""
    warm = WARMUP_STEPS * record["batch_tokens"]
    return [
        {"tokens": tokens, "loss": loss, "train_loss": train_loss, "lr": record["lr"] if tokens >= warm else None}
        for tokens, loss, train_loss in record["curve"]
    ]


def main() -> None:
    """Write every run beside this file as runs/p2lab/<run_id>.parquet."""
    for line in (HERE / "lab-runs.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["kind"] == "run":
            table = build_table(run_columns(record), curve_columns(record))
            write_log(HERE / "runs" / "p2lab" / f"{table['run_id'][0]}.parquet", table)


if __name__ == "__main__":
    main()
