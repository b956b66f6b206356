"""The earning engine: posted events in, decisions out. A pure function over columns.

`decide` takes the events of one program (any accounts, any order) and the state that earlier
events of the same accounts left, and returns one decision set for every event. Events are worked
in the order (posted_on, event_at, transaction_id, event_id) within each account. Accounts do not
depend on one another, so any grouping by account gives the same answer.

Purchases, and refunds that each refund one of them, are decided in columns (`columns.py`). Where
events of an account depend on one another in other ways, they go through `fold.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import polars as pl

from pipelines.rewards.columns import (
    CAP_SCHEMA,
    CLASS_CODE,
    CLASSES,
    ELIGIBLE,
    NO_DAY,
    REASON_CODE,
    REASONS,
    Batch,
    Caps,
    Columns,
    Refunds,
)
from pipelines.rewards.facts import Facts, cures_delayed, period_of, statement_of, status_at
from pipelines.rewards.fold import AccountFold, Allocation, Grant, Item, Problem, Row
from pipelines.rewards.limits import LIMIT_SCHEMA, held_to_limits
from pipelines.rewards.rules import EPOCH, Kind, Look, Plan, RuleBook
from pipelines.rewards.runs import ranks, sorted_by
from pipelines.rewards.spend import (
    PROGRESS_SCHEMA,
    SPEND_SCHEMA,
    award,
    by_month,
    net_spend,
    tier_of,
)

ORDER = ("posted_on", "event_at", "transaction_id", "event_id")
LOOKS = (
    "event_type", "direction", "transaction_class", "currency", "mcc", "partner_id",
    "merchant_country",
)  # fmt: skip

EVENT_SCHEMA = pl.Schema(
    {
        "event_id": pl.String,
        "transaction_id": pl.String,
        "account_id": pl.String,
        "event_type": pl.String,
        "event_at": pl.Datetime("us"),
        "posted_on": pl.Date,
        "amount_minor": pl.Int64,
        "currency": pl.String,
        "direction": pl.String,
        "transaction_class": pl.String,
        "mcc": pl.String,
        "merchant_id": pl.String,
        "merchant_country": pl.String,
        "partner_id": pl.String,
        "refunds_transaction_id": pl.String,
        "version_no": pl.Int64,
        "known_on": pl.Date,
    }
)
"""What `decide` reads of an event; `known_on` is carried through."""

DECISION_SCHEMA = pl.Schema(
    {
        "account_id": pl.String,
        "transaction_id": pl.String,
        "event_id": pl.String,
        "event_at": pl.Datetime("us"),
        "version_no": pl.Int64,
        "rule_id": pl.String,
        "rule_version": pl.Int64,
        "rule_hash": pl.String,
        "event_class": pl.String,
        "is_eligible": pl.Boolean,
        "zero_reason": pl.String,
        "amount_minor": pl.Int64,
        "eligible_minor": pl.Int64,
        "cap_share_key": pl.String,
        "cap_window_on": pl.Date,
        "cap_before": pl.Int64,
        "cap_used": pl.Int64,
        "points": pl.Int64,
        "funding_partner_bps": pl.Int64,
        "multiplier_milli": pl.Int64,
        "basis_on": pl.Date,
        "effective_on": pl.Date,
        "refunds_transaction_id": pl.String,
        "known_on": pl.Date,
    }
)
ALLOCATION_SCHEMA = pl.Schema(
    {
        "account_id": pl.String,
        "event_id": pl.String,
        "item_event_id": pl.String,
        "rule_id": pl.String,
        "amount_minor": pl.Int64,
        "limit_change": pl.Int64,
        "restored": pl.Int64,
        "item_basis_on": pl.Date,
    }
)
PROBLEM_SCHEMA = pl.Schema(
    {
        "account_id": pl.String,
        "event_id": pl.String,
        "type": pl.String,
        "amount_minor": pl.Int64,
        "currency": pl.String,
        "known_on": pl.Date,
    }
)

ITEM_COLUMNS = (
    "account_id", "transaction_id", "event_id", "event_at", "rule_id", "rule_version",
    "event_class", "is_eligible", "zero_reason", "amount_minor", "cap_window_on", "cap_used",
    "multiplier_milli", "basis_on", "effective_on",
)  # fmt: skip
"""What `items_of` reads of a decision."""

_SAFE = 2**61


@dataclass(frozen=True)
class State:
    """What earlier events left of the accounts at hand.

    `caps`: usage per share key and window (`CAP_SCHEMA`). `places`: merchants that have a place
    under a limit (`LIMIT_SCHEMA`). `items`: the purchases that refunds may
    still reach, by (account, transaction). `spend` (`SPEND_SCHEMA`) and `progress`
    (`PROGRESS_SCHEMA`): towards tiers and sign-up bonuses. `facts`: what else is known of the
    accounts; a statement period in it is judged, so all events of the period must be at hand.
    """

    caps: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=CAP_SCHEMA))
    items: Mapping[tuple[str, str], list[Item]] = field(default_factory=dict)
    spend: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SPEND_SCHEMA))
    progress: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PROGRESS_SCHEMA))
    facts: Facts = field(default_factory=Facts)
    places: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=LIMIT_SCHEMA))


@dataclass(frozen=True)
class Decided:
    """The engine's answer: frames of the schemas above.

    `decisions` is ordered by account and event, and within an event by rule. `caps` holds the
    usage of every window that was touched, as it is now; `spend` and `progress` likewise. `places`
    are those that merchants have taken under limits.
    """

    decisions: pl.DataFrame
    allocations: pl.DataFrame
    caps: pl.DataFrame
    problems: pl.DataFrame
    spend: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SPEND_SCHEMA))
    progress: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PROGRESS_SCHEMA))
    places: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=LIMIT_SCHEMA))


def decide(
    events: pl.DataFrame, book: RuleBook, state: State | None = None, is_sorted: bool = False
) -> Decided:
    """One decision set for each of `events` (`EVENT_SCHEMA`), all of `book`'s program.

    `is_sorted`: they stand in the order of account_id and `ORDER` already.
    """
    state = state or State()
    if events.is_empty():
        return Decided(
            pl.DataFrame(schema=DECISION_SCHEMA), pl.DataFrame(schema=ALLOCATION_SCHEMA),
            pl.DataFrame(schema=CAP_SCHEMA), pl.DataFrame(schema=PROBLEM_SCHEMA),
        )  # fmt: skip
    if not is_sorted:
        events = in_order(events)
    events = _with_basis(events, book)
    plans, plan_of, spend, places = _plans(events, book, state)
    caps = Caps(events, state.caps, book)
    used_before = dict(caps.used)
    batch = Batch(events, plans, plan_of, book, caps)
    split = _split(batch, state.items)
    bought = batch.purchases(np.flatnonzero(~split.in_fold & (split.refund_of == _NO_REFUND)))
    refund_rows = np.flatnonzero(split.refund_of != _NO_REFUND)
    refunds = batch.refunds(refund_rows, split.refund_of[refund_rows])
    folded = _fold(batch, np.flatnonzero(split.in_fold), state)
    found = Columns.together([bought, refunds.decisions, _as_columns(folded.rows)])
    if book.has_caps and (len(refund_rows) or folded.rows):
        batch.count_caps(found, used_before)
    decisions = _decisions(events, found, book)
    taken = _allocations(events, refunds, folded)
    progress = state.progress.clear()
    if book.has_bonuses:
        decisions, progress = award(decisions, taken, state.facts.openings, state.progress, book)
    problems = _problems(batch, refunds, folded)
    return Decided(decisions, taken, caps.frame(), problems, spend, progress, places)


def in_order(events: pl.DataFrame) -> pl.DataFrame:
    """`events` by account_id and `ORDER`."""
    numbers = [ranks(events["account_id"]), events["posted_on"].to_physical().to_numpy()]
    return sorted_by(events, numbers, list(ORDER[1:]))


def _with_basis(events: pl.DataFrame, book: RuleBook) -> pl.DataFrame:
    """Adds `basis_on`, the day that picks the terms: posted, or made in the program's zone."""
    zone = book.program.latest.timezone
    made_on = (
        pl.col("event_at").dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.date()
        if zone != "UTC"
        else pl.col("event_at").dt.date()
    )
    versions = [version.terms for version in book.program.versions]
    if all(terms.date_basis == "POSTING_DATE" for terms in versions):
        return events.with_columns(basis_on=pl.col("posted_on"))
    if all(terms.date_basis == "TRANSACTION_DATE" for terms in versions):
        return events.with_columns(basis_on=made_on)
    # The basis changed between versions: each version claims the events that its own date puts
    # in its days, the newest first.
    basis = made_on
    for index, terms in enumerate(versions):
        day = pl.col("posted_on") if terms.date_basis == "POSTING_DATE" else made_on
        ends = book.program.valid_to(index)
        inside = (day >= terms.valid_from) & (pl.lit(True) if ends is None else day <= ends)
        basis = pl.when(inside).then(day).otherwise(basis)
    return events.with_columns(basis_on=basis)


