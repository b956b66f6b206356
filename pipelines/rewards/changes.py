"""What new events change: new decisions, and earlier ones that a late event makes different.

Most events come after everything that their account has had before; the engine then goes on from
the account's state. An event that comes late (it sorts before one already decided, corrects an
earlier version, or takes a refund back) makes the account's whole history be decided again; what
then differs is superseded, its entry reversed and posted anew, recorded for the day on which the
late event became known. Decisions thus depend on the events alone, not on the order in which
they arrived.
"""

from dataclasses import dataclass, replace
from datetime import date

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

from pipelines.rewards import inputs
from pipelines.rewards.engine import (
    ALLOCATION_SCHEMA,
    CAP_SCHEMA,
    ORDER,
    PROBLEM_SCHEMA,
    Decided,
    State,
    decide,
    in_order,
    items_of,
)
from pipelines.rewards.facts import Facts
from pipelines.rewards.ledger import recorded_at
from pipelines.rewards.limits import LIMIT_SCHEMA
from pipelines.rewards.posting import ACTION_SCHEMA
from pipelines.rewards.rules import RuleBook
from pipelines.rewards.runs import Runs
from pipelines.rewards.spend import PROGRESS_SCHEMA, SPEND_SCHEMA
from pipelines.rewards.stored import decisions_on, given, rows_of, transactions_beside

CONTENT = (
    "rule_id", "rule_version", "rule_hash", "event_class", "zero_reason", "amount_minor",
    "eligible_minor", "cap_window_on", "cap_before", "cap_used", "points", "effective_on",
    "multiplier_milli", "refunds_transaction_id",
)  # fmt: skip
"""What makes a decision another one."""


@dataclass(frozen=True)
class Changes:
    """What one pass changes for one program.

    `decisions` are new or replace earlier ones, with `revision`, `journal_id` and
    `recorded_at`; `superseded` are the replaced rows with the `day` of their replacement;
    `actions` (`ACTION_SCHEMA`) go to the ledger. `redecided` lists the accounts that were decided
    again: their allocations, cap usage and places in this answer are all they have.
    """

    decisions: pl.DataFrame
    superseded: pl.DataFrame
    allocations: pl.DataFrame
    caps: pl.DataFrame
    problems: pl.DataFrame
    actions: pl.DataFrame
    redecided: list[str]
    spend: pl.DataFrame
    progress: pl.DataFrame
    places: pl.DataFrame


def find_changes(
    con: duckdb.DuckDBPyConnection,
    book: RuleBook,
    events: pl.DataFrame,
    states: pl.DataFrame,
    facts: Facts,
    after: date | None,
    moved: pl.DataFrame | None = None,
) -> Changes:
    """Decide the new `events` of one program (`EVENT_SCHEMA` and `day`, when they are worked).

    `states`: last event of each account; `facts`: what else is known of the accounts. `after`: the
    day that the last pass went through. `moved`: accounts with decided events that now count for
    another purchase or program, and the `day` on which that is worked. Events that another program
    had decided bring the `first_revision` that is free.
    """
    program_id = book.program.program_id
    if "first_revision" not in events.columns:
        events = events.with_columns(first_revision=pl.lit(1, dtype=pl.Int64))
    events = in_order(events)
    turns = facts.turns(events)
    if moved is not None:
        turns = pl.concat([turns, moved.select("account_id", "day")]).unique()
    events, late_days = _laps(events, states, turns, book)
    late = pl.Series("account_id", sorted(late_days), dtype=pl.String)
    events = _with_free_revisions(con, program_id, events, late)
    first = events.filter(pl.col("lap") == 0)
    decided = decide(
        first.drop("day", "lap", "first_revision"), book, _state(con, book, first, states, facts),
        is_sorted=not late_days,
    )  # fmt: skip
    current = _stamped(decided.decisions, first)
    superseded: list[pl.DataFrame] = []
    actions = _actions(current, decided.allocations, book)
    allocations, caps, problems = decided.allocations, decided.caps, decided.problems
    spend, progress, places = decided.spend, decided.progress, decided.places
    if late.len():
        stored = rows_of(con, "decisions", program_id, late)
        history = _history(con, book, late, events, after)
        is_late = pl.col("account_id").is_in(late.implode())
        redone = _redecide(book, history, events, facts, late_days, stored,
                           current.filter(is_late))  # fmt: skip
        superseded = redone.superseded
        actions = pl.concat([actions, *redone.actions])
        current = pl.concat([current.filter(~is_late), redone.decisions], how="diagonal_relaxed")
        allocations = pl.concat([allocations.filter(~is_late), redone.last.allocations])
        caps = pl.concat([caps.filter(~is_late), redone.last.caps])
        problems = pl.concat([problems.filter(~is_late), redone.last.problems])
        spend = pl.concat([spend.filter(~is_late), redone.last.spend])
        progress = pl.concat([progress.filter(~is_late), redone.last.progress])
        places = pl.concat([places.filter(~is_late), redone.last.places])
        actions = _placed(actions, current, superseded)
    return Changes(
        current,
        pl.concat(superseded, how="diagonal_relaxed") if superseded else current.clear(),
        allocations,
        caps,
        problems,
        actions,
        late.to_list(),
        spend,
        progress,
        places,
    )


