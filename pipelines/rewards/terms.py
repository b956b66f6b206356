"""Program terms: effective-dated YAML, validated into frozen objects.

One document is one version of one program; a change is a new version, never an edit. Amounts of
points in the terms are whole points; the ledger counts in units of `10 ** -asset_scale` points.
"""

import hashlib
import json
from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from fnmatch import fnmatchcase
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from pipelines.contracts.activity import TRANSACTION_CLASSES
from pipelines.contracts.portfolio import ACCOUNT_STATES
from pipelines.currencies import MINOR_DIGITS
from pipelines.errors import CardlineError
from pipelines.rewards.mcc import MccSet, categories
from pipelines.rewards.yaml_lines import Lines, read_documents

GREATEST = 10**12
"""No number in terms is beyond it."""

FIXED_FIELDS = (
    "asset_scale", "currency", "currency_kind", "settlement_model", "timezone",
)  # fmt: skip
"""What all versions of a program have in common, because balances are counted in it."""


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _as_list(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


def _known_currency(code: str) -> str:
    if code not in MINOR_DIGITS:
        raise ValueError(f"{code!r} is no currency of ISO 4217")
    return code


def _known_codes(items: tuple[int | str, ...]) -> tuple[int | str, ...]:
    MccSet(items)
    return items


def _known_categories(names: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name in names if name not in categories()]:
        raise ValueError(
            f"unknown category {unknown[0]!r}; mcc_categories.yaml has {', '.join(categories())}"
        )
    return names


def _one_of(names: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name in names if name not in allowed]:
        raise ValueError(f"{unknown[0]!r} is none of {', '.join(allowed)}")
    return names


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{name!r} is not a time zone of the IANA database") from error
    return name


Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
Codes = Annotated[tuple[int | str, ...], BeforeValidator(_as_list), AfterValidator(_known_codes)]
Categories = Annotated[
    tuple[str, ...], BeforeValidator(_as_list), AfterValidator(_known_categories)
]
Classes = Annotated[Names, AfterValidator(partial(_one_of, allowed=TRANSACTION_CLASSES))]
States = Annotated[Names, AfterValidator(partial(_one_of, allowed=ACCOUNT_STATES))]
Days = tuple[date, date]
CalendarWindow = Literal["CALENDAR_MONTH", "CALENDAR_QUARTER", "CALENDAR_YEAR"]


class TermsError(ValueError):
    """What is wrong with terms that do not go together; `field` is the place to change."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class _Terms(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _numbers_are_numbers(cls, values: Any) -> Any:
        """No text or truth value for a number, and none that sums of 64 bits would not hold."""
        for name, field in cls.model_fields.items():
            value = values.get(name) if isinstance(values, dict) else None
            if field.annotation not in (int, int | None) or value is None:
                continue
            if type(value) is not int:
                raise TermsError(name, f"{value!r} is no whole number")
            if abs(value) > GREATEST:
                raise TermsError(name, f"{value} is beyond {GREATEST}")
        return values


class Match(_Terms):
    """What a transaction must be for a rule to apply: all of the named conditions."""

    mcc_category: Categories = ()
    mcc: Codes = ()
    partner_id: Names = ()
    merchant_id: Names = ()
    merchant_country: Names = ()

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise ValueError("names no condition")
        return self


class Cap(_Terms):
    """A limit on what a rule rewards within a window; rules with one `share_key` share it."""

    unit: Literal["SPEND_MINOR", "POINTS"]
    amount: int = Field(ge=0)
    window: Literal[CalendarWindow, "PROMO", "LIFETIME"]
    share_key: str | None = None


class Funding(_Terms):
    """Who pays for a rule's points."""

    partner_bps: int = Field(default=0, ge=0, le=10_000)


class Rate(_Terms):
    """How an amount becomes points: a rate, or blocks ("1 point per full $10")."""

    id: str = Field(min_length=1)
    rate_milli: int | None = Field(default=None, ge=0, le=10_000_000)
    per_minor: int | None = Field(default=None, gt=0)
    points: int | None = Field(default=None, ge=0)
    partial: Literal["FLOOR", "PRORATE"] = "FLOOR"
    cap: Cap | None = None
    funding: Funding = Funding()

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        block = (self.per_minor is not None, self.points is not None)
        if self.rate_milli is not None and any(block):
            raise ValueError("has both rate_milli and per_minor/points")
        if self.rate_milli is None and not all(block):
            raise ValueError("needs rate_milli, or per_minor and points")
        return self


class Bonus(Rate):
    """A rate that applies where `match` holds; the best of a `group`, added across groups.

    `activation`: members who activate it have it from that day on, or (retroactive) in all of its
    days if they do so by the last of them. Of the bonuses of one `choice` a member has only the one
    activated last ("choose your category"). What it gives is owed at once, and may be spent
    `available_after_days` after the posting, whatever the settlement of the rest.
    """

    match: Match
    group: str | None = None
    valid: Days | None = None
    activation: Literal["required", "retroactive", "none"] = "none"
    choice: str | None = None
    available_after_days: int = Field(default=0, ge=0, le=365)

    @model_validator(mode="after")
    def _window_has_dates(self) -> Self:
        if self.valid and self.valid[0] > self.valid[1]:
            raise ValueError("valid ends before it begins")
        if self.cap and self.cap.window == "PROMO" and self.valid is None:
            raise ValueError("a cap with window PROMO needs valid: [first day, last day]")
        if self.activation == "retroactive" and self.valid is None:
            raise ValueError("activation retroactive needs valid: [first day, last day]")
        if self.choice and self.activation != "required":
            raise ValueError("a choice needs activation: required")
        return self


class Floor(_Terms):
    """The fewest points that a matching purchase earns in all."""

    id: str = Field(min_length=1)
    match: Match
    min_points: int = Field(gt=0)


class Earn(_Terms):
    """What a purchase earns: the base, and what comes on top."""

    base: Rate
    bonus: tuple[Bonus, ...] = ()
    floor: Floor | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.base.cap and self.base.cap.window == "PROMO":
            raise ValueError("base: a cap with window PROMO needs a rule with dates")
        shared: dict[str, tuple[object, ...]] = {}
        for rule in self.rules():
            if rule.cap is None:
                continue
            valid = rule.valid if isinstance(rule, Bonus) and rule.cap.window == "PROMO" else None
            meaning = (rule.cap.unit, rule.cap.amount, rule.cap.window, valid)
            if shared.setdefault(rule.cap.share_key or rule.id, meaning) != meaning:
                raise ValueError(f"cap of {rule.id!r} differs from the one it shares a key with")
        return self

    def rules(self) -> Iterator[Rate]:
        """The base and every bonus, in the order of the file."""
        yield self.base
        yield from self.bonus


class Standing(_Terms):
    """What an account's record must say for its purchases to earn ("good standing").

    `resume`: after a lapse purchases earn again at once, or from the next statement period on.
    """

    id: str = Field(min_length=1)
    status: States = ("OPEN",)
    not_substatus: Names = ("DELINQUENT", "CHARGED_OFF_*", "INTEREST_AND_FEES_PAUSED")
    resume: Literal["AT_ONCE", "NEXT_CYCLE"] = "AT_ONCE"

    def holds(self, status: str | None, substatus: str | None) -> bool:
        """Whether an account of that status is in good standing; what is not told is good."""
        if status is not None and status not in self.status:
            return False
        return not any(fnmatchcase(substatus or "", pattern) for pattern in self.not_substatus)


def _as_standing(value: object) -> object:
    """A bare name stands for the usual conditions under that name."""
    return {"id": value} if isinstance(value, str) else value


class MerchantLimit(_Terms):
    """At how many merchants the matching purchases of a window earn ("one property a month").

    The first ones have the places, in the order of the engine; a refund frees none. Purchases
    without a merchant count for one together. Of several limits each sees what those before it
    let through.
    """

    id: str = Field(min_length=1)
    match: Match
    merchants: int = Field(default=1, gt=0)
    per: CalendarWindow = "CALENDAR_MONTH"


class Eligibility(_Terms):
    """Which posted events may earn at all."""

    txn_class: Classes = ("PURCHASE",)
    exclude_mcc: Codes = ()
    exclude_mcc_category: Categories = ()
    exclude_flags: tuple[Literal["fee", "interest", "fx_fee", "convenience_check", "p2p"], ...] = ()
    account: Annotated[Standing | None, BeforeValidator(_as_standing)] = None
    limits: tuple[MerchantLimit, ...] = ()


class Accrual(_Terms):
    """When points are earned and when they may be spent: at once, or from the statement on.

    Strategy PAYMENT: settled payments earn at the base rate, purchases nothing.
    """

    trigger: Literal["POSTED"] = "POSTED"
    strategy: Literal["DEFAULT", "PAYMENT"] = "DEFAULT"
    settlement: Literal["LIVE", "STATEMENT"] = "LIVE"


class Gate(_Terms):
    """What a statement period must show, or its purchases earn nothing after all."""

    id: str = Field(min_length=1)
    kind: Literal["MIN_TXN_PER_STATEMENT"] = "MIN_TXN_PER_STATEMENT"
    n: int = Field(gt=0)
    count: Literal["POSTED_PURCHASES"] = "POSTED_PURCHASES"
    on_fail: Literal["ZERO_PERIOD"] = "ZERO_PERIOD"


class BonusClawback(_Terms):
    """When a sign-up bonus is taken back."""

    if_closed_within_days: int | None = Field(default=None, ge=0)
    if_below_threshold: bool = False


class SignupBonus(_Terms):
    """Points for spending `threshold_minor` in the first days (or months) of an account.

    The spend is that of eligible purchases less their refunds; the window begins with the day of
    opening and ends with the day `within_days` (or `within_months` calendar months) later. `valid`
    are the days of opening that the offer is for. CUSTOMER_PROGRAM: only a customer's first
    account in the program has it. `available_after_days`: as those of a `Bonus`.
    """

    id: str = Field(min_length=1)
    points: int = Field(gt=0)
    threshold_minor: int = Field(gt=0)
    within_days: int | None = Field(default=None, ge=0)
    within_months: int | None = Field(default=None, gt=0)
    clock: Literal["ACCOUNT_OPENED"] = "ACCOUNT_OPENED"
    basis: Literal["POSTED_NET_ELIGIBLE"] = "POSTED_NET_ELIGIBLE"
    once_per: Literal["CUSTOMER_PROGRAM", "ACCOUNT"] = "CUSTOMER_PROGRAM"
    clawback: BonusClawback = BonusClawback()
    valid: Days | None = None
    funding: Funding = Funding()
    available_after_days: int = Field(default=0, ge=0, le=365)

    @model_validator(mode="after")
    def _has_a_window(self) -> Self:
        if (self.within_days is None) == (self.within_months is None):
            raise ValueError("needs within_days or within_months, and not both")
        return self

    def ends_on(self, opened_on: date) -> date:
        """Last day of the window of an account opened on `opened_on`."""
        if self.within_days is not None:
            return opened_on + timedelta(days=self.within_days)
        assert self.within_months is not None
        month = opened_on.year * 12 + opened_on.month - 1 + self.within_months
        year, index = divmod(month, 12)
        return date(year, index + 1, min(opened_on.day, monthrange(year, index + 1)[1]))


class DatedMultiplier(_Terms):
    """A tier's multiplier in some days."""

    valid: Days
    multiplier_milli: int = Field(gt=0)


class Tier(_Terms):
    """A multiplier for members of a tier.

    ACCOUNT_TIER: the tier that the account's record names. NET_SPEND_12M: net eligible spend of at
    least `at_least_minor` in the twelve calendar months before the last `review`; of several the
    highest. `applies_to` the base rate or to all rates; caps are used up by the spend as it is.
    """

    id: str = Field(min_length=1)
    metric: Literal["NET_SPEND_12M", "ACCOUNT_TIER"] = "ACCOUNT_TIER"
    at_least_minor: int = Field(default=0, ge=0)
    multiplier_milli: int = Field(default=1000, gt=0)
    multipliers: tuple[DatedMultiplier, ...] = ()
    review: Literal["YEARLY", "QUARTERLY", "MONTHLY"] = "YEARLY"
    applies_to: Literal["ALL", "BASE"] = "ALL"
    valid: Days | None = None

    def multiplier_on(self, day: date) -> int:
        """Thousandths by which rates are multiplied on `day`."""
        if self.valid and not self.valid[0] <= day <= self.valid[1]:
            return 1000
        for dated in self.multipliers:
            if dated.valid[0] <= day <= dated.valid[1]:
                return dated.multiplier_milli
        return self.multiplier_milli

    def days(self) -> Iterator[Days]:
        """The spans of days that the tier names."""
        if self.valid:
            yield self.valid
        for dated in self.multipliers:
            yield dated.valid


class Redemption(_Terms):
    """How points are spent: at once, or reserved for `settle_after_days` from the day on which the
    redemption became known, in which a cancellation undoes it, and redeemed at the end of them."""

    settle_after_days: int = Field(default=0, ge=0, le=365)


class Closure(_Terms):
    """What becomes of open points when an account is closed.

    `on` are patterns of the account's close reason or substatus; `grace_days` later the points are
    forfeited, or credited to the account. `blocks_redemption`: until then they cannot be spent.
    A balance below zero is written off `write_off_days` after the closing.
    """

    on: Names = ("*",)
    action: Literal["FORFEIT", "CREDIT"] = "FORFEIT"
    grace_days: int = Field(default=0, ge=0)
    blocks_redemption: bool = False
    write_off_days: int | None = Field(default=None, ge=0)

    def covers(self, *reasons: str | None) -> bool:
        """Whether one of `reasons` is meant; an account closed for no told reason is by `*`."""
        told = [reason for reason in reasons if reason] or [""]
        return any(fnmatchcase(reason, pattern) for reason in told for pattern in self.on)


class Rounding(_Terms):
    """The one rounding: of each rule's points, of a transaction's sum, or of the sum of all that
    is posted in a statement period."""

    scope: Literal["TXN_RULE", "TXN", "STATEMENT"] = "TXN_RULE"
    mode: Literal["HALF_UP", "HALF_EVEN", "DOWN", "UP"] = "HALF_UP"


class Returns(_Terms):
    """How refunds take points back.

    `policy`: UNLIMITED may leave a balance below zero; WITHIN_BALANCE takes no more than there is,
    ONLY_PENDING no more than still waits for its statement. What is not taken the issuer bears.
    """

    policy: Annotated[
        Literal["UNLIMITED", "WITHIN_BALANCE", "ONLY_PENDING"], BeforeValidator(_upper)
    ] = "UNLIMITED"
    rate_at: Literal["ORIGINAL", "RETURN_DATE"] = "ORIGINAL"
    unmatched_rate: Literal["CURRENT_MCC", "BASE", "NONE"] = "CURRENT_MCC"
    cap_refill: Literal["RESTORE_ONLY", "RERATE"] = "RESTORE_ONLY"


class Expiry(_Terms):
    """When unused points lapse: each lot after `months`, all of an account's after `months`
    without an event or instruction, or never. What lapses by inactivity is lost, or credited."""

    kind: Literal["LOT", "INACTIVITY", "NONE"] = "NONE"
    months: int | None = Field(default=None, gt=0, le=1200)
    align: Literal["NONE", "END_OF_MONTH", "END_OF_QUARTER", "END_OF_YEAR"] = "NONE"
    action: Literal["FORFEIT", "CREDIT"] = "FORFEIT"

    @model_validator(mode="after")
    def _has_months(self) -> Self:
        if (self.kind == "NONE") != (self.months is None):
            raise ValueError("kinds LOT and INACTIVITY need months, kind NONE takes none")
        if self.kind == "INACTIVITY" and self.align != "NONE":
            raise ValueError("kind INACTIVITY takes no align")
        if self.kind != "INACTIVITY" and self.action == "CREDIT":
            raise ValueError("action CREDIT needs kind INACTIVITY")
        return self


class Economics(_Terms):
    """What points are worth to finance.

    `point_value_micros` is the cost of one program unit (of `10 ** -asset_scale` points) in
    millionths of a minor unit of `currency`; `purchase_price_micros` what the partner is paid per
    transferred unit; `redemption_cost_micros` what a redeemed unit costs, where that is not its
    value; `breakage_bps` the share that is expected never to be redeemed.
    """

    point_value_micros: int = Field(default=1_000_000, ge=0)
    purchase_price_micros: int = Field(default=0, ge=0)
    redemption_cost_micros: int | None = Field(default=None, ge=0)
    breakage_bps: int = Field(default=0, ge=0, le=10_000)
    presentation: Literal["EXPENSE", "CONTRA_REVENUE"] = "EXPENSE"


class ProgramTerms(_Terms):
    """One version of one program's terms."""

    program: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_.-]+$")
    version: int = Field(ge=1)
    valid_from: date
    valid_to: date | None = None
    name: str | None = None
    partner_id: str | None = None
    issuer_bank: str | None = None
    network: str | None = None
    currency: Annotated[str, AfterValidator(_known_currency)] = "USD"
    currency_kind: str = Field(default="POINTS", pattern=r"^(POINTS|MILES|CASHBACK(_[A-Z]{3})?)$")
    asset_scale: int = Field(default=0, ge=0, le=6)
    settlement_model: Literal["ISSUER_HELD", "PARTNER_POSTED", "STATEMENT_CREDIT"] = "ISSUER_HELD"
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    date_basis: Literal["TRANSACTION_DATE", "POSTING_DATE"] = "TRANSACTION_DATE"
    accrual: Accrual = Accrual()
    rounding: Rounding = Rounding()
    eligibility: Eligibility = Eligibility()
    gates: tuple[Gate, ...] = ()
    earn: Earn
    signup_bonus: tuple[SignupBonus, ...] = ()
    tiers: tuple[Tier, ...] = ()
    returns: Returns = Returns()
    expiry: Expiry = Expiry()
    redemption: Redemption = Redemption()
    closure: Closure | None = None
    economics: Economics = Economics()
    source_document_sha256: str | None = None
    approved_by: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.valid_to and self.valid_to < self.valid_from:
            raise TermsError("valid_to", "is before valid_from")
        paid_in = self.currency_kind.partition("_")[2]
        if paid_in and paid_in != self.currency:
            raise TermsError(
                "currency_kind", f"pays back in {paid_in}, but currency is {self.currency}"
            )
        if self.rounding.scope != "TXN_RULE" and any(
            rule.cap and rule.cap.unit == "POINTS" for rule in self.earn.rules()
        ):
            raise TermsError("rounding.scope", "a cap in POINTS needs scope TXN_RULE")
        if self.rounding.scope == "STATEMENT" and self.earn.floor:
            raise TermsError("rounding.scope", "a floor needs scope TXN_RULE or TXN")
        if self.rounding.scope == "STATEMENT" and self.returns.rate_at == "RETURN_DATE":
            raise TermsError("returns.rate_at", "rounding by STATEMENT needs ORIGINAL")
        if self.returns.policy == "ONLY_PENDING" and self.accrual.settlement == "LIVE":
            raise TermsError(
                "returns.policy", "ONLY_PENDING needs accrual with settlement STATEMENT"
            )
        if self.accrual.strategy == "PAYMENT" and (
            self.signup_bonus or any(tier.metric == "NET_SPEND_12M" for tier in self.tiers)
        ):
            raise TermsError(
                "accrual.strategy", "PAYMENT has no spend for signup_bonus or NET_SPEND_12M"
            )
        ids = [rule.id for rule in (*self.earn.rules(), *self.signup_bonus)]
        ids += [self.earn.floor.id] if self.earn.floor else []
        ids += [limit.id for limit in self.eligibility.limits]
        if repeated := [name for name in ids if ids.count(name) > 1]:
            raise ValueError(f"rule id {repeated[0]!r} is used twice")
        if len({(tier.metric, tier.review) for tier in self.tiers}) > 1:
            raise TermsError("tiers", "all tiers of a version have one metric and one review")
        return self

    @property
    def units_per_point(self) -> int:
        """Ledger units of one whole point."""
        return 10**self.asset_scale


