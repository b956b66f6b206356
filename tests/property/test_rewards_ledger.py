"""What holds of the ledger whatever happens and in whatever order it arrives."""

from datetime import datetime, time, timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipelines.rewards.terms import Program, parse_terms
from tests.property.rewards_histories import ENDED, START, full_histories, histories, program, terms
from tests.rewards_lab import RewardsLab, account, instruction, statement

NO_EXPIRY = program(expiry={"kind": "NONE"})
EXPIRING = program()
LAST = START + timedelta(days=60)
relaxed = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
unshrunk = settings(relaxed, phases=[Phase.generate])


@st.composite
def instructions(draw):
    made = []
    for number in range(draw(st.integers(0, 5))):
        on = START + timedelta(days=draw(st.integers(0, 20)))
        kind = draw(st.sampled_from(["REDEEM", "REDEEM", "REDEEM_CANCEL", "TRANSFER", "ADJUST"]))
        points = draw(st.integers(-50, 300)) if kind != "REDEEM_CANCEL" else None
        reference = f"i{draw(st.integers(0, 4))}" if kind == "REDEEM_CANCEL" else None
        account = f"a{draw(st.integers(1, 2))}"
        made.append(instruction(f"i{number}", account, kind, on, points, reference=reference))
    return made


@st.composite
def late(draw, events):
    """The events, some of them known only days after they were posted."""
    return [
        {
            **event,
            "known_on": event["posted_on"] + timedelta(days=draw(st.sampled_from([0, 0, 0, 2, 9]))),
        }
        for event in events
    ]


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


LATER = (
    [],
    [{"status": "CLOSED", "close_reason": "BANK_REQUEST", "closed_on": START + timedelta(days=5)}],
    [{"status": "SUSPENDED"}],
    [{"tier": "tier12000"}, {"substatus": "DELINQUENT"}],
)
"""What may become of an account."""


EXPIRIES = (
    {"kind": "LOT", "months": 1},
    {"kind": "INACTIVITY", "months": 1, "action": "CREDIT"},
    {"kind": "NONE"},
)


@st.composite
def ledgers(draw):
    """Terms, and deliveries of everything that they may ask about."""
    rules = draw(terms())
    settlement = draw(st.sampled_from(["LIVE", "STATEMENT"]))
    rules["accrual"] = {**rules.get("accrual", {}), "settlement": settlement}
    policies = ["UNLIMITED", "WITHIN_BALANCE", *(["ONLY_PENDING"] * (settlement == "STATEMENT"))]
    rules["returns"] = {**rules["returns"], "policy": draw(st.sampled_from(policies))}
    rules["expiry"] = draw(st.sampled_from(EXPIRIES))
    if draw(st.booleans()):
        rules["closure"] = {"on": ["BANK_REQUEST"], "grace_days": 3}
    accounts = []
    for number in ("a1", "a2"):
        accounts.append(account(number, START - timedelta(days=4), cycle_day=4))
        for later in draw(st.sampled_from(LATER)):
            on = START + timedelta(days=draw(st.integers(2, 12)))
            known_on = on + timedelta(days=draw(st.sampled_from([0, 0, 3])))
            accounts.append({**accounts[-1], "updated_at": datetime.combine(on, time(6)),
                             "known_on": known_on, **later})  # fmt: skip
    return Program("lab", (parse_terms(rules),)), {
        "events": draw(full_histories(longest=12).flatmap(late)),
        "instructions": draw(instructions()),
        "accounts": list({(a["account_id"], a["updated_at"]): a for a in accounts}.values()),
        "statements": [statement(number, *ENDED) for number in ("a1", "a2") if draw(st.booleans())],
    }


def check_days_one_by_one(drawn) -> None:
    """Days one by one write what one pass writes, and the ledger keeps its promises."""
    terms_of_lab, feeds = drawn
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
