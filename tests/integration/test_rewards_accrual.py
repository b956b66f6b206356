"""The accrual in a real warehouse: programs held by the issuer and posted to the partner."""

from datetime import date, timedelta

import pytest

from pipelines.errors import CardlineError
from pipelines.rewards.balances import balances_as_of
from pipelines.rewards.tables import publish_programs
from pipelines.rewards.verification import verify_ledger
from pipelines.warehouse import connect, transaction
from tests.property.rewards_histories import START, event, program
from tests.rewards_lab import RewardsLab, end_of, instruction

PLAIN = {"earn": {"base": {"id": "base", "rate_milli": 1000}}, "expiry": {"kind": "NONE"}}
DAY = timedelta(days=1)


def buy(number: int, amount: int, day: int, **changes: object) -> dict:
    return event(number, "a1", amount, day, **changes)


@pytest.fixture
def lab():
    return RewardsLab(program(**PLAIN))


def journal(lab: RewardsLab) -> list[tuple]:
    return lab.frame(
        "select event_type, effective_on, journal_id from rewards.journal order by seq"
    ).rows()


def test_a_balance_beyond_64_bits_is_refused_and_not_wrapped():
    lab = RewardsLab(program(earn={"base": {"id": "base", "rate_milli": 100_000}}))
    lab.deliver([buy(n, 2**59, n) for n in range(20)])
    with pytest.raises((OverflowError, TypeError)):
        lab.accrue()
    assert lab.balances() == {}


def test_tampering_is_found_with_its_day(home):
    with connect() as con:
        lab = RewardsLab(program(**PLAIN), con=con)
        lab.deliver([buy(n, 1000, n) for n in range(4)]).accrue()
        assert [r for r in verify_ledger(con) if not r.ok] == []
        con.execute("update rewards.postings set amount = amount + 1 where journal_id like '%e2:1'")
        found = {r.name: r for r in verify_ledger(con)}
        assert found["ledger sums"].ok
        for name in ("ledger hash chain", "ledger seals"):
            assert not found[name].ok and str(START + 2 * DAY) in found[name].detail
        assert not found["lots and balances"].ok


def test_a_changed_seal_and_a_missing_entry_are_found(lab):
    lab.deliver([buy(n, 1000, n) for n in range(3)]).accrue()
    lab.con.execute("begin")
    lab.con.execute("update rewards.seals set n_journals = 2 where seal_no = 2")
    assert any(str(START + DAY) in each for each in lab.broken())
    lab.con.execute("rollback")
    assert lab.broken() == []
    lab.con.execute("delete from rewards.journal where seq = 2")
    assert any("hash chain" in each for each in lab.broken())


def test_redemption_cancellation_and_expiry_by_lots():
    lab = RewardsLab(program(earn=PLAIN["earn"], expiry={"kind": "LOT", "months": 1}))
    lab.deliver(
        [buy(1, 10_000, 0), buy(2, 5000, 10)],
        [
            instruction("r1", "a1", "REDEEM", START + 12 * DAY, 120, reference="order-7"),
            instruction("r2", "a1", "REDEEM_CANCEL", START + 35 * DAY, reference="order-7"),
            instruction("r3", "a1", "REDEEM", START + 36 * DAY, 1000),
        ],
    ).accrue(START + 36 * DAY)
    # The first lot lapsed while it was spent: its points come back for another thirty days.
    assert lab.balances() == {"a1": 150}
    lots = lab.frame(
        "select points_open, expires_on from rewards.lots where points_open > 0 order by 2"
    )
    assert lots.rows() == [(50, date(2024, 5, 4)), (100, START + 65 * DAY)]
    assert lab.frame("select reward_event_id, outcome, reason from rewards.reward_event_outcomes "
                     "order by 1").rows() == [
        ("r1", "POSTED", None), ("r2", "POSTED", None), ("r3", "REJECTED", "NOT_ENOUGH_POINTS"),
    ]  # fmt: skip
    lab.accrue(START + 70 * DAY)
    assert lab.balances() == {} and lab.broken() == []
    assert [kind for kind, _, _ in journal(lab)].count("EXPIRY") == 2


