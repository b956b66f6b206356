"""Dagster's SQLite event log, with one transaction for a batch of events.

A run over a range of days plans and reports every day as an event of its own, and each event opens
two databases and commits twice: 540 days took 11 s, of which nothing was work. Dagster sends such
events in batches (`DAGSTER_EVENT_BATCH_SIZE`); its SQLite log stores them one by one all the same.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from dagster import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME


class BatchedEventLog(SqliteEventLogStorage):
    """The SQLite event log; a batch shares one connection for each database that it goes to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._shared: dict[str, Any] = {}
        self._batch_lock = threading.RLock()
        super().__init__(*args, **kwargs)
        # A batch holds the connections of two databases at once, each under this lock.
        self._db_lock = self._batch_lock

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "BatchedEventLog":
        """Dagster's own makes the class that it is written in, whichever was asked for."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Any]:
        with self._batch_lock:
            shared = self._shared.get(shard)
            if shared is not None:
                yield shared
                return
            with super()._connect(shard) as connection:
                yield connection

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store `events`, all or none of those of one run."""
        with self._batch_lock, ExitStack() as stack:
            try:
                for shard in {INDEX_SHARD_NAME, *(event.run_id for event in events)}:
                    self._shared[shard] = stack.enter_context(super()._connect(shard))
                super().store_event_batch(events)
            finally:
                self._shared.clear()