def _plans(
    events: pl.DataFrame, book: RuleBook, state: State
) -> tuple[list[Plan], np.ndarray, pl.DataFrame, pl.DataFrame]:
    """The distinct plans, for each event which one applies, net spend by month, and the places
    that merchants have taken under limits."""

    def planned(told: pl.DataFrame) -> tuple[list[Plan], np.ndarray, pl.DataFrame]:
        plans, plan_of = _plans_for(events, book, told)
        if book.has_limits:
            return held_to_limits(events, plans, plan_of, state.places)
        return plans, plan_of, state.places.clear()

    told = _told(events, book, state.facts)
    plans, plan_of, places = planned(told)
    spend = state.spend.clear()
    if "NET_SPEND_12M" in book.tier_metrics:
        # What is eligible does not depend on the tier, so it can be counted first.
        moves = net_spend(events, plans, plan_of)
        spend = by_month(state.spend, moves)
        tier = tier_of(events, state.spend, moves, book).alias("tier")
        plans, plan_of, places = planned(told.with_columns(tier))
    return plans, plan_of, spend, places


def _told(events: pl.DataFrame, book: RuleBook, facts: Facts) -> pl.DataFrame:
    """Further columns that plans depend on: offers taken up, the account's record, its gates."""
    told = events.select("event_id")
    taken_up = facts.activations["offer_id"].unique()
    told = told.with_columns(
        _activated(events, facts.activations, offer, book).alias(f"offer:{offer}")
        for offer in book.offers
        if offer in taken_up
    )
    if book.asks_standing or "ACCOUNT_TIER" in book.tier_metrics:
        statuses = facts.statuses
        if book.resumes_by_cycle:
            statuses = cures_delayed(statuses, book)
        told = pl.concat([told, status_at(events, statuses)], how="horizontal")
    if book.has_gates and not facts.statements.is_empty():
        told = told.with_columns(_short(events, book, facts.statements))
    return told.drop("event_id")


