"""The tables of the schema `rewards`, and the programs in them."""

import json
from collections.abc import Mapping
from datetime import date, datetime

import duckdb

from pipelines.errors import CardlineError
from pipelines.rewards.terms import Program
from pipelines.warehouse import data_clock

_TABLES = """
create table if not exists rewards.programs (
    program_id varchar, version bigint, valid_from date, valid_to date, name varchar,
    partner_id varchar, currency varchar, currency_kind varchar, asset_scale bigint,
    settlement_model varchar, timezone varchar, date_basis varchar, point_value_micros bigint,
    purchase_price_micros bigint, breakage_bps bigint, presentation varchar, rule_hash varchar,
    body json, recorded_at timestamp, redemption_cost_micros bigint
);
create table if not exists rewards.decisions (
    decision_id varchar, program_id varchar, account_id varchar, transaction_id varchar,
    event_id varchar, event_at timestamp, version_no bigint, rule_id varchar,
    rule_version bigint, rule_hash varchar, event_class varchar, is_eligible boolean,
    zero_reason varchar, amount_minor bigint, eligible_minor bigint, cap_share_key varchar,
    cap_window_on date, cap_before bigint, cap_used bigint, points bigint,
    funding_partner_bps bigint, basis_on date, effective_on date, recorded_at timestamp,
    revision bigint, journal_id varchar, multiplier_milli bigint, refunds_transaction_id varchar
);
create table if not exists rewards.purchase_days (
    program_id varchar, transaction_key ubigint, effective_on date
);
create table if not exists rewards.superseded_decisions (
    decision_id varchar, program_id varchar, account_id varchar, transaction_id varchar,
    event_id varchar, event_at timestamp, version_no bigint, rule_id varchar,
    rule_version bigint, rule_hash varchar, event_class varchar, is_eligible boolean,
    zero_reason varchar, amount_minor bigint, eligible_minor bigint, cap_share_key varchar,
    cap_window_on date, cap_before bigint, cap_used bigint, points bigint,
    funding_partner_bps bigint, basis_on date, effective_on date, recorded_at timestamp,
    revision bigint, journal_id varchar, multiplier_milli bigint, superseded_at timestamp,
    refunds_transaction_id varchar
);
create table if not exists rewards.refund_allocations (
    program_id varchar, account_id varchar, event_id varchar, item_event_id varchar,
    rule_id varchar, amount_minor bigint, limit_change bigint, restored bigint,
    item_basis_on date
);
create table if not exists rewards.cap_usage (
    program_id varchar, account_id varchar, share_key varchar, window_on date, used bigint
);
create table if not exists rewards.limit_places (
    program_id varchar, account_id varchar, limit_id varchar, window_on date, merchant_id varchar
);
create table if not exists rewards.spend_by_month (
    program_id varchar, account_id varchar, month_on date, net_minor bigint
);
create table if not exists rewards.bonus_progress (
    program_id varchar, account_id varchar, bonus_id varchar, net_minor bigint, is_awarded boolean
);
create table if not exists rewards.journal (
    journal_id varchar, program_id varchar, seq bigint, event_type varchar, source_kind varchar,
    source_id varchar, account_id varchar, idempotency_key varchar, payload_hash varchar,
    effective_on date, recorded_at timestamp, accounting_period varchar, original_period varchar,
    reverses_journal_id varchar, rule_hash varchar, prev_hash varchar, entry_hash varchar
);
create table if not exists rewards.postings (
    journal_id varchar, leg_no bigint, program_id varchar, asset varchar, ledger_account varchar,
    account_id varchar, lot_id varchar, direction varchar, amount bigint
);
create table if not exists rewards.lots_issued (
    lot_id varchar, program_id varchar, account_id varchar, source_id varchar,
    issue_journal_id varchar, issued_on date, expires_on date, funding_partner_bps bigint,
    points_issued bigint, available_on date
);
create table if not exists rewards.lot_consumption (
    journal_id varchar, lot_id varchar, program_id varchar, account_id varchar, kind varchar,
    points bigint
);
create table if not exists rewards.account_state (
    program_id varchar, account_id varchar, posted_on date, event_at timestamp,
    transaction_id varchar, event_id varchar, balance bigint, active_on date
);
create table if not exists rewards.reward_event_outcomes (
    reward_event_id varchar, program_id varchar, account_id varchar, kind varchar,
    event_at timestamp, points bigint, reference varchar, offer_id varchar, payload_hash varchar,
    outcome varchar, reason varchar, journal_id varchar, recorded_at timestamp
);
create table if not exists rewards.waiting_accounts (
    account_id varchar, program_id varchar, reason varchar, first_known_on date
);
create table if not exists rewards.seals (
    program_id varchar, seal_no bigint, sealed_on date, first_seq bigint, last_seq bigint,
    n_journals bigint, sum_debit bigint, sum_credit bigint, root_hash varchar, last_hash varchar,
    prev_seal_hash varchar, seal_hash varchar
);
create table if not exists rewards.progress (through date);
create table if not exists rewards.archives (
    program_id varchar, file varchar, first_seal_no bigint, last_seal_no bigint, first_on date,
    last_on date, bytes bigint, sha256 varchar
);
"""

