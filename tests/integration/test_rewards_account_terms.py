"""Terms that look at more than one purchase: worked by hand, through the ledger, day by day."""

from datetime import date, datetime, time, timedelta
from typing import Any, ClassVar

import pytest

from pipelines.rewards.balances import balances_as_of
from pipelines.rewards.terms import Program, parse_terms
from tests.rewards_lab import RewardsLab, account, end_of, instruction, statement

START = date(2026, 1, 1)


def program(**terms: Any) -> Program:
    """One version of a program with a base rate of a point a dollar."""
    document = {
        "program": "lab",
        "version": 1,
        "valid_from": date(2020, 1, 1),
        "earn": {"base": {"id": "base", "rate_milli": 1000}},
        **terms,
    }
    return Program("lab", (parse_terms(document),))


def event(number: int, amount: int, on: date, **changes: Any) -> dict[str, Any]:
    """A purchase of account `a` on a day, known that day."""
    return {
        "event_id": f"e{number}",
        "transaction_id": f"t{number}",
        "account_id": "a",
        "event_type": "CLEARING",
        "event_at": datetime.combine(on, time(12)),
        "posted_on": on,
        "amount_minor": amount,
        "currency": "USD",
        "direction": "DEBIT",
        "transaction_class": "PURCHASE",
        "mcc": "5999",
        "version_no": 1,
        "known_on": on,
        **changes,
    }


def refund(number: int, of: int, amount: int, on: date, **changes: Any) -> dict[str, Any]:
    """A refund of purchase `of`."""
    back = {"event_type": "RETURN", "direction": "CREDIT", "transaction_class": "REFUND",
            "refunds_transaction_id": f"t{of}"}  # fmt: skip
    return event(number, amount, on, **{**back, **changes})


def on(day: int) -> date:
    return START + timedelta(days=day)


def worked(lab: RewardsLab, is_daily: bool, **feeds: list[dict[str, Any]]) -> RewardsLab:
    """The lab with all of `feeds` delivered, each row on its known day, or all at once."""
    days = sorted({row["known_on"] for rows in feeds.values() for row in rows})
    if not is_daily:
        lab.deliver(**feeds)
        lab.accrue()
        return lab
    for day in days:
        lab.deliver(
            **{name: [r for r in rows if r["known_on"] == day] for name, rows in feeds.items()}
        )
        lab.accrue(through=day)
    return lab


def both_ways(terms: Program, **feeds: list[dict[str, Any]]) -> RewardsLab:
    """The ledger, after making sure that days one by one lead to what one pass leads to."""
    at_once = worked(RewardsLab(terms), False, **feeds)
    daily = worked(RewardsLab(terms), True, **feeds)
    entries = "select journal_id, event_type, payload_hash, recorded_at from rewards.journal"
    assert sorted(daily.frame(entries).rows()) == sorted(at_once.frame(entries).rows())
    for table in ("rewards.decisions", "rewards.lots", "rewards.balances"):
        same = [sorted(lab.frame(f"select * from {table}").rows(), key=repr)
                for lab in (daily, at_once)]  # fmt: skip
        assert same[0] == same[1], table
    assert at_once.broken() == []
    replayed = at_once.frame("select count(*) as n from rewards.journal")["n"][0]
    at_once.accrue()
    assert at_once.frame("select count(*) as n from rewards.journal")["n"][0] == replayed
    return at_once


def points(lab: RewardsLab) -> dict[tuple[str, str], int]:
    """Points of the decisions that stand, where not zero."""
    rows = lab.frame("select event_id, rule_id, points from rewards.decisions").rows()
    return {(event_id, rule_id): each for event_id, rule_id, each in rows if each}


def reasons(lab: RewardsLab) -> dict[str, str]:
    """Zero reasons by event."""
    rows = lab.frame(
        "select event_id, zero_reason from rewards.decisions where zero_reason is not null"
    ).rows()
    return dict(rows)


BONUS = {
    "id": "sub", "points": 500, "threshold_minor": 30_000, "within_days": 90,
    "clawback": {"if_closed_within_days": 180},
}  # fmt: skip