def _short(events: pl.DataFrame, book: RuleBook, statements: pl.DataFrame) -> pl.Series:
    """Whether an event was posted in a statement period that has too few purchases."""
    periods = statement_of(events, statements)
    allowed = {name for version in book.program.versions
               for name in version.terms.eligibility.txn_class}  # fmt: skip
    is_purchase = (
        pl.col("transaction_class").is_in(sorted(allowed))
        & (pl.col("direction") == "DEBIT")
        & (pl.col("event_type") != "RETURN_REVERSAL")
    )
    needed = {
        day: max((gate.n for gate in book.terms_on(day).gates), default=0)
        for day in periods["ends_on"].unique().drop_nulls().to_list()
    }
    return (
        pl.concat([events, periods], how="horizontal")
        .select(
            pl.col("transaction_id").filter(is_purchase).n_unique().over("account_id", "ends_on")
            .alias("count"),
            pl.col("ends_on").replace_strict(needed, default=0, return_dtype=pl.Int64)
            .alias("needed"),
        )
        .select((pl.col("count") < pl.col("needed")).alias("is_short"))
        .to_series()
    )  # fmt: skip


def _plans_for(
    events: pl.DataFrame, book: RuleBook, told: pl.DataFrame
) -> tuple[list[Plan], np.ndarray]:
    boundaries = np.array(book.boundaries, dtype="datetime64[D]")
    segment = np.searchsorted(boundaries, events["basis_on"].to_numpy(), side="right")
    looks = events.select(*LOOKS, pl.Series("segment", segment))
    if book.matches_merchants:
        looks = looks.with_columns(events["merchant_id"])
    if told.width:
        looks = pl.concat([looks, told], how="horizontal")
    row = pl.col("row").first().over(looks.columns)
    first = looks.with_row_index("row").select(row).to_series().to_numpy()
    is_first = first == np.arange(len(first))
    plan_of = (np.cumsum(is_first) - 1)[first]
    days = [book.boundaries[0] - timedelta(days=1), *book.boundaries]
    plans = []
    for look in looks.filter(pl.Series(is_first)).iter_rows(named=True):
        activated = frozenset(offer for offer in book.offers if look.get(f"offer:{offer}"))
        plans.append(
            book.plan(
                Look(
                    days[look["segment"]],
                    merchant_id=look.get("merchant_id"),
                    activated=activated,
                    status=look.get("status"),
                    substatus=look.get("substatus"),
                    tier=look.get("tier"),
                    is_short=look.get("is_short", False),
                    **{name: look[name] for name in LOOKS},
                )
            )
        )
    return plans, plan_of


