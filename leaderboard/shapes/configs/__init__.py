"""Configs that need no download: <org>--<name>.json, as they stand on the Hub."""

import json
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parent


def bundled_config(model_id: str) -> dict[str, Any] | None:
    """The config.json that ships for a Hub id such as Qwen/Qwen2.5-0.5B, or None."""
    path = CONFIGS / f"{model_id.replace('/', '--')}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