class TestSignupBonus:
    def test_the_purchase_that_reaches_the_threshold_has_it_once(self):
        lab = both_ways(
            program(signup_bonus=[BONUS]), accounts=[account("a", START)],
            events=[event(1, 29_999, on(1)), event(2, 1, on(2)), event(3, 50_000, on(3))],
        )  # fmt: skip
        assert points(lab) == {("e1", "base"): 300, ("e2", "sub"): 500, ("e3", "base"): 500}
        assert lab.balances() == {"a": 1300}

    def test_refunds_count_against_it_before_and_not_after(self):
        lab = both_ways(
            program(signup_bonus=[BONUS]), accounts=[account("a", START)],
            events=[event(1, 20_000, on(1)), refund(2, 1, 20_000, on(2)), event(3, 20_000, on(3)),
                    event(4, 10_000, on(4)), refund(5, 4, 10_000, on(5))],
        )  # fmt: skip
        assert points(lab)["e4", "sub"] == 500
        assert lab.balances() == {"a": 200 + 500}

    def test_falling_below_takes_it_back_where_the_terms_say_so(self):
        terms = program(signup_bonus=[{**BONUS, "clawback": {"if_below_threshold": True}}])
        lab = both_ways(
            terms, accounts=[account("a", START)],
            events=[event(1, 30_000, on(1)), refund(2, 1, 1, on(100)), event(3, 1_000, on(101))],
        )  # fmt: skip
        assert points(lab)["e2", "sub"] == -500
        assert ("e3", "sub") not in points(lab)

    @pytest.mark.parametrize(("day", "has_bonus"), [(90, True), (91, False)])
    def test_the_window_ends_with_its_last_day(self, day: int, has_bonus: bool):
        lab = both_ways(
            program(signup_bonus=[BONUS]), accounts=[account("a", START)],
            events=[event(1, 30_000, on(day), posted_on=on(day + 3), known_on=on(day + 3))],
        )  # fmt: skip
        assert (("e1", "sub") in points(lab)) is has_bonus

    def test_months_are_calendar_months(self):
        terms = program(signup_bonus=[
            {"id": "sub", "points": 500, "threshold_minor": 100, "within_months": 3}
        ])  # fmt: skip
        opened = date(2025, 11, 30)
        for day, has_bonus in ((date(2026, 2, 28), True), (date(2026, 3, 1), False)):
            lab = both_ways(terms, accounts=[account("a", opened)], events=[event(1, 100, day)])
            assert (("e1", "sub") in points(lab)) is has_bonus

    def test_only_a_persons_first_account_has_it(self):
        accounts = [account("a", START, customer_id="c"), account("b", on(5), customer_id="c")]
        events = [event(1, 30_000, on(10)), event(2, 30_000, on(10), account_id="b")]
        found = points(both_ways(program(signup_bonus=[BONUS]), accounts=accounts, events=events))
        assert ("e1", "sub") in found
        assert ("e2", "sub") not in found
        each = program(signup_bonus=[{**BONUS, "once_per": "ACCOUNT"}])
        assert ("e2", "sub") in points(both_ways(each, accounts=accounts, events=events))

    @pytest.mark.parametrize(("day", "left"), [(180, 300), (181, 800)])
    def test_an_early_closure_takes_it_back(self, day: int, left: int):
        closed = account("a", START, status="CLOSED", closed_on=on(day), known_on=on(day),
                         updated_at=datetime.combine(on(day), time(1)))  # fmt: skip
        lab = both_ways(
            program(signup_bonus=[BONUS]), accounts=[account("a", START), closed],
            events=[event(1, 30_000, on(1)), event(2, 100, on(200), account_id="b")],
        )  # fmt: skip
        assert lab.balances()["a"] == left

    def test_a_closure_gives_back_what_it_took_of_a_bonus_that_is_lost_besides(self):
        terms = program(
            signup_bonus=[{**BONUS, "clawback": {"if_closed_within_days": 180,
                                                 "if_below_threshold": True}}]
        )  # fmt: skip
        closed = account("a", START, status="CLOSED", closed_on=on(5), known_on=on(5),
                         updated_at=datetime.combine(on(5), time()))  # fmt: skip
        lab = both_ways(
            terms, accounts=[account("a", START), closed],
            events=[event(1, 30_000, on(1)), refund(2, 1, 10_000, on(9))],
        )  # fmt: skip
        # 300 for what was bought, less 100: the bonus is taken back once and not twice.
        assert lab.balances() == {"a": 200}

    def test_a_closure_takes_and_gives_back_on_the_day_on_which_all_of_it_becomes_known(self):
        terms = program(
            signup_bonus=[{**BONUS, "clawback": {"if_closed_within_days": 180,
                                                 "if_below_threshold": True}}],
            closure={"on": ["BANK_REQUEST"], "grace_days": 0, "action": "FORFEIT"},
        )  # fmt: skip
        closed = account("a", START, status="CLOSED", closed_on=on(5), known_on=on(12),
                         close_reason="BANK_REQUEST",
                         updated_at=datetime.combine(on(12), time()))  # fmt: skip
        lab = both_ways(
            terms, accounts=[account("a", START), closed],
            events=[event(1, 30_000, on(1)), refund(2, 1, 10_000, on(9), known_on=on(12))],
        )  # fmt: skip
        # At the closure 500 are taken back and 300 forfeited; the refund takes 100 and, the bonus
        # being lost by itself now, the 500 that the closure had taken are given back.
        assert lab.balances() == {"a": -100}

    def test_news_of_the_account_leave_it_as_it_is(self):
        later = account("a", START, status="SUSPENDED", known_on=on(9),
                        updated_at=datetime.combine(on(5), time()))  # fmt: skip
        lab = both_ways(
            program(signup_bonus=[BONUS], eligibility={"account": "good_standing_v3"}),
            accounts=[account("a", START), later],
            events=[event(1, 30_000, on(1)), event(2, 100, on(6))],
        )  # fmt: skip
        assert points(lab) == {("e1", "base"): 300, ("e1", "sub"): 500}

    def test_a_confirmed_fraud_does_not_count(self):
        fraud = refund(2, 1, 30_000, on(5), event_type="FRAUD_CONFIRMED")
        lab = both_ways(
            program(signup_bonus=[BONUS]), accounts=[account("a", START)],
            events=[event(1, 29_000, on(1)), {**fraud, "amount_minor": 29_000},
                    event(3, 1_000, on(6))],
        )  # fmt: skip
        assert ("e3", "sub") not in points(lab)
        assert lab.balances() == {"a": 10}


class TestGate:
    TERMS: dict[str, Any] = {"gates": [{"id": "two", "kind": "MIN_TXN_PER_STATEMENT", "n": 2}]}  # noqa: RUF012

    def test_a_period_with_too_few_purchases_earns_nothing_after_all(self):
        lab = both_ways(
            program(**self.TERMS),
            events=[event(1, 10_000, on(3)), event(2, 10_000, on(40)), event(3, 500, on(41))],
            statements=[statement("a", START, on(30)), statement("a", on(31), on(58))],
        )
        assert reasons(lab) == {"e1": "GATE_FAILED"}
        assert lab.balances() == {"a": 105}
        kinds = lab.frame(
            "select event_type, reverses_journal_id from rewards.journal order by seq"
        )
        assert kinds.rows()[:2] == [("ACCRUAL", None), ("ACCRUAL", "accrual:e1:1")]

    def test_a_late_purchase_opens_the_gate_again(self):
        late = event(2, 10_000, on(4), known_on=on(50))
        lab = both_ways(
            program(**self.TERMS), events=[event(1, 10_000, on(3)), late],
            statements=[statement("a", START, on(30))],
        )  # fmt: skip
        assert reasons(lab) == {}
        assert lab.balances() == {"a": 200}

    def test_a_late_purchase_that_is_not_enough_earns_nothing(self):
        late = event(2, 10_000, on(20), known_on=on(50))
        terms = program(gates=[{"id": "three", "n": 3}])
        lab = both_ways(
            terms, events=[event(1, 10_000, on(3)), late],
            statements=[statement("a", START, on(30))],
        )  # fmt: skip
        assert reasons(lab) == {"e1": "GATE_FAILED", "e2": "GATE_FAILED"}
        assert lab.balances() == {}