def _activated(
    events: pl.DataFrame, activations: pl.DataFrame, offer: str, book: RuleBook
) -> pl.Series:
    """Whether each event's account has `offer`: of the offers it chooses from, the last one."""
    taken = activations.filter(pl.col("offer_id").is_in(book.rivals[offer]))
    until = pl.lit(book.retroactive[offer]) if offer in book.retroactive else pl.col("basis_on")
    asked = events.select("account_id", until=until)
    if len(book.rivals[offer]) == 1:
        since = taken.group_by("account_id").agg(pl.col("activated_on").min())
        return (
            asked.join(since, on="account_id", how="left", maintain_order="left")
            .select((pl.col("activated_on") <= pl.col("until")).fill_null(False))
            .to_series()
        )
    return (
        asked.with_row_index("row")
        .sort("until")
        .join_asof(
            taken.sort("activated_on", "activated_at", "offer_id"), left_on="until",
            right_on="activated_on", by="account_id", check_sortedness=False,
        )
        .sort("row")
        .select((pl.col("offer_id") == offer).fill_null(False))
        .to_series()
    )  # fmt: skip


@dataclass(frozen=True)
class _Split:
    """By event: whether it is decided one after the other with others of its account; and where
    it is a refund that is decided in columns, the row of its purchase or `_STRAY`."""

    in_fold: np.ndarray
    refund_of: np.ndarray


_NO_REFUND, _STRAY = -2, -1


def _split(batch: Batch, items: Mapping[tuple[str, str], list[Item]]) -> _Split:
    """Which events go through the fold.

    A refund stays out of it where it refunds one purchase of this batch, or none that is known, and
    nothing else of the account depends on the order: no refund is taken back, none is of several
    clearings or of an earlier batch, and no cap of what is refunded may be reached.
    """
    events, book = batch.events, batch.book
    size = events.height
    refund_of = np.full(size, _NO_REFUND)
    if book.needs_fold or _may_overflow(events, book):
        return _Split(np.ones(size, dtype=bool), refund_of)
    capped = batch.of_plans([any(rule.cap for rule in plan.rules) for plan in batch.plans])
    in_fold = capped if book.caps_change else np.zeros(size, dtype=bool)
    back = (batch.kind == Kind.TAKE_BACK) | (batch.kind == Kind.UNDO)
    if not back.any():
        return _Split(in_fold, refund_of)
    reached, of = _refunded(batch, back, items)
    account = batch.caps.account_code
    beside = capped & _marked(account, account[back])
    limited = beside
    if not book.rerates:
        limited = np.zeros(size, dtype=bool)
        rows = np.flatnonzero(beside)
        limited[rows[batch.at_a_limit(rows)]] = True
    plain = (batch.kind == Kind.TAKE_BACK) & (of < np.arange(size))
    # Neither a stray's place, -1, nor that of several, the number of events, is limited.
    plain &= ~np.append(limited, False)[of]
    if book.rerates or book.caps_change or book.rates_returns_anew:
        plain[:] = False
    tangled = _marked(account, account[back & ~plain])
    refund_of[back & ~tangled] = of[back & ~tangled]
    return _Split(in_fold | (tangled & (back | reached | limited)), refund_of)


