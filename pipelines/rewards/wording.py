"""Terms in words: rates, caps and conditions of rules, given as they stand in a version's body.

The body is the terms as JSON (`rewards.programs.body`, `ProgramTerms.model_dump`), so that what
an old version said can still be told. What has no words here is named as it is.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from pipelines.currencies import minor_digits

_REASONS = {
    "EXCLUDED_MCC": "its merchant category does not earn",
    "EXCLUDED_CLASS": "transactions of its kind do not earn",
    "FEE_OR_INTEREST": "fees and interest do not earn",
    "NOT_POSTED": "no purchase that has earned is known of it",
    "ACCOUNT_NOT_IN_GOOD_STANDING": "the account was not in good standing",
    "GATE_FAILED": "its statement period shows too little",
    "CAP_EXHAUSTED": "the cap is used up",
    "BEFORE_ENROLMENT": "no terms were in force on its day",
    "PROMO_NOT_ACTIVATED": "the member had not activated the offer",
    "DISPUTED": "it was recovered in a dispute and nothing was left of the purchase",
    "FRAUD_CONFIRMED": "it was confirmed as fraud and nothing was left of the purchase",
    "ROUNDED_TO_ZERO": "what it gives is rounded to zero",
    "DUPLICATE": "nothing was left of the purchase",
}

NO_WORDS = ("id", "rate_milli", "per_minor", "points", "partial", "cap", "match", "min_points",
            "valid", "activation", "choice", "funding", "group",
            "available_after_days")  # fmt: skip


def unit_name(body: Mapping[str, Any]) -> str:
    """What a program's points are called; money paid back is told as such, by the name of its
    currency, where a unit of the ledger is one of its minor units."""
    kind, _, currency = body["currency_kind"].partition("_")
    if kind == "CASHBACK" and currency and body["asset_scale"] == minor_digits(currency):
        return f"{currency} cash back"
    return "miles" if kind == "MILES" else "points"


def points_text(units: int, body: Mapping[str, Any]) -> str:
    """Ledger units (of `10 ** -asset_scale` points) as points."""
    scale = body["asset_scale"]
    return f"{Decimal(int(units)).scaleb(-scale):,.{scale}f}"


def money_text(minor: int, currency: str) -> str:
    """Minor units of `currency` as an amount, such as `1,500.00 USD`."""
    scale = minor_digits(currency)
    return f"{Decimal(int(minor)).scaleb(-scale):,.{scale}f} {currency}"


def rules_of(body: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every rule of the earning terms with the place it stands at, such as `base` or `bonus`."""
    for place, value in body["earn"].items():
        for rule in value if isinstance(value, list) else [value]:
            if isinstance(rule, dict) and "id" in rule:
                yield place, rule


def find_rule(body: Mapping[str, Any], rule_id: str) -> dict[str, Any] | None:
    """The rule of that id, wherever in the terms it stands; None if there is none."""
    for value in body.values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                if each.get("id") == rule_id:
                    return each
                if found := find_rule(each, rule_id):
                    return found
    return None


def rate_words(rule: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    """What an amount gives under `rule`, such as `1.5 points per 1 USD`."""
    name = unit_name(body)
    if rule.get("rate_milli") is not None:
        rate = Decimal(rule["rate_milli"]).scaleb(-3).normalize()
        return f"{rate:f} {name} per 1 {body['currency']}"
    if rule.get("per_minor") is not None:
        full = "full " if rule.get("partial") == "FLOOR" else ""
        return (
            f"{rule['points']} {name} per {full}{money_text(rule['per_minor'], body['currency'])}"
        )
    if rule.get("threshold_minor") is not None:
        days, months = rule.get("within_days"), rule.get("within_months")
        window = f"{days} days" if days is not None else f"{months} months"
        return (
            f"{rule['points']:,} {name} once eligible purchases of the first {window} reach "
            f"{money_text(rule['threshold_minor'], body['currency'])}"
        )
    if rule.get("min_points") is not None:
        return f"at least {rule['min_points']} {name} a purchase"
    return "no rate"


def cap_words(cap: Mapping[str, Any] | None, body: Mapping[str, Any]) -> str:
    """What a cap allows, such as `up to 1,500.00 USD of spend per calendar quarter`."""
    if cap is None:
        return "without a cap"
    window = cap["window"].lower().replace("_", " ")
    per = {"promo": "in the promotion", "lifetime": "in all"}.get(window, f"per {window}")
    if cap["unit"] == "SPEND_MINOR":
        what = f"{money_text(cap['amount'], body['currency'])} of spend"
    else:
        what = f"{cap['amount']:,} {unit_name(body)}"
    shared = f" (shared: {cap['share_key']})" if cap.get("share_key") else ""
    return f"up to {what} {per}{shared}"


def match_words(match: Mapping[str, Any] | None) -> str:
    """Whom or what a rule is for, such as `mcc_category gas or drugstore`."""
    named = [
        f"{name} {' or '.join(map(str, wanted))}"
        for name, wanted in (match or {}).items()
        if wanted
    ]
    return " and ".join(named) or "every eligible purchase"


def rounding_words(body: Mapping[str, Any]) -> str:
    """How points are rounded, such as `half up, for each rule`."""
    mode, scope = body["rounding"]["mode"], body["rounding"]["scope"]
    of = {"TXN_RULE": "for each rule", "TXN": "for the purchase as a whole"}
    whole = of.get(scope, "for the statement period as a whole")
    return f"{mode.lower().replace('_', ' ')}, {whole}"


def counted(number: int, noun: str) -> str:
    """A number of things, such as `1 entry` or `2 entries`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"


def reason_words(reason: str, rule: Mapping[str, Any] | None = None) -> str:
    """Why a decision gives nothing, with the reason's name; `rule`: what it was decided under."""
    words = _REASONS.get(reason)
    if reason == "CAP_EXHAUSTED" and rule and rule.get("merchants"):
        words = limit_words(rule)
    return f"{words} ({reason})" if words else reason


def limit_words(limit: Mapping[str, Any]) -> str:
    """What a limit of merchants says, such as `mcc 6513 earns at the first merchant of a calendar
    month only`."""
    many = limit["merchants"]
    places = "merchant" if many == 1 else f"{many} merchants"
    window = limit["per"].lower().replace("_", " ")
    return f"{match_words(limit['match'])} earns at the first {places} of a {window} only"


def rule_words(rule: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    """One rule in one line: rate, whom for, cap, dates, who pays."""
    parts = [rate_words(rule, body), f"for {match_words(rule.get('match'))}"]
    if rule.get("cap"):
        parts.append(cap_words(rule["cap"], body))
    if rule.get("valid"):
        parts.append(f"from {rule['valid'][0]} to {rule['valid'][1]}")
    match rule.get("activation"):
        case "required":
            parts.append("after activation")
        case "retroactive":
            parts.append("if activated by the last day")
    if rule.get("choice"):
        parts.append(f"chosen as {rule['choice']}")
    if partner := (rule.get("funding") or {}).get("partner_bps"):
        parts.append(f"{partner / 100:g} % paid by the partner")
    if rule.get("group"):
        parts.append(f"best of group {rule['group']}")
    if days := rule.get("available_after_days"):
        parts.append(f"available after {days} days")
    parts += [f"{name} {value}" for name, value in rule.items() if value and name not in NO_WORDS]
    return ", ".join(parts)
