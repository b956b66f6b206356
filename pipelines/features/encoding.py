"""Rows of a feature view as the bytes that Feast's online stores keep, a column at a time.

Feast builds a message per value; here equal values are built once. The bytes are the same.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import polars as pl

from pipelines.errors import CardlineError

if TYPE_CHECKING:
    from pipelines.features.registry import View

# Named like no feature can be (names start with a letter): Feast reads past it.
VERSION_FIELD = "__version__"
NULL = b""
# Versions are compared as text of fixed width; the offset keeps times before 1970 positive.
_OFFSET = 10**18
_EPOCH = datetime(1970, 1, 1)
_DOUBLE_TAG = 0x29
_unpack_double = struct.Struct("<d").unpack_from


@dataclass(frozen=True)
class OnlineRows:
    """One row per key, column by column, ready to be written.

    `keys` are serialised entity keys, `columns` serialised values by feature, and the times are
    microseconds since 1970 UTC: what the row is about, and when it became known.
    """

    keys: list[bytes]
    columns: dict[str, list[bytes]]
    event_us: list[int]
    created_us: list[int]

    def __len__(self) -> int:
        return len(self.keys)

    def versions(self) -> list[str]:
        """Each row's place in the order that decides which of two rows stays."""
        return [version(e, c) for e, c in zip(self.event_us, self.created_us, strict=True)]


def version(event_us: int, created_us: int) -> str:
    """Text that sorts as (event time, known time) does; 38 characters."""
    return f"{event_us + _OFFSET:019d}{created_us + _OFFSET:019d}"


def encode_frame(view: "View", frame: pl.DataFrame) -> OnlineRows:
    """`frame` (key, features, event_timestamp, created_timestamp; one row a key) as bytes."""
    return OnlineRows(
        keys=encode_keys(view.key, frame[view.key]),
        columns={name: encode_values(frame[name], kind) for name, kind in view.features.items()},
        event_us=frame["event_timestamp"].dt.timestamp("us").to_list(),
        created_us=frame["created_timestamp"].dt.timestamp("us").to_list(),
    )


def encode_keys(join_key: str, values: Iterable[str]) -> list[bytes]:
    """Feast's serialised entity keys (version 3) of one string key."""
    prefix = _key_prefix(join_key)
    encoded = (value.encode() for value in values)
    return [prefix + struct.pack("<I", len(value)) + value for value in encoded]


@lru_cache(maxsize=64)
def _key_prefix(join_key: str) -> bytes:
    from feast.infra.key_encoding_utils import serialize_entity_key_prefix
    from feast.protos.feast.types.Value_pb2 import ValueType

    return serialize_entity_key_prefix([join_key], 3) + struct.pack("<I", ValueType.STRING)


def encode_values(values: pl.Series, kind: str) -> list[bytes]:
    """Feast's serialised values of a column; null is the empty message.

    `kind` is a Feast value type name: `INT64`, `DOUBLE`, `STRING` or `BOOL`.
    """
    from feast.protos.feast.types.Value_pb2 import Value

    makers: dict[str, Callable[[Any], Any]] = {
        "INT64": lambda value: Value(int64_val=value),
        "STRING": lambda value: Value(string_val=value),
        "BOOL": lambda value: Value(bool_val=value),
    }
    if kind == "DOUBLE":
        # A double is a tag and eight bytes; sharing equal ones would only cost a lookup.
        tag = Value(double_val=1.0).SerializeToString()[:-8]
        pack = struct.Struct("<d").pack
        doubles = values.cast(pl.Float64).to_list()
        return [NULL if value is None else tag + pack(value) for value in doubles]
    if kind not in makers:
        raise CardlineError(f"feature {values.name}: type {kind} is not one that is served online")
    make = makers[kind]
    known: dict[Any, bytes] = {
        value: make(value).SerializeToString() for value in values.drop_nulls().unique().to_list()
    }
    known[None] = NULL
    return [known[value] for value in values.to_list()]


def decode_value(data: bytes) -> Any:
    """A serialised value as Python's; the empty message is None."""
    if len(data) == 9 and data[0] == _DOUBLE_TAG:
        return _unpack_double(data, 1)[0]
    return _decode_message(data)


@lru_cache(maxsize=65_536)
def _decode_message(data: bytes) -> Any:
    from feast.protos.feast.types.Value_pb2 import Value

    message = Value.FromString(data)
    kind = message.WhichOneof("val")
    return None if kind is None or kind == "null_val" else getattr(message, kind)


def encode_messages(data: Iterable[tuple[Any, dict[str, Any], datetime, Any]]) -> list[OnlineRows]:
    """Feast's own write batch as rows; keys that occur twice keep the later version.

    One element per set of features, since a push may hold rows that differ in them.
    """
    from feast.infra.key_encoding_utils import serialize_entity_key

    latest: dict[tuple[bytes, tuple[str, ...]], tuple[str, dict[str, Any], int, int]] = {}
    for entity_key, values, event_at, created_at in data:
        key = serialize_entity_key(entity_key, 3)
        event_us = _microseconds(event_at)
        created_us = event_us if created_at is None else _microseconds(created_at)
        row = (version(event_us, created_us), values, event_us, created_us)
        known = latest.get((key, tuple(sorted(values))))
        if known is None or known[0] <= row[0]:
            latest[key, tuple(sorted(values))] = row
    groups: dict[tuple[str, ...], OnlineRows] = {}
    for (key, names), (_, values, event_us, created_us) in latest.items():
        rows = groups.setdefault(names, OnlineRows([], {name: [] for name in names}, [], []))
        rows.keys.append(key)
        rows.event_us.append(event_us)
        rows.created_us.append(created_us)
        for name in names:
            rows.columns[name].append(values[name].SerializeToString())
    return list(groups.values())


def chunks(size: int, length: int) -> Iterable[range]:
    """Consecutive ranges of at most `length` that cover `size`."""
    return (range(at, min(at + length, size)) for at in range(0, size, length))


def take(values: Sequence[Any], where: Iterable[int]) -> list[Any]:
    """The elements of `values` at `where`."""
    return [values[index] for index in where]


def _microseconds(at: datetime) -> int:
    naive = at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)
    delta = naive - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
