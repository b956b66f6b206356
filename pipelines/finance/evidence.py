"""What was reconciled in a month and what was open at its end, as packs and closes tell it."""

import json
from datetime import date

import duckdb
import polars as pl

_RECONCILIATIONS = """
select
    recon_id,
    count(*) as days,
    cast(sum(left_count) as bigint) as left_count,
    cast(sum(left_sum) as bigint) as left_sum,
    cast(sum(right_count) as bigint) as right_count,
    cast(sum(right_sum) as bigint) as right_sum,
    cast(sum(breaks) as bigint) as breaks,
    case when sum(breaks) > 0 then 'BROKEN' else 'AGREED' end as status
from finance.reconciliations
where business_on between ? and ?
group by recon_id
order by recon_id
"""

# By kind and currency, of all programs: what an exception refers to stays in the warehouse.
_EXCEPTIONS = """
select
    recon_id, type, severity,
    count(*) as exceptions,
    cast(sum(coalesce(amount_minor, 0)) as bigint) as amount_minor,
    currency,
    min(opened_on) as oldest_on,
    max(opened_on) as newest_on,
    count(*) filter (where age_days <= 1) as age_0_1,
    count(*) filter (where age_days between 2 and 5) as age_2_5,
    count(*) filter (where age_days between 6 and 30) as age_6_30,
    count(*) filter (where age_days > 30) as age_31
from (
    select *, date_diff('day', opened_on, ?::date) as age_days from finance.exceptions
)
where opened_on <= ? and state not in ('RESOLVED', 'WRITTEN_OFF')
group by all
order by recon_id, type, severity, currency
"""
_RECONCILED = pl.Schema(
    {
        "recon_id": pl.String, "days": pl.Int64, "left_count": pl.Int64, "left_sum": pl.Int64,
        "right_count": pl.Int64, "right_sum": pl.Int64, "breaks": pl.Int64, "status": pl.String,
    }
)  # fmt: skip
_OPEN = pl.Schema(
    {
        "recon_id": pl.String, "type": pl.String, "severity": pl.String, "exceptions": pl.Int64,
        "amount_minor": pl.Int64, "currency": pl.String, "oldest_on": pl.Date,
        "newest_on": pl.Date, "age_0_1": pl.Int64, "age_2_5": pl.Int64, "age_6_30": pl.Int64,
        "age_31": pl.Int64,
    }
)  # fmt: skip


def reconciled(con: duckdb.DuckDBPyConnection, ends_on: date) -> pl.DataFrame:
    """One row per reconciliation that was run over days of the month that ends on `ends_on`."""
    try:
        return con.execute(_RECONCILIATIONS, [ends_on.replace(day=1), ends_on]).pl()
    except duckdb.CatalogException:
        # A home whose chain has not been run yet: the pack says so.
        return pl.DataFrame(schema=_RECONCILED)


def open_exceptions(con: duckdb.DuckDBPyConnection, ends_on: date) -> pl.DataFrame:
    """Exceptions that were opened by `ends_on` and are still open, by kind and currency."""
    return con.execute(_EXCEPTIONS, [ends_on, ends_on]).pl()


def evidence_of(con: duckdb.DuckDBPyConnection, ends_on: date) -> str:
    """Both as JSON, for the log of closes."""
    frames = {
        "reconciliations": reconciled(con, ends_on),
        "exceptions": open_exceptions(con, ends_on),
    }
    return json.dumps(
        {name: frame.to_dicts() for name, frame in frames.items()}, default=str, sort_keys=True
    )


def from_evidence(
    evidence: dict[str, list[dict[str, object]]],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The frames of `reconciled` and `open_exceptions` as a close kept them."""
    runs = pl.DataFrame(evidence["reconciliations"], schema=_RECONCILED, orient="row")
    days = ["oldest_on", "newest_on"]
    open_ = pl.DataFrame(
        evidence["exceptions"], schema=_OPEN | dict.fromkeys(days, pl.String), orient="row"
    )
    return runs, open_.with_columns(pl.col(days).str.to_date())