class TestLimitOfMerchants:
    """Rent at a point a dollar, at least 250 a payment, for one property a month."""

    TERMS: ClassVar[dict[str, Any]] = {
        "eligibility": {"limits": [{"id": "one_property", "match": {"mcc": [6513]}}]},
        "earn": {"base": {"id": "base", "rate_milli": 1000},
                 "floor": {"id": "rent_floor", "match": {"mcc": [6513]}, "min_points": 250}},
    }  # fmt: skip

    def rent(self, number: int, amount: int, day: int, at: str | None, **changes: Any) -> dict:
        return event(number, amount, on(day), mcc="6513", merchant_id=at, **changes)

    def test_rent_earns_for_the_first_property_of_each_month(self):
        lab = both_ways(
            program(**self.TERMS),
            events=[self.rent(1, 180_000, 1, "home"), self.rent(2, 90_000, 2, "cabin"),
                    self.rent(3, 20_000, 3, "home"), event(4, 1_000, on(4), merchant_id="cabin"),
                    refund(5, 2, 90_000, on(5), mcc="6513"), refund(6, 1, 180_000, on(6)),
                    self.rent(7, 90_000, 7, "cabin"), self.rent(8, 90_000, 31, "cabin"),
                    self.rent(9, 180_000, 32, "home")],
        )  # fmt: skip
        assert points(lab) == {
            ("e1", "base"): 1800, ("e3", "base"): 200, ("e3", "rent_floor"): 50,
            ("e4", "base"): 10, ("e6", "base"): -1800, ("e8", "base"): 900,
        }  # fmt: skip
        told = lab.frame(
            "select event_id, rule_id, is_eligible from rewards.decisions "
            "where zero_reason = 'CAP_EXHAUSTED' order by 1"
        ).rows()
        assert told == [(name, "one_property", False) for name in ("e2", "e5", "e7", "e9")]

    def test_a_payment_that_arrives_late_can_be_the_first(self):
        lab = both_ways(
            program(**self.TERMS),
            events=[self.rent(1, 180_000, 5, "home"), self.rent(2, 100_000, 6, "home"),
                    self.rent(3, 90_000, 4, "cabin", known_on=on(20))],
        )  # fmt: skip
        assert points(lab) == {("e3", "base"): 900}
        entries = lab.frame(
            "select event_type, recorded_at::date, effective_on from rewards.journal "
            "where reverses_journal_id is not null order by seq"
        ).rows()
        assert entries == [("ACCRUAL", on(20), on(5)), ("ACCRUAL", on(20), on(6))]

    def test_a_correction_gives_the_place_to_the_next(self):
        lab = both_ways(
            program(**self.TERMS),
            events=[self.rent(1, 180_000, 5, "home"), self.rent(2, 90_000, 6, "cabin")],
        )  # fmt: skip
        corrected = event(1, 180_000, on(5), merchant_id="home", version_no=2, known_on=on(9))
        lab.deliver(events=[corrected]).accrue()
        assert points(lab) == {("e1", "base"): 1800, ("e2", "base"): 900}
        assert lab.broken() == []

    def test_a_period_that_earns_nothing_takes_no_place(self):
        gate = {"id": "two", "kind": "MIN_TXN_PER_STATEMENT", "n": 2}
        lab = both_ways(
            program(**self.TERMS, gates=[gate]),
            events=[self.rent(1, 180_000, 5, "home"), self.rent(2, 90_000, 11, "cabin"),
                    event(3, 1_000, on(12))],
            statements=[statement("a", on(-20), on(9))],
        )  # fmt: skip
        assert points(lab) == {("e2", "base"): 900, ("e3", "base"): 10}

    def test_several_places_and_longer_windows(self):
        limits = [{"id": "two", "match": {"mcc": [6513]}, "merchants": 2, "per": "CALENDAR_YEAR"}]
        rents = [self.rent(n, 10_000, 40 * n, at)
                 for n, at in enumerate(("home", None, "cabin", None, "home"))]  # fmt: skip
        lab = both_ways(program(eligibility={"limits": limits}), events=rents)
        assert points(lab) == {(f"e{n}", "base"): 100 for n in (0, 1, 3, 4)}


class TestPointsThatPostLater:
    """A point a dollar at once, and one more for dining 30 days later, half paid by the partner."""

    TERMS: ClassVar[dict[str, Any]] = {
        "earn": {
            "base": {"id": "base", "rate_milli": 1000},
            "bonus": [{"id": "promo", "match": {"mcc": [5812]}, "rate_milli": 1000,
                       "funding": {"partner_bps": 5000}, "available_after_days": 30}],
        }
    }  # fmt: skip

    def dinner(self, number: int, amount: int, day: int, **changes: Any) -> dict[str, Any]:
        return event(number, amount, on(day), mcc="5812", **changes)

    def held(self, lab: RewardsLab, day: int) -> tuple[int, int]:
        """Pending and available points at the end of a day."""
        [row] = balances_as_of(lab.con, recorded_at=end_of(on(day))).select(
            "pending", "available"
        ).rows()  # fmt: skip
        return row

    def test_they_are_owed_at_once_and_spent_from_their_day_on(self):
        lab = both_ways(
            program(**self.TERMS), events=[self.dinner(1, 10_000, 1), event(2, 100, on(60))],
            instructions=[instruction("r1", "a", "REDEEM", on(30), 150),
                          instruction("r2", "a", "REDEEM", on(31), 150)],
        )  # fmt: skip
        assert [self.held(lab, day) for day in (1, 30, 31, 60)] == [
            (100, 100), (100, 100), (0, 50), (0, 51)
        ]  # fmt: skip
        outcomes = "select reward_event_id, outcome, reason from rewards.reward_event_outcomes"
        assert sorted(lab.frame(outcomes).rows()) == [
            ("r1", "REJECTED", "NOT_ENOUGH_POINTS"), ("r2", "POSTED", None)
        ]  # fmt: skip
        lots = lab.frame("select lot_id, available_on from rewards.lots_issued order by 1").rows()
        assert lots == [
            ("lot:e1:1", None), ("lot:e1:1:5000:+30d", on(31)), ("lot:e2:1", None)
        ]  # fmt: skip

    def test_a_day_without_news_in_between_releases_them_too(self):
        lab = RewardsLab(program(**self.TERMS)).deliver(events=[self.dinner(1, 10_000, 1)])
        lab.accrue(on(30))
        assert self.held(lab, 40) == (100, 100)
        lab.accrue(on(33))
        [row] = lab.frame(
            "select recorded_at::date, effective_on, source_kind from rewards.journal "
            "where event_type = 'RELEASE'"
        ).rows()
        assert row == (on(31), on(31), "WAITING_TIME")
        assert self.held(lab, 33) == (0, 200) and lab.broken() == []

    def test_a_refund_takes_them_before_their_day(self):
        lab = both_ways(
            program(**self.TERMS), events=[self.dinner(1, 10_000, 1), refund(2, 1, 10_000, on(2)),
                                           event(3, 100, on(40))],
        )  # fmt: skip
        assert self.held(lab, 2) == (0, 0) and self.held(lab, 40) == (0, 1)

    def test_a_purchase_that_arrives_after_their_day_has_them_at_once(self):
        late = self.dinner(1, 10_000, 1, known_on=on(50))
        lab = both_ways(program(**self.TERMS), events=[event(2, 100, on(3)), late])
        assert self.held(lab, 50) == (0, 201)

    def test_the_partner_gets_them_when_they_have_come(self):
        lab = both_ways(
            program(**self.TERMS, settlement_model="PARTNER_POSTED"),
            events=[self.dinner(1, 10_000, 10), event(2, 100, on(70))],
        )  # fmt: skip
        moved = "select effective_on, amount from rewards.journal inner join rewards.postings "
        moved += "using (journal_id) where ledger_account = 'PARTNER_TRANSFER_CLEARING' order by 1"
        assert lab.frame(moved).rows() == [(date(2026, 1, 31), 100), (date(2026, 2, 28), 100)]

    def test_a_sign_up_bonus_can_wait_while_the_rest_is_released_by_statement(self):
        lab = both_ways(
            program(
                accrual={"settlement": "STATEMENT"},
                signup_bonus=[{**BONUS, "threshold_minor": 100, "available_after_days": 40}],
            ),
            accounts=[account("a", START)],
            events=[event(1, 10_000, on(1)), event(2, 0, on(50))],
            statements=[statement("a", on(-20), on(9))],
        )  # fmt: skip
        assert [self.held(lab, day) for day in (1, 10, 40, 41)] == [
            (600, 0), (500, 100), (500, 100), (0, 600)
        ]  # fmt: skip


