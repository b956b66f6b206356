"""Accounting periods: what may be done to a program's month, by whom, and the log of it.

OPEN → SOFT_CLOSED (the checks are green) → CLOSED (sealed, approver and preparer differ). A
closed month takes no more entries: what is delivered late for it is posted in the next open month
with its `original_period`. REOPENED needs two approvers and a reason; the month takes entries
again and its next close is version n+1.

Each step is a row of `finance.period_log`, chained by hash to the one before it. A close fixes
where the ledger ended (`known_at`, `ledger_seq`, `ledger_hash`), what the month said
(`figures_sha256`) and what was reconciled and open at the time (`evidence`).
"""

import getpass
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

import duckdb
import polars as pl

from pipelines.checks import CheckResult
from pipelines.errors import CardlineError
from pipelines.finance.evidence import evidence_of
from pipelines.finance.known import Cut
from pipelines.settings import Settings
from pipelines.warehouse import connect, data_clock, require_warehouse, transaction

OPEN, SOFT_CLOSED, CLOSED, REOPENED = "OPEN", "SOFT_CLOSED", "CLOSED", "REOPENED"
FIRST_HASH = "0" * 64

_HASHED = (
    "log_no", "program_id", "period", "state", "version", "preparer", "approver",
    "second_approver", "reason", "effective_on", "known_at", "ledger_seq", "ledger_hash",
    "figures_sha256", "evidence", "acted_at",
)  # fmt: skip

# What a close fixes of the month; further columns that a later release adds do not count.
_FIGURES = {
    "liability_rollforward": (
        "currency", "opening_points", "accrued_points", "adjusted_points", "clawed_back_points",
        "redeemed_points", "transferred_points", "expired_points", "forfeited_points",
        "closing_points", "opening_minor", "accrued_minor", "adjusted_minor", "clawed_back_minor",
        "redeemed_minor", "transferred_minor", "expired_minor", "forfeited_minor", "closing_minor",
        "closing_allowance_minor",
    ),
    "gl_entries": ("entry_id", "account_code", "debit_minor", "credit_minor"),
    "partner_invoice_lines": ("invoice_line_id", "direction", "amount_minor"),
}  # fmt: skip


# What rate cards billed stays as it was, whatever becomes of the transactions that it came from.
_BILLED = """
insert into finance.closed_invoice_lines by name
select program_id, period, version, original_period, component, direction, rate_card_version,
    quantity_micros, amount_extended
from finance.partner_invoice_lines
where program_id = ? and period = ? and rate_card_version is not null
"""


@dataclass(frozen=True)
class Period:
    """One program's month as it stands."""

    program_id: str
    period: str
    ends_on: date
    state: str
    version: int
    preparer: str | None
    approver: str | None
    known_at: datetime | None


def read_period(con: duckdb.DuckDBPyConnection, program: str, period: str) -> Period:
    """The month of `program`; `CardlineError` where there are no books of it."""
    for found in periods_of(con, program):
        if found.period == period:
            return found
    raise CardlineError(f"program {program!r} has no books of {period!r}: see finance.periods")


def periods_of(con: duckdb.DuckDBPyConnection, program: str | None = None) -> list[Period]:
    """Months of `program`, or of all, oldest first."""
    try:
        rows = con.execute(
            "select program_id, period, ends_on, state, version, preparer, approver, known_at "
            "from finance.periods where ? is null or program_id = ? order by program_id, period",
            [program, program],
        ).fetchall()
    except duckdb.CatalogException as error:
        raise CardlineError(
            "the finance tables do not exist yet: run `cardline run` first"
        ) from error
    return [Period(*row) for row in rows]


