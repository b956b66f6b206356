"""Card age, changes of limit and contact, and redemptions before an authorization: hand-worked."""

from datetime import datetime, timedelta
from typing import Any

import duckdb
import pytest

from benchmarks.rendered import rendered
from pipelines.features.registry import load_definitions
from pipelines.features.requests import on_demand, time_text

ISSUED = datetime(2024, 1, 1)
ACTIVATED = datetime(2024, 1, 4, 12)
RAISED = datetime(2024, 3, 1)
MOVED = datetime(2024, 2, 1)
USURPED = datetime(2024, 3, 5, 8)
REDEEMED = datetime(2024, 3, 10, 9)


@pytest.fixture(scope="module")
def state() -> Any:
    """The features at a time, by what was known then; None where nothing was."""
    con = duckdb.connect()
    con.execute(
        """
        create table dim_cards as
        select * from (values
            ('c', ?::timestamp, ?::timestamp, null::timestamp),
            ('c', ?::timestamp + interval 1 hour, ?::timestamp, ?::timestamp)
        ) as rows(card_id, valid_from, issued_at, activated_at)
        """,
        [ISSUED, ISSUED, ACTIVATED, ISSUED, ACTIVATED],
    )
    con.execute(
        """
        create table dim_accounts as
        select *, lead(valid_from) over (order by valid_from) as valid_to
        from (values
            ('a', 'k', 200000::bigint, ?::timestamp, ?::timestamp),
            ('a', 'k', 200000, ?::timestamp + interval 20 day, ?::timestamp + interval 20 day),
            ('a', 'k', 500000, ?::timestamp, ?::timestamp + interval 1 day)
        ) as rows(account_id, customer_id, credit_limit_minor, updated_at, valid_from)
        """,
        [ISSUED, ISSUED, ISSUED, ISSUED, RAISED, RAISED],
    )
    con.execute(
        """
        create table dim_customers as
        select
            'k' as customer_id, 'NY' as state, *,
            lead(valid_from) over (order by valid_from) as valid_to
        from (values
            ('10001', null, 'e', 40.7::double, -74::double, ?::timestamp, ?::timestamp),
            ('10001', 'p', 'e', 40.7, -74, ?::timestamp, ?::timestamp + interval 5 day),
            ('10099', 'p', 'e', 40.8, -74, ?::timestamp, ?::timestamp + interval 6 day),
            -- Taken away first, another one given after; dated ahead.
            ('10099', null, 'e', 40.8, -74, ?::timestamp, ?::timestamp - interval 1 hour),
            ('10099', 'q', 'f', 40.8, -74, ?::timestamp + interval 9 hour,
                ?::timestamp + interval 2 hour),
            -- Of the same time: a correction.
            ('10099', 'q', 'g', 40.8, -74, ?::timestamp + interval 9 hour,
                ?::timestamp + interval 9 day)
        ) as rows(
            postal_code, phone_hash, email_hash, latitude, longitude, updated_at, valid_from
        )
        """,
        [*[ISSUED] * 4, MOVED, MOVED, USURPED - timedelta(hours=1), *[USURPED] * 5],
    )
    con.execute(
        """
        create table stg_landing__reward_events as
        select
            id as reward_event_id, 'a' as account_id, kind, points, event_at,
            event_at + interval 5 minute as received_at, date '2024-03-10' as batch_date,
            'f' as file_id, line_no, id || line_no as record_hash
        from (values
            ('r1', 'REDEEM', 5000::bigint, ?::timestamp, 1),
            ('r2', 'TRANSFER', 700, ?::timestamp + interval 1 hour, 2),
            -- Corrected later: what was told first counts.
            ('r2', 'TRANSFER', 900, ?::timestamp + interval 1 hour + interval 1 second, 3),
            ('r3', 'ACTIVATE', null, ?::timestamp, 4),
            ('r4', 'REDEEM', 40, ?::timestamp - interval 5 day, 5)
        ) as rows(id, kind, points, event_at, line_no)
        """,
        [REDEEMED] * 5,
    )
    views = (
        "card_state_features",
        "account_contact_features",
        "account_limit_features",
        "account_redemption_features",
    )
    tables = {view: con.execute(rendered(view)).pl().to_dicts() for view in views}
    (view,) = (v for v in load_definitions().objects if v.name == "authorization_account_state")
    function = on_demand(view)

    def at(moment: datetime) -> dict[str, Any]:
        stored: dict[str, Any] = {}
        for rows in tables.values():
            known = [row for row in rows if row["event_timestamp"] <= moment]
            stored |= max(known, key=lambda row: row["event_timestamp"], default={})
        given = {name: [stored.get(name)] for name in function.inputs}
        answer = function.function(given | {"event_at": [time_text(moment)]})
        return {name: values[0] for name, values in answer.items()}

    return at


