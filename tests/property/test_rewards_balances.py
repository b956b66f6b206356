"""Balances at any two times are what a replay of the entries known by then gives (LED-2)."""

from collections import Counter
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.rewards.balances import balances_as_of
from tests.property.rewards_histories import START, histories, instructions, late, program
from tests.rewards_lab import RewardsLab, end_of

LAST = START + timedelta(days=60)
days = st.integers(-1, 61).map(lambda day: START + timedelta(days=day))


def replay(lab, effective_on, recorded_at):
    """Available, pending, reserved and deficit by account, entry by entry in plain Python."""
    legs = {}
    for journal_id, account, member, direction, amount in lab.con.execute(
        "select journal_id, ledger_account, account_id, direction, amount from rewards.postings"
    ).fetchall():
        legs.setdefault(journal_id, []).append((account, member, direction, amount))
    held, seen = Counter(), set()
    for journal_id, effective, recorded in lab.con.execute(
        "select journal_id, effective_on, recorded_at from rewards.journal order by seq"
    ).fetchall():
        if effective > effective_on or recorded > recorded_at:
            continue
        for account, member, direction, amount in legs[journal_id]:
            if member is not None:
                seen.add(member)
                held[member, account] += amount if direction == "CREDIT" else -amount
    return {
        member: (
            held[member, "MEMBER_PENDING"], max(0, held[member, "MEMBER_AVAILABLE"]),
            held[member, "REDEMPTION_CLEARING"], max(0, -held[member, "MEMBER_AVAILABLE"]),
        )
        for member in seen
    }  # fmt: skip


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    histories(longest=15).flatmap(late),
    instructions(),
    st.lists(st.tuples(days, days), min_size=5, max_size=5),
)
def test_a_balance_is_the_replay_of_what_was_known(events, orders, times):
    lab = RewardsLab(program()).deliver(events, orders)
    lab.accrue(LAST)
    for effective_on, known_on in times:
        recorded_at = end_of(known_on)
        found = balances_as_of(lab.con, effective_on, recorded_at)
        assert {row[1]: row[2:] for row in found.rows()} == replay(lab, effective_on, recorded_at)
        for account in found["account_id"]:
            only = balances_as_of(lab.con, effective_on, recorded_at, "lab", account)
            assert only.rows() == [row for row in found.rows() if row[1] == account]
        assert balances_as_of(lab.con, effective_on, recorded_at, "other").is_empty()
    now = lab.con.execute(
        "select program_id, account_id, pending, available, reserved, deficit "
        "from rewards.balances order by all"
    ).fetchall()
    assert balances_as_of(lab.con).rows() == now
