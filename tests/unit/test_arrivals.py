"""What the UI tells of deliveries: findings by day, freshness, unusual volumes."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipelines.ingestion.arrivals import findings_by_day, freshness, unusual_volumes
from pipelines.settings import Settings
from pipelines.warehouse import connect

MONDAY = date(2024, 1, 1)


@pytest.fixture
def con(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(settings=Settings(home=tmp_path)) as con:  # pyright: ignore
        yield con


def _deliver(con: duckdb.DuckDBPyConnection, feed: str, day: date, rows: int, **more: Any) -> None:
    row = {
        "feed": feed, "batch_date": day, "rows": rows, "rows_quarantined": 0, "state": "LOADED",
        "path": f"/landing/{feed}/{day}/part.csv", "load_no": 1,
        "received_at": datetime.combine(day, datetime.max.time()),
    } | more  # fmt: skip
    names = ", ".join(row)
    marks = ", ".join("?" * len(row))
    con.execute(f"insert into landing.files ({names}) values ({marks})", list(row.values()))


def _days(count: int) -> list[date]:
    return [MONDAY + timedelta(days=number) for number in range(count)]


def test_findings_are_counted_by_feed_day_and_kind(con: duckdb.DuckDBPyConnection) -> None:
    _deliver(con, "payments", MONDAY, 10, file_id="p", sequence_no=1, unknown_columns="colour")
    _deliver(con, "payments", MONDAY + timedelta(1), 10, sequence_no=4)
    _deliver(con, "accounts", MONDAY, 0, state="QUARANTINED")
    _deliver(con, "accounts", MONDAY + timedelta(1), 0, state="DUPLICATE")
    late = datetime(2024, 1, 9)
    _deliver(con, "accounts", MONDAY + timedelta(2), 7, received_at=late)
    for line_no in (2, 3):
        con.execute(
            "insert into quarantine.rows (feed, file_id, line_no, load_no) values (?, ?, ?, ?)",
            ["payments", "p", line_no, 1],
        )
    assert findings_by_day(con).rows() == [
        ("accounts", MONDAY, "FILE_REFUSED", 1),
        ("accounts", MONDAY + timedelta(1), "FILE_AGAIN", 1),
        ("accounts", MONDAY + timedelta(2), "FILE_LATE", 1),
        ("payments", MONDAY, "FILE_MISSING", 2),
        ("payments", MONDAY, "ROW_REFUSED", 2),
        ("payments", MONDAY, "UNKNOWN_COLUMN", 1),
    ]


def test_freshness_is_the_age_of_the_last_loaded_day(con: duckdb.DuckDBPyConnection) -> None:
    _deliver(con, "payments", MONDAY, 10)
    _deliver(con, "payments", MONDAY + timedelta(2), 10)
    _deliver(con, "payments", MONDAY + timedelta(5), 0, state="QUARANTINED")
    [row] = freshness(con, MONDAY + timedelta(6)).to_dicts()
    assert row["last_batch_date"] == MONDAY + timedelta(2)
    assert row["age_days"] == 4
    assert row["last_file"] == "part.csv"


def test_a_usual_week_is_not_unusual_though_weekends_are_quiet(
    con: duckdb.DuckDBPyConnection,
) -> None:
    for day in _days(70):
        _deliver(con, "payments", day, (100 if day.weekday() > 4 else 1000) + day.day)
    assert unusual_volumes(con).is_empty()


@pytest.mark.parametrize("rows", [0, 150, 9000])
def test_far_too_few_and_far_too_many_rows_are_told(
    con: duckdb.DuckDBPyConnection, rows: int
) -> None:
    *usual, last = _days(70)
    for day in usual:
        _deliver(con, "payments", day, 1000 + day.day)
        _deliver(con, "accounts", day, 10)
    _deliver(con, "accounts", last, 10)
    if rows:
        _deliver(con, "payments", last, rows)
    [row] = unusual_volumes(con).to_dicts()
    assert (row["feed"], row["batch_date"], row["rows"]) == ("payments", last, rows)


def test_a_short_history_says_nothing(con: duckdb.DuckDBPyConnection) -> None:
    *usual, last = _days(30)
    for day in usual:
        _deliver(con, "payments", day, 1000)
    _deliver(con, "payments", last, 1)
    assert unusual_volumes(con).is_empty()
