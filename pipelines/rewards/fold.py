"""One account's history event by event: what refunds, their reversals and floors need.

Plain integers, no frames. The engine sends only the events here that depend on one another;
everything else is decided in columns (`columns.py`) with the same meaning.
"""

from dataclasses import dataclass, field
from datetime import date

from pipelines.rewards.rules import (
    CompiledRule,
    Kind,
    Plan,
    RuleBook,
    largest_remainder,
    rounded,
)

CapKey = tuple[str, int]
"""Share key and the first day of the window."""


@dataclass(slots=True)
class Grant:
    """What one rule granted to one posted amount.

    `limit` bounds what the rule rewards now (spend or points, by the cap's unit; None without a
    cap), `original` is what it was at first, `restored` what refunds gave back to the window.
    """

    rule: CompiledRule
    limit: int | None = None
    original: int | None = None
    restored: int = 0
    window_start: int = 0


@dataclass(slots=True)
class Item:
    """One posted purchase amount and what is left of it after refunds, in minor units.

    `told_under`: the rule that decisions about it name where it has no grants.
    """

    event_id: str
    amount: int
    left: int
    zero_reason: str | None
    told_under: CompiledRule
    grants: list[Grant]
    floor: tuple[CompiledRule, int] | None = None
    basis_on: date | None = None
    period: date | None = None


@dataclass(slots=True)
class Taken:
    """What a refund took from one item; `item` is None where no purchase was found."""

    item: Item | None
    amount: int
    plan: Plan
    version_index: int


@dataclass(slots=True)
class Row:
    """One decision: a posted event under one rule; `points` is negative where taken back."""

    row: int
    rule: CompiledRule
    event_class: str
    zero_reason: str | None
    eligible_minor: int = 0
    points: int = 0
    window_start: int | None = None
    cap_before: int | None = None
    cap_used: int | None = None


@dataclass(slots=True)
class Allocation:
    """How much of a refund (negative: of its reversal) fell on one item under one rule;
    `item_basis_on` is the day of a purchase that earns."""

    row: int
    item_event_id: str
    rule_id: str
    amount: int
    limit_change: int
    restored: int
    item_basis_on: date | None


@dataclass(slots=True)
class Problem:
    """Something for the exception queue."""

    row: int
    type: str
    amount: int


