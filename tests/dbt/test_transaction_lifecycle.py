"""Hold and posted balance over every legal order of a transaction's messages (TXN-1)."""

import random
from datetime import datetime, timedelta
from pathlib import Path

from pipelines.contracts.activity import EVENT_TYPES
from tests.dbt.lake_builds import Row, build, deliver, rows_of
from tests.dbt.legal_orders import Message, State, legal_orders

NOON = datetime(2024, 5, 6, 12)
Orders = list[tuple[tuple[Message, ...], State]]


def _rows(orders: Orders) -> list[Row]:
    """The messages as they are delivered: in any order, and few of them twice."""
    rng = random.Random(4)
    rows = [
        {
            "event_id": f"e{number}-{place}",
            "transaction_id": f"t{number}",
            "event_type": message.event_type,
            "account_id": "a1",
            "card_id": "c1",
            "event_at": NOON + timedelta(hours=place),
            "amount_minor": message.amount_minor,
            "currency": "USD",
            "direction": message.direction,
            "auth_result": message.auth_result,
            "received_at": NOON + timedelta(days=rng.randrange(9), seconds=rng.randrange(86_400)),
        }
        for number, (messages, _) in enumerate(orders)
        for place, message in enumerate(messages)
    ]
    rows += [
        {**row, "received_at": row["received_at"] + timedelta(days=1)}
        for row in rng.sample(rows, 300)
    ]
    rng.shuffle(rows)
    return rows


def test_every_legal_order_holds_and_posts_what_it_must(home: Path) -> None:
    orders = list(legal_orders())
    kinds = {message.event_type for messages, _ in orders for message in messages}
    assert kinds == set(EVENT_TYPES)
    deliver({"transactions": _rows(orders)})
    build("--select", "+int_transactions__held", "+int_posted_transactions__netted")
    held = {row["transaction_id"]: row for row in rows_of("intermediate.int_transactions__held")}
    posted = {
        row["transaction_id"]: row["amount_minor"] * (1 if row["direction"] == "DEBIT" else -1)
        for row in rows_of("intermediate.int_posted_transactions__netted")
    }
    differing = []
    for number, (messages, state) in enumerate(orders):
        name = f"t{number}"
        row = held.get(name)
        if state.family == "look":
            expected, found = (None, None), (row, posted.get(name))
        else:
            assert row is not None, messages
            expected = (state.hold, state.posted, state.status, state.posted if state.posted_count
                        else None)  # fmt: skip
            found = (row["hold_minor"], row["posted_minor"], row["status"], posted.get(name))
        if expected != found:
            differing.append((messages, expected, found))
    assert not differing, (len(differing), differing[:2])
    assert len(orders) > 15_000
