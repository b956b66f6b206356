"""Decisions in columns: purchases under running caps, and refunds that need no look at others.

The same meaning as `fold.py` has for one account event by event, for all accounts at once. What
an event does must follow from its plan, from what its caps have been used for before it and, for a
refund, from the one purchase that it refunds; the engine sends everything else to the fold.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
import polars as pl

from pipelines.rewards.rules import CompiledRule, Kind, Plan, RuleBook
from pipelines.rewards.runs import Runs

CAP_SCHEMA = pl.Schema(
    {
        "account_id": pl.String,
        "share_key": pl.String,
        "window_on": pl.Date,
        "used": pl.Int64,
    }
)
NO_DAY = np.iinfo(np.int32).min
CLASSES = ("EARN", "CLAWBACK", "RESTORE", "NONE")
REASONS = (
    None, "EXCLUDED_MCC", "EXCLUDED_CLASS", "FEE_OR_INTEREST", "NOT_POSTED", "CAP_EXHAUSTED",
    "BEFORE_ENROLMENT", "PROMO_NOT_ACTIVATED", "ROUNDED_TO_ZERO", "DUPLICATE",
    "ACCOUNT_NOT_IN_GOOD_STANDING", "GATE_FAILED", "DISPUTED", "FRAUD_CONFIRMED",
)  # fmt: skip
CLASS_CODE = {name: code for code, name in enumerate(CLASSES)}
REASON_CODE = {name: code for code, name in enumerate(REASONS)}
ELIGIBLE = (None, "CAP_EXHAUSTED", "ROUNDED_TO_ZERO")
"""Reasons of decisions whose event may earn."""


@dataclass
class Columns:
    """Decisions as arrays, one element a row; -1 and `NO_DAY` stand for null."""

    row: np.ndarray
    rule: np.ndarray
    event_class: np.ndarray
    reason: np.ndarray
    eligible: np.ndarray
    points: np.ndarray
    window: np.ndarray
    cap_before: np.ndarray
    cap_used: np.ndarray

    @property
    def has_cap(self) -> np.ndarray:
        """Which decisions used, or gave back, something of a cap."""
        return self.window != NO_DAY

    @classmethod
    def uncapped(
        cls, row: np.ndarray, rule: np.ndarray, event_class: np.ndarray, reason: np.ndarray,
        eligible: np.ndarray, points: np.ndarray,
    ) -> "Columns":  # fmt: skip
        """Decisions that no cap has a part in so far."""
        nothing = np.full(len(row), -1, dtype=np.int64)
        window = np.full(len(row), NO_DAY, dtype=np.int64)
        return cls(row, rule, event_class, reason, eligible, points, window, nothing,
                   nothing.copy())  # fmt: skip

    @classmethod
    def together(cls, parts: list["Columns"]) -> "Columns":
        """All `parts` in the order of the events; rules keep their order within an event."""
        parts = [part for part in parts if len(part.row)] or parts[:1]
        if len(parts) == 1:
            return parts[0]
        order = np.argsort(np.concatenate([part.row for part in parts]), kind="stable")
        return cls(*(
            np.concatenate([getattr(part, each.name) for part in parts])[order]
            for each in fields(cls)
        ))  # fmt: skip


@dataclass(frozen=True)
class Lines:
    """The decisions that plans lead to: by plan how many, and of each the rule and the code of the
    reason why it gives nothing."""

    first: np.ndarray
    count: np.ndarray
    rule: np.ndarray
    reason: np.ndarray

    @classmethod
    def of(cls, told: list[list[tuple[int, str | None]]]) -> "Lines":
        """The table of the lines `told` by plan: index of the rule and reason."""
        count = np.array([len(each) for each in told], dtype=np.int64)
        rules = [rule for each in told for rule, _ in each]
        reasons = [REASON_CODE[reason] for each in told for _, reason in each]
        return cls(
            np.cumsum(count) - count, count, np.array(rules, dtype=np.int64),
            np.array(reasons, dtype=np.int64),
        )  # fmt: skip

    def for_plans(self, plan: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The lines of each of the plans `plan`: which of these it is, rule and reason."""
        count = self.count[plan]
        at = np.repeat(np.arange(len(plan)), count)
        line = np.arange(len(at)) + np.repeat(self.first[plan] - np.cumsum(count) + count, count)
        return at, self.rule[line], self.reason[line]


