"""Random histories of posted events for the rewards tests, and a small program to run them on."""

from datetime import date, datetime, time, timedelta
from typing import Any

from hypothesis import strategies as st

from pipelines.rewards.rules import RuleBook
from pipelines.rewards.terms import Program, parse_terms
from tests.property.reference_rewards import Known

START = date(2024, 3, 25)
ENDED = (START - timedelta(days=20), START + timedelta(days=6))
"""The first and last day of a statement period that has ended."""
MCCS = ("5812", "5411", "5541", "6011", "5999")

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


@st.composite
def terms(draw: st.DrawFn) -> dict[str, Any]:
    """Terms with any of the rules: the mapping that would stand in the YAML."""
    scope = draw(st.sampled_from(["TXN_RULE", "TXN_RULE", "TXN", "STATEMENT"]))
    bonus = [dict(rule) for rule in TERMS["earn"]["bonus"]]
    if draw(st.booleans()):
        bonus.append(
            {"id": "promo", "group": "promo", "match": {"mcc_category": "grocery"},
             "rate_milli": 700, "valid": [START + timedelta(days=2), START + timedelta(days=9)],
             "activation": "required",
             "cap": {"unit": "SPEND_MINOR", "amount": 5000, "window": "PROMO"}}
        )  # fmt: skip
    if scope != "TXN_RULE":
        bonus = [rule for rule in bonus if rule.get("cap", {}).get("unit") != "POINTS"]
    earn = {"base": TERMS["earn"]["base"], "bonus": bonus}
    if scope != "STATEMENT" and draw(st.booleans()):
        earn["floor"] = {"id": "least", "match": {"mcc": [5999]}, "min_points": 60}
    made = {
        **TERMS,
        "earn": earn,
        "rounding": {
            "scope": scope,
            "mode": draw(st.sampled_from(["HALF_UP", "HALF_EVEN", "DOWN", "UP"])),
        },
        "returns": {
            "unmatched_rate": draw(st.sampled_from(["CURRENT_MCC", "BASE", "NONE"])),
            "cap_refill": draw(st.sampled_from(["RESTORE_ONLY", "RERATE"])),
        },
    }  # fmt: skip
    if draw(st.booleans()):
        made["eligibility"] = {**TERMS["eligibility"], "account": "good_standing_v3"}
    if draw(st.booleans()):
        made["gates"] = [{"id": "min", "kind": "MIN_TXN_PER_STATEMENT", "n": 3}]
    if draw(st.booleans()):
        made["signup_bonus"] = [
            {"id": "welcome", "points": 500, "threshold_minor": 15_000, "within_days": 8,
             "clawback": {"if_below_threshold": draw(st.booleans())}}
        ]  # fmt: skip
    if metric := draw(st.sampled_from([None, "ACCOUNT_TIER", "NET_SPEND_12M"])):
        applies = draw(st.sampled_from(["ALL", "BASE"]))
        review = draw(st.sampled_from(["YEARLY", "QUARTERLY", "MONTHLY"]))
        made["tiers"] = [
            {
                "id": f"tier{at}",
                "metric": metric,
                "at_least_minor": at,
                "multiplier_milli": many,
                "review": review,
                "applies_to": applies,
            }
            for at, many in ((12_000, 1250), (30_000, 1500))
        ]
    if "signup_bonus" not in made and metric != "NET_SPEND_12M":
        made["accrual"] = {"strategy": draw(st.sampled_from(["DEFAULT", "PAYMENT"]))}
    return made


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


