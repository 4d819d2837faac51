"""Does the law hold for images? A tiny ViT classifies the 1,797 digits of scikit-learn, layers cut and healed.

`python recipes/elsewhere/vit.py [OUT]`: two sizes with 0 to 3 of 8 layers gone, about a minute on two CPU cores. Needs
`pip install scikit-learn`. A token is a patch of 2 x 2 pixels, 16 an image; the losses are nats an image.
"""

import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch
from sklearn.datasets import load_digits
from transformers import ViTConfig, ViTForImageClassification
from transformers.utils.logging import set_verbosity_error

sys.path.insert(0, str(Path(__file__).parent))
from healing import LAYERS, curves, report

PIXELS, PATCH, BATCH = 8, 2, 32
PATCHES = (PIXELS // PATCH) ** 2
SIZES = (16, 32)


def main(out: Path, steps: tuple[int, int] = (400, 100), sizes: tuple[int, ...] = SIZES) -> pd.DataFrame:
    """Log rows of all runs; prints how well laws describe them."""
    set_verbosity_error()
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [
        {
            "pixel_values": torch.tensor(digits.images[i] / 16, dtype=torch.float32)[None],
            "labels": int(digits.target[i]),
        }
        for i in order
    ]
    data = {"train": rows[:700], "heal": rows[700:1400], "heldout": rows[1400:]}
    facts = {
        "family": "vit", "eval_data": "scikit-learn/digits-397", "tokens_per_step": BATCH * PATCHES,
        "objective": "classification", "schedule": "constant", "lr_peak": 3e-4,
    }  # fmt: skip
    frame = curves(_model, "vit.layers", sizes, data, facts, steps, out)
    print(report(frame).to_string())
    return frame


def _model(size: int) -> ViTForImageClassification:
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=size, num_hidden_layers=LAYERS, num_attention_heads=4, intermediate_size=4 * size,
            image_size=PIXELS, patch_size=PATCH, num_channels=1, num_labels=10,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
