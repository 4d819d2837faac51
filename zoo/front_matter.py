"""YAML of strangers: what stands at the top of a README, as JSON could hold it, and never more work than its length.

Refused are aliases (ten lines of them unfold to gigabytes), more than MOST_BYTES, MOST_DEPTH levels or MOST_VALUES, and
what JSON has no form for: bytes, sets, numbers that are none, half a surrogate pair. Dates become their text.
"""

import datetime as dt
import math
import re
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 100_000
MOST_DEPTH = 20
MOST_VALUES = 4_000  # keys count too; half a second of reading
_LONGEST_NUMBER = 100  # characters
_LARGEST = 2**64
_BEGIN, _END = re.compile(r"\s{0,100}---\r?\n"), re.compile(r"^---", re.M)


class _Loader(yaml.SafeLoader):
    """Refuses while it reads, before anything is unfolded."""

    depth = values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("aliases (*name) are not read; write the values out")
        self.depth, self.values = self.depth + 1, self.values + 1
        if self.values > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} keys and values")
        if self.depth > MOST_DEPTH:
            raise ValueError(f"more than {MOST_DEPTH} levels of nesting")
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float")):
            node.value = node.value[:_LONGEST_NUMBER]  # what is longer is told as a number too large
        return node


def metadata(text: str) -> dict[str, Any]:
    """The mapping between the first two lines of `---`; empty where there is none. Raises ValueError in words."""
    begin = _BEGIN.match(text)
    end = _END.search(text, begin.end(), begin.end() + MOST_BYTES + 3) if begin else None
    if begin is None:
        return {}
    if end is None:
        if len(text) > MOST_BYTES:
            raise ValueError(f"the metadata do not end within {MOST_BYTES:,} characters")
        return {}
    data = plain_yaml(text[begin.end() : end.start()])
    if data is not None and not isinstance(data, dict):
        raise ValueError(f"the metadata must be a mapping of names to values, got {type(data).__name__}")
    return data or {}


def metadata_of(path: Path) -> dict[str, Any]:
    """The metadata of a README; empty where they are broken, or there is no such file."""
    try:
        with path.open("rb") as file:
            return metadata(file.read(2 * MOST_BYTES).decode("utf-8", "replace"))
    except (OSError, ValueError):
        return {}


def plain_yaml(text: str) -> Any:
    """A YAML document as JSON could hold it. Raises ValueError in words."""
    if len(text.encode("utf-8", "replace")) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES:,} bytes of YAML")
    try:
        return _plain(yaml.load(text, _Loader))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except (ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"a value unlike its tag: {error}") from None


def _plain(value: Any) -> Any:
    """The value in kinds that JSON has."""
    if isinstance(value, dict):
        return {_text(str(_scalar(key))): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dt.date):  # or a datetime
        return value.isoformat()
    whole = isinstance(value, int) and abs(value) < _LARGEST
    if value is None or whole or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(f"a {type(value).__name__} that JSON cannot hold")


def _text(text: str) -> str:
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("half a surrogate pair, which is no text")
    return text
