"""What a finance pack says, read from the warehouse as frames; no wall-clock time anywhere."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import duckdb
import polars as pl

from pipelines.errors import CardlineError
from pipelines.finance.evidence import from_evidence, open_exceptions, reconciled
from pipelines.finance.periods import close_evidence, ledger_known_at
from pipelines.finance.redemption import Study, figures_frame, study
from pipelines.finance.units import Unit
from pipelines.settings import Settings

FLOWS = (
    ("accrued", "Accrued", 1),
    ("adjusted", "Adjusted", 1),
    ("clawed_back", "Clawed back", -1),
    ("redeemed", "Redeemed", -1),
    ("transferred", "Transferred", -1),
    ("expired", "Expired", -1),
    ("forfeited", "Forfeited", -1),
    ("written_off", "Debts written off", 1),
)
"""Column, label and sign of the flows between opening and closing, in the order of the walk."""

AS_IT_STANDS, AS_CLOSED, AS_KNOWN, RESTATED = "AS_IT_STANDS", "AS_CLOSED", "AS_KNOWN", "RESTATED"
"""Which books a pack tells of: today's, those of a close, those of a time that was asked for, and
today's with late entries in the month that they take effect in."""

UNCATEGORISED = "other"


@dataclass(frozen=True)
class PackData:
    """Everything in a pack of one program and period; frames are sorted and ready to print."""

    program_id: str
    period: str
    starts_on: date
    ends_on: date
    state: str
    basis: str
    period_version: int
    known_at: datetime
    steps: pl.DataFrame
    terms: dict[str, Any]
    recorded_at: datetime | None
    ledger_entries: int
    rollforward: pl.DataFrame
    negative_balances: pl.DataFrame
    funding: pl.DataFrame
    redemption: Study
    prior_period: pl.DataFrame
    restatement: pl.DataFrame
    expiry: pl.DataFrame
    gl_entries: pl.DataFrame
    invoice_lines: pl.DataFrame
    decisions: pl.DataFrame
    zero_reasons: pl.DataFrame
    categories: pl.DataFrame
    events: pl.DataFrame
    reconciliations: pl.DataFrame
    exceptions: pl.DataFrame
    control_totals: pl.DataFrame
    seals: pl.DataFrame
    input_files: pl.DataFrame
    rules: pl.DataFrame
    late_entries: int = 0

    @property
    def name(self) -> str:
        """The program's name for people."""
        return self.terms.get("name") or self.program_id

    @property
    def money(self) -> Unit:
        """The unit of the money columns."""
        return Unit.money(self.month["currency"])

    @property
    def points(self) -> Unit:
        """The unit of the points columns."""
        kind = str(self.terms["currency_kind"] or "POINTS").lower().split("_")[0]
        return Unit(kind, int(self.terms["asset_scale"] or 0))

    @property
    def month(self) -> dict[str, Any]:
        """The roll-forward row of the period."""
        return self.rollforward.row(-1, named=True)

    @property
    def owed(self) -> dict[str, Any]:
        """The row of `negative_balances` of the period."""
        return self.negative_balances.row(-1, named=True)

    @property
    def previous(self) -> dict[str, Any] | None:
        """The roll-forward row of the month before, if there is one."""
        return self.rollforward.row(-2, named=True) if self.rollforward.height > 1 else None

    def csv_tables(self) -> dict[str, pl.DataFrame]:
        """The tables of the pack by file name without its ending."""
        return {
            "liability_rollforward": self.rollforward,
            "negative_balances": self.negative_balances,
            "liability_by_funding": self.funding,
            "prior_period_lines": self.prior_period,
            "redemption_rate": figures_frame(self.redemption.figures),
            "redemption_cohorts": self.redemption.cohorts,
            "redemption_by_age": self.redemption.emergence,
            "open_points_by_expiry": self.expiry,
            **({"restatement": self.restatement} if self.basis == RESTATED else {}),
            "gl_entries": self.gl_entries,
            "partner_invoice_lines": self.invoice_lines,
            "decisions_summary": self.decisions,
            "zero_reasons": self.zero_reasons,
            "reward_categories": self.categories,
            "ledger_events": self.events,
            "reconciliations": self.reconciliations,
            "open_exceptions": self.exceptions,
            "control_totals": self.control_totals,
            "seals": self.seals,
            "input_files": self.input_files,
            "rules_in_force": self.rules,
        }


