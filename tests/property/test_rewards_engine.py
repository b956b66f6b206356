"""The engine against the plain reference, over random histories and random terms."""

from collections.abc import Mapping
from datetime import UTC, date, timedelta
from random import Random
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.rewards import engine
from pipelines.rewards.columns import Batch
from pipelines.rewards.engine import EVENT_SCHEMA, Decided, State, decide, in_order, items_of
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
    TERMS,
    book,
    full_histories,
    histories,
    knowledge,
    made_history,
    made_knowledge,
    made_terms,
    terms,
)

BOOK = book()
relaxed = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def facts_of(known: Mapping[str, Known], zone: ZoneInfo) -> Facts:
    """What the engine is told of what is `known` of accounts."""

    def frame(schema: pl.Schema, rows: list[tuple[Any, ...]]) -> pl.DataFrame:
        return pl.DataFrame(rows, schema=schema, orient="row")

    seen = (date.min, False)
    return Facts(
        activations=frame(ACTIVATION_SCHEMA, [
            (name, offer, at.replace(tzinfo=UTC).astimezone(zone).date(), at, *seen)
            for name, each in known.items() for at, offer in each.activated
        ]),
        statuses=frame(STATUS_SCHEMA, [
            (name, *record[: len(STATUS_SCHEMA) - 3], *seen) for name, each in known.items()
            for record in each.records
        ]),
        statements=frame(STATEMENT_SCHEMA, [
            (name, *days, True, *seen) for name, each in known.items() for days in each.statements
        ]),
        openings=frame(OPENING_SCHEMA, [
            (name, each.opened_on, each.is_first) for name, each in known.items() if each.opened_on
        ]),
    )  # fmt: skip


INELIGIBLE = ("EXCLUDED_MCC", "EXCLUDED_CLASS", "FEE_OR_INTEREST", "GATE_FAILED",
              "ACCOUNT_NOT_IN_GOOD_STANDING")  # fmt: skip


def compare(versions: list[dict[str, Any]], events: list[dict], known: Mapping[str, Known]) -> None:
    """Decide the events and hold points, caps, reasons and over-refunds against the reference."""
    rules = RuleBook(Program("lab", tuple(parse_terms(each) for each in versions)))
    state = State(facts=facts_of(known, ZoneInfo(versions[0].get("timezone", "UTC"))))
    decided = decide(pl.DataFrame(events, schema=EVENT_SCHEMA), rules, state)
    expected, used, over, reasons = {}, {}, {}, {}
    by_account: dict[str, list[dict]] = {}
    for each in events:
        by_account.setdefault(each["account_id"], []).append(each)
    for account, mine in by_account.items():
        reference = Reference(versions, known.get(account, Known())).run(mine)
        expected |= {key: points for key, points in reference.decided.items() if points}
        over |= reference.over_refunded
        reasons |= reference.reasons
        for (key, _), amount in reference.used.items():
            used[account, key] = used.get((account, key), 0) + amount
    rows = decided.decisions
    points = {
        (event_id, rule_id): points
        for event_id, rule_id, points in rows.select("event_id", "rule_id", "points").rows()
        if points
    }
    assert points == expected
    earning = pl.col("event_class") == "EARN"
    beyond_limits = (pl.col("zero_reason") == "CAP_EXHAUSTED") & ~pl.col("is_eligible")
    refused = rows.filter(earning, pl.col("zero_reason").is_in(INELIGIBLE) | beyond_limits)
    assert dict(refused.select("event_id", "zero_reason").iter_rows()) == reasons
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


@relaxed
@given(terms(), full_histories(), knowledge(), knowledge(), st.randoms(use_true_random=False))
def test_engine_equals_the_reference_under_all_rules(versions, events, first, second, random):
    random.shuffle(events)
    compare(versions, events, {"a1": first, "a2": second})


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    terms(), full_histories(longest=12), knowledge(), knowledge(), st.randoms(use_true_random=False)
)
def test_engine_equals_the_reference_on_ten_thousand_histories(
    versions, events, first, second, random
):
    random.shuffle(events)
    compare(versions, events, {"a1": first, "a2": second})


