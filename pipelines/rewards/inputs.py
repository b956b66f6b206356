"""What an accrual reads: new posted events, new instructions, and the state of their accounts."""

import hashlib
from datetime import date

import duckdb
import polars as pl

from pipelines.rewards.engine import CAP_SCHEMA, DECISION_SCHEMA, EVENT_SCHEMA
from pipelines.warehouse import watermark

POSTED_EVENTS = "marts.fct_posted_events"
REWARD_EVENTS = "marts.fct_reward_events"

INSTRUCTION_COLUMNS = (
    "reward_event_id", "account_id", "program_id", "kind", "event_at", "points", "reference",
    "offer_id",
)  # fmt: skip
_EVENT_COLUMNS = (
    ", ".join(f"event.{name}" for name in EVENT_SCHEMA.names() if name != "known_on")
    + ", event.program_id, cast(event.received_at as date) as known_on"
)


def done_through(con: duckdb.DuckDBPyConnection) -> date | None:
    """The known day that the last accrual went through; None before the first."""
    row = con.execute("select max(through) from rewards.progress").fetchone()
    return None if row is None else row[0]


def last_known_day(con: duckdb.DuckDBPyConnection) -> date | None:
    """The latest day on which anything that accrual reads became known."""
    row = con.execute(
        f"select greatest((select max(cast(received_at as date)) from {POSTED_EVENTS}), "  # noqa: S608
        f"(select max(cast(received_at as date)) from {REWARD_EVENTS}))"
    ).fetchone()
    return None if row is None else row[0]


def watermark_name(table: str) -> str:
    """The watermark over ingest commits that accrual keeps for `table`."""
    return f"rewards:{table}"


def new_rows(
    con: duckdb.DuckDBPyConnection, table: str, columns: str, after: date | None, through: date
) -> pl.DataFrame:
    """Rows of `table` known by `through` that no accrual has seen, with `known_on`.

    Those of ingest commits after the table's watermark, and those that the last accrual left
    because they were known only after its last day (`after`).
    """
    return con.execute(
        f"""
        select {columns} from {table} as event
        where cast(event.received_at as date) <= ?
            and (cast(event.received_at as date) > ? or event.file_id in
                (select file_id from landing.files where load_no > ?))
        """,  # noqa: S608
        [through, after or date.min, watermark(con, watermark_name(table))],
    ).pl()


def newest_load(con: duckdb.DuckDBPyConnection, table: str) -> int | None:
    """The newest ingest commit that `table` holds rows of, if it is past the watermark."""
    row = con.execute(
        f"select max(load_no) from landing.files where load_no > ? "  # noqa: S608
        f"and file_id in (select file_id from {table})",
        [watermark(con, watermark_name(table))],
    ).fetchone()
    return None if row is None else row[0]


def new_events(con: duckdb.DuckDBPyConnection, after: date | None, through: date) -> pl.DataFrame:
    """New posted events: `EVENT_SCHEMA` and program_id."""
    return new_rows(con, POSTED_EVENTS, _EVENT_COLUMNS, after, through)


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


def events_of(con: duckdb.DuckDBPyConnection, accounts: pl.Series, known_by: date) -> pl.DataFrame:
    """All posted events of `accounts` known by a day: `EVENT_SCHEMA` and program_id."""
    return _of_accounts(
        con,
        f"select {_EVENT_COLUMNS} from {POSTED_EVENTS} as event "  # noqa: S608
        "where event.account_id in (select account_id from wanted) "
        "and cast(event.received_at as date) <= ?",
        accounts,
        [known_by],
    )


def caps_of(con: duckdb.DuckDBPyConnection, program_id: str, accounts: pl.Series) -> pl.DataFrame:
    """Cap usage of `accounts` (`CAP_SCHEMA`)."""
    return _of_accounts(
        con,
        f"select {', '.join(CAP_SCHEMA.names())} from rewards.cap_usage "  # noqa: S608
        "where program_id = ? and account_id in (select account_id from wanted)",
        accounts,
        [program_id],
    )


