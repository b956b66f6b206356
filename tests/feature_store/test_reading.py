"""The server's read path against Feast's own: values, statuses and event times by feature."""

import asyncio
import json
import math
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from pipelines.features.materialize import materialize
from pipelines.features.parity import parity
from pipelines.features.registry import feature_store, load_definitions
from pipelines.features.requests import made_key
from pipelines.features.retrieval import service_definition, service_names
from pipelines.serving.server import create_app
from pipelines.settings import get_settings
from tests.feature_store.tables import DAY, START, Fill, Publish
from tests.feature_store.test_online import random_tables


def ask(body: dict[str, Any]) -> dict[str, Any]:
    from fastapi.testclient import TestClient

    with TestClient(create_app(), base_url="http://127.0.0.1") as client:
        answer = client.post("/get-online-features", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def by_name(answer: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))


def stock(body: dict[str, Any], online_store: str) -> dict[str, Any]:
    """What Feast makes of the same request with its own stores, filled by itself."""
    from feast.feature_server_utils import convert_response_to_dict

    store = _stock_store(get_settings().home / "stock", online_store)
    features: Any = body.get("features") or store.get_feature_service(body["feature_service"])
    response = store.get_online_features(
        features, body["entities"], full_feature_names=body.get("full_feature_names", False)
    )
    return json.loads(json.dumps(convert_response_to_dict(response.proto)))


@lru_cache(maxsize=1)
def _stock_store(folder: Path, online_store: str) -> Any:
    from feast import FeatureStore
    from feast.repo_config import RepoConfig

    folder.mkdir()
    kept: dict[str, Any] = {
        "sqlite": {"type": "sqlite", "path": str(folder / "online.db")},
        "redis": {"type": "redis", "connection_string": get_settings().redis_url},
    }
    config = RepoConfig(
        project="stock",
        provider="local",
        registry=str(folder / "registry.db"),
        entity_key_serialization_version=3,
        offline_store={"type": "duckdb"},
        online_store=kept[online_store],
    )
    store = FeatureStore(config=config)
    store.apply(list(load_definitions().objects))
    store.materialize(START - DAY, START + 60 * DAY)
    return store


def entities(service: str, size: int) -> dict[str, list[Any]]:
    taken = service_definition(service)
    columns: dict[str, list[Any]] = {
        key: [*(f"{key}-{i % 14}" for i in range(size)), "nobody", ""] for key in taken.keys
    }
    parts = {part for parts in taken.made_of.values() for part in parts}
    made = {
        part: [f"{part}-{i % 14}" for i in range(size + 2)]
        for part in sorted(parts & taken.request.keys())
    }
    moments = [(START + (20 + i % 30) * DAY).isoformat() for i in range(size + 2)]
    values: dict[str, list[Any]] = {
        "INT64": [None, 0, 3, 7, 23, 24, -1, 2**62, 12_345],
        "DOUBLE": [None, 0.0, -89.5, 1e300, 7.25],
        "BOOL": [True, None, False],
        "STRING": [None, "US", ""],
    }
    columns |= {
        name: [values[kind][(i + at) % len(values[kind])] for i in range(size + 2)]
        for at, (name, kind) in enumerate(taken.request.items())
    }
    # An amount below zero is refused.
    columns |= {
        name: [value if value is None else abs(value) for value in columns[name]]
        for name in taken.request
        if name.endswith("_minor")
    }
    columns |= made
    if taken.made_of:
        columns |= {"event_at": moments, "known_at": moments}
    return columns


def as_stock(body: dict[str, Any]) -> dict[str, Any]:
    """Feast wants the keys that ours makes."""
    made = service_definition(body["feature_service"]).made_of
    given = body["entities"]
    keys = {
        key: [made_key(row) or "" for row in zip(*(given[part] for part in parts), strict=True)]
        for key, parts in made.items()
    }
    return body | {"entities": given | keys}


def tables_that_floats_hold(seed: int) -> dict[str, list[dict[str, Any]]]:
    """Feast's own materialisation turns whole numbers beside a null into floats; ours does not."""
    return {
        name: [{k: 2**53 if v == 2**53 + 1 else v for k, v in row.items()} for row in rows]
        for name, rows in random_tables(seed).items()
    }


def same(ours: Any, theirs: Any, *, is_redis: bool) -> None:
    assert ours.keys() == theirs.keys()
    for name, column in theirs.items():
        assert ours[name]["values"] == column["values"], name
        assert ours[name]["event_timestamps"] == column["event_timestamps"], name
        if is_redis:
            # Feast's Redis calls a key that is not there PRESENT and null.
            pairs = zip(ours[name]["statuses"], column["values"], strict=True)
            assert all(status == "PRESENT" or value is None for status, value in pairs)
        else:
            assert ours[name]["statuses"] == column["statuses"], name


def test_every_feature_is_answered_as_feast_does(
    online_store: str, fill: Fill, publish_all: Publish
) -> None:
    fill(**tables_that_floats_hold(3))
    publish_all()
    materialize(end=START + 40 * DAY)
    is_redis = online_store == "redis"
    for service in service_names():
        for size in (1, 25):
            body: dict[str, Any] = {"feature_service": service, "entities": entities(service, size)}
            theirs = by_name(stock(as_stock(body), online_store))
            made = service_definition(service).made_of
            theirs = {name: column for name, column in theirs.items() if name not in made}
            same(by_name(ask(body)), theirs, is_redis=is_redis)
    views = load_definitions().views
    body = {
        "features": [f"{v}:{f}" for v in ("card_velocity_features", "merchant_risk_features")
                     for f in list(views[v].features)[:3]],
        "entities": {"card_id": ["card_id-1", "x"], "merchant_id": ["merchant_id-2", "y"]},
        "full_feature_names": True,
    }  # fmt: skip
    same(by_name(ask(body)), by_name(stock(body, online_store)), is_redis=is_redis)


