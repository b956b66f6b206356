"""Dagster's event log: what a range of days reports is stored together."""

from pathlib import Path

import dagster as dg
import pytest

from pipelines.event_log import BatchedEventLog
from pipelines.instance import prepare_home
from pipelines.settings import Settings

DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-03-01")


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def days() -> None:
    """Every day at once."""


def test_the_instance_of_a_home_stores_a_range_of_days_in_few_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARDLINE_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", "")
    prepare_home(Settings(home=tmp_path))
    opened: list[str] = []
    connect = BatchedEventLog._connect

    def counting(self: BatchedEventLog, shard: str):
        if shard not in self._shared:
            opened.append(shard)
        return connect(self, shard)

    monkeypatch.setattr(BatchedEventLog, "_connect", counting)
    with dg.DagsterInstance.get() as instance:
        keys = DAYS.get_partition_keys()
        result = dg.materialize(
            [days],
            instance=instance,
            tags={
                "dagster/asset_partition_range_start": keys[0],
                "dagster/asset_partition_range_end": keys[-1],
            },
        )
        assert result.success
        stored = instance.get_materialized_partitions(dg.AssetKey("days"))
    assert stored == set(keys)
    assert len(opened) < len(keys)
