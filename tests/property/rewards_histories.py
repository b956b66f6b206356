"""Random histories of posted events for the rewards tests, and a small program to run them on."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from random import Random
from typing import Any

from hypothesis import strategies as st

from pipelines.rewards.rules import RuleBook
from pipelines.rewards.terms import Program, parse_terms
from tests.property.reference_rewards import Known
from tests.rewards_lab import account, instruction, statement

START = date(2024, 3, 25)
ENDED = (START - timedelta(days=20), START + timedelta(days=6))
"""The first and last day of a statement period that has ended."""
OFFERS = ("promo", "my_dining", "my_gas")
MCCS = ("5812", "5411", "5541", "6011", "6538", "5999")

TERMS: dict[str, Any] = {
    "program": "lab",
    "version": 1,
    "valid_from": date(2020, 1, 1),
    "rounding": {"mode": "HALF_UP"},
    "eligibility": {"exclude_mcc_category": ["cash_like"]},
    "earn": {
        "base": {"id": "base", "rate_milli": 1500},
        "bonus": [
            {"id": "dining", "group": "cat", "match": {"mcc_category": "dining"},
             "rate_milli": 2000,
             "cap": {"unit": "SPEND_MINOR", "amount": 9000, "window": "CALENDAR_QUARTER",
                     "share_key": "shared"}},
            {"id": "grocery", "group": "cat", "match": {"mcc_category": "grocery"},
             "rate_milli": 1250,
             "cap": {"unit": "SPEND_MINOR", "amount": 9000, "window": "CALENDAR_QUARTER",
                     "share_key": "shared"}},
            {"id": "food", "group": "cat", "match": {"mcc_category": ["dining", "grocery"]},
             "rate_milli": 1300},
            {"id": "gas", "match": {"mcc_category": "gas"}, "rate_milli": 3000,
             "cap": {"unit": "POINTS", "amount": 100, "window": "CALENDAR_QUARTER"}},
            {"id": "blocks", "match": {"mcc": ["5812", "5541"]}, "per_minor": 1000, "points": 2,
             "partial": "FLOOR"},
        ],
    },
    "expiry": {"kind": "LOT", "months": 1},
}  # fmt: skip


class Drawn:
    """Hypothesis as a source of luck with the names of `random.Random`."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def choice(self, options: Sequence[Any]) -> Any:
        """One of `options`."""
        return self._draw(st.sampled_from(options))

    def randint(self, least: int, most: int) -> int:
        """A whole number; both ends count."""
        return self._draw(st.integers(least, most))


Luck = Drawn | Random


def _bonuses(luck: Luck, scope: str) -> list[dict[str, Any]]:
    bonus = [dict(rule) for rule in TERMS["earn"]["bonus"]]
    window = luck.choice(["CALENDAR_MONTH", "CALENDAR_QUARTER", "CALENDAR_YEAR", "LIFETIME"])
    for rule in bonus:
        if "cap" in rule:
            rule["cap"] = {**rule["cap"], "window": window}
    bonus[-1]["partial"] = luck.choice(["FLOOR", "PRORATE"])
    bonus.append({"id": "partner", "group": "who", "match": {"partner_id": "p"}, "rate_milli": 800,
                  "funding": {"partner_bps": 5000}})  # fmt: skip
    if luck.choice([True, False]):
        bonus.append(
            {"id": "promo", "group": "promo", "match": {"mcc_category": "grocery"},
             "rate_milli": 700, "valid": [START + timedelta(days=2), START + timedelta(days=9)],
             "activation": luck.choice(["required", "retroactive"]),
             "cap": {"unit": "SPEND_MINOR", "amount": 5000, "window": "PROMO"}}
        )  # fmt: skip
    if luck.choice([True, False]):
        bonus += [
            {"id": f"my_{name}", "match": {"mcc_category": name}, "rate_milli": 900,
             "activation": "required", "choice": "mine"}
            for name in ("dining", "gas")
        ]  # fmt: skip
    if scope != "TXN_RULE":
        bonus = [rule for rule in bonus if rule.get("cap", {}).get("unit") != "POINTS"]
    return bonus


def _tiers(luck: Luck) -> list[dict[str, Any]]:
    metric = luck.choice([None, "ACCOUNT_TIER", "NET_SPEND_12M"])
    applies, review = luck.choice(["ALL", "BASE"]), luck.choice(["YEARLY", "QUARTERLY", "MONTHLY"])
    dated = {"valid": [START + timedelta(days=3), START + timedelta(days=6)],
             "multiplier_milli": 2000}  # fmt: skip
    return [
        {"id": f"tier{at}", "metric": metric, "at_least_minor": at, "multiplier_milli": many,
         "review": review, "applies_to": applies, "multipliers": [dated] if at > 20_000 else []}
        for at, many in ((12_000, 1250), (30_000, 1500)) if metric
    ]  # fmt: skip


