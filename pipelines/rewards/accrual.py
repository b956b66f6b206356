"""The daily accrual: everything that has arrived becomes decisions, entries, lots and balances.

One transaction per run. What has been worked is known by a watermark over ingest commits per
input table and by the last known day (`rewards.progress`), so a run with nothing new writes
nothing. Known days are worked in order, also in one run over many: the same deliveries lead to
the same entries, however many runs they are spread over. A delivery that arrives when its known
day has been worked already counts for the last day worked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

import duckdb
import polars as pl

from pipelines.rewards import inputs
from pipelines.rewards.changes import Changes, find_changes
from pipelines.rewards.engine import EVENT_SCHEMA
from pipelines.rewards.facts import ACTIVATION_SCHEMA
from pipelines.rewards.ledger import Entries, append, record, recorded_at
from pipelines.rewards.lots import AccountLots, Lot
from pipelines.rewards.posting import (
    NOTHING_OPEN,
    Account,
    AccountPosting,
    Instruction,
    Outcome,
    Redemption,
    merged,
    month_ends,
    post_plain,
)
from pipelines.rewards.problems import Problem, open_problems, resolve_problems
from pipelines.rewards.rules import RuleBook
from pipelines.rewards.tables import ensure_tables, publish_programs
from pipelines.rewards.terms import Program, load_programs
from pipelines.settings import get_settings
from pipelines.warehouse import connect, set_watermark, transaction

SPENDING = (
    "REDEEM", "REDEEM_CANCEL", "TRANSFER", "ADJUST", "BONUS_CLAWBACK", "FORFEIT", "CREDIT",
)  # fmt: skip


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
    after = inputs.done_through(con)
    through = through or inputs.last_known_day(con) or after
    if through is None:
        return AccrualSummary()
    through = max(through, after) if after else through
    loads = {table: inputs.newest_load(con, table) for table in inputs.TABLES}
    summary = AccrualSummary(through)
    events = _known_programs_only(con, programs, after, through, summary)
    instructions = _new_instructions(con, programs, after, through, summary)
    events = _with_day(events, after)
    instructions = _with_day(instructions, after)
    for program_id, program in programs.items():
        mine = pl.col("program_id") == program_id
        _work_program(
            con, RuleBook(program), events.filter(mine).drop("program_id"),
            instructions.filter(mine), after, through, summary,
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


def _known_programs_only(
    con: duckdb.DuckDBPyConnection,
    programs: Mapping[str, Program],
    after: date | None,
    through: date,
    summary: AccrualSummary,
) -> pl.DataFrame:
    """New events of programs that have terms; the accounts of the others wait, visibly."""
    events = inputs.new_events(con, after, through)
    known = pl.col("program_id").is_in(list(programs)).fill_null(False)
    waiting = con.execute("select account_id from rewards.waiting_accounts").pl()
    if not waiting.is_empty():
        found = inputs.events_of(con, waiting["account_id"], through).filter(known)
        ready = found["account_id"].unique().sort()
        if ready.len():
            events = pl.concat([events, found.select(events.columns)]).unique(
                "event_id", maintain_order=True
            )
            con.register("ready", ready.to_frame().to_arrow())
            con.execute(
                "delete from rewards.waiting_accounts "
                "where account_id in (select account_id from ready)"
            )
            con.unregister("ready")
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
    con.register("arrived", found.select("reward_event_id").to_arrow())
    known = con.execute(
        "select reward_event_id, payload_hash as known_hash from rewards.reward_event_outcomes "
        "where reward_event_id in (select reward_event_id from arrived)"
    ).pl()
    con.unregister("arrived")
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
    after: date | None,
    through: date,
    summary: AccrualSummary,
) -> None:
    program_id = book.program.program_id
    states = inputs.states_of(con, program_id)
    zone = book.program.latest.timezone
    local_day = pl.col("event_at").dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.date()
    instructions = instructions.with_columns(effective_on=local_day)
    activations = _activations(con, book, instructions, local_day)
    accounts = pl.concat([events["account_id"], activations["account_id"]]).unique()
    facts = inputs.facts_of(con, book, accounts, activations, after, through)
    changes = find_changes(con, book, events, states, facts, after)
    _write_decisions(con, program_id, changes)
    _write_towards(con, book, events, changes)
    closures = _closures(con, book, after, through)
    if not closures.is_empty():
        instructions = pl.concat([instructions, closures], how="diagonal_relaxed")
    posted, outcomes, balances = _post(
        con, book.program, changes, instructions, states, facts.statements, after, through
    )
    _write_outcomes(con, program_id, instructions, outcomes)
    recorded = record(con, program_id, posted)
    _write_states(con, program_id, events, states, balances)
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
    ).with_columns(activated_on=local_day, is_new=pl.lit(True))
    known = inputs.activations(con, book.program.program_id).with_columns(
        day=pl.lit(date.min), activated_on=local_day, is_new=pl.lit(False)
    )
    return pl.concat([frame.select(ACTIVATION_SCHEMA.names()) for frame in (known, new)])


def _write_towards(
    con: duckdb.DuckDBPyConnection, book: RuleBook, events: pl.DataFrame, changes: Changes
) -> None:
    """Keep how far accounts are towards tiers and sign-up bonuses."""
    accounts = pl.concat(
        [events["account_id"], pl.Series("account_id", changes.redecided, dtype=pl.String)]
    ).unique()
    for asked, table, frame in (
        ("NET_SPEND_12M" in book.tier_metrics, "spend_by_month", changes.spend),
        (book.has_bonuses, "bonus_progress", changes.progress),
    ):
        if not asked or accounts.is_empty():
            continue
        # Progress that did not move is not in the answer, unless the account was decided again.
        gone = accounts if table == "spend_by_month" else pl.concat(
            [frame["account_id"], pl.Series("account_id", changes.redecided, dtype=pl.String)]
        )  # fmt: skip
        con.register("gone", gone.unique().to_frame().to_arrow())
        if table == "bonus_progress":
            kept = con.execute(
                "select * exclude (program_id) from rewards.bonus_progress "
                "where program_id = ? and account_id in (select account_id from gone)",
                [book.program.program_id],
            ).pl()
            kept = kept.filter(~pl.col("account_id").is_in(changes.redecided)).join(
                frame, on=["account_id", "bonus_id"], how="anti"
            )
            frame = pl.concat([frame, kept.select(frame.columns)])  # noqa: PLW2901
        con.execute(
            f"delete from rewards.{table} where program_id = ? "  # noqa: S608
            "and account_id in (select account_id from gone)",
            [book.program.program_id],
        )
        con.unregister("gone")
        append(con, table, frame.with_columns(program_id=pl.lit(book.program.program_id)))


def _closures(
    con: duckdb.DuckDBPyConnection, book: RuleBook, after: date | None, through: date
) -> pl.DataFrame:
    """What closed accounts are due to lose or to be paid, as instructions of this pass."""
    versions = book.program.versions
    if not any(v.terms.closure or v.terms.signup_bonus for v in versions):
        return pl.DataFrame()
    program_id = book.program.program_id
    closed = inputs.closures_of(con, program_id, through)
    if closed.is_empty():
        return closed
    done = inputs.settled(con, program_id)
    awards = [bonus.id for version in versions for bonus in version.terms.signup_bonus]
    given = inputs.bonuses_of(con, program_id, closed["account_id"], awards) if awards else {}
    rows = []
    for each in closed.iter_rows(named=True):
        account, closed_on = each["account_id"], each["closed_on"]
        terms = book.terms_on(closed_on)
        offers = book.terms_on(each["opened_on"] or closed_on).signup_bonus
        open_days = (closed_on - (each["opened_on"] or closed_on)).days
        limits = [bonus.clawback.if_closed_within_days for bonus in offers]
        due = []
        if given.get(account, 0) > 0 and any(
            limit is not None and open_days <= limit for limit in limits
        ):
            due.append(("BONUS_CLAWBACK", closed_on, given[account]))
        closure = terms.closure
        if closure and closure.covers(each["close_reason"], each["substatus"]):
            due.append((closure.action, closed_on + timedelta(days=closure.grace_days), None))
        for kind, effective_on, points in due:
            name = f"closure:{kind.lower()}:{program_id}:{account}"
            day = max(effective_on, each["known_on"], after or date.min)
            if name in done or day > through:
                continue
            rows.append((name, account, program_id, kind, effective_on, points, day))
    frame = pl.DataFrame(
        rows, orient="row",
        schema={"reward_event_id": pl.String, "account_id": pl.String, "program_id": pl.String,
                "kind": pl.String, "effective_on": pl.Date, "points": pl.Int64, "day": pl.Date},
    )  # fmt: skip
    return frame.with_columns(
        event_at=pl.col("effective_on").cast(pl.Datetime("us")),
        payload_hash=pl.lit(""),
        known_on="day",
    )


def _write_decisions(con: duckdb.DuckDBPyConnection, program_id: str, changes: Changes) -> None:
    program = pl.lit(program_id).alias("program_id")
    if not changes.superseded.is_empty():
        con.register("gone", changes.superseded.select("event_id").unique().to_arrow())
        con.execute(
            "delete from rewards.decisions where program_id = ? "
            "and event_id in (select event_id from gone)",
            [program_id],
        )
        con.unregister("gone")
        append(
            con, "superseded_decisions",
            changes.superseded.with_columns(program, superseded_at=recorded_at())
            .sort("superseded_at", "account_id", "decision_id"),
        )  # fmt: skip
    append(con, "decisions", changes.decisions.with_columns(program))
    if changes.redecided:
        con.register("redone", pl.DataFrame({"account_id": changes.redecided}).to_arrow())
        for table in ("refund_allocations", "cap_usage"):
            con.execute(
                f"delete from rewards.{table} where program_id = ? "  # noqa: S608
                "and account_id in (select account_id from redone)",
                [program_id],
            )
        con.unregister("redone")
    append(con, "refund_allocations", changes.allocations.with_columns(program))
    if changes.caps.is_empty():
        return
    con.register("moved", changes.caps.to_arrow())
    con.execute(
        "delete from rewards.cap_usage where program_id = ? and (account_id, share_key, window_on) "
        "in (select account_id, share_key, window_on from moved)",
        [program_id],
    )
    con.unregister("moved")
    append(con, "cap_usage", changes.caps.with_columns(program))


def _post(
    con: duckdb.DuckDBPyConnection,
    program: Program,
    changes: Changes,
    instructions: pl.DataFrame,
    states: pl.DataFrame,
    statements: pl.DataFrame,
    after: date | None,
    through: date,
) -> tuple[Entries, list[Outcome], dict[str, int]]:
    """Entries of everything that is due, outcomes of instructions, balances that changed."""
    program_id = program.program_id
    actions = changes.actions
    instructions = instructions.filter(pl.col("kind").is_in(SPENDING))
    first_day = after if after is not None else _first_day(actions, instructions)
    ends = month_ends(first_day, through)
    if after is None and first_day is not None:
        ends = month_ends(first_day.replace(day=1), through)
    single = _one_by_one(
        con, program, actions, instructions, states, statements, ends, after, through
    )
    in_columns = actions.filter(~pl.col("account_id").is_in(single.implode()))
    parts = [post_plain(program, in_columns)] if not in_columns.is_empty() else []
    balances = _plain_balances(in_columns, states)
    posting = AccountPosting(program, after, through, ends)
    accounts = _accounts(
        con, program_id, single, actions.filter(pl.col("account_id").is_in(single.implode())),
        instructions, states, statements,
    )  # fmt: skip
    for account in accounts:
        balances[account.account_id] = posting.run(account)
    order, entries, outcomes = posting.finish()
    return merged([*parts, (order, entries)]), outcomes, balances


def _first_day(actions: pl.DataFrame, instructions: pl.DataFrame) -> date | None:
    days = [
        day for day in (actions["day"].min(), instructions["day"].min()) if isinstance(day, date)
    ]
    return min(days) if days else None


def _plain_balances(actions: pl.DataFrame, states: pl.DataFrame) -> dict[str, int]:
    added = actions.group_by("account_id").agg(pl.col("points").sum())
    total = added.join(states.select("account_id", "balance"), on="account_id", how="left").select(
        "account_id", pl.col("points") + pl.col("balance").fill_null(0)
    )
    return dict(total.iter_rows())


def _one_by_one(
    con: duckdb.DuckDBPyConnection,
    program: Program,
    actions: pl.DataFrame,
    instructions: pl.DataFrame,
    states: pl.DataFrame,
    statements: pl.DataFrame,
    ends: list[date],
    after: date | None,
    through: date,
) -> pl.Series:
    """Accounts whose lots must be worked entry by entry, sorted."""
    plain = (pl.col("event_class") == "EARN") & (pl.col("points") > 0) & ~pl.col("reverses")
    parts = [
        actions.filter(~plain)["account_id"],
        instructions["account_id"],
        states.filter(pl.col("balance") < 0)["account_id"],
        pl.Series(
            "account_id",
            inputs.accounts_with_lots_lapsing(con, program.program_id, after, through),
            dtype=pl.String,
        ),
        actions.filter(pl.col("effective_on").is_in(_lapsing(program, actions, through)))[
            "account_id"
        ],
    ]
    if any(version.terms.accrual.settlement == "STATEMENT" for version in program.versions):
        held = pl.concat([actions["account_id"], states["account_id"]])
        new = statements.filter("is_new")["account_id"]
        parts.append(new.filter(new.is_in(held.implode())))
    if ends and program.latest.settlement_model == "PARTNER_POSTED":
        parts += [actions["account_id"], states.filter(pl.col("balance") > 0)["account_id"]]
    return pl.concat([part.rename("account_id") for part in parts]).unique().sort()


def _lapsing(program: Program, actions: pl.DataFrame, through: date) -> list[date]:
    """Effective days of new points that lapse within this pass already."""
    from pipelines.rewards.posting import expiry_of

    days = actions["effective_on"].unique().to_list()
    return [day for day in days if (ends := expiry_of(program, day)) and ends <= through]


def _accounts(
    con: duckdb.DuckDBPyConnection,
    program_id: str,
    ids: pl.Series,
    actions: pl.DataFrame,
    instructions: pl.DataFrame,
    states: pl.DataFrame,
    statements: pl.DataFrame,
) -> list[Account]:
    """The accounts `ids` with their lots and what is to be done with them."""
    if ids.is_empty():
        return []
    balances = dict(states.select("account_id", "balance").iter_rows())
    lots: dict[str, list[Lot]] = {}
    for row in inputs.lots_of(con, program_id, ids).iter_rows(named=True):
        lots.setdefault(row["account_id"], []).append(_lot(row, row["points_open"]))
    accounts = {
        account_id: Account(
            account_id,
            AccountLots(lots.get(account_id, []), max(0, -balances.get(account_id, 0))),
            known_lots={lot.lot_id: lot for lot in lots.get(account_id, [])},
        )
        for account_id in ids.to_list()
    }
    for action in actions.iter_rows(named=True):
        accounts[action["account_id"]].actions.append(action)
    for row in instructions.iter_rows(named=True):
        accounts[row["account_id"]].instructions.append(_instruction(row))
    for account_id, ends_on, day in (
        statements.filter("is_new").select("account_id", "ends_on", "day").iter_rows()
    ):
        if account_id in accounts:
            accounts[account_id].statements.append((day, ends_on))
    _add_redemptions(con, program_id, instructions, accounts)
    return list(accounts.values())


def _lot(row: dict[str, object], points_open: int) -> Lot:
    return Lot(
        row["lot_id"], row["source_id"], row["issued_on"], row["expires_on"],  # pyright: ignore
        row["funding_partner_bps"], row["points_issued"], points_open,  # pyright: ignore
        bool(row.get("is_pending")),
    )  # fmt: skip


def _instruction(row: dict[str, object]) -> Instruction:
    return Instruction(
        row["reward_event_id"], row["kind"], row["day"], row["effective_on"],  # pyright: ignore
        row["points"], row["reference"], (row["event_at"], row["reward_event_id"]),  # pyright: ignore
    )  # fmt: skip


def _add_redemptions(
    con: duckdb.DuckDBPyConnection,
    program_id: str,
    instructions: pl.DataFrame,
    accounts: Mapping[str, Account],
) -> None:
    """Give accounts with cancellations their earlier redemptions and the lots these took from."""
    ids = instructions.filter(pl.col("kind") == "REDEEM_CANCEL")["account_id"].unique()
    if ids.is_empty():
        return
    outcomes, taken = inputs.redemptions_of(con, program_id, ids)
    movements: dict[str, list[tuple[str | None, int]]] = {}
    for row in taken.iter_rows(named=True):
        movements.setdefault(row["journal_id"], []).append((row["lot_id"], row["points"]))
        accounts[row["account_id"]].known_lots.setdefault(row["lot_id"], _lot(row, 0))
    for row in outcomes.iter_rows(named=True):
        redemptions = accounts[row["account_id"]].redemptions
        if row["kind"] == "REDEEM":
            redemption = Redemption(row["journal_id"], movements.get(row["journal_id"], []))
            redemptions[row["reward_event_id"]] = redemption
            if row["reference"]:
                redemptions.setdefault(row["reference"], redemption)
        elif row["reference"] in redemptions:
            redemptions[row["reference"]].is_cancelled = True


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
    touched = pl.concat([events["account_id"], moved["account_id"]]).unique().sort()
    if touched.is_empty():
        return
    now = (
        touched.to_frame()
        .join(last, on="account_id", how="left")
        .join(moved, on="account_id", how="left")
        .join(states.select("account_id", "balance"), on="account_id", how="left")
        .with_columns(
            program_id=pl.lit(program_id),
            balance=pl.col("new_balance").fill_null(pl.col("balance")).fill_null(0),
        )
        .sort("account_id")
    )
    con.register("touched", touched.to_frame().to_arrow())
    con.execute(
        "delete from rewards.account_state where program_id = ? "
        "and account_id in (select account_id from touched)",
        [program_id],
    )
    con.unregister("touched")
    append(con, "account_state", now)


def _resolve_gone(con: duckdb.DuckDBPyConnection, changes: Changes) -> None:
    """Close exceptions of accounts decided again that no longer arise."""
    if not changes.redecided:
        return
    con.register("redone", pl.DataFrame({"account_id": changes.redecided}).to_arrow())
    before = con.execute(
        "select exception_id from finance.exceptions where state = 'OPEN' "
        "and type in ('OVER_REFUND', 'UNMATCHED_RETURN_REVERSAL', 'CURRENCY_MISMATCH') "
        "and right_ref in (select account_id from redone)"
    ).fetchall()
    con.unregister("redone")
    still = {
        f"{kind}:{event}" for kind, event in changes.problems.select("type", "event_id").rows()
    }
    resolve_problems(con, [name for (name,) in before if name not in still])


def _held(states: pl.DataFrame, balances: Mapping[str, int]) -> int:
    """The program's balances in all after this pass."""
    unchanged = states.filter(~pl.col("account_id").is_in(list(balances)))["balance"].sum()
    return int(unchanged) + sum(balances.values())