def _may_overflow(events: pl.DataFrame, book: RuleBook) -> bool:
    """Whether amounts are so large that sums or products of them may not fit 64 bits."""
    steepest = max(
        max(rule.numerator, rule.plain[0] * rule.multiplier_milli) for rule in book.rules
    )
    largest = int(events["amount_minor"].max() or 0)  # pyright: ignore[reportArgumentType]
    return largest * max(steepest * 2, events.height) >= _SAFE


def _marked(code: np.ndarray, those: np.ndarray) -> np.ndarray:
    """Which elements of `code`, whole numbers from zero on, are among `those`."""
    marks = np.zeros(int(code.max(initial=0)) + 1, dtype=bool)
    marks[those] = True
    return marks[code]


def _refunded(
    batch: Batch, back: np.ndarray, items: Mapping[tuple[str, str], list[Item]]
) -> tuple[np.ndarray, np.ndarray]:
    """Which events a refund names, and by event the row of the purchase that it refunds.

    `_STRAY` where no purchase is known; the number of events where there are several, or where the
    purchase is one of `items`, from an earlier batch.
    """
    several = batch.events.height
    key = ["account_id", "transaction_id"]
    frame = batch.events.select(*key, "refunds_transaction_id")
    backs = frame.filter(pl.Series(back))
    refunded = backs.select("account_id", transaction_id="refunds_transaction_id")
    wanted = pl.concat([backs.select(key), refunded]).unique()
    reached = np.zeros(several, dtype=bool)
    # Most events are left out by one id, so that few are looked up by both.
    near = pl.col("transaction_id").is_in(wanted["transaction_id"].implode())
    reached[
        frame.with_row_index("row").filter(near).join(wanted, on=key, how="semi")["row"].to_numpy()
    ] = True
    rows = np.flatnonzero(reached & (batch.kind == Kind.EARN))
    known = pl.DataFrame(
        list(items), schema={"account_id": pl.String, "transaction_id": pl.String}, orient="row"
    )
    bought = (
        pl.concat(
            [
                frame[rows].select(key).with_columns(pl.Series("row", rows)),
                known.with_columns(row=pl.lit(several, dtype=pl.Int64)),
            ]
        )
        .group_by(key)
        .agg(pl.when(pl.len() == 1).then(pl.col("row").first()).otherwise(several).alias("row"))
    )
    of = np.full(several, _STRAY)
    own, named = (
        each.join(bought, on=key, how="left", maintain_order="left")["row"]
        for each in (backs.select(key), refunded)
    )
    of[back] = pl.select(pl.coalesce(named, own, _STRAY)).to_series().to_numpy()
    return reached, of


@dataclass(frozen=True)
class _Folded:
    """What the fold says: decisions, allocations and problems."""

    rows: list[Row]
    allocations: list[Allocation]
    problems: list[Problem]


def _fold(batch: Batch, rows: np.ndarray, state: State) -> _Folded:
    """Decisions of the events `rows`, account by account and event by event."""
    folded = _Folded([], [], [])
    if not len(rows):
        return folded
    book, caps = batch.book, batch.caps
    part = batch.events[rows]
    if book.carries:
        part = part.with_columns(period_of(part, state.facts.statuses))
    known_items: dict[str, dict[str, list[Item]]] = {}
    for (account, transaction), found in state.items.items():
        known_items.setdefault(account, {})[transaction] = found
    fold: AccountFold | None = None
    current = -1
    periods = part["period"].to_list() if book.carries else [None] * part.height
    for row, account, plan_id, event_id, account_id, own, refunds, day, amount, period in zip(
        rows.tolist(), caps.account_code[rows].tolist(), batch.plan_of[rows].tolist(),
        part["event_id"].to_list(), part["account_id"].to_list(),
        part["transaction_id"].to_list(), part["refunds_transaction_id"].to_list(),
        part["basis_on"].to_list(), part["amount_minor"].to_list(), periods, strict=True,
    ):  # fmt: skip
        if account != current:
            if fold is not None:
                caps.store(current, fold.caps)
            current = account
            fold = AccountFold(
                book, caps.of_account(account), dict(known_items.get(account_id, {})),
                rows=folded.rows, allocations=folded.allocations, problems=folded.problems,
            )  # fmt: skip
        assert fold is not None
        fold.apply(row, event_id, own, refunds, day, amount, batch.plans[plan_id], period)
    if fold is not None:
        caps.store(current, fold.caps)
    return folded


