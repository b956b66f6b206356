"""The online stores: the latest known row, never an older one, equal to point-in-time."""

import math
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pytest

from pipelines.errors import CardlineError
from pipelines.features.encoding import (
    Layout,
    LayoutChanged,
    OnlineRows,
    encode_keys,
    version,
)
from pipelines.features.filled import is_filled
from pipelines.features.materialize import materialize, materialized_through
from pipelines.features.parity import parity
from pipelines.features.registry import apply, feature_store, load_definitions
from pipelines.features.requests import made_key
from pipelines.features.retrieval import POLARS_TYPES, feature_vector, online
from tests.feature_store.tables import DAY, START, Fill, Publish, insert

CARD = "card_velocity_features"
SERVICE = "fraud_authorization_v1"
START_US = 1_709_251_200_000_000
DAY_US = 86_400_000_000
FEATURE = "authorization_count_1d"


def card_row(card: str, event: datetime, created: datetime, value: int | None) -> dict[str, Any]:
    return {
        "card_id": card,
        "event_timestamp": event,
        "created_timestamp": created,
        FEATURE: value,
    }


def value_of(card: str) -> Any:
    return online(SERVICE, [{"card_id": card}])[0][FEATURE]


def push(card: str, event: datetime, created: datetime, value: int) -> None:
    """As a client of Feast would write, past our own materialisation."""
    row = card_row(card, event, created, value)
    others = dict.fromkeys(load_definitions().views[CARD].features, 0)
    frame = pd.DataFrame([{**others, **row}])
    feature_store().write_to_online_store(CARD, frame)


def test_a_store_is_filled_until_it_loses_its_rows_or_misses_a_publication(
    online_store: str, fill: Fill, publish_all: Publish
) -> None:
    apply()
    views = list(load_definitions().views)
    assert not is_filled(views)
    fill()
    publish_all()
    materialize(end=START + 40 * DAY)
    assert is_filled(views)
    assert is_filled(views, START + 40 * DAY)
    assert not is_filled(views, START + 41 * DAY)
    # As where another store was served from when this was published.
    fill(**{CARD: [card_row("c1", START, START, 1)]})
    publish_all()
    assert not is_filled(views)
    materialize(end=START + 40 * DAY)
    assert is_filled(views)
    store = feature_store()
    guarded: Any = store._get_provider().online_store
    for view in load_definitions().views:
        guarded.clear(store.config, store.get_feature_view(view))
    assert not is_filled(views)


def test_an_older_event_never_replaces_a_newer_one(online_store: str) -> None:
    push("c1", START + 10 * DAY, START + 10 * DAY, 500)
    push("c1", START + 4 * DAY, START + 11 * DAY, -1)
    assert value_of("c1") == 500
    push("c1", START + 10 * DAY, START + 12 * DAY, 501)  # A correction of the same day.
    assert value_of("c1") == 501
    push("c1", START + 10 * DAY, START + 10 * DAY, 500)
    assert value_of("c1") == 501
    push("c1", START + 10 * DAY + timedelta(microseconds=1), START + 10 * DAY, 502)
    assert value_of("c1") == 502
    push("c1", START + 10 * DAY, START + 30 * DAY, 7)
    assert value_of("c1") == 502


def test_times_before_1970_are_in_order(online_store: str) -> None:
    early = datetime(1969, 1, 1)
    push("c1", early, early, 1)
    push("c1", early - DAY, early, 2)
    assert value_of("c1") == 1
    push("c1", datetime(1970, 1, 2), datetime(1970, 1, 2), 3)
    assert value_of("c1") == 3


def test_one_batch_with_several_rows_of_a_key_keeps_the_latest(online_store: str) -> None:
    others = dict.fromkeys(load_definitions().views[CARD].features, 0)
    rows = [{**others, **card_row("c1", START + d * DAY, START + d * DAY, d)} for d in (2, 9, 5)]
    feature_store().write_to_online_store(CARD, pd.DataFrame(rows))
    assert value_of("c1") == 9


def test_windows_in_any_order_end_the_same(
    online_store: str, fill: Fill, publish_all: Publish
) -> None:
    fill(
        card_velocity_features=[
            card_row("c1", START + day * DAY, START + day * DAY, day) for day in range(10)
        ]
    )
    publish_all()
    materialize(START, START + 6 * DAY, views=[CARD])
    assert value_of("c1") == 6
    materialize(START + 6 * DAY, START + 9 * DAY, views=[CARD])
    assert value_of("c1") == 9
    materialize(START, START + 2 * DAY, views=[CARD])
    assert value_of("c1") == 9
    assert materialized_through(CARD) == START + 9 * DAY


def test_what_is_not_yet_known_is_not_served(
    online_store: str, fill: Fill, publish_all: Publish
) -> None:
    fill(
        card_velocity_features=[
            card_row("c1", START, START, 1),
            card_row("c1", START + DAY, START + 20 * DAY, 2),
        ]
    )
    publish_all()
    materialize(end=START + 10 * DAY, views=[CARD])
    assert value_of("c1") == 1
    materialize(end=START + 20 * DAY, views=[CARD])
    assert value_of("c1") == 2


