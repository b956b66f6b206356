"""What an accrual reads of the marts: new posted events, new instructions, facts of accounts."""

import hashlib
from collections.abc import Collection, Iterable
from datetime import date, datetime, time, timedelta

import duckdb
import polars as pl

from pipelines.rewards.engine import EVENT_SCHEMA
from pipelines.rewards.facts import OPENING_SCHEMA, STATEMENT_SCHEMA, STATUS_SCHEMA, Facts
from pipelines.rewards.rules import RuleBook
from pipelines.rewards.stored import given, of_accounts
from pipelines.warehouse import watermark

EARNING_EVENTS = "marts.fct_earning_events"
REWARD_EVENTS = "marts.fct_reward_events"
ACCOUNTS = "marts.dim_accounts"
STATEMENTS = "marts.fct_statements"
PAYMENTS = "marts.fct_payments"
TABLES = (EARNING_EVENTS, REWARD_EVENTS, ACCOUNTS, STATEMENTS)
"""What an accrual reads, each by its own watermark; payments where a program asks for them."""

_ZONES = "(select distinct program_id, timezone as zone from rewards.programs)"
"""All versions of a program have one time zone."""


def _local_day(moment: str) -> str:
    """The day of `moment` (UTC) where the program is, whose `zone` has been joined."""
    return f"cast(timezone(coalesce(zone, 'UTC'), timezone('UTC', {moment})) as date)"


_PAYMENT_EVENTS = f"""(
    select
        'payment:' || payment_id || ':' || step as event_id,
        'payment:' || payment_id as transaction_id,
        payment.account_id,
        case step when 'SETTLED' then 'PAYMENT' else 'PAYMENT_RETURN' end as event_type,
        happened_at as event_at, {_local_day("happened_at")} as posted_on,
        payment.amount_minor, payment.currency,
        case step when 'SETTLED' then 'DEBIT' else 'CREDIT' end as direction,
        'PAYMENT' as transaction_class, cast(null as varchar) as mcc,
        cast(null as varchar) as merchant_id, cast(null as varchar) as merchant_country,
        cast(null as varchar) as partner_id,
        case step when 'RETURNED' then 'payment:' || payment_id end as refunds_transaction_id,
        1 as version_no, holder.program_id,
        greatest(payment.received_at, happened_at) as received_at, payment.file_id
    from (
        select *, unnest(['SETTLED', 'RETURNED']) as step from {PAYMENTS}
    ) as payment
    inner join (
        select account_id, arg_max(program_id, updated_at) as program_id
        from {ACCOUNTS} group by account_id
    ) as holder on payment.account_id = holder.account_id
    left join {_ZONES} as zones on holder.program_id = zones.program_id
    cross join lateral (
        select case step when 'SETTLED' then settled_at else returned_at end as happened_at
    ) as happened
    where happened_at is not null and settled_at is not null
)"""  # noqa: S608

INSTRUCTION_COLUMNS = (
    "reward_event_id", "account_id", "program_id", "kind", "event_at", "points", "reference",
    "offer_id",
)  # fmt: skip
_EVENT_COLUMNS = (
    ", ".join(f"event.{name}" for name in EVENT_SCHEMA.names() if name != "known_on")
    + ", event.program_id, cast(event.received_at as date) as known_on"
)


def last_known_day(con: duckdb.DuckDBPyConnection, tables: Iterable[str] = TABLES) -> date | None:
    """The latest day on which anything in `tables` became known."""
    days = [
        day
        for table in tables
        for (day,) in con.execute(f"select max(cast(received_at as date)) from {table}").fetchall()  # noqa: S608
    ]
    return max((day for day in days if day is not None), default=None)


def watermark_name(table: str) -> str:
    """The watermark over ingest commits that accrual keeps for `table`."""
    return f"rewards:{table}"