def read_pack_data(
    con: duckdb.DuckDBPyConnection,
    program: str,
    period: str,
    settings: Settings,
    basis: str = AS_IT_STANDS,
    known_at: datetime | None = None,
) -> PackData:
    """The contents of the pack of `program` for `period` (YYYY-MM), from the books of `con`.

    `basis` and `known_at` say which books these are (`known.py`); what was reconciled and open is
    told as the last close found it, where the books are those of a close.
    Raises `CardlineError` for a program that the warehouse does not know, and for a period
    that the program has no figures for.
    """
    bounds = _period_row(con, program, period)
    recorded_at, entries = con.execute(_RECORDED, [program, period]).fetchall()[0]
    starts_on, ends_on = bounds["starts_on"], bounds["ends_on"]
    con.execute(_POSTED_DECISIONS, [program, period])
    if basis == AS_CLOSED:
        runs, exceptions = from_evidence(close_evidence(con, program, period))
    else:
        runs, exceptions = reconciled(con, ends_on), open_exceptions(con, ends_on)

    def frame(query: str, parameters: list[Any]) -> pl.DataFrame:
        return con.execute(query, parameters).pl()

    return PackData(
        program_id=program,
        period=period,
        starts_on=starts_on,
        ends_on=ends_on,
        state=bounds["state"],
        basis=basis,
        period_version=bounds["version"],
        # The ledger may be worked through a later day than that of its last entry.
        known_at=known_at or max(ledger_known_at(con), recorded_at or datetime.min),
        steps=frame(_STEPS, [program, period]),
        terms=frame(_TERMS, [program, ends_on]).row(0, named=True),
        recorded_at=recorded_at,
        ledger_entries=entries,
        rollforward=frame(_ROLLFORWARD, [program, period]),
        negative_balances=frame(_NEGATIVE_BALANCES, [program, period]),
        funding=frame(_FUNDING, [program, period]),
        redemption=study(con, program, period, settings),
        prior_period=frame(_PRIOR_PERIOD, [program, period]),
        restatement=pl.DataFrame(),
        expiry=frame(_EXPIRY, [program, period, ends_on]),
        gl_entries=frame(_GL_ENTRIES, [program, period]),
        invoice_lines=frame(_INVOICE_LINES, [program, period]),
        decisions=frame(_DECISIONS, []),
        zero_reasons=frame(_ZERO_REASONS, []),
        categories=_categorised(frame(_POINTS_BY_MCC, [])),
        events=frame(_EVENTS, [program, period]),
        reconciliations=runs,
        exceptions=exceptions,
        control_totals=frame(_CONTROL_TOTALS, [program, period] * 2),
        seals=frame(
            _SEALS, [program, max(ends_on, recorded_at.date()) if recorded_at else ends_on]
        ),
        input_files=frame(_INPUT_FILES, [program, starts_on, ends_on]),
        rules=frame(_RULES, [program, ends_on, starts_on]),
    )


def _period_row(con: duckdb.DuckDBPyConnection, program: str, period: str) -> dict[str, Any]:
    try:
        rows = con.execute(
            "select period, starts_on, ends_on, state, version from finance.periods "
            "where program_id = ? order by period",
            [program],
        ).pl()
        known = con.execute(
            "select distinct program_id from rewards.programs order by 1"
        ).fetchall()
    except duckdb.CatalogException as error:
        raise CardlineError(
            "the finance tables do not exist yet: run `cardline run` first"
        ) from error
    names = [name for (name,) in known]
    if program not in names:
        listed = ", ".join(names) or "none"
        raise CardlineError(f"there is no rewards program {program!r}; known programs: {listed}")
    if rows.is_empty():
        raise CardlineError(f"program {program!r} has no entries in the rewards ledger yet")
    match = rows.filter(pl.col("period") == period)
    if match.is_empty():
        first, last = rows["period"][0], rows["period"][-1]
        raise CardlineError(
            f"program {program!r} has no figures for {period}: it has them from {first} to {last}"
        )
    return match.row(0, named=True)


