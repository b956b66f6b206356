"""The dbt project on a made-up portfolio: in parts, at once, and against a recount by hand."""

import os
from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from math import sqrt
from pathlib import Path
from typing import Any

import pytest

from tests.dbt.lake_builds import Row, build, deliver, rows_of, tables
from tests.dbt.random_history import history, loads_of

SEED = int(os.environ.get("CARDLINE_TEST_SEED", "7"))
LAYERS = ("intermediate", "marts", "features", "risk")
WHOLE = ("--exclude", "path:models/finance")
DAILY = (*WHOLE, "path:models/staging", "config.materialized:view")


@pytest.fixture(scope="module")
def built(home: Path) -> dict[str, Any]:
    """The tables after three ingest commits, each worked through on its own."""
    rows = history(SEED)
    for number, load in enumerate(loads_of(rows, SEED)):
        load_no = deliver(load)
        build(*(DAILY if number else WHOLE), from_load_no=load_no - 1 if number else -1)
    return {"rows": rows, "tables": tables(*LAYERS)}


def test_parts_give_what_a_full_build_gives(built: dict[str, Any]) -> None:
    build(*DAILY, "--full-refresh")
    whole = tables(*LAYERS)
    del whole["intermediate.int_entities__touched"]
    differing = {
        name: (
            [row for row in built["tables"][name] if row not in expected][:3],
            [row for row in expected if row not in built["tables"][name]][:3],
        )
        for name, expected in whole.items()
        if built["tables"][name] != expected
    }
    assert not differing
    empty = {name.split(".")[1] for name, rows in whole.items() if not rows}
    assert empty <= {
        "dim_programs", "fct_credit_outcomes", "fct_disputes",
        "fct_partner_acknowledgements", "fct_settlement_details",
        "fct_settlement_totals",
    }  # fmt: skip


def test_data_tests_and_unit_tests_hold(built: dict[str, Any]) -> None:
    build("--exclude", "path:models/finance", "path:tests/finance", command="test")


def _day_end(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time(0))


def _versions_known(rows: list[Row], key: str, until: datetime) -> list[Row]:
    """The last version of each key among distinct contents received before `until`."""
    seen: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["received_at"]):
        content = {name: value for name, value in row.items() if name != "received_at"}
        contents = [
            {name: value for name, value in other.items() if name != "received_at"}
            for other in seen[row[key]]
        ]
        if row["received_at"] < until and content not in contents:
            seen[row[key]].append(row)
    return [versions[-1] for versions in seen.values() if versions]


def _standing(rows: list[Row], until: datetime) -> list[Row]:
    """What stands for each transaction, of what was known before `until`."""
    by_transaction: dict[str, list[Row]] = defaultdict(list)
    for row in _versions_known(rows, "event_id", until):
        if row["event_type"] in ("AUTHORIZATION", "CLEARING") and row["direction"] == "DEBIT":
            by_transaction[row["transaction_id"]].append(row)
    return [
        min(
            messages,
            key=lambda row: (row["event_type"] == "CLEARING", row["event_at"], row["event_id"]),
        )
        for messages in by_transaction.values()
    ]


def _within(rows: list[Row], day: date, days: int) -> list[Row]:
    return [row for row in rows if day - timedelta(days=days) < row["event_at"].date() <= day]


def _frauds(rows: dict[str, list[Row]], until: datetime) -> set[str]:
    """Transactions held to be third-party fraud by what was judged and had arrived by `until`."""
    latest: dict[str, Row] = {}
    for row in sorted(rows["fraud_labels"], key=lambda row: row["received_at"]):
        known = max(row["known_at"], row["received_at"]) < until
        held = latest.get(row["transaction_id"])
        if known and (held is None or row["known_at"] >= held["known_at"]):
            latest[row["transaction_id"]] = row
    return {
        transaction_id
        for transaction_id, row in latest.items()
        if row["label"] == "FRAUD" and row["fraud_type"] != "FIRST_PARTY"
    }


def _velocity(mine: list[Row], day: date, frauds: set[str]) -> Row:
    approved = [row for row in mine if row.get("auth_result") != "DECLINED"]
    declined = [row for row in mine if row.get("auth_result") == "DECLINED"]
    values: Row = {}
    for days in (1, 7, 30):
        amounts = [row["amount_minor"] for row in _within(approved, day, days)]
        values[f"authorization_count_{days}d"] = len(amounts)
        values[f"authorization_amount_{days}d_minor"] = sum(amounts)
    for days in (1, 7):
        values[f"declined_count_{days}d"] = len(_within(declined, day, days))
    values["authorization_amount_max_30d_minor"] = max(
        (row["amount_minor"] for row in _within(approved, day, 30)), default=None
    )
    return values


def _amounts(mine: list[Row], day: date, frauds: set[str]) -> Row:
    approved = [row for row in mine if row.get("auth_result") != "DECLINED"]
    values: Row = {}
    for days in (30, 90):
        amounts = [row["amount_minor"] for row in _within(approved, day, days)]
        count, mean = len(amounts), sum(amounts) / len(amounts) if amounts else None
        values[f"amount_count_{days}d"] = count
        values[f"amount_mean_{days}d_minor"] = mean
        values[f"amount_stddev_{days}d_minor"] = (
            sqrt(sum((amount - mean) ** 2 for amount in amounts) / (count - 1))
            if mean is not None and count > 1
            else None
        )
    values["amount_max_30d_minor"] = max(
        (row["amount_minor"] for row in _within(approved, day, 30)), default=None
    )
    return values