def test_a_row_published_long_after_its_time_still_arrives(
    online_store: str, lake: duckdb.DuckDBPyConnection, fill: Fill, publish_all: Publish
) -> None:
    """Far older than any overlap: the day was published anew, so it is looked at."""
    fill(card_velocity_features=[card_row("c1", START + 300 * DAY, START + 300 * DAY, 300)])
    publish_all()
    materialize(end=START + 301 * DAY, views=[CARD])
    insert(lake, CARD, [card_row("c2", START, START, 2), card_row("c1", START, START, 1)])
    publish_all()
    (outcome,) = materialize(end=START + 302 * DAY, views=[CARD])
    assert outcome.rows == 2
    assert (value_of("c1"), value_of("c2")) == (300, 2)
    (again,) = materialize(end=START + 302 * DAY, views=[CARD])
    assert again.rows <= 1


def test_rows_that_were_taken_back_do_not_stay_online(
    online_store: str, lake: duckdb.DuckDBPyConnection, fill: Fill, publish_all: Publish
) -> None:
    """A late delivery can make a row disappear; what is left is older and still wins."""
    rows = [card_row(card, START + d * DAY, START + d * DAY, d) for card in "abc" for d in (1, 5)]
    fill(card_velocity_features=[*rows, card_row("d", START, START, 4)])
    publish_all()
    materialize(end=START + 9 * DAY)
    lake.execute(
        f"delete from features.{CARD} where card_id = 'd' or (card_id in ('a', 'b') "
        "and event_timestamp = ?)",
        [START + 5 * DAY],
    )
    insert(lake, CARD, [card_row("b", START + 3 * DAY, START + 3 * DAY, 3)])
    publish_all()
    materialize(end=START + 9 * DAY)
    assert [value_of(card) for card in "abcd"] == [1, 3, 5, None]
    assert parity(services=[SERVICE]).is_empty()


def test_a_full_run_forgets_what_is_gone(
    online_store: str, lake: duckdb.DuckDBPyConnection, fill: Fill, publish_all: Publish
) -> None:
    fill(card_velocity_features=[card_row(card, START, START, 1) for card in ("c1", "c2")])
    publish_all()
    materialize(end=START + DAY, views=[CARD])
    lake.execute(f"delete from features.{CARD} where card_id = 'c2'")
    publish_all()
    materialize(end=START + DAY, views=[CARD], is_full=True)
    assert (value_of("c1"), value_of("c2")) == (1, None)


def random_tables(seed: int) -> dict[str, list[dict[str, Any]]]:
    """Rows for every view: all types, nulls, corrections and rows from after the day asked for."""
    choose = random.Random(seed)
    makers = {
        "INT64": lambda: choose.choice([0, -1, 1, 2**53 + 1, choose.randint(0, 10**6)]),
        "DOUBLE": lambda: choose.choice([0.0, -0.5, 1e300, choose.random()]),
        "STRING": lambda: choose.choice(["", "é", "x"]),
        "BOOL": lambda: choose.random() < 0.5,
        "recent_authorizations": lambda: " ".join(
            f"{START_US + choose.randint(0, 40 * DAY_US)}:{choose.randint(1, 9)}:{kind}"
            for kind in choose.choices("AaDd", k=choose.randint(0, 5))
        ),
        "recent_redemptions": lambda: " ".join(
            f"{START_US + choose.randint(0, 40 * DAY_US)}:{choose.randint(1, 9)}"
            for _ in range(choose.randint(0, 3))
        ),
        "recent_uses": lambda: " ".join(
            f"{START_US + at}:{choose.randint(1, 9)}{end}"
            for end, at in zip(
                ["", "", ":-"], sorted(choose.choices(range(40 * DAY_US), k=3)), strict=True
            )
        ),
        "bur_attributes": lambda: choose.choice(
            ['{"AT20S":12.0,"AT36S":"NO_DELINQUENCY"}', '{"RVLR01":0.5}']
        ),
        "last_place": lambda: f"{10**18 + START_US} {choose.uniform(-90, 90)} 7.25",
    }

    tables: dict[str, list[dict[str, Any]]] = {}
    for name, view in load_definitions().views.items():
        seen = set()
        tables[name] = []
        for _ in range(60):
            event = START + choose.randint(0, 30) * DAY
            created = event + choose.randint(0, 5) * DAY
            number = choose.randint(0, 9)
            parts = load_definitions().made_of.get(view.key, (view.key,))
            key = str(made_key([f"{part}-{number}" for part in parts]))
            if (key, event, created) in seen:
                continue
            seen.add((key, event, created))
            row: dict[str, Any] = {
                column: None if choose.random() < 0.25 else makers.get(what, makers[kind])()
                for column, kind in view.features.items()
                for what in [column[column.find("recent_") :] if "recent_" in column else column]
            }
            row |= {view.key: key, "event_timestamp": event, "created_timestamp": created}
            tables[name].append(row)
    return tables


def test_online_equals_offline_for_every_feature(
    online_store: str, fill: Fill, publish_all: Publish
) -> None:
    fill(**random_tables(11))
    publish_all()
    for day in (5, 12, 20):
        materialize(end=START + day * DAY)
        assert parity(20).rows() == []