@dataclass(frozen=True)
class TermsVersion:
    """Terms with where they came from; `rule_hash` is over the document's content."""

    terms: ProgramTerms
    rule_hash: str
    source: str


@dataclass(frozen=True)
class Program:
    """All versions of one program, in order of validity."""

    program_id: str
    versions: tuple[TermsVersion, ...]

    @cached_property
    def _starts(self) -> list[date]:
        return [version.terms.valid_from for version in self.versions]

    @property
    def latest(self) -> ProgramTerms:
        """The newest version's terms."""
        return self.versions[-1].terms

    @property
    def asset(self) -> str:
        """The name of the program's units in the ledger."""
        return f"PTS:{self.program_id}"

    @cached_property
    def waits(self) -> dict[tuple[int, str], int]:
        """Days until points may be spent, by version and id of the rules whose points wait."""
        return {
            (version.terms.version, rule.id): rule.available_after_days
            for version in self.versions
            for rule in (*version.terms.earn.bonus, *version.terms.signup_bonus)
            if rule.available_after_days
        }

    def index_on(self, day: date) -> int | None:
        """Which version is in force on `day` of the program's zone; None if none is."""
        index = bisect_right(self._starts, day) - 1
        if index < 0:
            return None
        ends = self.versions[index].terms.valid_to
        return None if ends and day > ends else index

    def valid_to(self, index: int) -> date | None:
        """Last day of version `index`: its own, or the day before its successor begins."""
        own = self.versions[index].terms.valid_to
        if index + 1 == len(self.versions):
            return own
        successor = date.fromordinal(self._starts[index + 1].toordinal() - 1)
        return min(own, successor) if own else successor