def _laps(
    events: pl.DataFrame, states: pl.DataFrame, turns: pl.DataFrame, book: RuleBook
) -> tuple[pl.DataFrame, dict[str, list[date]]]:
    """Adds `lap`: how many late days the account has had up to the event's day; and those days."""
    suspects = _out_of_order(events, states).implode()
    ranked_events = events.filter(pl.col("account_id").is_in(suspects))
    before = states.filter(
        pl.col("account_id").is_in(suspects), pl.col("posted_on").is_not_null()
    ).select("account_id", *ORDER, day=pl.lit(date.min), is_new=pl.lit(False))
    ranked = (
        pl.concat([ranked_events.select("account_id", *ORDER, "day", is_new=pl.lit(True)), before])
        # An event that was decided before ranks with itself, and so counts as late.
        .sort("account_id", *ORDER, pl.col("is_new").not_())
        .with_row_index("rank")
    )
    highest = (
        ranked.group_by("account_id", "day")
        .agg(pl.col("rank").max())
        .sort("account_id", "day")
        .with_columns(before=pl.col("rank").cum_max().shift(1).over("account_id"))
        .filter(pl.col("before").is_not_null())
    )
    is_back = (pl.col("event_type") == "RETURN_REVERSAL") | (
        (pl.col("transaction_class") == "REFUND") & (pl.col("direction") == "DEBIT")
    )
    if book.rerates:
        is_back |= pl.col("direction") == "CREDIT"
    ranks = ranked.filter("is_new").select("event_id", "rank")
    late = (
        ranked_events.join(ranks, on="event_id")
        .join(highest.drop("rank"), on=["account_id", "day"], how="left")
        .filter((pl.col("rank") < pl.col("before")).fill_null(False))
        .select("account_id", "day")
    )
    corrected = events.filter((pl.col("version_no") > 1) | is_back.fill_null(False)).select(
        "account_id", "day"
    )
    days = pl.concat([late, corrected, turns]).unique().sort("account_id", "day")
    if days.is_empty():
        return events.with_columns(lap=pl.lit(0, dtype=pl.Int64)), {}
    numbered = days.with_columns(
        lap=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("account_id")
    )
    events = (
        events.sort("day")
        .join_asof(numbered.sort("day"), on="day", by="account_id", check_sortedness=False)
        .with_columns(pl.col("lap").fill_null(0))
    )
    grouped = days.group_by("account_id", maintain_order=True).agg("day")
    return events, dict(zip(grouped["account_id"], grouped["day"].to_list(), strict=True))


def _with_free_revisions(
    con: duckdb.DuckDBPyConnection, program_id: str, events: pl.DataFrame, late: pl.Series
) -> pl.DataFrame:
    """`events` with a `first_revision` above those that their ids have had.

    A corrected event goes when its account is decided again for a day before the correction was
    known, and comes back with it: its new entry needs an id of its own.
    """
    asked = events.filter(
        (pl.col("version_no") > 1) | pl.col("account_id").is_in(late.implode())
    ).select("event_id")
    if asked.is_empty():
        return events
    with given(con, asked=asked):
        had = con.execute(
            """
            select event_id, cast(max(revision) as bigint) + 1 as free_revision
            from (
                select program_id, event_id, revision from rewards.decisions
                union all
                select program_id, event_id, revision from rewards.superseded_decisions
            )
            where program_id = ? and event_id in (select event_id from asked)
            group by event_id
            """,
            [program_id],
        ).pl()
    return (
        events.join(had, on="event_id", how="left", maintain_order="left")
        .with_columns(
            first_revision=pl.max_horizontal("first_revision", pl.col("free_revision").fill_null(1))
        )
        .drop("free_revision")
    )


