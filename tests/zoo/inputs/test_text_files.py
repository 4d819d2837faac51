"""Text as it comes: every kind of file is read as what it is, or refused with the line; nothing is one raw document."""

import bz2
import gzip
import json
import lzma
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from leaderboard.errors import P2Error
from zoo.inputs.base_model import load_tokenizer
from zoo.inputs.packing import PADDING, pack
from zoo.inputs.spool import spooled
from zoo.inputs.text import Tally, check_apart, check_text, documents, fingerprint, tokenize
from zoo.inputs.text_files import READERS
from zoo.recipe.files import load_recipe
from zoo.recipe.spec import TextSpec

ROOT = Path(__file__).parents[3]
TEXTS = ["one document", 'two\n"lines", of\ttext', "caf\u00e9 \u2028 and \x85 stay", ""]
LINES = "".join(json.dumps({"text": text, "n": i}, ensure_ascii=False) + "\n" for i, text in enumerate(TEXTS))
FRAME = pd.DataFrame({"id": range(len(TEXTS)), "text": TEXTS})


def _arrow(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(content)
    return sink.getvalue().to_pybytes()


KINDS = {
    ".jsonl": LINES.encode(),
    ".ndjson": LINES.replace("\n", "\r\n").encode(),
    ".json": json.dumps([{"text": text} for text in TEXTS], indent=1).encode(),
    ".csv": FRAME.to_csv(index=False).encode(),
    ".tsv": FRAME.to_csv(index=False, sep="\t").encode(),
    ".parquet": FRAME.to_parquet(),
    ".arrow": _arrow(pa.Table.from_pandas(FRAME)),
    ".txt": "\0".join(TEXTS).encode(),
}
PACKED = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": _zstd}


def read(folder, name, **settings):
    return list(documents(TextSpec(file=name, **settings), folder, "data.train"))


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_its_documents(tmp_path, kind, packed):
    (tmp_path / f"a{kind}{packed}").write_bytes(PACKED[packed](KINDS[kind]))
    (tmp_path / f"B{kind}{packed}".upper()).write_bytes(PACKED[packed](KINDS[kind]))
    wanted = TEXTS[:3] if kind == ".txt" else TEXTS  # plain text has no empty documents
    assert read(tmp_path, f"a{kind}{packed}") == wanted
    assert read(tmp_path, f"B{kind}{packed}".upper()) == wanted


def test_every_suffix_that_is_read_was_tried():
    assert set(READERS) == {*KINDS, ".text", ".md", ".rst"}  # the last three are plain text, as .txt is


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in (".parquet", ".arrow")])
def test_a_mark_of_byte_order_is_no_text(tmp_path, kind):
    (tmp_path / f"a{kind}").write_bytes(b"\xef\xbb\xbf" + KINDS[kind])
    assert read(tmp_path, f"a{kind}")[:3] == TEXTS[:3]


def test_one_object_alone_may_take_several_lines(tmp_path):
    (tmp_path / "a.json").write_text('{\n "text": "a b",\n "meta": {"x": [1]}\n}\n')
    assert read(tmp_path, "a.json") == ["a b"]


def test_a_csv_has_no_types(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n1,NA\n2,null\n3,17\n4,1e5\n")
    assert read(tmp_path, "a.csv") == ["NA", "null", "17", "1e5"]


def test_folders_and_patterns(tmp_path):
    for name in ("b", "a", "deep/c"):
        path = tmp_path / "texts" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"text": name}) + "\n")
    (tmp_path / "texts" / "README.md").write_text("# about these\n")
    (tmp_path / "texts" / ".cache").mkdir()
    (tmp_path / "texts" / ".cache" / "x.jsonl").write_text("{")
    assert read(tmp_path, "./texts") == read(tmp_path, str(tmp_path / "texts")) == ["a", "b", "deep/c"]
    assert read(tmp_path, "texts/*.jsonl") == read(tmp_path, str(tmp_path / "texts/*.jsonl")) == ["a", "b"]
    assert read(tmp_path, "texts/**/*.jsonl") == ["a", "b", "deep/c"]
    pin = fingerprint(TextSpec(file="texts"), tmp_path, "data.train")
    (tmp_path / "texts" / "d.jsonl.gz").write_bytes(gzip.compress(b'{"text": "d"}\n'))
    assert read(tmp_path, "texts") == ["a", "b", "d", "deep/c"]
    assert fingerprint(TextSpec(file="texts"), tmp_path, "data.train") != pin
    (tmp_path / "texts" / "e.parquet").write_bytes(KINDS[".parquet"])
    with pytest.raises(P2Error, match=r"files of several kinds: \.jsonl, \.parquet; name those .* by a pattern"):
        read(tmp_path, "texts")