class TestTiers:
    def test_the_accounts_tier_multiplies_from_when_it_holds(self):
        terms = program(tiers=[{"id": "gold", "multiplier_milli": 1250, "multipliers": [
            {"valid": [on(20), on(29)], "multiplier_milli": 2000}]}])  # fmt: skip
        gold = account("a", START, tier="gold", updated_at=datetime.combine(on(10), time()),
                       known_on=on(12))  # fmt: skip
        lab = both_ways(
            terms, accounts=[account("a", START), gold],
            events=[event(1, 10_000, on(9)), event(2, 10_000, on(11)), event(3, 10_000, on(25)),
                    event(4, 10_000, on(30)), refund(5, 2, 10_000, on(31))],
        )  # fmt: skip
        assert points(lab) == {
            ("e1", "base"): 100, ("e2", "base"): 125, ("e3", "base"): 200, ("e4", "base"): 125,
            ("e5", "base"): -125,
        }  # fmt: skip

    def test_a_years_spend_decides_on_the_next_years_tier(self):
        terms = program(tiers=[
            {"id": "gold", "metric": "NET_SPEND_12M", "at_least_minor": 100_000,
             "multiplier_milli": 1500, "review": "YEARLY"},
            {"id": "silver", "metric": "NET_SPEND_12M", "at_least_minor": 50_000,
             "multiplier_milli": 1100, "review": "YEARLY"},
        ])  # fmt: skip
        day = date(2026, 6, 1)
        events = [event(1, 120_000, day), refund(2, 1, 30_000, date(2026, 7, 1)),
                  event(3, 1_000, date(2026, 12, 31)), event(4, 10_000, date(2027, 1, 1)),
                  event(5, 10_000, date(2028, 1, 1))]  # fmt: skip
        found = points(both_ways(terms, events=events))
        assert [found[f"e{n}", "base"] for n in (1, 3, 4, 5)] == [1200, 10, 110, 100]

    def test_a_reversed_refund_is_spent_again(self):
        terms = program(tiers=[{"id": "gold", "metric": "NET_SPEND_12M", "at_least_minor": 100_000,
                                "multiplier_milli": 1500, "review": "YEARLY"}])  # fmt: skip
        back = event(3, 50_000, date(2026, 7, 2), event_type="RETURN_REVERSAL",
                     transaction_class="REFUND", transaction_id="t2",
                     refunds_transaction_id="t1")  # fmt: skip
        events = [event(1, 120_000, date(2026, 6, 1)), refund(2, 1, 50_000, date(2026, 7, 1)),
                  event(4, 10_000, date(2027, 1, 1))]  # fmt: skip
        assert points(both_ways(terms, events=events))["e4", "base"] == 100
        assert points(both_ways(terms, events=[*events, back]))["e4", "base"] == 150

    def test_only_the_base_where_the_terms_say_so(self):
        bonus = {"id": "dining", "match": {"mcc_category": "dining"}, "rate_milli": 2000}
        for applies_to, expected in (("ALL", 600), ("BASE", 400)):
            terms = program(
                earn={"base": {"id": "base", "rate_milli": 1000}, "bonus": [bonus]},
                tiers=[{"id": "gold", "multiplier_milli": 2000, "applies_to": applies_to}],
            )
            lab = both_ways(
                terms, accounts=[account("a", START, tier="gold")],
                events=[event(1, 10_000, on(1), mcc="5812")],
            )  # fmt: skip
            assert lab.balances() == {"a": expected}


class TestStanding:
    def test_a_suspended_account_earns_nothing_until_it_is_open_again(self):
        def state(day: int, **changes: Any) -> dict[str, Any]:
            return account("a", START, updated_at=datetime.combine(on(day), time()),
                           known_on=on(day + 4), **changes)  # fmt: skip

        lab = both_ways(
            program(eligibility={"account": "good_standing_v3"}),
            accounts=[account("a", START), state(10, status="SUSPENDED"), state(20),
                      state(30, substatus="DELINQUENT")],
            events=[event(n, 10_000, on(n)) for n in (9, 11, 21, 31)],
        )  # fmt: skip
        names = {"e11", "e31"}
        assert reasons(lab) == dict.fromkeys(names, "ACCOUNT_NOT_IN_GOOD_STANDING")
        assert lab.balances() == {"a": 200}

    def test_it_earns_again_with_the_next_statement_period_where_the_terms_say_so(self):
        def state(day: int, **changes: Any) -> dict[str, Any]:
            return account("a", START, updated_at=datetime.combine(on(day), time()), cycle_day=24,
                           known_on=on(day), **changes)  # fmt: skip

        standing = {"id": "aarp", "resume": "NEXT_CYCLE"}
        lab = both_ways(
            program(eligibility={"account": standing},
                    tiers=[{"id": "gold", "multiplier_milli": 2000}]),
            accounts=[state(0), state(3, substatus="DELINQUENT"), state(10),
                      state(12, tier="gold"), state(30, status="SUSPENDED", tier="gold")],
            events=[event(n, 10_000, on(n)) for n in (2, 4, 11, 13, 23, 24, 31)],
        )  # fmt: skip
        # Cured on 11 January: the period ends on the 24th, so the 25th earns, in the new tier.
        assert points(lab) == {("e2", "base"): 100, ("e24", "base"): 200}
        names = ("e4", "e11", "e13", "e23", "e31")
        assert reasons(lab) == dict.fromkeys(names, "ACCOUNT_NOT_IN_GOOD_STANDING")


