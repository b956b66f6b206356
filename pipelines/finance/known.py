"""The books as they were known: the finance models over the ledger of an earlier time.

A report is as of (effective ≤ E, recorded ≤ K). E is the end of its period: an entry counts for an
accounting period, and no entry takes effect after the one that it counts for. K is a `Cut`: the
seal of a close, a time that was asked for, or everything. The models are the same ones that dbt
builds, run over views of the ledger that end at the cut; nothing is written to the warehouse.
"""

from dataclasses import dataclass
from datetime import datetime

import duckdb

from pipelines.settings import Settings
from pipelines.transform import compiled_models
from pipelines.warehouse import CATALOG

KNOWN = "known"
"""The attached catalog that the books of a cut are in."""

SCHEMAS = ("landing", "marts", "rewards", "finance")
LOG_TABLES = ("period_log",)
NO_LEDGER = {"settlement_entries", "interchange_summary"}
"""Finance models that are not made of the rewards ledger."""


@dataclass(frozen=True)
class Cut:
    """Where the ledger of one program ends.

    `known_at` is K, none for everything; `ledger_seq` the last entry where a seal fixes it (a
    later delivery may be recorded for a day that is sealed already); `log_no` the last step of
    closes. With `as_effective` an entry counts for the month that it takes effect in, although
    that was closed: how a restated period is read.
    """

    program_id: str
    known_at: datetime | None = None
    ledger_seq: int | None = None
    log_no: int | None = None
    as_effective: bool = False


def open_books(con: duckdb.DuckDBPyConnection, cut: Cut, settings: Settings) -> None:
    """Make `schema.table` of this connection mean the books at `cut`.

    Tables of the schemas in `SCHEMAS` other than the ledger and the finance models read as they
    are. The caller's connection is for reading and is closed afterwards.
    """
    models = {
        name: sql
        for name, sql in compiled_models("finance", settings).items()
        if name not in NO_LEDGER
    }
    con.execute(f"attach ':memory:' as {KNOWN}")
    tables = con.execute(
        "select table_schema, table_name from information_schema.tables "
        "where table_catalog = ? and list_contains(?, table_schema)",
        [CATALOG, list(SCHEMAS)],
    ).fetchall()
    for schema in SCHEMAS:
        con.execute(f"create schema {KNOWN}.{schema}")
    ends = (cut.program_id, cut.known_at, cut.ledger_seq, cut.log_no, cut.as_effective)
    con.execute(
        f"create table {KNOWN}.main.cut as select ?::varchar as program_id, "
        "?::timestamp as known_at, ?::bigint as ledger_seq, ?::bigint as log_no, "
        "?::boolean as as_effective",
        list(ends),
    )
    con.execute(f"use {KNOWN}")
    con.execute(_LEDGER)
    ours = {("rewards", name) for name in LEDGER_TABLES} | {("finance", name) for name in models}
    ours |= {("finance", name) for name in LOG_TABLES}
    for schema, name in tables:
        if (schema, name) not in ours:
            con.execute(
                f'create view {KNOWN}.{schema}."{name}" as from {CATALOG}.{schema}."{name}"'
            )
    for name, sql in models.items():
        placed = sql.replace(f'"{CATALOG}".', f'"{KNOWN}".')
        con.execute(f'create table {KNOWN}.finance."{name}" as {placed}')


LEDGER_TABLES = (
    "programs", "journal", "postings", "lots_issued", "lot_consumption", "decisions",
    "superseded_decisions",
)  # fmt: skip

# Terms that were the first of a program stay: without terms there is nothing to tell.
_LEDGER = f"""
create table rewards.programs as
select programs.* from {CATALOG}.rewards.programs as programs, main.cut as cut
where
    cut.known_at is null or programs.recorded_at is null or programs.recorded_at <= cut.known_at
    or programs.recorded_at = (
        select min(first.recorded_at) from {CATALOG}.rewards.programs as first
        where first.program_id = programs.program_id
    );
create table rewards.journal as
select journal.* replace (
    case
        when cut.as_effective then coalesce(journal.original_period, journal.accounting_period)
        else journal.accounting_period
    end as accounting_period
)
from {CATALOG}.rewards.journal as journal, main.cut as cut
where
    journal.program_id = cut.program_id
    and (cut.known_at is null or journal.recorded_at <= cut.known_at)
    and (cut.ledger_seq is null or journal.seq <= cut.ledger_seq);
create view rewards.postings as
select * from {CATALOG}.rewards.postings
where
    program_id = (select program_id from main.cut)
    and journal_id in (select journal_id from rewards.journal);
create view rewards.lots_issued as
select * from {CATALOG}.rewards.lots_issued
where issue_journal_id in (select journal_id from rewards.journal);
create view rewards.lot_consumption as
select * from {CATALOG}.rewards.lot_consumption
where journal_id in (select journal_id from rewards.journal);
create view rewards.every_decision as
select *, cast(null as timestamp) as superseded_at from {CATALOG}.rewards.decisions
where program_id = (select program_id from main.cut)
union all by name
select * from {CATALOG}.rewards.superseded_decisions
where program_id = (select program_id from main.cut);
create table rewards.known_decisions as
select decisions.* replace (
    case
        when cut.known_at is null or decisions.superseded_at <= cut.known_at
            then decisions.superseded_at
    end as superseded_at
)
from rewards.every_decision as decisions, main.cut as cut
where
    (cut.known_at is null or decisions.recorded_at <= cut.known_at)
    and (
        cut.ledger_seq is null or decisions.journal_id is null
        or decisions.journal_id in (select journal_id from rewards.journal)
    );
create view rewards.decisions as
select * exclude (superseded_at) from rewards.known_decisions where superseded_at is null;
create view rewards.superseded_decisions as
select * from rewards.known_decisions where superseded_at is not null;
create table finance.period_log as
select period_log.* from {CATALOG}.finance.period_log as period_log, main.cut as cut
where
    period_log.program_id = cut.program_id
    and (cut.log_no is null or period_log.log_no <= cut.log_no)
    and (cut.known_at is null or period_log.known_at <= cut.known_at);
"""  # noqa: S608
