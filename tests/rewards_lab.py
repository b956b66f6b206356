"""The rewards accrual in a database in memory: what it reads is put there by the test."""

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from typing import Any

import duckdb
import polars as pl

from pipelines.rewards.accrual import AccrualSummary, accrue_into
from pipelines.rewards.engine import EVENT_SCHEMA
from pipelines.rewards.tables import ensure_tables, publish_programs
from pipelines.rewards.terms import Program
from pipelines.rewards.verification import verify_ledger
from pipelines.warehouse import memory, transaction

EVENT_COLUMNS = {
    **{name: kind for name, kind in EVENT_SCHEMA.items() if name != "known_on"},
    "program_id": pl.String,
    "received_at": pl.Datetime("us"),
    "file_id": pl.String,
}
INSTRUCTION_COLUMNS = {
    "reward_event_id": pl.String,
    "account_id": pl.String,
    "program_id": pl.String,
    "kind": pl.String,
    "event_at": pl.Datetime("us"),
    "points": pl.Int64,
    "reference": pl.String,
    "offer_id": pl.String,
    "received_at": pl.Datetime("us"),
    "file_id": pl.String,
}
ACCOUNT_COLUMNS = {
    "account_id": pl.String,
    "customer_id": pl.String,
    "program_id": pl.String,
    "opened_on": pl.Date,
    "updated_at": pl.Datetime("us"),
    "status": pl.String,
    "substatus": pl.String,
    "closed_on": pl.Date,
    "close_reason": pl.String,
    "tier": pl.String,
    "cycle_day": pl.Int64,
    "received_at": pl.Datetime("us"),
    "file_id": pl.String,
}
STATEMENT_COLUMNS = {
    "statement_id": pl.String,
    "account_id": pl.String,
    "period_start_on": pl.Date,
    "period_end_on": pl.Date,
    "received_at": pl.Datetime("us"),
    "file_id": pl.String,
}
PAYMENT_COLUMNS = {
    "payment_id": pl.String,
    "account_id": pl.String,
    "amount_minor": pl.Int64,
    "currency": pl.String,
    "settled_at": pl.Datetime("us"),
    "returned_at": pl.Datetime("us"),
    "received_at": pl.Datetime("us"),
    "file_id": pl.String,
}
FEEDS = {
    "fct_earning_events": (EVENT_COLUMNS, ("event_id",)),
    "fct_reward_events": (INSTRUCTION_COLUMNS, ("reward_event_id",)),
    "dim_accounts": (ACCOUNT_COLUMNS, ("account_id", "updated_at")),
    "fct_statements": (STATEMENT_COLUMNS, ("statement_id",)),
    "fct_payments": (PAYMENT_COLUMNS, ("payment_id",)),
}
_TABLES = """
create schema if not exists landing; create schema if not exists ops;
create schema if not exists finance; create schema if not exists rewards;
create schema if not exists marts;
create table if not exists landing.files (
    file_id varchar, feed varchar, load_no bigint, state varchar, received_at timestamp
);
create table if not exists ops.watermarks (name varchar, load_no bigint);
create table if not exists finance.exceptions (
    exception_id varchar, recon_id varchar, type varchar, severity varchar, amount_minor bigint,
    currency varchar, left_ref varchar, right_ref varchar, opened_on date, state varchar,
    detail varchar
);
"""


def end_of(day: date) -> datetime:
    """When a delivery of `day` is known."""
    return datetime.combine(day, time.max)