def _limits(luck: Luck) -> list[dict[str, Any]]:
    per = luck.choice(["CALENDAR_MONTH", "CALENDAR_QUARTER", "CALENDAR_YEAR"])
    limits = [
        {"id": "one_shop", "match": {"mcc": [5999, 5541]}, "per": per},
        {"id": "few_meals", "match": {"mcc_category": ["dining", "grocery"]}, "merchants": 2},
        {"id": "few_shops", "match": {"mcc": [5411, 5541, 5999]}, "merchants": 2, "per": per},
    ]  # fmt: skip
    return luck.choice([[], [], limits[:1], limits[1:2], limits])


def made_terms(luck: Luck) -> list[dict[str, Any]]:
    """Terms with any of the rules, in one version or two: what would stand in the YAML."""
    scope = luck.choice(["TXN_RULE", "TXN_RULE", "TXN", "STATEMENT"])
    earn: dict[str, Any] = {"base": TERMS["earn"]["base"], "bonus": _bonuses(luck, scope)}
    if scope != "STATEMENT" and luck.choice([True, False]):
        earn["floor"] = {"id": "least", "match": {"mcc": [5999]}, "min_points": 60}
    rates = ["ORIGINAL"] if scope == "STATEMENT" else ["ORIGINAL", "RETURN_DATE"]
    standing = luck.choice([None, "good_standing_v3", {"id": "aarp", "resume": "NEXT_CYCLE"}])
    made: dict[str, Any] = {
        **TERMS,
        "earn": earn,
        "asset_scale": luck.choice([0, 0, 2]),
        "timezone": luck.choice(["UTC", "America/New_York", "Pacific/Auckland"]),
        "date_basis": luck.choice(["TRANSACTION_DATE", "POSTING_DATE"]),
        "rounding": {
            "scope": scope,
            "mode": luck.choice(["HALF_UP", "HALF_EVEN", "DOWN", "UP"]),
        },
        "eligibility": {**TERMS["eligibility"], "exclude_flags": ["p2p"], "limits": _limits(luck),
                        **({"account": standing} if standing else {})},
        "returns": {
            "rate_at": luck.choice(rates),
            "unmatched_rate": luck.choice(["CURRENT_MCC", "BASE", "NONE"]),
            "cap_refill": luck.choice(["RESTORE_ONLY", "RERATE"]),
        },
        "tiers": _tiers(luck),
    }  # fmt: skip
    if luck.choice([True, False]):
        made["gates"] = [{"id": "min", "kind": "MIN_TXN_PER_STATEMENT", "n": 3}]
    if luck.choice([True, False]):
        window = luck.choice([{"within_days": 8}, {"within_months": 1}])
        made["signup_bonus"] = [
            {"id": "welcome", "points": 500, "threshold_minor": 15_000, **window,
             "once_per": luck.choice(["CUSTOMER_PROGRAM", "ACCOUNT"]),
             "clawback": {"if_below_threshold": luck.choice([True, False]),
                          "if_closed_within_days": luck.choice([None, 20])}}
        ]  # fmt: skip
    spends = any(tier["metric"] == "NET_SPEND_12M" for tier in made["tiers"])
    if "signup_bonus" not in made and not spends:
        made["accrual"] = {"strategy": luck.choice(["DEFAULT", "PAYMENT"])}
    return [made, _second(luck, made)] if luck.choice([True, False]) else [made]


def _second(luck: Luck, first: dict[str, Any]) -> dict[str, Any]:
    """A version that pays other rates from the middle of the history on."""
    bonus = [
        {**rule, "rate_milli": rule["rate_milli"] + 250} if "rate_milli" in rule else rule
        for rule in first["earn"]["bonus"]
        if rule["id"] != luck.choice(["none", "food", "partner"])
    ]
    earn = {**first["earn"], "bonus": bonus, "base": {"id": "base", "rate_milli": 1000}}
    valid_from = START + timedelta(days=luck.randint(1, 10))
    return {**first, "version": 2, "valid_from": valid_from, "earn": earn}


terms = st.composite(lambda draw: made_terms(Drawn(draw)))


def program(**changes: object) -> Program:
    """The program of these tests, with top-level terms changed."""
    terms = parse_terms({**TERMS, **changes})
    return Program(terms.terms.program, (terms,))


