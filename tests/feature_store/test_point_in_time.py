"""What a row may see: what had happened and was known at its time, in whatever order rows come."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import polars as pl
import pytest

from pipelines.errors import CardlineError
from pipelines.features.registry import feature_store
from pipelines.features.retrieval import feature_names, feature_vector, historical
from pipelines.settings import PROJECT_DIR
from tests.feature_store.tables import DAY, START, Fill

CARD = "card_velocity_features"
FEATURE = "authorization_count_1d"


def card_row(card: str, event: datetime, created: datetime, value: int | None) -> dict[str, Any]:
    return {
        "card_id": card,
        "event_timestamp": event,
        "created_timestamp": created,
        FEATURE: value,
    }


def values_of(*asked: tuple[str, datetime]) -> list[int | None]:
    entities = pl.DataFrame(list(asked), schema=["card_id", "event_timestamp"], orient="row")
    return historical("fraud_authorization_v1", entities)[FEATURE].to_list()


def test_a_correction_is_not_seen_before_it_was_known(fill: Fill, publish_all: Any) -> None:
    """Day 1 said 10 and was corrected to 77 on day 20: on day 2 the answer is 10."""
    fill(
        card_velocity_features=[
            card_row("c1", START, START, 10),
            card_row("c1", START, START + 20 * DAY, 77),
            card_row("c2", START, START, 5),
            card_row("c2", START + DAY, START + 30 * DAY, 6),
        ]
    )
    publish_all()
    days = [("c1", 2), ("c1", 20), ("c1", 19), ("c2", 29), ("c2", 30)]
    assert values_of(*((c, START + day * DAY) for c, day in days)) == [10, 77, 10, 5, 6]


def test_a_late_row_about_an_older_day_does_not_replace_a_newer_one(
    fill: Fill, publish_all: Any
) -> None:
    fill(
        card_velocity_features=[
            card_row("c1", START + 5 * DAY, START + 5 * DAY, 5),
            card_row("c1", START + 1 * DAY, START + 9 * DAY, 1),
        ]
    )
    publish_all()
    assert values_of(("c1", START + 10 * DAY)) == [5]


def test_rows_keep_their_order_their_number_and_their_columns(fill: Fill, publish_all: Any) -> None:
    fill(card_velocity_features=[card_row(f"c{i}", START, START, i) for i in range(50)])
    publish_all()
    cards = [f"c{i % 50}" for i in random.Random(1).sample(range(200), 200)]
    entities = pl.DataFrame(
        {
            "label": list(range(200)),
            "card_id": cards,
            "event_timestamp": [START + DAY] * 200,
            "account_id": [None] * 200,
        }
    )
    found = historical("fraud_authorization_v1", entities)
    assert found.select(entities.columns).equals(entities)
    assert found[FEATURE].to_list() == [int(card[1:]) for card in cards]
    assert found.columns == [*entities.columns, *feature_names("fraud_authorization_v1")]


def test_missing_keys_requests_and_empty_tables_give_typed_nulls(
    fill: Fill, publish_all: Any
) -> None:
    fill()
    publish_all()
    found = historical(
        "underwriting_v1",
        pl.DataFrame({"event_timestamp": [START, START], "customer_id": ["u1", None]}),
    )
    assert found.height == 2
    assert found["app_dti"].to_list() == [None, None]
    assert found["bur_trades_n"].to_list() == [None, None]
    assert found.schema["bur_trades_n"] == pl.Int64
    assert found.schema["bur_util_rev"] == pl.Float64
    assert found.schema["bur_file_hit"] == pl.Boolean
    nothing = historical("underwriting_v1", found.select("event_timestamp").clear())
    assert nothing.schema["app_dti"] == pl.Float64


def test_on_demand_features_use_what_was_known_and_what_is_asked(
    fill: Fill, publish_all: Any
) -> None:
    account = {
        "account_id": "a1",
        "event_timestamp": START,
        "created_timestamp": START,
        "amount_count_30d": 6,
        "amount_mean_30d_minor": 1000.0,
        "amount_stddev_30d_minor": 500.0,
        "amount_max_30d_minor": 2000,
    }
    few = {**account, "account_id": "a2", "amount_count_30d": 4}
    fill(account_amount_features=[account, few])
    publish_all()
    found = historical(
        "fraud_authorization_v1",
        pl.DataFrame(
            {
                "account_id": ["a1", "a1", "a2", "a1"],
                "event_timestamp": [START, START - DAY, START, START],
                "amount_minor": [3000, 3000, 3000, None],
                "event_hour": [5, 6, None, 0],
                "event_weekday": [6, 5, 7, None],
            }
        ),
    )
    assert found["amount_zscore_now"].to_list() == [4.0, None, None, None]
    assert found["amount_to_max_30d"].to_list() == [1.5, None, 1.5, None]
    assert found["is_night"].to_list() == [True, False, None, True]
    assert found["is_weekend"].to_list() == [True, False, True, None]


def test_affordability(fill: Fill, publish_all: Any) -> None:
    row = {"pull_id": "p1", "event_timestamp": START, "created_timestamp": START}
    fill(pull_bureau_features=[{**row, "bur_monthly_debt_minor": 50_000}])
    publish_all()
    asked = {
        "pull_id": "p1",
        "stated_income_minor": "6000000",
        "housing_payment_minor": "100000",
        "requested_limit_minor": "1200000",
    }
    vector = feature_vector("underwriting_v1", asked, at=START)
    assert vector["features"]["app_dti"] == pytest.approx(150_000 / 500_000)
    assert vector["features"]["app_line_to_income"] == pytest.approx(0.2)
    assert vector["features"]["app_residual_income_minor"] == pytest.approx(350_000)
    assert vector["statuses"]["app_dti"] == "PRESENT"
    assert vector["statuses"]["bur_util_rev"] == "NULL"


def test_equals_brute_force_and_stock_feast(fill: Fill, publish_all: Any) -> None:
    """Rows about any day, known at any time, with ties: every cell equals a full scan's."""
    choose = random.Random(7)
    rows, seen = [], set()
    for value in range(1500):
        event = START + timedelta(hours=choose.randint(0, 30) * 12)
        created = START + timedelta(hours=choose.randint(0, 40) * 12)
        card = f"c{choose.randint(0, 12)}"
        if (card, event, created) not in seen:
            seen.add((card, event, created))
            rows.append(card_row(card, event, created, value if value % 9 else None))
    fill(card_velocity_features=rows)
    publish_all()
    entities = pl.DataFrame(
        {
            "card_id": [f"c{choose.randint(0, 14)}" for _ in range(400)],
            "event_timestamp": [
                START + timedelta(hours=choose.randint(-10, 500)) for _ in range(400)
            ],
        },
        schema_overrides={"event_timestamp": pl.Datetime("us")},
    )

    def expected(card: str, at: datetime) -> int | None:
        visible = [
            row
            for row in rows
            if row["card_id"] == card
            and row["event_timestamp"] <= at
            and row["created_timestamp"] <= at
        ]
        latest = max(
            visible, key=lambda r: (r["event_timestamp"], r["created_timestamp"]), default=None
        )
        return None if latest is None else latest[FEATURE]

    brute = [expected(card, at) for card, at in entities.iter_rows()]
    assert historical("fraud_authorization_v1", entities)[FEATURE].to_list() == brute

    from feast.infra.offline_stores.duckdb import DuckDBOfflineStore

    store = feature_store()
    frame = entities.with_row_index("row_no").to_pandas()
    frame["event_timestamp"] = frame["event_timestamp"].dt.tz_localize("UTC")
    stock = DuckDBOfflineStore.get_historical_features(
        store.config, [store.get_feature_view(CARD)], [f"{CARD}:{FEATURE}"], frame,
        store.registry, store.project, filter_by_created_timestamp=True,
    )  # fmt: skip
    assert pl.from_arrow(stock.to_arrow()).sort("row_no")[FEATURE].to_list() == brute