def test_rows_without_text_are_passed_over_and_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": null}\n{"text": "a"}\n{"text": null}\n{"text": "b"}\n')
    pd.DataFrame({"text": ["a", None, "b"]}).to_parquet(tmp_path / "a.parquet")
    for name, passed in (("a.jsonl", 2), ("a.parquet", 1)):
        tally = Tally()
        assert list(documents(TextSpec(file=name), tmp_path, "data.train", tally=tally)) == ["a", "b"]
        assert tally.without_text == passed


FAULTS = {
    "a.html": (b"<p>", r"a\.html: unknown suffix '\.html'.*Known: .*\.jsonl"),
    "a": (b"text", r"unknown suffix 'a'"),
    "a.zip": (b"PK", r"unknown suffix '\.zip'"),
    "lines.txt": (LINES.encode(), r"line 1: is JSON, not plain text; call it \.jsonl"),
    "array.md": (b'[{"text": "a"}]', r"is JSON, not plain text"),
    "wide.txt": ("some text".encode("utf-16-le"), r"UTF-16"),
    "cut.jsonl": (LINES.encode() + b'{"text": "a', r"cannot be read as jsonl \(line 5\)"),
    "cut.json": (KINDS[".json"][:-20], r"cannot be read as json"),
    "deep.json": (b"[" * 100_000, r"cannot be read as json"),
    "half.jsonl": (b'{"text": "a"}\n{"text": "half \\ud83d an emoji"}\n', r"line 2: half a character .*\\ud83d"),
    "half.json": (b'[{"text": "\\udc00"}]', r"object 1|line 1"),
    "number.jsonl": (b'{"text": "a"}\n\n{"text": 5}\n', r"number\.jsonl, line 3: column 'text' holds int, not text"),
    "list.jsonl": (b'{"text": ["a"]}\n', r"line 1: column 'text' holds list, not text"),
    "string.jsonl": (b'"a"\n', r"line 1: str where an object with the key 'text' is due"),
    "other.json": (b'[{"text": "a"}, {"body": "b"}]', r"object 2: no text under 'text'; it has body; name the column"),
    "latin.jsonl": (b'{"text": "a"}\n{"text": "caf\xe9"}\n', r"line 2 is not UTF-8"),
    "short.csv": (b"id,text\n1,a\n2\n", r"line 3: 1 fields where the first line names 2"),
    "long.csv": (b"id,text\n1,a,b\n2,c,d\n", r"line 2: 3 fields"),
    "quote.csv": (b'id,text\n1,"a\n', r"line 2: no rows with commas between their fields"),
    "twice.csv": (b"text,text\n1,a\n", r"unknown column 'text'"),
    "other.csv": (b"id;text\n1;a\n", r"unknown column 'text'.*id;text"),
    "lists.parquet": (pd.DataFrame({"text": [["a"]]}).to_parquet(), r"column 'text' holds list<.*not text; text: none"),
    "bytes.parquet": (pd.DataFrame({"text": [b"a"]}).to_parquet(), r"holds binary, not text"),
    "struct.parquet": (pd.DataFrame({"text": [{"a": 1}], "b": ["x"]}).to_parquet(), r"holds struct<.*; text: b"),
    "number.parquet": (pd.DataFrame({"text": [1.5]}).to_parquet(), r"holds double, not text"),
    "cut.parquet": (KINDS[".parquet"][:-9], r"cannot be read as parquet"),
    "pointer.parquet": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", r"run `git lfs pull`"),
    "pointer.txt": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", r"run `git lfs pull`"),
    "plain.jsonl.gz": (LINES.encode(), r"cannot be read as gz: Not a gzipped file"),
    "packed.jsonl": (gzip.compress(LINES.encode()), r"line 1 is not UTF-8"),
    **{f"cut.jsonl{kind}": (pack(LINES.encode())[:-9], r"cannot be read as") for kind, pack in PACKED.items() if kind},
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_file_is_not_is_told_with_the_line(tmp_path, name):
    content, message = FAULTS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(P2Error, match=message) as caught:
        check_text(TextSpec(file=name), tmp_path, "data.train")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("data.train")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./folder", r"'\./folder' is no Hub id; .*`file: \./folder`"),
        ("https://huggingface.co/datasets/a/b", r"is no Hub id; write the last two parts of the address"),
        ("a/b/c", r"is no Hub id; write owner/name with one slash"),
        ("", "is no Hub id"),
    ],
)
def test_what_cannot_be_a_data_set_is_refused_by_the_recipe(name, message):
    with pytest.raises(P2Error, match=message):
        TextSpec(dataset=name)


