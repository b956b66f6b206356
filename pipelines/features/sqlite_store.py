"""Feast's SQLite online store, one packed row per key, in which an older never replaces a newer.

Stock Feast keeps a row per feature, overwrites whatever is there and keeps times to the second.
Here a write compares (event time, known time) to the microsecond with what is there, row by row,
in one immediate transaction. The rows live in Feast's own table and go when the table goes.
"""

import asyncio
import sqlite3
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from feast import Entity, FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig, _table_id
from pydantic import ConfigDict

from pipelines.features.encoding import (
    KEY_VERSION,
    MARK_KEY,
    VERSION_BYTES,
    OnlineRows,
    as_messages,
    chunks,
)
from pipelines.features.guarded import GuardedWrites
from pipelines.features.pushes import VIEWS, Change, joined
from pipelines.features.reading import StoredRows, StoreUnavailable, ViewRead

_KEYS_PER_QUERY = 500
# Named like no feature can be: names start with a letter.
_PACKED = "__packed__"
_PUSHED = "__pushed__"
_STEPS_BETWEEN_LOOKS = 10_000


class GuardedOnlineStoreConfig(SqliteOnlineStoreConfig):
    """SQLite's options; those of other stores in the same block are passed over."""

    model_config = ConfigDict(extra="ignore")

    type: str = "pipelines.features.sqlite_store.GuardedOnlineStore"  # pyright: ignore


class GuardedOnlineStore(GuardedWrites, SqliteOnlineStore):
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

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Feast's tables, but each one tree in the order of its key, in place of a table and two
        indexes: written in two thirds of the time, in half the space."""
        con = self._get_conn(config)
        for table in tables_to_keep:
            con.execute(
                f"create table if not exists {_quoted(config, table)} "
                "(entity_key blob, feature_name text, value blob, "
                "primary key (entity_key, feature_name)) without rowid"
            )
        super().update(
            config, tables_to_delete, tables_to_keep, entities_to_delete, entities_to_keep, partial
        )
        for table in tables_to_keep:
            con.execute(f"drop index if exists {_quoted(config, table, '_ek')}")

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Any] | None]]:
        """Feast's way out: event time and messages per key, in order."""
        keys = [serialize_entity_key(key, KEY_VERSION) for key in entity_keys]
        con = self._get_conn(config)
        found = _read_rows(con, config, table, keys, has_pushes=self.reads_pushes)
        return [as_messages(table, found.get(key), requested_features) for key in keys]

    def write_rows(
        self, config: RepoConfig, table: FeatureView, rows: OnlineRows, is_forced: bool = False
    ) -> int:
        """As `GuardedWrites.write_rows`."""
        con = self._get_conn(config)
        guard = (
            f" where substr(excluded.value, 1, {VERSION_BYTES}) "
            f">= substr(value, 1, {VERSION_BYTES})"
        )
        statement = (
            f"insert into {_quoted(config, table)} as kept "  # noqa: S608
            f"(entity_key, feature_name, value) values (?, '{_PACKED}', ?) "
            "on conflict (entity_key, feature_name) do update set "
            f"value = excluded.value{'' if is_forced else guard}"
        )
        # Ordered by key, as the table is: each page is touched once.
        given = sorted(zip(rows.keys, rows.values, strict=True))
        con.execute("begin immediate")
        try:
            before = con.total_changes
            con.executemany(statement, given)
            written = con.total_changes - before
        except BaseException:
            con.rollback()
            raise
        con.commit()
        return written

    def delete_keys(self, config: RepoConfig, table: FeatureView, keys: list[bytes]) -> None:
        """Forget the rows of these serialised entity keys."""
        con = self._get_conn(config)
        statement = (
            f"delete from {_quoted(config, table)} "  # noqa: S608
            "where entity_key = ? and feature_name = ?"
        )
        with con:
            con.executemany(statement, [[key, _PACKED] for key in keys])

    def clear(self, config: RepoConfig, table: FeatureView) -> None:
        """Forget every row of a view, its mark included, but what was pushed."""
        con = self._get_conn(config)
        statement = f"delete from {_quoted(config, table)} where feature_name = ?"  # noqa: S608
        with con:
            con.execute(statement, [_PACKED])

    def read_mark(self, config: RepoConfig, table: FeatureView) -> str | None:
        """What `write_mark` last kept for a view."""
        found = _read_packed(self._get_conn(config), _quoted(config, table), [MARK_KEY])
        return found[MARK_KEY].decode() if found else None

    def write_mark(self, config: RepoConfig, table: FeatureView, mark: str) -> None:
        """Keep how far a view has been materialised, beside its rows."""
        con = self._get_conn(config)
        with con:
            con.execute(
                f"insert or replace into {_quoted(config, table)} "  # noqa: S608
                "(entity_key, feature_name, value) values (?, ?, ?)",
                [MARK_KEY, _PACKED, mark.encode()],
            )


