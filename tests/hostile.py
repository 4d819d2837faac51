"""Files made to harm whoever reads them, for the tests of several rooms."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.parquet import encryption

from leaderboard.logs.check import MAX_ROWS, log_files
from leaderboard.logs.contract import BFD_SPLIT, run_id, schema
from leaderboard.logs.load import SEED


class _Keys(encryption.KmsClient):
    """A store of keys that keeps none: they are wrapped as they are."""

    def __init__(self, _: encryption.KmsConnectionConfig):
        super().__init__()

    def wrap_key(self, key_bytes: bytes, _: str) -> str:
        return key_bytes.hex()

    def unwrap_key(self, wrapped_key: str, _: str) -> bytes:
        return bytes.fromhex(wrapped_key)


def encrypted(path: Path, table: pa.Table, column: str = "seed") -> Path:
    """A log with one encrypted column: pyarrow ends the process that asks for the size of that column's chunk."""
    config = encryption.EncryptionConfiguration("footer", column_keys={"key": [column]}, plaintext_footer=True)
    keys = encryption.CryptoFactory(_Keys).file_encryption_properties(encryption.KmsConnectionConfig(), config)
    with pq.ParquetWriter(path, table.schema, encryption_properties=keys) as writer:
        writer.write_table(table)
    return path


def long_log(path: Path, seed: int, rows: int = MAX_ROWS) -> Path:
    """A valid log of as many rows as a log may have."""
    draw = np.random.default_rng(seed)
    table = pq.read_table(log_files(SEED)[0]).slice(0, 1)
    run = {name: values[0] for name, values in table.to_pydict().items()} | {"seed": 1_000 + seed, "packing": BFD_SPLIT}
    tokens = np.arange(rows) * run["batch_tokens"]
    loss = run["l0"] + (run["l_pruned"] - run["l0"]) / (1 + np.arange(rows) / 50) + draw.normal(0, 1e-4, rows)
    loss[0] = run["l_pruned"]
    run["tokens_planned"] = int(tokens[-1])
    curve = {"tokens": tokens, "loss": loss, "train_loss": loss + 0.01, "wall_s": np.arange(rows) * 1.0}
    run["run_id"] = run_id(run)
    arrays = [
        pa.array(curve[f.name], f.type)
        if f.name in curve
        else pa.array([run.get(f.name)], f.type).take(np.zeros(rows, int))
        for f in schema()
    ]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema()), path, store_schema=False)
    return path


def dictionary_bomb(path: Path, seed: int, rows: int = 1_000, characters: int = 90_000) -> Path:
    """A small log that unpacks to much: a text column of long texts, each another one, that pack well."""
    table = pq.read_table(log_files(SEED)[0]).take(np.zeros(rows, int))
    texts = pa.array([f"{seed} {i} " + "a" * characters for i in range(rows)])
    at = table.schema.get_field_index("hardware")
    pq.write_table(table.set_column(at, "hardware", texts), path, compression="zstd", store_schema=False)
    return path