def load_programs(directory: Path) -> dict[str, Program]:
    """The programs of the YAML files in `directory`, by program id.

    A file holds one version, or several as YAML documents. Raises `CardlineError` naming the
    file and the field of the first thing that is wrong.
    """
    if not directory.is_dir():
        raise CardlineError(f"{directory}: no such folder of program terms (CARDLINE_PROGRAMS)")
    found: dict[str, list[TermsVersion]] = {}
    for path in sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")]):
        for version in _read(path):
            found.setdefault(version.terms.program, []).append(version)
    return {name: _program(name, versions) for name, versions in sorted(found.items())}


def parse_terms(document: Any, source: str = "terms", lines: Lines | None = None) -> TermsVersion:
    """One YAML document as terms; `source` names it in errors, with the line if `lines` tell."""
    place = f"{source}:{lines.first}" if lines else source
    if not isinstance(document, dict):
        raise CardlineError(f"{place}: expected a mapping of terms")
    try:
        terms = ProgramTerms.model_validate(document)
    except ValidationError as error:
        raise CardlineError(_explain(error, source, lines)) from error
    content = json.dumps(document, sort_keys=True, default=str, separators=(",", ":"))
    return TermsVersion(terms, hashlib.sha256(content.encode()).hexdigest(), place)


def _read(path: Path) -> Iterator[TermsVersion]:
    for document, lines in read_documents(path):
        yield parse_terms(document, str(path), lines)


