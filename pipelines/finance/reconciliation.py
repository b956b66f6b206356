"""The reconciliation chain: two independent accounts of the same thing, compared day by day.

Results go to `finance.reconciliations` (recon_id, business_on), breaks to `finance.exceptions`
under an id that is a fingerprint of the break: it is the same when the break is found again, and
the exception is resolved when the break is gone.

A run compares the days that new files touch and the days that are broken; everything else stands.
Running it again changes nothing.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import duckdb
import polars as pl

from pipelines.checks import CheckResult
from pipelines.contracts import FEEDS
from pipelines.finance.reconciliations import CHAIN, Reconciliation
from pipelines.settings import Settings, get_settings
from pipelines.warehouse import (
    connect,
    latest_load_no,
    set_watermark,
    transaction,
    watermark,
)

WATERMARK = "reconciliations"
AGREED, BROKEN = "AGREED", "BROKEN"

_TABLE = """
create table if not exists finance.reconciliations (
    recon_id varchar, business_on date, left_count bigint, left_sum bigint, right_count bigint,
    right_sum bigint, breaks bigint, status varchar
)
"""
_RUN_COLUMNS = (
    "recon_id", "business_on", "left_count", "left_sum", "right_count", "right_sum", "breaks",
    "status",
)  # fmt: skip
_SUMMARY_SCHEMA = pl.Schema(
    {
        "recon_id": pl.String,
        "title": pl.String,
        "days": pl.Int64,
        "breaks": pl.Int64,
        "opened": pl.Int64,
        "resolved": pl.Int64,
    }
)
_BREAK_SCHEMA = pl.Schema(
    {
        "business_on": pl.Date,
        "type": pl.String,
        "severity": pl.String,
        "amount_minor": pl.Int64,
        "currency": pl.String,
        "left_ref": pl.String,
        "right_ref": pl.String,
        "detail": pl.String,
    }
)


def exception_id(recon_id: str, type_: str, left_ref: str | None, right_ref: str | None) -> str:
    """The fingerprint of a break: what it is about, not when or how often it was found."""
    parts = "\x1f".join((recon_id, type_, left_ref or "", right_ref or ""))
    return f"exc_{hashlib.sha256(parts.encode()).hexdigest()[:24]}"


def reconcile(full: bool = False, settings: Settings | None = None) -> pl.DataFrame:
    """Run the chain over what is new since the last run, or with `full` over every day.

    Returns one row per reconciliation: recon_id, title, days compared, breaks found, exceptions
    opened and resolved. One whose tables do not exist yet is left out. All results are written in
    one commit.
    """
    settings = settings or get_settings()
    with connect(settings=settings) as con:
        con.execute(_TABLE)
        through = latest_load_no(con)
        _prepare(con, -1 if full else watermark(con, WATERMARK))
        tables = _tables(con)
        results = [
            _compare(con, reconciliation)
            for reconciliation in CHAIN
            if tables.issuperset(reconciliation.reads)
        ]
        with transaction(con):
            summaries = [_record(con, result) for result in results]
            if through != watermark(con, WATERMARK):
                set_watermark(con, WATERMARK, through)
    return pl.DataFrame(summaries, schema=_SUMMARY_SCHEMA, orient="row")


def open_breaks(settings: Settings | None = None) -> pl.DataFrame:
    """Days that do not agree: recon_id, business_on, breaks, left and right; oldest first."""
    with connect(read_only=True, settings=settings) as con:
        if "finance.reconciliations" not in _tables(con):
            return pl.DataFrame(schema={"recon_id": pl.String, "breaks": pl.Int64})
        return con.execute(
            "select recon_id, business_on, breaks, left_count, right_count, left_sum, right_sum "
            "from finance.reconciliations where breaks > 0 order by business_on, recon_id"
        ).pl()


def verify_reconciliations(settings: Settings | None = None) -> list[CheckResult]:
    """One result per reconciliation of the chain, as last run."""
    with connect(read_only=True, settings=settings) as con:
        if "finance.reconciliations" not in _tables(con):
            return [CheckResult("reconciliation", False, "never run: `cardline run` runs it")]
        runs = {
            recon_id: (days, broken, breaks, str(first))
            for recon_id, days, broken, breaks, first in con.execute(
                "select recon_id, count(*), count(*) filter (where breaks > 0), "
                "cast(sum(breaks) as bigint), min(business_on) filter (where breaks > 0) "
                "from finance.reconciliations group by recon_id"
            ).fetchall()
        }
    results = []
    for reconciliation in CHAIN:
        days, broken, breaks, first = runs.get(reconciliation.recon_id, (0, 0, 0, ""))
        detail = f"{reconciliation.title.lower()}: {days} days agree"
        if broken:
            detail = (
                f"{breaks} breaks on {broken} of {days} days, the first on {first}: see "
                "finance.exceptions"
            )
        results.append(CheckResult(f"reconciliation {reconciliation.recon_id}", not broken, detail))
    return results


@dataclass(frozen=True)
class _Result:
    """One reconciliation's outcome; frames have the columns of the tables that they go to."""

    reconciliation: Reconciliation
    days: pl.DataFrame
    runs: pl.DataFrame
    exceptions: pl.DataFrame


def _tables(con: duckdb.DuckDBPyConnection) -> set[str]:
    rows = con.execute(
        "select table_schema || '.' || table_name from information_schema.tables "
        "where table_catalog = current_catalog()"
    ).fetchall()
    return {name for (name,) in rows}


