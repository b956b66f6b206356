"""Rows of the rewards tables: how they are added and replaced, and what earlier passes left."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Literal

import duckdb
import polars as pl

from pipelines.rewards.engine import ITEM_COLUMNS


@contextmanager
def given(con: duckdb.DuckDBPyConnection, **frames: pl.DataFrame) -> Iterator[None]:
    """Makes frames known to SQL under their names while the block runs."""
    for name, frame in frames.items():
        con.register(name, frame.to_arrow())
    try:
        yield
    finally:
        for name in frames:
            con.unregister(name)


def append(con: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame) -> None:
    """Insert `frame` into `rewards.<table>` by column names; columns it lacks become null."""
    if frame.is_empty():
        return
    names = [
        name
        for (name,) in con.execute(
            "select column_name from information_schema.columns "
            "where table_schema = 'rewards' and table_name = ? order by ordinal_position",
            [table],
        ).fetchall()
        if name in frame.columns
    ]
    with given(con, appended=frame.select(names)):
        con.execute(f"insert into rewards.{table} by name select * from appended")  # noqa: S608


def replace_rows(
    con: duckdb.DuckDBPyConnection,
    table: str,
    program_id: str,
    gone: pl.DataFrame,
    rows: pl.DataFrame | None = None,
) -> None:
    """Put `rows` in the place of the program's rows whose keys are in `gone`.

    The columns of `gone` are the key; `rows` need no program_id.
    """
    if not gone.is_empty():
        keys = ", ".join(gone.columns)
        with given(con, gone=gone.unique()):
            con.execute(
                f"delete from rewards.{table} where program_id = ? "  # noqa: S608
                f"and ({keys}) in (select {keys} from gone)",
                [program_id],
            )
    if rows is not None:
        append(con, table, rows.with_columns(program_id=pl.lit(program_id)))


def of_accounts(
    con: duckdb.DuckDBPyConnection, query: str, accounts: pl.Series, parameters: list[object]
) -> pl.DataFrame:
    """Rows of `query`, which finds `accounts` as the column account_id of `wanted`."""
    with given(con, wanted=pl.DataFrame({"account_id": accounts})):
        return con.execute(query, parameters).pl()


def rows_of(
    con: duckdb.DuckDBPyConnection,
    table: str,
    program_id: str,
    accounts: pl.Series,
    schema: pl.Schema | None = None,
) -> pl.DataFrame:
    """The program's rows of `rewards.<table>` of `accounts`: the columns of `schema`, or all."""
    columns = ", ".join(schema.names()) if schema else "*"
    return of_accounts(
        con,
        f"select {columns} from rewards.{table} "  # noqa: S608
        "where program_id = ? and account_id in (select account_id from wanted)",
        accounts,
        [program_id],
    )


def done_through(con: duckdb.DuckDBPyConnection) -> date | None:
    """The known day that the last accrual went through; None before the first."""
    row = con.execute("select max(through) from rewards.progress").fetchone()
    return None if row is None else row[0]