def book(**changes: object) -> RuleBook:
    """Its rules."""
    return RuleBook(program(**changes))


def event(number: object, account: str, amount: int, day: int, **changes: object) -> dict:
    """A posted purchase on day `day` of the history; `changes` replace columns."""
    on = START + timedelta(days=day)
    return {
        "event_id": f"e{number}",
        "transaction_id": f"t{number}",
        "account_id": account,
        "event_type": "CLEARING",
        "event_at": datetime(on.year, on.month, on.day, 12),
        "posted_on": on,
        "amount_minor": amount,
        "currency": "USD",
        "direction": "DEBIT",
        "transaction_class": "PURCHASE",
        "mcc": "5999",
        "merchant_id": None,
        "merchant_country": None,
        "partner_id": None,
        "refunds_transaction_id": None,
        "version_no": 1,
        "known_on": on,
        **changes,
    }


def _purchase(luck: Luck, number: object, account: str) -> dict[str, Any]:
    """A purchase or, now and then, what is none; made up to two days before it is posted."""
    made = event(
        number, account, luck.randint(0, 12_000), luck.randint(0, 14), mcc=luck.choice(MCCS),
        transaction_class=luck.choice(["PURCHASE"] * 8 + ["FEE", "CASH_ADVANCE"]),
        partner_id=luck.choice([None, None, "p"]),
        merchant_id=luck.choice([None, "m1", "m2", "m3"]),
    )  # fmt: skip
    on = made["posted_on"] - timedelta(days=luck.choice([0, 0, 0, 1, 2]))
    return {**made, "event_at": datetime.combine(on, time(luck.randint(0, 23)))}


def _plain_history(luck: Luck, account: str, longest: int) -> list[dict[str, Any]]:
    """Purchases, second clearings, refunds of all sorts and reversals of refunds."""
    events: list[dict[str, Any]] = []
    kinds = ["buy"] * 6 + ["clear", "refund", "refund", "stray", "correct", "reverse", "waive"]
    for number in range(luck.randint(0, longest)):
        made = _purchase(luck, f"{account}-{number}", account)
        purchases = [e for e in events if e["event_type"] == "CLEARING"]
        returns = [e for e in events if e["event_type"] == "RETURN"]
        kind = luck.choice(kinds)
        if kind == "clear" and purchases:
            made["transaction_id"] = luck.choice(purchases)["transaction_id"]
        elif kind == "refund" and purchases:
            of = luck.choice(purchases)
            made |= {
                "event_type": "RETURN", "direction": "CREDIT", "transaction_class": "REFUND",
                "refunds_transaction_id": of["transaction_id"], "mcc": of["mcc"],
                "partner_id": of["partner_id"],
            }  # fmt: skip
        elif kind == "stray":
            made |= {"event_type": "RETURN", "direction": "CREDIT", "transaction_class": "REFUND"}
        elif kind == "correct" and purchases:
            of = luck.choice(purchases)
            made |= {"event_type": "CORRECTION_CREDIT", "direction": "CREDIT",
                     "transaction_class": "PURCHASE",
                     "transaction_id": of["transaction_id"]}  # fmt: skip
        elif kind == "reverse" and returns:
            of = luck.choice(returns)
            made |= {
                "event_type": "RETURN_REVERSAL", "transaction_class": "REFUND",
                "refunds_transaction_id": of["refunds_transaction_id"] or of["transaction_id"],
            }  # fmt: skip
            if luck.choice([True, False]):
                made |= {"transaction_id": of["transaction_id"]}
                made |= {"refunds_transaction_id": of["refunds_transaction_id"]}
        elif kind == "waive":
            made |= {"event_type": "CORRECTION_CREDIT", "direction": "CREDIT",
                     "transaction_class": "FEE"}  # fmt: skip
        events.append(made)
    return events