def _categorised(by_mcc: pl.DataFrame) -> pl.DataFrame:
    """Points by the first category of each merchant category code, most points first."""
    from pipelines.rewards.mcc import categories_of

    names = [
        next(iter(categories_of(mcc)), UNCATEGORISED) if mcc else UNCATEGORISED
        for mcc in by_mcc["mcc"]
    ]
    return (
        by_mcc.with_columns(pl.Series("category", names, dtype=pl.String))
        .group_by("category")
        .agg(
            pl.col("transactions", "eligible_minor", "points").sum(),
        )
        .sort(["points", "category"], descending=[True, False])
    )


_TERMS = """
select
    version, name, partner_id, currency, currency_kind, asset_scale, settlement_model, timezone,
    point_value_micros, purchase_price_micros, breakage_bps, presentation, rule_hash
from rewards.programs
where program_id = ? and valid_from <= ?
order by valid_from desc, version desc
limit 1
"""

_RECORDED = """
select max(recorded_at), count(*)
from rewards.journal
where program_id = ? and accounting_period <= ?
"""

_ROLLFORWARD = """
select * from finance.liability_rollforward where program_id = ? and period <= ? order by period
"""

# Members below zero owe what was taken back after it had been used (1220); what the others are owed
# (2100) less that is the closing liability.
_NEGATIVE_BALANCES = """
with booked as (
    select program_id, period, sum(debit_minor - credit_minor) as debit_minor
    from finance.gl_entries
    where account_code = '1220'
    group by all
),
debts as (
    select
        rollforward.period,
        rollforward.closing_points,
        rollforward.closing_minor,
        cast(sum(coalesce(changes.deficit_change_points, 0)) over months as bigint) as points,
        cast(sum(coalesce(booked.debit_minor, 0)) over months as bigint) as minor
    from finance.liability_rollforward as rollforward
    left join finance.int_rewards__deficits_summed as changes
        on rollforward.program_id = changes.program_id and rollforward.period = changes.period
    left join booked
        on rollforward.program_id = booked.program_id and rollforward.period = booked.period
    where rollforward.program_id = ? and rollforward.period <= ?
    window months as (partition by rollforward.program_id order by rollforward.period)
)
select
    period,
    closing_points + points as owed_to_members_points,
    points as owed_by_members_points,
    closing_points,
    closing_minor + minor as owed_to_members_minor,
    minor as owed_by_members_minor,
    closing_minor
from debts
order by period
"""

_FUNDING = """
select * exclude (funding_line_id, program_id, version) from finance.liability_by_funding
where program_id = ? and period = ? order by funding_partner_bps
"""

_PRIOR_PERIOD = """
select * from finance.prior_period_lines where program_id = ? and period = ?
order by original_period, event_type
"""

