"""What a parquet file would unpack to, read from its page headers before anything is unpacked.

A few kB can stand for gigabytes: the footer may lie about sizes, a page may be compressed zeros, and delta-coded
strings repeat their predecessor. Only page headers (Thrift compact protocol, github.com/apache/parquet-format) tell
what a reader will allocate, so `unpacked_bytes` walks them. What cannot hurt is not walked: a short column of numbers.
"""

from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

MAGIC = b"PAR1"  # the last bytes; the footer's length stands before
HARMLESS = 1_000  # compressed bytes of a column of numbers: 33 MB for a moment, as zstd makes 128 kB from four bytes
TEXT = "BYTE_ARRAY"
CODECS = {"UNCOMPRESSED", "SNAPPY", "GZIP", "LZ4", "LZ4_RAW", "ZSTD"}
ENCODINGS = {0, 2, 3, 4, 5, 6, 8, 9}  # all but 7, DELTA_BYTE_ARRAY, in which a byte can stand for a megabyte
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3  # page types
_ENCODING = {5: 2, 7: 2, 8: 4}  # field of the page header that describes the page: field of the encoding in it
_TRUE, _FALSE, _BYTE, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 6, 7, 8, 9, 10, 11, 12
_DEEPEST = 8


def footer_bytes(data: bytes) -> int:
    """Length of the footer, where columns and row groups are described, by the file's own account."""
    return int.from_bytes(data[-8:-4], "little") if data[-4:] == MAGIC else 0


def unpacked_bytes(data: bytes, metadata: pq.FileMetaData) -> int:
    """Bytes that all pages unpack to at most. Raises ArrowInvalid on pages no honest writer makes."""
    text = [metadata.schema.column(i).physical_type == TEXT for i in range(metadata.num_columns)]
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    try:
        return sum(_chunk_bytes(data, group.column(i), text[i]) for group in groups for i in range(group.num_columns))
    except IndexError as error:
        raise pa.ArrowInvalid("a page header runs beyond the file") from error


def _chunk_bytes(data: bytes, chunk: pq.ColumnChunkMetaData, text: bool) -> int:
    size = chunk.total_compressed_size
    if not text and 0 <= size <= HARMLESS:
        return 0
    if chunk.compression not in CODECS:
        raise pa.ArrowInvalid(f"compression {chunk.compression}; write zstd or snappy")
    first = chunk.data_page_offset
    at = min(chunk.dictionary_page_offset or first, first)
    if not 0 <= at <= at + size <= len(data):
        raise pa.ArrowInvalid("a column lies outside the file")
    pages = data[at : at + size]
    return _short_pages_bytes(pages) if size <= HARMLESS else _pages_bytes(pages)


@lru_cache(maxsize=4096)
def _short_pages_bytes(data: bytes) -> int:
    """The same for a few bytes: most logs share most of their texts."""
    return _pages_bytes(data)


def _pages_bytes(data: bytes) -> int:
    at = total = 0
    while at < len(data):
        at, kind, unpacked, packed, encoding = _page_header(data, at)
        if kind not in (_DATA, _DICTIONARY, _DATA_V2) or encoding not in ENCODINGS or unpacked < 0 or packed < 0:
            raise pa.ArrowInvalid(f"a page of type {kind} in encoding {encoding}; write plain or dictionary pages")
        total += unpacked
        at += packed
    return total


def _page_header(data: bytes, at: int) -> tuple[int, int, int, int, int]:
    """Where the page begins, its type, unpacked and packed bytes, and encoding (-1 where any is not told)."""
    number, told, encoding = 0, [-1, -1, -1, -1], -1
    while (byte := data[at]) != 0:
        at += 1
        delta, kind = byte >> 4, byte & 15
        if not delta:
            raise pa.ArrowInvalid("a page header with its fields out of order")
        number += delta
        if number <= 3 and kind == 5:
            told[number], at = _zigzag(data, at)
        elif number in _ENCODING and kind == _STRUCT:
            encoding, at = _encoding(data, at, _ENCODING[number])
        else:
            at = _skip(data, at, kind, _DEEPEST)
    return at + 1, told[1], told[2], told[3], encoding


def _encoding(data: bytes, at: int, wanted: int) -> tuple[int, int]:
    number, found = 0, -1
    while (byte := data[at]) != 0:
        at += 1
        number += byte >> 4
        if not byte >> 4:
            raise pa.ArrowInvalid("a page header with its fields out of order")
        if number == wanted:
            found, at = _zigzag(data, at)
        else:
            at = _skip(data, at, byte & 15, _DEEPEST)
    return found, at + 1


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := data[at]) & 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if shift > 63:
            raise pa.ArrowInvalid("a number that does not end")
    return value | byte << shift, at + 1


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _skip(data: bytes, at: int, kind: int, depth: int) -> int:
    """Where the value after this one begins."""
    if kind in (_TRUE, _FALSE):
        return at
    if kind == _BYTE:
        return at + 1
    if kind <= _I64:
        return _varint(data, at)[1]
    if kind == _DOUBLE:
        return at + 8
    if kind == _BINARY:
        size, at = _varint(data, at)
        return at + size
    if kind == _STRUCT and depth:
        while (byte := data[at]) != 0:
            at += 1
            if not byte >> 4:
                raise pa.ArrowInvalid("a page header with its fields out of order")
            at = _skip(data, at, byte & 15, depth - 1)
        return at + 1
    raise pa.ArrowInvalid("a page header with a field no writer makes")  # lists and maps stand in none
