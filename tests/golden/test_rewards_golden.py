"""Rewards worked by hand: the cases that the engine and the lots must give to the point."""

from datetime import date, datetime, timedelta

import polars as pl
import pytest

from pipelines.rewards.engine import EVENT_SCHEMA, decide
from pipelines.rewards.lots import AccountLots, Lot
from pipelines.rewards.rules import RuleBook, largest_remainder, rounded
from pipelines.rewards.terms import Program, parse_terms
from tests.property.rewards_histories import event

DINING = {
    "id": "dining", "group": "cat", "match": {"mcc_category": "dining"}, "rate_milli": 4000,
    "cap": {"unit": "SPEND_MINOR", "amount": 150_000, "window": "CALENDAR_QUARTER",
            "share_key": "q_cap"},
}  # fmt: skip


def book(base: dict | None = None, *bonus: dict, **terms: object) -> RuleBook:
    """A program with these rules."""
    version = parse_terms(
        {
            "program": "golden",
            "version": 1,
            "valid_from": date(2020, 1, 1),
            "earn": {"base": base or {"id": "base", "rate_milli": 1000}, "bonus": list(bonus)},
            **terms,
        }
    )
    return RuleBook(Program("golden", (version,)))


def refund(number: int, of: int, amount: int, day: int, **changes: object) -> dict:
    """A refund of purchase `of`."""
    return event(
        number, "a", amount, day, event_type="RETURN", direction="CREDIT",
        transaction_class="REFUND", refunds_transaction_id=f"t{of}", **changes,
    )  # fmt: skip


def points(rules: RuleBook, *events: dict) -> dict[tuple[str, str], int]:
    """Points by event and rule, where not zero."""
    decisions = decide(pl.DataFrame(list(events), schema=EVENT_SCHEMA), rules).decisions
    return {
        (event_id, rule_id): each
        for event_id, rule_id, each in decisions.select("event_id", "rule_id", "points").rows()
        if each
    }


def dining(number: int, amount: int) -> dict:
    return event(number, "a", amount, number, mcc="5812")


@pytest.mark.parametrize("amount", [10**8, 2**52, 2**59])
def test_points_are_exact_where_products_exceed_64_bits(amount):
    rules = book({"id": "base", "rate_milli": 1499})
    found = points(rules, event(1, "a", amount, 1), refund(2, 1, amount - 1, 2))
    expected = (amount * 1499 + 50_000) // 100_000
    assert found == {("e1", "base"): expected, ("e2", "base"): -expected}


def test_category_bonus_under_a_quarterly_cap():
    found = points(book(None, DINING), dining(1, 70_000), dining(2, 50_000), dining(3, 45_000))
    assert [found[f"e{n}", "base"] for n in (1, 2, 3)] == [700, 500, 450]
    assert [found[f"e{n}", "dining"] for n in (1, 2, 3)] == [2800, 2000, 1200]
    assert sum(found.values()) == 7650


def test_refund_takes_what_was_over_the_cap_first():
    events = [dining(1, 70_000), dining(2, 50_000), dining(3, 45_000), refund(4, 3, 10_000, 5)]
    decided = decide(pl.DataFrame(events, schema=EVENT_SCHEMA), book(None, DINING))
    assert decided.decisions.filter(pl.col("event_id") == "e4")["points"].to_list() == [-100]
    assert decided.caps["used"].to_list() == [150_000]


def test_partial_refunds_add_up_to_the_whole():
    rules = book({"id": "base", "rate_milli": 1500})
    found = points(
        rules, event(1, "a", 1000, 0), refund(2, 1, 333, 1), refund(3, 1, 333, 2),
        refund(4, 1, 334, 3),
    )  # fmt: skip
    assert found == {("e1", "base"): 15, ("e2", "base"): -5, ("e3", "base"): -5, ("e4", "base"): -5}


def test_refund_beyond_the_purchase_is_clamped_and_reported():
    events = [event(1, "a", 1000, 0), refund(2, 1, 1500, 1), refund(3, 1, 100, 2)]
    decided = decide(pl.DataFrame(events, schema=EVENT_SCHEMA), book())
    assert decided.decisions["points"].sum() == 0
    assert decided.problems.select("event_id", "type", "amount_minor").rows() == [
        ("e2", "OVER_REFUND", 500), ("e3", "OVER_REFUND", 100),
    ]  # fmt: skip


def test_unmatched_refund_takes_the_current_rate_of_its_category():
    stray = refund(1, 99, 2000, 0, mcc="5812")
    assert points(book(None, DINING), stray) == {("e1", "base"): -20, ("e1", "dining"): -80}


def test_refund_in_the_same_window_makes_room_and_in_a_later_one_does_not():
    later = event(4, "a", 100_000, 60, mcc="5812")
    in_window = points(
        book(None, DINING), dining(0, 150_000), refund(1, 0, 50_000, 1), dining(2, 100_000)
    )
    assert in_window["e2", "dining"] == 2000
    after = points(book(None, DINING), dining(0, 150_000), refund(3, 0, 50_000, 40), later)
    assert after["e4", "dining"] == 4000


def test_blocks_earn_for_full_blocks_only():
    rules = book({"id": "base", "per_minor": 1000, "points": 1, "partial": "FLOOR"})
    found = points(rules, event(1, "a", 1999, 0), event(2, "a", 999, 0), refund(3, 1, 1000, 1))
    assert found == {("e1", "base"): 1, ("e3", "base"): -1}
    rated = book({"id": "base", "per_minor": 1000, "points": 1, "partial": "PRORATE"},
                 asset_scale=2)  # fmt: skip
    assert points(rated, event(1, "a", 1999, 0)) == {("e1", "base"): 200}


