"""What arrives thirty days later changes features for thirty days, and nothing before or after
(PIT-3)."""

from bisect import bisect_right
from collections import defaultdict
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.dbt.lake_builds import Row, build, deliver, home_of, rows_of
from tests.dbt.random_history import START, history

SHIFT = timedelta(days=30)
DAYS = 330
TABLES = {
    "card_velocity_features": "card_id",
    "account_amount_features": "account_id",
    "merchant_risk_features": "merchant_id",
}
pytestmark = pytest.mark.usefixtures("home")
Series = dict[str, tuple[list[datetime], list[tuple[Any, ...]]]]


def _built(folder: Path, rows: dict[str, list[Row]]) -> dict[str, Series]:
    """Feature rows by table and entity, in the order of time."""
    home_of(folder)
    deliver(rows)
    build("--select", *(f"+{table}" for table in TABLES))
    found: dict[str, Series] = {}
    for table, key in TABLES.items():
        series: Series = defaultdict(lambda: ([], []))
        told = rows_of(f"features.{table}")
        for row in sorted(told, key=lambda row: (row["event_timestamp"], row["created_timestamp"])):
            assert row["created_timestamp"] <= row["event_timestamp"]
            times, values = series[row[key]]
            times.append(row["event_timestamp"])
            values.append(
                tuple(v for name, v in sorted(row.items()) if not name.endswith("_timestamp"))
            )
        found[table] = series
    return found


def _at(series: Series, entity: str, moment: datetime) -> tuple[Any, ...] | None:
    times, values = series.get(entity, ([], []))
    place = bisect_right(times, moment)
    return values[place - 1] if place else None


def _arrivals(rows: dict[str, list[Row]], feed: str) -> dict[str, list[datetime]]:
    """When each entity's features could hear of the feed's rows: through any transaction that was
    ever told to be the entity's."""
    touched: dict[str, set[str]] = defaultdict(set)
    for row in rows["transactions"]:
        for key in TABLES.values():
            if row.get(key):
                touched[row["transaction_id"]].add(row[key])
    arrivals: dict[str, list[datetime]] = defaultdict(list)
    for row in rows[feed]:
        known = max(row["received_at"], row.get("known_at", row["received_at"]))
        for entity in touched[row["transaction_id"]]:
            arrivals[entity].append(known)
            arrivals[entity].append(row["received_at"])
    return arrivals


@pytest.mark.parametrize(
    ("feed", "transactions"),
    [("transactions", 16), pytest.param("fraud_labels", 90, marks=pytest.mark.slow)],
)
def test_a_feed_that_is_late_by_a_month_changes_only_that_month(
    tmp_path: Path, feed: str, transactions: int
) -> None:
    # Few transactions: between their arrivals there are months in which nothing may differ.
    rows = history(5, transactions)
    late = {
        name: [
            {**row, "received_at": row["received_at"] + SHIFT} if name == feed else row
            for row in told
        ]
        for name, told in rows.items()
    }
    in_time, shifted = _built(tmp_path / "a", rows), _built(tmp_path / "b", late)
    arrivals = _arrivals(rows, feed)
    outside, changed = 0, 0
    for table in TABLES:
        for entity in {*in_time[table], *shifted[table]}:
            for number in range(DAYS):
                moment = datetime.combine(START + timedelta(days=number), time(0))
                # What arrives during a day is known at its end.
                is_inside = any(
                    datetime.combine(known.date(), time(0))
                    < moment
                    <= datetime.combine(known.date() + timedelta(days=1), time(0)) + SHIFT
                    for known in arrivals[entity]
                )
                before = _at(in_time[table], entity, moment)
                after = _at(shifted[table], entity, moment)
                if is_inside:
                    changed += before != after
                else:
                    outside += 1
                    assert _told(before) == _told(after), (table, entity, moment)
    assert changed > 20
    assert outside > 500


def _told(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """An entity with nothing in any window is told as no row or as a row of nothing."""
    if values is None or all(not v for v in values if not isinstance(v, str)):
        return None
    return values