def close_period(
    program: str,
    period: str,
    approver: str | None,
    preparer: str | None = None,
    settings: Settings | None = None,
) -> list[Period]:
    """Close `period` and the open months of `program` before it; returns what was closed.

    Without `approver` the months are only soft-closed. `preparer` is who soft-closed a month,
    else the given one, else the user of this process. Closing a closed month changes nothing.
    Raises `CardlineError` where a check is not green, the approver is the preparer or a name is
    blank.
    """
    for name, role in ((approver, "approver"), (preparer, "preparer")):
        if name is not None and not name.strip():
            raise CardlineError(f"--{role} names nobody")
    user = preparer or getpass.getuser()
    require_warehouse(settings)
    with connect(settings=settings) as con, transaction(con):
        wanted = read_period(con, program, period)
        due = [
            each
            for each in periods_of(con, program)
            if each.period <= wanted.period and each.state != CLOSED
        ]
        if not due:
            return []
        for each in due:
            prepared_by = each.preparer if each.state == SOFT_CLOSED else user
            if approver is not None and _same(approver, prepared_by):
                raise CardlineError(
                    f"{program} {each.period} was prepared by {prepared_by!r}, who cannot approve "
                    "it too: name another approver, or the preparer with --preparer"
                )
        red = [check for check in close_checks(con, due) if not check.ok]
        if red:
            raise CardlineError(
                f"{program} {period} cannot be closed: "
                + "; ".join(f"{check.name}: {check.detail}" for check in red)
            )
        done = []
        for each in due:
            prepared_by = user
            if each.state == SOFT_CLOSED:
                prepared_by = each.preparer or user
            else:
                _write(con, each, SOFT_CLOSED, each.version, preparer=prepared_by)
            if approver is not None:
                _write(con, each, CLOSED, each.version, preparer=prepared_by, approver=approver)
                con.execute(_BILLED, [each.program_id, each.period])
            done.append(each.period)
        return [each for each in periods_of(con, program) if each.period in done]


def reopen_period(
    program: str,
    period: str,
    approvers: tuple[str, str],
    reason: str,
    settings: Settings | None = None,
) -> Period:
    """Open a closed `period` again as its next version.

    Raises `CardlineError` where it is not closed, a later month is closed on top of it, the
    approvers are one person, or there is no reason.
    """
    first, second = (name.strip() for name in approvers)
    if not first or not second or _same(first, second):
        raise CardlineError("reopening takes two approvers: name two people with --approver")
    if not reason.strip():
        raise CardlineError("reopening takes a reason: say it with --reason")
    with connect(settings=settings) as con, transaction(con):
        closed = read_period(con, program, period)
        if closed.state != CLOSED:
            raise CardlineError(f"{program} {period} is {closed.state}: there is nothing to reopen")
        later = [
            each.period
            for each in periods_of(con, program)
            if each.period > period and each.state == CLOSED
        ]
        if later:
            raise CardlineError(
                f"{program} {later[-1]} is closed on top of {period}: reopen the last month first"
            )
        _write(
            con, closed, REOPENED, closed.version + 1, preparer=closed.preparer, approver=first,
            second_approver=second, reason=reason.strip(),
        )  # fmt: skip
        return read_period(con, program, period)


def close_cut(con: duckdb.DuckDBPyConnection, program: str, period: str) -> Cut:
    """Where the ledger ended when `period` was last closed."""
    row = con.execute(
        "select known_at, ledger_seq, log_no from finance.period_log "
        "where program_id = ? and period = ? and state = ? order by log_no desc limit 1",
        [program, period, CLOSED],
    ).fetchone()
    if row is None:
        raise CardlineError(f"{program} {period} has not been closed")
    return Cut(program, *row)


def close_checks(con: duckdb.DuckDBPyConnection, due: list[Period]) -> list[CheckResult]:
    """What must hold before the months `due` of one program are soft-closed."""
    from pipelines.rewards.verification import verify_ledger

    last = due[-1]
    return [
        _has_ended(con, last),
        _tables_are_current(con, last),
        *verify_ledger(con),
        _nothing_serious_is_open(con, last),
    ]


def _has_ended(con: duckdb.DuckDBPyConnection, last: Period) -> CheckResult:
    row = con.execute("select max(through) from rewards.progress").fetchone()
    through = row[0] if row else None
    return CheckResult(
        "the month has ended",
        through is not None and through >= last.ends_on,
        f"the ledger is worked through {through}, the month ends on {last.ends_on}",
    )