class RewardsLab:
    """Deliveries in, ledger out. `con` may be a warehouse; default a database in memory."""

    def __init__(self, *programs: Program, con: duckdb.DuckDBPyConnection | None = None) -> None:
        self.programs = {program.program_id: program for program in programs}
        self.con = con or memory()
        if con is None:
            self.con.execute(_TABLES)
        ensure_tables(self.con)
        self.con.execute(
            "create table marts.dim_customers (customer_id varchar, person_id varchar)"
        )
        for table, (columns, _) in FEEDS.items():
            self.con.register("empty", pl.DataFrame(schema=columns).to_arrow())
            self.con.execute(f"create table marts.{table} as select * from empty")
            self.con.unregister("empty")
        self.load_no = 0

    def deliver(
        self,
        events: Iterable[dict[str, Any]] = (),
        instructions: Iterable[dict[str, Any]] = (),
        accounts: Iterable[dict[str, Any]] = (),
        statements: Iterable[dict[str, Any]] = (),
        payments: Iterable[dict[str, Any]] = (),
    ) -> "RewardsLab":
        """One ingest commit; rows are known at the end of `known_on`. A known key is replaced."""
        self.load_no += 1
        delivered = (events, instructions, accounts, statements, payments)
        for (table, (columns, keys)), rows in zip(FEEDS.items(), delivered, strict=True):
            key = f"({', '.join(keys)})"
            frame = pl.DataFrame(
                [
                    {
                        "program_id": next(iter(self.programs)),
                        **row,
                        "file_id": f"{table}:{self.load_no}",
                        "received_at": end_of(row["known_on"]),
                    }
                    for row in rows
                ],
                schema=columns,
            )
            self.con.register("arrived", frame.to_arrow())
            self.con.execute(
                f"delete from marts.{table} where {key} in (select {', '.join(keys)} from arrived)"
            )
            self.con.execute(f"insert into marts.{table} by name select * from arrived")
            self.con.unregister("arrived")
            self.con.execute(
                "insert into landing.files (file_id, feed, load_no) values (?, ?, ?)",
                [f"{table}:{self.load_no}", table, self.load_no],
            )
        return self

    def accrue(self, through: date | None = None) -> AccrualSummary:
        """Run the accrual."""
        with transaction(self.con):
            publish_programs(self.con, self.programs)
            return accrue_into(self.con, self.programs, through)

    def balances(self) -> dict[str, int]:
        """Available less deficit by account, where there is any."""
        rows = self.con.execute(
            "select account_id, available - deficit from rewards.balances"
        ).fetchall()
        return {account: balance for account, balance in rows if balance}

    def frame(self, query: str) -> pl.DataFrame:
        """Rows of a query."""
        return self.con.execute(query).pl()

    def contents(self) -> dict[str, list[tuple]]:
        """Every row of every rewards table, to compare ledgers by."""
        tables = self.frame(
            "select distinct table_name from information_schema.tables "
            "where table_schema = 'rewards' order by 1"
        )["table_name"]
        return {
            table: sorted(self.con.execute(f"select * from rewards.{table}").fetchall(), key=repr)
            for table in tables
        }

    def broken(self) -> list[str]:
        """Promises that do not hold."""
        return [f"{r.name}: {r.detail}" for r in verify_ledger(self.con) if not r.ok]


def instruction(
    number: str, account: str, kind: str, on: date, points: int | None = None, **changes: Any
) -> dict[str, Any]:
    """A reward event at noon of `on`, known that day."""
    return {
        "reward_event_id": number,
        "account_id": account,
        "kind": kind,
        "event_at": datetime.combine(on, time(12)),
        "points": points,
        "reference": None,
        "offer_id": None,
        "known_on": on,
        **changes,
    }


def account(number: str, opened_on: date, **changes: Any) -> dict[str, Any]:
    """A version of an open account's record, in effect from its opening and known that day."""
    return {
        "account_id": number,
        "customer_id": f"customer of {number}",
        "opened_on": opened_on,
        "updated_at": datetime.combine(opened_on, time()),
        "status": "OPEN",
        "known_on": opened_on,
        **changes,
    }


def statement(account: str, starts_on: date, ends_on: date, **changes: Any) -> dict[str, Any]:
    """A statement of the days between, both included; known on the day after."""
    return {
        "statement_id": f"{account}:{ends_on}",
        "account_id": account,
        "period_start_on": starts_on,
        "period_end_on": ends_on,
        "known_on": ends_on + timedelta(days=1),
        **changes,
    }