class TestActivation:
    def offer(self, name: str, mcc: int, **terms: Any) -> dict[str, Any]:
        return {"id": name, "match": {"mcc": [mcc]}, "rate_milli": 4000,
                "activation": "required", **terms}  # fmt: skip

    def activated(self, number: str, day: int, offer: str) -> dict[str, Any]:
        return instruction(number, "a", "ACTIVATE", on(day), offer_id=offer)

    def earning(self, *bonus: dict[str, Any]) -> Program:
        return program(earn={"base": {"id": "base", "rate_milli": 1000}, "bonus": list(bonus)})

    def test_from_its_day_on_or_for_the_whole_quarter(self):
        quarter = [START, date(2026, 3, 31)]
        for how, expected in (("required", {"e2": 400}), ("retroactive", {"e1": 400, "e2": 400})):
            lab = both_ways(
                self.earning(self.offer("q1", 5999, valid=quarter, activation=how)),
                events=[event(1, 10_000, on(1)), event(2, 10_000, on(50)),
                        event(3, 10_000, on(90))],
                instructions=[self.activated("i", 40, "q1")],
            )  # fmt: skip
            bonus = {name: each for (name, rule), each in points(lab).items() if rule == "q1"}
            assert bonus == expected

    def test_after_its_last_day_it_comes_too_late(self):
        valid = [START, on(30)]
        lab = both_ways(
            self.earning(self.offer("q1", 5999, valid=valid, activation="retroactive")),
            events=[event(1, 10_000, on(1))], instructions=[self.activated("i", 31, "q1")],
        )  # fmt: skip
        assert lab.balances() == {"a": 100}

    def test_of_a_choice_the_last_one_counts(self):
        lab = both_ways(
            self.earning(self.offer("dining", 5812, choice="mine"),
                         self.offer("gas", 5541, choice="mine")),
            events=[event(n, 10_000, on(n), mcc=mcc)
                    for n, mcc in ((1, "5812"), (2, "5541"), (11, "5812"), (12, "5541"))],
            instructions=[
                self.activated("i1", 0, "gas"), self.activated("i2", 0, "dining") | {
                    "event_at": datetime.combine(on(0), time(13))},
                self.activated("i3", 10, "gas"),
            ],
        )  # fmt: skip
        bonus = {name for (name, rule), _ in points(lab).items() if rule != "base"}
        assert bonus == {"e1", "e12"}


class TestClosure:
    def closed(self, **changes: Any) -> list[dict[str, Any]]:
        record = account("a", START, status="CLOSED", closed_on=on(10), known_on=on(12),
                         updated_at=datetime.combine(on(10), time()))  # fmt: skip
        return [account("a", START), {**record, **changes}]

    def test_it_begins_at_midnight_where_the_program_is(self):
        terms = program(
            timezone="America/New_York",
            eligibility={"account": {"id": "standing", "status": ["OPEN"]}},
            closure={"on": ["*"], "grace_days": 5},
        )  # fmt: skip
        before = datetime.combine(on(10), time(4, 59))
        events = [event(1, 10_000, on(9), event_at=before),
                  event(2, 10_000, on(10), event_at=before + timedelta(minutes=2)),
                  event(3, 100, on(40), account_id="b")]  # fmt: skip
        updated_at = datetime.combine(on(10), time(12))
        lab = both_ways(terms, events=events, accounts=self.closed(updated_at=updated_at))
        assert points(lab) == {("e1", "base"): 100, ("e3", "base"): 1}
        # Of a closing without a day, that of its record.
        updated_at = datetime.combine(on(11), time(2))
        told = self.closed(updated_at=updated_at, closed_on=None, close_reason="MEMBER")
        undated = both_ways(terms, events=events, accounts=told)
        days = "select effective_on from rewards.journal where event_type = 'FORFEITURE'"
        assert undated.frame(days).rows() == [(on(15),)]

    def test_open_points_are_forfeited_for_the_named_reasons(self):
        terms = program(closure={"on": ["BANK_REQUEST", "CHARGED_OFF_*"], "grace_days": 5})
        events = [event(1, 10_000, on(1)), event(2, 100, on(40), account_id="b")]
        lab = both_ways(
            terms, events=events, accounts=self.closed(substatus="CHARGED_OFF_DELINQUENT")
        )
        assert lab.balances() == {"b": 1}
        [entry] = lab.frame(
            "select event_type, effective_on, recorded_at::date as known_on from rewards.journal "
            "where event_type = 'FORFEITURE'"
        ).rows()
        assert entry == ("FORFEITURE", on(15), on(15))
        kept = both_ways(terms, events=events, accounts=self.closed(close_reason="MEMBER"))
        assert kept.balances() == {"a": 100, "b": 1}

    def test_or_credited(self):
        terms = program(closure={"on": "*", "action": "CREDIT"})
        lab = both_ways(terms, events=[event(1, 10_000, on(1))], accounts=self.closed())
        assert lab.balances() == {}
        held = lab.frame("select sum(amount) from rewards.postings where ledger_account='REDEEMED'")
        assert held.item() == 100

    def test_nothing_is_spent_from_the_closing_on_where_the_terms_say_so(self):
        asked = [instruction("r1", "a", "REDEEM", on(9), 10), instruction("r2", "a", "REDEEM",
                 on(13), 20), instruction("r3", "a", "TRANSFER", on(14), 30)]  # fmt: skip
        for blocks, expected in ((True, {"a": 90}), (False, {"a": 40})):
            lab = both_ways(
                program(closure={"grace_days": 60, "blocks_redemption": blocks}),
                events=[event(1, 10_000, on(1))], accounts=self.closed(), instructions=asked,
            )  # fmt: skip
            assert lab.balances() == expected
            refused = lab.frame(
                "select reward_event_id, reason from rewards.reward_event_outcomes "
                "where outcome = 'REJECTED' order by 1"
            ).rows()
            late = [("r2", "ACCOUNT_CLOSED"), ("r3", "ACCOUNT_CLOSED")]
            assert refused == (late if blocks else [])

    def changed(self, record, day, **told):
        at = datetime.combine(on(day), time())
        return {**record, "updated_at": at, "known_on": on(day), **told}

    def reopened(self, day):
        told = {"status": "OPEN", "closed_on": None, "close_reason": None}
        return [*self.closed(), self.changed(self.closed()[-1], day, **told)]

    def test_an_account_that_opens_again_in_time_keeps_its_points_and_may_spend(self):
        events = [event(1, 10_000, on(1)), event(2, 100, on(40), account_id="b")]
        asked = [instruction("r1", "a", "REDEEM", on(12), 10),
                 instruction("r2", "a", "REDEEM", on(20), 20)]  # fmt: skip
        terms = program(closure={"on": "*", "grace_days": 5, "blocks_redemption": True})
        for day, kept in ((13, 80), (17, 0)):
            lab = both_ways(terms, events=events, accounts=self.reopened(day), instructions=asked)
            assert lab.balances() == {"a": kept, "b": 1} if kept else {"b": 1}
        # Closed a second time it loses what it has.
        again = [*self.reopened(13), self.changed(self.closed()[-1], 30, closed_on=on(30))]
        lab = both_ways(terms, events=events, accounts=again, instructions=asked)
        assert lab.balances() == {"b": 1}

    def test_a_reason_that_comes_later_counts(self):
        terms = program(closure={"on": ["CHARGED_OFF_*"], "grace_days": 0})
        records = self.closed(close_reason="MEMBER")
        records.append(self.changed(records[-1], 30, substatus="CHARGED_OFF_DELINQUENT"))
        lab = both_ways(terms, events=[event(1, 10_000, on(1))], accounts=records)
        assert lab.balances() == {}

    def test_a_debt_is_written_off_days_after_the_closing(self):
        events = [event(1, 10_000, on(1)), refund(2, 1, 10_000, on(5)),
                  event(3, 100, on(40), account_id="b")]  # fmt: skip
        lab = both_ways(
            program(closure={"write_off_days": 7}), events=events, accounts=self.closed(),
            instructions=[instruction("r", "a", "REDEEM", on(2), 70)],
        )  # fmt: skip
        assert lab.balances() == {"b": 1}
        [entry] = lab.frame(
            "select effective_on, recorded_at::date, amount from rewards.journal inner join "
            "rewards.postings using (journal_id) where ledger_account = 'WRITTEN_OFF'"
        ).rows()
        # The refund took the 30 points that were left; seven days after the closing the rest goes.
        assert entry == (on(17), on(17), 70)


