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
        super().__init__(*args, **kwargs)
        # A batch holds the connections of two databases at once, each under this lock.
        self._db_lock = threading.RLock()
        self._shared: dict[str, Any] = {}

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Any]:
        with self._db_lock:
            shared = self._shared.get(shard)
            if shared is not None:
                yield shared
                return
            with super()._connect(shard) as connection:
                yield connection

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store `events`, all or none of those of one run."""
        with self._db_lock, ExitStack() as stack:
            try:
                for shard in {INDEX_SHARD_NAME, *(event.run_id for event in events)}:
                    self._shared[shard] = stack.enter_context(super()._connect(shard))
                super().store_event_batch(events)
            finally:
                self._shared.clear()
