"""What the ledger cannot settle by itself: rows of `finance.exceptions` with stable ids."""

from dataclasses import astuple, dataclass
from datetime import date

import duckdb
import polars as pl

from pipelines.rewards.stored import given


@dataclass(frozen=True)
class Problem:
    """An exception; found again, it keeps its id and is not written twice."""

    exception_id: str
    recon_id: str
    type: str
    left_ref: str
    right_ref: str | None
    opened_on: date
    detail: str
    amount_minor: int | None = None
    currency: str | None = None


_SCHEMA = {
    "exception_id": pl.String, "recon_id": pl.String, "type": pl.String, "left_ref": pl.String,
    "right_ref": pl.String, "opened_on": pl.Date, "detail": pl.String, "amount_minor": pl.Int64,
    "currency": pl.String,
}  # fmt: skip


def open_problems(con: duckdb.DuckDBPyConnection, problems: list[Problem]) -> int:
    """Write the problems that are not there yet; returns how many."""
    if not problems:
        return 0
    found = pl.DataFrame([astuple(each) for each in problems], schema=_SCHEMA, orient="row").unique(
        "exception_id", keep="first", maintain_order=True
    )
    with given(con, problems=found):
        written = con.execute(
            """
            insert into finance.exceptions by name
            select exception_id, recon_id, type, 'MEDIUM' as severity, amount_minor, currency,
                left_ref, right_ref, opened_on, 'OPEN' as state, detail
            from problems
            where exception_id not in (select exception_id from finance.exceptions)
            """
        ).fetchone()
    return int(written[0]) if written else 0


def resolve_problems(con: duckdb.DuckDBPyConnection, exception_ids: list[str]) -> None:
    """Mark exceptions as settled by what has come in since."""
    if not exception_ids:
        return
    resolved = pl.DataFrame({"exception_id": exception_ids}, schema={"exception_id": pl.String})
    with given(con, resolved=resolved):
        con.execute(
            "update finance.exceptions set state = 'RESOLVED' "
            "where state in ('OPEN', 'ASSIGNED', 'EXPLAINED') "
            "and exception_id in (select exception_id from resolved)"
        )
