"""Files made to harm whoever reads them, for the tests of several rooms."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.parquet import encryption


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