class TestGoodwill:
    def test_points_of_an_account_without_purchases_are_released_by_its_statement(self):
        lab = both_ways(
            program(accrual={"settlement": "STATEMENT"}),
            instructions=[instruction("g", "a", "ADJUST", on(5), 250)],
            statements=[statement("a", START, on(30))],
        )  # fmt: skip
        [held] = lab.frame("select pending, available from rewards.balances").rows()
        assert held == (0, 250)


class TestOneDelivery:
    """A history that comes in one delivery ends as it does when it comes day by day."""

    def ends(self, terms: Program, **feeds: list[dict[str, Any]]) -> tuple[int, int, set[str]]:
        """Available points and deficit, and what was refused; the same of both ways."""
        last = max(row["known_on"] for rows in feeds.values() for row in rows)
        together = {
            name: [{**row, "known_on": last} for row in rows] for name, rows in feeds.items()
        }
        found = []
        for lab in (both_ways(terms, **feeds), both_ways(terms, **together)):
            [held] = lab.frame("select available, deficit from rewards.balances").rows()
            refused = lab.frame("select left_ref from finance.exceptions "
                                "where type = 'INSTRUCTION_REFUSED'")  # fmt: skip
            lots = lab.frame("select lot_id, points_open from rewards.lots order by all").rows()
            found.append(((*held, set(refused["left_ref"])), lots))
        assert found[0] == found[1]
        return found[0][0]

    def test_a_redemption_comes_before_the_refund_of_a_later_day(self):
        bought = [event(1, 10_000, on(1)), event(2, 5_000, on(2)), event(3, 7_500, on(3))]
        asked = [instruction("r", "a", "REDEEM", on(4), 180)]
        assert self.ends(
            program(), events=[*bought, refund(4, 1, 6_000, on(5))], instructions=asked
        ) == (0, 15, set())

    def test_a_redemption_does_not_spend_what_is_earned_later(self):
        history = [event(1, 10_000, on(1)), refund(2, 1, 6_000, on(3)), event(3, 10_000, on(5))]
        asked = [instruction("r1", "a", "REDEEM", on(2), 100),
                 instruction("r2", "a", "REDEEM", on(4), 1)]  # fmt: skip
        available, deficit, refused = self.ends(program(), events=history, instructions=asked)
        assert (available, deficit, len(refused)) == (40, 0, 1)

    def test_a_redemption_does_not_spend_what_has_expired(self):
        terms = program(expiry={"kind": "LOT", "months": 1})
        asked = [instruction("r", "a", "REDEEM", on(40), 150)]
        available, _, refused = self.ends(
            terms, events=[event(1, 10_000, on(1)), event(2, 10_000, on(39))], instructions=asked
        )
        assert (available, len(refused)) == (100, 1)

    def test_a_closure_takes_what_was_earned_before_it(self):
        terms = program(closure={"on": ["BANK_REQUEST"], "action": "FORFEIT"})
        closed = account("a", on(0), status="CLOSED", closed_on=on(10), known_on=on(10),
                         close_reason="BANK_REQUEST",
                         updated_at=datetime.combine(on(10), time()))  # fmt: skip
        assert self.ends(
            terms, events=[event(1, 10_000, on(1)), event(2, 5_000, on(12))],
            accounts=[account("a", on(0)), closed],
        ) == (50, 0, set())  # fmt: skip


class TestReservation:
    terms = program(redemption={"settle_after_days": 3}, expiry={"kind": "LOT", "months": 1})

    def held(self, lab: RewardsLab, day: int) -> tuple[int, int]:
        """Available and reserved points of account `a` as they were known at the end of a day."""
        [row] = balances_as_of(lab.con, recorded_at=end_of(on(day)), account_id="a").select(
            "available", "reserved"
        ).rows()  # fmt: skip
        return row

    def test_points_are_reserved_and_then_redeemed(self):
        lab = both_ways(
            self.terms, events=[event(1, 10_000, on(1)), event(2, 100, on(20), account_id="b")],
            instructions=[instruction("r", "a", "REDEEM", on(5), 40)],
        )  # fmt: skip
        assert [self.held(lab, day) for day in (4, 5, 7, 8)] == [
            (100, 0), (60, 40), (60, 40), (60, 0),
        ]  # fmt: skip
        redeemed = lab.frame("select effective_on, amount from rewards.journal inner join "
                             "rewards.postings using (journal_id) "
                             "where ledger_account = 'REDEEMED'")  # fmt: skip
        assert redeemed.rows() == [(on(8), 40)]

    def test_a_cancellation_gives_them_back_before_and_after(self):
        for day in (8, 9):
            lab = both_ways(
                self.terms, events=[event(1, 10_000, on(1))],
                instructions=[instruction("r", "a", "REDEEM", on(5), 40, reference="order"),
                              instruction("c", "a", "REDEEM_CANCEL", on(day), reference="order")],
            )  # fmt: skip
            assert self.held(lab, day) == (100, 0)
            assert lab.frame("select points_open from rewards.lots")["points_open"].to_list() == [
                100
            ]

    def test_an_order_that_is_redeemed_again_may_be_cancelled_again(self):
        def asked(name, kind, day, points=None):
            return instruction(name, "a", kind, on(day), points, reference="order")

        orders = [asked("r1", "REDEEM", 5, 40), asked("c1", "REDEEM_CANCEL", 6),
                  asked("r2", "REDEEM", 7, 30), asked("c2", "REDEEM_CANCEL", 8)]  # fmt: skip
        for count, left in enumerate((60, 100, 70, 100), start=1):
            lab = both_ways(program(), events=[event(1, 10_000, on(1))],
                            instructions=orders[:count])  # fmt: skip
            assert lab.balances() == {"a": left}


class TestStatementSettlement:
    def test_points_wait_for_their_statement(self):
        terms = program(accrual={"settlement": "STATEMENT"})
        events = [event(1, 10_000, on(3)), event(2, 5_000, on(31)), refund(3, 2, 1_000, on(32))]
        asked = [instruction("r1", "a", "REDEEM", on(5), 50), instruction("r2", "a", "REDEEM",
                 on(33), 60)]  # fmt: skip
        lab = both_ways(
            terms, events=events, instructions=asked, statements=[statement("a", START, on(30))]
        )
        outcomes = lab.frame(
            "select reward_event_id, outcome, reason from rewards.reward_event_outcomes"
        ).rows()
        assert set(outcomes) == {("r1", "REJECTED", "NOT_ENOUGH_POINTS"), ("r2", "POSTED", None)}
        [balance] = lab.frame("select pending, available, deficit from rewards.balances").rows()
        assert balance == (40, 40, 0)


