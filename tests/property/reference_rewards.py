"""A second, plain reading of the rewards rules: one event at a time, fractions and dictionaries.

Written from the rules alone and for clarity, not speed; the engine must agree with it. It reads
the terms as the mapping that stands in the YAML, one version, and one account at a time.
"""

from dataclasses import dataclass, field
from datetime import date, timedelta
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any

CATEGORIES = {"dining": {"5812"}, "grocery": {"5411"}, "gas": {"5541"}, "cash_like": {"6011"}}
"""What the histories use of the categories."""
RECOVERIES = ("CHARGEBACK", "FRAUD_CONFIRMED")
BAD_SUBSTATUS = ("DELINQUENT", "CHARGED_OFF_*", "INTEREST_AND_FEES_PAUSED")
Event = dict[str, Any]
Rule = dict[str, Any]


def round_fraction(value: Fraction, mode: str) -> int:
    """`value` to an integer by the named mode, from the definition of each; odd in the sign."""
    if value < 0:
        return -round_fraction(-value, mode)
    floor = value.numerator // value.denominator
    rest = value - floor
    if mode == "DOWN" or rest == 0:
        return floor
    if mode == "UP":
        return floor + 1
    if rest == Fraction(1, 2):
        return floor + 1 if mode == "HALF_UP" or floor % 2 else floor
    return floor + 1 if rest > Fraction(1, 2) else floor