def decisions_of(
    con: duckdb.DuckDBPyConnection, program_id: str, accounts: pl.Series
) -> pl.DataFrame:
    """Current decisions of `accounts`, all columns."""
    return _of_accounts(
        con,
        "select * from rewards.decisions "
        "where program_id = ? and account_id in (select account_id from wanted)",
        accounts,
        [program_id],
    )


def decisions_on(
    con: duckdb.DuckDBPyConnection, program_id: str, transactions: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Current purchase decisions on `transactions` (account_id, transaction_id), and the
    allocations of refunds to them so far."""
    con.register("wanted", transactions.to_arrow())
    try:
        decisions = con.execute(
            f"select {', '.join(DECISION_SCHEMA.names()[:-1])} from rewards.decisions "  # noqa: S608
            "where program_id = ? and event_class = 'EARN' "
            "and (account_id, transaction_id) in (select account_id, transaction_id from wanted)",
            [program_id],
        ).pl()
    finally:
        con.unregister("wanted")
    con.register("wanted", decisions.select("event_id").unique().to_arrow())
    try:
        allocations = con.execute(
            "select * from rewards.refund_allocations "
            "where program_id = ? and item_event_id in (select event_id from wanted)",
            [program_id],
        ).pl()
    finally:
        con.unregister("wanted")
    return decisions, allocations


def states_of(con: duckdb.DuckDBPyConnection, program_id: str) -> pl.DataFrame:
    """Last event and balance of every account of the program that has any."""
    return con.execute(
        "select * exclude (program_id) from rewards.account_state where program_id = ?",
        [program_id],
    ).pl()


def lots_of(con: duckdb.DuckDBPyConnection, program_id: str, accounts: pl.Series) -> pl.DataFrame:
    """Open lots of `accounts`."""
    return _of_accounts(
        con,
        """
        with issued as (
            select * from rewards.lots_issued
            where program_id = ? and account_id in (select account_id from wanted)
        ),
        consumed as (
            select lot_id, sum(points) as points from rewards.lot_consumption
            where program_id = ? and account_id in (select account_id from wanted)
            group by lot_id
        )
        select issued.*, cast(points_issued - coalesce(consumed.points, 0) as bigint) as points_open
        from issued left join consumed using (lot_id)
        where points_issued - coalesce(consumed.points, 0) <> 0
        """,
        accounts,
        [program_id, program_id],
    )


def redemptions_of(
    con: duckdb.DuckDBPyConnection, program_id: str, accounts: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Posted redemptions and cancellations of `accounts`, and what the redemptions took: the lots
    with the points taken."""
    outcomes = _of_accounts(
        con,
        "select * from rewards.reward_event_outcomes where program_id = ? and outcome = 'POSTED' "
        "and kind in ('REDEEM', 'REDEEM_CANCEL') "
        "and account_id in (select account_id from wanted) order by recorded_at, event_at",
        accounts,
        [program_id],
    )
    taken = _of_accounts(
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


def activations(con: duckdb.DuckDBPyConnection, program_id: str) -> pl.DataFrame:
    """Offers taken up so far: account_id, offer_id, event_at."""
    return con.execute(
        "select account_id, offer_id, event_at from rewards.reward_event_outcomes "
        "where program_id = ? and kind = 'ACTIVATE' and offer_id is not null",
        [program_id],
    ).pl()


def accounts_with_lots_lapsing(
    con: duckdb.DuckDBPyConnection, program_id: str, after: date | None, through: date
) -> list[str]:
    """Accounts with lots that expire later than `after` and by `through`."""
    found = con.execute(
        "select distinct account_id from rewards.lots_issued "
        "where program_id = ? and expires_on > ? and expires_on <= ?",
        [program_id, after or date.min, through],
    ).fetchall()
    return [account for (account,) in found]


def _of_accounts(
    con: duckdb.DuckDBPyConnection, query: str, accounts: pl.Series, parameters: list[object]
) -> pl.DataFrame:
    con.register("wanted", pl.DataFrame({"account_id": accounts}).to_arrow())
    try:
        return con.execute(query, parameters).pl()
    finally:
        con.unregister("wanted")
