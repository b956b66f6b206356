"""Rows of a feature view as the online stores keep them: one packed value per key and view.

Feast keeps a message per value; here a row is its version, a mark of its layout, which values are
null, and the values side by side. Writing packs whole columns, reading is one lookup a view.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from pipelines.errors import CardlineError

if TYPE_CHECKING:
    from pipelines.features.registry import View

KEY_VERSION = 3
"""Of Feast's serialization of entity keys; `feature_repo/feature_store.yaml` names it, too."""
VERSION_BYTES = 38
MARK_KEY = b"__packed_mark__"
"""Of what says, in a view's table of SQLite, how far the view is materialised."""
# Versions are compared as text of fixed width; the offset keeps times before 1970 positive.
_OFFSET = 10**18
_EPOCH = datetime(1970, 1, 1)
# By Feast's value type: how `struct` and NumPy call what is packed. A text leaves its length there
# and follows behind the others.
_PACKED = {
    "INT64": ("q", "<i8"),
    "DOUBLE": ("d", "<f8"),
    "BOOL": ("?", "?"),
    "STRING": ("I", "<u4"),
}
_POLARS: dict[str, Any] = {"INT64": pl.Int64, "DOUBLE": pl.Float64, "BOOL": pl.Boolean}


@dataclass(frozen=True)
class OnlineRows:
    """Rows ready to be written: serialised entity keys and packed values, one for one."""

    keys: list[bytes]
    values: list[bytes]

    def __len__(self) -> int:
        return len(self.keys)


class Layout:
    """How the features of one view are packed; two layouts with equal `digest` are the same."""

    def __init__(self, features: Mapping[str, str]) -> None:
        unknown = [name for name, kind in features.items() if kind not in _PACKED]
        if unknown:
            raise CardlineError(
                f"feature {unknown[0]}: type {features[unknown[0]]} is not one that is served "
                "online"
            )
        self.names = tuple(features)
        self.kinds = tuple(features.values())
        self._texts = tuple(at for at, kind in enumerate(self.kinds) if kind == "STRING")
        self._bits = (len(self.names) + 7) // 8
        self.digest = hashlib.sha256(repr(tuple(features.items())).encode()).digest()[:4]
        codes = "".join(_PACKED[kind][0] for kind in self.kinds)
        self._struct = struct.Struct(f"<{VERSION_BYTES}s4s{self._bits}s{codes}")
        head = [("version", f"S{VERSION_BYTES}"), ("digest", "S4"), ("nulls", "u1", (self._bits,))]
        fixed = [(f"v{at}", _PACKED[kind][1]) for at, kind in enumerate(self.kinds)]
        self._dtype = np.dtype([*head, *fixed])

    def pack_columns(self, versions: list[str], columns: Sequence[pl.Series]) -> list[bytes]:
        """One packed value per row; `columns` are the features, in order."""
        rows = np.zeros(len(versions), self._dtype)
        rows["version"] = versions
        rows["digest"] = self.digest
        nulls = np.zeros((len(versions), self._bits * 8), bool)
        texts: dict[int, list[bytes]] = {}
        for at, (column, kind) in enumerate(zip(columns, self.kinds, strict=True)):
            nulls[:, at] = column.is_null().to_numpy()
            if kind == "STRING":
                texts[at] = [(value or "").encode() for value in column.to_list()]
                rows[f"v{at}"] = [len(value) for value in texts[at]]
            else:
                nothing = False if kind == "BOOL" else 0
                rows[f"v{at}"] = column.cast(_POLARS[kind]).fill_null(nothing).to_numpy()
        rows["nulls"] = np.packbits(nulls, axis=1, bitorder="little")
        data, width = rows.tobytes(), self._dtype.itemsize
        packed = [data[start : start + width] for start in range(0, len(data), width)]
        if not texts:
            return packed
        return [b"".join(parts) for parts in zip(packed, *texts.values(), strict=True)]

    def pack(self, row_version: str, values: Mapping[str, Any]) -> bytes:
        """One row from Python values by name."""
        bits, fixed, texts = 0, [], []
        for at, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True)):
            value = values[name]
            if value is None:
                bits |= 1 << at
            if kind == "STRING":
                texts.append((value or "").encode())
                fixed.append(len(texts[-1]))
            else:
                fixed.append(value or 0)
        nulls = bits.to_bytes(self._bits, "little")
        head = self._struct.pack(row_version.encode(), self.digest, nulls, *fixed)
        return head + b"".join(texts)

    def holds(self, data: bytes) -> bool:
        """Whether a row is of this layout."""
        return data[VERSION_BYTES : VERSION_BYTES + 4] == self.digest

    def unpack(self, data: bytes) -> Sequence[Any]:
        """The values of a row in order. Raises `LayoutChanged` for a row of another layout."""
        if not self.holds(data):
            raise LayoutChanged(
                "the online store holds rows with other columns: run `cardline run`"
            )
        _, _, nulls, *values = self._struct.unpack_from(data)
        if self._texts:
            start = self._struct.size
            for at in self._texts:
                end = start + values[at]
                values[at] = data[start:end].decode()
                start = end
        bits = int.from_bytes(nulls, "little")
        if bits:
            return [None if bits >> at & 1 else value for at, value in enumerate(values)]
        return values