_PURCHASE_DAYS = """
insert into rewards.purchase_days
select distinct program_id, md5_number_lower(transaction_id), effective_on
from rewards.decisions where event_class = 'EARN' order by effective_on
"""
"""What was decided before there was the table of the days on which purchases are found."""

_LATER_COLUMNS = (
    ("decisions", "refunds_transaction_id varchar"),
    ("superseded_decisions", "refunds_transaction_id varchar"),
    ("account_state", "active_on date"),
    ("lots_issued", "available_on date"),
    ("programs", "redemption_cost_micros bigint"),
)
"""Columns that came after the first tables were written."""

_VIEWS = """
create view if not exists rewards.lots as
select
    issued.lot_id, issued.program_id, issued.account_id, issued.source_id,
    issued.issue_journal_id, issued.issued_on, issued.expires_on, issued.funding_partner_bps,
    issued.points_issued,
    issued.points_issued - coalesce(consumed.points, 0) as points_open
from rewards.lots_issued as issued
left join (
    select lot_id, cast(sum(points) as bigint) as points
    from rewards.lot_consumption
    group by lot_id
) as consumed on issued.lot_id = consumed.lot_id;
create view if not exists rewards.balances as
select
    account_id, program_id,
    cast(pending as bigint) as pending,
    cast(greatest(held, 0) as bigint) as available,
    cast(reserved as bigint) as reserved,
    cast(greatest(-held, 0) as bigint) as deficit
from (
    select
        account_id, program_id,
        coalesce(sum(signed) filter (ledger_account = 'MEMBER_PENDING'), 0) as pending,
        coalesce(sum(signed) filter (ledger_account = 'MEMBER_AVAILABLE'), 0) as held,
        coalesce(sum(signed) filter (ledger_account = 'REDEMPTION_CLEARING'), 0) as reserved
    from (
        select
            account_id, program_id, ledger_account,
            case direction when 'CREDIT' then amount else -amount end as signed
        from rewards.postings
        where ledger_account in ('MEMBER_PENDING', 'MEMBER_AVAILABLE', 'REDEMPTION_CLEARING')
    )
    group by account_id, program_id
);
"""