def test_a_card_is_as_old_as_it_was_known_to_be(state: Any) -> None:
    assert state(ISSUED + timedelta(days=3))["days_since_issued"] == 3
    assert state(ACTIVATED + timedelta(minutes=30))["days_since_activated"] is None
    assert state(ACTIVATED + timedelta(days=2))["days_since_activated"] == 2


def test_contact_changes_when_it_was_known_to(state: Any) -> None:
    # A telephone number that was not known before has not changed.
    first = state(ISSUED + timedelta(days=8))
    assert first["days_since_address_change"] is first["days_since_phone_change"] is None
    assert first["is_contact_changed_24h"] is False
    assert state(MOVED + timedelta(days=5))["days_since_address_change"] is None
    moved = state(MOVED + timedelta(days=7))
    assert moved["days_since_address_change"] == 7
    assert moved["days_since_phone_change"] is moved["days_since_email_change"] is None
    # The new number is known, and is dated ahead: it counts from when it was known.
    known_at = USURPED + timedelta(hours=2)
    assert state(known_at - timedelta(minutes=1))["is_contact_changed_24h"] is False
    usurped = state(known_at + timedelta(hours=24))
    assert (usurped["days_since_phone_change"], usurped["days_since_email_change"]) == (1, 1)
    assert usurped["is_contact_changed_24h"] is True
    assert usurped["days_since_address_change"] == (known_at - MOVED) / timedelta(days=1) + 1
    assert state(known_at + timedelta(hours=25))["is_contact_changed_24h"] is False
    # A correction is no change.
    assert state(known_at + timedelta(days=10))["days_since_email_change"] == 10


def test_a_limit_changes_when_it_was_known_to(state: Any) -> None:
    before = state(RAISED + timedelta(hours=23))
    assert before["days_since_limit_change"] is before["limit_change_ratio"] is None
    after = state(RAISED + timedelta(days=2))
    assert (after["days_since_limit_change"], after["limit_change_ratio"]) == (2, 2.5)


def test_a_burst_of_redemptions_is_counted_once_it_was_heard_of(state: Any) -> None:
    def told(moment: datetime) -> list[int]:
        found = state(moment)
        return [
            found[f"redeemed_{n}"] for n in ("count_24h", "points_24h", "count_7d", "points_7d")
        ]

    assert told(REDEEMED + timedelta(minutes=4)) == [0, 0, 1, 40]
    assert told(REDEEMED + timedelta(minutes=5)) == [1, 5_000, 2, 5_040]
    assert told(REDEEMED + timedelta(hours=2)) == [2, 5_700, 3, 5_740]
    assert told(REDEEMED + timedelta(hours=24, minutes=30)) == [1, 700, 3, 5_740]
    assert told(REDEEMED + timedelta(days=9)) == [0, 0, 0, 0]


def test_who_is_not_known_has_nulls_and_who_never_redeemed_none(state: Any) -> None:
    assert set(state(ISSUED - timedelta(days=1)).values()) == {None}
    assert state(ISSUED + timedelta(days=1))["redeemed_count_7d"] == 0