class LayoutChanged(CardlineError):
    """A row was packed before the columns of its view changed."""


@lru_cache(maxsize=256)
def _layout(features: tuple[tuple[str, str], ...]) -> Layout:
    return Layout(dict(features))


def layout_of(table: Any) -> Layout:
    """The layout of a Feast feature view."""
    return _layout(tuple((f.name, f.dtype.to_value_type().name) for f in table.features))


def version(event_us: int, created_us: int) -> str:
    """Text that sorts as (event time, known time) does; 38 characters."""
    return f"{event_us + _OFFSET:019d}{created_us + _OFFSET:019d}"


def event_time(data: bytes) -> datetime:
    """The event time (UTC, with its zone) of a packed row."""
    at = timedelta(microseconds=int(data[: VERSION_BYTES // 2]) - _OFFSET)
    return (_EPOCH + at).replace(tzinfo=UTC)


def is_expired(table: Any, data: bytes) -> bool:
    """Whether a packed row is older now than the TTL of its view, as it would be offline."""
    return bool(table.ttl) and event_time(data) < datetime.now(UTC) - table.ttl


def encode_frame(view: "View", frame: pl.DataFrame) -> OnlineRows:
    """`frame` (key, features, event_timestamp, created_timestamp; one row a key), packed."""
    times = zip(
        frame["event_timestamp"].dt.timestamp("us").to_list(),
        frame["created_timestamp"].dt.timestamp("us").to_list(),
        strict=True,
    )
    known: dict[tuple[int, int], str] = {}
    versions = [known.get(pair) or known.setdefault(pair, version(*pair)) for pair in times]
    layout = _layout(tuple(view.features.items()))
    columns = [frame[name] for name in view.features]
    return OnlineRows(
        encode_keys(view.key, frame[view.key]), layout.pack_columns(versions, columns)
    )


def encode_keys(join_key: str, values: Iterable[str]) -> list[bytes]:
    """Feast's serialised entity keys (version 3) of one string key."""
    prefix = _key_prefix(join_key)
    length = struct.Struct("<I").pack
    encoded = (value.encode() for value in values)
    return [prefix + length(len(value)) + value for value in encoded]


@lru_cache(maxsize=64)
def _key_prefix(join_key: str) -> bytes:
    from feast.infra.key_encoding_utils import serialize_entity_key_prefix
    from feast.protos.feast.types.Value_pb2 import ValueType

    prefix = serialize_entity_key_prefix([join_key], KEY_VERSION)
    return prefix + struct.pack("<I", ValueType.STRING)


def encode_messages(
    table: Any, data: Iterable[tuple[Any, dict[str, Any], datetime, Any]]
) -> OnlineRows:
    """Feast's own write batch, packed; of rows of one key the latest counts.

    Raises `CardlineError` where a row lacks a feature: a packed row is written whole.
    """
    from feast.infra.key_encoding_utils import serialize_entity_key

    layout = layout_of(table)
    latest: dict[bytes, bytes] = {}
    for entity_key, values, event_at, created_at in data:
        missing = [name for name in layout.names if name not in values]
        if missing:
            raise CardlineError(f"a row of {table.name} lacks {', '.join(missing)}")
        key = serialize_entity_key(entity_key, KEY_VERSION)
        event_us = _microseconds(event_at)
        created_us = event_us if created_at is None else _microseconds(created_at)
        plain = {name: _plain(values[name]) for name in layout.names}
        packed = layout.pack(version(event_us, created_us), plain)
        if key not in latest or latest[key][:VERSION_BYTES] <= packed[:VERSION_BYTES]:
            latest[key] = packed
    return OnlineRows(list(latest), list(latest.values()))


def as_messages(
    table: Any, data: bytes | None, requested: Sequence[str] | None
) -> tuple[datetime | None, dict[str, Any] | None]:
    """A packed row as Feast's stores answer: event time and messages by feature.

    Those of a row older than its view's TTL are null, as they are offline.
    """
    if data is None:
        return None, None
    layout = layout_of(table)
    wanted = set(layout.names if requested is None else requested)
    values = [None] * len(layout.names) if is_expired(table, data) else layout.unpack(data)
    found = zip(layout.names, layout.kinds, values, strict=True)
    return event_time(data), {
        name: _message(kind, value) for name, kind, value in found if name in wanted
    }


def _plain(message: Any) -> Any:
    kind = message.WhichOneof("val")
    return None if kind is None or kind == "null_val" else getattr(message, kind)


def _message(kind: str, value: Any) -> Any:
    from feast.protos.feast.types.Value_pb2 import Value

    if value is None:
        return Value()
    makers: dict[str, Callable[[Any], Any]] = {
        "INT64": lambda value: Value(int64_val=value),
        "DOUBLE": lambda value: Value(double_val=value),
        "STRING": lambda value: Value(string_val=value),
        "BOOL": lambda value: Value(bool_val=value),
    }
    return makers[kind](value)


def chunks(size: int, length: int) -> Iterable[range]:
    """Consecutive ranges of at most `length` that cover `size`."""
    return (range(at, min(at + length, size)) for at in range(0, size, length))


def _microseconds(at: datetime) -> int:
    naive = at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)
    delta = naive - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