def _out_of_order(events: pl.DataFrame, states: pl.DataFrame) -> pl.Series:
    """Accounts whose `events`, in their order, do not become known in that order, or not all after
    the last one that was decided before."""
    is_first = pl.col("account_id").ne_missing(pl.col("account_id").shift(1))
    steps_back = events.filter(~is_first & (pl.col("day") < pl.col("day").shift(1)))["account_id"]
    firsts = events.filter(is_first).join(
        states.filter(pl.col("posted_on").is_not_null()).select(
            "account_id", **{f"{name}_before": name for name in ORDER}
        ),
        on="account_id",
    )
    follows = pl.lit(False)
    for name in reversed(ORDER):
        now, last = pl.col(name), pl.col(f"{name}_before")
        follows = (now > last) | ((now == last) & follows)
    return pl.concat([steps_back, firsts.filter(~follows)["account_id"]]).unique()


def _state(
    con: duckdb.DuckDBPyConnection, book: RuleBook, events: pl.DataFrame, states: pl.DataFrame,
    facts: Facts,
) -> State:  # fmt: skip
    """What was written of earlier passes for events that go on from it."""
    program_id = book.program.program_id
    facts = facts.without_news()
    accounts = events["account_id"].unique()
    accounts = accounts.filter(accounts.is_in(states["account_id"].implode()))
    if accounts.is_empty():
        return State(facts=facts)
    caps = pl.DataFrame(schema=CAP_SCHEMA)
    if book.has_caps:
        caps = rows_of(con, "cap_usage", program_id, accounts, CAP_SCHEMA)
    back = events.filter(pl.col("direction") == "CREDIT")
    items = {}
    if not back.is_empty() or book.carries:
        wanted = pl.concat(
            [
                back.select("account_id", "transaction_id"),
                back.select("account_id", transaction_id="refunds_transaction_id").drop_nulls(),
            ]
        ).unique()
        if book.carries:
            wanted = pl.concat([wanted, transactions_beside(con, program_id, events, wanted)])
        decisions, allocations = decisions_on(con, program_id, wanted)
        items = items_of(decisions, allocations, book, facts.statuses)
    state = State(caps, items, facts=facts)
    if "NET_SPEND_12M" in book.tier_metrics:
        spend = rows_of(con, "spend_by_month", program_id, accounts, SPEND_SCHEMA)
        state = replace(state, spend=spend)
    if book.has_bonuses:
        progress = rows_of(con, "bonus_progress", program_id, accounts, PROGRESS_SCHEMA)
        state = replace(state, progress=progress)
    if book.has_limits:
        places = rows_of(con, "limit_places", program_id, accounts, LIMIT_SCHEMA)
        state = replace(state, places=places)
    return state


def _history(
    con: duckdb.DuckDBPyConnection,
    book: RuleBook,
    accounts: pl.Series,
    events: pl.DataFrame,
    after: date | None,
) -> pl.DataFrame:
    """Events of late accounts that earlier passes have worked, as they are known now."""
    if after is None:
        return events.clear()
    return (
        inputs.events_of(con, accounts, after, book.pays)
        .filter(pl.col("program_id") == book.program.program_id)
        .drop("program_id")
        .join(events.select("event_id"), on="event_id", how="anti")
        .with_columns(
            day=pl.lit(after),
            lap=pl.lit(0, dtype=pl.Int64),
            first_revision=pl.lit(1, dtype=pl.Int64),
        )
        .select(events.columns)
    )


@dataclass
class _Redone:
    decisions: pl.DataFrame
    superseded: list[pl.DataFrame]
    actions: list[pl.DataFrame]
    last: Decided


