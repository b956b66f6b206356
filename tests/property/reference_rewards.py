"""A second, plain reading of the rewards rules: one event at a time, fractions and dictionaries.

Written from the rules alone and for clarity, not speed; the engine must agree with it. It reads
the terms as the mappings that stand in the YAML, a version each, and one account at a time.
"""

from calendar import monthrange
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from fractions import Fraction
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

CATEGORIES = {"dining": {"5812"}, "grocery": {"5411"}, "gas": {"5541"}, "cash_like": {"6011"}}
"""What the histories use of the categories."""
RECOVERIES = ("CHARGEBACK", "FRAUD_CONFIRMED")
BAD_SUBSTATUS = ("DELINQUENT", "CHARGED_OFF_*", "INTEREST_AND_FEES_PAUSED")
OTHER_CLASSES = ("FEE", "INTEREST", "CASH_ADVANCE")
"""What is no purchase; given back, it was never a purchase's refund."""
P2P = {"6538"}
"""What the flag p2p stands for."""
Event = dict[str, Any]
Rule = dict[str, Any]
Terms = dict[str, Any]


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


def months_after(day: date, months: int) -> date:
    """The same day so many months later, or the last one that the month has."""
    count = day.year * 12 + day.month - 1 + months
    year, month = count // 12, count % 12 + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))


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
    first and last days of closed periods; `opened_on` is None where the account has no bonus, and
    `is_first` tells a customer's first account; `activated` are moments and offers.
    """

    records: list[tuple[Any, str, str | None, str | None, int | None]] = field(default_factory=list)
    statements: list[tuple[date, date]] = field(default_factory=list)
    opened_on: date | None = None
    activated: list[tuple[datetime, str]] = field(default_factory=list)
    is_first: bool = True


@dataclass
class Purchase:
    """What can earn: what is left of it and what each rule may still reward."""

    event: Event
    terms: Terms
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
    terms: Terms
    times: dict[str, Fraction]


@dataclass
class Reference:
    """One account under `versions` of the terms, the earliest first.

    `decided` maps (event, rule) to ledger units; `used` is cap usage by window; `touched` are the
    purchases that a refund or its reversal fell on.
    """

    versions: list[Terms]
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
    places: dict[tuple[str, Any], list[str | None]] = field(default_factory=dict)
    touched: dict[str, list[str]] = field(default_factory=dict)

    def run(self, events: list[Event]) -> "Reference":
        """Work the events in their order; returns itself."""
        ordered = sorted(
            events,
            key=lambda e: (e["posted_on"], e["event_at"], e["transaction_id"], e["event_id"]),
        )
        self._judge_periods(ordered)
        for event in ordered:
            if event["direction"] == "CREDIT" and event["transaction_class"] in OTHER_CLASSES:
                continue
            if event["direction"] == "CREDIT":
                self._refund(event)
            elif event["event_type"] == "RETURN_REVERSAL" or event["transaction_class"] == "REFUND":
                self._reverse(event)
            else:
                self._purchase(event)
            self._look_at_bonuses(event)
        return self

    # What is known

    def _on(self, day: date) -> Terms:
        """The version in force on a day; the first one before it begins."""
        started = [each for each in self.versions if each["valid_from"] <= day]
        return started[-1] if started else self.versions[0]

    def _local(self, at: datetime) -> date:
        zone = ZoneInfo(self.versions[0].get("timezone", "UTC"))
        return at.replace(tzinfo=UTC).astimezone(zone).date()

    def _day(self, event: Event) -> date:
        """The day that picks the terms."""
        if self.versions[0].get("date_basis", "TRANSACTION_DATE") == "POSTING_DATE":
            return event["posted_on"]
        return self._local(event["event_at"])

    def _terms(self, event: Event) -> Terms:
        return self._on(self._day(event))

    @property
    def _units(self) -> int:
        """Ledger units of one point."""
        return 10 ** self.versions[0].get("asset_scale", 0)

    def _judge_periods(self, events: list[Event]) -> None:
        for first, last in self.known.statements:
            needed = max((gate["n"] for gate in self._on(last).get("gates", [])), default=0)
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
        return (
            by_name
            and (not match.get("mcc") or event["mcc"] in map(str, match["mcc"]))
            and all(
                not match.get(name) or event[name] == match[name]
                for name in ("partner_id", "merchant_id", "merchant_country")
            )
        )

    def _worth(self, rule: Rule) -> Fraction:
        """Ledger units per minor unit of two decimals."""
        if "rate_milli" in rule:
            return Fraction(rule["rate_milli"] * self._units, 100_000)
        return Fraction(rule["points"] * self._units, rule["per_minor"])

    def _has(self, rule: Rule, event: Event) -> bool:
        """Whether the member has taken a bonus up, if that is asked."""
        how = rule.get("activation", "none")
        if how == "none":
            return True
        bonuses = [bonus for each in self.versions for bonus in each["earn"].get("bonus", [])]
        rivals = {
            b["id"] for b in bonuses if rule.get("choice") and b.get("choice") == rule["choice"]
        }
        until = rule["valid"][1] if how == "retroactive" else self._day(event)
        taken = [
            (at, offer) for at, offer in self.known.activated
            if offer in (rivals or {rule["id"]}) and self._local(at) <= until
        ]  # fmt: skip
        return bool(taken) and max(taken)[1] == rule["id"]

    def _applicable(self, event: Event) -> list[Rule]:
        """The base, the best of each group and whatever stands alone."""
        day, terms = self._day(event), self._terms(event)
        found = []
        for rule in terms["earn"].get("bonus", []):
            first, last = rule.get("valid", (date.min, date.max))
            is_meant = first <= day <= last and self._matches(rule["match"], event)
            if is_meant and self._has(rule, event):
                found.append(rule)
        best = []
        for rule in found:
            rivals = [r for r in found if rule.get("group") and r.get("group") == rule["group"]]
            if not rivals or max(rivals, key=self._worth) is rule:
                best.append(rule)
        return [terms["earn"]["base"], *best]

    def _reason(self, event: Event) -> str | None:
        """Why an event's own look earns (or takes back) nothing."""
        terms = self._terms(event)
        if event["transaction_class"] in ("FEE", "INTEREST"):
            return "FEE_OR_INTEREST"
        pays = terms.get("accrual", {}).get("strategy") == "PAYMENT"
        if pays != event["transaction_id"].startswith("payment:"):
            return "EXCLUDED_CLASS"
        rules = terms.get("eligibility", {})
        excluded = rules.get("exclude_mcc_category", [])
        if (
            any(event["mcc"] in CATEGORIES[name] for name in excluded)
            or event["mcc"] in map(str, rules.get("exclude_mcc", []))
            or ("p2p" in rules.get("exclude_flags", []) and event["mcc"] in P2P)
        ):
            return "EXCLUDED_MCC"
        if event["transaction_class"] in OTHER_CLASSES:
            return "EXCLUDED_CLASS"
        if event["direction"] == "CREDIT" or event["transaction_class"] == "REFUND":
            return None
        if not self._is_good(event):
            return "ACCOUNT_NOT_IN_GOOD_STANDING"
        if any(first <= event["posted_on"] <= last for first, last in self.failed):
            return "GATE_FAILED"
        return None

    def _refused(self, event: Event) -> str | None:
        """Why a purchase that may earn by its own look does not: others have taken the places."""
        for limit in self._terms(event).get("eligibility", {}).get("limits", []):
            if not self._matches(limit["match"], event):
                continue
            span = {"cap": {"window": limit.get("per", "CALENDAR_MONTH")}}
            key = limit["id"], self._window(span, self._day(event))
            places = self.places.setdefault(key, [])
            if event["merchant_id"] in places:
                continue
            if len(places) == limit.get("merchants", 1):
                return "CAP_EXHAUSTED"
            places.append(event["merchant_id"])
        return None

    def _lapsed(self, record: tuple[Any, ...], standing: Any) -> bool:
        bad = any(fnmatchcase(record[2] or "", pattern) for pattern in BAD_SUBSTATUS)
        return bool(standing) and (record[1] not in (None, "OPEN") or bad)

    def _is_good(self, event: Event) -> bool:
        """Whether the record says so, and (where that is asked) has since the period before."""
        standing = self._terms(event).get("eligibility", {}).get("account")
        if not standing:
            return True
        if self._lapsed(self._record(event), standing):
            return False
        past = [each for each in self.known.records if each[0] <= event["event_at"]]
        for before, after in pairwise(past):
            terms = [self._on(each[0].date()).get("eligibility", {}).get("account")
                     for each in (before, after)]  # fmt: skip
            if not self._lapsed(before, terms[0]) or self._lapsed(after, terms[1]):
                continue
            waits = isinstance(terms[1], dict) and terms[1].get("resume") == "NEXT_CYCLE"
            if waits and event["event_at"].date() <= last_of_period(after[0].date(), after[4]):
                return False
        return True

    def _times(self, event: Event, rules: list[Rule]) -> dict[str, Fraction]:
        """What the tier multiplies each rule by."""
        tier = None
        day, tiers = self._day(event), self._terms(event).get("tiers", [])
        for each in sorted(tiers, key=lambda tier: tier.get("at_least_minor", 0)):
            if each.get("metric", "ACCOUNT_TIER") == "ACCOUNT_TIER":
                tier = each if self._record(event)[3] == each["id"] else tier
                continue
            months = {"YEARLY": 12, "QUARTERLY": 3, "MONTHLY": 1}[each.get("review", "YEARLY")]
            review = first_of_month(day, (day.month - 1) % months)
            since = first_of_month(review, 12)
            if sum(a for on, a in self.spent_on if since <= on < review) >= each["at_least_minor"]:
                tier = each
        milli = tier["multiplier_milli"] if tier else 1000
        for dated in tier.get("multipliers", []) if tier else []:
            if dated["valid"][0] <= day <= dated["valid"][1]:
                milli = dated["multiplier_milli"]
        many = Fraction(milli, 1000)
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
        window = self._window(rule, self._day(event))
        return rule["cap"].get("share_key") or rule["id"], window

    # Points

    def _raw(self, rule: Rule, amount: int) -> Fraction:
        if "per_minor" in rule and rule.get("partial", "FLOOR") == "FLOOR":
            return Fraction(amount // rule["per_minor"] * rule["points"] * self._units)
        return amount * self._worth(rule)

    @staticmethod
    def _round(value: Fraction, terms: Terms) -> int:
        return round_fraction(value, terms["rounding"]["mode"])

    def _exact(self, purchase: Purchase, left: int, at: Terms | None = None) -> list[Fraction]:
        """Exact units by rule; `at` takes the rates of the rules of the same names there."""
        answer = []
        for rule in purchase.rules:
            amount = left
            if "cap" in rule and rule["cap"]["unit"] == "SPEND_MINOR":
                amount = min(left, purchase.allowed[rule["id"]])
            there = self._named(rule, at)
            raw = self._raw(there, amount) if there else Fraction()
            answer.append(raw * purchase.times[rule["id"]])
        return answer

    @staticmethod
    def _named(rule: Rule, at: Terms | None) -> Rule | None:
        if at is None:
            return rule
        rules = [at["earn"]["base"], *at["earn"].get("bonus", [])]
        return next((each for each in rules if each["id"] == rule["id"]), None)

    def _points(self, purchase: Purchase, left: int, at: Terms | None = None) -> dict[str, int]:
        """What each rule, and the floor, gives at `left` minor units, by the rates `at`."""
        if not purchase.rules:
            return {}
        terms = at or purchase.terms
        exact = self._exact(purchase, left, at)
        points = [self._round(each, terms) for each in exact]
        for i, rule in enumerate(purchase.rules):
            there = self._named(rule, at)
            if there and "cap" in there and there["cap"]["unit"] == "POINTS":
                # The cap counts points before the tier's multiplier, which comes after it.
                allowed = purchase.allowed[rule["id"]]
                if allowed < self._round(self._raw(there, left), terms):
                    points[i] = self._round(allowed * purchase.times[rule["id"]], terms)
        if terms["rounding"].get("scope") == "TXN":
            points = shares(self._round(sum(exact, Fraction()), terms), exact)
        answer = {rule["id"]: each for rule, each in zip(purchase.rules, points, strict=True)}
        if purchase.has_floor:
            floor = purchase.terms["earn"]["floor"]
            least = floor["min_points"] * self._units
            answer[floor["id"]] = max(0, least - sum(points)) if left else 0
        return answer

    def _moved(
        self, purchase: Purchase, exact: list[Fraction], points: dict[str, int],
        at: Terms | None = None,
    ) -> dict[str, int]:  # fmt: skip
        """What has changed of a purchase since it was worth `exact` and `points`."""
        now = self._exact(purchase, purchase.left)
        if purchase.terms["rounding"].get("scope") != "STATEMENT":
            after = self._points(purchase, purchase.left, at)
            return {name: after[name] - points.get(name, 0) for name in after}
        moved = [new - old for new, old in zip(now, exact, strict=True)]
        period = self._period(purchase.event)
        before = self.exact.get(period, Fraction())
        self.exact[period] = before + sum(moved)
        terms = purchase.terms
        change = self._round(self.exact[period], terms) - self._round(before, terms)
        split = shares(abs(change), [abs(each) for each in moved])
        sign = 1 if change > 0 else -1
        return {rule["id"]: sign * each for rule, each in zip(purchase.rules, split, strict=True)}

    # Events

    def _purchase(self, event: Event) -> None:
        amount, reason = event["amount_minor"], self._reason(event) or self._refused(event)
        rules = [] if reason else self._applicable(event)
        terms = self._terms(event)
        floor = terms["earn"].get("floor")
        has_floor = bool(rules and floor and self._matches(floor["match"], event))
        times = self._times(event, rules)
        purchase = Purchase(event, terms, amount, reason, rules, has_floor, times)
        self.in_order.append(purchase)
        self.purchases.setdefault(event["transaction_id"], []).append(purchase)
        if reason:
            self.reasons[event["event_id"]] = reason
            return
        self.spent_on.append((self._day(event), amount))
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

    def _size(self, rule: Rule) -> int:
        """How much the cap holds: minor units of spend, or ledger units."""
        return rule["cap"]["amount"] * (self._units if rule["cap"]["unit"] == "POINTS" else 1)

    def _room(self, rule: Rule, key: tuple[str, Any]) -> int:
        return max(0, self._size(rule) - self.used.get(key, 0))

    def _fits(self, purchase: Purchase, rule: Rule) -> int:
        if rule["cap"]["unit"] == "SPEND_MINOR":
            return purchase.left
        return self._round(self._raw(rule, purchase.left), purchase.terms)

    def _refund(self, event: Event) -> None:
        of, own, amount = event["refunds_transaction_id"] or "", event["transaction_id"], 0
        found = self.purchases.get(of) or self.purchases.get(own)
        is_recovery = event["event_type"] in RECOVERIES
        if self._reason(event) is None:
            self.spent_on.append((self._day(event), -event["amount_minor"]))
        if not found:
            self._refund_stray(event)
            return
        amount, total, touched = event["amount_minor"], {}, []
        for purchase in reversed(found):
            part = min(amount, purchase.left)
            if part:
                amount -= part
                refund = Refund(purchase, part, [], event, self._terms(event), {})
                self.refunds.setdefault(own, []).append(refund)
                if own != of:
                    self.refunds.setdefault(f"of:{of}", []).append(refund)
                self._shift(purchase, -part, event, self._terms(event), total)
                touched.append(purchase)
        self.touched[event["event_id"]] = [each.event["event_id"] for each in touched]
        if amount and not is_recovery:
            self.over_refunded[event["event_id"]] = amount
        self._rate_again(touched, event, total)
        self._note(event, total)

    def _refund_stray(self, event: Event) -> None:
        """A refund of nothing that is known: as its own category would have earned."""
        if self._reason(event) or event["event_type"] in RECOVERIES:
            rules = []
        else:
            returns = self._terms(event).get("returns", {})
            policy = returns.get("unmatched_rate", "CURRENT_MCC")
            count = {"CURRENT_MCC": None, "BASE": 1, "NONE": 0}[policy]
            rules = self._applicable(event)[:count]
        times = self._times(event, self._applicable(event))
        refund = Refund(None, event["amount_minor"], rules, event, self._terms(event), times)
        self.refunds.setdefault(event["transaction_id"], []).append(refund)
        if rules:
            self.strays.append((event, -event["amount_minor"]))
        self._note(event, {r["id"]: -self._at(refund, r, refund.amount) for r in rules})

    def _at(self, refund: Refund, rule: Rule, amount: int) -> int:
        return self._round(self._raw(rule, amount) * refund.times[rule["id"]], refund.terms)

    def _reverse(self, event: Event) -> None:
        """Undo the refund of the same transaction, else those of the purchase, or the stray refund,
        that it names."""
        left, total, touched = event["amount_minor"], {}, []
        of = event["refunds_transaction_id"]
        if self._reason(event) is None:
            self.spent_on.append((self._day(event), left))
        found = (
            self.refunds.get(event["transaction_id"])
            or self.refunds.get(f"of:{of}")
            or self.refunds.get(of or "")
            or []
        )
        for refund in reversed(found):
            part = min(left, refund.amount)
            if not part:
                continue
            left -= part
            before = refund.amount
            refund.amount -= part
            if refund.purchase is not None:
                self._shift(refund.purchase, part, event, refund.terms, total)
                touched.append(refund.purchase)
                continue
            if refund.rules:
                self.strays.append((refund.event, part))
            for rule in refund.rules:
                back = self._at(refund, rule, before) - self._at(refund, rule, refund.amount)
                total[rule["id"]] = total.get(rule["id"], 0) + back
        self.touched[event["event_id"]] = [each.event["event_id"] for each in touched]
        self._rate_again(touched, event, total)
        self._note(event, total)

    def _shift(
        self, purchase: Purchase, by: int, event: Event, terms: Terms, total: dict[str, int]
    ) -> None:
        """Recompute the purchase with `by` more or less of it; add the difference to `total`.

        `terms` are those of the refund: at their rates, if they say so.
        """
        if not purchase.rules:
            purchase.left += by
            return
        by_return = terms.get("returns", {}).get("rate_at") == "RETURN_DATE"
        at = terms if by_return else None
        exact = self._exact(purchase, purchase.left)
        points = self._points(purchase, purchase.left, at)
        purchase.left += by
        for rule in purchase.rules:
            if "cap" in rule:
                self._shift_cap(purchase, rule, by, event)
        for name, change in self._moved(purchase, exact, points, at).items():
            total[name] = total.get(name, 0) + change

    def _shift_cap(self, purchase: Purchase, rule: Rule, by: int, event: Event) -> None:
        key, name = self._key(rule, purchase.event), rule["id"]
        fits, allowed = self._fits(purchase, rule), purchase.allowed[rule["id"]]
        if by < 0:
            purchase.allowed[name] = min(allowed, fits)
            if self._window(rule, self._day(event)) == key[1]:
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
        if self._terms(event).get("returns", {}).get("cap_refill") != "RERATE":
            return
        day = self._day(event)
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
                room = max(0, self._size(rule) - before)
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
        first = self.known.opened_on
        if first is None:
            return
        for bonus in self._on(first).get("signup_bonus", []):
            offered = bonus.get("valid", (date.min, date.max))
            is_meant = self.known.is_first or bonus.get("once_per") == "ACCOUNT"
            if not is_meant or not offered[0] <= first <= offered[1]:
                continue
            last = (
                first + timedelta(days=bonus["within_days"])
                if "within_days" in bonus
                else months_after(first, bonus["within_months"])
            )
            spent = sum(
                each.left
                for each in self.in_order
                if not each.reason and first <= self._day(each.event) <= last
            ) + sum(amount for made, amount in self.strays if first <= self._day(made) <= last)
            name, is_held = bonus["id"], bonus["id"] in self.awarded
            if spent >= bonus["threshold_minor"] and not is_held:
                self.awarded[name] = bonus["points"] * self._units
                self._note(event, {name: self.awarded[name]})
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
