"""Terms compiled for the engine: each rule as one integer fraction, each transaction as a plan.

A plan is what the terms say about transactions that look alike (same version, type, category
code, partner …): a reason to earn nothing, or the rules that apply. It is worked out once per
distinct look, not once per event.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import IntEnum
from functools import cached_property, lru_cache
from math import gcd, lcm

from pipelines.currencies import minor_digits
from pipelines.rewards.mcc import MccSet, categories
from pipelines.rewards.terms import (
    Bonus,
    Match,
    MerchantLimit,
    Program,
    ProgramTerms,
    Rate,
    SignupBonus,
)

EPOCH = date(1970, 1, 1)

FEE_CLASSES = frozenset({"FEE", "INTEREST"})
RECOVERIES = {"CHARGEBACK": "DISPUTED", "FRAUD_CONFIRMED": "FRAUD_CONFIRMED"}
"""Events that take a purchase out of what earns, and why it then earns nothing."""
PAYMENTS = frozenset({"PAYMENT", "PAYMENT_RETURN"})
"""Events of payments to the account: settled, and given back."""
FLAG_MCC = {"p2p": MccSet(["6538"])}


class Kind(IntEnum):
    """What an event does to points."""

    NOTHING = 0
    EARN = 1
    TAKE_BACK = 2
    UNDO = 3


def calendar_start(window: str, day: date) -> date:
    """First day of the calendar month, quarter or year that holds `day`."""
    match window:
        case "CALENDAR_MONTH":
            return day.replace(day=1)
        case "CALENDAR_QUARTER":
            return date(day.year, 3 * ((day.month - 1) // 3) + 1, 1)
        case _:
            return date(day.year, 1, 1)


@dataclass(frozen=True, slots=True)
class CompiledCap:
    """A cap; `amount` in minor units of spend or in ledger units of points."""

    share_key: str
    is_spend: bool
    amount: int
    window: str
    promo: tuple[int, int] | None

    def window_start(self, day: date) -> int:
        """First day of the window that holds `day`, in days since 1970-01-01."""
        if self.window in {"PROMO", "LIFETIME"}:
            return self.promo[0] if self.promo else 0
        return (calendar_start(self.window, day) - EPOCH).days

    def holds(self, window_start: int, day: date) -> bool:
        """Whether `day` is still in the window that began on `window_start`."""
        if self.promo is not None:
            return self.promo[0] <= (day - EPOCH).days <= self.promo[1]
        return self.window_start(day) == window_start


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """points(amount) = round(amount // block × numerator / denominator), in ledger units."""

    index: int
    rule_id: str
    version_index: int
    block: int
    numerator: int
    denominator: int
    mode: str
    cap: CompiledCap | None
    funding_partner_bps: int
    multiplier_milli: int = 1000
    award: SignupBonus | None = None
    limit: MerchantLimit | None = None
    plain: tuple[int, int] = (0, 1)
    """The fraction before a tier multiplies it."""

    def raw(self, amount: int) -> int:
        """Numerator of the exact points over `denominator`."""
        return amount // self.block * self.numerator

    def points(self, amount: int) -> int:
        """Ledger units for `amount` minor units."""
        return rounded(self.raw(amount), self.denominator, self.mode)

    def asked(self, amount: int) -> int:
        """What `amount` asks of the rule's cap: spend, or points before a tier multiplies them."""
        if self.cap is None or self.cap.is_spend:
            return amount
        return rounded(amount // self.block * self.plain[0], self.plain[1], self.mode)

    def capped(self, amount: int, limit: int) -> int:
        """Ledger units for `amount` minor units where a cap in points leaves `limit`."""
        if self.asked(amount) <= limit:
            return self.points(amount)
        return rounded(limit * self.multiplier_milli, 1000, self.mode)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the terms say about one look of a transaction."""

    kind: Kind
    version_index: int
    zero_reason: str | None
    rules: tuple[CompiledRule, ...] = ()
    inactive: tuple[CompiledRule, ...] = ()
    floor: tuple[CompiledRule, int] | None = None
    problem: str | None = None
    recovery: str | None = None
    counts: bool = True
    """Whether its amount moves the account's net eligible spend."""
    limits: tuple[CompiledRule, ...] = ()
    """Limits of merchants that it must hold to."""
    refused_by: CompiledRule | None = None
    """The one of them that leaves it nothing."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the terms can tell transactions apart by."""

    day: date
    event_type: str
    direction: str
    transaction_class: str | None
    currency: str
    mcc: str | None
    partner_id: str | None
    merchant_id: str | None
    merchant_country: str | None
    activated: frozenset[str] = frozenset()
    status: str | None = None
    substatus: str | None = None
    tier: str | None = None
    is_short: bool = False


def rounded(numerator: int, denominator: int, mode: str) -> int:
    """`numerator / denominator` (not negative) as an integer, by the named mode."""
    whole, rest = divmod(numerator, denominator)
    match mode:
        case "DOWN":
            return whole
        case "UP":
            return whole + (rest > 0)
        case "HALF_UP":
            return whole + (2 * rest >= denominator)
        case _:
            return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2))