def test_files_that_are_replaced_while_they_are_read_are_read_again(
    fill: Fill, publish_all: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.features import offline_store

    fill(card_velocity_features=[card_row("c1", START, START, 7)])
    publish_all()
    files = offline_store._files

    def changed_by(numbers: Iterator[int]) -> None:
        monkeypatch.setattr(
            offline_store,
            "_files",
            lambda path: {file: (next(numbers, 0), 0) for file in files(path)},
        )

    feature_store()
    changed_by(iter([1, 2]))
    assert values_of(("c1", START + DAY)) == [7]
    changed_by(count())
    with pytest.raises(CardlineError, match="being published"):
        values_of(("c1", START + DAY))


def test_rows_known_later_do_not_matter(fill: Fill, publish_all: Any) -> None:
    """Deleting what became known after t changes no value at t."""
    choose = random.Random(3)
    rows = [
        card_row(f"c{i % 5}", START + choose.randint(0, 20) * DAY, START + i * DAY / 8, i)
        for i in range(200)
    ]
    at = START + 12 * DAY
    fill(card_velocity_features=rows)
    publish_all()
    asked = [(f"c{i}", at) for i in range(5)]
    before = values_of(*asked)
    fill(card_velocity_features=[row for row in rows if row["created_timestamp"] <= at])
    publish_all()
    assert values_of(*asked) == before


@pytest.mark.parametrize("store_type", ["duckdb", "asof"])
def test_a_ttl_expires_rows(tmp_path: Any, home: Any, store_type: str) -> None:
    """Newer sqlglot releases make this query fail: the bound in pyproject.toml is for this."""
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.data_format import ParquetFormat
    from feast.types import Int64, String

    folder = tmp_path / "source" / "event_date=2024-03-01"
    folder.mkdir(parents=True)
    pl.DataFrame(
        {"k_id": ["a"], "v": [1], "event_timestamp": [START], "created_timestamp": [START]}
    ).write_parquet(folder / "part-0.parquet")
    kinds = {
        "duckdb": "duckdb",
        "asof": "pipelines.features.offline_store.AsofDuckDBOfflineStore",
    }
    store = FeatureStore(
        config=RepoConfig(
            project="ttl",
            provider="local",
            registry=str(tmp_path / "registry.db"),
            offline_store={"type": kinds[store_type]},
            online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
            entity_key_serialization_version=3,
        )
    )
    key = Entity(name="k", join_keys=["k_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name="with_ttl",
        entities=[key],
        ttl=timedelta(days=3),
        schema=[Field(name="k_id", dtype=String), Field(name="v", dtype=Int64)],
        source=FileSource(
            name="source",
            path=str(tmp_path / "source" / "*" / "*.parquet"),
            file_format=ParquetFormat(),
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        ),
    )
    store.apply([key, view])
    times = [START, START + 3 * DAY, START + 3 * DAY + timedelta(seconds=1), START - DAY]
    entities = pl.DataFrame({"k_id": ["a"] * 4, "event_timestamp": times}).to_pandas()
    found = store.get_historical_features(
        entities, ["with_ttl:v"], filter_by_created_timestamp=True
    ).to_arrow()
    rows = sorted(zip(found["event_timestamp"].to_pylist(), found["v"].to_pylist(), strict=True))
    assert [value for _, value in rows] == [None, 1, 1, None]


_SEED_SCRIPT = """
import sys
from datetime import datetime
import polars as pl
from pipelines.features.retrieval import historical
at = datetime(2024, 3, 2)
entities = pl.DataFrame({
    "card_id": ["1", "11", "1"], "merchant_id": ["12", "2", "2"], "account_id": ["11", "1", "2"],
    "event_timestamp": [at] * 3,
})
found = historical("fraud_authorization_v1", entities)
print(found.select(
    "authorization_count_1d", "transaction_count_1d", "amount_count_30d"
).rows())
"""


def test_keys_that_read_alike_do_not_mix_under_any_hash_seed(
    fill: Fill, publish_all: Any, home: Any
) -> None:
    """Keys whose concatenations are equal, several hash seeds, and a machine not on UTC."""
    times = {"event_timestamp": START, "created_timestamp": START}
    fill(
        card_velocity_features=[
            {"card_id": key, FEATURE: value, **times} for key, value in (("1", 100), ("11", 999))
        ],
        merchant_risk_features=[
            {"merchant_id": key, "transaction_count_1d": value, **times}
            for key, value in (("12", 12), ("2", 2))
        ],
        account_amount_features=[
            {"account_id": key, "amount_count_30d": value, **times}
            for key, value in (("1", 1), ("11", 11))
        ],
    )
    publish_all()
    feature_store()  # Applied once, so that the processes only read.
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _SEED_SCRIPT],
            cwd=PROJECT_DIR,
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "POLARS_MAX_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed, zone in (("1", "America/New_York"), ("4", "Asia/Kolkata"))
    ]
    answers = [run.communicate(timeout=300)[0].strip() for run in runs]
    assert answers == ["[(100, 12, 11), (999, 2, 1), (100, 2, None)]"] * 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"card_id": ["c1"]}, "event_timestamp"),
        ({"event_timestamp": ["2024-01-01"]}, "not a timestamp"),
        ({"event_timestamp": [None]}, "not a timestamp"),
        ({"event_timestamp": [START], FEATURE: [1]}, FEATURE),
        ({"event_timestamp": [START], "amount_minor": ["much"]}, "amount_minor"),
        (
            {"event_timestamp": [START, START], "amount_minor": [None, -1]},
            "amount_minor is below zero",
        ),
    ],
)
def test_bad_entity_rows_are_refused_by_name(
    home: Any, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(CardlineError, match=message):
        historical("fraud_authorization_v1", pl.DataFrame(columns))


def test_unknown_services_and_inputs_and_unpublished_views_are_named(home: Any) -> None:
    with pytest.raises(CardlineError, match="account_behaviour_v1"):
        feature_names("nope")
    with pytest.raises(CardlineError, match="does not take colour"):
        feature_vector("underwriting_v1", {"colour": "red"})
    with pytest.raises(CardlineError, match="not been published"):
        feature_vector("underwriting_v1", {"pull_id": "p"}, at=START)
