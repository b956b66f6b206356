"""Dagster's SQLite event log, with one transaction for a batch of events and lasting connections.

Dagster's own opens two databases anew for each event and closes them, which writes their logs back;
and what it is sent as a batch (`DAGSTER_EVENT_BATCH_SIZE`) it stores one by one all the same. A run
over 540 days, of which each is planned and reported as an event of its own, took 14 s for that.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from dagster import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from sqlalchemy import Engine, create_engine

OPEN_SHARDS = 3
"""Databases that stay open: the index over all runs, and the latest runs'."""


class BatchedEventLog(SqliteEventLogStorage):
    """The SQLite event log; a batch shares one connection for each database that it goes to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._shared: dict[str, Any] = {}
        self._engines: dict[str, Engine] = {}
        self._lock = threading.RLock()
        super().__init__(*args, **kwargs)

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "BatchedEventLog":
        """Dagster's own makes the class that it is written in, whichever was asked for."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Any]:
        with self._lock:
            shared = self._shared.get(shard)
            if shared is not None:
                yield shared
                return
            with self._engine(shard).begin() as connection:
                yield connection

    def _engine(self, shard: str) -> Engine:
        engine = self._engines.pop(shard, None)
        if engine is None:
            engine = create_engine(
                self.conn_string_for_shard(shard),
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
            )
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
        self._engines[shard] = engine
        if len(self._engines) > OPEN_SHARDS:
            oldest = next(name for name in self._engines if name != INDEX_SHARD_NAME)
            self._engines.pop(oldest).dispose()
        return engine

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store `events`, all or none of those of one run."""
        with self._lock, ExitStack() as stack:
            try:
                for shard in {INDEX_SHARD_NAME, *(event.run_id for event in events)}:
                    self._shared[shard] = stack.enter_context(self._connect(shard))
                super().store_event_batch(events)
            finally:
                self._shared.clear()
