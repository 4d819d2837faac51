"""Spoiled files of every kind, seeds fixed: what is broken is one P2Error, and what is read is text."""

import gzip
import itertools
import random

import pytest

from leaderboard.errors import P2Error
from tests.zoo.inputs.test_text_files import KINDS, PACKED
from zoo.inputs.text_files import read_files

NAMES = [f"{kind}{packed}" for kind in KINDS for packed in PACKED]
WHOLE = {".json", ".parquet", ".arrow"}  # a part of such a file is none
ROUNDS = 120  # for each kind of file


def spoil(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """A spoiled copy, and how: cut, a byte changed, bytes put in or taken out, or another file's end."""
    how = draw.choice(["cut", "flip", "insert", "drop", "swap"])
    at = draw.randrange(1, len(content))
    if how == "cut":
        return content[:at], how
    if how == "flip":
        return content[:at] + bytes([content[at] ^ draw.randrange(1, 256)]) + content[at + 1 :], how
    if how == "insert":
        return content[:at] + draw.choice([b"\0", b"\n", b'"', b"{", b"\xff", b"\\ud800", b",,"]) + content[at:], how
    if how == "drop":
        return content[: at - 1] + content[at + draw.randrange(4) :], how
    return content[:at] + gzip.compress(content)[-at:], how


@pytest.mark.slow
@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.sample), 1, 2, 3, 4])
def test_no_spoiled_file_is_a_traceback_or_read_as_if_whole(tmp_path, seed):
    for name, number in itertools.product(NAMES, range(ROUNDS)):
        kind, packed = f".{name.split('.')[1]}", name.removeprefix(f".{name.split('.')[1]}")
        content = PACKED[packed](KINDS[kind])
        spoiled, how = spoil(content, random.Random(f"{seed} {name} {number}"))
        path = tmp_path / f"a{name}"
        path.write_bytes(spoiled)
        texts, message = outcome(path)
        assert "\n" not in message, (name, how)
        if texts is None:
            assert f"a{name}" in message or "column" in message, (name, how)
        else:
            assert all(text is None or text.encode() is not None for text in texts)
            whole_only = kind in WHOLE or packed
            assert not (how == "cut" and whole_only and spoiled.rstrip() != content.rstrip()), (name, number)


def outcome(path):
    """The texts of a file, or None and why it was refused."""
    try:
        return read_files([path], "text", "data.train").texts, ""
    except P2Error as error:
        return None, str(error)