# What is open at the end of the month, by when it lapses if nobody redeems it; the debts of
# accounts below zero and what is reserved for redemptions, which no lot has, make it up to the
# closing balance.
_EXPIRY = """
with entries as (
    select journal_id from rewards.journal where program_id = ? and accounting_period <= ?
),
month as (select cast(? as date) as ends_on),
used as (
    select lot_id, sum(points) as points from rewards.lot_consumption
    where journal_id in (select journal_id from entries)
    group by lot_id
),
lots as (
    select
        issued.account_id,
        issued.points_issued - coalesce(used.points, 0) as points,
        case
            when issued.expires_on is null then 6
            when issued.expires_on <= ends_on + to_months(1) then 1
            when issued.expires_on <= ends_on + to_months(3) then 2
            when issued.expires_on <= ends_on + to_months(6) then 3
            when issued.expires_on <= ends_on + to_months(12) then 4
            else 5
        end as step
    from month, rewards.lots_issued as issued
    left join used using (lot_id)
    where issued.issue_journal_id in (select journal_id from entries)
),
balances as (
    select
        account_id,
        sum(case direction when 'CREDIT' then amount else -amount end) as points
    from rewards.postings
    where
        journal_id in (select journal_id from entries)
        and ledger_account in ('MEMBER_PENDING', 'MEMBER_AVAILABLE')
    group by account_id
),
owed as (
    select account_id, any_value(balances.points) - coalesce(sum(lots.points), 0) as points
    from balances left join lots using (account_id)
    group by account_id
),
reserved as (
    select
        account_id,
        sum(case direction when 'CREDIT' then amount else -amount end) as points
    from rewards.postings
    where
        journal_id in (select journal_id from entries)
        and ledger_account = 'REDEMPTION_CLEARING'
    group by account_id
),
told as (
    select step, account_id, points from lots where points <> 0
    union all
    select 7, account_id, points from owed where points <> 0
    union all
    select 8, account_id, points from reserved where points <> 0
)
select
    case step
        when 1 then 'within 1 month' when 2 then 'within 3 months' when 3 then 'within 6 months'
        when 4 then 'within 12 months' when 5 then 'later' when 6 then 'never'
        when 7 then 'owed by accounts below zero'
        else 'reserved for redemptions'
    end as expires,
    count(distinct account_id) as accounts,
    cast(sum(points) as bigint) as points
from told
group by step
order by step
"""

# Who did what to the month; when on the clock stays in the log.
_STEPS = """
select state, version, preparer, approver, second_approver, reason, known_at, ledger_seq
from finance.period_log where program_id = ? and period = ? order by log_no
"""

_GL_ENTRIES = """
select entries.*
from finance.gl_entries as entries
left join (
    values ('ACCRUAL', 1), ('PROVISION', 2), ('CLAWBACK', 3), ('PROVISION_REVERSAL', 4),
        ('REDEMPTION', 5), ('TRANSFER', 6), ('EXPIRY', 7), ('FORFEITURE', 8), ('ADJUSTMENT', 9),
        ('WRITE_OFF', 10), ('REVALUATION', 11), ('REESTIMATE', 12), ('NEGATIVE_BALANCES', 13),
        ('PARTNER_SHARE', 14), ('PARTNER_FUNDS', 15)
) as sources (source, position) on entries.source = sources.source
where entries.program_id = ? and entries.period = ?
order by sources.position, entries.source, entries.line_no
"""

_INVOICE_LINES = """
select * from finance.partner_invoice_lines
where program_id = ? and period = ?
order by invoice_line_id
"""

# What decisions did to the ledger in the period: each entry once, told by the decisions that hold
# for it or last held, and with the other sign where an entry of the period reverses it. Decisions
# that moved nothing belong to the month that they take effect in.
_POSTED_DECISIONS = """
create or replace temp table posted_decisions as
with terms as (select ? as program_id, ? as period),
journal as (
    select journal_id, reverses_journal_id
    from rewards.journal, terms
    where
        journal.program_id = terms.program_id and journal.accounting_period = terms.period
        and journal.event_type in ('ACCRUAL', 'CLAWBACK')
),
made as (
    select decisions.* exclude (program_id), cast(null as timestamp) as superseded_at
    from rewards.decisions as decisions
    inner join terms on decisions.program_id = terms.program_id
    union all by name
    select superseded.* exclude (program_id)
    from rewards.superseded_decisions as superseded
    inner join terms on superseded.program_id = terms.program_id
    where superseded.journal_id is not null
),
decisions as (
    select
        * replace (
            case when event_class = 'CLAWBACK' then -eligible_minor else eligible_minor end
                as eligible_minor
        )
    from made
),
holding as (
    select * from decisions
    where
        journal_id in (select journal_id from journal)
        or journal_id in (select reverses_journal_id from journal)
    qualify dense_rank() over (
        partition by journal_id order by superseded_at desc nulls first
    ) = 1
)
select
    holding.event_id, holding.transaction_id, holding.rule_id, holding.rule_version,
    holding.zero_reason, holding.is_eligible, holding.eligible_minor, holding.points,
    holding.superseded_at is null as is_current
from holding
where holding.journal_id in (select journal_id from journal)
union all
select
    holding.event_id, holding.transaction_id, holding.rule_id, holding.rule_version,
    null, false, -holding.eligible_minor, -holding.points, false
from holding
where holding.journal_id in (select reverses_journal_id from journal)
union all
select
    event_id, transaction_id, rule_id, rule_version, zero_reason, is_eligible, eligible_minor,
    points, true
from decisions, terms
where
    journal_id is null and superseded_at is null
    and strftime(effective_on, '%Y-%m') = terms.period
"""

