"""Daily partitions by batch date, monthly by accounting period; never by account."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from pipelines.ingestion.deliveries import FARTHEST_AHEAD
from pipelines.settings import get_settings

_A_MONTH = timedelta(days=31)


def _days_ahead() -> int:
    """Days to add to today: a delivery whose batch date is ahead of this clock has a partition."""
    landing = get_settings().landing_dir
    today = datetime.now(UTC).date()
    latest = today
    if landing.is_dir():
        for batch in landing.glob("*/????-??-??"):
            try:
                ahead = date.fromisoformat(batch.name)
            except ValueError:
                # Not a batch date: ingest reports the folder.
                continue
            if ahead - today <= FARTHEST_AHEAD:
                latest = max(latest, ahead)
    return (latest - today).days


_START = get_settings().partitions_start_on.isoformat()

daily = dg.DailyPartitionsDefinition(start_date=_START, end_offset=1 + _days_ahead())
"""One partition a batch date: the business date on which files were delivered."""

monthly = dg.MonthlyPartitionsDefinition(
    start_date=get_settings().partitions_start_on.replace(day=1).isoformat(),
    end_offset=1 + _days_ahead() // 28,
)
"""One partition an accounting period; the key is the first day of its month."""


def ranges_of(dates: Iterable[date]) -> list[tuple[date, date]]:
    """First and last of each group of `dates` with a month at most between two neighbours.

    A run over a range plans and reports each of its days, those without a delivery, too.
    """
    ranges: list[tuple[date, date]] = []
    for day in sorted(set(dates)):
        if ranges and day - ranges[-1][1] <= _A_MONTH:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def period_of(partition_key: str) -> str:
    """The accounting period `YYYY-MM` of a monthly partition key."""
    return partition_key[:7]
