"""The engine against the plain reference, over random histories."""

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.rewards.engine import EVENT_SCHEMA, decide
from tests.property.reference_rewards import Reference
from tests.property.rewards_histories import EXCLUDED, RULES, book, histories

BOOK = book()
relaxed = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@relaxed
@given(histories(), st.randoms(use_true_random=False))
def test_engine_equals_the_reference(events, random):
    shuffled = events[:]
    random.shuffle(shuffled)
    decided = decide(pl.DataFrame(shuffled, schema=EVENT_SCHEMA), BOOK)

    expected, used, over = {}, {}, {}
    for account in {event["account_id"] for event in events}:
        reference = Reference(RULES, EXCLUDED).run(
            [event for event in events if event["account_id"] == account]
        )
        expected |= reference.decided
        over |= reference.over_refunded
        used |= {
            (account, key, (year, quarter)): amount
            for (key, (year, quarter)), amount in reference.used.items()
        }
    points = {
        (event_id, rule_id): points
        for event_id, rule_id, points in decided.decisions.select(
            "event_id", "rule_id", "points"
        ).rows()
        if points
    }
    assert points == expected
    assert {
        (account, key, (on.year, (on.month - 1) // 3)): amount
        for account, key, on, amount in decided.caps.rows()
    } == used
    assert {
        event_id: amount
        for event_id, kind, amount in decided.problems.select(
            "event_id", "type", "amount_minor"
        ).rows()
        if kind == "OVER_REFUND"
    } == over


@relaxed
@given(histories())
def test_every_event_has_one_decision_set_and_zeros_say_why(events):
    decisions = decide(pl.DataFrame(events, schema=EVENT_SCHEMA), BOOK).decisions
    assert set(decisions["event_id"]) == {event["event_id"] for event in events}
    assert not decisions.select("event_id", "rule_id").is_duplicated().any()
    zero = decisions.filter(pl.col("points") == 0)
    assert zero["zero_reason"].null_count() == 0
    assert decisions.filter(pl.col("points") != 0)["zero_reason"].null_count() == (
        decisions.height - zero.height
    )


@relaxed
@given(histories())
def test_full_refund_of_everything_leaves_nothing(events):
    # One clearing each: what a refund takes from a later clearing is not that clearing's window.
    purchases = [
        {**event, "transaction_id": f"t{event['event_id']}"}
        for event in events
        if event["event_type"] == "CLEARING"
    ]
    refunds = [
        {
            **event,
            "event_id": f"r{event['event_id']}",
            "transaction_id": f"r{event['event_id']}",
            "event_type": "RETURN",
            "direction": "CREDIT",
            "refunds_transaction_id": event["transaction_id"],
            "posted_on": event["posted_on"].replace(month=4, day=20),
            "event_at": event["event_at"],
        }
        for event in purchases
    ]
    decided = decide(pl.DataFrame(purchases + refunds, schema=EVENT_SCHEMA), BOOK)
    totals = decided.decisions.group_by("account_id").agg(pl.col("points").sum())
    assert totals["points"].to_list() == [0] * totals.height
    assert decided.caps["used"].sum() == 0