def _explain(error: ValidationError, source: str, lines: Lines | None) -> str:
    problems = []
    for detail in error.errors():
        cause = detail.get("ctx", {}).get("error")
        loc = detail["loc"]
        if isinstance(cause, TermsError):
            loc = (*loc, *cause.field.split("."))
        place = f"{source}:{lines.of(loc)}" if lines else source
        field = ".".join(str(part) for part in loc) or "terms"
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            message = "is not a term that this version supports"
        problems.append(f"{place}: {field}: {message}")
    return "; ".join(problems)


def _program(name: str, versions: list[TermsVersion]) -> Program:
    ordered = sorted(versions, key=lambda version: version.terms.version)
    first = ordered[0]
    for before, after in pairwise(ordered):
        if after.terms.version == before.terms.version:
            raise CardlineError(
                f"{after.source}: version: {name} has version {after.terms.version} already, "
                f"in {before.source}"
            )
        if after.terms.valid_from <= before.terms.valid_from:
            raise CardlineError(
                f"{after.source}: valid_from: version {after.terms.version} of {name} must begin "
                f"after version {before.terms.version} ({before.terms.valid_from})"
            )
        for field in FIXED_FIELDS:
            if getattr(after.terms, field) != getattr(first.terms, field):
                raise CardlineError(
                    f"{after.source}: {field}: is fixed for the life of {name} "
                    f"({getattr(first.terms, field)!r})"
                )
    return Program(name, tuple(ordered))
