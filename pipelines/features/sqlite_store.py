"""Feast's SQLite online store in which an older row never replaces a newer one.

Stock Feast overwrites whatever is there and keeps times to the second. Here every entity has one
more row, named `__version__`, with its (event time, known time) to the microsecond; a write reads
it, drops what is older, and writes the rest, all in one immediate transaction. Since it lives in
Feast's own table it goes when the table goes.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from feast import FeatureView, RepoConfig
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig, _table_id
from feast.protos.feast.types.Value_pb2 import Value
from pydantic import ConfigDict

from pipelines.features.encoding import VERSION_FIELD, OnlineRows, chunks, encode_messages, take
from pipelines.features.reading import StoredRows, StoreUnavailable, ViewRead

_KEYS_PER_QUERY = 500
_MARK_KEY = b"__mark__"
_STEPS_BETWEEN_LOOKS = 10_000
_EPOCH = datetime(1970, 1, 1)


class GuardedOnlineStoreConfig(SqliteOnlineStoreConfig):
    """SQLite's options; those of other stores in the same block are passed over."""

    model_config = ConfigDict(extra="ignore")

    type: str = "pipelines.features.sqlite_store.GuardedOnlineStore"  # pyright: ignore


class GuardedOnlineStore(SqliteOnlineStore):
    """SQLite, one file; readers do not wait for the writer."""

    @staticmethod
    def _get_db_path(config: RepoConfig) -> str:
        options: Any = config.online_store
        return str(Path(options.path))

    def _get_conn(self, config: RepoConfig) -> sqlite3.Connection:
        is_new = self._conn is None
        con = super()._get_conn(config)
        if is_new:
            con.execute("pragma busy_timeout = 30000")
            con.execute("pragma journal_mode = wal")
            con.execute("pragma synchronous = normal")
        return con

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[tuple[Any, dict[str, Any], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Feast's way in (push, write_to_online_store), through the same guard."""
        for rows in encode_messages(data):
            self.write_rows(config, table, rows)
        if progress:
            progress(len(data))

    def write_rows(
        self, config: RepoConfig, table: FeatureView, rows: OnlineRows, is_forced: bool = False
    ) -> int:
        """Write the rows that are not older than what is there, or all if `is_forced`.

        Returns how many were written.
        """
        con = self._get_conn(config)
        name = _quoted(config, table)
        versions = rows.versions()
        con.execute("begin immediate")
        try:
            current = {} if is_forced else _current_versions(con, name, rows.keys)
            fresh = [
                index
                for index, key in enumerate(rows.keys)
                if versions[index] >= current.get(key, "")
            ]
            _upsert(con, name, rows, fresh, versions)
        except BaseException:
            con.rollback()
            raise
        con.commit()
        return len(fresh)

    def delete_keys(self, config: RepoConfig, table: FeatureView, keys: list[bytes]) -> None:
        """Forget the rows of these serialised entity keys."""
        con = self._get_conn(config)
        statement = f"delete from {_quoted(config, table)} where entity_key = ?"  # noqa: S608
        with con:
            con.executemany(statement, [[key] for key in keys])

    def clear(self, config: RepoConfig, table: FeatureView) -> None:
        """Forget every row of a view, its mark included."""
        con = self._get_conn(config)
        with con:
            con.execute(f"delete from {_quoted(config, table)}")  # noqa: S608

    def read_mark(self, config: RepoConfig, table: FeatureView) -> str | None:
        """What `write_mark` last kept for a view."""
        query = f"select value from {_quoted(config, table)} where entity_key = ?"  # noqa: S608
        row = self._get_conn(config).execute(query, [_MARK_KEY]).fetchone()
        return None if row is None else row[0].decode()

    def write_mark(self, config: RepoConfig, table: FeatureView, mark: str) -> None:
        """Keep how far a view has been materialised, beside its rows."""
        con = self._get_conn(config)
        with con:
            con.execute(
                f"insert or replace into {_quoted(config, table)} "  # noqa: S608
                "(entity_key, feature_name, value, event_ts) values (?, ?, ?, 0)",
                [_MARK_KEY, VERSION_FIELD, mark.encode()],
            )


def reader(config: RepoConfig) -> "SqliteReader":
    """The reader of this home's store; it opens the file at the first read."""
    return SqliteReader(config)


class SqliteReader:
    """Reads stored bytes on a connection of its own, which never waits for the writer."""

    def __init__(self, config: RepoConfig) -> None:
        self._config = config
        options: Any = config.online_store
        self._path = Path(options.path)
        self._con: sqlite3.Connection | None = None
        self._until = 0.0

    async def __call__(
        self, asked: Sequence[tuple[ViewRead, Sequence[bytes]]], seconds: float
    ) -> list[StoredRows]:
        """What is stored of each view and its keys. Raises `StoreUnavailable`."""
        self._until = time.monotonic() + seconds
        try:
            con = self._con or self._connect()
            return [self._read(con, view, keys) for view, keys in asked]
        except sqlite3.Error as error:
            await self.close()
            raise StoreUnavailable(f"the online store cannot be read now: {error}") from error

    async def close(self) -> None:
        """Close the file; the next read opens it anew."""
        if self._con is not None:
            self._con.close()
            self._con = None

    def _connect(self) -> sqlite3.Connection:
        uri = self._path.as_uri() + "?mode=ro"
        con = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
        con.set_progress_handler(lambda: time.monotonic() > self._until, _STEPS_BETWEEN_LOOKS)
        self._con = con
        return con

    def _read(self, con: sqlite3.Connection, view: ViewRead, keys: Sequence[bytes]) -> StoredRows:
        place = {name: at for at, name in enumerate(view.features)}
        mark: str | None = None
        rows: dict[bytes, tuple[str, list[bytes | None]]] = {}
        wanted = [_MARK_KEY, *keys]
        for part in chunks(len(wanted), _KEYS_PER_QUERY):
            some = wanted[part.start : part.stop]
            query = (
                "select entity_key, feature_name, value, cast(event_ts as integer) "  # noqa: S608
                f"from {_quoted(self._config, view.table)} "
                f"where entity_key in ({','.join('?' * len(some))})"
            )
            for key, name, value, seconds in con.execute(query, some):
                if key == _MARK_KEY:
                    mark = value.decode()
                    continue
                row = rows.get(key)
                if row is None:
                    row = rows[key] = (_utc_text(seconds), [None] * len(place))
                at = place.get(name)
                if at is not None:
                    row[1][at] = value
        return StoredRows(mark, rows)


@lru_cache(maxsize=4_096)
def _utc_text(seconds: int) -> str:
    """As Feast's reader takes what `_feast_seconds` wrote: local time that is called UTC."""
    return datetime.fromtimestamp(seconds).isoformat() + "Z"


def _quoted(config: RepoConfig, table: FeatureView) -> str:
    """Feast's table of a view, as a quoted name: SQLite takes no parameter for it."""
    registry: Any = config.registry
    is_versioned = registry.enable_online_feature_view_versioning
    return '"' + _table_id(config.project, table, is_versioned).replace('"', '""') + '"'


def _current_versions(con: sqlite3.Connection, name: str, keys: list[bytes]) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for part in chunks(len(keys), _KEYS_PER_QUERY):
        wanted = keys[part.start : part.stop]
        marks = ",".join("?" * len(wanted))
        query = (
            f"select entity_key, value from {name} "  # noqa: S608
            f"where entity_key in ({marks}) and feature_name = ?"
        )
        for key, value in con.execute(query, [*wanted, VERSION_FIELD]):
            found[key] = Value.FromString(value).string_val
    return found


def _upsert(
    con: sqlite3.Connection, name: str, rows: OnlineRows, fresh: list[int], versions: list[str]
) -> None:
    statement = (
        f"insert into {name} (entity_key, feature_name, value, event_ts, created_ts) "  # noqa: S608
        "values (?, ?, ?, ?, ?) on conflict (entity_key, feature_name) do update set "
        "value = excluded.value, event_ts = excluded.event_ts, created_ts = excluded.created_ts"
    )
    keys = take(rows.keys, fresh)
    event_s = _feast_seconds(take(rows.event_us, fresh))
    created_s = _feast_seconds(take(rows.created_us, fresh))
    stamps = [Value(string_val=versions[index]).SerializeToString() for index in fresh]
    # Ordered by key, as the table is: each page is touched once.
    order = sorted(range(len(fresh)), key=keys.__getitem__)
    columns = {VERSION_FIELD: stamps} | {
        feature: take(values, fresh) for feature, values in rows.columns.items()
    }
    con.executemany(
        statement,
        (
            (keys[i], feature, values[i], event_s[i], created_s[i])
            for i in order
            for feature, values in columns.items()
        ),
    )


def _feast_seconds(times_us: list[int]) -> list[int]:
    """Times as Feast's reader expects them: it takes the seconds for local time, then calls the
    result UTC."""
    known = {us: int((_EPOCH + timedelta(microseconds=us)).timestamp()) for us in set(times_us)}
    return [known[us] for us in times_us]
