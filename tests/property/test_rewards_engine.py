"""The engine against the plain reference, over random histories and random terms."""

from collections.abc import Mapping
from datetime import date, datetime, time
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.rewards.engine import EVENT_SCHEMA, Decided, State, decide
from pipelines.rewards.facts import (
    ACTIVATION_SCHEMA,
    OPENING_SCHEMA,
    STATEMENT_SCHEMA,
    STATUS_SCHEMA,
    Facts,
)
from pipelines.rewards.rules import RuleBook
from pipelines.rewards.terms import Program, parse_terms
from tests.property.reference_rewards import Known, Reference
from tests.property.rewards_histories import (
    MCCS,
    TERMS,
    book,
    event,
    full_histories,
    histories,
    knowledge,
    terms,
)

BOOK = book()
relaxed = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def facts_of(known: Mapping[str, Known]) -> Facts:
    """What the engine is told of what is `known` of accounts."""

    def frame(schema: pl.Schema, rows: list[tuple[Any, ...]]) -> pl.DataFrame:
        return pl.DataFrame(rows, schema=schema, orient="row")

    seen = (date.min, False)
    return Facts(
        activations=frame(ACTIVATION_SCHEMA, [
            (name, offer, day, datetime.combine(day, time()), *seen)
            for name, each in known.items() for offer, day in each.activated.items()
        ]),
        statuses=frame(STATUS_SCHEMA, [
            (name, *record[: len(STATUS_SCHEMA) - 3], *seen) for name, each in known.items()
            for record in each.records
        ]),
        statements=frame(STATEMENT_SCHEMA, [
            (name, *days, True, *seen) for name, each in known.items() for days in each.statements
        ]),
        openings=frame(OPENING_SCHEMA, [
            (name, each.opened_on, True) for name, each in known.items() if each.opened_on
        ]),
    )  # fmt: skip


def compare(program: dict[str, Any], events: list[dict], known: Mapping[str, Known]) -> Decided:
    """Decide the events and hold every account against the reference."""
    rules = RuleBook(Program("lab", (parse_terms(program),)))
    decided = decide(pl.DataFrame(events, schema=EVENT_SCHEMA), rules, State(facts=facts_of(known)))
    expected, used, over = {}, {}, {}
    by_account: dict[str, list[dict]] = {}
    for each in events:
        by_account.setdefault(each["account_id"], []).append(each)
    for account, mine in by_account.items():
        reference = Reference(program, known.get(account, Known())).run(mine)
        expected |= {key: points for key, points in reference.decided.items() if points}
        over |= reference.over_refunded
        for (key, _), amount in reference.used.items():
            used[account, key] = used.get((account, key), 0) + amount
    points = {
        (event_id, rule_id): points
        for event_id, rule_id, points in decided.decisions.select(
            "event_id", "rule_id", "points"
        ).rows()
        if points
    }
    assert points == expected
    by_key: dict[tuple[str, str], int] = {}
    for account, key, _, amount in decided.caps.rows():
        by_key[account, key] = by_key.get((account, key), 0) + amount
    assert by_key == used
    assert {
        event_id: amount
        for event_id, kind, amount in decided.problems.select(
            "event_id", "type", "amount_minor"
        ).rows()
        if kind == "OVER_REFUND"
    } == over
    return decided


@relaxed
@given(terms(), full_histories(), knowledge(), knowledge(), st.randoms(use_true_random=False))
def test_engine_equals_the_reference_under_all_rules(program, events, first, second, random):
    random.shuffle(events)
    compare(program, events, {"a1": first, "a2": second})


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    terms(), full_histories(longest=12), knowledge(), knowledge(), st.randoms(use_true_random=False)
)
def test_engine_equals_the_reference_on_ten_thousand_histories(
    program, events, first, second, random
):
    random.shuffle(events)
    compare(program, events, {"a1": first, "a2": second})


ALL_RULES = {
    **TERMS,
    "eligibility": {**TERMS["eligibility"], "account": "good_standing_v3"},
    "signup_bonus": [{"id": "welcome", "points": 500, "threshold_minor": 30_000, "within_days": 8,
                      "clawback": {"if_below_threshold": True}}],
    "tiers": [{"id": "tier12000", "metric": "NET_SPEND_12M", "at_least_minor": 60_000,
               "multiplier_milli": 1250, "review": "MONTHLY"}],
}  # fmt: skip


def many(random: Random, accounts: int, each: int) -> list[dict]:
    """Purchases of many accounts, one in six refunded in part or whole, some of it fraud."""
    events = []
    for account in range(accounts):
        bought: list[dict] = []
        for number in range(each):
            name = f"{account}-{number}"
            day, amount = random.randint(0, 14), random.randint(0, 12_000)
            made = event(name, f"a{account}", amount, day, mcc=random.choice(MCCS))
            if bought and random.random() < 0.17:
                of = random.choice(bought)
                made |= {
                    "event_type": random.choice(["RETURN", "RETURN", "FRAUD_CONFIRMED"]),
                    "direction": "CREDIT", "transaction_class": "REFUND", "mcc": of["mcc"],
                    "refunds_transaction_id": of["transaction_id"],
                    "posted_on": max(made["posted_on"], of["posted_on"]),
                }  # fmt: skip
            else:
                bought.append(made)
            events.append(made)
    return events


@pytest.mark.parametrize(
    "batches",
    [pytest.param(1, id="some"), pytest.param(100, id="a-million", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("rules", [TERMS, ALL_RULES], ids=["plain", "all-rules"])
def test_engine_equals_the_reference_at_size(rules, batches):
    for seed in range(batches):
        random = Random(seed)
        # A small first batch where it is the only one.
        events = many(random, 200 if batches > 1 else 40, 50)
        random.shuffle(events)
        opened = {f"a{number}": Known(opened_on=date(2024, 3, 20)) for number in range(0, 200, 2)}
        compare(rules, events, opened)


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