def earning_lines(plan: Plan, book: RuleBook) -> list[tuple[int, str | None]]:
    """What events of `plan` are decided under, where they give nothing back."""
    if plan.zero_reason or plan.kind is not Kind.EARN:
        return [(book.told_under(plan).index, plan.zero_reason or "NOT_POSTED")]
    inactive = [(rule.index, "PROMO_NOT_ACTIVATED") for rule in plan.inactive]
    return [*((rule.index, None) for rule in plan.rules), *inactive]


def stray_lines(plan: Plan, book: RuleBook) -> list[tuple[int, str | None]]:
    """What refunds of `plan` are decided under, where no purchase is known."""
    if rules := book.unmatched_rules(plan):
        return [(rule.index, None) for rule in rules]
    reason = plan.zero_reason or plan.recovery or "NOT_POSTED"
    return [(book.base(plan.version_index).index, reason)]


class Rates:
    """The rules of a book as arrays, one element a rule, and what they say of many amounts."""

    def __init__(self, book: RuleBook) -> None:
        self.rules = list(book.rules)
        self.is_capped = self._each(lambda rule: rule.cap is not None, bool)
        self.is_spend = self._each(lambda rule: rule.cap is not None and rule.cap.is_spend, bool)
        self.size = self._each(lambda rule: rule.cap.amount if rule.cap else 0)
        self._numerator = self._each(lambda rule: rule.numerator)
        self._denominator = self._each(lambda rule: rule.denominator)
        self._plain = self._each(lambda rule: rule.plain[0]), self._each(lambda r: r.plain[1])
        self._block = self._each(lambda rule: rule.block)
        self._multiplier = self._each(lambda rule: rule.multiplier_milli)
        self._modes = sorted({rule.mode for rule in self.rules})
        self._mode = self._each(lambda rule: self._modes.index(rule.mode))

    def _each(self, of: Callable[[CompiledRule], int], kind: type = np.int64) -> np.ndarray:
        return np.fromiter(map(of, self.rules), dtype=kind, count=len(self.rules))

    def points(self, amount: np.ndarray, rule: np.ndarray) -> np.ndarray:
        """Each rule's points for each amount, as `CompiledRule.points`."""
        raw = self._blocks(amount, rule) * self._numerator[rule]
        return self._rounded(raw, self._denominator[rule], rule)

    def asked(self, amount: np.ndarray, rule: np.ndarray) -> np.ndarray:
        """What each amount asks of its rule's cap, as `CompiledRule.asked`."""
        is_spend = self.is_spend[rule]
        if is_spend.all():
            return amount
        numerator, denominator = self._plain
        raw = self._blocks(amount, rule) * numerator[rule]
        return np.where(is_spend, amount, self._rounded(raw, denominator[rule], rule))

    def multiplied(self, points: np.ndarray, rule: np.ndarray) -> np.ndarray:
        """Plain points as the tiers of their rules multiply them."""
        raw = points * self._multiplier[rule]
        return self._rounded(raw, np.full(len(points), 1000), rule)

    def _blocks(self, amount: np.ndarray, rule: np.ndarray) -> np.ndarray:
        return amount if (self._block == 1).all() else amount // self._block[rule]

    def _rounded(self, raw: np.ndarray, denominator: np.ndarray, rule: np.ndarray) -> np.ndarray:
        """`raw / denominator` as integers, each by its rule's mode."""
        whole = raw // denominator
        rest = raw - whole * denominator
        for code, mode in enumerate(self._modes):
            match mode:
                case "DOWN":
                    continue
                case "UP":
                    rises = rest > 0
                case "HALF_UP":
                    rises = 2 * rest >= denominator
                case _:
                    twice = 2 * rest
                    rises = (twice > denominator) | ((twice == denominator) & (whole & 1 == 1))
            whole = whole + (rises if len(self._modes) == 1 else rises & (self._mode[rule] == code))
        return whole


