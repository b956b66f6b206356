"""The reconciliation chain: two independent accounts of the same thing, compared day by day.

Results go to `finance.reconciliations` (recon_id, business_on), breaks to `finance.exceptions`
under an id that is a fingerprint of the break: it is the same when the break is found again, and
the exception is resolved when the break is gone.

A run compares the days that new files touch and the days that are broken; everything else stands.
Running it again changes nothing.
"""

import hashlib
from dataclasses import dataclass
from datetime import date

import duckdb
import polars as pl

from pipelines.checks import CheckResult
from pipelines.contracts import FEEDS
from pipelines.finance.exceptions import UNSETTLED, settle_adjusted
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
INPUT_MENDED = "INPUT_MENDED"
"""Resolution code of a break that was not found again."""

_TABLE = """
create table if not exists finance.reconciliations (
    recon_id varchar, business_on date, left_count bigint, left_sum bigint, right_count bigint,
    right_sum bigint, breaks bigint, status varchar
)
"""
_RUN_SCHEMA = pl.Schema(
    {
        "recon_id": pl.String,
        "business_on": pl.Date,
        "left_count": pl.Int64,
        "left_sum": pl.Int64,
        "right_count": pl.Int64,
        "right_sum": pl.Int64,
        "breaks": pl.Int64,
        "status": pl.String,
    }
)
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
    # One transaction also for reading: outside of one, every query reads the lake's catalog anew.
    with connect(settings=settings) as con, transaction(con):
        con.execute(_TABLE)
        through = latest_load_no(con)
        done = watermark(con, WATERMARK)
        _prepare(con, -1 if full else done)
        con.execute("set variable acknowledgement_days = ?", [settings.acknowledgement_days])
        tables = _tables(con)
        results = [
            _compare(con, reconciliation)
            for reconciliation in CHAIN
            if tables.issuperset(reconciliation.reads)
        ]
        summary = _record(con, results)
        settle_adjusted(con)
        if through != done:
            set_watermark(con, WATERMARK, through)
    return summary


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
    """One result per reconciliation of the chain, as last run.

    A break whose exception somebody has explained, or settled although it is still there, does not
    fail it.
    """
    with connect(read_only=True, settings=settings) as con:
        if "finance.reconciliations" not in _tables(con):
            return [CheckResult("reconciliation", False, "never run: `cardline run` runs it")]
        runs = {recon_id: told for recon_id, *told in con.execute(_RUNS).fetchall()}
        unanswered = con.execute(
            "select recon_id, type from finance.exceptions where state in ('OPEN', 'ASSIGNED')"
        ).fetchall()
    results = []
    for reconciliation in CHAIN:
        recon_id = reconciliation.recon_id
        days, broken, breaks, first = runs.get(recon_id, (0, 0, 0, date.min))
        waiting = sum(found == recon_id and type_ in reconciliation.types
                      for found, type_ in unanswered)  # fmt: skip
        detail = f"{reconciliation.title.lower()}: {days} days agree"
        if broken:
            detail = (
                f"{breaks} breaks on {broken} of {days} days, the first "
                f"{'of no batch date' if first == date.min else f'on {first}'}, "
                f"{waiting or 'none'} of them unexplained: see finance.exceptions"
            )
        results.append(CheckResult(f"reconciliation {recon_id}", not waiting, detail))
    return results


_RUNS = """
select
    recon_id, count(*), count(*) filter (where breaks > 0), cast(sum(breaks) as bigint),
    min(business_on) filter (where breaks > 0)
from finance.reconciliations
group by recon_id
"""


@dataclass(frozen=True)
class _Result:
    """One reconciliation's outcome; frames have the columns of the tables that they go to."""

    reconciliation: Reconciliation
    scope: pl.DataFrame
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
    scope = days.to_frame("business_on").select(pl.lit(recon_id).alias("recon_id"), "business_on")
    if scope.is_empty():
        return _Result(
            reconciliation, scope, pl.DataFrame(schema=_RUN_SCHEMA),
            _exceptions(recon_id, pl.DataFrame(schema=_BREAK_SCHEMA)),
        )  # fmt: skip
    con.execute("delete from scope")
    con.execute("insert into scope select unnest(?::date[])", [days.to_list()])
    con.execute(f"create or replace temp table pairs as {reconciliation.pairs}")
    sides = con.execute(reconciliation.sides).pl()
    found = con.execute(reconciliation.breaks).pl()
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
        .select(pl.col(name).cast(dtype) for name, dtype in _RUN_SCHEMA.items())
        .sort("business_on")
    )
    return _Result(reconciliation, scope, runs, exceptions)


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


def _record(con: duckdb.DuckDBPyConnection, results: list[_Result]) -> pl.DataFrame:
    """Write results where they differ from what stands; returns the summary of `reconcile`."""
    scope = pl.concat([result.scope for result in results])
    runs = pl.concat([result.runs for result in results])
    found = pl.concat([result.exceptions for result in results])
    con.register("compared", scope.to_arrow())
    con.register("found_runs", runs.to_arrow())
    con.register("found", found.to_arrow())
    standing = con.execute(_STANDING_RUNS).pl()
    if not standing.sort("recon_id", "business_on").equals(runs.sort("recon_id", "business_on")):
        con.execute(
            "delete from finance.reconciliations where (recon_id, business_on) in "
            "(select recon_id, business_on from compared)"
        )
        con.execute("insert into finance.reconciliations by name select * from found_runs")
    known = con.execute(_KNOWN_EXCEPTIONS).pl()
    new = found.join(known, on="exception_id", how="anti")
    reopened = known.filter(state="RESOLVED").join(found, on="exception_id", how="semi")
    # Others keep exceptions under the same chain: only types that a link looks for are its own.
    own = pl.DataFrame(
        [(r.reconciliation.recon_id, name) for r in results for name in r.reconciliation.types],
        schema={"recon_id": pl.String, "type": pl.String},
        orient="row",
    )
    resolved = (
        known.filter(pl.col("state").is_in(UNSETTLED) & pl.col("is_compared"))
        .join(own, on=["recon_id", "type"], how="semi")
        .join(found, on="exception_id", how="anti")
    )
    if not new.is_empty():
        con.register("new_exceptions", new.to_arrow())
        con.execute("insert into finance.exceptions by name select * from new_exceptions")
    for state, code, changed in (
        ("OPEN", None, reopened),
        ("RESOLVED", INPUT_MENDED, resolved),
    ):
        if not changed.is_empty():
            con.execute(
                "update finance.exceptions set state = ?, resolution_code = ?, resolved_by = null "
                "where list_contains(?, exception_id)",
                [state, code, changed["exception_id"].to_list()],
            )
    opened = pl.concat([new["recon_id"], reopened["recon_id"]])
    return pl.DataFrame(
        [
            (
                result.reconciliation.recon_id,
                result.reconciliation.title,
                result.runs.height,
                result.exceptions.height,
                int((opened == result.reconciliation.recon_id).sum()),
                resolved.filter(recon_id=result.reconciliation.recon_id).height,
            )
            for result in results
        ],
        schema=_SUMMARY_SCHEMA,
        orient="row",
    )


_STANDING_RUNS = """
select * from finance.reconciliations
where (recon_id, business_on) in (select recon_id, business_on from compared)
"""
_KNOWN_EXCEPTIONS = """
select
    exception_id, recon_id, type, state,
    (recon_id, opened_on) in (select recon_id, business_on from compared) as is_compared
from finance.exceptions
where
    (recon_id, opened_on) in (select recon_id, business_on from compared)
    or exception_id in (select exception_id from found)
"""