@st.composite
def histories(draw: st.DrawFn, accounts: int = 2, longest: int = 25) -> list[dict]:
    """Purchases, second clearings, refunds of all sorts and reversals of refunds."""
    events: list[dict] = []
    for number in range(draw(st.integers(1, longest))):
        account = f"a{draw(st.integers(1, accounts))}"
        day = draw(st.integers(0, 14))
        amount = draw(st.integers(0, 12_000))
        mcc = draw(st.sampled_from(MCCS))
        mine = [e for e in events if e["account_id"] == account]
        purchases = [e for e in mine if e["event_type"] == "CLEARING"]
        returns = [e for e in mine if e["event_type"] == "RETURN"]
        kind = draw(st.sampled_from(["buy", "buy", "buy", "clear", "refund", "refund", "stray",
                                     "correct", "reverse"]))  # fmt: skip
        made = event(number, account, amount, day, mcc=mcc)
        if kind == "clear" and purchases:
            made["transaction_id"] = draw(st.sampled_from(purchases))["transaction_id"]
        elif kind == "refund" and purchases:
            of = draw(st.sampled_from(purchases))
            made |= {
                "event_type": "RETURN", "direction": "CREDIT", "transaction_class": "REFUND",
                "refunds_transaction_id": of["transaction_id"], "mcc": of["mcc"],
            }  # fmt: skip
        elif kind == "stray":
            made |= {"event_type": "RETURN", "direction": "CREDIT", "transaction_class": "REFUND"}
        elif kind == "correct" and purchases:
            of = draw(st.sampled_from(purchases))
            made |= {"event_type": "CORRECTION_CREDIT", "direction": "CREDIT",
                     "transaction_id": of["transaction_id"]}  # fmt: skip
        elif kind == "reverse" and returns:
            of = draw(st.sampled_from(returns))
            made |= {
                "event_type": "RETURN_REVERSAL", "transaction_class": "REFUND",
                "transaction_id": of["transaction_id"],
                "refunds_transaction_id": of["refunds_transaction_id"],
            }  # fmt: skip
        events.append(made)
    return events


@st.composite
def full_histories(draw: st.DrawFn, longest: int = 25) -> list[dict]:
    """Histories with payments, confirmed frauds, some of them withdrawn, and disputes won."""
    events = draw(histories(longest=longest))
    for number in range(draw(st.integers(0, 3))):
        paid = event(
            f"p{number}", f"a{draw(st.integers(1, 2))}", draw(st.integers(0, 9000)),
            draw(st.integers(0, 14)), event_type="PAYMENT", transaction_class="PAYMENT", mcc=None,
            transaction_id=f"payment:{number}",
        )  # fmt: skip
        events.append(paid)
        if draw(st.booleans()):
            later = paid["posted_on"] + timedelta(days=3)
            back = {"event_type": "PAYMENT_RETURN", "direction": "CREDIT", "posted_on": later,
                    "known_on": later, "event_at": datetime.combine(later, time(9)),
                    "refunds_transaction_id": paid["transaction_id"]}  # fmt: skip
            events.append({**paid, "event_id": f"q{number}", **back})
    bought: dict[str, list[dict]] = {}
    for each in events:
        if each["event_type"] == "CLEARING":
            bought.setdefault(each["transaction_id"], []).append(each)
    for number, (transaction, parts) in enumerate(bought.items()):
        kind = draw(st.sampled_from([None] * 6 + ["FRAUD", "DISPUTE", "WITHDRAWN"]))
        if kind is None:
            continue
        on = max(e["posted_on"] for e in parts) + timedelta(days=draw(st.integers(0, 5)))
        total = sum(each["amount_minor"] for each in parts)
        taken = {
            **parts[0], "event_id": f"x{number}", "transaction_id": f"x:{transaction}",
            "event_type": "CHARGEBACK" if kind == "DISPUTE" else "FRAUD_CONFIRMED",
            "direction": "CREDIT", "transaction_class": "REFUND", "posted_on": on, "known_on": on,
            "event_at": datetime.combine(on, time(13)), "refunds_transaction_id": transaction,
            "amount_minor": total // 3 if kind == "DISPUTE" else total,
        }  # fmt: skip
        events.append(taken)
        if kind == "WITHDRAWN":
            later = on + timedelta(days=1)
            events.append(
                {**taken, "event_id": f"y{number}", "event_type": "RETURN_REVERSAL",
                 "direction": "DEBIT", "posted_on": later, "known_on": later,
                 "event_at": datetime.combine(later, time(13))}
            )  # fmt: skip
    return events


@st.composite
def knowledge(draw: st.DrawFn) -> Known:
    """What may be known of an account beside its events, all of it from before them."""
    states = [("OPEN", None)] * 3 + [("SUSPENDED", None), ("OPEN", "DELINQUENT")]
    days = draw(st.lists(st.integers(1, 14), max_size=2, unique=True))
    records = [
        (datetime.combine(START + timedelta(days=day), time(9)),
         *draw(st.sampled_from(states)), draw(st.sampled_from([None, "tier12000", "tier30000"])),
         4)
        for day in [-5, *sorted(days)]
    ]  # fmt: skip
    return Known(
        records,
        [ENDED] if draw(st.booleans()) else [],
        START - timedelta(days=draw(st.integers(0, 4))),
        {"promo": START} if draw(st.booleans()) else {},
    )