_DECISIONS = """
select
    rule_id,
    cast(rule_version as bigint) as rule_version,
    count(*) filter (where is_current) as decisions,
    count(*) filter (where is_current and is_eligible) as eligible_decisions,
    cast(coalesce(sum(eligible_minor), 0) as bigint) as eligible_minor,
    cast(coalesce(sum(points), 0) as bigint) as points
from posted_decisions
group by all
order by points desc, rule_id, rule_version
"""

_ZERO_REASONS = """
select
    decisions.zero_reason,
    count(*) as decisions,
    count(distinct decisions.event_id) as events
from posted_decisions as decisions
where decisions.is_current and decisions.zero_reason is not null
group by all
order by decisions desc, zero_reason
"""

_POINTS_BY_MCC = """
select
    posted.mcc,
    count(distinct decisions.transaction_id) as transactions,
    cast(coalesce(sum(decisions.eligible_minor), 0) as bigint) as eligible_minor,
    cast(coalesce(sum(decisions.points), 0) as bigint) as points
from posted_decisions as decisions
left join marts.fct_earning_events as posted on decisions.event_id = posted.event_id
where decisions.points <> 0
group by all
"""

# A journal has one or more legs on members' accounts (one per lot): their sum is its effect.
_EVENTS = """
select
    journal.event_type,
    count(distinct journal.journal_id) as entries,
    count(distinct postings.account_id) as accounts,
    cast(
        sum(case when postings.direction = 'CREDIT' then postings.amount else -postings.amount end)
        as bigint
    ) as points
from rewards.journal as journal
inner join rewards.postings as postings on journal.journal_id = postings.journal_id
where
    journal.program_id = ? and journal.accounting_period = ?
    and postings.ledger_account in ('MEMBER_PENDING', 'MEMBER_AVAILABLE', 'REDEMPTION_CLEARING')
group by all
order by journal.event_type
"""

_CONTROL_TOTALS = """
select 'journal entries' as control, count(*) as amount
from rewards.journal where program_id = ? and accounting_period = ?
union all
select
    'points ' || lower(postings.direction) || 'ed', cast(sum(postings.amount) as bigint)
from rewards.journal as journal
inner join rewards.postings as postings on journal.journal_id = postings.journal_id
where journal.program_id = ? and journal.accounting_period = ?
group by postings.direction
union all
select 'decisions', count(*) from posted_decisions where is_current
union all
select 'points decided', cast(coalesce(sum(points), 0) as bigint) from posted_decisions
order by control
"""

# Seals of the days on which the ledger took in what the pack says.
_SEALS = """
select seal_no, sealed_on, n_journals, sum_debit, sum_credit, root_hash, seal_hash
from rewards.seals
where program_id = ? and sealed_on <= ?
order by seal_no
"""

_INPUT_FILES = """
with used as (
    select posted.file_id
    from posted_decisions as decisions
    inner join marts.fct_earning_events as posted on decisions.event_id = posted.event_id
    union
    select file_id from marts.fct_reward_events
    where program_id = ? and cast(event_at as date) between ? and ?
)

select distinct on (files.feed, files.file_id)
    files.feed, files.file_id, files.batch_date, files.rows, files.bytes
from landing.files as files
inner join used on files.file_id = used.file_id
where files.state = 'LOADED'
order by files.feed, files.file_id, files.batch_date
"""

_RULES = """
select program_id, cast(version as bigint) as version, valid_from, rule_hash
from rewards.programs
where program_id = ? and valid_from <= ?
qualify lead(valid_from) over (order by valid_from) is null
    or lead(valid_from) over (order by valid_from) > ?
order by valid_from
"""