def test_parity_names_what_differs(home: Path, fill: Fill, publish_all: Publish) -> None:
    fill(card_velocity_features=[card_row("c1", START, START, 1)])
    publish_all()
    with pytest.raises(CardlineError, match="not in the online store"):
        parity(services=[SERVICE])
    with pytest.raises(CardlineError, match="not in the online store"):
        feature_vector(SERVICE, {"card_id": "c1"})
    materialize(end=START + DAY)
    push("c1", START + 2 * DAY, START + 2 * DAY, 5)
    found = parity(services=[SERVICE]).filter(pl.col("feature") == FEATURE)
    assert found.select("online", "offline").rows() == [("int 5", "int 1")]


def test_vectors_say_what_was_found(home: Path, fill: Fill, publish_all: Publish) -> None:
    fill(card_velocity_features=[card_row("c1", START, START, None)])
    publish_all()
    materialize(end=START + DAY)
    vector = feature_vector(SERVICE, {"card_id": "c1", "merchant_id": "m?", "event_hour": "3"})
    assert vector["statuses"][FEATURE] == "NULL"
    assert vector["statuses"]["fraud_rate_30d"] == "NOT_FOUND"
    assert vector["features"]["is_night"] is True
    assert vector["event_timestamps"][FEATURE] == "2024-03-01T00:00:00Z"
    assert vector["event_timestamps"]["is_night"] is None
    assert online(SERVICE, []) == []


def test_several_rows_at_once_equal_one_at_a_time(
    home: Path, fill: Fill, publish_all: Publish
) -> None:
    fill(**random_tables(5))
    publish_all()
    materialize(end=START + 40 * DAY)
    rows: list[dict[str, Any]] = [
        {"account_id": f"account_id-{i}", "amount_minor": 100 * i, "event_hour": i}
        for i in range(8)
    ]
    rows.insert(3, {"merchant_id": "merchant_id-1"})
    rows = [row | {"event_at": (START + 40 * DAY).isoformat()} for row in rows]
    assert online(SERVICE, rows) == [online(SERVICE, [row])[0] for row in rows]


def test_keys_are_those_that_feast_writes(home: Path) -> None:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    keys = ["a", "", "ключ", "x" * 300]
    ours = encode_keys("card_id", pl.Series(keys))
    stock = [
        serialize_entity_key(EntityKey(join_keys=["card_id"], entity_values=[Value(string_val=k)]))
        for k in keys
    ]
    assert ours == stock


def test_packed_rows_hold_every_value() -> None:
    columns: dict[str, tuple[str, list[Any]]] = {
        "whole": ("INT64", [0, -1, 2**63 - 1, -(2**63), None, 7]),
        "real": ("DOUBLE", [0.0, -0.5, 1e300, float("inf"), None, 5e-324]),
        "name": ("STRING", ["", "é", "x" * 300, "\x00", None, "z"]),
        "flag": ("BOOL", [True, False, True, None, None, False]),
        "other": ("STRING", ["a", None, "", "b", None, "ключ"]),
        **{f"more_{i}": ("INT64", [i, None, i, None, i, i]) for i in range(9)},
    }
    layout = Layout({name: kind for name, (kind, _) in columns.items()})
    series = [pl.Series(n, values, POLARS_TYPES[kind]) for n, (kind, values) in columns.items()]
    rows = [list(row) for row in zip(*(values for _, values in columns.values()), strict=True)]
    versions = [version(i, i + 1) for i in range(len(rows))]
    packed = layout.pack_columns(versions, series)
    assert [list(layout.unpack(data)) for data in packed] == rows
    assert packed == [
        layout.pack(v, dict(zip(columns, row, strict=True)))
        for v, row in zip(versions, rows, strict=True)
    ]
    nan = layout.pack_columns(versions[:1], [s.head(1) if s.name != "real" else
                              pl.Series([float("nan")]) for s in series])  # fmt: skip
    assert math.isnan(layout.unpack(nan[0])[1])
    with pytest.raises(LayoutChanged, match="run `cardline run`"):
        Layout({"whole": "INT64"}).unpack(packed[0])


def test_rows_with_other_columns_are_no_answer(
    online_store: str, fill: Fill, publish_all: Publish
) -> None:
    """A view that gains a column is loaded anew; until then its old rows are not read."""
    fill(card_velocity_features=[card_row("c1", START, START, 1)])
    publish_all()
    materialize(end=START + DAY, views=[CARD])
    assert value_of("c1") == 1
    other = Layout({"a": "INT64"})
    table = feature_store().get_feature_view(CARD)
    rows = OnlineRows(
        encode_keys("card_id", ["c1"]), [other.pack(version(10**16, 10**16), {"a": 3})]
    )
    store: Any = feature_store()._get_provider().online_store
    store.write_rows(feature_store().config, table, rows, is_forced=True)
    with pytest.raises(CardlineError, match="other columns"):
        value_of("c1")
    materialize(end=START + DAY, views=[CARD], is_full=True)
    assert value_of("c1") == 1