def _tables_are_current(con: duckdb.DuckDBPyConnection, last: Period) -> CheckResult:
    rows = con.execute(
        """
        with ledger as (
            select
                journal.accounting_period as period,
                sum(case direction when 'CREDIT' then amount else -amount end) as points
            from rewards.journal as journal
            inner join rewards.postings as postings on journal.journal_id = postings.journal_id
            where
                journal.program_id = ? and ledger_account in
                ('MEMBER_PENDING', 'MEMBER_AVAILABLE', 'REDEMPTION_CLEARING')
            group by all
        )
        select
            rollforward.period,
            rollforward.closing_points - rollforward.opening_points
            <> coalesce(ledger.points, 0) as differs
        from finance.liability_rollforward as rollforward
        left join ledger on rollforward.period = ledger.period
        where rollforward.program_id = ? and rollforward.period <= ?
        order by rollforward.period
        """,
        [last.program_id, last.program_id, last.period],
    ).fetchall()
    behind = [period for period, differs in rows if differs]
    return CheckResult(
        "the finance tables are of this ledger",
        bool(rows) and not behind,
        f"the roll-forward is not the ledger's in {', '.join(behind)}: run `cardline run`",
    )


def _nothing_serious_is_open(con: duckdb.DuckDBPyConnection, last: Period) -> CheckResult:
    rows = con.execute(
        "select recon_id, type, count(*) from finance.exceptions "
        "where severity = 'HIGH' and state in ('OPEN', 'ASSIGNED') and opened_on <= ? "
        "group by all order by all",
        [last.ends_on],
    ).fetchall()
    listed = ", ".join(f"{count} {recon_id} {kind}" for recon_id, kind, count in rows)
    return CheckResult(
        "no serious exception is open", not rows,
        f"{listed}: resolve or explain them (`cardline exceptions list`)",
    )  # fmt: skip


def figures_sha256(con: duckdb.DuckDBPyConnection, program: str, period: str) -> str:
    """A hash over what the finance tables say of a program's month."""
    digest = hashlib.sha256()
    for table, columns in _FIGURES.items():
        rows = con.execute(
            f"select {', '.join(columns)} from finance.{table} "  # noqa: S608
            "where program_id = ? and period = ? order by all",
            [program, period],
        ).fetchall()
        digest.update(f"{table} {rows!r}\n".encode())
    return digest.hexdigest()


def _write(
    con: duckdb.DuckDBPyConnection, period: Period, state: str, version: int, **who: str | None
) -> None:
    """Append a step to the log, within the caller's transaction."""
    seals = con.execute(
        "select last_seq, last_hash from rewards.seals where program_id = ? "
        "order by seal_no desc limit 1",
        [period.program_id],
    ).fetchone()
    last = con.execute(
        "select log_no, entry_hash from finance.period_log order by log_no desc limit 1"
    ).fetchone()
    row: dict[str, Any] = dict.fromkeys(_HASHED) | who
    row |= {
        "log_no": 1 + (last[0] if last else 0),
        "program_id": period.program_id,
        "period": period.period,
        "state": state,
        "version": version,
        "effective_on": period.ends_on,
        "known_at": ledger_known_at(con),
        "ledger_seq": seals[0] if seals else 0,
        "ledger_hash": seals[1] if seals else FIRST_HASH,
        "figures_sha256": figures_sha256(con, period.program_id, period.period),
        "evidence": evidence_of(con, period.ends_on) if state == CLOSED else "{}",
        "acted_at": datetime.now(UTC).replace(tzinfo=None),
        "prev_hash": last[1] if last else FIRST_HASH,
    }
    row["entry_hash"] = _entry_hash(row)
    con.execute(
        "insert into finance.period_log by name select "
        + ", ".join(f"${name} as {name}" for name in row),
        row,
    )


def _entry_hash(row: dict[str, Any]) -> str:
    text = "\n".join([row["prev_hash"], *(str(row[name]) for name in _HASHED)])
    return hashlib.sha256(text.encode()).hexdigest()