def test_cash_back_in_cents():
    rules = book({"id": "base", "rate_milli": 15}, asset_scale=2, currency_kind="CASHBACK_USD",
                 rounding={"mode": "HALF_EVEN"})  # fmt: skip
    found = points(rules, event(1, "a", 10_000, 0), event(2, "a", 100, 0), event(3, "a", 300, 0))
    assert found == {("e1", "base"): 150, ("e2", "base"): 2, ("e3", "base"): 4}


def test_floor_gives_a_fewest_number_of_points_until_all_is_refunded():
    earn = {
        "base": {"id": "base", "rate_milli": 1000},
        "floor": {"id": "rent_floor", "match": {"mcc": [6513]}, "min_points": 250},
    }
    rules = book(earn=earn)
    rent = event(1, "a", 10_000, 0, mcc="6513")
    assert points(rules, rent) == {("e1", "base"): 100, ("e1", "rent_floor"): 150}
    part = points(rules, rent, refund(2, 1, 4000, 1), refund(3, 1, 6000, 2))
    assert sum(part.values()) == 0
    assert part["e2", "base"] == -40 and part["e2", "rent_floor"] == 40


def test_rounding_the_sum_once():
    half = {"id": "half", "match": {"mcc": ["5999"]}, "rate_milli": 500}
    rules = book({"id": "base", "rate_milli": 500}, half, rounding={"scope": "TXN"})
    assert points(rules, event(1, "a", 100, 0)) == {("e1", "base"): 1}


def test_promotion_wants_activation_and_its_days():
    promo = {
        "id": "promo", "group": "promo", "match": {"mcc": ["5999"]}, "rate_milli": 1000,
        "valid": [date(2024, 3, 26), date(2024, 3, 27)], "activation": "required",
    }  # fmt: skip
    rules = book(None, promo)
    decisions = decide(
        pl.DataFrame([event(n, "a", 1000, n) for n in range(4)], schema=EVENT_SCHEMA), rules
    ).decisions
    assert decisions.filter(rule_id="promo").select("event_id", "zero_reason").rows() == [
        ("e1", "PROMO_NOT_ACTIVATED"), ("e2", "PROMO_NOT_ACTIVATED"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mcc": "6011"}, "EXCLUDED_MCC"),
        ({"transaction_class": "CASH_ADVANCE"}, "EXCLUDED_CLASS"),
        ({"transaction_class": "INTEREST"}, "FEE_OR_INTEREST"),
        ({"amount_minor": 1}, "ROUNDED_TO_ZERO"),
        ({"event_at": datetime(2019, 1, 1)}, "BEFORE_ENROLMENT"),
    ],
)
def test_zero_says_why(changes, reason):
    rules = book(eligibility={"exclude_mcc": [6011]})
    made = {**event(1, "a", 1000, 0), **changes}
    decisions = decide(pl.DataFrame([made], schema=EVENT_SCHEMA), rules).decisions
    assert decisions.select("points", "zero_reason").rows() == [(0, reason)]


@pytest.mark.parametrize(
    ("total", "weights", "shares"),
    [(100, [1, 1, 1], [34, 33, 33]), (157, [4999, 3001, 2000], [79, 47, 31])],
)
def test_largest_remainder(total, weights, shares):
    assert largest_remainder(total, weights) == shares


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("DOWN", [0, 1, 2]), ("UP", [1, 2, 3]), ("HALF_UP", [1, 2, 3]), ("HALF_EVEN", [0, 2, 2])],
)
def test_rounding_modes_at_the_half(mode, expected):
    assert [rounded(numerator, 2, mode) for numerator in (1, 3, 5)] == expected


def lot(number: int, held: int) -> Lot:
    issued = date(2024, 1, number)
    return Lot(f"L{number}", f"e{number}", issued, issued + timedelta(days=365), 0, held, held)


def test_redemption_and_clawback_consume_lots_in_order():
    lots = AccountLots([lot(1, 100), lot(2, 50), lot(3, 75)])
    assert lots.spend(180) == [("L1", 100), ("L2", 50), ("L3", 30)]
    assert lots.debit(60) == [("L3", 45), (None, 15)]
    assert (lots.available, lots.deficit, lots.balance) == (0, 15, -15)


def test_clawback_takes_its_own_lot_first_and_later_points_fill_the_deficit():
    lots = AccountLots([lot(1, 100), lot(2, 50)])
    assert lots.debit(70, own=["e2"]) == [("L2", 50), ("L1", 20)]
    lots.debit(100)
    assert lots.deficit == 20
    with pytest.raises(ValueError):
        lots.spend(1)
    assert lots.credit(lot(3, 30)) == [(None, 20), ("L3", 10)]
    assert lots.balance == 10


def test_a_refund_over_two_versions_is_one_decision_for_each_rule():
    first = parse_terms({"program": "golden", "version": 1, "valid_from": date(2020, 1, 1),
                         "earn": {"base": {"id": "base", "rate_milli": 1000}}})  # fmt: skip
    second = parse_terms({"program": "golden", "version": 2, "valid_from": date(2024, 3, 27),
                          "earn": {"base": {"id": "base", "rate_milli": 2000}}})  # fmt: skip
    events = [event(1, "a", 1000, 0), event(2, "a", 500, 5, transaction_id="t1"),
              refund(3, 1, 1200, 6)]  # fmt: skip
    found = decide(
        pl.DataFrame(events, schema=EVENT_SCHEMA), RuleBook(Program("golden", (first, second)))
    ).decisions.filter(pl.col("event_id") == "e3")
    assert found.select("rule_id", "rule_version", "points").rows() == [("base", 2, -10 - 7)]