def shares(total: int, weights: list[Fraction]) -> list[int]:
    """`total` by largest remainder; ties and nothing to go by: the first."""
    whole = sum(weights)
    if not whole:
        return [total] + [0] * (len(weights) - 1)
    exact = [total * weight / whole for weight in weights]
    answer = [each.numerator // each.denominator for each in exact]
    order = sorted(range(len(exact)), key=lambda i: (-(exact[i] - answer[i]), i))
    for i in order[: total - sum(answer)]:
        answer[i] += 1
    return answer


def first_of_month(day: date, back: int = 0) -> date:
    """The first day of the month `back` months before that of `day`."""
    count = day.year * 12 + day.month - 1 - back
    return date(count // 12, count % 12 + 1, 1)


def last_of_period(day: date, cycle_day: int | None) -> date:
    """The last day of the statement period of `day`: the next cycle day, or the month's end."""
    while True:
        is_last = (day + timedelta(days=1)).day == 1
        if day.day == cycle_day or (is_last and (cycle_day is None or day.day < cycle_day)):
            return day
        day += timedelta(days=1)


@dataclass
class Known:
    """What is known of an account beside its events.

    `records` are (from when, status, substatus, tier, cycle day) in order; `statements` are the
    first and last days of closed periods; `opened_on` is None where the account has no bonus.
    """

    records: list[tuple[Any, str, str | None, str | None, int | None]] = field(default_factory=list)
    statements: list[tuple[date, date]] = field(default_factory=list)
    opened_on: date | None = None
    activated: dict[str, date] = field(default_factory=dict)


@dataclass
class Purchase:
    """What can earn: what is left of it and what each rule may still reward."""

    event: Event
    left: int
    reason: str | None
    rules: list[Rule]
    has_floor: bool
    times: dict[str, Fraction]
    allowed: dict[str, int] = field(default_factory=dict)
    at_first: dict[str, int] = field(default_factory=dict)
    given_back: dict[str, int] = field(default_factory=dict)


@dataclass
class Refund:
    """What was taken from a purchase, or (without one) at the rates of its own category."""

    purchase: Purchase | None
    amount: int
    rules: list[Rule]
    event: Event
    times: dict[str, Fraction]


@dataclass
class Reference:
    """One account. `decided` maps (event, rule) to points; `used` is cap usage by window."""

    terms: dict[str, Any]
    known: Known = field(default_factory=Known)
    failed: list[tuple[date, date]] = field(default_factory=list)
    purchases: dict[str, list[Purchase]] = field(default_factory=dict)
    in_order: list[Purchase] = field(default_factory=list)
    refunds: dict[str, list[Refund]] = field(default_factory=dict)
    used: dict[tuple[str, Any], int] = field(default_factory=dict)
    decided: dict[tuple[str, str], int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    over_refunded: dict[str, int] = field(default_factory=dict)
    strays: list[tuple[Event, int]] = field(default_factory=list)
    spent_on: list[tuple[date, int]] = field(default_factory=list)
    exact: dict[date, Fraction] = field(default_factory=dict)
    awarded: dict[str, int] = field(default_factory=dict)

    def run(self, events: list[Event]) -> "Reference":
        """Work the events in their order; returns itself."""
        ordered = sorted(
            events,
            key=lambda e: (e["posted_on"], e["event_at"], e["transaction_id"], e["event_id"]),
        )
        self._judge_periods(ordered)
        for event in ordered:
            if event["direction"] == "CREDIT":
                self._refund(event)
            elif event["event_type"] == "RETURN_REVERSAL" or event["transaction_class"] == "REFUND":
                self._reverse(event)
            else:
                self._purchase(event)
            self._look_at_bonuses(event)
        return self

    # What is known

    def _judge_periods(self, events: list[Event]) -> None:
        needed = max((gate["n"] for gate in self.terms.get("gates", [])), default=0)
        for first, last in self.known.statements:
            bought = {
                event["transaction_id"]
                for event in events
                if first <= event["posted_on"] <= last
                and event["direction"] == "DEBIT"
                and event["transaction_class"] == "PURCHASE"
                and event["event_type"] != "RETURN_REVERSAL"
            }
            if len(bought) < needed:
                self.failed.append((first, last))

    def _record(self, event: Event) -> tuple[Any, ...]:
        found = (None, None, None, None, None)
        for record in self.known.records:
            if record[0] <= event["event_at"]:
                found = record
        return found

    def _period(self, event: Event) -> date:
        return last_of_period(event["posted_on"], self._record(event)[4])

    # What applies

    def _matches(self, match: dict[str, Any], event: Event) -> bool:
        names = match.get("mcc_category", [])
        names = [names] if isinstance(names, str) else names
        by_name = not names or any(event["mcc"] in CATEGORIES[name] for name in names)
        return by_name and (not match.get("mcc") or event["mcc"] in map(str, match["mcc"]))

    def _worth(self, rule: Rule) -> Fraction:
        """Points per minor unit."""
        if "rate_milli" in rule:
            return Fraction(rule["rate_milli"], 100_000)
        return Fraction(rule["points"], rule["per_minor"])

    def _applicable(self, event: Event) -> list[Rule]:
        """The base, the best of each group and whatever stands alone."""
        day = event["event_at"].date()
        found = []
        for rule in self.terms["earn"].get("bonus", []):
            first, last = rule.get("valid", (date.min, date.max))
            since = self.known.activated.get(rule["id"], date.max)
            is_active = rule.get("activation") != "required" or since <= day
            if first <= day <= last and self._matches(rule["match"], event) and is_active:
                found.append(rule)
        best = []
        for rule in found:
            rivals = [r for r in found if rule.get("group") and r.get("group") == rule["group"]]
            if not rivals or max(rivals, key=self._worth) is rule:
                best.append(rule)
        return [self.terms["earn"]["base"], *best]

    def _reason(self, event: Event) -> str | None:
        """Why an event's own look earns (or takes back) nothing."""
        pays = self.terms.get("accrual", {}).get("strategy") == "PAYMENT"
        if pays != event["transaction_id"].startswith("payment:"):
            return "EXCLUDED_CLASS"
        excluded = self.terms.get("eligibility", {}).get("exclude_mcc_category", [])
        if any(event["mcc"] in CATEGORIES[name] for name in excluded):
            return "EXCLUDED_MCC"
        if event["direction"] == "CREDIT" or event["transaction_class"] == "REFUND":
            return None
        _, status, substatus, _, _ = self._record(event)
        if self.terms.get("eligibility", {}).get("account") and (
            status not in (None, "OPEN")
            or any(fnmatchcase(substatus or "", pattern) for pattern in BAD_SUBSTATUS)
        ):
            return "ACCOUNT_NOT_IN_GOOD_STANDING"
        if any(first <= event["posted_on"] <= last for first, last in self.failed):
            return "GATE_FAILED"
        return None

    def _times(self, event: Event, rules: list[Rule]) -> dict[str, Fraction]:
        """What the tier multiplies each rule by."""
        tier = None
        for each in sorted(
            self.terms.get("tiers", []), key=lambda tier: tier.get("at_least_minor", 0)
        ):
            if each.get("metric", "ACCOUNT_TIER") == "ACCOUNT_TIER":
                tier = each if self._record(event)[3] == each["id"] else tier
                continue
            day = event["event_at"].date()
            months = {"YEARLY": 12, "QUARTERLY": 3, "MONTHLY": 1}[each.get("review", "YEARLY")]
            review = first_of_month(day, (day.month - 1) % months)
            since = first_of_month(review, 12)
            if sum(a for on, a in self.spent_on if since <= on < review) >= each["at_least_minor"]:
                tier = each
        many = Fraction(tier["multiplier_milli"] if tier else 1000, 1000)
        is_all = not tier or tier.get("applies_to", "ALL") == "ALL"
        return {rule["id"]: many if i == 0 or is_all else Fraction(1)
                for i, rule in enumerate(rules)}  # fmt: skip

    def _window(self, rule: Rule, day: date) -> Any:
        match rule["cap"]["window"]:
            case "CALENDAR_MONTH":
                return day.year, day.month
            case "CALENDAR_QUARTER":
                return day.year, (day.month - 1) // 3
            case "CALENDAR_YEAR":
                return day.year
            case "PROMO":
                return "promo" if rule["valid"][0] <= day <= rule["valid"][1] else None
            case _:
                return "ever"

    def _key(self, rule: Rule, event: Event) -> tuple[str, Any]:
        window = self._window(rule, event["event_at"].date())
        return rule["cap"].get("share_key") or rule["id"], window

    # Points

    def _raw(self, rule: Rule, amount: int) -> Fraction:
        if "per_minor" in rule and rule.get("partial", "FLOOR") == "FLOOR":
            return Fraction(amount // rule["per_minor"] * rule["points"])
        return amount * self._worth(rule)

    def _round(self, value: Fraction) -> int:
        return round_fraction(value, self.terms["rounding"]["mode"])

    def _exact(self, purchase: Purchase, left: int) -> list[Fraction]:
        answer = []
        for rule in purchase.rules:
            amount = left
            if "cap" in rule and rule["cap"]["unit"] == "SPEND_MINOR":
                amount = min(left, purchase.allowed[rule["id"]])
            answer.append(self._raw(rule, amount) * purchase.times[rule["id"]])
        return answer

    def _points(self, purchase: Purchase, left: int) -> dict[str, int]:
        """What each rule, and the floor, gives at `left` minor units."""
        if not purchase.rules:
            return {}
        exact = self._exact(purchase, left)
        points = [self._round(each) for each in exact]
        for i, rule in enumerate(purchase.rules):
            if "cap" in rule and rule["cap"]["unit"] == "POINTS":
                # The cap counts points before the tier's multiplier, which comes after it.
                allowed = purchase.allowed[rule["id"]]
                if allowed < self._round(self._raw(rule, left)):
                    points[i] = self._round(allowed * purchase.times[rule["id"]])
        if self.terms["rounding"].get("scope") == "TXN":
            points = shares(self._round(sum(exact, Fraction())), exact)
        answer = {rule["id"]: each for rule, each in zip(purchase.rules, points, strict=True)}
        if purchase.has_floor:
            floor = self.terms["earn"]["floor"]
            answer[floor["id"]] = max(0, floor["min_points"] - sum(points)) if left else 0
        return answer

    def _moved(self, purchase: Purchase, exact: list[Fraction], points: dict[str, int]) -> Any:
        """What has changed of a purchase since it was worth `exact` and `points`."""
        now = self._exact(purchase, purchase.left)
        if self.terms["rounding"].get("scope") != "STATEMENT":
            after = self._points(purchase, purchase.left)
            return {name: after[name] - points.get(name, 0) for name in after}
        moved = [new - old for new, old in zip(now, exact, strict=True)]
        period = self._period(purchase.event)
        before = self.exact.get(period, Fraction())
        self.exact[period] = before + sum(moved)
        change = self._round(self.exact[period]) - self._round(before)
        split = shares(abs(change), [abs(each) for each in moved])
        sign = 1 if change > 0 else -1
        return {rule["id"]: sign * each for rule, each in zip(purchase.rules, split, strict=True)}

    # Events

    def _purchase(self, event: Event) -> None:
        amount, reason = event["amount_minor"], self._reason(event)
        rules = [] if reason else self._applicable(event)
        floor = self.terms["earn"].get("floor")
        has_floor = bool(rules and floor and self._matches(floor["match"], event))
        times = self._times(event, rules)
        purchase = Purchase(event, amount, reason, rules, has_floor, times)
        self.in_order.append(purchase)
        self.purchases.setdefault(event["transaction_id"], []).append(purchase)
        if reason:
            self.reasons[event["event_id"]] = reason
            return
        self.spent_on.append((event["event_at"].date(), amount))
        for rule in rules:
            if "cap" in rule:
                self._grant(purchase, rule)
        if rules:
            self._note(event, self._moved(purchase, [Fraction()] * len(rules), {}))

    def _grant(self, purchase: Purchase, rule: Rule) -> None:
        key = self._key(rule, purchase.event)
        granted = max(0, min(self._fits(purchase, rule), self._room(rule, key)))
        self.used[key] = self.used.get(key, 0) + granted
        name = rule["id"]
        purchase.allowed[name] = purchase.at_first[name] = granted
        purchase.given_back[name] = 0

    def _room(self, rule: Rule, key: tuple[str, Any]) -> int:
        return max(0, rule["cap"]["amount"] - self.used.get(key, 0))

    def _fits(self, purchase: Purchase, rule: Rule) -> int:
        if rule["cap"]["unit"] == "SPEND_MINOR":
            return purchase.left
        return self._round(self._raw(rule, purchase.left))

    def _refund(self, event: Event) -> None:
        of, own, amount = event["refunds_transaction_id"] or "", event["transaction_id"], 0
        found = self.purchases.get(of) or self.purchases.get(own)
        is_recovery = event["event_type"] in RECOVERIES
        if self._reason(event) is None:
            self.spent_on.append((event["event_at"].date(), -event["amount_minor"]))
        if not found:
            self._refund_stray(event)
            return
        amount, total, touched = event["amount_minor"], {}, []
        for purchase in reversed(found):
            part = min(amount, purchase.left)
            if part:
                amount -= part
                refund = Refund(purchase, part, [], event, {})
                self.refunds.setdefault(own, []).append(refund)
                if own != of:
                    self.refunds.setdefault(f"of:{of}", []).append(refund)
                self._shift(purchase, -part, event, total)
                touched.append(purchase)
        if amount and not is_recovery:
            self.over_refunded[event["event_id"]] = amount
        self._rate_again(touched, event, total)
        self._note(event, total)

    def _refund_stray(self, event: Event) -> None:
        """A refund of nothing that is known: as its own category would have earned."""
        if self._reason(event) or event["event_type"] in RECOVERIES:
            rules = []
        else:
            policy = self.terms.get("returns", {}).get("unmatched_rate", "CURRENT_MCC")
            count = {"CURRENT_MCC": None, "BASE": 1, "NONE": 0}[policy]
            rules = self._applicable(event)[:count]
        times = self._times(event, self._applicable(event))
        refund = Refund(None, event["amount_minor"], rules, event, times)
        self.refunds.setdefault(event["transaction_id"], []).append(refund)
        if rules:
            self.strays.append((event, -event["amount_minor"]))
        self._note(event, {r["id"]: -self._at(refund, r, refund.amount) for r in rules})

    def _at(self, refund: Refund, rule: Rule, amount: int) -> int:
        return self._round(self._raw(rule, amount) * refund.times[rule["id"]])

    def _reverse(self, event: Event) -> None:
        """Undo the refund of the same transaction, or else those of the purchase it names."""
        left, total, touched = event["amount_minor"], {}, []
        of = event["refunds_transaction_id"]
        if self._reason(event) is None:
            self.spent_on.append((event["event_at"].date(), left))
        found = self.refunds.get(event["transaction_id"]) or self.refunds.get(f"of:{of}") or []
        for refund in reversed(found):
            part = min(left, refund.amount)
            if not part:
                continue
            left -= part
            before = refund.amount
            refund.amount -= part
            if refund.purchase is not None:
                self._shift(refund.purchase, part, event, total)
                touched.append(refund.purchase)
                continue
            if refund.rules:
                self.strays.append((refund.event, part))
            for rule in refund.rules:
                back = self._at(refund, rule, before) - self._at(refund, rule, refund.amount)
                total[rule["id"]] = total.get(rule["id"], 0) + back
        self._rate_again(touched, event, total)
        self._note(event, total)

    def _shift(self, purchase: Purchase, by: int, event: Event, total: dict[str, int]) -> None:
        """Recompute the purchase with `by` more or less of it; add the difference to `total`."""
        if not purchase.rules:
            purchase.left += by
            return
        exact = self._exact(purchase, purchase.left)
        points = self._points(purchase, purchase.left)
        purchase.left += by
        for rule in purchase.rules:
            if "cap" in rule:
                self._shift_cap(purchase, rule, by, event)
        for name, change in self._moved(purchase, exact, points).items():
            total[name] = total.get(name, 0) + change

    def _shift_cap(self, purchase: Purchase, rule: Rule, by: int, event: Event) -> None:
        key, name = self._key(rule, purchase.event), rule["id"]
        fits, allowed = self._fits(purchase, rule), purchase.allowed[rule["id"]]
        if by < 0:
            purchase.allowed[name] = min(allowed, fits)
            if self._window(rule, event["event_at"].date()) == key[1]:
                self.used[key] -= allowed - purchase.allowed[name]
                purchase.given_back[name] += allowed - purchase.allowed[name]
            return
        wanted = max(0, min(purchase.at_first[name], fits) - allowed)
        kept = max(0, purchase.at_first[name] - allowed - purchase.given_back[name])
        free = min(wanted, kept)
        again = min(wanted - free, purchase.given_back[name], self._room(rule, key))
        self.used[key] += again
        purchase.given_back[name] -= again
        purchase.allowed[name] = allowed + free + again

    def _rate_again(self, touched: list[Purchase], event: Event, total: dict[str, int]) -> None:
        """Fill the windows that a refund moved anew, in the order of the purchases."""
        if self.terms.get("returns", {}).get("cap_refill") != "RERATE":
            return
        day = event["event_at"].date()
        keys = {
            self._key(rule, purchase.event)
            for purchase in touched
            for rule in purchase.rules
            if "cap" in rule and self._window(rule, day) == self._key(rule, purchase.event)[1]
        }
        for purchase in self.in_order:
            exact = self._exact(purchase, purchase.left) if purchase.rules else []
            points = self._points(purchase, purchase.left)
            mine = [
                r for r in purchase.rules if "cap" in r and self._key(r, purchase.event) in keys
            ]
            if not mine:
                continue
            for rule in mine:
                key, name = self._key(rule, purchase.event), rule["id"]
                before = sum(
                    each.allowed[r["id"]]
                    for each in self.in_order[: self.in_order.index(purchase)]
                    for r in each.rules
                    if "cap" in r and self._key(r, each.event) == key
                )
                room = max(0, rule["cap"]["amount"] - before)
                new = min(self._fits(purchase, rule), room)
                purchase.at_first[name] += new - purchase.allowed[name]
                purchase.allowed[name] = new
            for name, change in self._moved(purchase, exact, points).items():
                total[name] = total.get(name, 0) + change
        for key in keys:
            self.used[key] = sum(
                each.allowed[r["id"]]
                for each in self.in_order
                for r in each.rules
                if "cap" in r and self._key(r, each.event) == key
            )

    # Sign-up bonuses

    def _look_at_bonuses(self, event: Event) -> None:
        """Give what the net spend has reached; take back what it no longer has, if so agreed."""
        if self.known.opened_on is None:
            return
        for bonus in self.terms.get("signup_bonus", []):
            first = self.known.opened_on
            last = first + timedelta(days=bonus["within_days"])
            spent = sum(
                each.left
                for each in self.in_order
                if not each.reason and first <= each.event["event_at"].date() <= last
            ) + sum(
                amount for made, amount in self.strays if first <= made["event_at"].date() <= last
            )
            name, is_held = bonus["id"], bonus["id"] in self.awarded
            if spent >= bonus["threshold_minor"] and not is_held:
                self.awarded[name] = bonus["points"]
                self._note(event, {name: bonus["points"]})
            elif (
                spent < bonus["threshold_minor"]
                and is_held
                and bonus.get("clawback", {}).get("if_below_threshold")
            ):
                self._note(event, {name: -self.awarded.pop(name)})

    def _note(self, event: Event, points: dict[str, int]) -> None:
        for rule_id, each in points.items():
            key = (event["event_id"], rule_id)
            self.decided[key] = self.decided.get(key, 0) + each