def ensure_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Create what is missing of the schema `rewards`; changes nothing that is there."""
    existing = {
        name
        for (name,) in con.execute(
            "select table_name from information_schema.tables where table_schema = 'rewards'"
        ).fetchall()
    }
    if (
        not {"programs", "progress", "archives", "limit_places", "purchase_days", "balances"}
        <= existing
    ):
        con.execute("create schema if not exists rewards")
        con.execute(_TABLES)
        con.execute(_VIEWS)
    if "decisions" in existing and "purchase_days" not in existing:
        con.execute(_PURCHASE_DAYS)
    for table, column in _LATER_COLUMNS:
        con.execute(f"alter table rewards.{table} add column if not exists {column}")


def are_published(con: duckdb.DuckDBPyConnection, programs: Mapping[str, Program]) -> bool:
    """Whether `rewards.programs` has every version of `programs` as it is."""
    found = con.execute(
        "select 1 from information_schema.tables "
        "where table_schema = 'rewards' and table_name = 'programs'"
    ).fetchone()
    if found is None:
        return False
    stored = _stored_versions(con)
    return all(
        stored.get((program.program_id, version.terms.version))
        == (version.rule_hash, program.valid_to(index))
        for program in programs.values()
        for index, version in enumerate(program.versions)
    )


def publish_programs(con: duckdb.DuckDBPyConnection, programs: Mapping[str, Program]) -> int:
    """Write new versions of `programs` to `rewards.programs`; returns how many.

    A version that no decision has used yet may still change; one that has been used may not, and
    that raises `CardlineError`. `valid_to` is the last day before the next version;
    `recorded_at` the known time of the warehouse when these terms of the version were published.
    """
    stored = _stored_versions(con)
    recorded = _recorded_at(con)
    now = data_clock(con)
    written = 0
    for program in programs.values():
        for index, version in enumerate(program.versions):
            key = (program.program_id, version.terms.version)
            valid_to = program.valid_to(index)
            if stored.get(key) == (version.rule_hash, valid_to):
                continue
            if key in stored:
                if stored[key][0] != version.rule_hash and _is_used(con, *key):
                    raise CardlineError(
                        f"{version.source}: version: version {key[1]} of {key[0]} was changed "
                        "after it had been used; restore it and add a new version instead"
                    )
                con.execute(
                    "delete from rewards.programs where program_id = ? and version = ?", list(key)
                )
            con.execute(
                "insert into rewards.programs values "
                "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                # Terms that only got a successor were recorded before.
                [
                    *_row(program, index),
                    recorded.get((*key, version.rule_hash), now),
                    version.terms.economics.redemption_cost_micros,
                ],
            )
            written += 1
    return written


def _stored_versions(
    con: duckdb.DuckDBPyConnection,
) -> dict[tuple[str, int], tuple[str, date | None]]:
    """Rule hash and last day of each stored version, by program and version."""
    return {
        (program_id, version): (rule_hash, valid_to)
        for program_id, version, rule_hash, valid_to in con.execute(
            "select program_id, version, rule_hash, valid_to from rewards.programs"
        ).fetchall()
    }


def _recorded_at(
    con: duckdb.DuckDBPyConnection,
) -> dict[tuple[str, int, str], datetime | None]:
    """When each stored version was published, by program, version and rule hash."""
    return {
        (program_id, version, rule_hash): at
        for program_id, version, rule_hash, at in con.execute(
            "select program_id, version, rule_hash, recorded_at from rewards.programs"
        ).fetchall()
    }


def _is_used(con: duckdb.DuckDBPyConnection, program_id: str, version: int) -> bool:
    found = con.execute(
        "select 1 from rewards.decisions where program_id = ? and rule_version = ? limit 1",
        [program_id, version],
    ).fetchone()
    return found is not None


def _row(program: Program, index: int) -> list[object]:
    version = program.versions[index]
    terms, economics = version.terms, version.terms.economics
    return [
        program.program_id, terms.version, terms.valid_from, program.valid_to(index), terms.name,
        terms.partner_id, terms.currency, terms.currency_kind, terms.asset_scale,
        terms.settlement_model, terms.timezone, terms.date_basis, economics.point_value_micros,
        economics.purchase_price_micros, economics.breakage_bps, economics.presentation,
        version.rule_hash, json.dumps(terms.model_dump(mode="json"), sort_keys=True),
    ]  # fmt: skip