def decisions_on(
    con: duckdb.DuckDBPyConnection, program_id: str, transactions: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Current purchase decisions on `transactions` (account_id, transaction_id), and the
    allocations of refunds to them so far."""
    with given(con, wanted=transactions):
        # Decisions stand in the order of days: only the files of the purchases' days are read.
        days = con.execute(
            "select distinct effective_on from rewards.purchase_days where program_id = ? "
            "and transaction_key in (select md5_number_lower(transaction_id) from wanted)",
            [program_id],
        ).fetchall()
        decisions = con.execute(
            f"select {', '.join(ITEM_COLUMNS)} from rewards.decisions semi join wanted "  # noqa: S608
            "using (transaction_id, account_id) where program_id = ? and event_class = 'EARN' "
            f"and effective_on in ({', '.join('?' * len(days)) or 'null'})",
            [program_id, *(day for (day,) in days)],
        ).pl()
    with given(con, wanted=decisions.select("event_id").unique()):
        allocations = con.execute(
            "select * from rewards.refund_allocations "
            "where program_id = ? and item_event_id in (select event_id from wanted)",
            [program_id],
        ).pl()
    return decisions, allocations


def add_decisions(con: duckdb.DuckDBPyConnection, program_id: str, decisions: pl.DataFrame) -> None:
    """Append `decisions` in the order of days, and the days on which purchases are found again."""
    if decisions.is_empty():
        return
    append(
        con, "decisions",
        decisions.sort("effective_on", maintain_order=True).with_columns(
            program_id=pl.lit(program_id)
        ),
    )  # fmt: skip
    with given(con, decided=decisions.select("transaction_id", "event_class", "effective_on")):
        con.execute(
            """
            insert into rewards.purchase_days
            with bought as (
                select distinct
                    $program as program_id, md5_number_lower(transaction_id) as transaction_key,
                    effective_on
                from decided where event_class = 'EARN'
            )
            select * from bought
            except
            select * from rewards.purchase_days
            where program_id = $program
                and transaction_key in (select transaction_key from bought)
            order by effective_on
            """,
            {"program": program_id},
        )


def transactions_beside(
    con: duckdb.DuckDBPyConnection, program_id: str, events: pl.DataFrame, refunded: pl.DataFrame
) -> pl.DataFrame:
    """Decided purchases that may share a statement period with new `events` (account_id,
    posted_on), or with those `refunded` (account_id, transaction_id): the latter's columns."""
    with given(con, fresh=events.select("account_id", "posted_on"), refunded=refunded):
        return con.execute(
            """
            with first_days as (
                select account_id, min(day) - interval 31 day as day from (
                    select account_id, posted_on as day from fresh
                    union all
                    select account_id, effective_on from rewards.decisions
                    where program_id = $program and (account_id, transaction_id) in
                        (select account_id, transaction_id from refunded)
                )
                group by account_id
            )
            select distinct account_id, transaction_id
            from rewards.decisions inner join first_days using (account_id)
            where program_id = $program and event_class = 'EARN' and effective_on >= first_days.day
            """,
            {"program": program_id},
        ).pl()


def states_of(con: duckdb.DuckDBPyConnection, program_id: str) -> pl.DataFrame:
    """Last event and balance of every account of the program that has any."""
    return con.execute(
        "select * exclude (program_id) from rewards.account_state where program_id = ?",
        [program_id],
    ).pl()


def lots_of(
    con: duckdb.DuckDBPyConnection, program_id: str, accounts: pl.Series, may_wait: bool
) -> pl.DataFrame:
    """Open lots of `accounts`; `may_wait`: whether any of the program's may be pending."""
    pending = """
        select lot_id from rewards.postings
        where ledger_account = 'MEMBER_PENDING' and lot_id in (select lot_id from issued)
        group by lot_id
        having sum(case direction when 'CREDIT' then amount else -amount end) > 0
    """
    return of_accounts(
        con,
        f"""
        with issued as (
            select * exclude (issue_journal_id) from rewards.lots_issued
            where program_id = ? and account_id in (select account_id from wanted)
        ),
        consumed as (
            select lot_id, sum(points) as points from rewards.lot_consumption
            where program_id = ? and account_id in (select account_id from wanted)
            group by lot_id
        )
        select issued.*,
            cast(points_issued - coalesce(consumed.points, 0) as bigint) as points_open,
            {f"lot_id in ({pending})" if may_wait else "false"} as is_pending
        from issued left join consumed using (lot_id)
        where points_issued - coalesce(consumed.points, 0) <> 0
        """,  # noqa: S608
        accounts,
        [program_id, program_id],
    )


def forborne(con: duckdb.DuckDBPyConnection, program_id: str, accounts: pl.Series) -> pl.DataFrame:
    """What return policies kept entries of `accounts` from taking back, or (below zero) from
    giving back: journal_id, account_id, points and the purchases (`items`)."""
    return of_accounts(
        con,
        """
        select
            journal.journal_id, journal.account_id,
            case postings.direction when 'DEBIT' then amount else -amount end as points,
            (
                select list(distinct item_event_id) from rewards.refund_allocations as taken
                where taken.program_id = journal.program_id and taken.event_id = journal.source_id
            ) as items
        from rewards.journal as journal
        inner join rewards.postings as postings using (journal_id)
        where journal.program_id = ? and journal.source_kind = 'POSTED_EVENT'
            and postings.ledger_account = 'ADJUSTMENT'
            and journal.account_id in (select account_id from wanted)
        order by journal.seq
        """,
        accounts,
        [program_id],
    )


def redemptions_of(
    con: duckdb.DuckDBPyConnection, program_id: str, accounts: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Posted redemptions and cancellations of `accounts`, and what the redemptions took: the lots
    with the points taken."""
    outcomes = of_accounts(
        con,
        "select * from rewards.reward_event_outcomes where program_id = ? and outcome = 'POSTED' "
        "and kind in ('REDEEM', 'REDEEM_CANCEL') "
        "and account_id in (select account_id from wanted) order by recorded_at, event_at",
        accounts,
        [program_id],
    )
    taken = of_accounts(
        con,
        "select used.journal_id, used.points, issued.* "
        "from rewards.lot_consumption as used inner join rewards.lots_issued as issued "
        "using (lot_id) where used.program_id = ? and used.kind = 'REDEEM' "
        "and used.account_id in (select account_id from wanted) "
        "order by used.journal_id, used.lot_id",
        accounts,
        [program_id],
    )
    return outcomes, taken


def reserved(con: duckdb.DuckDBPyConnection, program_id: str) -> pl.DataFrame:
    """Redemptions that are only reserved so far: account_id, journal_id, the day that they were
    made on and the one that they became known on."""
    return con.execute(
        """
        select account_id, journal_id, effective_on, cast(recorded_at as date) as known_on
        from rewards.journal as made
        where program_id = ? and event_type = 'RESERVATION'
            and not exists (select 1 from rewards.journal as later
                where later.reverses_journal_id = made.journal_id
                    or (later.source_kind = 'SETTLEMENT' and later.source_id = made.source_id
                        and later.program_id = made.program_id))
        order by seq
        """,
        [program_id],
    ).pl()


def activations(con: duckdb.DuckDBPyConnection, program_id: str) -> pl.DataFrame:
    """Offers taken up so far: account_id, offer_id, event_at."""
    return con.execute(
        "select account_id, offer_id, event_at from rewards.reward_event_outcomes "
        "where program_id = ? and kind = 'ACTIVATE' and offer_id is not null",
        [program_id],
    ).pl()


def accounts_with_lots_due(
    con: duckdb.DuckDBPyConnection,
    program_id: str,
    day: Literal["expires_on", "available_on"],
    after: date | None,
    through: date,
) -> pl.Series:
    """Accounts with lots whose `day` is later than `after` and by `through`."""
    return con.execute(
        "select distinct account_id from rewards.lots_issued "  # noqa: S608
        f"where program_id = ? and {day} > ? and {day} <= ?",
        [program_id, after or date.min, through],
    ).pl()["account_id"]


def settled(con: duckdb.DuckDBPyConnection, program_id: str) -> set[str]:
    """Ids of the account closures that the ledger has settled."""
    rows = con.execute(
        "select reward_event_id from rewards.reward_event_outcomes "
        "where program_id = ? and kind in ('FORFEIT', 'CREDIT', 'WRITE_OFF')",
        [program_id],
    ).fetchall()
    return {name for (name,) in rows}


def bonus_points(
    con: duckdb.DuckDBPyConnection, program_id: str, accounts: pl.Series, rule_ids: list[str]
) -> dict[str, int]:
    """Points of sign-up bonuses that stand, less what closures took of them, by account."""
    found = of_accounts(
        con,
        """
        select account_id, cast(sum(points) as bigint) as points from (
            select account_id, points from rewards.decisions
            where program_id = ? and list_contains(?, rule_id)
            union all
            select journal.account_id,
                case postings.direction when 'DEBIT' then amount else -amount end as points
            from rewards.journal as journal
            inner join rewards.postings as postings using (journal_id)
            where journal.program_id = ? and journal.event_type = 'CLAWBACK'
                and journal.source_kind in ('CLOSURE', 'REWARD_EVENT')
                and ledger_account = 'CLAWED_BACK'
        )
        where account_id in (select account_id from wanted) group by account_id
        """,
        accounts,
        [program_id, rule_ids, program_id],
    )
    return dict(found.iter_rows())
