"""Does the law hold for an encoder? A tiny BERT, masked language modelling on the bundled text, layers cut and healed.

`python recipes/elsewhere/bert.py [OUT]`: two sizes with 0 to 3 of 8 layers gone, about 3 minutes on two CPU cores.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast, DataCollatorForLanguageModeling
from transformers.utils.logging import set_verbosity_error

sys.path.insert(0, str(Path(__file__).parent))
from healing import LAYERS, curves, report

TEXT = Path(__file__).parents[1] / "quickstart" / "text"
VOCABULARY, LENGTH, BATCH = 2_000, 64, 32
SIZES = (48, 96)


def main(out: Path, steps: tuple[int, int] = (600, 200), sizes: tuple[int, ...] = SIZES) -> pd.DataFrame:
    """Log rows of all runs; prints how well laws describe them."""
    set_verbosity_error()
    out.mkdir(parents=True, exist_ok=True)
    documents = pd.read_parquet(TEXT / "train.parquet").text[:300].tolist()
    words = BertWordPieceTokenizer()
    words.train_from_iterator(documents, vocab_size=VOCABULARY, show_progress=False)
    words.save_model(str(out))
    tokenizer = BertTokenizerFast(str(out / "vocab.txt"))
    rows = _rows(tokenizer, documents)
    heldout = _rows(tokenizer, pd.read_parquet(TEXT / "heldout.parquet").text[:20].tolist())[:128]
    mask = DataCollatorForLanguageModeling(tokenizer, seed=0)

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:  # held-out rows are masked once, and alike every time
        if "labels" in batch[0]:
            return {key: torch.stack([row[key] for row in batch]) for key in batch[0]}
        return dict(mask(batch))

    masked = dict(DataCollatorForLanguageModeling(tokenizer, seed=1)(heldout))
    data = {
        "train": rows[: len(rows) // 2],
        "heal": rows[len(rows) // 2 :],
        "heldout": [{key: values[i] for key, values in masked.items()} for i in range(len(heldout))],
        "collate": collate,
    }
    facts = {
        "family": "bert", "eval_data": "p2zoo/heldout-masked-15", "tokens_per_step": BATCH * LENGTH,
        "objective": "mlm", "vocab_size": VOCABULARY, "seq_len": LENGTH, "schedule": "constant", "lr_peak": 3e-4,
    }  # fmt: skip
    frame = curves(_model, "bert.encoder.layer", sizes, data, facts, steps, out)
    print(report(frame).to_string())
    return frame


def _model(size: int) -> BertForMaskedLM:
    return BertForMaskedLM(
        BertConfig(
            vocab_size=VOCABULARY, hidden_size=size, num_hidden_layers=LAYERS, num_attention_heads=4,
            intermediate_size=4 * size, max_position_embeddings=LENGTH, type_vocab_size=1,
        )
    )  # fmt: skip


def _rows(tokenizer: BertTokenizerFast, documents: list[str]) -> list[dict[str, list[int]]]:
    ids = [i for text in tokenizer(documents, add_special_tokens=False, verbose=False).input_ids for i in text]
    return [{"input_ids": ids[at : at + LENGTH]} for at in range(0, len(ids) - LENGTH, LENGTH)]


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
