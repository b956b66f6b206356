"""A second, plain reading of the earning rules: one event at a time, integers and dictionaries.

Written from the rules alone and for clarity, not speed; the engine must agree with it. A program
here is a dictionary of rules with `match` (category code → bool), a fraction, an optional cap and
a group; there is one version.
"""

from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction


@dataclass
class ReferenceRule:
    """points = round(amount × rate), or points per full block; `cap` is (unit, amount, key)."""

    rule_id: str
    rate: Fraction
    mccs: frozenset[str] | None = None
    group: str | None = None
    block: int | None = None
    block_points: int = 0
    cap: tuple[str, int, str] | None = None
    mode: str = "HALF_UP"

    def points(self, amount: int) -> int:
        """Ledger units for `amount` minor units."""
        if self.block:
            return amount // self.block * self.block_points
        return round_fraction(amount * self.rate, self.mode)

    def worth(self) -> Fraction:
        """Points per minor unit, to find the best of a group."""
        return Fraction(self.block_points, self.block) if self.block else self.rate


def round_fraction(value: Fraction, mode: str) -> int:
    """`value` to an integer by the named mode, from the definition of each."""
    floor = value.numerator // value.denominator
    rest = value - floor
    if mode == "DOWN" or rest == 0:
        return floor
    if mode == "UP":
        return floor + 1
    if rest == Fraction(1, 2):
        return floor + 1 if mode == "HALF_UP" or floor % 2 else floor
    return floor + 1 if rest > Fraction(1, 2) else floor


@dataclass
class Purchase:
    """A posted purchase: what is left of it and what each rule may still reward."""

    amount: int
    left: int
    quarter: tuple[int, int]
    excluded: bool
    rules: list[ReferenceRule]
    allowed: dict[str, int] = field(default_factory=dict)
    at_first: dict[str, int] = field(default_factory=dict)
    given_back: dict[str, int] = field(default_factory=dict)

    def points(self, left: int) -> dict[str, int]:
        """What each rule gives at `left` minor units."""
        answer = {}
        for rule in self.rules:
            if rule.cap is None:
                answer[rule.rule_id] = rule.points(left)
            elif rule.cap[0] == "SPEND_MINOR":
                answer[rule.rule_id] = rule.points(min(left, self.allowed[rule.rule_id]))
            else:
                answer[rule.rule_id] = min(rule.points(left), self.allowed[rule.rule_id])
        return answer


