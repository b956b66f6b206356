"""Feast's way of writing, led through a store's own guarded writes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from feast import FeatureView, RepoConfig

from pipelines.features.encoding import OnlineRows, encode_messages


class GuardedWrites(ABC):
    """What push and write_to_online_store do in a store whose older rows replace no newer ones."""

    reads_pushes = True

    @contextmanager
    def without_pushes(self) -> Iterator[None]:
        """Feast's reads tell what the batches have written, and nothing of `pushes`."""
        self.reads_pushes = False
        try:
            yield
        finally:
            self.reads_pushes = True

    @abstractmethod
    def write_rows(
        self, config: RepoConfig, table: FeatureView, rows: OnlineRows, is_forced: bool = False
    ) -> int:
        """Write the rows that are not older than what is there, or all if `is_forced`.

        Returns how many were written.
        """

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[tuple[Any, dict[str, Any], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Feast's way in (push, write_to_online_store), through the same guard."""
        self.write_rows(config, table, encode_messages(table, data))
        if progress:
            progress(len(data))