class Caps:
    """Cap usage of the accounts at hand: what it was, and what it has become."""

    def __init__(self, events: pl.DataFrame, before: pl.DataFrame, book: RuleBook) -> None:
        keys = sorted({rule.cap.share_key for rule in book.rules if rule.cap})
        self.share_keys = keys
        self._code = {key: code for code, key in enumerate(keys)}
        self._width = max(len(keys), 1)
        accounts = Runs.of(events["account_id"])
        self.account_code = accounts.number()
        self.accounts = events["account_id"][accounts.start]
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
        """One number for an account's cap in a window."""
        return ((account * self._width + key) << 20) + window + (1 << 19)

    def packed(self, account: np.ndarray, key: np.ndarray, window: np.ndarray) -> np.ndarray:
        """`pack` of many."""
        return ((account * self._width + key) << 20) + window + (1 << 19)

    def unpack(self, packed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Account, share key and window of packed numbers."""
        rest = packed >> 20
        return rest // self._width, rest % self._width, (packed & ((1 << 20) - 1)) - (1 << 19)

    def code(self, share_key: str) -> int:
        """The number of a share key."""
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


@dataclass(frozen=True)
class Refunds:
    """What refunds decided in columns say: decisions, allocations and problems.

    `allocations`: `row` of the refund, item_event_id, rule_id, amount_minor, limit_change,
    restored, item_basis_on; `over`: rows of refunds of more than was left, and how much more.
    """

    decisions: Columns
    allocations: pl.DataFrame
    over: pl.DataFrame


class Batch:
    """Events of one pass, sorted by account and within it by time, with the plan of each."""

    def __init__(
        self, events: pl.DataFrame, plans: list[Plan], plan_of: np.ndarray, book: RuleBook,
        caps: Caps,
    ) -> None:  # fmt: skip
        self.events, self.plans, self.plan_of = events, plans, plan_of
        self.book, self.caps, self.rates = book, caps, Rates(book)
        self.kind = self.of_plans([plan.kind for plan in plans])
        self.amount = events["amount_minor"].to_numpy()
        self.day = events["basis_on"].to_physical().to_numpy().astype("datetime64[D]")
        self._earning = Lines.of([earning_lines(plan, book) for plan in plans])

    def of_plans(self, values: list[int] | list[bool]) -> np.ndarray:
        """What holds by plan, by event."""
        return np.array(values)[self.plan_of]

    def purchases(self, rows: np.ndarray) -> Columns:
        """Decisions of the events `rows`, which give nothing back."""
        at, rule, reason = self._earning.for_plans(self.plan_of[rows])
        row = rows[at]
        amount = np.where(reason == 0, self.amount[row], 0)
        earns = self.kind[row] == Kind.EARN
        found = Columns.uncapped(
            row, rule, np.where(earns, CLASS_CODE["EARN"], CLASS_CODE["NONE"]), reason, amount,
            self.rates.points(amount, rule),
        )  # fmt: skip
        capped = np.flatnonzero((reason == 0) & self.rates.is_capped[rule])
        if len(capped):
            self._limit(found, capped)
        nothing = (found.reason == 0) & (found.points == 0)
        found.reason[nothing] = REASON_CODE["ROUNDED_TO_ZERO"]
        return found

    def _limit(self, found: Columns, at: np.ndarray) -> None:
        """Hold the decisions `at` of `found` to their caps."""
        rule, amount = found.rule[at], found.eligible[at]
        asked = self.rates.asked(amount, rule)
        limit, before, window = self._limits(found.row[at], rule, asked)
        spend = self.rates.is_spend[rule]
        within = self.rates.points(np.where(spend, limit, 0), rule)
        bounded = np.where(limit < asked, self.rates.multiplied(limit, rule), found.points[at])
        points = np.where(spend, within, bounded)
        exhausted = (points == 0) & (before >= self.rates.size[rule]) & (amount > 0)
        found.eligible[at] = np.where(spend, limit, amount)
        found.points[at] = points
        found.reason[at[exhausted]] = REASON_CODE["CAP_EXHAUSTED"]
        found.window[at], found.cap_before[at], found.cap_used[at] = window, before, limit

    def _limits(
        self, row: np.ndarray, rule: np.ndarray, asked: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What each capped decision may use, the usage before it and its window's first day."""
        window = self._windows(self.day[row], rule)
        group = self._group(row, rule, window)
        order = np.argsort(group, kind="stable")
        wants = asked[order]
        groups = Runs.of(group[order])
        distinct = group[order][groups.start].tolist()
        prior = groups.spread(
            np.array([self.caps.used.get(each, 0) for each in distinct], dtype=np.int64)
        )
        room = np.maximum(self.rates.size[rule][order] - prior, 0)
        used = np.minimum(groups.before(wants), room)
        limit, before = np.empty_like(wants), np.empty_like(wants)
        limit[order], before[order] = np.minimum(wants, room - used), prior + used
        last = order[groups.start + groups.length - 1]
        now = dict(zip(distinct, (before[last] + limit[last]).tolist(), strict=True))
        self.caps.used |= now
        self.caps.touched |= now.keys()
        return limit, before, window

    def _windows(self, day: np.ndarray, rule: np.ndarray) -> np.ndarray:
        """The first day of each capped rule's window that holds `day`, in days since 1970."""
        window = np.zeros(len(rule), dtype=np.int64)
        for index in np.unique(rule):
            cap = self.rates.rules[index].cap
            assert cap is not None
            here = rule == index
            match cap.window:
                case "CALENDAR_MONTH":
                    start = day[here].astype("datetime64[M]")
                case "CALENDAR_QUARTER":
                    months = day[here].astype("datetime64[M]").astype(np.int64)
                    start = (months - months % 3).astype("datetime64[M]")
                case "CALENDAR_YEAR":
                    start = day[here].astype("datetime64[Y]")
                case _:
                    window[here] = cap.promo[0] if cap.promo else 0
                    continue
            window[here] = start.astype("datetime64[D]").astype(np.int64)
        return window

    def _group(self, row: np.ndarray, rule: np.ndarray, window: np.ndarray) -> np.ndarray:
        """The account's cap in a window that each decision counts towards, as one number."""
        keys = [self.caps.code(rule.cap.share_key) if rule.cap else 0 for rule in self.rates.rules]
        return self.caps.packed(self.caps.account_code[row], np.array(keys)[rule], window)

    def at_a_limit(self, rows: np.ndarray) -> np.ndarray:
        """Which of the events `rows` ask something of a cap that may be reached, so that it matters
        what others have used of it. `rows` are all that ask something of these caps."""
        at, rule, reason = self._earning.for_plans(self.plan_of[rows])
        here = (reason == 0) & self.rates.is_capped[rule]
        at, rule = at[here], rule[here]
        row = rows[at]
        asked = self.rates.asked(self.amount[row], rule)
        group = self._group(row, rule, self._windows(self.day[row], rule))
        distinct, member = np.unique(group, return_inverse=True)
        total = np.array([self.caps.used.get(each, 0) for each in distinct.tolist()], np.int64)
        np.add.at(total, member, asked)
        limited = np.zeros(len(rows), dtype=bool)
        limited[at[total[member] >= self.rates.size[rule]]] = True
        return limited

    def refunds(self, rows: np.ndarray, of: np.ndarray) -> Refunds:
        """Decisions of the refunds `rows`, each of the purchase `of` (-1: of none that is known).

        All refunds of these purchases are among them, and no cap of theirs is reached.
        """
        stray = of < 0
        strays = self._strays(rows[stray])
        order = np.argsort(of[~stray], kind="stable")
        row, of = rows[~stray][order], of[~stray][order]
        amount = self.amount[row]
        bought = self.amount[of]
        before = np.maximum(bought - Runs.of(of).before(amount), 0)
        left = np.maximum(before - amount, 0)
        recovers = self.of_plans([plan.recovery is not None for plan in self.plans])[row]
        excess = amount - (before - left)
        over = np.flatnonzero((excess > 0) & ~recovers)
        takes = before > left
        taken, allocations = self._taken(row[takes], of[takes], before[takes], left[takes])
        nothing = self._nothing_left(row[~takes], of[~takes])
        return Refunds(
            Columns.together([strays, taken, nothing]),
            allocations,
            pl.DataFrame({"row": row[over], "amount_minor": excess[over]}),
        )

    def _strays(self, rows: np.ndarray) -> Columns:
        """Refunds of purchases that are not known take back what such a purchase would earn."""
        lines = Lines.of([stray_lines(plan, self.book) for plan in self.plans])
        at, rule, reason = lines.for_plans(self.plan_of[rows])
        amount = np.where(reason == 0, self.amount[rows[at]], 0)
        points = -self.rates.points(amount, rule)
        nothing = (reason == 0) & (points == 0)
        return Columns.uncapped(
            rows[at], rule, np.full(len(at), CLASS_CODE["CLAWBACK"]),
            np.where(nothing, REASON_CODE["ROUNDED_TO_ZERO"], reason), amount, points,
        )  # fmt: skip

    def _nothing_left(self, row: np.ndarray, of: np.ndarray) -> Columns:
        """Refunds of purchases of which nothing is left."""
        told = [self.book.told_under(plan).index for plan in self.plans]
        why = [REASON_CODE[plan.recovery or "DUPLICATE"] for plan in self.plans]
        zero = np.zeros(len(row), dtype=np.int64)
        return Columns.uncapped(
            row, np.array(told)[self.plan_of[of]], np.full(len(row), CLASS_CODE["CLAWBACK"]),
            np.array(why)[self.plan_of[row]], zero, zero.copy(),
        )  # fmt: skip

    def _taken(
        self, rows: np.ndarray, of: np.ndarray, before: np.ndarray, left: np.ndarray
    ) -> tuple[Columns, pl.DataFrame]:
        """Refunds that lower what is left of the purchases `of` from `before` to `left`."""
        at, rule, reason = self._earning.for_plans(self.plan_of[of])
        granted = reason != REASON_CODE["PROMO_NOT_ACTIVATED"]
        at, rule, reason = at[granted], rule[granted], reason[granted]
        earns = reason == 0
        row, item, before, left = rows[at], of[at], before[at], left[at]
        took = np.where(earns, before - left, 0)
        points = np.where(earns, self.rates.points(left, rule) - self.rates.points(before, rule), 0)
        reason = np.where(earns & (points == 0), REASON_CODE["ROUNDED_TO_ZERO"], reason)
        found = Columns.uncapped(
            row, rule, np.full(len(at), CLASS_CODE["CLAWBACK"]), reason, took, points
        )
        change, restored = np.zeros_like(took), np.zeros_like(took)
        capped = np.flatnonzero(earns & self.rates.is_capped[rule])
        if len(capped):
            by = rule[capped]
            change[capped] = self.rates.asked(left[capped], by) - self.rates.asked(
                before[capped], by
            )
            window = self._windows(self.day[item[capped]], by)
            holds = self._holds(window, self.day[row[capped]], by)
            restored[capped] = np.where(holds, -change[capped], 0)
            found.window[capped], found.cap_used[capped] = window, -restored[capped]
            group = self._group(row[capped], by, window)
            for each, used in zip(group.tolist(), restored[capped].tolist(), strict=True):
                self.caps.used[each] -= used
        rule_ids = pl.Series([each.rule_id for each in self.rates.rules], dtype=pl.String)
        basis_on = pl.Series(self.day[item]).cast(pl.Date)
        allocations = pl.DataFrame(
            {
                "row": row, "item_event_id": self.events["event_id"][item],
                "rule_id": rule_ids[rule], "amount_minor": before - left,
                "limit_change": change, "restored": restored,
                "item_basis_on": pl.select(pl.when(pl.Series(earns)).then(basis_on)).to_series(),
            }
        )  # fmt: skip
        order = np.lexsort((rule, row))
        return Columns(*(getattr(found, each.name)[order] for each in fields(found))), allocations

    def _holds(self, window: np.ndarray, day: np.ndarray, rule: np.ndarray) -> np.ndarray:
        """Whether each `day` is still in the window that began on `window`: `CompiledCap.holds`."""
        holds = self._windows(day, rule) == window
        for index in np.unique(rule):
            cap = self.rates.rules[index].cap
            assert cap is not None
            if cap.promo is not None:
                here = rule == index
                on = day[here].astype(np.int64)
                holds[here] = (cap.promo[0] <= on) & (on <= cap.promo[1])
        return holds

    def count_caps(self, found: Columns, used_before: Mapping[int, int]) -> None:
        """What had been used of its cap before each purchase, by all that came before it."""
        rows = np.flatnonzero(found.has_cap)
        group = self._group(found.row[rows], found.rule[rows], found.window[rows])
        order = np.argsort(group, kind="stable")
        groups = Runs.of(group[order])
        prior = [used_before.get(each, 0) for each in group[order][groups.start].tolist()]
        before = np.empty(len(rows), dtype=np.int64)
        before[order] = groups.spread(np.array(prior, dtype=np.int64)) + groups.before(
            found.cap_used[rows][order]
        )
        earns = found.event_class[rows] == CLASS_CODE["EARN"]
        found.cap_before[rows[earns]] = before[earns]