class TestRecoveries:
    def test_a_chargeback_and_a_fraud_take_a_purchase_out_once(self):
        won = refund(2, 1, 6_000, on(20), event_type="CHARGEBACK")
        fraud = refund(3, 1, 10_000, on(21), event_type="FRAUD_CONFIRMED")
        back = event(4, 10_000, on(30), event_type="RETURN_REVERSAL", transaction_class="REFUND",
                     transaction_id="t3", refunds_transaction_id="t1")  # fmt: skip
        lab = both_ways(program(), events=[event(1, 10_000, on(1)), won, fraud])
        assert points(lab) == {("e1", "base"): 100, ("e2", "base"): -60, ("e3", "base"): -40}
        assert lab.frame("select * from finance.exceptions where state = 'OPEN'").is_empty()
        undone = both_ways(program(), events=[event(1, 10_000, on(1)), won, fraud, back])
        assert undone.balances() == {"a": 40}


class TestRerating:
    def test_a_refund_frees_the_cap_for_later_purchases(self):
        bonus = {"id": "five", "match": {"mcc": [5812]}, "rate_milli": 4000,
                 "cap": {"unit": "SPEND_MINOR", "amount": 150_000,
                         "window": "CALENDAR_QUARTER"}}  # fmt: skip
        earn = {"base": {"id": "base", "rate_milli": 1000}, "bonus": [bonus]}
        events = [event(1, 100_000, on(1), mcc="5812"), event(2, 100_000, on(2), mcc="5812"),
                  refund(3, 1, 60_000, on(3), mcc="5812")]  # fmt: skip
        kept = both_ways(program(earn=earn), events=events)
        assert kept.balances() == {"a": 2000 + 6000 - 600 - 2400}
        rerated = both_ways(program(earn=earn, returns={"cap_refill": "RERATE"}), events=events)
        assert rerated.balances() == {"a": 2000 + 6000 - 600 - 2400 + 2000}
        used = rerated.frame("select sum(used) from rewards.cap_usage").item()
        assert used == 140_000

    def test_a_reversed_refund_takes_it_back_from_later_ones(self):
        bonus = {"id": "five", "match": {"mcc": [5812]}, "rate_milli": 4000,
                 "cap": {"unit": "SPEND_MINOR", "amount": 10_000,
                         "window": "CALENDAR_QUARTER"}}  # fmt: skip
        terms = program(
            earn={"base": {"id": "base", "rate_milli": 1000}, "bonus": [bonus]},
            returns={"cap_refill": "RERATE"},
        )
        back = event(4, 10_000, on(4), event_type="RETURN_REVERSAL", transaction_class="REFUND",
                     transaction_id="t3", refunds_transaction_id="t1")  # fmt: skip
        events = [event(1, 10_000, on(1), mcc="5812"), event(2, 10_000, on(2), mcc="5812"),
                  refund(3, 1, 10_000, on(3), mcc="5812"), back]  # fmt: skip
        assert both_ways(terms, events=events[:3]).balances() == {"a": 100 + 400}
        assert both_ways(terms, events=events).balances() == {"a": 200 + 400}


class TestRoundingByStatement:
    TERMS: dict[str, Any] = {"rounding": {"scope": "STATEMENT", "mode": "HALF_UP"}}  # noqa: RUF012

    def test_cents_of_a_period_add_up_before_they_are_rounded(self):
        # 3 x $0.40: 0.4, 0.8 and 1.2 points; then $0.40 in the next period, which starts anew.
        lab = both_ways(
            program(**self.TERMS), accounts=[account("a", START, cycle_day=10)],
            events=[event(n, 40, on(day)) for n, day in ((1, 1), (2, 5), (3, 9), (4, 10))],
        )  # fmt: skip
        assert points(lab) == {("e2", "base"): 1}
        assert lab.balances() == {"a": 1}

    def test_a_refund_counts_for_the_period_of_its_purchase(self):
        lab = both_ways(
            program(**self.TERMS), accounts=[account("a", START, cycle_day=10)],
            events=[event(1, 160, on(1)), event(2, 90, on(2)), event(3, 40, on(20)),
                    refund(4, 1, 160, on(21))],
        )  # fmt: skip
        # 1.6 -> 2; 2.5 -> 3; 0.4 -> 0; without the first, 0.9 -> 1.
        assert points(lab) == {("e1", "base"): 2, ("e2", "base"): 1, ("e4", "base"): -2}

    def test_without_a_cycle_day_it_is_the_calendar_month(self):
        lab = both_ways(program(**self.TERMS), events=[event(1, 40, on(29)), event(2, 40, on(30)),
                                                       event(3, 40, on(31))])  # fmt: skip
        assert points(lab) == {("e2", "base"): 1}


class TestPayments:
    def paid(self, number: int, amount: int, day: int, **changes: Any) -> dict[str, Any]:
        return {"payment_id": f"p{number}", "account_id": "a", "amount_minor": amount,
                "currency": "USD", "settled_at": datetime.combine(on(day), time(3)),
                "known_on": on(day), **changes}  # fmt: skip

    def test_settled_payments_earn_and_purchases_do_not(self):
        lab = both_ways(
            program(accrual={"strategy": "PAYMENT"}), accounts=[account("a", START)],
            events=[event(1, 10_000, on(1)), refund(2, 1, 4_000, on(2))],
            payments=[self.paid(1, 6_000, 10), self.paid(2, 500, 11, settled_at=None)],
        )  # fmt: skip
        assert points(lab) == {("payment:p1:SETTLED", "base"): 60}
        assert reasons(lab)["e1"] == "EXCLUDED_CLASS"
        assert lab.balances() == {"a": 60}

    def test_a_returned_payment_takes_its_points_back(self):
        lab = RewardsLab(program(accrual={"strategy": "PAYMENT"}))
        lab.deliver(accounts=[account("a", START)], payments=[self.paid(1, 6_000, 10)]).accrue()
        assert lab.balances() == {"a": 60}
        back = self.paid(1, 6_000, 10, returned_at=datetime.combine(on(13), time(3)),
                         known_on=on(14))  # fmt: skip
        lab.deliver(payments=[back]).accrue()
        assert points(lab)["payment:p1:RETURNED", "base"] == -60
        assert lab.balances() == {} and lab.broken() == []

    def test_a_payment_is_of_the_day_where_the_program_is(self):
        settled_at = datetime.combine(on(9), time(15, 30))
        lab = both_ways(
            program(accrual={"strategy": "PAYMENT"}, timezone="Asia/Tokyo"),
            accounts=[account("a", START)],
            payments=[self.paid(1, 6_000, 10, settled_at=settled_at)],
        )  # fmt: skip
        [told] = lab.frame("select basis_on, effective_on from rewards.decisions").rows()
        assert told == (on(10), on(10))

    def test_other_programs_do_not_see_payments(self):
        lab = both_ways(
            program(), accounts=[account("a", START)], events=[event(1, 10_000, on(1))],
            payments=[self.paid(1, 6_000, 10)],
        )  # fmt: skip
        assert points(lab) == {("e1", "base"): 100}