def _risk(mine: list[Row], day: date, frauds: set[str]) -> Row:
    approved = [row for row in mine if row.get("auth_result") != "DECLINED"]
    values: Row = {}
    for days in (1, 7, 30, 90):
        window = _within(approved, day, days)
        values[f"transaction_count_{days}d"] = len(window)
        if days > 1:
            values[f"fraud_count_{days}d"] = sum(row["transaction_id"] in frauds for row in window)
    for days in (30, 90):
        positives, count = values[f"fraud_count_{days}d"], values[f"transaction_count_{days}d"]
        values[f"fraud_rate_{days}d"] = (positives + 20 * 0.005) / (count + 20)
    return values


@pytest.mark.parametrize(
    ("table", "key", "reference"),
    [
        ("card_velocity_features", "card_id", _velocity),
        ("account_amount_features", "account_id", _amounts),
        ("merchant_risk_features", "merchant_id", _risk),
    ],
)
def test_daily_windows_are_what_was_known_at_the_end_of_each_day(
    built: dict[str, Any], table: str, key: str, reference: Callable[..., Row]
) -> None:
    """On every day, the latest row up to its end equals a recount of what had arrived by then."""
    rows = built["rows"]
    served: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows_of(f"features.{table}"), key=lambda row: row["event_timestamp"]):
        assert row["created_timestamp"] == row["event_timestamp"]
        served[row[key]].append(row)
    first = min(row["event_at"] for row in rows["transactions"]).date()
    last = max(row["received_at"] for row in rows["transactions"]).date() + timedelta(days=95)
    compared = 0
    for number in range((last - first).days):
        day = first + timedelta(days=number)
        frauds = _frauds(rows, _day_end(day))
        mine: dict[str, list[Row]] = defaultdict(list)
        for row in _standing(rows["transactions"], _day_end(day)):
            mine[row[key]].append(row)
        for entity in set(served) | {entity for entity in mine if entity is not None}:
            known = [row for row in served[entity] if row["event_timestamp"] <= _day_end(day)]
            expected = reference(mine[entity], day, frauds)
            if not known:
                assert not any(value for name, value in expected.items() if "rate" not in name)
                continue
            for name, value in expected.items():
                found = known[-1][name]
                assert found == (
                    value if value is None else pytest.approx(value, rel=1e-9, abs=1e-6)
                ), (
                    entity,
                    day,
                    name,
                )
            compared += 1
    assert compared > 1_000


def test_a_row_says_what_was_known_when_it_was_made(built: dict[str, Any]) -> None:
    """Applications of a customer are counted from the instant at which they are known."""
    rows = built["rows"]["applications"]
    for row in rows_of("features.customer_application_features"):
        at = row["event_timestamp"]
        known = [
            version
            for version in _versions_known(rows, "application_id", at + timedelta(microseconds=1))
            if version["customer_id"] == row["customer_id"] and version["submitted_at"] <= at
        ]
        recent = [
            version for version in known if version["submitted_at"] > at - timedelta(days=365)
        ]
        assert row["app_count_365d"] == len(recent)
        assert row["app_declined_count_365d"] == sum(
            version["decision"] == "DECLINED" for version in recent
        )


def test_an_application_tells_where_it_came_from(built: dict[str, Any]) -> None:
    """Others from its device, address and person are counted as known when it was first told of."""
    first: dict[str, Row] = {}
    for row in sorted(built["rows"]["applications"], key=lambda row: row["received_at"]):
        first.setdefault(row["application_id"], row)
    pulled: dict[str, datetime] = {}
    for row in built["rows"]["bureau_pulls"]:
        at = pulled.setdefault(row["application_id"], row["received_at"])
        pulled[row["application_id"]] = min(at, row["received_at"])
    found = rows_of("features.pull_application_features")
    assert len(found) == len(pulled)
    greatest = {"device": 0, "ip": 0, "person": 0, "age": 0}
    for row in found:
        mine = first["x" + row["pull_id"].removeprefix("b")]
        at = max(mine["received_at"], mine["submitted_at"], pulled[mine["application_id"]])
        assert row["event_timestamp"] == row["created_timestamp"] == at
        for source, column in (
            ("device", "device_id"),
            ("ip", "ip_hash"),
            ("person", "person_id"),
        ):
            same = [o for o in first.values() if o[column] == mine[column] is not None]
            recent = [
                o
                for o in same
                if timedelta(0) <= mine["submitted_at"] - o["submitted_at"] < timedelta(hours=24)
                and o["received_at"] <= at
            ]
            assert row[f"app_apps_24h_by_{source}"] == (len(recent) or None)
            greatest[source] = max(greatest[source], len(recent))
            if source == "device":
                days = [
                    (mine["submitted_at"] - o["submitted_at"]).days
                    for o in same
                    if o["received_at"] <= mine["received_at"]
                ]
                assert row["app_device_age_d"] == max(days, default=None)
                greatest["age"] = max(greatest["age"], *days, 0)
    assert greatest["device"] > 1
    assert greatest["ip"] > 1
    assert greatest["age"] > 1


def test_a_view_whose_text_is_unchanged_is_left_as_it_is(built: dict[str, Any]) -> None:
    views = ("--select", "config.materialized:view,path:models/staging")
    latest = "(select max(snapshot_id) as latest from ducklake_snapshots('lake'))"
    build(*views)
    before = rows_of(latest)
    build(*views)
    assert rows_of(latest) == before
