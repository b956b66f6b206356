"""The daily accrual: everything that has arrived becomes decisions, entries, lots and balances.

One transaction per run. What has been worked is known by a watermark over ingest commits per
input table and by the last known day (`rewards.progress`), so a run with nothing new writes
nothing. Known days are worked in order, also in one run over many: the same deliveries lead to
the same entries, however many runs they are spread over. A delivery that arrives when its known
day has been worked already counts for the last day worked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import duckdb
import polars as pl

from pipelines.rewards import due, inputs, stored
from pipelines.rewards.changes import Changes, find_changes
from pipelines.rewards.engine import EVENT_SCHEMA
from pipelines.rewards.facts import ACTIVATION_SCHEMA
from pipelines.rewards.ledger import record, recorded_at
from pipelines.rewards.posting import NOTHING_OPEN, Outcome
from pipelines.rewards.problems import Problem, open_problems, resolve_problems
from pipelines.rewards.rules import RuleBook
from pipelines.rewards.stored import append, given, replace_rows
from pipelines.rewards.tables import ensure_tables, publish_programs
from pipelines.rewards.terms import Program, load_programs
from pipelines.settings import get_settings
from pipelines.warehouse import connect, set_watermark, transaction


@dataclass
class AccrualSummary:
    """What a run did. Points are in ledger units, by program; `through` is the last day worked."""

    through: date | None = None
    events: int = 0
    instructions: int = 0
    decisions: int = 0
    journals: int = 0
    superseded: int = 0
    skipped: int = 0
    problems: int = 0
    points: dict[str, int] = field(default_factory=dict)


def accrue(through: date | None = None) -> AccrualSummary:
    """Work everything that became known by the end of `through` (default: all that arrived).

    Idempotent. Raises `CardlineError` where the terms are wrong or were changed after use.
    """
    programs = load_programs(get_settings().programs)
    with connect() as con:
        with transaction(con):
            ensure_tables(con)
            publish_programs(con, programs)
        with transaction(con):
            return accrue_into(con, programs, through)


def accrue_into(
    con: duckdb.DuckDBPyConnection, programs: Mapping[str, Program], through: date | None = None
) -> AccrualSummary:
    """`accrue` within the caller's transaction, for `programs`."""
    after = stored.done_through(con)
    paying = [name for name, program in programs.items() if RuleBook(program).pays]
    tables = (*inputs.TABLES, inputs.PAYMENTS) if paying else inputs.TABLES
    through = through or inputs.last_known_day(con, tables) or after
    if through is None:
        return AccrualSummary()
    through = max(through, after) if after else through
    loads = {table: inputs.newest_load(con, table) for table in tables}
    summary = AccrualSummary(through)
    events = _known_programs_only(con, programs, after, through, paying, summary)
    instructions = _new_instructions(con, programs, after, through, summary)
    events = _with_day(events, after).with_columns(first_revision=pl.lit(1, dtype=pl.Int64))
    moved = pl.DataFrame(schema={"account_id": pl.String, "program_id": pl.String, "day": pl.Date})
    if after is not None:
        moved, events = _moved(con, programs, events, after)
    instructions = _with_day(instructions, after)
    for program_id, program in programs.items():
        mine = pl.col("program_id") == program_id
        _work_program(
            con, RuleBook(program), events.filter(mine).drop("program_id"),
            instructions.filter(mine), moved.filter(mine), after, through, summary,
        )  # fmt: skip
    for table, load_no in loads.items():
        if load_no is not None:
            set_watermark(con, inputs.watermark_name(table), load_no)
    if through != after:
        con.execute("delete from rewards.progress")
        con.execute("insert into rewards.progress values (?)", [through])
    return summary


def _with_day(frame: pl.DataFrame, after: date | None) -> pl.DataFrame:
    """Adds the day that a row is worked for: when it became known, or the last one worked."""
    known = pl.col("known_on")
    return frame.with_columns(day=known if after is None else known.clip(lower_bound=after))


