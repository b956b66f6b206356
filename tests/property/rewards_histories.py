"""Random histories of posted events for the rewards tests, and a small program to run them on."""

from datetime import date, datetime, timedelta
from fractions import Fraction

from hypothesis import strategies as st

from pipelines.rewards.rules import RuleBook
from pipelines.rewards.terms import Program, parse_terms
from tests.property.reference_rewards import ReferenceRule

START = date(2024, 3, 25)
MCCS = ("5812", "5411", "5541", "6011", "5999")

TERMS = {
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

RULES = [
    ReferenceRule("base", Fraction(1500, 100_000)),
    ReferenceRule("dining", Fraction(2000, 100_000), frozenset({"5812"}), "cat",
                  cap=("SPEND_MINOR", 9000, "shared")),
    ReferenceRule("grocery", Fraction(1250, 100_000), frozenset({"5411"}), "cat",
                  cap=("SPEND_MINOR", 9000, "shared")),
    ReferenceRule("food", Fraction(1300, 100_000), frozenset({"5812", "5411"}), "cat"),
    ReferenceRule("gas", Fraction(3000, 100_000), frozenset({"5541"}), cap=("POINTS", 100, "gas")),
    ReferenceRule("blocks", Fraction(0), frozenset({"5812", "5541"}), block=1000, block_points=2),
]  # fmt: skip
EXCLUDED = frozenset({"6011"})


def program(**changes: object) -> Program:
    """The program of these tests, with top-level terms changed."""
    terms = parse_terms({**TERMS, **changes})
    return Program(terms.terms.program, (terms,))


def book(**changes: object) -> RuleBook:
    """Its rules."""
    return RuleBook(program(**changes))


def event(number: int, account: str, amount: int, day: int, **changes: object) -> dict:
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
        "transaction_class": None,
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