def ledger_known_at(con: duckdb.DuckDBPyConnection) -> datetime:
    """The time up to which everything is in the ledger: the end of the last day worked."""
    row = con.execute("select max(through) from rewards.progress").fetchone()
    through = row[0] if row and row[0] else date.min
    return max(datetime.combine(through, time.max), data_clock(con) or datetime.min)


def _same(one: str, other: str | None) -> bool:
    return one.casefold().split() == (other or "").casefold().split()


def period_log(
    settings: Settings | None = None, program: str | None = None, period: str | None = None
) -> pl.DataFrame:
    """The steps of closes, oldest first; evidence and hashes left out."""
    with connect(read_only=True, settings=settings) as con:
        return con.execute(
            "select log_no, program_id, period, state, version, preparer, approver, "
            "second_approver, reason, known_at, ledger_seq, acted_at from finance.period_log "
            "where (? is null or program_id = ?) and (? is null or period = ?) order by log_no",
            [program, program, period, period],
        ).pl()


def verify_periods(settings: Settings | None = None) -> list[CheckResult]:
    """The log of closes, that closed months took no entries, and that they still say the same."""
    with connect(read_only=True, settings=settings) as con:
        try:
            found = [each for each in periods_of(con) if each.state == CLOSED]
        except CardlineError:
            found = []
        return [
            CheckResult(name, not wrong, wrong or f"{len(found)} closed months")
            for name, wrong in (
                ("log of closes", _broken_log(con)),
                ("closed months", _posted_after_close(con, found)),
                ("closed figures", _changed_figures(con, found)),
            )
        ]


def _broken_log(con: duckdb.DuckDBPyConnection) -> str:
    prev = FIRST_HASH
    found = con.execute("select * from finance.period_log order by log_no")
    names = [column[0] for column in found.description or ()]
    for log_no, values in enumerate(found.fetchall(), start=1):
        row = dict(zip(names, values, strict=True))
        if (
            row["log_no"] != log_no
            or row["prev_hash"] != prev
            or _entry_hash(row) != (row["entry_hash"])
        ):
            return f"step {row['log_no']} ({row['program_id']} {row['period']}) was changed"
        prev = row["entry_hash"]
    return ""


def _each(found: list[Period], wrong: Callable[[Period], str]) -> str:
    return next((text for each in found if (text := wrong(each))), "")


def _posted_after_close(con: duckdb.DuckDBPyConnection, found: list[Period]) -> str:
    def wrong(each: Period) -> str:
        cut = close_cut(con, each.program_id, each.period)
        row = con.execute(
            "select count(*), min(journal_id) from rewards.journal "
            "where program_id = ? and accounting_period = ? and seq > ?",
            [each.program_id, each.period, cut.ledger_seq],
        ).fetchone()
        if row and row[0]:
            return f"{each.program_id} {each.period} took {row[0]} entries, the first {row[1]}"
        return ""

    return _each(found, wrong)


def _changed_figures(con: duckdb.DuckDBPyConnection, found: list[Period]) -> str:
    def wrong(each: Period) -> str:
        row = con.execute(
            "select figures_sha256 from finance.period_log "
            "where program_id = ? and period = ? and state = ? order by log_no desc limit 1",
            [each.program_id, each.period, CLOSED],
        ).fetchone()
        says = figures_sha256(con, each.program_id, each.period)
        if row and row[0] != says:
            return f"{each.program_id} {each.period} does not say what it was closed with"
        return ""

    return _each(found, wrong)


def close_evidence(con: duckdb.DuckDBPyConnection, program: str, period: str) -> dict[str, Any]:
    """What was reconciled and open when `period` was last closed: rows by table."""
    row = con.execute(
        "select evidence from finance.period_log "
        "where program_id = ? and period = ? and state = ? order by log_no desc limit 1",
        [program, period, CLOSED],
    ).fetchone()
    return json.loads(row[0]) if row else {}
