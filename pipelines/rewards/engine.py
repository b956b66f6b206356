"""The earning engine: posted events in, decisions out. A pure function over columns.

`decide` takes the events of one program (any accounts, any order) and the state that earlier
events of the same accounts left, and returns one decision set for every event. Events are worked
in the order (posted_on, event_at, transaction_id, event_id) within each account. Accounts do not
depend on one another, so any grouping by account gives the same answer.

Events that depend on nothing but their own look and a running cap are decided in columns; refunds,
what they refund and the capped purchases of the same accounts go through `fold.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import polars as pl

from pipelines.rewards.facts import Facts, cures_delayed, period_of, statement_of, status_at
from pipelines.rewards.fold import AccountFold, Allocation, Grant, Item, Problem, Row
from pipelines.rewards.rules import EPOCH, Kind, Look, Plan, RuleBook
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
CAP_SCHEMA = pl.Schema(
    {
        "account_id": pl.String,
        "share_key": pl.String,
        "window_on": pl.Date,
        "used": pl.Int64,
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

_NO_DAY = np.iinfo(np.int32).min
_SAFE = 2**61


@dataclass(frozen=True)
class State:
    """What earlier events left of the accounts at hand.

    `caps`: usage per share key and window (`CAP_SCHEMA`). `items`: the purchases that refunds may
    still reach, by (account, transaction). `spend` (`SPEND_SCHEMA`) and `progress`
    (`PROGRESS_SCHEMA`): towards tiers and sign-up bonuses. `facts`: what else is known of the
    accounts; a statement period in it is judged, so all events of the period must be at hand.
    """

    caps: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=CAP_SCHEMA))
    items: Mapping[tuple[str, str], list[Item]] = field(default_factory=dict)
    spend: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SPEND_SCHEMA))
    progress: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PROGRESS_SCHEMA))
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True)
class Decided:
    """The engine's answer: frames of the schemas above.

    `decisions` is ordered by account and event, and within an event by rule. `caps` holds the
    usage of every window that was touched, as it is now; `spend` and `progress` likewise.
    """

    decisions: pl.DataFrame
    allocations: pl.DataFrame
    caps: pl.DataFrame
    problems: pl.DataFrame
    spend: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SPEND_SCHEMA))
    progress: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PROGRESS_SCHEMA))


@dataclass
class _Columns:
    """Decisions as arrays, one element a row; -1 and `_NO_DAY` stand for null."""

    row: np.ndarray
    rule: np.ndarray
    event_class: np.ndarray
    reason: np.ndarray
    eligible: np.ndarray
    points: np.ndarray
    window: np.ndarray
    cap_before: np.ndarray
    cap_used: np.ndarray
    has_cap: np.ndarray


_CLASSES = ("EARN", "CLAWBACK", "RESTORE", "NONE")
_REASONS = (
    None, "EXCLUDED_MCC", "EXCLUDED_CLASS", "FEE_OR_INTEREST", "NOT_POSTED", "CAP_EXHAUSTED",
    "BEFORE_ENROLMENT", "PROMO_NOT_ACTIVATED", "ROUNDED_TO_ZERO", "DUPLICATE",
    "ACCOUNT_NOT_IN_GOOD_STANDING", "GATE_FAILED", "DISPUTED", "FRAUD_CONFIRMED",
)  # fmt: skip
_CLASS_CODE = {name: code for code, name in enumerate(_CLASSES)}
_REASON_CODE = {name: code for code, name in enumerate(_REASONS)}
_INELIGIBLE = (
    "EXCLUDED_MCC", "EXCLUDED_CLASS", "FEE_OR_INTEREST", "NOT_POSTED", "BEFORE_ENROLMENT",
    "PROMO_NOT_ACTIVATED", "DUPLICATE", "ACCOUNT_NOT_IN_GOOD_STANDING", "GATE_FAILED", "DISPUTED",
    "FRAUD_CONFIRMED",
)  # fmt: skip


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
        events = events.sort("account_id", *ORDER)
    events = _with_basis(events, book)
    plans, plan_of, spend = _plans(events, book, state)
    caps = _Caps(events, state.caps, book)
    in_fold = _needs_fold(events, plans, plan_of, book, caps)
    used_before = dict(caps.used)
    if book.carries:
        events = events.with_columns(period_of(events, state.facts.statuses))
    columns = _decide_in_columns(events, plans, plan_of, np.flatnonzero(~in_fold), book, caps)
    folded = _fold(events, plans, plan_of, np.flatnonzero(in_fold), book, caps, state.items)
    rows, allocations, problems = folded
    merged = _merge(columns, _as_columns(rows))
    if rows and book.has_caps:
        _count_caps(merged, book, caps, used_before)
    decisions, taken = _decisions(events, merged, book), _allocations(events, allocations)
    progress = state.progress.clear()
    if book.has_bonuses:
        decisions, progress = award(decisions, taken, state.facts.openings, state.progress, book)
    return Decided(decisions, taken, caps.frame(), _problems(events, problems), spend, progress)


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
) -> tuple[list[Plan], np.ndarray, pl.DataFrame]:
    """The distinct plans, for each event which one applies, and net spend by month."""
    told = _told(events, book, state.facts)
    plans, plan_of = _plans_for(events, book, told)
    spend = state.spend.clear()
    if "NET_SPEND_12M" in book.tier_metrics:
        # What is eligible does not depend on the tier, so it can be counted first.
        moves = net_spend(events, plans, plan_of)
        spend = by_month(state.spend, moves)
        tier = tier_of(events, state.spend, moves, book).alias("tier")
        plans, plan_of = _plans_for(events, book, told.with_columns(tier))
    return plans, plan_of, spend


def _told(events: pl.DataFrame, book: RuleBook, facts: Facts) -> pl.DataFrame:
    """Further columns that plans depend on: offers taken up, the account's record, its gates."""
    told = events.select("event_id")
    if book.offers:
        told = told.with_columns(
            _activated(events, facts.activations, offer, book).alias(f"offer:{offer}")
            for offer in book.offers
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
    keys = looks.columns
    distinct = looks.unique(maintain_order=True).with_row_index("plan")
    plan_of = looks.join(distinct, on=keys, how="left", nulls_equal=True, maintain_order="left")[
        "plan"
    ]
    days = [book.boundaries[0] - timedelta(days=1), *book.boundaries]
    plans = []
    for look in distinct.iter_rows(named=True):
        activated = frozenset(offer for offer in book.offers if look[f"offer:{offer}"])
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
    return plans, plan_of.to_numpy().astype(np.int64)


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


def _needs_fold(
    events: pl.DataFrame, plans: list[Plan], plan_of: np.ndarray, book: RuleBook, caps: "_Caps"
) -> np.ndarray:
    """Which events must be decided one after the other."""
    kinds = np.array([plan.kind for plan in plans])[plan_of]
    capped = np.array([any(rule.cap for rule in plan.rules) for plan in plans])[plan_of]
    moves_back = (kinds == Kind.TAKE_BACK) | (kinds == Kind.UNDO)
    steepest = max((rule.numerator for rule in book.rules), default=0)
    largest = int(events["amount_minor"].max() or 0)  # pyright: ignore[reportArgumentType]
    if book.needs_fold or largest * max(steepest, 1) * 2 >= _SAFE:
        return kinds >= 0
    in_fold = moves_back.copy()
    if moves_back.any():
        frame = events.select("account_id", "transaction_id", "refunds_transaction_id")
        back = frame.filter(pl.Series(moves_back))
        wanted = pl.concat(
            [
                back.select("account_id", "transaction_id"),
                back.select("account_id", transaction_id="refunds_transaction_id"),
            ]
        ).unique()
        reached = frame.join(
            wanted.with_columns(reached=True), on=["account_id", "transaction_id"], how="left",
            maintain_order="left",
        )["reached"]  # fmt: skip
        in_fold |= reached.fill_null(False).to_numpy()
        accounts = back["account_id"].unique().implode()
        beside = capped & frame["account_id"].is_in(accounts).to_numpy()
        if not book.rerates:
            rows = np.flatnonzero(beside)
            beside[rows] = _at_a_limit(events, plans, plan_of, rows, book, caps)
        in_fold |= beside
    if book.caps_change:
        in_fold |= capped
    return in_fold


def _at_a_limit(
    events: pl.DataFrame, plans: list[Plan], plan_of: np.ndarray, rows: np.ndarray,
    book: RuleBook, caps: "_Caps",
) -> np.ndarray:  # fmt: skip
    """Which of the events `rows` ask something of a cap that may be reached, so that it matters
    what others have used of it."""
    at, rule, reason = _lines(plans, plan_of, rows, book)
    sizes = np.array([each.cap.amount if each.cap else -1 for each in book.rules])
    here = (reason == 0) & (sizes[rule] >= 0)
    at, rule = at[here], rule[here]
    asked = _asked(events["amount_minor"].to_numpy()[at], rule, book)
    _, group = _groups(events, at, rule, book, caps)
    distinct, member = np.unique(group, return_inverse=True)
    total = np.array([caps.used.get(each, 0) for each in distinct.tolist()], dtype=np.int64)
    np.add.at(total, member, asked)
    return np.isin(rows, at[total[member] >= sizes[rule]])


def _count_caps(
    found: _Columns, book: RuleBook, caps: "_Caps", used_before: Mapping[int, int]
) -> None:
    """What had been used of its cap before each purchase, by all that came before it."""
    rows = np.flatnonzero(found.has_cap)
    if not len(rows):
        return
    keys = np.array([caps.code(each.cap.share_key) if each.cap else 0 for each in book.rules])
    group = caps.packed(
        caps.account_code[found.row[rows]], keys[found.rule[rows]], found.window[rows]
    )
    order = np.argsort(group, kind="stable")
    grouped, used = group[order], found.cap_used[rows][order]
    starts = np.flatnonzero(np.concatenate([[True], grouped[1:] != grouped[:-1]]))
    lengths = np.diff(np.append(starts, len(grouped)))
    total = np.cumsum(used) - used
    prior = np.array([used_before.get(each, 0) for each in grouped[starts].tolist()])
    before = np.empty(len(rows), dtype=np.int64)
    before[order] = total - np.repeat(total[starts] - prior, lengths)
    earns = found.event_class[rows] == _CLASS_CODE["EARN"]
    found.cap_before[rows[earns]] = before[earns]


class _Caps:
    """Cap usage of the accounts at hand: what it was, and what it has become."""

    def __init__(self, events: pl.DataFrame, before: pl.DataFrame, book: RuleBook) -> None:
        keys = sorted({rule.cap.share_key for rule in book.rules if rule.cap})
        self.share_keys = keys
        self._code = {key: code for code, key in enumerate(keys)}
        self._width = max(len(keys), 1)
        ids = events["account_id"]
        changed = ids.ne_missing(ids.shift(1))
        self.account_code = changed.cum_sum().to_numpy().astype(np.int64) - 1
        self.accounts = ids.filter(changed)
        self.used: dict[int, int] = {}
        if keys and not before.is_empty():
            codes = pl.DataFrame({"account_id": self.accounts}).with_row_index("account")
            known = before.join(codes, on="account_id").filter(pl.col("share_key").is_in(keys))
            for account, key, window, used in zip(
                known["account"].to_list(), known["share_key"].to_list(),
                known["window_on"].to_physical().to_list(), known["used"].to_list(), strict=True,
            ):  # fmt: skip
                self.used[self.pack(account, self._code[key], window)] = used
        self.touched: set[int] = set()

    def pack(self, account: int, key: int, window: int) -> int:
        return ((account * self._width + key) << 20) + window + (1 << 19)

    def packed(self, account: np.ndarray, key: np.ndarray, window: np.ndarray) -> np.ndarray:
        return ((account * self._width + key) << 20) + window + (1 << 19)

    def unpack(self, packed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rest = packed >> 20
        return rest // self._width, rest % self._width, (packed & ((1 << 20) - 1)) - (1 << 19)

    def code(self, share_key: str) -> int:
        return self._code[share_key]

    def of_account(self, account: int) -> dict[tuple[str, int], int]:
        """Usage of one account as the fold wants it."""
        found = {}
        for packed in self._by_account().get(account, ()):
            _, key, window = self.unpack(np.array([packed]))
            found[self.share_keys[int(key[0])], int(window[0])] = self.used[packed]
        return found

    def _by_account(self) -> dict[int, list[int]]:
        if not hasattr(self, "_grouped"):
            self._grouped: dict[int, list[int]] = {}
            for packed in self.used:
                self._grouped.setdefault((packed >> 20) // self._width, []).append(packed)
        return self._grouped

    def store(self, account: int, usage: Mapping[tuple[str, int], int]) -> None:
        """Take over what the fold left of one account."""
        for (share_key, window), used in usage.items():
            packed = self.pack(account, self._code[share_key], window)
            self.used[packed] = used
            self.touched.add(packed)

    def frame(self) -> pl.DataFrame:
        """The windows that were touched (`CAP_SCHEMA`)."""
        packed = np.array(sorted(self.touched), dtype=np.int64)
        account, key, window = self.unpack(packed)
        names = np.array(self.share_keys, dtype=object)
        return pl.DataFrame(
            {
                "account_id": self.accounts.gather(account.astype(np.uint32)),
                "share_key": pl.Series(names[key] if len(packed) else [], dtype=pl.String),
                "window_on": pl.Series(window.astype(np.int32)).cast(pl.Date),
                "used": pl.Series([self.used[each] for each in packed.tolist()], dtype=pl.Int64),
            },
            schema=CAP_SCHEMA,
        )


def _decide_in_columns(
    events: pl.DataFrame,
    plans: list[Plan],
    plan_of: np.ndarray,
    rows: np.ndarray,
    book: RuleBook,
    caps: _Caps,
) -> _Columns:
    """Decisions of the events `rows` that depend on nothing but running caps."""
    out_row, out_rule, out_reason = _lines(plans, plan_of, rows, book)
    earns = out_reason == 0
    amounts = events["amount_minor"].to_numpy()
    amount = np.where(earns, amounts[out_row], 0)
    points = _points(amount, out_rule, book)

    size = len(out_row)
    eligible, window = amount.copy(), np.full(size, _NO_DAY, dtype=np.int64)
    cap_before, cap_used = np.full(size, -1, dtype=np.int64), np.full(size, -1, dtype=np.int64)
    is_capped = np.array([each.cap is not None for each in book.rules])
    has_cap = earns & is_capped[out_rule]
    if has_cap.any():
        at = np.flatnonzero(has_cap)
        asked = _asked(amount[at], out_rule[at], book)
        limit, before, start = _limits(events, out_row[at], out_rule[at], asked, book, caps)
        is_spend = np.array([bool(each.cap and each.cap.is_spend) for each in book.rules])
        spend = is_spend[out_rule[at]]
        eligible[at] = np.where(spend, limit, amount[at])
        within = _points(np.where(spend, limit, 0), out_rule[at], book)
        bounded = np.where(limit < asked, _multiplied(limit, out_rule[at], book), points[at])
        points[at] = np.where(spend, within, bounded)
        window[at], cap_before[at], cap_used[at] = start, before, limit
        exhausted = np.zeros(size, dtype=bool)
        sizes = np.array([each.cap.amount if each.cap else 0 for each in book.rules])
        exhausted[at] = before >= sizes[out_rule[at]]
        out_reason = np.where(
            earns & (points == 0) & exhausted & (amount > 0),
            _REASON_CODE["CAP_EXHAUSTED"], out_reason,
        )  # fmt: skip
    out_reason = np.where(
        (out_reason == 0) & (points == 0), _REASON_CODE["ROUNDED_TO_ZERO"], out_reason
    )
    kinds = np.array([plan.kind for plan in plans])[plan_of[out_row]]
    classes = np.where(kinds == Kind.EARN, _CLASS_CODE["EARN"], _CLASS_CODE["NONE"])
    return _Columns(
        out_row, out_rule, classes, out_reason, eligible, points, window, cap_before, cap_used,
        has_cap,
    )  # fmt: skip


def _lines(
    plans: list[Plan], plan_of: np.ndarray, rows: np.ndarray, book: RuleBook
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The decisions that the events `rows` lead to: the event, the rule and the reason's code."""
    # One line of the table below per plan and decision it leads to.
    rule, reason, first = [], [], []
    for plan in plans:
        first.append(len(rule))
        if plan.zero_reason or plan.kind is not Kind.EARN:
            rule.append(book.base(plan.version_index).index)
            reason.append(_REASON_CODE[plan.zero_reason or "NOT_POSTED"])
            continue
        rule += [each.index for each in plan.rules] + [each.index for each in plan.inactive]
        reason += [0] * len(plan.rules)
        reason += [_REASON_CODE["PROMO_NOT_ACTIVATED"]] * len(plan.inactive)
    first.append(len(rule))
    starts = np.array(first, dtype=np.int64)
    rule_lines, reason_lines = np.array(rule, dtype=np.int64), np.array(reason, dtype=np.int64)

    plan_ids = plan_of[rows]
    counts = np.diff(starts)[plan_ids]
    out_row = np.repeat(rows, counts)
    within = np.arange(len(out_row)) - np.repeat(np.cumsum(counts) - counts, counts)
    line = np.repeat(starts[:-1][plan_ids], counts) + within
    out_rule, out_reason = rule_lines[line], reason_lines[line]
    return out_row, out_rule, out_reason


def _points(amount: np.ndarray, rule: np.ndarray, book: RuleBook) -> np.ndarray:
    """Each rule's points for each amount, as `CompiledRule.points`."""
    numerators = np.array([each.numerator for each in book.rules], dtype=np.int64)
    denominators = np.array([each.denominator for each in book.rules], dtype=np.int64)
    blocks = _blocks(amount, rule, book)
    return _rounded(blocks * numerators[rule], denominators[rule], rule, book)


def _asked(amount: np.ndarray, rule: np.ndarray, book: RuleBook) -> np.ndarray:
    """What each amount asks of its rule's cap, as `CompiledRule.asked`."""
    is_spend = np.array([bool(each.cap and each.cap.is_spend) for each in book.rules])
    if is_spend[rule].all():
        return amount
    plain = np.array([each.plain for each in book.rules], dtype=np.int64)[rule]
    points = _rounded(_blocks(amount, rule, book) * plain[:, 0], plain[:, 1], rule, book)
    return np.where(is_spend[rule], amount, points)


def _multiplied(points: np.ndarray, rule: np.ndarray, book: RuleBook) -> np.ndarray:
    """Plain points as the tiers of their rules multiply them."""
    times = np.array([each.multiplier_milli for each in book.rules], dtype=np.int64)[rule]
    return _rounded(points * times, np.full(len(points), 1000), rule, book)


def _blocks(amount: np.ndarray, rule: np.ndarray, book: RuleBook) -> np.ndarray:
    block = np.array([each.block for each in book.rules], dtype=np.int64)[rule]
    return amount if (block == 1).all() else amount // block


def _rounded(
    raw: np.ndarray, denominator: np.ndarray, rule: np.ndarray, book: RuleBook
) -> np.ndarray:
    """`raw / denominator` as integers, each by its rule's mode."""
    whole = raw // denominator
    rest = raw - whole * denominator
    modes = [each.mode for each in book.rules]
    up = np.zeros(len(raw), dtype=bool)
    for mode in sorted(set(modes)):
        here = np.array([each == mode for each in modes])[rule]
        match mode:
            case "DOWN":
                continue
            case "UP":
                rises = rest > 0
            case "HALF_UP":
                rises = 2 * rest >= denominator
            case _:
                rises = (2 * rest > denominator) | ((2 * rest == denominator) & (whole % 2 == 1))
        up |= here & rises
    return whole + up


def _groups(
    events: pl.DataFrame, row: np.ndarray, rule: np.ndarray, book: RuleBook, caps: _Caps
) -> tuple[np.ndarray, np.ndarray]:
    """The first day of each capped decision's window, and its account's cap in that window."""
    days = events["basis_on"].to_numpy().astype("datetime64[D]")[row]
    window = np.zeros(len(row), dtype=np.int64)
    key = np.zeros(len(row), dtype=np.int64)
    for each in book.rules:
        if each.cap is None:
            continue
        here = np.flatnonzero(rule == each.index)
        key[here] = caps.code(each.cap.share_key)
        match each.cap.window:
            case "CALENDAR_MONTH":
                start = days[here].astype("datetime64[M]")
            case "CALENDAR_QUARTER":
                months = days[here].astype("datetime64[M]").astype(np.int64)
                start = (months - months % 3).astype("datetime64[M]")
            case "CALENDAR_YEAR":
                start = days[here].astype("datetime64[Y]")
            case _:
                window[here] = each.cap.promo[0] if each.cap.promo else 0
                continue
        window[here] = start.astype("datetime64[D]").astype(np.int64)
    return window, caps.packed(caps.account_code[row], key, window)


def _limits(
    events: pl.DataFrame,
    row: np.ndarray,
    rule: np.ndarray,
    asked: np.ndarray,
    book: RuleBook,
    caps: _Caps,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each capped decision may use, the usage before it and its window's first day."""
    window, group = _groups(events, row, rule, book, caps)
    size = np.array([each.cap.amount if each.cap else 0 for each in book.rules])[rule]
    order = np.argsort(group, kind="stable")
    grouped, wants = group[order], asked[order]
    total = np.cumsum(wants)
    is_first = np.concatenate([[True], grouped[1:] != grouped[:-1]])
    starts = np.flatnonzero(is_first)
    lengths = np.diff(np.append(starts, len(grouped)))
    distinct = grouped[starts].tolist()
    prior = np.array([caps.used.get(each, 0) for each in distinct], dtype=np.int64)
    wanted_before = total - wants - np.repeat(total[starts] - wants[starts], lengths)
    room = np.maximum(size[order] - np.repeat(prior, lengths), 0)
    used_before = np.minimum(wanted_before, room)
    limit_sorted = np.minimum(wants, room - used_before)
    before_sorted = np.repeat(prior, lengths) + used_before
    ends = np.append(starts[1:], len(grouped)) - 1
    for packed, used in zip(
        distinct, (before_sorted[ends] + limit_sorted[ends]).tolist(), strict=True
    ):
        caps.used[packed] = used
        caps.touched.add(packed)
    limit, before = np.empty_like(limit_sorted), np.empty_like(before_sorted)
    limit[order], before[order] = limit_sorted, before_sorted
    return limit, before, window


def _fold(
    events: pl.DataFrame,
    plans: list[Plan],
    plan_of: np.ndarray,
    rows: np.ndarray,
    book: RuleBook,
    caps: _Caps,
    items: Mapping[tuple[str, str], list[Item]],
) -> tuple[list[Row], list[Allocation], list[Problem]]:
    """Decisions of the events `rows`, account by account and event by event."""
    if not len(rows):
        return [], [], []
    part = events[rows]
    known_items: dict[str, dict[str, list[Item]]] = {}
    for (account, transaction), found in items.items():
        known_items.setdefault(account, {})[transaction] = found
    all_rows: list[Row] = []
    allocations: list[Allocation] = []
    problems: list[Problem] = []
    fold: AccountFold | None = None
    current = -1
    periods = part["period"].to_list() if book.carries else [None] * part.height
    for row, account, plan_id, event_id, account_id, own, refunds, day, amount, period in zip(
        rows.tolist(), caps.account_code[rows].tolist(), plan_of[rows].tolist(),
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
                rows=all_rows, allocations=allocations, problems=problems,
            )  # fmt: skip
        assert fold is not None
        fold.apply(row, event_id, own, refunds, day, amount, plans[plan_id], period)
    if fold is not None:
        caps.store(current, fold.caps)
    return all_rows, allocations, problems


def _as_columns(rows: list[Row]) -> _Columns:
    def ints(values: Iterable[int]) -> np.ndarray:
        return np.fromiter(values, dtype=np.int64, count=len(rows))

    def given(value: int | None, otherwise: int) -> int:
        return otherwise if value is None else value

    return _Columns(
        ints(row.row for row in rows),
        ints(row.rule.index for row in rows),
        ints(_CLASS_CODE[row.event_class] for row in rows),
        ints(_REASON_CODE[row.zero_reason] for row in rows),
        ints(row.eligible_minor for row in rows),
        ints(row.points for row in rows),
        ints(given(row.window_start, _NO_DAY) for row in rows),
        ints(given(row.cap_before, -1) for row in rows),
        ints(given(row.cap_used, 0) for row in rows),
        ints(row.window_start is not None for row in rows).astype(bool),
    )


def _merge(columns: _Columns, folded: _Columns) -> _Columns:
    """Both parts in the order of the events; rules keep their order within an event."""
    names = columns.__dataclass_fields__
    together = {
        name: np.concatenate([getattr(columns, name), getattr(folded, name)]) for name in names
    }
    order = np.argsort(together["row"], kind="stable")
    return _Columns(**{name: values[order] for name, values in together.items()})


def _decisions(events: pl.DataFrame, found: _Columns, book: RuleBook) -> pl.DataFrame:
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
    picked = events.select(
        "account_id", "transaction_id", "event_id", "event_at", "version_no", "amount_minor",
        "basis_on", "known_on", "refunds_transaction_id", effective_on=pl.col("posted_on"),
    )[found.row]  # fmt: skip
    has_cap = pl.Series(found.has_cap)
    reasons = pl.Series(_REASONS, dtype=pl.String).gather(found.reason.astype(np.uint32))
    blank = pl.lit(None)
    numbers = pl.DataFrame(
        {
            "event_class": pl.Series(_CLASSES).gather(found.event_class.astype(np.uint32)),
            "zero_reason": reasons,
            "eligible_minor": found.eligible,
            "points": found.points,
            "cap_window_on": np.where(found.has_cap, found.window, 0).astype(np.int32),
            "cap_before": found.cap_before,
            "cap_used": found.cap_used,
            "has_cap": has_cap,
        }
    )
    return (
        pl.concat([picked, rules, numbers], how="horizontal")
        .with_columns(
            is_eligible=~pl.col("zero_reason").is_in(_INELIGIBLE).fill_null(False),
            cap_share_key=pl.when("has_cap").then("cap_share_key"),
            cap_window_on=pl.when("has_cap").then(pl.col("cap_window_on").cast(pl.Date)),
            cap_before=pl.when(pl.col("has_cap") & (pl.col("cap_before") >= 0)).then("cap_before"),
            cap_used=pl.when("has_cap").then("cap_used").otherwise(blank),
        )
        .select(pl.col(name).cast(kind) for name, kind in DECISION_SCHEMA.items())
    )


def _allocations(events: pl.DataFrame, found: list[Allocation]) -> pl.DataFrame:
    rows = np.array([each.row for each in found], dtype=np.int64)
    picked = events.select("account_id", "event_id")[rows]
    return picked.with_columns(
        pl.Series("item_event_id", [each.item_event_id for each in found], dtype=pl.String),
        pl.Series("rule_id", [each.rule_id for each in found], dtype=pl.String),
        pl.Series("amount_minor", [each.amount for each in found], dtype=pl.Int64),
        pl.Series("limit_change", [each.limit_change for each in found], dtype=pl.Int64),
        pl.Series("restored", [each.restored for each in found], dtype=pl.Int64),
        pl.Series("item_basis_on", [each.item_basis_on for each in found], dtype=pl.Date),
    ).select(ALLOCATION_SCHEMA.names())


def _problems(events: pl.DataFrame, found: list[Problem]) -> pl.DataFrame:
    rows = np.array([each.row for each in found], dtype=np.int64)
    picked = events.select("account_id", "event_id", "currency", "known_on")[rows]
    return picked.with_columns(
        pl.Series("type", [each.type for each in found], dtype=pl.String),
        pl.Series("amount_minor", [each.amount for each in found], dtype=pl.Int64),
    ).select(PROBLEM_SCHEMA.names())


def items_of(
    decisions: pl.DataFrame, allocations: pl.DataFrame, book: RuleBook, statuses: pl.DataFrame
) -> dict[tuple[str, str], list[Item]]:
    """The purchases of earlier `decisions` as refunds find them, after earlier `allocations`.

    Both frames may hold more than what is asked for; only purchases count. `decisions` has the
    columns of `DECISION_SCHEMA`; `statuses` (`STATUS_SCHEMA`) tell statement periods.
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
            base = book.base(rule.version_index)
            amount = each["amount_minor"]
            item = Item(
                event_id, amount, amount, None, base, [], None, each["basis_on"],
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
            if each["rule_id"] == item.base.rule_id:
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
        if each["rule_id"] == item.base.rule_id:
            item.left -= each["amount_minor"]
        grant = grants.get((each["item_event_id"], each["rule_id"]))
        if grant is not None and grant.limit is not None:
            grant.limit += each["limit_change"]
            grant.restored += each["restored"]
    return by_transaction