def largest_remainder(total: int, weights: list[int]) -> list[int]:
    """`total` split in proportion to `weights`, adding up exactly; ties go to the first.

    Weights that are all zero give everything to the first.
    """
    weight = sum(weights)
    if weight == 0:
        return [total, *[0] * (len(weights) - 1)]
    shares = [divmod(total * each, weight) for each in weights]
    missing = total - sum(whole for whole, _ in shares)
    by_rest = sorted(range(len(shares)), key=lambda index: (-shares[index][1], index))
    extra = set(by_rest[:missing])
    return [whole + (index in extra) for index, (whole, _) in enumerate(shares)]


PLANS_KEPT = 100_000


class RuleBook:
    """Every rule of every version of a program, and the plans they make."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.rules: list[CompiledRule] = []
        self._by_version: list[dict[str, CompiledRule]] = []
        self._multiplied: dict[tuple[int, int], CompiledRule] = {}
        for index, version in enumerate(program.versions):
            self._by_version.append(self._compile(index, version.terms))
        # Accounts that are decided again ask for the same plans again.
        self.plan = lru_cache(maxsize=PLANS_KEPT)(self._plan)

    @cached_property
    def boundaries(self) -> list[date]:
        """The days on which anything in the terms begins or stops to hold, ascending."""
        days: set[date] = set()
        for index, version in enumerate(self.program.versions):
            days.add(version.terms.valid_from)
            if ends := self.program.valid_to(index):
                days.add(ends + timedelta(days=1))
            for bonus in version.terms.earn.bonus:
                if bonus.valid:
                    days |= {bonus.valid[0], bonus.valid[1] + timedelta(days=1)}
            for tier in version.terms.tiers:
                for first, last in tier.days():
                    days |= {first, last + timedelta(days=1)}
        return sorted(days)

    def _any(self, has: Callable[[ProgramTerms], object]) -> bool:
        return any(has(version.terms) for version in self.program.versions)

    @cached_property
    def asks_standing(self) -> bool:
        """Whether an account's status decides on what it earns."""
        return self._any(lambda terms: terms.eligibility.account)

    @cached_property
    def resumes_by_cycle(self) -> bool:
        """Whether an account that is in good standing again waits for its next period to earn."""
        return self._any(
            lambda terms: (
                terms.eligibility.account and terms.eligibility.account.resume == "NEXT_CYCLE"
            )
        )

    @cached_property
    def pays(self) -> bool:
        """Whether payments earn."""
        return self._any(lambda terms: terms.accrual.strategy == "PAYMENT")

    @cached_property
    def lapses_inactive(self) -> bool:
        """Whether points lapse where nothing happens."""
        return self._any(lambda terms: terms.expiry.kind == "INACTIVITY")

    @cached_property
    def has_gates(self) -> bool:
        """Whether a statement period must show something for its purchases to earn."""
        return self._any(lambda terms: terms.gates)

    @cached_property
    def settles_by_statement(self) -> bool:
        """Whether points wait for a statement before they may be spent."""
        return self._any(lambda terms: terms.accrual.settlement == "STATEMENT")

    @cached_property
    def has_bonuses(self) -> bool:
        """Whether an account can earn a sign-up bonus."""
        return self._any(lambda terms: terms.signup_bonus)

    @cached_property
    def awards(self) -> list[str]:
        """Ids of the sign-up bonuses."""
        return sorted({bonus.id for v in self.program.versions for bonus in v.terms.signup_bonus})

    @cached_property
    def tier_metrics(self) -> frozenset[str]:
        """By what members are in tiers."""
        return frozenset(
            tier.metric for version in self.program.versions for tier in version.terms.tiers
        )

    @cached_property
    def has_limits(self) -> bool:
        """Whether purchases earn at some merchants of a window only."""
        return self._any(lambda terms: terms.eligibility.limits)

    @cached_property
    def rerates(self) -> bool:
        """Whether a refund frees a cap for what was bought later."""
        return self._any(lambda terms: terms.returns.cap_refill == "RERATE")

    @cached_property
    def rates_returns_anew(self) -> bool:
        """Whether a refund takes back by the terms of its own day."""
        return self._any(lambda terms: terms.returns.rate_at == "RETURN_DATE")

    def terms_on(self, day: date) -> ProgramTerms:
        """The terms in force on `day`; the first ones before they begin."""
        return self._terms(self.program.index_on(day) or 0)

    @cached_property
    def offers(self) -> tuple[str, ...]:
        """Ids of the rules that members must activate."""
        return tuple(
            sorted(
                {
                    bonus.id
                    for version in self.program.versions
                    for bonus in version.terms.earn.bonus
                    if bonus.activation != "none"
                }
            )
        )

    @cached_property
    def rivals(self) -> dict[str, list[str]]:
        """Each offer, and all offers of the choice that it is part of."""
        chosen: dict[str, str] = {
            bonus.id: f"choice:{bonus.choice}" if bonus.choice else bonus.id
            for version in self.program.versions
            for bonus in version.terms.earn.bonus
        }
        return {
            offer: [each for each in self.offers if chosen[each] == chosen[offer]]
            for offer in self.offers
        }

    @cached_property
    def retroactive(self) -> dict[str, date]:
        """Offers that count in all of their days, and the last day to activate them."""
        return {
            bonus.id: bonus.valid[1]
            for version in self.program.versions
            for bonus in version.terms.earn.bonus
            if bonus.activation == "retroactive" and bonus.valid
        }

    @cached_property
    def matches_merchants(self) -> bool:
        """Whether any rule names single merchants."""
        return any(
            rule.match.merchant_id
            for version in self.program.versions
            for rule in (
                *version.terms.earn.bonus,
                version.terms.earn.floor,
                *version.terms.eligibility.limits,
            )
            if rule is not None
        )

    @cached_property
    def needs_fold(self) -> bool:
        """Whether a transaction's points need all of its rules at once."""
        return any(
            version.terms.rounding.scope != "TXN_RULE" or version.terms.earn.floor is not None
            for version in self.program.versions
        )

    @cached_property
    def carries(self) -> bool:
        """Whether points are rounded once per statement period."""
        return self._any(lambda terms: terms.rounding.scope == "STATEMENT")

    @cached_property
    def carry_denominator(self) -> int:
        """What the exact points of a statement period are whole numbers over, in any tier."""
        return lcm(*(rule.plain[1] for rule in self.rules)) * 1000

    @cached_property
    def has_caps(self) -> bool:
        """Whether what one purchase earns can depend on others."""
        return any(rule.cap for rule in self.rules)

    @cached_property
    def caps_change(self) -> bool:
        """Whether versions disagree about a cap that they share a key for."""
        meanings: dict[str, CompiledCap] = {}
        return any(
            meanings.setdefault(rule.cap.share_key, rule.cap) != rule.cap
            for rule in self.rules
            if rule.cap
        )

    def rule(self, version_index: int, rule_id: str) -> CompiledRule | None:
        """The rule of that id in a version, if it has one."""
        return self._by_version[version_index].get(rule_id)

    def base(self, version_index: int) -> CompiledRule:
        """A version's base rule."""
        return self._by_version[version_index][self._terms(version_index).earn.base.id]

    def told_under(self, plan: Plan) -> CompiledRule:
        """The rule that a decision without a rate names: the limit that refuses, or the base."""
        return plan.refused_by or self.base(plan.version_index)

    def by_number(
        self, version: int, rule_id: str, multiplier_milli: int = 1000
    ) -> CompiledRule | None:
        """The rule of that id in the version of that number, as a tier multiplies it."""
        for index, candidate in enumerate(self.program.versions):
            if candidate.terms.version == version:
                rule = self.rule(index, rule_id)
                return rule and self.multiplied(rule, multiplier_milli)
        return None

    def multiplied(self, rule: CompiledRule, multiplier_milli: int) -> CompiledRule:
        """`rule` with its rate times `multiplier_milli` thousandths."""
        if multiplier_milli == rule.multiplier_milli:
            return rule
        key = (rule.index, multiplier_milli)
        if key not in self._multiplied:
            numerator, denominator = rule.numerator * multiplier_milli, rule.denominator * 1000
            shared = gcd(numerator, denominator)
            found = replace(
                rule, index=len(self.rules), numerator=numerator // shared,
                denominator=denominator // shared, multiplier_milli=multiplier_milli,
            )  # fmt: skip
            self.rules.append(found)
            self._multiplied[key] = found
        return self._multiplied[key]

    def unmatched_rules(self, plan: Plan) -> tuple[CompiledRule, ...]:
        """By what a refund of `plan` takes points back where no purchase is known."""
        if plan.zero_reason or plan.recovery:
            return ()
        match self._terms(plan.version_index).returns.unmatched_rate:
            case "CURRENT_MCC":
                return plan.rules
            case "BASE":
                return plan.rules[:1]
            case _:
                return ()

    def in_tier(self, version_index: int, rule_id: str, like: CompiledRule) -> CompiledRule | None:
        """The rule of that id in another version, multiplied as `like` is."""
        rule = self.rule(version_index, rule_id)
        return rule and self.multiplied(rule, like.multiplier_milli)

    def _plan(self, look: Look) -> Plan:
        """What the terms say about transactions of this look."""
        index = self.program.index_on(look.day)
        kind = _kind(look)
        if index is None:
            return Plan(kind, 0, "BEFORE_ENROLMENT")
        terms = self._terms(index)
        reason = _ineligible(terms, look)
        recovery = RECOVERIES.get(look.event_type)
        if reason and kind in {Kind.EARN, Kind.TAKE_BACK}:
            # A refund at an excluded category may still refund a purchase that has earned.
            keeps = kind is Kind.EARN or reason == "EXCLUDED_MCC" or _earns_otherwise(terms, look)
            kind = kind if keeps else Kind.NOTHING
            return Plan(kind, index, reason, recovery=recovery, counts=False)
        if look.currency != terms.currency:
            return Plan(Kind.NOTHING, index, "EXCLUDED_CLASS", problem="CURRENCY_MISMATCH")
        standing = terms.eligibility.account
        if kind is Kind.EARN and standing and not standing.holds(look.status, look.substatus):
            return Plan(kind, index, "ACCOUNT_NOT_IN_GOOD_STANDING")
        if kind is Kind.EARN and look.is_short:
            return Plan(kind, index, "GATE_FAILED")
        rules, inactive = self._applicable(index, terms, look)
        rules = self._in_tier(terms, look, rules)
        floor = terms.earn.floor
        has_floor = floor is not None and _matches(floor.match, look)
        return Plan(
            kind,
            index,
            None,
            rules,
            inactive,
            (self._by_version[index][floor.id], floor.min_points * terms.units_per_point)
            if floor is not None and has_floor
            else None,
            recovery=recovery,
            counts=reason is None and look.event_type not in PAYMENTS,
            limits=tuple(
                self._by_version[index][limit.id]
                for limit in terms.eligibility.limits
                if kind is Kind.EARN and _matches(limit.match, look)
            ),
        )

    def _in_tier(
        self, terms: ProgramTerms, look: Look, rules: tuple[CompiledRule, ...]
    ) -> tuple[CompiledRule, ...]:
        """`rules` at the rates of the member's tier."""
        for tier in terms.tiers:
            if tier.id == look.tier and (times := tier.multiplier_on(look.day)) != 1000:
                base = self.multiplied(rules[0], times)
                if tier.applies_to == "BASE":
                    return (base, *rules[1:])
                return (base, *(self.multiplied(rule, times) for rule in rules[1:]))
        return rules

    def _terms(self, index: int) -> ProgramTerms:
        return self.program.versions[index].terms

    def _applicable(
        self, index: int, terms: ProgramTerms, look: Look
    ) -> tuple[tuple[CompiledRule, ...], tuple[CompiledRule, ...]]:
        """The base and the best bonus of each group; and the promotions that want activation."""
        compiled = self._by_version[index]
        best: dict[str, CompiledRule] = {}
        inactive = []
        for bonus in terms.earn.bonus:
            if bonus.valid and not bonus.valid[0] <= look.day <= bonus.valid[1]:
                continue
            if not _matches(bonus.match, look):
                continue
            rule = compiled[bonus.id]
            if bonus.activation != "none" and bonus.id not in look.activated:
                inactive.append(rule)
                continue
            group = f"group:{bonus.group}" if bonus.group else f"rule:{bonus.id}"
            if group not in best or _is_better(rule, best[group]):
                best[group] = rule
        chosen = sorted(best.values(), key=lambda rule: rule.index)
        return (compiled[terms.earn.base.id], *chosen), tuple(inactive)

    def _compile(self, version_index: int, terms: ProgramTerms) -> dict[str, CompiledRule]:
        compiled = {}
        for rate in terms.earn.rules():
            compiled[rate.id] = self._compile_rate(version_index, terms, rate)
        if floor := terms.earn.floor:
            compiled[floor.id] = CompiledRule(
                len(self.rules), floor.id, version_index, 1, 0, 1, terms.rounding.mode, None, 0
            )
            self.rules.append(compiled[floor.id])
        for bonus in terms.signup_bonus:
            compiled[bonus.id] = CompiledRule(
                len(self.rules), bonus.id, version_index, 1, 0, 1, terms.rounding.mode, None,
                bonus.funding.partner_bps, award=bonus,
            )  # fmt: skip
            self.rules.append(compiled[bonus.id])
        for limit in terms.eligibility.limits:
            compiled[limit.id] = CompiledRule(
                len(self.rules), limit.id, version_index, 1, 0, 1, terms.rounding.mode, None, 0,
                limit=limit,
            )  # fmt: skip
            self.rules.append(compiled[limit.id])
        return compiled

    def _compile_rate(self, version_index: int, terms: ProgramTerms, rate: Rate) -> CompiledRule:
        block = 1
        if rate.rate_milli is not None:
            numerator = rate.rate_milli * terms.units_per_point
            denominator = 1000 * 10 ** minor_digits(terms.currency)
        else:
            assert rate.per_minor is not None and rate.points is not None
            numerator, denominator = rate.points * terms.units_per_point, rate.per_minor
            if rate.partial == "FLOOR":
                block, denominator = rate.per_minor, 1
        shared = gcd(numerator, denominator)
        rule = CompiledRule(
            len(self.rules),
            rate.id,
            version_index,
            block,
            numerator // shared,
            denominator // shared,
            terms.rounding.mode,
            _compile_cap(terms, rate),
            rate.funding.partner_bps,
            plain=(numerator // shared, denominator // shared),
        )
        self.rules.append(rule)
        return rule


def _compile_cap(terms: ProgramTerms, rate: Rate) -> CompiledCap | None:
    if rate.cap is None:
        return None
    promo = None
    if rate.cap.window == "PROMO" and isinstance(rate, Bonus) and rate.valid:
        promo = ((rate.valid[0] - EPOCH).days, (rate.valid[1] - EPOCH).days)
    is_spend = rate.cap.unit == "SPEND_MINOR"
    amount = rate.cap.amount if is_spend else rate.cap.amount * terms.units_per_point
    return CompiledCap(rate.cap.share_key or rate.id, is_spend, amount, rate.cap.window, promo)


def _is_better(rule: CompiledRule, other: CompiledRule) -> bool:
    """Whether `rule` gives more per minor unit than `other`; equal ones keep the first."""
    return (
        rule.numerator * other.denominator * other.block
        > other.numerator * rule.denominator * rule.block
    )


def _kind(look: Look) -> Kind:
    if look.direction == "CREDIT":
        return Kind.TAKE_BACK
    if look.event_type == "RETURN_REVERSAL" or look.transaction_class == "REFUND":
        return Kind.UNDO
    return Kind.EARN


def _earns_otherwise(terms: ProgramTerms, look: Look) -> bool:
    """Whether purchases earn and this is a payment, or the other way around."""
    return (terms.accrual.strategy == "PAYMENT") != (look.event_type in PAYMENTS)


def _ineligible(terms: ProgramTerms, look: Look) -> str | None:
    """The reason why the terms leave out such a transaction, or None."""
    name = look.transaction_class
    rules = terms.eligibility
    if name in FEE_CLASSES:
        return "FEE_OR_INTEREST"
    if _earns_otherwise(terms, look):
        return "EXCLUDED_CLASS"
    if look.event_type in PAYMENTS:
        return None
    if (
        look.mcc in MccSet(rules.exclude_mcc)
        or any(look.mcc in categories()[each] for each in rules.exclude_mcc_category)
        or any(look.mcc in FLAG_MCC[flag] for flag in rules.exclude_flags if flag in FLAG_MCC)
    ):
        return "EXCLUDED_MCC"
    # A refund, or its reversal, is not a class of purchases that the terms could leave out.
    return None if name is None or name in {*rules.txn_class, "REFUND"} else "EXCLUDED_CLASS"


def _matches(match: Match, look: Look) -> bool:
    return (
        (
            not match.mcc_category
            or any(look.mcc in categories()[each] for each in match.mcc_category)
        )
        and (not match.mcc or look.mcc in MccSet(match.mcc))
        and (not match.partner_id or look.partner_id in match.partner_id)
        and (not match.merchant_id or look.merchant_id in match.merchant_id)
        and (not match.merchant_country or look.merchant_country in match.merchant_country)
    )
