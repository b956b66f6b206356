"""At any moment of a simulated clock the online store answers what point-in-time retrieval tells of
that moment, with messages that come late, out of order and corrected."""

import random
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from pipelines.features.materialize import materialize
from pipelines.features.parity import parity
from pipelines.features.registry import load_definitions
from pipelines.features.retrieval import feature_names, feature_vector, historical, online
from tests.feature_store.tables import DAY, START, Fill, Publish
from tests.feature_store.test_reading import ask, by_name
from tests.property.messages import History, Label, Message, built

SERVICE = "fraud_authorization_v1"
SECOND = timedelta(seconds=1)


def busy_week(seed: int) -> History:
    """Purchases in bursts over a week by four cards of two accounts."""
    choose = random.Random(seed)
    messages: list[Message] = []
    at = START
    for number in range(150):
        at += SECOND * choose.choice([0, 1, 20, 90, 300, 900, 3_600, 20_000])
        card = choose.randrange(4)
        late = SECOND * choose.choice([0, 0, 2, 600, 4_000, 90_000])
        corrected_at = at + late + SECOND * choose.choice([1, 700, 50_000])
        is_corrected = choose.random() < 0.2
        for version in range(1 + is_corrected):
            messages.append(
                Message(
                    transaction_id=f"t{number}",
                    event_id=f"e{number}",
                    version_no=version + 1,
                    event_type="AUTHORIZATION",
                    card_id=f"c{choose.randrange(4) if version else card}",
                    account_id=f"a{card % 2}",
                    merchant_id=choose.choice(["m0", "m1", "m2"]),
                    mcc=choose.choice(["5411", "5812"]),
                    merchant_country=choose.choice(["US", "FR"]),
                    device_id=choose.choice([None, "d0", "d1"]),
                    ip_hash=choose.choice([None, "i0", "i1"]),
                    event_at=at,
                    amount_minor=choose.randint(1, 9_000),
                    auth_result=choose.choice(["APPROVED", "APPROVED", "DECLINED"]),
                    is_card_present=choose.random() < 0.5,
                    latitude=choose.uniform(-60, 60),
                    longitude=choose.uniform(-179, 179),
                    received_at=corrected_at if version else at + late,
                    superseded_at=corrected_at if is_corrected and not version else None,
                )
            )
    labels = tuple(
        Label(f"t{number}", (START + choose.randrange(9) * DAY).date(), None)
        for number in range(0, 150, 11)
    )
    return History(tuple(messages), labels, ())


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_served_is_what_history_tells(
    online_store: str, fill: Fill, publish_all: Publish, seed: int
) -> None:
    choose = random.Random(seed)
    history = busy_week(seed)
    made = [view for view in load_definitions().views if view not in _OF_OTHER_FEEDS]
    fill(**built(history, *made))
    publish_all()
    arrivals = sorted(message.received_at for message in history.messages)
    counts: set[Any] = set()
    for clock in [*sorted(choose.sample(arrivals, 6)), arrivals[-1]]:
        materialize(end=clock)
        rows = [_request(choose, clock) for _ in range(25)]
        frame = pl.DataFrame(rows).with_columns(
            pl.col("event_at").str.to_datetime().alias("event_timestamp"),
            pl.lit(clock).alias("known_at"),
        )
        told = historical(SERVICE, frame).select(feature_names(SERVICE)).to_dicts()
        assert online(SERVICE, rows) == told
        answer = by_name(
            ask(
                {"feature_service": SERVICE, "entities": {k: [r[k] for r in rows] for k in rows[0]}}
            )
        )
        for name in feature_names(SERVICE):
            assert answer[name]["values"] == [row[name] for row in told], name
        now = {**rows[0], "event_at": clock.isoformat()}
        assert feature_vector(SERVICE, now)["features"] == feature_vector(
            SERVICE, {k: v for k, v in now.items() if k != "event_at"}, at=clock
        )["features"]  # fmt: skip
        counts |= {row["card_count_1h"] for row in told}
    assert counts >= {None, 0, 1}
    assert parity(services=[SERVICE]).is_empty()


_OF_OTHER_FEEDS = {
    "account_contact_features",
    "account_limit_features",
    "account_redemption_features",
    "card_state_features",
    "account_payment_features",
    "customer_application_features",
    "pull_application_features",
    "pull_bureau_features",
}


def _request(choose: random.Random, clock: datetime) -> dict[str, Any]:
    """An authorization up to two hours after the store was brought up to date."""
    at = clock + SECOND * choose.choice([0, 1, 899, 900, 901, 3_600, 7_200])
    return {
        "card_id": f"c{choose.randrange(5)}",
        "account_id": f"a{choose.randrange(3)}",
        "merchant_id": f"m{choose.randrange(4)}",
        "event_at": at.isoformat(),
        "mcc": choose.choice(["5411", "5812", "0000"]),
        "merchant_country": choose.choice(["US", "FR", "DE"]),
        "device_id": choose.choice(["d0", "d1", "d2"]),
        "ip_hash": choose.choice(["i0", "i1"]),
        "entry_mode": choose.choice(["MAGSTRIPE", "CREDENTIAL_ON_FILE", "CHIP"]),
        "is_card_present": True,
        "latitude": choose.uniform(-60, 60),
        "longitude": choose.uniform(-179, 179),
        "amount_minor": choose.randint(1, 9_000),
        "event_hour": at.hour,
        "event_weekday": at.isoweekday(),
    }


def test_a_window_of_an_hour_is_right_between_batches(
    home: Any, fill: Fill, publish_all: Publish
) -> None:
    """Two purchases half an hour apart: each leaves the window to the microsecond, though the store
    was last filled before."""
    log = " ".join(f"{_us(START + minutes * 60 * SECOND)}:100:A" for minutes in (0, 30))
    fill(
        card_recent_features=[
            {
                "card_id": "c1",
                "recent_authorizations": log,
                "event_timestamp": START + 1800 * SECOND,
                "created_timestamp": START + 1800 * SECOND,
            }
        ]
    )
    publish_all()
    clock = START + 1800 * SECOND
    materialize(end=clock)
    tick = timedelta(microseconds=1)
    asked = {
        START + 3600 * SECOND: 2,
        START + 3600 * SECOND + tick: 1,
        START + 5400 * SECOND: 1,
        START + 5400 * SECOND + tick: 0,
        clock: 1,
    }
    rows = [{"card_id": "c1", "event_at": at.isoformat()} for at in asked]
    found = online(SERVICE, rows)
    assert [row["card_count_1h"] for row in found] == list(asked.values())
    assert [row["age_s"] for row in found] == [(at - clock) / SECOND for at in asked]


def _us(at: datetime) -> int:
    return (at - datetime(1970, 1, 1)) // timedelta(microseconds=1)