def new_rows(
    con: duckdb.DuckDBPyConnection,
    table: str,
    columns: str,
    after: date | None,
    through: date,
    source: str | None = None,
) -> pl.DataFrame:
    """Rows of `table` known by `through` that no accrual has seen, with `known_on`.

    Those of ingest commits after the table's watermark, and those that the last accrual left
    because they were known only after its last day (`after`). `source`: SQL for the rows, where
    they are not the table's as they stand.
    """
    rows = f"select {columns} from {source or table} as event"  # noqa: S608
    seen, until = _end_of(after or date.min), _end_of(through)
    # In two parts, so that each can leave out the files of earlier days or loads.
    return con.execute(
        f"""
        {rows} where received_at >= ? and received_at < ?
        union all
        {rows} where received_at < ?
            and file_id in (select file_id from landing.files where load_no > ?)
        """,  # noqa: S608
        [seen, until, min(seen, until), watermark(con, watermark_name(table))],
    ).pl()


def _end_of(day: date) -> datetime:
    """The first moment after `day`."""
    return datetime.combine(day, time.min) + timedelta(days=1)


def newest_load(con: duckdb.DuckDBPyConnection, table: str) -> int | None:
    """The newest ingest commit that `table` holds rows of, if it is past the watermark."""
    row = con.execute(
        f"select max(load_no) from landing.files where load_no > ? "  # noqa: S608
        f"and file_id in (select file_id from {table})",
        [watermark(con, watermark_name(table))],
    ).fetchone()
    return None if row is None else row[0]


def new_events(
    con: duckdb.DuckDBPyConnection, after: date | None, through: date, paying: Collection[str]
) -> pl.DataFrame:
    """New posted events, and payments of the programs `paying`: `EVENT_SCHEMA` and program_id."""
    found = new_rows(con, EARNING_EVENTS, _EVENT_COLUMNS, after, through)
    if not paying:
        return found
    paid = new_rows(con, PAYMENTS, _EVENT_COLUMNS, after, through, _PAYMENT_EVENTS)
    return pl.concat(
        [found, paid.filter(pl.col("program_id").is_in(list(paying)))], how="vertical_relaxed"
    )