def _prepare(con: duckdb.DuckDBPyConnection, since: int) -> None:
    """Relations of this connection: `new_files`, `scope` (days, yet empty) and `rows_by_file`."""
    con.execute(
        "create or replace temp table new_files as "
        "select distinct file_id from landing.files where load_no > ?",
        [since],
    )
    con.execute("create or replace temp table scope (business_on date)")
    # The names are those of our own contracts, not input.
    counts = [
        f"select '{name}' as feed, file_id, count(*) as row_count from raw.{name} "  # noqa: S608
        "where batch_date in (select business_on from scope) group by file_id"
        for name in FEEDS
    ]
    con.execute(f"create or replace temp view rows_by_file as {' union all '.join(counts)}")


def _compare(con: duckdb.DuckDBPyConnection, reconciliation: Reconciliation) -> _Result:
    recon_id = reconciliation.recon_id
    touched = con.execute(reconciliation.days).pl().to_series().cast(pl.Date)
    broken = con.execute(
        "select business_on from finance.reconciliations where recon_id = ? and breaks > 0",
        [recon_id],
    ).pl()
    days = pl.concat([touched, broken.to_series().cast(pl.Date)]).drop_nulls().unique().sort()
    con.execute("delete from scope")
    con.execute("insert into scope select unnest(?::date[])", [days.to_list()])
    con.execute(f"create or replace temp table pairs as {reconciliation.pairs}")
    sides = con.execute(reconciliation.sides).pl()
    found = con.execute(reconciliation.breaks).pl()
    con.execute("drop table pairs")
    exceptions = _exceptions(recon_id, found)
    counted = exceptions.group_by("opened_on").agg(pl.len().alias("breaks"))
    runs = (
        sides.with_columns(pl.col("business_on").cast(pl.Date))
        .join(counted, left_on="business_on", right_on="opened_on", how="full", coalesce=True)
        .with_columns(
            pl.lit(recon_id).alias("recon_id"),
            pl.col("left_count", "left_sum", "right_count", "right_sum", "breaks")
            .cast(pl.Int64)
            .fill_null(0),
        )
        .with_columns(
            pl.when(pl.col("breaks") > 0)
            .then(pl.lit(BROKEN))
            .otherwise(pl.lit(AGREED))
            .alias("status")
        )
        .select(_RUN_COLUMNS)
        .sort("business_on")
    )
    return _Result(reconciliation, days.to_frame("business_on"), runs, exceptions)


def _exceptions(recon_id: str, found: pl.DataFrame) -> pl.DataFrame:
    """Breaks as rows of `finance.exceptions`, one for each fingerprint."""
    breaks = found.select(pl.col(name).cast(dtype) for name, dtype in _BREAK_SCHEMA.items())
    ids = [
        exception_id(recon_id, row["type"], row["left_ref"], row["right_ref"])
        for row in breaks.iter_rows(named=True)
    ]
    return (
        breaks.rename({"business_on": "opened_on"})
        .with_columns(
            pl.Series("exception_id", ids, dtype=pl.String),
            pl.lit(recon_id).alias("recon_id"),
            pl.lit("OPEN").alias("state"),
        )
        .sort("opened_on", "exception_id")
        .unique("exception_id", keep="first", maintain_order=True)
    )


def _record(con: duckdb.DuckDBPyConnection, result: _Result) -> tuple[Any, ...]:
    """Write a result where it differs from what stands; returns what changed."""
    recon_id = result.reconciliation.recon_id
    relations = {
        "days_in_scope": result.days,
        "found_runs": result.runs,
        "found": result.exceptions,
    }
    for name, frame in relations.items():
        con.register(name, frame.to_arrow())
    if _any(con, _RUNS_DIFFER, [recon_id, recon_id]):
        con.execute(_DELETE_RUNS, [recon_id])
        con.execute("insert into finance.reconciliations by name select * from found_runs")
    opened = _affected(con, _OPEN, [recon_id])
    reopened = _affected(con, _REOPEN, [recon_id])
    resolved = _affected(con, _RESOLVE, [recon_id, list(result.reconciliation.types)])
    for name in relations:
        con.unregister(name)
    return (
        recon_id,
        result.reconciliation.title,
        result.runs.height,
        result.exceptions.height,
        opened + reopened,
        resolved,
    )


_RUNS_DIFFER = """
select
    (
        select count(*) from (
            select * from finance.reconciliations
            where recon_id = ? and business_on in (select business_on from days_in_scope)
            except select * from found_runs
        ) as stale
    ) + (
        select count(*) from (
            select * from found_runs
            except select * from finance.reconciliations where recon_id = ?
        ) as fresh
    )
"""
_DELETE_RUNS = """
delete from finance.reconciliations
where recon_id = ? and business_on in (select business_on from days_in_scope)
"""
_OPEN = """
insert into finance.exceptions by name
select * from found
where exception_id not in (select exception_id from finance.exceptions where recon_id = ?)
"""
_REOPEN = """
update finance.exceptions set state = 'OPEN'
where
    recon_id = ? and state = 'RESOLVED'
    and exception_id in (select exception_id from found)
"""
# Others keep exceptions under the same chain: only the types that this run looks for are its own.
_RESOLVE = """
update finance.exceptions set state = 'RESOLVED'
where
    recon_id = ? and list_contains(?, type) and state in ('OPEN', 'ASSIGNED')
    and opened_on in (select business_on from days_in_scope)
    and exception_id not in (select exception_id from found)
"""


def _any(con: duckdb.DuckDBPyConnection, query: str, parameters: list[object]) -> bool:
    row = con.execute(query, parameters).fetchone()
    return row is not None and bool(row[0])


def _affected(con: duckdb.DuckDBPyConnection, statement: str, parameters: list[object]) -> int:
    """Rows that `statement` inserted or updated."""
    row = con.execute(statement, parameters).fetchone()
    return int(row[0]) if row else 0