@st.composite
def histories(draw: st.DrawFn, accounts: int = 2, longest: int = 25) -> list[dict]:
    """Plain histories of some accounts, together of at least one event."""
    luck = Drawn(draw)
    events = [
        each
        for number in range(1, accounts + 1)
        for each in _plain_history(luck, f"a{number}", longest // accounts + 1)
    ]
    return events or [event("only", "a1", 1234, 0)]


def made_history(luck: Luck, account: str, longest: int) -> list[dict[str, Any]]:
    """A history with payments, confirmed frauds, some of them withdrawn, and disputes won."""
    events = _plain_history(luck, account, longest)
    for number in range(luck.randint(0, 2)):
        paid = event(
            f"p{account}-{number}", account, luck.randint(0, 9000), luck.randint(0, 14),
            event_type="PAYMENT", transaction_class="PAYMENT", mcc=None,
            transaction_id=f"payment:{account}-{number}",
        )  # fmt: skip
        events.append(paid)
        if luck.choice([True, False]):
            later = paid["posted_on"] + timedelta(days=3)
            back = {"event_type": "PAYMENT_RETURN", "direction": "CREDIT", "posted_on": later,
                    "known_on": later, "event_at": datetime.combine(later, time(9)),
                    "refunds_transaction_id": paid["transaction_id"]}  # fmt: skip
            events.append({**paid, "event_id": f"q{account}-{number}", **back})
    bought: dict[str, list[dict]] = {}
    for each in events:
        if each["event_type"] == "CLEARING":
            bought.setdefault(each["transaction_id"], []).append(each)
    for number, (transaction, parts) in enumerate(bought.items()):
        kind = luck.choice([None] * 6 + ["FRAUD", "DISPUTE", "WITHDRAWN"])
        if kind is None:
            continue
        on = max(e["posted_on"] for e in parts) + timedelta(days=luck.randint(0, 5))
        total = sum(each["amount_minor"] for each in parts)
        taken = {
            **parts[0], "event_id": f"x{account}-{number}", "transaction_id": f"x:{transaction}",
            "event_type": "CHARGEBACK" if kind == "DISPUTE" else "FRAUD_CONFIRMED",
            "direction": "CREDIT", "transaction_class": "REFUND", "posted_on": on, "known_on": on,
            "event_at": datetime.combine(on, time(13)), "refunds_transaction_id": transaction,
            "amount_minor": total // 3 if kind == "DISPUTE" else total,
        }  # fmt: skip
        events.append(taken)
        if kind == "WITHDRAWN":
            later = on + timedelta(days=1)
            events.append(
                {**taken, "event_id": f"y{account}-{number}", "event_type": "RETURN_REVERSAL",
                 "direction": "DEBIT", "posted_on": later, "known_on": later,
                 "event_at": datetime.combine(later, time(13))}
            )  # fmt: skip
    return events


@st.composite
def full_histories(draw: st.DrawFn, longest: int = 25) -> list[dict]:
    """Full histories of two accounts."""
    luck = Drawn(draw)
    events = [each for name in ("a1", "a2") for each in made_history(luck, name, longest // 2 + 1)]
    return events or [event("only", "a1", 1234, 0)]


def made_knowledge(luck: Luck) -> Known:
    """What may be known of an account beside its events, all of it from before them."""
    states = [("OPEN", None)] * 3 + [("SUSPENDED", None), ("OPEN", "DELINQUENT")]
    days = {-5, *(luck.randint(1, 14) for _ in range(luck.randint(0, 3)))}
    records = [
        (datetime.combine(START + timedelta(days=day), time(9)),
         *luck.choice(states), luck.choice([None, "tier12000", "tier30000"]), 4)
        for day in sorted(days)
    ]  # fmt: skip
    taken = [
        (datetime.combine(START + timedelta(days=luck.randint(-2, 11)), time(luck.randint(0, 23))),
         luck.choice(OFFERS))
        for _ in range(luck.randint(0, 4))
    ]  # fmt: skip
    return Known(
        records,
        [ENDED] if luck.choice([True, False]) else [],
        START - timedelta(days=luck.randint(0, 4)),
        sorted(dict(taken).items()),
        luck.choice([True, True, False]),
    )


knowledge = st.composite(lambda draw: made_knowledge(Drawn(draw)))


def made_late(luck: Luck, events: list[dict]) -> list[dict]:
    """The events, some of them known only days after they were posted."""
    return [
        {**each, "known_on": each["posted_on"] + timedelta(days=luck.choice([0, 0, 0, 2, 9]))}
        for each in events
    ]


@st.composite
def late(draw: st.DrawFn, events: list[dict]) -> list[dict]:
    """As `made_late`."""
    return made_late(Drawn(draw), events)


def made_instructions(luck: Luck, account: str, kinds: Sequence[str]) -> list[dict]:
    """Up to five instructions of an account; cancellations name others of them."""
    made = []
    for number in range(luck.randint(0, 5)):
        on = START + timedelta(days=luck.randint(0, 20))
        kind = luck.choice(kinds)
        points = luck.randint(-50, 300) if kind not in ("REDEEM_CANCEL", "ACTIVATE") else None
        reference = f"{account}:{luck.randint(0, 4)}" if kind == "REDEEM_CANCEL" else None
        offer = luck.choice(OFFERS) if kind == "ACTIVATE" else None
        made.append(
            instruction(f"{account}:{number}", account, kind, on, points, reference=reference,
                        offer_id=offer)
        )  # fmt: skip
    return made


KINDS = ("REDEEM", "REDEEM", "REDEEM_CANCEL", "TRANSFER", "ADJUST")


@st.composite
def instructions(draw: st.DrawFn) -> list[dict]:
    """Instructions of two accounts."""
    return [
        each for name in ("a1", "a2") for each in made_instructions(Drawn(draw), name, KINDS)
    ]  # fmt: skip


LATER: tuple[list[dict[str, Any]], ...] = (
    [],
    [{"status": "CLOSED", "close_reason": "BANK_REQUEST", "closed_on": START + timedelta(days=5)}],
    [{"status": "SUSPENDED"}],
    [{"tier": "tier12000"}, {"substatus": "DELINQUENT"}, {"substatus": None}],
)
"""What may become of an account."""
EXPIRIES: tuple[dict[str, Any], ...] = (
    {"kind": "LOT", "months": 1},
    {"kind": "LOT", "months": 1, "align": "END_OF_MONTH"},
    {"kind": "INACTIVITY", "months": 1},
    {"kind": "INACTIVITY", "months": 1, "action": "CREDIT"},
    {"kind": "NONE"},
)


def _of_balances(luck: Luck, versions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The versions with terms for what becomes of points that are there."""
    settlement = luck.choice(["LIVE", "STATEMENT"])
    policies = ["UNLIMITED", "WITHIN_BALANCE", *(["ONLY_PENDING"] * (settlement == "STATEMENT"))]
    common: dict[str, Any] = {
        "settlement_model": luck.choice(["ISSUER_HELD", "ISSUER_HELD", "PARTNER_POSTED"]),
        "redemption": {"settle_after_days": luck.choice([0, 0, 4])},
    }
    if luck.choice([True, False]):
        common["closure"] = {
            "on": ["BANK_REQUEST"], "grace_days": luck.choice([0, 3]),
            "action": luck.choice(["FORFEIT", "CREDIT"]),
            "blocks_redemption": luck.choice([True, False]),
            "write_off_days": luck.choice([None, 6]),
        }  # fmt: skip
    waits = {rule: luck.choice([0, 0, 0, 3, 40]) for rule in ("partner", "grocery", "welcome")}
    return [
        {
            **_waiting(version, waits),
            **common,
            "accrual": {**version.get("accrual", {}), "settlement": settlement},
            "returns": {**version["returns"], "policy": luck.choice(policies)},
            "expiry": luck.choice(EXPIRIES),
        }
        for version in versions
    ]


def _waiting(version: dict[str, Any], waits: dict[str, int]) -> dict[str, Any]:
    """The version with rules whose points wait for so many days."""

    def later(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {**rule, "available_after_days": days} if (days := waits.get(rule["id"])) else rule
            for rule in rules
        ]

    made = {**version, "earn": {**version["earn"], "bonus": later(version["earn"]["bonus"])}}
    if "signup_bonus" in version:
        made["signup_bonus"] = later(version["signup_bonus"])
    return made


def _records(luck: Luck, name: str) -> list[dict[str, Any]]:
    made = [account(name, START - timedelta(days=4), cycle_day=4)]
    for later in luck.choice(LATER):
        on = START + timedelta(days=luck.randint(2, 12))
        known_on = on + timedelta(days=luck.choice([0, 0, 3]))
        made.append(
            {**made[-1], "updated_at": datetime.combine(on, time(6)), "known_on": known_on, **later}
        )
    return list({row["updated_at"]: row for row in made}.values())


def made_ledger(
    luck: Luck, names: Sequence[str], longest: int
) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """Versions of terms, and deliveries of everything that they may ask about accounts."""
    feeds: dict[str, list[dict[str, Any]]] = {
        "events": [], "instructions": [], "accounts": [], "statements": []
    }  # fmt: skip
    for name in names:
        feeds["events"] += made_late(luck, made_history(luck, name, longest))
        feeds["instructions"] += made_instructions(luck, name, (*KINDS, "ACTIVATE", "ACTIVATE"))
        feeds["accounts"] += _records(luck, name)
        feeds["statements"] += [statement(name, *ENDED)] if luck.choice([True, False]) else []
    return _of_balances(luck, made_terms(luck)), feeds


ledgers = st.composite(lambda draw: made_ledger(Drawn(draw), ("a1", "a2"), 8))
