"""The feature server: reading only, on loopback unless a token is set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import CardlineError
from pipelines.features.materialize import materialize
from pipelines.features.server import create_app, require_safe_binding
from pipelines.settings import get_settings
from tests.feature_store.tables import DAY, START, Fill, Publish

ASK = {"feature_service": "account_behaviour_v1", "entities": {"account_id": ["a1", "a2"]}}


@pytest.fixture
def client(home: Path, fill: Fill, publish_all: Publish) -> Iterator[Any]:
    from fastapi.testclient import TestClient

    times = {"event_timestamp": START, "created_timestamp": START}
    fill(account_amount_features=[{"account_id": "a1", "amount_count_30d": 3, **times}])
    publish_all()
    materialize(end=START + DAY)
    with TestClient(create_app(), base_url="http://127.0.0.1") as client:
        yield client


def column(answer: Any, name: str) -> list[Any]:
    body = answer.json()
    return body["results"][body["metadata"]["feature_names"].index(name)]["values"]


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        ({"feature_service": "account_behaviour_v1", "entities": {"acount_id": ["a1"]}}, 422,
         "account_behaviour_v1 does not take acount_id; it takes account_id"),
        ({"feature_service": "nobodys", "entities": {"account_id": ["a1"]}}, 404,
         "no such feature service; there are account_behaviour_v1"),
        ({"entities": {"account_id": ["a1"]}}, 422, "neither a feature_service nor features"),
        ({"features": ["account_amount_features:nothing"], "entities": {"account_id": ["a1"]}},
         422, "there is no feature account_amount_features:nothing"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_meant_is_refused(
    client: Any, asked: dict[str, Any], status: int, says: str
) -> None:
    answer = client.post("/get-online-features", json=asked)
    assert answer.status_code == status
    assert says in answer.json()["detail"]


def test_a_name_of_another_service_beside_the_key_is_passed_over(client: Any) -> None:
    asked = ASK | {"entities": ASK["entities"] | {"card_id": ["c1", "c2"]}}
    assert column(client.post("/get-online-features", json=asked), "amount_count_30d") == [3, None]


def test_it_answers_and_counts_what_is_missing_as_null(client: Any) -> None:
    answer = client.post("/get-online-features", json=ASK)
    assert answer.status_code == 200
    assert column(answer, "amount_count_30d") == [3, None]
    asked = {"account_id": ["a1", None, "a1"]}
    answer = client.post(
        "/get-online-features",
        json={"feature_service": "fraud_authorization_v1", "entities": asked},
    )
    assert column(answer, "amount_count_30d") == [3, None, 3]
    assert column(answer, "is_night") == [None, None, None]


def test_bad_requests_are_the_clients_fault(client: Any) -> None:
    for entities in ({}, {"amount_minor": ["much"]}, {"card_id": ["a"], "amount_minor": [1, 2]}):
        answer = client.post(
            "/get-online-features",
            json={"feature_service": "fraud_authorization_v1", "entities": entities},
        )
        assert answer.status_code == 422


def test_nothing_can_be_written_through_it(client: Any) -> None:
    for path in ("/push", "/write-to-online-store", "/materialize", "/chat"):
        assert client.post(path, json={}).status_code == 404, path


def test_other_host_names_are_refused_without_a_token(client: Any) -> None:
    answer = client.post("/get-online-features", json=ASK, headers={"host": "evil.example"})
    assert answer.status_code == 400


def test_with_a_token_every_request_needs_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient

    monkeypatch.setenv("CARDLINE_SERVE_TOKEN", "s3cret-tökén")
    get_settings.cache_clear()
    right = "Bearer s3cret-tökén".encode()
    with TestClient(create_app(), base_url="http://features.example") as client:
        for given in (None, b"", b"Bearer", b"Bearer wrong", b"s3cret", right[:-1]):
            headers = {} if given is None else {b"Authorization": given}
            answer = client.post("/get-online-features", json=ASK, headers=headers)
            assert answer.status_code == 401
            assert client.get("/health", headers=headers).status_code == 401
        answer = client.post("/get-online-features", json=ASK, headers={b"Authorization": right})
        assert answer.status_code == 200
        assert column(answer, "amount_count_30d") == [None, None]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "features.example", ""])
def test_other_machines_need_a_token(
    home: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    with pytest.raises(CardlineError, match="CARDLINE_SERVE_TOKEN"):
        require_safe_binding(host)
    monkeypatch.setenv("CARDLINE_SERVE_TOKEN", "t")
    get_settings.cache_clear()
    require_safe_binding(host)
    monkeypatch.setenv("CARDLINE_SERVE_TOKEN", "")
    get_settings.cache_clear()
    with pytest.raises(CardlineError, match="empty"):
        require_safe_binding(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_loopback_needs_none(home: Path, host: str) -> None:
    require_safe_binding(host)
