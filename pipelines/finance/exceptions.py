"""The exception queue: who looks at a break, what it is, and what settled it.

OPEN → ASSIGNED → EXPLAINED → RESOLVED or WRITTEN_OFF. What people do is appended to
`finance.exception_log`; the newest of it stands in `finance.exceptions`. Where the input is mended
the chain resolves an exception by itself, under the id that it always had, and a resolved one that
is found again is open again.

What moves points does so through the ledger: a resolution may ask for an adjustment, which goes
into landing as an instruction like any other, and names the exception. The next run posts it, and
the exception is resolved with that journal entry.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import polars as pl

from pipelines.errors import CardlineError
from pipelines.files import written_aside
from pipelines.settings import Settings, get_settings
from pipelines.warehouse import connect, data_clock, has_table, transaction

OPEN, ASSIGNED, EXPLAINED = "OPEN", "ASSIGNED", "EXPLAINED"
RESOLVED, WRITTEN_OFF = "RESOLVED", "WRITTEN_OFF"
UNSETTLED = (OPEN, ASSIGNED, EXPLAINED)
STATES = (*UNSETTLED, RESOLVED, WRITTEN_OFF)
ADJUSTMENT_POSTED = "ADJUSTMENT_POSTED"
MOST_POINTS = 10**12
_CODE = re.compile(r"[A-Z][A-Z0-9_]*")

_LIST = """
with clock as (
    select coalesce(max(cast(received_at as date)), max(batch_date)) as today
    from landing.files where state = 'LOADED'
),
aged as (
    select
        exceptions.*,
        greatest(date_diff('day', opened_on, coalesce(clock.today, opened_on)), 0) as age_days
    from finance.exceptions as exceptions, clock
)
select
    exception_id, recon_id, type, severity, state, amount_minor, currency, opened_on,
    cast(age_days as bigint) as age_days,
    case
        when age_days <= 1 then '0-1' when age_days <= 5 then '2-5'
        when age_days <= 30 then '6-30' else '31+'
    end as age_bucket,
    owner, left_ref, right_ref, detail, resolution_code, resolved_by, evidence_ref, journal_id
from aged
where
    (? is null or list_contains(?, state)) and (? is null or recon_id = ?)
    and (? is null or type = ?) and (? is null or owner = ?)
order by age_days desc, exception_id
"""


def list_exceptions(
    states: tuple[str, ...] | None = UNSETTLED,
    recon_id: str | None = None,
    type_: str | None = None,
    owner: str | None = None,
    settings: Settings | None = None,
) -> pl.DataFrame:
    """Exceptions, the oldest first; `age_bucket` in days against the warehouse's known time."""
    unknown = set(states or ()) - set(STATES)
    if unknown:
        raise CardlineError(f"no state {sorted(unknown)[0]!r}: it is one of {', '.join(STATES)}")
    chosen = None if states is None else list(states)
    with connect(read_only=True, settings=settings) as con:
        return con.execute(
            _LIST, [chosen, chosen, recon_id, recon_id, type_, type_, owner, owner]
        ).pl()


def ageing(found: pl.DataFrame) -> pl.DataFrame:
    """How many of `list_exceptions` there are by chain, type and age bucket."""
    buckets = ("0-1", "2-5", "6-30", "31+")
    return (
        found.group_by("recon_id", "type")
        .agg(
            *((pl.col("age_bucket") == each).sum().alias(each) for each in buckets),
            pl.len().alias("all"),
        )
        .sort("recon_id", "type")
    )


@dataclass(frozen=True)
class Adjustment:
    """Points that a resolution gives (or takes, negative) in ledger units of the program."""

    account_id: str
    points: int


def assign(exception_id: str, owner: str, by: str, settings: Settings | None = None) -> str:
    """Make `owner` responsible; returns the state."""
    return _act(exception_id, ASSIGNED, by, settings, owner=_said(owner, "an owner"))


def explain(exception_id: str, note: str, by: str, settings: Settings | None = None) -> str:
    """Say what it is: it stays in the queue, but no longer stands in the way of a close."""
    return _act(exception_id, EXPLAINED, by, settings, note=_said(note, "an explanation"))


def resolve(
    exception_id: str,
    code: str,
    by: str,
    note: str | None = None,
    evidence_ref: str | None = None,
    journal_id: str | None = None,
    write_off: bool = False,
    settings: Settings | None = None,
) -> str:
    """Settle it under a resolution code, with evidence or the journal entry that did.

    Raises `CardlineError` for a journal entry that the ledger does not have.
    """
    if not _CODE.fullmatch(code):
        raise CardlineError(f"{code!r} is no resolution code: write e.g. TIMING or PARTNER_CREDIT")
    state = WRITTEN_OFF if write_off else RESOLVED
    return _act(
        exception_id, state, by, settings, note=note, resolution_code=code,
        evidence_ref=evidence_ref, journal_id=journal_id,
    )  # fmt: skip


