"""Plain data -> frozen dataclasses, with exact types and no unknown keys.

Nothing is converted but whole numbers between int and float: a value has the type the field names, or the error says
the dotted path, what came and how to write it. What a scalar is, files.py says: numbers as in YAML 1.2.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from leaderboard.errors import P2Error, unknown_name

T = TypeVar("T")
_LISTS = {int: "[8, 9]"}
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def build(cls: type[T], data: object, where: str = "") -> T:
    """An instance of dataclass `cls` from a mapping; `where` is the dotted path of that mapping."""
    if not isinstance(data, Mapping):
        raise P2Error(f"{where or 'recipe'}: got {_shown(data)}, allowed is a mapping of keys to values.")
    hints = typing.get_type_hints(cls)
    fields = {_key(field.name): field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise unknown_name("key", key, fields, _join(where, str(key)))
    for name, field in fields.items():
        if name not in data and _required(field):
            raise P2Error(f"{_join(where, name)}: missing; give {_described(hints[field.name])}.")
    names = {key: fields[key].name for key in data}
    return cls(**{names[key]: _value(hints[names[key]], value, _join(where, key)) for key, value in data.items()})


def _key(name: str) -> str:
    """How a field is written: Python keeps some names for itself, `from_` is `from`."""
    return name.rstrip("_")


def kind_of(cls: Any, dotted: str) -> Any:
    """The type of the field that a dotted path names, without None; None where there is no such field."""
    for name in dotted.split("."):
        if not dataclasses.is_dataclass(cls):
            return None
        hint = {_key(field): hint for field, hint in typing.get_type_hints(cls).items()}.get(name)
        union = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        cls = next((option for option in union if option is not type(None)), None)
    return cls


def plain(value: Any) -> Any:
    """A dataclass as plain mappings and lists; fields at None are left out."""
    if dataclasses.is_dataclass(value):
        pairs = ((_key(field.name), getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: plain(item) for name, item in pairs if item is not None}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def _value(hint: Any, value: object, where: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    (kind,) = (option for option in options if option is not type(None))
    if dataclasses.is_dataclass(kind):
        return build(typing.cast(type, kind), value, where)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            example = _LISTS.get(typing.get_args(kind)[0], "[a, b]")
            raise P2Error(f"{where}: got {_shown(value)}, allowed is a list, e.g. {example}.")
        return tuple(_value(typing.get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if kind is float and type(value) is int:
        return float(value)
    if kind is int and type(value) is float and value.is_integer():  # 1e9
        return int(value)
    if type(value) is not kind:
        raise P2Error(f"{where}: got {_shown(value)}, allowed is {_described(kind)}.{_hint(kind, value)}")
    return value


def _hint(kind: Any, value: object) -> str:
    """How to write what was probably meant."""
    if kind is str and type(value) in (int, float):
        return " YAML reads it as a number: put quotes around it."
    if kind in (int, float) and isinstance(value, str | float):
        try:
            number = float(value)
        except ValueError:
            return ""
        if kind is int:
            return f" Write {int(number):_}." if number.is_integer() else ""
        return f" YAML reads {value} as text: write {number}." if "e" not in repr(number) else f" Write {number:.1e}."
    return ""


def _described(kind: Any) -> str:
    options = [option for option in typing.get_args(kind) or (kind,) if option is not type(None)]
    return _WORDS.get(options[0], "a mapping" if dataclasses.is_dataclass(options[0]) else "a list")


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _shown(value: object) -> str:
    name = {str: "text", dict: "a mapping", list: "a list", type(None): "nothing"}.get(
        type(value), type(value).__name__
    )
    return "nothing" if value is None else f"{value!r} ({name})"


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