def reader(config: RepoConfig) -> "SqliteReader":
    """The reader of this home's store; it opens the file at the first read."""
    return SqliteReader(config)


class SqliteReader:
    """Reads packed rows on a connection of its own, which never waits for the writer."""

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
        rows = _read_rows(con, self._config, view.table, [*keys, MARK_KEY])
        mark = rows.pop(MARK_KEY, None)
        return StoredRows(None if mark is None else mark.decode(), rows)


def pusher(config: RepoConfig) -> "SqlitePusher":
    """Writes what is pushed to this home's store; it opens the file at the first push."""
    return SqlitePusher(config)


class SqlitePusher:
    """Changes pushed rows in one transaction a push; a thread of its own waits for other writers,
    so that reads do not."""

    def __init__(self, config: RepoConfig) -> None:
        self._config = config
        options: Any = config.online_store
        self._path = Path(options.path)
        self._con: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "pushes")

    async def __call__(self, table: Any, changes: Mapping[bytes, Change], seconds: float) -> int:
        """As `Pusher`."""
        until = time.monotonic() + seconds
        try:
            work = asyncio.wrap_future(self._thread.submit(self._push, table, changes, until))
            return await asyncio.wait_for(work, seconds)
        except (sqlite3.Error, TimeoutError) as error:
            raise StoreUnavailable(
                f"the online store cannot be written now: {error or 'it is busy'}"
            ) from error

    async def close(self) -> None:
        """Close the file; the next push opens it anew."""
        await asyncio.wrap_future(self._thread.submit(self._close))

    def _push(self, table: Any, changes: Mapping[bytes, Change], until: float) -> int:
        name = _quoted(self._config, table)
        milliseconds = max(0, round(1000 * (until - time.monotonic())))
        try:
            con = self._con or self._connect()
            con.execute(f"pragma busy_timeout = {milliseconds}")
            con.execute("begin immediate")
            stored = _read_packed(con, name, list(changes), _PUSHED)
            rows = {key: change(stored.get(key)) for key, change in changes.items()}
            changed = [(k, _PUSHED, row) for k, row in rows.items() if row != stored.get(k)]
            con.executemany(
                f"insert or replace into {name} "  # noqa: S608
                "(entity_key, feature_name, value) values (?, ?, ?)",
                changed,
            )
            con.commit()
        except BaseException:
            # What was begun goes with the connection.
            self._close()
            raise
        return len(changed)

    def _connect(self) -> sqlite3.Connection:
        uri = self._path.as_uri() + "?mode=rw"
        self._con = sqlite3.connect(uri, uri=True, isolation_level=None)
        self._con.execute("pragma synchronous = normal")
        return self._con

    def _close(self) -> None:
        if self._con is not None:
            self._con.close()
            self._con = None


def _read_rows(
    con: sqlite3.Connection,
    config: RepoConfig,
    table: Any,
    keys: Sequence[bytes],
    *,
    has_pushes: bool = True,
) -> dict[bytes, bytes]:
    """What a read sees under `keys`."""
    name = _quoted(config, table)
    found = _read_packed(con, name, keys)
    if has_pushes and table.name in VIEWS:
        for key, pushed in _read_packed(con, name, keys, _PUSHED).items():
            row = joined(table, found.get(key), pushed)
            if row is not None:
                found[key] = row
    return found


def _read_packed(
    con: sqlite3.Connection, name: str, keys: Sequence[bytes], kind: str = _PACKED
) -> dict[bytes, bytes]:
    """What is kept under `keys`; the mark comes last, from no earlier a state than the rows."""
    found: dict[bytes, bytes] = {}
    for part in chunks(len(keys), _KEYS_PER_QUERY):
        some = keys[part.start : part.stop]
        marks = ",".join("?" * len(some))
        query = (
            f"select entity_key, value from {name} "  # noqa: S608
            f"where feature_name = ? and entity_key in ({marks})"
        )
        found.update(con.execute(query, [kind, *some]).fetchall())
    return found


def _quoted(config: RepoConfig, table: FeatureView, suffix: str = "") -> str:
    """Feast's table of a view (or what it names by it), as a quoted name: SQLite takes no parameter
    for it."""
    registry: Any = config.registry
    is_versioned = registry.enable_online_feature_view_versioning
    name = _table_id(config.project, table, is_versioned) + suffix
    return '"' + name.replace('"', '""') + '"'