def test_miles_go_to_the_partner_at_month_end():
    lab = RewardsLab(program(**PLAIN, settlement_model="PARTNER_POSTED"))
    lab.deliver([buy(1, 10_000, 0), buy(2, 3000, 8)]).accrue(date(2024, 4, 30))
    assert [row[:2] for row in journal(lab)] == [
        ("ACCRUAL", START), ("TRANSFER", date(2024, 3, 31)), ("ACCRUAL", START + 8 * DAY),
        ("TRANSFER", date(2024, 4, 30)),
    ]  # fmt: skip
    assert lab.balances() == {} and lab.broken() == []


def test_refund_after_the_points_are_spent_leaves_a_deficit(lab):
    refund = buy(2, 10_000, 5, event_type="RETURN", direction="CREDIT",
                 transaction_class="REFUND", refunds_transaction_id="t1")  # fmt: skip
    lab.deliver([buy(1, 10_000, 0)], [instruction("r1", "a1", "REDEEM", START + DAY, 60)]).accrue()
    lab.deliver([refund], [instruction("r2", "a1", "REDEEM", START + 6 * DAY, 1)]).accrue()
    deficit = "select available, deficit from rewards.balances"
    assert lab.frame(deficit).rows() == [(0, 60)]
    lab.deliver([buy(3, 10_000, 7)]).accrue()
    assert lab.frame(deficit).rows() == [(40, 0)] and lab.broken() == []
    refused = lab.frame("select type, left_ref, state from finance.exceptions")
    assert refused.rows() == [("INSTRUCTION_REFUSED", "r2", "OPEN")]


def test_the_same_instruction_with_other_content_is_a_conflict(lab):
    lab.deliver([buy(1, 10_000, 0)], [instruction("r1", "a1", "REDEEM", START, 60)]).accrue()
    before = journal(lab)
    lab.deliver([], [instruction("r1", "a1", "REDEEM", START, 10, known_on=START + DAY)]).accrue()
    assert journal(lab) == before
    assert lab.frame("select type, left_ref from finance.exceptions").rows() == [("CONFLICT", "r1")]


def test_accounts_without_a_program_wait_and_are_made_up_for(lab):
    strays = [buy(n, 1000, n, program_id=None) for n in range(3)]
    lab.deliver(strays).accrue()
    lab.deliver([buy(9, 1000, 4, program_id=None)]).accrue()
    assert lab.frame("select type, left_ref, state from finance.exceptions").rows() == [
        ("UNKNOWN_PROGRAM", "a1", "OPEN")
    ]
    assert lab.balances() == {} and lab.broken() == []
    lab.con.execute("update marts.fct_earning_events set program_id = 'lab'")
    lab.accrue()
    assert lab.balances() == {"a1": 40} and lab.broken() == []
    assert lab.frame("select state from finance.exceptions").rows() == [("RESOLVED",)]


def test_late_delivery_into_a_closed_period_counts_for_the_next(lab):
    lab.con.execute(
        "create table finance.periods (program_id varchar, period varchar, state varchar)"
    )
    lab.con.execute("insert into finance.periods values ('lab', '2024-03', 'CLOSED')")
    lab.deliver([buy(1, 1000, 0, known_on=START + 10 * DAY)]).accrue()
    assert lab.frame(
        "select accounting_period, original_period, effective_on from rewards.journal"
    ).rows() == [("2024-04", "2024-03", START)]


def test_balances_as_they_were_known(lab):
    lab.deliver([buy(1, 1000, 0), buy(2, 2000, 1, known_on=START + 5 * DAY)]).accrue()

    def at(e, k):
        recorded_at = end_of(START + k * DAY)
        return balances_as_of(lab.con, START + e * DAY, recorded_at)["available"].to_list()

    assert (at(9, 4), at(9, 5), at(0, 9)) == ([10], [30], [10])


def test_terms_that_were_used_cannot_change(lab):
    lab.deliver([buy(1, 1000, 0)]).accrue()
    with transaction(lab.con):
        assert publish_programs(lab.con, {"lab": program(**PLAIN)}) == 0
    with pytest.raises(CardlineError, match="add a new version"):
        publish_programs(lab.con, {"lab": program(**PLAIN, name="Other")})