def _redecide(
    book: RuleBook,
    history: pl.DataFrame,
    events: pl.DataFrame,
    facts: Facts,
    late_days: dict[str, list[date]],
    stored: pl.DataFrame,
    appended: pl.DataFrame,
) -> _Redone:
    """Work late days one after the other; each decides the account's history again."""
    days = pl.DataFrame(
        [(account, lap, day) for account, each in late_days.items()
         for lap, day in enumerate(each, start=1)],
        schema={"account_id": pl.String, "lap": pl.Int64, "late_day": pl.Date}, orient="row",
    )  # fmt: skip
    events = pl.concat([history, events.filter(pl.col("account_id").is_in(list(late_days)))])
    stored = stored.drop("program_id").with_columns(day=pl.lit(None, dtype=pl.Date))
    now = pl.concat([stored, appended], how="diagonal_relaxed")
    done = _Redone(now.clear(), [], [], Decided(
        now.clear(), pl.DataFrame(schema=ALLOCATION_SCHEMA), pl.DataFrame(schema=CAP_SCHEMA),
        pl.DataFrame(schema=PROBLEM_SCHEMA),
    ))  # fmt: skip
    replaced = pl.DataFrame(schema={"event_id": pl.String})
    for lap in range(1, max(map(len, late_days.values())) + 1):
        turn = days.filter(pl.col("lap") == lap).select("account_id", "late_day")
        known = events.filter(pl.col("lap") <= lap).join(turn, on="account_id")
        state = State(facts=facts.known_by(turn, "late_day"))
        again = decide(known.drop("day", "lap", "late_day", "first_revision"), book, state)
        stamped = _stamped(again.decisions, known)
        # Later laps concern few accounts: what is said of the others needs no look.
        in_turn = pl.col("account_id").is_in(turn["account_id"].implode()) | pl.col(
            "event_id"
        ).is_in(stamped["event_id"].implode())
        others = now.filter(~in_turn)
        now, fresh, gone = _replace(now.filter(in_turn), stamped, turn, book)
        now = pl.concat([others, now])
        changed = fresh.filter(~pl.col("keeps_entry"))
        done.actions.append(_actions(changed, again.allocations, book))
        if not gone.is_empty():
            done.superseded.append(gone)
            done.actions.append(_reversals(gone, book))
        replaced = pl.concat([replaced, fresh.select("event_id")]).unique()
        mine = pl.col("account_id").is_in(turn["account_id"].implode())
        done.last = Decided(
            now,
            pl.concat([done.last.allocations.filter(~mine), again.allocations]),
            pl.concat([done.last.caps.filter(~mine), again.caps]),
            pl.concat([done.last.problems.filter(~mine), again.problems]),
            pl.concat([done.last.spend.filter(~mine), again.spend]),
            pl.concat([done.last.progress.filter(~mine), again.progress]),
            pl.concat([done.last.places.filter(~mine), again.places]),
        )
    written = pl.concat([replaced, appended.select("event_id").unique()]).unique()
    done.decisions = now.join(written, on="event_id", how="semi")
    return done