def test_special_tokens_in_a_text_are_text(quickstart):
    tokenizer = load_tokenizer(quickstart / "tiny-llama-3")
    end = tokenizer.eos_token_id
    texts = ["plain", f"a{tokenizer.eos_token}b", f"ends with {tokenizer.eos_token}", tokenizer.eos_token, ""]
    for text, ids in zip(texts, tokenize(texts, tokenizer), strict=True):
        assert ids.count(end) == 1
        assert ids[-1] == end
        assert tokenizer.decode(ids[:-1]) == text


def test_a_tokenization_that_was_stopped_goes_on_where_it_was(bench_folder, tmp_path):
    tokenizer = load_tokenizer(bench_folder / "model")
    texts = [f"document {i} " * (i % 7) for i in range(300)]
    wanted = [list(ids) for ids in tokenize(texts, tokenizer)]
    some = spooled(texts, tokenizer, tmp_path)
    assert [list(next(some)) for _ in range(100)] == wanted[:100]
    some.close()
    with (tmp_path / "tokens.bin").open("ab") as file:
        file.write(b"half of a document")
    with (tmp_path / "ends.bin").open("ab") as file:
        file.write(b"\1\0\0")
    calls = []

    def counted(batch, **settings):
        calls.append(len(batch))
        return tokenizer(batch, **settings)

    counted.eos_token_id = tokenizer.eos_token_id
    again = spooled(texts, counted, tmp_path)
    assert [list(ids) for ids in again] == wanted
    assert sum(calls[1:]) == 300 - 128  # the first two batches of 64 were kept; the first call asks how a text ends


@pytest.mark.parametrize("packing", ["wrapped", "bfd_split"])
def test_blocks_on_disk_are_those_in_memory(tmp_path, packing):
    texts = [list(range(1, 2 + i % 40)) for i in range(200)]
    in_memory, on_disk = (pack(texts, 16, packing, 1_500, folder=folder) for folder in (None, tmp_path))
    assert in_memory.sha256 == on_disk.sha256
    assert (in_memory.seen, in_memory.packed) == (on_disk.seen, on_disk.packed)
    assert in_memory.packed == np.count_nonzero(on_disk.positions != PADDING)


def recipe_on(folder, bench_folder, train, heldout):
    for name, texts in (("train", train), ("heldout", heldout)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return load_recipe(
        bench_folder / "recipe.yaml", [f"data.{name}.file={folder / name}.jsonl" for name in ("train", "heldout")]
    )


def test_held_out_documents_in_the_training_text_are_counted(bench_folder, tmp_path):
    recipe = recipe_on(tmp_path, bench_folder, ["a", "b", "c", " d\n"], ["d", "e", "b", "b"])
    assert check_apart(recipe) == 2
    assert check_apart(recipe_on(tmp_path, bench_folder, ["a"], ["b"])) == 0
    with pytest.raises(P2Error, match=r"every document of heldout\.jsonl stands in data\.train"):
        check_apart(recipe_on(tmp_path, bench_folder, ["a", "b", "c"], ["c", "a"]))


@pytest.mark.slow
def test_a_run_stopped_while_it_tokenizes_goes_on_from_what_it_has(bench_folder, tmp_path):
    known = next(iter(documents(load_recipe(bench_folder / "recipe.yaml").data.train, bench_folder, "data.train")))
    (tmp_path / "large.txt").write_text("\0".join(f"{i} {known[:400]}" for i in range(150_000)))
    tokens, held = 20_000_000 // 128 * 128, tmp_path / "run" / ".work" / "train" / "tokens.bin"
    words = ["run", bench_folder / "recipe.yaml", f"--set=data.train.file={tmp_path / 'large.txt'}", "--resume"]
    words += [f"--set=train.tokens={tokens}", f"--out={tmp_path / 'run'}"]
    kept = b""
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "zoo", *map(str, words)], stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        try:
            until = time.monotonic() + 300
            while not held.is_file() or held.stat().st_size <= len(kept) + 400_000:
                assert time.monotonic() < until
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=200)
        finally:
            process.kill()
        assert process.returncode == 75
        assert "stopped by SIGTERM with what was done so far saved; the same command with --resume goes on" in told
        now = held.read_bytes()
        assert now.startswith(kept)
        kept = now[: len(now) // 4 * 4 - 4 * 10_000]  # the last documents may not be whole