def _moved(
    con: duckdb.DuckDBPyConnection,
    programs: Mapping[str, Program],
    events: pl.DataFrame,
    after: date,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Accounts (account_id, program_id, day) whose decided events count elsewhere by now, and
    `events` with those that are new to their program."""
    again, found = inputs.moved_events(con, events["account_id"].unique(), list(programs))
    first = events.group_by("account_id").agg(pl.col("day").min())
    moved = again.join(first, on="account_id", how="left").with_columns(
        pl.col("day").fill_null(after)
    )
    found = found.with_columns(day=pl.lit(after)).select(events.columns)
    others = events.join(found.select("event_id"), on="event_id", how="anti")
    return moved, pl.concat([others, found], how="vertical_relaxed")


def _known_programs_only(
    con: duckdb.DuckDBPyConnection,
    programs: Mapping[str, Program],
    after: date | None,
    through: date,
    paying: list[str],
    summary: AccrualSummary,
) -> pl.DataFrame:
    """New events of programs that have terms; the accounts of the others wait, visibly."""
    events = inputs.new_events(con, after, through, paying)
    known = pl.col("program_id").is_in(list(programs)).fill_null(False)
    waiting = con.execute("select account_id from rewards.waiting_accounts").pl()
    if not waiting.is_empty():
        found = inputs.events_of(con, waiting["account_id"], through).filter(known)
        ready = found["account_id"].unique().sort()
        if ready.len():
            events = pl.concat([events, found.select(events.columns)]).unique(
                "event_id", maintain_order=True
            )
            with given(con, ready=ready.to_frame()):
                con.execute(
                    "delete from rewards.waiting_accounts "
                    "where account_id in (select account_id from ready)"
                )
            resolve_problems(con, [f"UNKNOWN_PROGRAM:{account}" for account in ready.to_list()])
    unknown = events.filter(~known)
    if not unknown.is_empty():
        accounts = (
            unknown.join(waiting, on="account_id", how="anti")
            .group_by("account_id")
            .agg(pl.col("program_id").first(), pl.col("known_on").min())
            .sort("account_id")
        )
        reason = pl.when(pl.col("program_id").is_null())
        append(
            con, "waiting_accounts",
            accounts.with_columns(
                reason=reason.then(pl.lit("UNKNOWN_ACCOUNT")).otherwise(pl.lit("NO_TERMS")),
                first_known_on="known_on",
            ),
        )  # fmt: skip
        summary.problems += open_problems(
            con,
            [
                Problem(
                    f"UNKNOWN_PROGRAM:{account}", "R4", "UNKNOWN_PROGRAM", account, program_id, day,
                    "posted events wait: the account is not known" if program_id is None
                    else f"posted events wait: there are no terms of program {program_id}",
                )
                for account, program_id, day in accounts.iter_rows()
            ],
        )  # fmt: skip
    summary.events = events.height - unknown.height
    return events.filter(known).select([*EVENT_SCHEMA.names(), "program_id"])


def _new_instructions(
    con: duckdb.DuckDBPyConnection,
    programs: Mapping[str, Program],
    after: date | None,
    through: date,
    summary: AccrualSummary,
) -> pl.DataFrame:
    """New instructions; those that came before with other content are in conflict."""
    found = inputs.new_instructions(con, after, through)
    if found.is_empty():
        return found
    with given(con, arrived=found.select("reward_event_id")):
        known = con.execute(
            "select reward_event_id, payload_hash as known_hash from rewards.reward_event_outcomes "
            "where reward_event_id in (select reward_event_id from arrived)"
        ).pl()
    matched = found.join(known, on="reward_event_id", how="inner", maintain_order="left")
    conflicts = matched.filter(pl.col("payload_hash") != pl.col("known_hash"))
    summary.skipped += matched.height - conflicts.height
    problems = [
        Problem(
            f"CONFLICT:{row['reward_event_id']}:{row['payload_hash'][:12]}", "R5", "CONFLICT",
            row["reward_event_id"], row["account_id"], row["known_on"],
            "the instruction came again with other content; nothing was posted",
        )
        for row in conflicts.iter_rows(named=True)
    ]  # fmt: skip
    found = found.join(known, on="reward_event_id", how="anti", maintain_order="left")
    stray = found.filter(~pl.col("program_id").is_in(list(programs)))
    problems += [
        Problem(
            f"UNKNOWN_PROGRAM:{row['reward_event_id']}", "R5", "UNKNOWN_PROGRAM",
            row["reward_event_id"], row["account_id"], row["known_on"],
            f"there are no terms of program {row['program_id']}",
        )
        for row in stray.iter_rows(named=True)
    ]  # fmt: skip
    append(
        con, "reward_event_outcomes",
        stray.with_columns(
            outcome=pl.lit("REJECTED"), reason=pl.lit("UNKNOWN_PROGRAM"),
            recorded_at=recorded_at("known_on"),
        ),
    )  # fmt: skip
    summary.problems += open_problems(con, problems)
    summary.instructions = found.height - stray.height
    return found.filter(pl.col("program_id").is_in(list(programs)))


def _work_program(
    con: duckdb.DuckDBPyConnection,
    book: RuleBook,
    events: pl.DataFrame,
    instructions: pl.DataFrame,
    moved: pl.DataFrame,
    after: date | None,
    through: date,
    summary: AccrualSummary,
) -> None:
    program_id = book.program.program_id
    states = stored.states_of(con, program_id)
    zone = book.program.latest.timezone
    local_day = pl.col("event_at").dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.date()
    instructions = instructions.with_columns(effective_on=local_day)
    activations = _activations(con, book, instructions, local_day)
    accounts = pl.concat(
        [each["account_id"] for each in (events, activations, moved, instructions)]
    ).unique()
    facts = inputs.facts_of(con, book, accounts, activations, after, through)
    changes = find_changes(con, book, events, states, facts, after, moved)
    _write_decisions(con, program_id, changes)
    _write_towards(con, book, events, changes)
    activity = _activity(book, events, instructions)
    closures = due.closures(con, book, after, through)
    if not closures.is_empty():
        instructions = pl.concat([instructions, closures], how="diagonal_relaxed")
    posted, outcomes, balances = due.post(
        con,
        book.program,
        changes.actions,
        instructions,
        states,
        facts.statements,
        activity,
        after,
        through,
    )
    _write_outcomes(con, program_id, instructions, outcomes)
    recorded = record(con, program_id, posted)
    _write_states(con, program_id, events, states, balances, activity)
    problems = [
        Problem(
            f"{row['type']}:{row['event_id']}", "R4", row["type"], row["event_id"],
            row["account_id"], row["known_on"], _EXPLAINED[row["type"]],
            row["amount_minor"], row["currency"],
        )
        for row in changes.problems.sort("known_on", "event_id").iter_rows(named=True)
    ] + [
        Problem(
            f"CONFLICT:{row['idempotency_key']}", "R5", "CONFLICT", row["source_id"],
            row["account_id"], row["day"], "the entry is there with other content",
        )
        for row in recorded.conflicts.iter_rows(named=True)
    ]  # fmt: skip
    _resolve_gone(con, changes)
    summary.problems += open_problems(con, problems)
    summary.decisions += changes.decisions.height
    summary.superseded += changes.superseded.height
    summary.journals += recorded.written
    summary.skipped += recorded.skipped
    if balances:
        summary.points[program_id] = _held(states, balances)


def _activity(book: RuleBook, events: pl.DataFrame, instructions: pl.DataFrame) -> pl.DataFrame:
    """When accounts were active and when that became known, where points lapse without it."""
    found = pl.concat(
        [events.select("account_id", "day", active_on="posted_on"),
         instructions.select("account_id", "day", active_on="effective_on")]
    ).unique()  # fmt: skip
    return found if book.lapses_inactive else found.clear()


_EXPLAINED = {
    "OVER_REFUND": "more was refunded than was left of the purchase; the excess moved no points",
    "UNMATCHED_RETURN_REVERSAL": "there is no refund that this could reverse",
    "CURRENCY_MISMATCH": "posted in another currency than the program's; earned nothing",
}


def _activations(
    con: duckdb.DuckDBPyConnection, book: RuleBook, instructions: pl.DataFrame, local_day: pl.Expr
) -> pl.DataFrame:
    """Offers taken up, earlier and now (`ACTIVATION_SCHEMA`)."""
    if not book.offers:
        return pl.DataFrame(schema=ACTIVATION_SCHEMA)
    new = instructions.filter(
        pl.col("kind") == "ACTIVATE", pl.col("offer_id").is_not_null()
    ).with_columns(activated_on=local_day, activated_at="event_at", is_new=pl.lit(True))
    known = stored.activations(con, book.program.program_id).with_columns(
        day=pl.lit(date.min), activated_on=local_day, activated_at="event_at", is_new=pl.lit(False)
    )
    return pl.concat([frame.select(ACTIVATION_SCHEMA.names()) for frame in (known, new)])


def _write_towards(
    con: duckdb.DuckDBPyConnection, book: RuleBook, events: pl.DataFrame, changes: Changes
) -> None:
    """Keep how far accounts are towards limits, tiers and sign-up bonuses."""
    program_id = book.program.program_id
    redone = pl.Series("account_id", changes.redecided, dtype=pl.String)
    if "NET_SPEND_12M" in book.tier_metrics:
        # All months of an account are in the answer.
        accounts = pl.concat([events["account_id"], redone]).to_frame()
        replace_rows(con, "spend_by_month", program_id, accounts, changes.spend)
    if book.has_limits:
        replace_rows(con, "limit_places", program_id, redone.to_frame(), changes.places)
    if book.has_bonuses:
        # Progress that did not move is not in the answer of an account that was not redone.
        moved = changes.progress.select("account_id", "bonus_id")
        replace_rows(con, "bonus_progress", program_id, redone.to_frame())
        replace_rows(con, "bonus_progress", program_id, moved, changes.progress)


def _write_decisions(con: duckdb.DuckDBPyConnection, program_id: str, changes: Changes) -> None:
    replace_rows(con, "decisions", program_id, changes.superseded.select("event_id"))
    stored.add_decisions(con, program_id, changes.decisions)
    append(
        con, "superseded_decisions",
        changes.superseded.with_columns(
            program_id=pl.lit(program_id), superseded_at=recorded_at()
        ).sort("superseded_at", "account_id", "decision_id"),
    )  # fmt: skip
    redone = pl.DataFrame({"account_id": changes.redecided}, schema={"account_id": pl.String})
    replace_rows(con, "refund_allocations", program_id, redone, changes.allocations)
    replace_rows(con, "cap_usage", program_id, redone)
    moved = changes.caps.select("account_id", "share_key", "window_on")
    replace_rows(con, "cap_usage", program_id, moved, changes.caps)


def _write_outcomes(
    con: duckdb.DuckDBPyConnection,
    program_id: str,
    instructions: pl.DataFrame,
    outcomes: list[Outcome],
) -> None:
    """Record what became of instructions; what was refused is an exception."""
    if instructions.is_empty() and not outcomes:
        return
    final = {each.reward_event_id: each for each in outcomes}
    rows = instructions["reward_event_id"].to_list()
    done = [final.get(row) for row in rows]
    append(
        con, "reward_event_outcomes",
        instructions.with_columns(
            pl.Series("outcome", [each.outcome if each else "RECORDED" for each in done],
                      dtype=pl.String),
            pl.Series("reason", [each.reason if each else None for each in done], dtype=pl.String),
            pl.Series("journal_id", [each.journal_id if each else None for each in done],
                      dtype=pl.String),
            pl.Series("outcome_on", [each.day if each else None for each in done], dtype=pl.Date),
        ).with_columns(
            outcome_on=pl.col("outcome_on").fill_null(pl.col("day"))
        ).with_columns(recorded_at=recorded_at("outcome_on"))
        .sort("recorded_at", "event_at", "reward_event_id"),
    )  # fmt: skip
    members = dict(instructions.select("reward_event_id", "account_id").iter_rows())
    open_problems(
        con,
        [
            Problem(
                f"INSTRUCTION_REFUSED:{each.reward_event_id}", "R5", "INSTRUCTION_REFUSED",
                each.reward_event_id, members.get(each.reward_event_id), each.day,
                f"refused: {each.reason}",
            )
            for each in final.values()
            if each.outcome == "REJECTED" and each.reason != NOTHING_OPEN
        ],
    )  # fmt: skip


def _write_states(
    con: duckdb.DuckDBPyConnection,
    program_id: str,
    events: pl.DataFrame,
    states: pl.DataFrame,
    balances: Mapping[str, int],
    activity: pl.DataFrame,
) -> None:
    """Last event and balance of each account that had anything to do in this pass."""
    key = ["posted_on", "event_at", "transaction_id", "event_id"]
    last = (
        pl.concat([events.select("account_id", *key), states.select("account_id", *key)])
        .filter(pl.col("posted_on").is_not_null())
        .sort("account_id", *key)
        .unique("account_id", keep="last")
    )
    moved = pl.DataFrame(
        {"account_id": list(balances), "new_balance": list(balances.values())},
        schema={"account_id": pl.String, "new_balance": pl.Int64},
    )
    touched = (
        pl.concat([events["account_id"], moved["account_id"], activity["account_id"]])
        .unique()
        .sort()
    )
    active = pl.concat(
        [activity.select("account_id", "active_on"), states.select("account_id", "active_on")]
    )
    if touched.is_empty():
        return
    now = (
        touched.to_frame()
        .join(last, on="account_id", how="left")
        .join(moved, on="account_id", how="left")
        .join(states.select("account_id", "balance"), on="account_id", how="left")
        .join(
            active.group_by("account_id").agg(pl.col("active_on").max()),
            on="account_id",
            how="left",
        )
        .with_columns(
            balance=pl.col("new_balance").fill_null(pl.col("balance")).fill_null(0),
        )
        .sort("account_id")
    )
    replace_rows(con, "account_state", program_id, touched.to_frame(), now)


def _resolve_gone(con: duckdb.DuckDBPyConnection, changes: Changes) -> None:
    """Close exceptions of accounts decided again that no longer arise."""
    if not changes.redecided:
        return
    with given(con, redone=pl.DataFrame({"account_id": changes.redecided})):
        before = con.execute(
            "select exception_id from finance.exceptions where state = 'OPEN' "
            "and type in ('OVER_REFUND', 'UNMATCHED_RETURN_REVERSAL', 'CURRENCY_MISMATCH') "
            "and right_ref in (select account_id from redone)"
        ).fetchall()
    still = {
        f"{kind}:{event}" for kind, event in changes.problems.select("type", "event_id").rows()
    }
    resolve_problems(con, [name for (name,) in before if name not in still])


def _held(states: pl.DataFrame, balances: Mapping[str, int]) -> int:
    """The program's balances in all after this pass."""
    unchanged = states.filter(~pl.col("account_id").is_in(list(balances)))["balance"].sum()
    return int(unchanged) + sum(balances.values())