@dataclass(slots=True)
class AccountFold:
    """State of one account: cap usage, purchases by transaction, refunds by transaction."""

    book: RuleBook
    caps: dict[CapKey, int] = field(default_factory=dict)
    items: dict[str, list[Item]] = field(default_factory=dict)
    taken: dict[str, list[Taken]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    allocations: list[Allocation] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    order: list[Item] = field(default_factory=list)
    exact: dict[date | None, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item in (each for own in self.items.values() for each in own):
            if self._carries(item):
                self.exact[item.period] = self.exact.get(item.period, 0) + sum(self._worth(item))

    def apply(
        self, row: int, event_id: str, own: str, refunds: str | None, day: date, amount: int,
        plan: Plan, period: date | None = None,
    ) -> None:  # fmt: skip
        """Work one event in: `own` is its transaction, `refunds` the one it gives back; `period`
        the last day of its statement period, where points are rounded by statement."""
        match plan.kind:
            case Kind.EARN:
                self._earn(row, event_id, own, day, amount, plan, period)
            case Kind.TAKE_BACK:
                self._take_back(row, own, refunds, day, amount, plan)
            case Kind.UNDO:
                self._undo(row, own, refunds, day, amount, plan)
            case _:
                self._nothing(row, plan, "NONE", plan.zero_reason)

    def _nothing(self, row: int, plan: Plan, event_class: str, reason: str | None) -> None:
        self.rows.append(Row(row, self.book.told_under(plan), event_class, reason))

    def _earn(
        self, row: int, event_id: str, own: str, day: date, amount: int, plan: Plan,
        period: date | None,
    ) -> None:  # fmt: skip
        told_under = self.book.told_under(plan)
        item = Item(
            event_id, amount, amount, plan.zero_reason, told_under, [], plan.floor, day, period
        )
        self.items.setdefault(own, []).append(item)
        self.order.append(item)
        if plan.zero_reason:
            self._nothing(row, plan, "EARN", plan.zero_reason)
            return
        before: list[int | None] = []
        exhausted: list[bool] = []
        for rule in plan.rules:
            grant = Grant(rule)
            used_before = None
            room = 1
            if cap := rule.cap:
                grant.window_start = cap.window_start(day)
                key = (cap.share_key, grant.window_start)
                used_before = self.caps.get(key, 0)
                room = max(0, cap.amount - used_before)
                grant.limit = min(rule.asked(amount), room)
                grant.original = grant.limit
                self.caps[key] = used_before + grant.limit
            item.grants.append(grant)
            before.append(used_before)
            exhausted.append(room == 0)
        points = self._since(item, None)
        for grant, used_before, full, earned in zip(
            item.grants, before, exhausted, points, strict=False
        ):
            cap = grant.rule.cap
            eligible = grant.limit if cap and cap.is_spend else amount
            assert eligible is not None
            reason = None
            if earned == 0:
                reason = "CAP_EXHAUSTED" if full and amount else "ROUNDED_TO_ZERO"
            self.rows.append(
                Row(
                    row, grant.rule, "EARN", reason, eligible, earned,
                    grant.window_start if cap else None, used_before, grant.limit,
                )
            )  # fmt: skip
        if item.floor and len(points) > len(item.grants) and points[-1]:
            self.rows.append(Row(row, item.floor[0], "EARN", None, amount, points[-1]))
        for rule in plan.inactive:
            self.rows.append(Row(row, rule, "EARN", "PROMO_NOT_ACTIVATED"))

    def _take_back(
        self, row: int, own: str, refunds: str | None, day: date, amount: int, plan: Plan
    ) -> None:
        items = self.items.get(refunds or "") or self.items.get(own)
        if not items:
            self._take_back_unmatched(row, own, amount, plan)
            return
        taken: list[Taken] = []
        left = amount
        changes: dict[int, Row] = {}
        reason = None
        for item in reversed(items):
            part = min(left, item.left)
            if part == 0:
                continue
            left -= part
            reason = reason or item.zero_reason
            taken.append(Taken(item, part, plan, plan.version_index))
            self._change(row, item, -part, day, plan.version_index, "CLAWBACK", changes)
        self.taken.setdefault(own, []).extend(taken)
        if refunds and refunds != own:
            self.taken.setdefault(f"of:{refunds}", []).extend(taken)
        if left and not plan.recovery:
            self.problems.append(Problem(row, "OVER_REFUND", left))
        touched = [part.item for part in taken if part.item]
        self._rate_again(row, touched, day, plan, "CLAWBACK", changes)
        otherwise = plan.recovery or "DUPLICATE"
        self._emit(row, changes, items[-1].told_under, "CLAWBACK", reason or otherwise)

    def _rate_again(
        self, row: int, touched: list[Item], day: date, plan: Plan, event_class: str,
        changes: dict[int, Row],
    ) -> None:  # fmt: skip
        """Fill the windows that `touched` purchases moved anew, in the order of the purchases."""
        terms = self.book.program.versions[plan.version_index].terms
        if terms.returns.cap_refill != "RERATE":
            return
        keys = {
            (cap.share_key, grant.window_start)
            for item in touched
            for grant in item.grants
            if (cap := grant.rule.cap) and cap.holds(grant.window_start, day)
        }
        self.caps.update(dict.fromkeys(keys, 0))
        for item in self.order if keys else ():
            before = self._worth(item)
            for grant in item.grants:
                cap = grant.rule.cap
                key = (cap.share_key, grant.window_start) if cap else None
                if cap is None or key not in keys or grant.limit is None:
                    continue
                room = max(0, cap.amount - self.caps[key])
                limit = min(grant.rule.asked(item.left), room)
                self.caps[key] += limit
                if limit == grant.limit:
                    continue
                change = changes.setdefault(
                    grant.rule.index, Row(row, grant.rule, event_class, None)
                )
                change.window_start = grant.window_start
                change.cap_used = (change.cap_used or 0) + limit - grant.limit
                grant.original = (grant.original or 0) + limit - grant.limit
                grant.limit = limit
            self._add(row, item, self._since(item, before), event_class, changes)

    @staticmethod
    def _add(
        row: int, item: Item, points: list[int], event_class: str, changes: dict[int, Row]
    ) -> None:
        """Add to `changes` what each rule of `item`, and its floor, gives more or less."""
        rules = [grant.rule for grant in item.grants]
        if item.floor:
            rules.append(item.floor[0])
        for rule, each in zip(rules, points, strict=False):
            if each:
                change = changes.setdefault(rule.index, Row(row, rule, event_class, None))
                change.points += each

    def _take_back_unmatched(self, row: int, own: str, amount: int, plan: Plan) -> None:
        self.taken.setdefault(own, []).append(Taken(None, amount, plan, plan.version_index))
        if reason := plan.zero_reason or plan.recovery:
            self._nothing(row, plan, "CLAWBACK", reason)
            return
        rules = self.book.unmatched_rules(plan)
        for rule in rules:
            points = -rule.points(amount)
            reason = None if points else "ROUNDED_TO_ZERO"
            self.rows.append(Row(row, rule, "CLAWBACK", reason, amount, points))
        if not rules:
            self._nothing(row, plan, "CLAWBACK", "NOT_POSTED")

    def _undo(
        self, row: int, own: str, refunds: str | None, day: date, amount: int, plan: Plan
    ) -> None:
        # A refund of which no purchase is known is named itself.
        named = (own, f"of:{refunds}", refunds or "")
        taken = next((self.taken[name] for name in named if self.taken.get(name)), [])
        left = amount
        changes: dict[int, Row] = {}
        reason = None
        for each in reversed(taken):
            part = min(left, each.amount)
            if part == 0:
                continue
            left -= part
            each.amount -= part
            if each.item is None:
                for rule in self.book.unmatched_rules(each.plan):
                    points = rule.points(each.amount + part) - rule.points(each.amount)
                    change = changes.setdefault(rule.index, Row(row, rule, "RESTORE", None))
                    change.eligible_minor += part
                    change.points += points
                reason = reason or each.plan.zero_reason
            else:
                reason = reason or each.item.zero_reason
                self._change(row, each.item, part, day, each.version_index, "RESTORE", changes)
        if left:
            self.problems.append(Problem(row, "UNMATCHED_RETURN_REVERSAL", left))
        touched = [each.item for each in taken if each.item]
        self._rate_again(row, touched, day, plan, "RESTORE", changes)
        base = self.book.base(plan.version_index)
        self._emit(row, changes, base, "RESTORE", reason or "NOT_POSTED")

    def _change(
        self, row: int, item: Item, by: int, day: date, version_index: int, event_class: str,
        changes: dict[int, Row],
    ) -> None:  # fmt: skip
        """Move what is left of `item` by `by` and add what that changes to `changes`."""
        terms = self.book.program.versions[version_index].terms
        at = version_index if terms.returns.rate_at == "RETURN_DATE" else None
        before = self._worth(item, at)
        eligible_before = [self._eligible(grant, item.left) for grant in item.grants]
        item.left += by
        if not item.grants:
            rule_id = item.told_under.rule_id
            self.allocations.append(Allocation(row, item.event_id, rule_id, -by, 0, 0, None))
            return
        released = [self._move_limit(item, grant, by, day) for grant in item.grants]
        for index, grant in enumerate(item.grants):
            change = changes.setdefault(grant.rule.index, Row(row, grant.rule, event_class, None))
            change.eligible_minor += abs(self._eligible(grant, item.left) - eligible_before[index])
            limit_change, restored = released[index]
            if grant.rule.cap:
                # A cap is given back in one window only: that one is told.
                if restored or change.window_start is None:
                    change.window_start = grant.window_start
                change.cap_used = (change.cap_used or 0) - restored
            self.allocations.append(
                Allocation(
                    row,
                    item.event_id,
                    grant.rule.rule_id,
                    -by,
                    limit_change,
                    restored,
                    item.basis_on,
                )
            )
        self._add(row, item, self._since(item, before, at), event_class, changes)

    def _move_limit(self, item: Item, grant: Grant, by: int, day: date) -> tuple[int, int]:
        """Fit the grant to what is left; returns the limit's change and the window's refill."""
        cap = grant.rule.cap
        if cap is None or grant.limit is None or grant.original is None:
            return 0, 0
        key = (cap.share_key, grant.window_start)
        fitting = grant.rule.asked(item.left)
        before = grant.limit
        refill = 0
        if by < 0:
            grant.limit = min(before, fitting)
            if cap.holds(grant.window_start, day):
                refill = before - grant.limit
                self.caps[key] = self.caps.get(key, 0) - refill
        else:
            wanted = max(0, min(grant.original, fitting) - before)
            not_refilled = grant.original - before - grant.restored
            free = min(wanted, max(0, not_refilled))
            room = max(0, cap.amount - self.caps.get(key, 0))
            again = min(wanted - free, grant.restored, room)
            self.caps[key] = self.caps.get(key, 0) + again
            grant.limit = before + free + again
            refill = -again
        grant.restored += refill
        return grant.limit - before, refill

    def _emit(
        self, row: int, changes: dict[int, Row], base: CompiledRule, event_class: str,
        otherwise: str,
    ) -> None:  # fmt: skip
        """One row per rule that moved; where none did, one that says why not.

        Parts of a purchase that were decided under several versions or tiers of a rule are told
        under the latest of them, or under the one that gives a cap back.
        """
        by_rule: dict[str, Row] = {}
        for change in sorted(changes.values(), key=lambda change: not change.cap_used):
            if not (change.points or change.eligible_minor or change.cap_used):
                continue
            told = by_rule.setdefault(change.rule.rule_id, change)
            if told is not change:
                told.points += change.points
                told.eligible_minor += change.eligible_minor
                if change.cap_used is not None:
                    told.cap_used = (told.cap_used or 0) + change.cap_used
        for change in sorted(by_rule.values(), key=lambda change: change.rule.index):
            if change.points == 0:
                change.zero_reason = "ROUNDED_TO_ZERO"
            self.rows.append(change)
        if not by_rule:
            self.rows.append(Row(row, base, event_class, otherwise))

    @staticmethod
    def _eligible(grant: Grant, amount: int) -> int:
        cap = grant.rule.cap
        if cap and cap.is_spend and grant.limit is not None:
            return min(grant.limit, amount)
        return amount

    def _carries(self, item: Item) -> bool:
        """Whether points of `item` are rounded with those of its statement period."""
        if not self.book.carries or not item.grants:
            return False
        version = self.book.program.versions[item.grants[0].rule.version_index]
        return version.terms.rounding.scope == "STATEMENT"

    def _worth(self, item: Item, at: int | None = None) -> list[int]:
        """`_points` of what is left of `item`; where its statement rounds them, exact points over
        the book's carry denominator."""
        if not self._carries(item):
            return self._points(item, item.left, at)
        common = self.book.carry_denominator
        return [
            grant.rule.raw(self._eligible(grant, item.left)) * (common // grant.rule.denominator)
            for grant in item.grants
        ]

    def _since(self, item: Item, before: list[int] | None, at: int | None = None) -> list[int]:
        """What `item` has gained since it was worth `before` (`_worth`), in ledger units."""
        now = self._worth(item, at)
        moved = [new - old for new, old in zip(now, before or [0] * len(now), strict=True)]
        if not self._carries(item):
            return moved
        common, mode = self.book.carry_denominator, item.grants[0].rule.mode
        held = self.exact.get(item.period, 0)
        self.exact[item.period] = held + sum(moved)
        change = rounded(held + sum(moved), common, mode) - rounded(held, common, mode)
        split = largest_remainder(abs(change), [abs(each) for each in moved])
        return split if change > 0 else [-each for each in split]

    def _points(self, item: Item, amount: int, at: int | None = None) -> list[int]:
        """Ledger units of each grant, and of the floor as a last element where there is one.

        `at` evaluates the rules of the same ids in another version.
        """
        if not item.grants:
            return []
        exact: list[tuple[int, int, str]] = []
        points: list[int] = []
        for grant in item.grants:
            rule = grant.rule
            if at is not None:
                found = self.book.in_tier(at, rule.rule_id, rule)
                if found is None:
                    points.append(0)
                    exact.append((0, 1, rule.mode))
                    continue
                rule = found
            eligible = self._eligible(grant, amount)
            is_bounded = rule.cap and not rule.cap.is_spend and grant.limit is not None
            points.append(
                rule.capped(eligible, grant.limit or 0) if is_bounded else rule.points(eligible)
            )
            exact.append((rule.raw(eligible), rule.denominator, rule.mode))
        version = item.grants[0].rule.version_index if at is None else at
        if self.book.program.versions[version].terms.rounding.scope == "TXN":
            points = _rounded_together(exact)
        if item.floor:
            points.append(max(0, item.floor[1] - sum(points)) if amount > 0 else 0)
        return points


def _rounded_together(exact: list[tuple[int, int, str]]) -> list[int]:
    """One rounding of the sum of fractions, shared out by largest remainder."""
    common = 1
    for _, denominator, _ in exact:
        common *= denominator
    weights = [numerator * (common // denominator) for numerator, denominator, _ in exact]
    return largest_remainder(rounded(sum(weights), common, exact[0][2]), weights)
