"""What runs beside transformers 4: the loss of a model on given token ids, and the ids of given texts.

Called as a file with the path of a JSON file: {"folder", "rows", "texts"}; the answer goes beside it. It imports
nothing of p2zoo, whose modules ask for the transformers that is installed.
"""

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    asked = Path(sys.argv[1])
    question = json.loads(asked.read_text(encoding="utf-8"))
    answer = weights(question["folder"], question["rows"]) | tokenizer(question["folder"], question["texts"])
    asked.with_name("answer.json").write_text(json.dumps(answer), encoding="utf-8")


def weights(folder: str, rows: list[list[int]]) -> dict[str, Any]:
    """Nats per predicted token, each row on its own, in float32; and what was not where it should be."""
    import torch
    import transformers

    both: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, local_files_only=True, trust_remote_code=False, output_loading_info=True
    )
    model, info = both
    total, count = 0.0, 0
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row])
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            count += len(row) - 1
    wrong = {kind: [str(name) for name in info[f"{kind}_keys"]] for kind in ("missing", "unexpected", "mismatched")}
    return {"version": transformers.__version__, "loss": total / count, "wrong": wrong}


def tokenizer(folder: str, texts: list[str]) -> dict[str, Any]:
    """The ids of each text, or why there are none."""
    import transformers

    try:
        made: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return {"ids": [made(text, add_special_tokens=False)["input_ids"] for text in texts]}
    except Exception as error:  # whatever a class that it does not know leads to
        return {"ids": None, "why": (str(error).strip().splitlines() or [type(error).__name__])[0]}


if __name__ == "__main__":
    main()
