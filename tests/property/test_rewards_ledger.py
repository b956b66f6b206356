"""What holds of the ledger whatever happens and in whatever order it arrives."""

from collections import Counter
from datetime import date, timedelta
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipelines.rewards.terms import Program, parse_terms
from tests.property.reference_ledger import ReferenceLedger
from tests.property.rewards_histories import (
    START,
    histories,
    instructions,
    late,
    ledgers,
    made_ledger,
    program,
)
from tests.rewards_lab import RewardsLab

NO_EXPIRY = program(expiry={"kind": "NONE"})
EXPIRING = program()
FIRST, LAST = START - timedelta(days=10), START + timedelta(days=60)
HELD = ("MEMBER_PENDING", "MEMBER_AVAILABLE", "REDEMPTION_CLEARING")
relaxed = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
unshrunk = settings(relaxed, phases=[Phase.generate])


@relaxed
@given(histories(longest=15).flatmap(late), instructions())
def test_day_by_day_writes_what_one_pass_writes(events, orders):
    once = RewardsLab(EXPIRING).deliver(events, orders)
    once.accrue(LAST)
    daily = RewardsLab(EXPIRING)
    days = sorted({row["known_on"] for row in [*events, *orders]})
    for day in days:
        daily.deliver(
            [event for event in events if event["known_on"] == day],
            [order for order in orders if order["known_on"] == day],
        )
        daily.accrue(day)
        assert daily.broken() == []
    daily.accrue(LAST)
    assert once.broken() == daily.broken() == []
    assert once.contents() == daily.contents()
    before = once.contents()
    assert once.accrue(LAST).journals == 0
    assert once.contents() == before


def check_days_one_by_one(drawn) -> None:
    """Days one by one write what one pass writes, and the ledger keeps its promises."""
    versions, feeds = drawn
    terms_of_lab = Program("lab", tuple(parse_terms(each) for each in versions))
    once = RewardsLab(terms_of_lab).deliver(**feeds)
    once.accrue(LAST)
    daily = RewardsLab(terms_of_lab)
    for day in sorted({row["known_on"] for rows in feeds.values() for row in rows}):
        daily.deliver(
            **{name: [r for r in rows if r["known_on"] == day] for name, rows in feeds.items()}
        )
        daily.accrue(day)
    daily.accrue(LAST)
    assert once.broken() == daily.broken() == []
    assert once.contents() == daily.contents()


def legs_by_day(lab) -> dict[str, dict[date, Counter[str]]]:
    """What each known day brought each account's entries, by ledger account; credits above zero."""
    found: dict[str, dict[date, Counter[str]]] = {}
    for member, day, name, units in lab.con.execute(
        "select journal.account_id, recorded_at::date, ledger_account, "
        "sum(case direction when 'CREDIT' then amount else -amount end)::bigint "
        "from rewards.journal as journal inner join rewards.postings using (journal_id) "
        "group by all"
    ).fetchall():
        found.setdefault(member, {}).setdefault(day, Counter())[name] = units
    return found


def check_against_reference(lab, versions, feeds) -> None:
    """Balances of every day, lots, counter accounts and outcomes are those of the plain ledger."""
    legs, open_lots, outcomes = legs_by_day(lab), {}, {}
    for member, *lot in lab.con.execute(
        "select account_id, lot_id, expires_on, points_open from rewards.lots "
        "where points_open > 0 order by lot_id"
    ).fetchall():
        open_lots.setdefault(member, []).append(tuple(lot))
    for name in sorted({row["account_id"] for rows in feeds.values() for row in rows}):
        mine = {
            feed: [row for row in rows if row["account_id"] == name] for feed, rows in feeds.items()
        }
        plain = ReferenceLedger(
            versions, mine["events"], mine["instructions"], mine["accounts"], mine["statements"]
        ).run(FIRST, LAST)
        held: Counter[str] = Counter()
        for day, expected in plain.days.items():
            held.update(legs.get(name, {}).get(day, {}))
            available, reserved = held["MEMBER_AVAILABLE"], held["REDEMPTION_CLEARING"]
            now = (held["MEMBER_PENDING"], max(0, available), reserved, max(0, -available))
            assert now == expected, (name, day)
        others = {each: units for each, units in held.items() if units and each not in HELD}
        assert others == {each: units for each, units in plain.counters.items() if units}, name
        assert open_lots.get(name, []) == sorted(
            (lot["id"], None if lot["expires_on"] == date.max else lot["expires_on"], lot["open"])
            for lot in plain.lots if lot["open"]
        ), name  # fmt: skip
        outcomes |= plain.outcomes
    told = lab.con.execute(
        "select reward_event_id, outcome, reason from rewards.reward_event_outcomes "
        "where kind in ('REDEEM', 'REDEEM_CANCEL', 'TRANSFER', 'ADJUST')"
    ).fetchall()
    assert {name: (outcome, reason) for name, outcome, reason in told} == outcomes