def event_by_event(batch: Batch, _items: object) -> engine._Split:
    """Nothing is decided in columns."""
    size = batch.events.height
    return engine._Split(np.ones(size, dtype=bool), np.full(size, engine._NO_REFUND))


def untangled(events: list[dict]) -> list[dict]:
    """Of `events` the purchases of one clearing, and after all of them their refunds."""
    kept: dict[str, dict] = {}
    for each in events:
        if each["direction"] == "CREDIT" and each["event_type"] != "CORRECTION_CREDIT":
            later = each["posted_on"] + timedelta(days=30)
            kept[each["event_id"]] = {**each, "posted_on": later, "known_on": later}
        elif each["event_type"] in {"CLEARING", "PAYMENT"}:
            kept.setdefault(each["transaction_id"], each)
    return list(kept.values())


def without_turns(version: dict) -> dict:
    """`version` with terms under which an event does not look at those before it."""
    returns = {**version.get("returns", {}), "cap_refill": "RESTORE_ONLY"}
    return {
        **version, "rounding": {"mode": "HALF_EVEN"}, "earn": TERMS["earn"], "returns": returns
    }  # fmt: skip


def in_two_passes(rules: RuleBook, events: pl.DataFrame, first: int, facts: Facts) -> list[Decided]:
    """Decide `events`, which are in order, the first `first` of them by themselves."""
    before = decide(events.head(first), rules, State(facts=facts))
    items = items_of(before.decisions, before.allocations, rules, facts.statuses)
    state = State(before.caps, items, before.spend, before.progress, facts, before.places)
    return [before, decide(events.slice(first), rules, state)]


@relaxed
@given(
    terms(), full_histories(), knowledge(), knowledge(), st.randoms(use_true_random=False),
    st.integers(0, 25), st.booleans(),
)  # fmt: skip
def test_columns_decide_what_the_fold_decides(versions, events, first, second, random, cut, simple):
    if simple:
        events = untangled(events)
        versions = [without_turns(each) for each in versions]
    random.shuffle(events)
    rules = RuleBook(Program("lab", tuple(parse_terms(each) for each in versions)))
    zone = ZoneInfo(versions[0].get("timezone", "UTC"))
    facts = facts_of({"a1": first, "a2": second}, zone)
    frame = in_order(pl.DataFrame(events, schema=EVENT_SCHEMA))
    columns = in_two_passes(rules, frame, cut, facts)
    with patch.object(engine, "_split", event_by_event):
        folded = in_two_passes(rules, frame, cut, facts)
    used: list[dict] = [{}, {}]
    for one, other in zip(columns, folded, strict=True):
        for name in ("decisions", "allocations", "problems", "spend", "progress", "places"):
            assert getattr(one, name).equals(getattr(other, name)), name
        for known, caps in zip(used, (one.caps, other.caps), strict=True):
            known |= {row[:3]: row[3] for row in caps.rows()}
        assert used[0] == used[1]


@pytest.mark.parametrize(
    "least",
    [pytest.param(2_000, id="some"), pytest.param(1_000_000, id="a-million",
                                                  marks=pytest.mark.slow)],
)  # fmt: skip
def test_engine_equals_the_reference_at_size(least):
    """Batches of accounts, each under its own terms, until there are `least` events."""
    seen = batch = 0
    while seen < least:
        random = Random(batch)
        names = [f"a{number}" for number in range(min(250, least // 100))]
        events = [each for name in names for each in made_history(random, name, 60)]
        random.shuffle(events)
        compare(made_terms(random), events, {name: made_knowledge(random) for name in names})
        seen, batch = seen + len(events), batch + 1
    print(f"{seen} events in {batch} batches equal the reference")


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
