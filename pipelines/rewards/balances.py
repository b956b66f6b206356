"""Balances at any point of both times: what was true for a day, by what was recorded until then."""

from datetime import date, datetime

import duckdb
import polars as pl


def balances_as_of(
    con: duckdb.DuckDBPyConnection,
    effective_on: date | None = None,
    recorded_at: datetime | None = None,
    program_id: str | None = None,
    account_id: str | None = None,
) -> pl.DataFrame:
    """Balances from the entries effective by `effective_on` and recorded by `recorded_at` (UTC).

    None stands for no limit. Columns program_id, account_id, pending, available, reserved and
    deficit, in ledger units, one row per account that has had an entry by then, ordered. With no
    limits it equals `rewards.balances`.
    """
    return con.execute(
        """
        with held as (
            select
                journal.program_id, postings.account_id, postings.ledger_account,
                sum(case postings.direction when 'CREDIT' then amount else -amount end) as units
            from rewards.journal as journal
            inner join rewards.postings as postings using (journal_id)
            where postings.ledger_account
                in ('MEMBER_PENDING', 'MEMBER_AVAILABLE', 'REDEMPTION_CLEARING')
                and journal.effective_on <= coalesce(?, date '9999-12-31')
                and journal.recorded_at <= coalesce(?, timestamp '9999-12-31')
                and journal.program_id = coalesce(?, journal.program_id)
                and postings.account_id = coalesce(?, postings.account_id)
            group by all
        ),
        totals as (
            select
                program_id, account_id,
                coalesce(sum(units) filter (ledger_account = 'MEMBER_PENDING'), 0) as pending,
                coalesce(sum(units) filter (ledger_account = 'MEMBER_AVAILABLE'), 0) as net,
                coalesce(sum(units) filter (ledger_account = 'REDEMPTION_CLEARING'), 0) as reserved
            from held
            group by all
        )
        select
            program_id, account_id, cast(pending as bigint) as pending,
            cast(greatest(net, 0) as bigint) as available, cast(reserved as bigint) as reserved,
            cast(greatest(-net, 0) as bigint) as deficit
        from totals order by program_id, account_id
        """,
        [effective_on, recorded_at, program_id, account_id],
    ).pl()