@pytest.mark.parametrize(
    ("labs", "accounts"),
    [pytest.param(2, 10, id="some"), pytest.param(100, 100, id="ten-thousand",
                                                  marks=pytest.mark.slow)],
)  # fmt: skip
def test_ledger_equals_the_reference_under_all_rules(labs, accounts):
    """Each lab under its own terms, with a history for each of its accounts."""
    events = 0
    for number in range(labs):
        luck = Random(number)
        versions, feeds = made_ledger(luck, [f"a{each}" for each in range(accounts)], 25)
        lab = RewardsLab(Program("lab", tuple(parse_terms(each) for each in versions)))
        lab.deliver(**feeds).accrue(LAST)
        assert lab.broken() == []
        check_against_reference(lab, versions, feeds)
        events += len(feeds["events"])
    print(f"{labs * accounts} histories with {events} events equal the reference")


@unshrunk
@given(ledgers())
def test_day_by_day_writes_what_one_pass_writes_under_all_rules(drawn):
    check_days_one_by_one(drawn)


@pytest.mark.slow
@settings(unshrunk, max_examples=1000)
@given(ledgers())
def test_day_by_day_writes_what_one_pass_writes_in_a_thousand_ledgers(drawn):
    check_days_one_by_one(drawn)


@relaxed
@given(histories(longest=15), st.randoms(use_true_random=False))
def test_order_of_arrival_does_not_matter_to_balances(events, random):
    straight = RewardsLab(NO_EXPIRY).deliver(events)
    straight.accrue(LAST)
    shuffled = events[:]
    random.shuffle(shuffled)
    mixed = RewardsLab(NO_EXPIRY)
    for start in range(0, len(shuffled), 4):
        mixed.deliver(shuffled[start : start + 4])
        mixed.accrue()
    mixed.accrue(LAST)
    assert mixed.broken() == []
    assert mixed.balances() == straight.balances()
    by_day = (
        "select account_id, effective_on, sum(points)::bigint from rewards.decisions "
        "group by all having sum(points) <> 0 order by all"
    )
    assert mixed.frame(by_day).equals(straight.frame(by_day))
    posted = (
        "select postings.account_id, effective_on, "
        "sum(case direction when 'CREDIT' then amount else -amount end)::bigint as points "
        "from rewards.journal inner join rewards.postings as postings using (journal_id) "
        "where ledger_account = 'MEMBER_AVAILABLE' group by all having points <> 0 order by all"
    )
    assert mixed.frame(posted).equals(straight.frame(posted))


@relaxed
@given(histories(longest=12), st.data())
def test_corrected_events_are_reversed_and_posted_anew(events, data):
    lab = RewardsLab(NO_EXPIRY).deliver(events)
    lab.accrue()
    chosen = data.draw(st.sampled_from(events))
    corrected = {
        **chosen,
        "amount_minor": chosen["amount_minor"] + data.draw(st.integers(-300, 3000).filter(bool)),
        "version_no": 2,
        "known_on": LAST,
    }
    corrected["amount_minor"] = max(corrected["amount_minor"], 0)
    lab.deliver([corrected])
    lab.accrue()
    fresh = RewardsLab(NO_EXPIRY).deliver(
        [event for event in events if event is not chosen] + [{**corrected, "version_no": 1}]
    )
    fresh.accrue()
    assert lab.broken() == []
    assert lab.balances() == fresh.balances()