def _as_columns(rows: list[Row]) -> Columns:
    def ints(values: Iterable[int]) -> np.ndarray:
        return np.fromiter(values, dtype=np.int64, count=len(rows))

    def given(value: int | None, otherwise: int) -> int:
        return otherwise if value is None else value

    return Columns(
        ints(row.row for row in rows),
        ints(row.rule.index for row in rows),
        ints(CLASS_CODE[row.event_class] for row in rows),
        ints(REASON_CODE[row.zero_reason] for row in rows),
        ints(row.eligible_minor for row in rows),
        ints(row.points for row in rows),
        ints(given(row.window_start, NO_DAY) for row in rows),
        ints(given(row.cap_before, -1) for row in rows),
        ints(given(row.cap_used, 0) for row in rows),
    )


def _decisions(events: pl.DataFrame, found: Columns, book: RuleBook) -> pl.DataFrame:
    """The arrays as the frame of `DECISION_SCHEMA`."""
    versions = book.program.versions
    rules = pl.DataFrame(
        {
            "rule_id": [rule.rule_id for rule in book.rules],
            "rule_version": [versions[rule.version_index].terms.version for rule in book.rules],
            "rule_hash": [versions[rule.version_index].rule_hash for rule in book.rules],
            "cap_share_key": [rule.cap.share_key if rule.cap else None for rule in book.rules],
            "funding_partner_bps": [rule.funding_partner_bps for rule in book.rules],
            "multiplier_milli": [rule.multiplier_milli for rule in book.rules],
        },
        schema={name: DECISION_SCHEMA[name] for name in (
            "rule_id", "rule_version", "rule_hash", "cap_share_key", "funding_partner_bps",
            "multiplier_milli",
        )},
    )[found.rule]  # fmt: skip
    refuses = np.array([rule.limit is not None for rule in book.rules])[found.rule]
    picked = events.select(
        "account_id", "transaction_id", "event_id", "event_at", "version_no", "amount_minor",
        "basis_on", "known_on", "refunds_transaction_id", effective_on=pl.col("posted_on"),
    )[found.row]  # fmt: skip
    reasons = pl.DataFrame(
        {"zero_reason": REASONS, "is_eligible": [reason in ELIGIBLE for reason in REASONS]},
        schema={"zero_reason": pl.String, "is_eligible": pl.Boolean},
    )[found.reason]
    numbers = pl.DataFrame(
        {
            "event_class": pl.Series(CLASSES).gather(found.event_class.astype(np.uint32)),
            "eligible_minor": found.eligible,
            "points": found.points,
            "cap_window_on": found.window.astype(np.int32),
            "cap_before": found.cap_before,
            "cap_used": found.cap_used,
        }
    )
    has_cap = pl.Series(found.has_cap)
    return (
        pl.concat([picked, rules, reasons, numbers], how="horizontal")
        .with_columns(
            cap_share_key=pl.when(has_cap).then("cap_share_key"),
            cap_window_on=pl.when(has_cap).then(pl.col("cap_window_on").cast(pl.Date)),
            cap_before=pl.when(has_cap & (pl.col("cap_before") >= 0)).then("cap_before"),
            cap_used=pl.when(has_cap).then("cap_used"),
            is_eligible=pl.col("is_eligible") & ~pl.Series(refuses),
        )
        .select(pl.col(name).cast(kind) for name, kind in DECISION_SCHEMA.items())
    )


def _allocations(events: pl.DataFrame, refunds: Refunds, folded: _Folded) -> pl.DataFrame:
    """All allocations (`ALLOCATION_SCHEMA`) in the order of the refunds."""
    found = pl.DataFrame(
        [
            (each.row, each.item_event_id, each.rule_id, each.amount, each.limit_change,
             each.restored, each.item_basis_on)
            for each in folded.allocations
        ],
        schema=refunds.allocations.schema, orient="row",
    )  # fmt: skip
    found = pl.concat([refunds.allocations, found]).sort("row", maintain_order=True)
    picked = events.select("account_id", "event_id")[found["row"]]
    return pl.concat([picked, found.drop("row")], how="horizontal").select(
        ALLOCATION_SCHEMA.names()
    )