def request_adjustment(
    exception_id: str,
    adjustment: Adjustment,
    by: str,
    note: str,
    settings: Settings | None = None,
) -> str:
    """Put an adjustment into landing that settles the exception; returns its reward_event_id.

    Asked for again it changes nothing: an exception has one adjustment.
    """
    settings = settings or get_settings()
    reward_event_id = f"adj_{exception_id}"
    with connect(settings=settings) as con, transaction(con):
        _unsettled(con, exception_id)
        asked = con.execute(
            "select 1 from finance.exception_log where exception_id = ? and action = ?",
            [exception_id, "ADJUSTMENT_ASKED"],
        ).fetchone()
        if asked:
            raise CardlineError(f"{exception_id} has its adjustment already: {reward_event_id}")
        program = con.execute(
            "select program_id from marts.dim_accounts where account_id = ? and is_current",
            [adjustment.account_id],
        ).fetchone()
        if program is None:
            raise CardlineError(f"there is no account {adjustment.account_id!r}")
        if not adjustment.points:
            raise CardlineError("an adjustment of no points moves nothing")
        if abs(adjustment.points) > MOST_POINTS:
            raise CardlineError(f"an adjustment moves {MOST_POINTS:,} ledger units at most")
        on = (data_clock(con) or datetime.min).date()
        row = {
            "reward_event_id": reward_event_id, "account_id": adjustment.account_id,
            "program_id": program[0], "kind": "ADJUST", "event_at": f"{on}T00:00:00",
            "points": adjustment.points, "reference": exception_id,
        }  # fmt: skip
        _append(con, exception_id, "ADJUSTMENT_ASKED", _said(by, "who asks"),
                note=_said(note, "a reason"), evidence_ref=reward_event_id)  # fmt: skip
        _deliver(settings, on, exception_id, row)
    return reward_event_id


def _deliver(settings: Settings, on: date, exception_id: str, row: dict[str, Any]) -> None:
    name = re.sub(r"[^A-Za-z0-9_-]", "_", exception_id)
    folder = settings.landing_dir / "reward_events" / on.isoformat()
    with written_aside(folder / f"adjustment_{name}.jsonl") as aside:
        aside.write_text(json.dumps(row, sort_keys=True) + "\n", encoding="utf-8")


def settle_adjusted(con: duckdb.DuckDBPyConnection) -> int:
    """Resolve exceptions whose adjustment has been posted; within the caller's transaction."""
    if not has_table(con, "rewards", "reward_event_outcomes"):
        return 0
    posted = con.execute(
        """
        select asked.exception_id, asked.acted_by, outcomes.journal_id
        from finance.exception_log as asked
        inner join rewards.reward_event_outcomes as outcomes
            on asked.evidence_ref = outcomes.reward_event_id
        inner join finance.exceptions as exceptions
            on asked.exception_id = exceptions.exception_id
        where
            asked.action = 'ADJUSTMENT_ASKED' and outcomes.journal_id is not null
            and list_contains(?, exceptions.state)
        order by asked.log_no
        """,
        [list(UNSETTLED)],
    ).fetchall()
    for exception_id, by, journal_id in posted:
        _set(con, exception_id, RESOLVED, by, resolution_code=ADJUSTMENT_POSTED,
             journal_id=journal_id)  # fmt: skip
    return len(posted)


def history(exception_id: str, settings: Settings | None = None) -> pl.DataFrame:
    """What was done to an exception, oldest first."""
    with connect(read_only=True, settings=settings) as con:
        return con.execute(
            "select * from finance.exception_log where exception_id = ? order by log_no",
            [exception_id],
        ).pl()


def _said(text: str, what: str) -> str:
    if not text.strip():
        raise CardlineError(f"{what} is missing")
    return text.strip()


def _act(
    exception_id: str, state: str, by: str, settings: Settings | None, **changes: str | None
) -> str:
    with connect(settings=settings) as con, transaction(con):
        _unsettled(con, exception_id)
        journal_id = changes.get("journal_id")
        if (
            journal_id is not None
            and con.execute(
                "select 1 from rewards.journal where journal_id = ?", [journal_id]
            ).fetchone()
            is None
        ):
            raise CardlineError(f"the rewards ledger has no entry {journal_id!r}")
        _set(con, exception_id, state, _said(by, "who does it"), **changes)
    return state


def _unsettled(con: duckdb.DuckDBPyConnection, exception_id: str) -> None:
    row = con.execute(
        "select state from finance.exceptions where exception_id = ?", [exception_id]
    ).fetchone()
    if row is None:
        raise CardlineError(
            f"there is no exception {exception_id!r}: `cardline exceptions list` shows them"
        )
    if row[0] not in UNSETTLED:
        raise CardlineError(f"{exception_id} is {row[0]} already")


def _set(
    con: duckdb.DuckDBPyConnection, exception_id: str, state: str, by: str, **changes: str | None
) -> None:
    _append(con, exception_id, state, by, **changes)
    settled = state in (RESOLVED, WRITTEN_OFF)
    con.execute(
        "update finance.exceptions set state = ?, owner = coalesce(?, owner), "
        "resolution_code = ?, resolved_by = ?, evidence_ref = ?, journal_id = ? "
        "where exception_id = ?",
        [
            state, changes.get("owner"), changes.get("resolution_code"), by if settled else None,
            changes.get("evidence_ref"), changes.get("journal_id"), exception_id,
        ],
    )  # fmt: skip


def _append(
    con: duckdb.DuckDBPyConnection, exception_id: str, action: str, by: str, **said: str | None
) -> None:
    con.execute(
        "insert into finance.exception_log by name select "
        "(select coalesce(max(log_no), 0) + 1 from finance.exception_log) as log_no, "
        "? as exception_id, ? as action, ? as acted_by, ? as owner, ? as note, "
        "? as resolution_code, ? as evidence_ref, ? as journal_id, ?::timestamp as known_at, "
        "?::timestamp as acted_at",
        [
            exception_id, action, by, said.get("owner"), said.get("note"),
            said.get("resolution_code"), said.get("evidence_ref"), said.get("journal_id"),
            data_clock(con), datetime.now(UTC).replace(tzinfo=None),
        ],
    )  # fmt: skip