def _replace(
    now: pl.DataFrame, again: pl.DataFrame, turn: pl.DataFrame, book: RuleBook
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Put what differs in `again` in the place of what is there `now`.

    Returns the decisions that hold then, those of them that are new or differ, and those that
    were replaced, with the day of their replacement. `keeps_entry` marks events whose entry in
    the ledger stands.
    """
    before, after = _signatures(now, book), _signatures(again, book)
    compared = after.join(before, on="event_id", how="left", suffix="_before")
    is_new = pl.col("content_before").is_null()
    differs = compared.filter(is_new | (pl.col("content") != pl.col("content_before")))
    events = differs.select("event_id")
    old = now.join(events, on="event_id", how="semi").join(turn, on="account_id")
    facts = differs.select(
        "event_id",
        old_revision=pl.col("revision_before"),
        old_journal_id=pl.col("journal_id_before"),
        keeps_entry=pl.col("money") == pl.col("money_before"),
        is_replacement=pl.col("content_before").is_not_null(),
    )
    fresh = again.join(facts, on="event_id", maintain_order="left").join(
        turn, on="account_id", maintain_order="left"
    )
    keeps = pl.col("keeps_entry").fill_null(False)
    revision = pl.when(pl.col("is_replacement")).then(
        pl.col("old_revision") + pl.when(keeps).then(0).otherwise(1)
    ).otherwise(pl.col("revision"))  # fmt: skip
    day = pl.when(pl.col("is_replacement")).then("late_day").otherwise("day")
    fresh = fresh.with_columns(revision=revision, day=day, keeps_entry=keeps).with_columns(
        recorded_at=recorded_at()
    )
    fresh = _numbered(fresh).with_columns(
        journal_id=pl.when("keeps_entry").then("old_journal_id").otherwise("journal_id")
    )
    gone = (
        old.join(facts.select("event_id", "keeps_entry"), on="event_id")
        .with_columns(day=pl.col("late_day"), keeps_entry=pl.col("keeps_entry").fill_null(False))
        .drop("late_day")
    )
    # What the account no longer has counts for another program now.
    lost = now.join(turn, on="account_id").join(again, on="event_id", how="anti")
    lost = lost.with_columns(day=pl.col("late_day"), keeps_entry=pl.lit(False))
    gone = pl.concat([gone, lost.select(gone.columns)])
    rest = now.join(pl.concat([events, lost.select("event_id")]), on="event_id", how="anti")
    return pl.concat([rest, fresh.select(now.columns)]), fresh, gone


def _signatures(decisions: pl.DataFrame, book: RuleBook) -> pl.DataFrame:
    """Per event: its decisions' content as text, what of it moves points, revision and entry."""
    text = pl.concat_str(
        [pl.col(name).cast(pl.String).fill_null("") for name in CONTENT], separator="|"
    )
    waits = _waits(decisions, book) if book.program.waits else pl.lit(0)
    money = pl.concat_str(
        "points", "funding_partner_bps", "effective_on", "event_class", "waits", separator="|"
    ).filter(pl.col("points") != 0)
    return (
        decisions.with_columns(text=text, waits=waits)
        .group_by("event_id")
        .agg(
            content=pl.col("text").sort_by("rule_id").str.join("\n"),
            money=money.sort().str.join("\n"),
            revision=pl.col("revision").first(),
            journal_id=pl.col("journal_id").first(),
        )
    )


def _stamped(decisions: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Adds day, revision and the entry's id to freshly made decisions."""
    others = events.filter(
        (pl.col("day") != pl.col("known_on")) | (pl.col("first_revision") > 1)
    ).select("event_id", "day", revision="first_revision")
    if others.is_empty():
        stamped = decisions.with_columns(day=pl.col("known_on"), revision=pl.lit(1, dtype=pl.Int64))
    else:
        stamped = decisions.join(
            others, on="event_id", how="left", maintain_order="left"
        ).with_columns(pl.col("day").fill_null(pl.col("known_on")), pl.col("revision").fill_null(1))
    return _numbered(stamped.with_columns(recorded_at=recorded_at()).drop("known_on"))


def _numbered(decisions: pl.DataFrame) -> pl.DataFrame:
    """Ids of decisions and of the entry that their event leads to, if it moves points; decisions
    of an event stand together."""
    events = Runs.of(decisions["event_id"])
    moves = events.sums(decisions["points"].to_numpy()) != 0
    earns = pl.col("event_class") == "EARN"
    name = pl.when(earns).then(pl.lit("accrual")).otherwise(pl.lit("clawback"))
    entry = pl.concat_str(name, "event_id", "revision", separator=":").alias("journal_id")
    heads = decisions.select("event_id", "event_class", "revision")[events.start[moves]]
    entries = heads.select(entry).to_series().extend_constant(None, 1)
    at = np.where(moves, np.cumsum(moves) - 1, heads.height)
    return decisions.with_columns(
        entries.gather(events.spread(at)),
        decision_id=pl.concat_str("event_id", "rule_id", "revision", separator=":"),
    )


def _actions(decisions: pl.DataFrame, allocations: pl.DataFrame, book: RuleBook) -> pl.DataFrame:
    """One action per event whose decisions move points; decisions of an event stand together."""
    rows = decisions["journal_id"].is_not_null().arg_true().to_numpy()
    moving = decisions.select(
        "event_id", "rule_id", "rule_version", "points", "funding_partner_bps"
    )[rows]  # fmt: skip
    events = Runs.of(moving["event_id"])
    points = moving["points"].to_numpy()
    kind, funders = moving["funding_partner_bps"].to_numpy(), 10_000 + 1
    if book.program.waits:
        kind = kind + funders * _waits(moving, book).to_numpy()
    event, kind, parts = _parts(events, kind, points)
    ends = np.append(Runs.of(event).start, len(event))
    heads = decisions.select(
        "account_id", "day", "event_id", "version_no", "revision", "event_class", "effective_on",
        "rule_hash", "journal_id",
    )[rows[events.start]]  # fmt: skip
    heads = heads.with_columns(
        _listed("funding_partner_bps", kind % funders, ends),
        _listed("parts", parts, ends),
        points=events.sums(points),
        bonus=events.sums(points * moving["rule_id"].is_in(book.awards).to_numpy()),
        place=pl.int_range(pl.len(), dtype=pl.Int64),
        reverses=pl.lit(False),
    )
    if book.program.waits:
        waits = pl.col("waits")
        heads = heads.with_columns(_listed("waits", kind // funders, ends)).with_columns(
            pl.when(waits.list.max() > 0).then(waits)
        )
    else:
        heads = heads.with_columns(waits=pl.lit(None))
    items = allocations.group_by("event_id").agg(
        item_event_ids=pl.col("item_event_id").unique(maintain_order=True)
    )
    # Only events that give back what others have earned can have any, and these are few.
    takes = heads["event_class"] != "EARN"
    found = heads.filter(takes).join(items, on="event_id", how="left", maintain_order="left")
    at = pl.select(pl.when(takes).then(takes.cast(pl.Int64).cum_sum() - 1)).to_series()
    return heads.with_columns(found["item_event_ids"].gather(at)).select(
        pl.col(name).cast(kind) for name, kind in ACTION_SCHEMA.items()
    )


def _waits(decisions: pl.DataFrame, book: RuleBook) -> pl.Series:
    """The days that the points of each decision wait before they may be spent."""
    known = pl.DataFrame(
        [(*rule, days) for rule, days in book.program.waits.items()], orient="row",
        schema={"rule_version": pl.Int64, "rule_id": pl.String, "days": pl.Int64},
    )  # fmt: skip
    found = decisions.join(known, on=["rule_version", "rule_id"], how="left", maintain_order="left")
    return found["days"].fill_null(0)


def _parts(
    events: Runs, kind: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points by event and `kind` (not negative), in the order of the decisions: the number of the
    event, kind and points."""
    parts = Runs.of(events.number() * (int(kind.max(initial=0)) + 1) + kind)
    event, kind = events.number()[parts.start], kind[parts.start]
    points = parts.sums(points)
    if np.bincount(event, minlength=1).max() <= 2:
        return event, kind, points
    # Of three parts the first and the last may be of one kind.
    by_kind = (
        pl.DataFrame({"event": event, "kind": kind, "points": points})
        .group_by("event", "kind", maintain_order=True)
        .agg(pl.col("points").sum())
    )
    return tuple(column.to_numpy() for column in by_kind)  # pyright: ignore[reportReturnType]


def _listed(name: str, values: np.ndarray, ends: np.ndarray) -> pl.Series:
    """`values` as lists, the first from `ends[0]` to `ends[1]` and so on."""
    lists = pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), pa.array(values, pa.int64()))
    return pl.Series(name, lists)


def _reversals(gone: pl.DataFrame, book: RuleBook) -> pl.DataFrame:
    """Actions that take back the entries of replaced decisions."""
    lost = gone.filter(~pl.col("keeps_entry")).sort("event_id", maintain_order=True)
    no_items = pl.DataFrame(schema=ALLOCATION_SCHEMA)
    # Replaced decisions that kept their entry carry the revision of that entry.
    return _actions(lost, no_items, book).with_columns(reverses=pl.lit(True))


def _placed(
    actions: pl.DataFrame, current: pl.DataFrame, superseded: list[pl.DataFrame]
) -> pl.DataFrame:
    """Actions with their place in the account's day: the events' order, reversals first."""
    columns = ["event_id", "event_at", "transaction_id", "effective_on"]
    place = (
        pl.concat([current.select(columns), *(each.select(columns) for each in superseded)])
        .unique("event_id", keep="first", maintain_order=True)
        .sort("effective_on", "event_at", "transaction_id", "event_id")
        .select("event_id")
        .with_row_index("order")
    )
    return (
        actions.drop("place")
        .join(place, on="event_id", how="left", maintain_order="left")
        .with_columns(
            place=pl.col("order").cast(pl.Int64) * 100
            + pl.col("revision").clip(upper_bound=49) * 2
            + pl.col("reverses").cast(pl.Int64)
        )
        .select(ACTION_SCHEMA.names())
    )