def _problems(batch: Batch, refunds: Refunds, folded: _Folded) -> pl.DataFrame:
    """All problems (`PROBLEM_SCHEMA`) in the order of the events."""
    kinds = [plan.problem for plan in batch.plans]
    told = np.flatnonzero(batch.of_plans([kind is not None for kind in kinds]))
    found = pl.concat(
        [
            pl.DataFrame(
                {"row": told, "type": [kinds[plan] for plan in batch.plan_of[told]],
                 "amount_minor": batch.amount[told]},
                schema_overrides={"type": pl.String},
            ),
            refunds.over.select("row", pl.lit("OVER_REFUND").alias("type"), "amount_minor"),
            pl.DataFrame(
                [(each.row, each.type, each.amount) for each in folded.problems],
                schema={"row": pl.Int64, "type": pl.String, "amount_minor": pl.Int64},
                orient="row",
            ),
        ]
    ).sort("row", maintain_order=True)  # fmt: skip
    picked = batch.events.select("account_id", "event_id", "currency", "known_on")[found["row"]]
    return pl.concat([picked, found.drop("row")], how="horizontal").select(PROBLEM_SCHEMA.names())


def items_of(
    decisions: pl.DataFrame, allocations: pl.DataFrame, book: RuleBook, statuses: pl.DataFrame
) -> dict[tuple[str, str], list[Item]]:
    """The purchases of earlier `decisions` as refunds find them, after earlier `allocations`.

    Both frames may hold more than what is asked for; only purchases count. `decisions` has the
    columns `ITEM_COLUMNS`; `statuses` (`STATUS_SCHEMA`) tell statement periods.
    """
    items: dict[str, Item] = {}
    by_transaction: dict[tuple[str, str], list[Item]] = {}
    grants: dict[tuple[str, str], Grant] = {}
    earned = decisions.filter(pl.col("event_class") == "EARN").sort(
        "account_id", "effective_on", "event_at", "transaction_id", "event_id", maintain_order=True
    )
    if book.carries:
        posted = earned.select("account_id", "event_at", posted_on="effective_on")
        earned = earned.with_columns(period_of(posted, statuses))
    for each in earned.iter_rows(named=True):
        rule = book.by_number(each["rule_version"], each["rule_id"], each["multiplier_milli"])
        if rule is None or rule.award:
            continue
        event_id = each["event_id"]
        item = items.get(event_id)
        if item is None:
            told_under = rule if rule.limit else book.base(rule.version_index)
            amount = each["amount_minor"]
            item = Item(
                event_id, amount, amount, None, told_under, [], None, each["basis_on"],
                each.get("period"),
            )  # fmt: skip
            items[event_id] = item
            key = (each["account_id"], each["transaction_id"])
            by_transaction.setdefault(key, []).append(item)
        floor = book.program.versions[rule.version_index].terms.earn.floor
        if floor is not None and floor.id == each["rule_id"]:
            minimum = floor.min_points * book.program.latest.units_per_point
            item.floor = (rule, minimum)
            continue
        if not each["is_eligible"]:
            if each["rule_id"] == item.told_under.rule_id:
                item.zero_reason = each["zero_reason"]
            continue
        limit = each["cap_used"] if rule.cap else None
        window = (each["cap_window_on"] - EPOCH).days if each["cap_window_on"] else 0
        grant = Grant(rule, limit, limit, 0, window)
        item.grants.append(grant)
        grants[event_id, rule.rule_id] = grant
    for each in allocations.iter_rows(named=True):
        item = items.get(each["item_event_id"])
        if item is None:
            continue
        if each["rule_id"] == item.told_under.rule_id:
            item.left -= each["amount_minor"]
        grant = grants.get((each["item_event_id"], each["rule_id"]))
        if grant is not None and grant.limit is not None:
            grant.limit += each["limit_change"]
            grant.restored += each["restored"]
    return by_transaction