def test_numbers_that_json_cannot_hold_are_told_as_feast_does(
    online_store: str, fill: Fill, publish_all: Publish
) -> None:
    times = {"event_timestamp": START, "created_timestamp": START}
    name = "amount_mean_30d_minor"
    strange = {"a": math.nan, "b": math.inf, "c": -math.inf}
    fill(account_amount_features=[{"account_id": k, name: v, **times} for k, v in strange.items()])
    publish_all()
    materialize(end=START + DAY)
    body = {"feature_service": "account_behaviour_v1", "entities": {"account_id": [*strange]}}
    assert by_name(ask(body))[name]["values"] == ["NaN", "Infinity", "-Infinity"]
    # Its materialisation makes a null of what is no number.
    assert by_name(stock(body, online_store))[name]["values"][1:] == ["Infinity", "-Infinity"]


def test_a_key_without_a_row_is_told_from_a_null(
    online_store: str, fill: Fill, publish_all: Publish
) -> None:
    times = {"event_timestamp": START, "created_timestamp": START}
    fill(account_amount_features=[{"account_id": "a", "amount_count_30d": None, **times}])
    publish_all()
    materialize(end=START + DAY)
    body = {"feature_service": "account_behaviour_v1", "entities": {"account_id": ["a", "b"]}}
    assert by_name(ask(body))["amount_count_30d"]["statuses"] == ["PRESENT", "NOT_FOUND"]


def test_a_row_older_than_its_ttl_is_told_from_none_and_from_a_null(
    online_store: str,
    fill: Fill,
    publish_all: Publish,
    repository: Path,
) -> None:
    """No view has a TTL; here every one has five days."""
    for path in repository.glob("*_features.py"):
        days = "ttl=__import__('datetime').timedelta(days=5)"
        path.write_text(path.read_text().replace("ttl=None", days))
    now = datetime.now(UTC).replace(tzinfo=None)
    name = "amount_count_30d"
    rows = {"young": (1, 7), "old": (10, 8), "null": (1, None)}
    fill(
        account_amount_features=[
            {"account_id": key, name: value, "event_timestamp": now - days * DAY,
             "created_timestamp": now - days * DAY}
            for key, (days, value) in rows.items()
        ]
    )  # fmt: skip
    publish_all()
    materialize(end=now)
    asked = [*rows, "unknown"]
    body = {"feature_service": "account_behaviour_v1", "entities": {"account_id": asked}}
    column = by_name(ask(body))[name]
    assert column["values"] == [7, None, None, None]
    assert column["statuses"] == ["PRESENT", "OUTSIDE_MAX_AGE", "PRESENT", "NOT_FOUND"]
    assert column["event_timestamps"][1][:10] == f"{now - 10 * DAY:%Y-%m-%d}"
    assert parity(services=["account_behaviour_v1"]).is_empty()


DOUBLED = """
from feast import Field, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Int64

stated = RequestSource(name="stated", schema=[Field(name="stated_minor", dtype=Int64)])


@on_demand_feature_view(
    sources=[stated], schema=[Field(name="doubled_minor", dtype=Int64)], mode="python"
)
def doubled(inputs):
    return {"doubled_minor": [2 * value for value in inputs["stated_minor"]]}
"""


def test_what_is_made_of_the_request_alone_needs_no_key(
    online_store: str,
    fill: Fill,
    publish_all: Publish,
    repository: Path,
) -> None:
    (repository / "doubled_features.py").write_text(DOUBLED)
    fill()
    publish_all()
    body = {"features": ["doubled:doubled_minor"], "entities": {"stated_minor": [5, 6]}}
    assert ask(body)["results"] == stock(body, online_store)["results"]


def test_feasts_remote_client_reads_from_it(
    online_store: str, fill: Fill, publish_all: Publish, tmp_path: Any
) -> None:
    """Over a real connection, with nothing of this project on the client's side."""
    import threading

    import uvicorn
    from feast import FeatureStore
    from feast.repo_config import RepoConfig

    fill(**random_tables(4))
    publish_all()
    materialize(end=START + 40 * DAY)
    server = uvicorn.Server(
        uvicorn.Config(create_app(), host="127.0.0.1", port=0, log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            threading.Event().wait(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        ours = feature_store()
        remote = FeatureStore(
            config=RepoConfig(
                project=ours.config.project,
                provider="local",
                registry=ours.config.registry,
                online_store={"type": "remote", "path": f"http://127.0.0.1:{port}"},
                entity_key_serialization_version=3,
            )
        )
        rows = [{"account_id": f"account_id-{i}"} for i in range(5)]
        service = remote.get_feature_service("account_behaviour_v1")
        answer = remote.get_online_features(service, rows).to_dict()
        expected = ours.get_online_features(service, rows).to_dict()
        assert answer == {name: expected[name] for name in answer}
        assert answer.keys() == expected.keys()
    finally:
        server.should_exit = True
        thread.join(timeout=20)


def test_a_store_that_is_slow_is_cut_off(
    home: Any, fill: Fill, publish_all: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.features import sqlite_store
    from pipelines.features.reading import Plans, StoreUnavailable

    fill(**random_tables(4))
    publish_all()
    materialize(end=START + 40 * DAY)
    monkeypatch.setattr(sqlite_store, "_STEPS_BETWEEN_LOOKS", 1)
    read = sqlite_store.reader(feature_store().config)
    asked = [(view, [b"x"]) for view in Plans().service("account_behaviour_v1").views]
    with pytest.raises(StoreUnavailable):
        asyncio.run(read(asked, -1.0))
    assert all(rows.mark for rows in asyncio.run(read(asked, 5.0)))