@dataclass
class Reference:
    """One account. `decided` maps (event, rule) to points; caps are by quarter."""

    rules: list[ReferenceRule]
    excluded: frozenset[str]
    purchases: dict[str, list[Purchase]] = field(default_factory=dict)
    refunds: dict[str, list[list[object]]] = field(default_factory=dict)
    refunds_of: dict[str, list[list[object]]] = field(default_factory=dict)
    used: dict[tuple[str, tuple[int, int]], int] = field(default_factory=dict)
    decided: dict[tuple[str, str], int] = field(default_factory=dict)
    over_refunded: dict[str, int] = field(default_factory=dict)

    def run(self, events: list[dict]) -> "Reference":
        """Work the events in their order; returns itself."""
        for event in sorted(
            events,
            key=lambda e: (e["posted_on"], e["event_at"], e["transaction_id"], e["event_id"]),
        ):
            if event["direction"] == "CREDIT":
                self._refund(event)
            elif event["event_type"] == "RETURN_REVERSAL":
                self._reverse(event)
            else:
                self._purchase(event)
        return self

    def best(self, mcc: str) -> list[ReferenceRule]:
        """The base, the best of each group and whatever stands alone."""
        chosen = [self.rules[0]]
        bonus = [rule for rule in self.rules[1:] if rule.mccs is None or mcc in rule.mccs]
        for rule in bonus:
            rivals = [each for each in bonus if rule.group and each.group == rule.group] or [rule]
            if max(rivals, key=lambda each: each.worth()) is rule:
                chosen.append(rule)
        return chosen

    def _purchase(self, event: dict) -> None:
        amount, quarter = event["amount_minor"], quarter_of(event["event_at"].date())
        excluded = event["mcc"] in self.excluded
        purchase = Purchase(
            amount, amount, quarter, excluded, [] if excluded else self.best(event["mcc"])
        )
        for rule in purchase.rules:
            if rule.cap:
                unit, size, key = rule.cap
                asked = amount if unit == "SPEND_MINOR" else rule.points(amount)
                granted = max(0, min(asked, size - self.used.get((key, quarter), 0)))
                self.used[key, quarter] = self.used.get((key, quarter), 0) + granted
                purchase.allowed[rule.rule_id] = purchase.at_first[rule.rule_id] = granted
                purchase.given_back[rule.rule_id] = 0
        self.purchases.setdefault(event["transaction_id"], []).append(purchase)
        self._note(event, purchase.points(amount) or {"base": 0})

    def _refund(self, event: dict) -> None:
        found = self.purchases.get(event["refunds_transaction_id"] or "") or self.purchases.get(
            event["transaction_id"]
        )
        kept = self.refunds.setdefault(event["transaction_id"], [])
        if not found:
            excluded = event["mcc"] in self.excluded
            rules = [] if excluded else self.best(event["mcc"])
            kept.append([None, event["amount_minor"], rules])
            self._note(event, {r.rule_id: -r.points(event["amount_minor"]) for r in rules})
            return
        left, total = event["amount_minor"], {}
        for purchase in reversed(found):
            part = min(left, purchase.left)
            if part:
                left -= part
                refund = [purchase, part, None]
                kept.append(refund)
                self.refunds_of.setdefault(event["refunds_transaction_id"], []).append(refund)
                self._shift(purchase, -part, event, total)
        if left:
            self.over_refunded[event["event_id"]] = left
        self._note(event, total)

    def _reverse(self, event: dict) -> None:
        """Undo the refund of the same transaction, or else those of the purchase it names."""
        left, total = event["amount_minor"], {}
        of = event["refunds_transaction_id"]
        found = self.refunds.get(event["transaction_id"]) or (of and self.refunds_of.get(of)) or []
        for refund in reversed(found):
            purchase, amount, rules = refund
            part = min(left, amount)
            if not part:
                continue
            left -= part
            refund[1] = amount - part
            if purchase is None:
                for rule in rules:
                    back = rule.points(amount) - rule.points(amount - part)
                    total[rule.rule_id] = total.get(rule.rule_id, 0) + back
            else:
                self._shift(purchase, part, event, total)
        self._note(event, total)

    def _shift(self, purchase: Purchase, by: int, event: dict, total: dict[str, int]) -> None:
        """Recompute the purchase with `by` more or less of it; add the difference to `total`."""
        before = purchase.points(purchase.left)
        purchase.left += by
        same_quarter = quarter_of(event["event_at"].date()) == purchase.quarter
        for rule in purchase.rules:
            if rule.cap is None:
                continue
            unit, size, key = rule.cap
            name, window = rule.rule_id, (key, purchase.quarter)
            fits = purchase.left if unit == "SPEND_MINOR" else rule.points(purchase.left)
            allowed = purchase.allowed[name]
            if by < 0:
                purchase.allowed[name] = min(allowed, fits)
                if same_quarter:
                    self.used[window] -= allowed - purchase.allowed[name]
                    purchase.given_back[name] += allowed - purchase.allowed[name]
                continue
            wanted = max(0, min(purchase.at_first[name], fits) - allowed)
            kept = max(0, purchase.at_first[name] - allowed - purchase.given_back[name])
            free = min(wanted, kept)
            again = min(wanted - free, purchase.given_back[name], max(0, size - self.used[window]))
            self.used[window] += again
            purchase.given_back[name] -= again
            purchase.allowed[name] = allowed + free + again
        after = purchase.points(purchase.left)
        for name, points in after.items():
            total[name] = total.get(name, 0) + points - before[name]

    def _note(self, event: dict, points: dict[str, int]) -> None:
        for rule_id, each in points.items():
            if each:
                self.decided[event["event_id"], rule_id] = each


def quarter_of(day: date) -> tuple[int, int]:
    """Year and quarter."""
    return day.year, (day.month - 1) // 3