class TestInactivity:
    def test_points_lapse_so_many_months_after_the_last_event(self):
        terms = program(expiry={"kind": "INACTIVITY", "months": 2})
        events = [event(1, 10_000, on(0)), event(2, 0, on(30)), event(3, 5_000, date(2026, 5, 1)),
                  event(4, 100, date(2026, 6, 30))]  # fmt: skip
        lab = both_ways(terms, events=events)
        rows = lab.frame(
            "select source_kind, effective_on, amount from rewards.journal inner join "
            "rewards.postings using (journal_id) where ledger_account = 'EXPIRED'"
        ).rows()
        # 31 January and two months is 31 March; the purchase of 1 May kept its points alive.
        assert rows == [("INACTIVITY", date(2026, 3, 31), 100)]
        assert lab.balances() == {"a": 51}

    def test_an_instruction_is_activity_too(self):
        terms = program(expiry={"kind": "INACTIVITY", "months": 2})
        redeemed = instruction("r", "a", "REDEEM", on(40), 30)
        lab = both_ways(
            terms, instructions=[redeemed],
            events=[event(1, 10_000, on(0)), event(2, 100, on(95), account_id="b")],
        )  # fmt: skip
        assert lab.balances() == {"a": 70, "b": 1}

    def test_they_are_credited_where_the_terms_say_so(self):
        terms = program(expiry={"kind": "INACTIVITY", "months": 18, "action": "CREDIT"})
        lab = both_ways(
            terms, events=[event(1, 10_000, on(0)), event(2, 100, on(900), account_id="b")]
        )
        held = lab.frame("select sum(amount) from rewards.postings where ledger_account='REDEEMED'")
        assert held.item() == 100
        assert lab.balances() == {"b": 1}


class TestReturnPolicies:
    def asked(self, policy: str, *events: dict[str, Any]) -> RewardsLab:
        spent = instruction("r", "a", "REDEEM", on(2), 150)
        return both_ways(
            program(returns={"policy": policy}), instructions=[spent],
            events=[event(1, 20_000, on(1)), refund(2, 1, 20_000, on(4)), *events],
        )  # fmt: skip

    def test_unlimited_leaves_a_deficit(self):
        assert self.asked("unlimited").balances() == {"a": -150}

    def test_within_balance_takes_what_is_there(self):
        lab = self.asked("within_balance")
        assert lab.balances() == {}
        assert points(lab)["e2", "base"] == -200
        borne = lab.frame("select direction, amount from rewards.postings where ledger_account = "
                          "'ADJUSTMENT'")  # fmt: skip
        assert borne.rows() == [("DEBIT", 150)]

    def test_what_was_not_taken_is_not_given_back(self):
        back = event(3, 20_000, on(6), event_type="RETURN_REVERSAL", transaction_class="REFUND",
                     transaction_id="t2", refunds_transaction_id="t1")  # fmt: skip
        assert self.asked("within_balance", back).balances() == {"a": 50}

    def test_a_corrected_refund_starts_from_what_was_taken(self):
        fixed = refund(2, 1, 10_000, on(4), version_no=2, known_on=on(8))
        lab = RewardsLab(program(returns={"policy": "WITHIN_BALANCE"}))
        lab.deliver([event(1, 20_000, on(1)), refund(2, 1, 20_000, on(4))],
                    [instruction("r", "a", "REDEEM", on(2), 150)]).accrue()  # fmt: skip
        assert lab.balances() == {}
        lab.deliver([fixed]).accrue()
        assert lab.balances() == {} and lab.broken() == []

    def test_only_pending_leaves_what_may_be_spent(self):
        terms = program(returns={"policy": "only_pending"}, accrual={"settlement": "STATEMENT"})
        lab = both_ways(
            terms, statements=[statement("a", START, on(30))],
            events=[event(1, 20_000, on(1)), event(2, 3_000, on(35)), refund(3, 1, 20_000, on(36))],
        )  # fmt: skip
        [balance] = lab.frame("select pending, available, deficit from rewards.balances").rows()
        assert balance == (0, 200, 0)


class TestMoved:
    def test_a_refund_that_is_linked_anew_is_worked_again(self):
        dear = {"id": "dear", "match": {"mcc": [5812]}, "rate_milli": 4000}
        lab = RewardsLab(
            program(earn={"base": {"id": "base", "rate_milli": 1000}, "bonus": [dear]})
        )
        lab.deliver(
            [event(1, 10_000, on(0)), event(2, 10_000, on(1), mcc="5812"),
             refund(3, 1, 10_000, on(2))]
        ).accrue()  # fmt: skip
        assert lab.balances() == {"a": 500}
        lab.con.execute(
            "update marts.fct_earning_events set refunds_transaction_id = 't2' "
            "where event_id = 'e3'"
        )
        lab.deliver([event(4, 100, on(6))]).accrue()
        assert lab.balances() == {"a": 101} and lab.broken() == []
        assert lab.deliver([event(5, 100, on(7))]).accrue().superseded == 0

    def test_a_refund_finds_the_purchase_that_comes_after_it(self):
        earn = {"base": {"id": "base", "rate_milli": 1000}}
        lab = RewardsLab(program(earn=earn, returns={"unmatched_rate": "NONE"}))
        lab.deliver([refund(2, 0, 10_000, on(2), refunds_transaction_id=None)]).accrue()
        lab.con.execute("update marts.fct_earning_events set refunds_transaction_id = 't1'")
        lab.deliver([event(1, 10_000, on(1), known_on=on(3))]).accrue()
        assert lab.balances() == {} and lab.broken() == []

    def test_an_account_attributed_to_another_program_takes_its_points_along(self):
        lab = RewardsLab(program())
        document = {"program": "other", "version": 1, "valid_from": date(2020, 1, 1),
                    "earn": {"base": {"id": "base", "rate_milli": 2000}}}  # fmt: skip
        lab.programs["other"] = Program("other", (parse_terms(document),))
        lab.deliver([event(1, 10_000, on(0))], accounts=[account("a", START)]).accrue()
        for to, held in (("other", 200), ("lab", 100)):
            lab.con.execute("update marts.fct_earning_events set program_id = ?", [to])
            moved = account("a", START, program_id=to, known_on=on(5),
                            updated_at=datetime.combine(START, time(lab.load_no)))  # fmt: skip
            lab.deliver(accounts=[moved]).accrue()
            balances = "select program_id, available from rewards.balances where available <> 0"
            assert lab.frame(balances).rows() == [(to, held)] and lab.broken() == []