def moved_events(
    con: duckdb.DuckDBPyConnection, accounts: pl.Series, programs: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Decided events that count for another purchase or another of `programs` by now than they
    did, of `accounts` and of those of which there are new records.

    Only new records of an account can move its events to another program; what is new of the
    account in other ways can link its refunds anew.
    Returns account_id and program_id of those that must be decided again, and the events
    (`EVENT_SCHEMA`, program_id, `first_revision`) that are new to their program.
    """
    with given(con, active=pl.DataFrame({"account_id": accounts})):
        found = con.execute(
            f"""
            with told as (
                select account_id from {ACCOUNTS} where file_id in
                    (select file_id from landing.files where load_no > ?)
            ),
            decided as (
                select event_id, any_value(program_id) as decided_program_id,
                    any_value(refunds_transaction_id) as decided_of,
                    any_value(event_class) as event_class, max(revision) as revision
                from (
                    select * from rewards.decisions
                    where account_id in (select account_id from told)
                    union all
                    select * from rewards.decisions
                    where event_class <> 'EARN' and account_id in (
                        select account_id from active except select account_id from told
                    )
                )
                group by event_id
            )
            select event_id, account_id, event.program_id, decided_program_id,
                revision + 1 as first_revision
            from decided inner join {EARNING_EVENTS} as event using (event_id)
            where list_contains(?, event.program_id) and decided_program_id <> event.program_id
                or (event_class <> 'EARN' and event.refunds_transaction_id
                    is distinct from decided_of)
            """,  # noqa: S608
            [watermark(con, watermark_name(ACCOUNTS)), programs],
        ).pl()
    again = pl.concat(
        [found.select("account_id", "program_id"),
         found.select("account_id", program_id="decided_program_id")]
    ).unique()  # fmt: skip
    arrived = found.filter(
        pl.col("program_id") != pl.col("decided_program_id"), pl.col("program_id").is_in(programs)
    ).select("event_id", "first_revision")
    with given(con, arrived=arrived):
        new = con.execute(
            f"select {_EVENT_COLUMNS}, first_revision from arrived "  # noqa: S608
            f"inner join {EARNING_EVENTS} as event using (event_id)"
        ).pl()
    return again, new


def new_instructions(
    con: duckdb.DuckDBPyConnection, after: date | None, through: date
) -> pl.DataFrame:
    """New reward events: `INSTRUCTION_COLUMNS`, known_on and payload_hash."""
    columns = ", ".join(f"event.{name}" for name in INSTRUCTION_COLUMNS)
    found = new_rows(
        con,
        REWARD_EVENTS,
        f"{columns}, cast(event.received_at as date) as known_on",
        after,
        through,
    ).sort("reward_event_id")
    hashes = [
        hashlib.sha256("\n".join(map(str, row)).encode()).hexdigest()
        for row in found.select(INSTRUCTION_COLUMNS).iter_rows()
    ]
    return found.with_columns(pl.Series("payload_hash", hashes, dtype=pl.String))


def events_of(
    con: duckdb.DuckDBPyConnection, accounts: pl.Series, known_by: date, with_payments: bool = False
) -> pl.DataFrame:
    """All posted events, and payments, of `accounts` known by a day: `EVENT_SCHEMA` and
    program_id."""
    sources = (EARNING_EVENTS, _PAYMENT_EVENTS) if with_payments else (EARNING_EVENTS,)
    return pl.concat(
        [
            of_accounts(
                con,
                f"select {_EVENT_COLUMNS} from {source} as event "  # noqa: S608
                "where event.account_id in (select account_id from wanted) "
                "and cast(event.received_at as date) <= ?",
                accounts,
                [known_by],
            )
            for source in sources
        ],
        how="vertical_relaxed",
    )


def facts_of(
    con: duckdb.DuckDBPyConnection,
    book: RuleBook,
    accounts: pl.Series,
    activations: pl.DataFrame,
    after: date | None,
    through: date,
) -> Facts:
    """What `book` asks about `accounts`, and about accounts of which there are news."""
    program_id = book.program.program_id
    statuses, statements = pl.DataFrame(schema=STATUS_SCHEMA), pl.DataFrame(schema=STATEMENT_SCHEMA)
    openings = pl.DataFrame(schema=OPENING_SCHEMA)
    asks_records = book.asks_standing or book.carries or "ACCOUNT_TIER" in book.tier_metrics
    asks_statements = book.has_gates or book.settles_by_statement
    # News of one kind make the account be decided again, by all that is known of it.
    if asks_records:
        accounts = _with_news(con, ACCOUNTS, accounts, program_id, after, through)
    if asks_statements:
        accounts = _with_news(con, STATEMENTS, accounts, program_id, after, through)
    if asks_records:
        statuses = _known(con, _STATUSES, ACCOUNTS, accounts, after, through, STATUS_SCHEMA)
        if not (book.carries or book.resumes_by_cycle):
            statuses = statuses.with_columns(cycle_day=pl.lit(None, dtype=pl.Int64))
    if asks_statements:
        counted = _known(con, _STATEMENTS, STATEMENTS, accounts, after, through, None)
        needed = {
            day: max((gate.n for gate in book.terms_on(day).gates), default=0)
            for day in counted["ends_on"].unique().to_list()
        }
        n = pl.col("ends_on").replace_strict(needed, default=0, return_dtype=pl.Int64)
        statements = counted.with_columns(is_short=pl.col("purchases") < n).select(
            pl.col(name).cast(kind) for name, kind in STATEMENT_SCHEMA.items()
        )
    if book.has_bonuses:
        openings = of_accounts(con, _OPENINGS, accounts, [program_id])
    return Facts(activations, statuses, statements, openings)


def _with_news(
    con: duckdb.DuckDBPyConnection,
    table: str,
    accounts: pl.Series,
    program_id: str,
    after: date | None,
    through: date,
) -> pl.Series:
    """`accounts`, and the accounts of the program that new rows of `table` are about."""
    news = new_rows(con, table, "event.account_id", after, through)["account_id"].unique()
    if news.len():
        mine = of_accounts(
            con,
            "select account_id from rewards.account_state "
            "where program_id = ? and account_id in (select account_id from wanted)",
            news,
            [program_id],
        )["account_id"]
        accounts = pl.concat([accounts.rename("account_id"), mine])
    return accounts.unique()


def _known(
    con: duckdb.DuckDBPyConnection,
    query: str,
    table: str,
    accounts: pl.Series,
    after: date | None,
    through: date,
    schema: pl.Schema | None,
) -> pl.DataFrame:
    """Rows of `query` with `day` and `is_new`, as `new_rows` tells new ones."""
    seen = after or date.min
    found = of_accounts(
        con, query, accounts, [seen, watermark(con, watermark_name(table)), through]
    ).with_columns(day=pl.col("known_on") if after is None else pl.col("known_on").clip(after))
    if schema is None:
        return found
    return found.select(pl.col(name).cast(kind) for name, kind in schema.items())


_IS_NEW = """(cast(told.received_at as date) > ? or told.file_id in
    (select file_id from landing.files where load_no > ?)) as is_new"""

_STATUSES = f"""
select
    told.account_id,
    case
        when told.status = 'CLOSED' and told.closed_on is not null
            then least(
                told.updated_at,
                timezone('UTC', timezone(coalesce(zone, 'UTC'), cast(told.closed_on as timestamp)))
            )
        else told.updated_at
    end as from_at,
    told.status, told.substatus, told.tier, told.cycle_day,
    cast(told.received_at as date) as known_on, {_IS_NEW}
from {ACCOUNTS} as told
left join {_ZONES} as zones on told.program_id = zones.program_id
where told.account_id in (select account_id from wanted) and cast(told.received_at as date) <= ?
"""  # noqa: S608

_STATEMENTS = f"""
select
    told.account_id, told.period_start_on as starts_on, told.period_end_on as ends_on,
    cast(told.received_at as date) as known_on, {_IS_NEW},
    (
        select count(distinct event.transaction_id) from {EARNING_EVENTS} as event
        where event.account_id = told.account_id
            and event.posted_on between told.period_start_on and told.period_end_on
            and event.transaction_class = 'PURCHASE' and event.direction = 'DEBIT'
            and event.event_type <> 'RETURN_REVERSAL'
            and cast(event.received_at as date) <= cast(told.received_at as date)
    ) as purchases
from {STATEMENTS} as told
where told.account_id in (select account_id from wanted) and cast(told.received_at as date) <= ?
"""  # noqa: S608

# The same person's accounts are told by the person where the customer's record names one.
_OPENINGS = f"""
with customers as (
    select customer_id, max(person_id) as person_id from marts.dim_customers group by customer_id
),
opened as (
    select account.account_id, min(account.opened_on) as opened_on,
        max(coalesce(customers.person_id, account.customer_id)) as person_id
    from {ACCOUNTS} as account left join customers using (customer_id)
    where account.program_id = ?
    group by account.account_id
)
select account_id, opened_on,
    row_number() over (partition by person_id order by opened_on, account_id) = 1 as is_first
from opened
qualify account_id in (select account_id from wanted)
"""  # noqa: S608


def closures_of(con: duckdb.DuckDBPyConnection, program_id: str, known_by: date) -> pl.DataFrame:
    """What records say of closed accounts of the program, in the order in which it became known.

    account_id, opened_on, closed_on, close_reason, substatus, known_on; `closing`, which closing of
    the account it is; `reopened_on`, when it was known to be open again, null if it is not.
    """
    in_time = "partition by account_id order by received_at, updated_at"
    return con.execute(
        f"""
        with told as (
            select *, cast(received_at as date) as known_on,
                coalesce(status = 'CLOSED', false) as is_closed,
                coalesce(lag(status = 'CLOSED') over ({in_time}), false) as was_closed
            from {ACCOUNTS}
            where program_id = ? and cast(received_at as date) <= ?
        ),
        numbered as (
            select *, sum((is_closed and not was_closed)::int) over ({in_time}) as closing from told
        )
        select account_id, opened_on, coalesce(closed_on, {_local_day("updated_at")}) as closed_on,
            close_reason, substatus, known_on, closing::bigint as closing,
            min(known_on) filter (where not is_closed)
                over (partition by account_id, closing) as reopened_on
        from numbered
        left join {_ZONES} as zones using (program_id)
        where closing > 0
        qualify is_closed
        order by account_id, received_at, updated_at
        """,  # noqa: S608
        [program_id, known_by],
    ).pl()
