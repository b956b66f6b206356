"""The feature server: what it answers, to whom, and what it refuses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import CardlineError
from pipelines.features.materialize import materialize
from pipelines.serving.app import MAX_BODY_BYTES, MAX_ROWS
from pipelines.serving.server import create_app, require_safe_binding
from pipelines.serving.tokens import create_token, revoke_token
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
    asked = {"account_id": ["a1", "nobody", "a1"]}
    answer = client.post(
        "/get-online-features",
        json={"feature_service": "fraud_authorization_v1", "entities": asked},
    )
    assert column(answer, "amount_count_30d") == [3, None, 3]
    assert column(answer, "is_night") == [None, None, None]


def test_bad_requests_are_the_clients_fault(client: Any) -> None:
    for entities in (
        {},
        {"card_id": []},
        {"card_id": "a"},
        {"amount_minor": ["much"]},
        {"amount_minor": [2**63]},
        {"amount_minor": [True]},
        {"card_id": ["a"], "amount_minor": [1, 2]},
        {"card_id": [{"a": 1}]},
        ["card_id"],
    ):
        answer = client.post(
            "/get-online-features",
            json={"feature_service": "fraud_authorization_v1", "entities": entities},
        )
        assert answer.status_code == 422, entities


def test_a_null_key_is_refused_and_never_present(client: Any) -> None:
    """A null is no key: an answer would pass for what is known about somebody."""
    asked = {"feature_service": "account_behaviour_v1", "entities": {"account_id": ["a1", None]}}
    answer = client.post("/get-online-features", json=asked)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("account_id is null")


def test_single_features_and_full_names(client: Any) -> None:
    asked = {
        "features": ["account_amount_features:amount_count_30d", "authorization_context:is_night"],
        "entities": {"account_id": ["a1"], "event_hour": [3], "event_weekday": [1],
                     "amount_minor": [5]},
        "full_feature_names": True,
    }  # fmt: skip
    answer = client.post("/get-online-features", json=asked)
    assert column(answer, "account_amount_features__amount_count_30d") == [3]
    assert column(answer, "authorization_context__is_night") == [True]


def test_too_much_and_what_is_no_json_is_refused(client: Any) -> None:
    path = "/get-online-features"
    json_type = {"content-type": "application/json"}
    many = {**ASK, "entities": {"account_id": ["a"] * (MAX_ROWS + 1)}}
    assert client.post(path, json=many).status_code == 413
    assert (
        client.post(path, content=b" " * (MAX_BODY_BYTES + 1), headers=json_type).status_code == 413
    )
    for body in (b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"entities": NaN}'):
        assert client.post(path, content=body, headers=json_type).status_code == 422, body[:9]
    assert (
        client.post(path, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    )
    assert client.get(path).status_code == 405


def test_it_says_whether_it_is_alive_and_ready(client: Any) -> None:
    assert client.get("/health").status_code == 200
    assert client.get("/ready").json() == {"status": "ready"}


def test_a_store_that_was_never_filled_is_not_an_answer(
    home: Path, fill: Fill, publish_all: Publish
) -> None:
    from fastapi.testclient import TestClient

    fill()
    publish_all()
    with TestClient(create_app(), base_url="http://127.0.0.1") as client:
        assert client.get("/health").status_code == 200
        for answer in (client.get("/ready"), client.post("/get-online-features", json=ASK)):
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert "run `cardline run`" in answer.json()["detail"]
        materialize(end=START + DAY)
        assert client.get("/ready").status_code == 200
        assert client.post("/get-online-features", json=ASK).status_code == 200


def test_metrics_count_requests_misses_and_ages(client: Any) -> None:
    client.post("/get-online-features", json=ASK)
    client.get("/some-secret-4111111111111111")
    text = client.get("/metrics").text
    assert (
        'cardline_request_seconds_count{route="/get-online-features",'
        'service="account_behaviour_v1",status="200"} 1.0' in text
    )
    # One value of a1 and none of a2 among the service's features.
    values = len(column(client.post("/get-online-features", json=ASK), "amount_count_30d"))
    assert values == 2
    assert 'cardline_feature_values_missing_total{service="account_behaviour_v1"}' in text
    assert 'cardline_feature_age_seconds{view="account_amount_features"}' in text
    assert "some-secret" not in text and "4111111111111111" not in text


def test_two_servers_of_a_process_count_apart(client: Any) -> None:
    from fastapi.testclient import TestClient

    client.post("/get-online-features", json=ASK)
    with TestClient(create_app(), base_url="http://127.0.0.1") as other:
        assert "account_behaviour_v1" not in other.get("/metrics").text
        other.post("/get-online-features", json=ASK)
        counted = 'service="account_behaviour_v1",status="200"} 1.0'
        assert counted in other.get("/metrics").text


def test_the_audit_log_names_the_client_and_nobody_else(
    home: Path, fill: Fill, publish_all: Publish
) -> None:
    from fastapi.testclient import TestClient

    fill()
    publish_all()
    materialize(end=START + DAY)
    token = create_token("team-a", ["features:account_behaviour_v1"])
    entities = {"account_id": ["4111111111111111"]}
    with TestClient(create_app(), base_url="http://10.0.0.1") as client:
        client.headers["Authorization"] = f"Bearer {token}"
        client.post("/get-online-features", json={**ASK, "entities": entities})
        client.get("/4111111111111111")
        client.request("HIDDEN", "/hidden")
        client.post("/get-online-features", json={**ASK, "feature_service": "4111111111111111"})
    (path,) = get_settings().serve_logs_dir.glob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["status"] for line in lines] == [200, 404, 404, 404]
    first = {k: lines[0][k] for k in ("client", "method", "route", "service", "rows")}
    assert first == {
        "client": "team-a", "method": "POST", "route": "/get-online-features",
        "service": "account_behaviour_v1", "rows": 1,
    }  # fmt: skip
    told = path.read_text()
    assert "4111111111111111" not in told and "hidden" not in told.lower()
    assert token not in told
    assert path.stat().st_mode & 0o077 == 0


def test_a_token_opens_its_scopes_until_it_is_revoked(
    home: Path, fill: Fill, publish_all: Publish
) -> None:
    from fastapi.testclient import TestClient

    fill()
    publish_all()
    materialize(end=START + DAY)
    token = create_token("team-a", ["features:account_behaviour_v1"])
    kept = get_settings().secrets_dir / "serve_tokens.json"
    assert token not in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0
    refs = {"features": ["account_amount_features:amount_count_30d"], "entities": ASK["entities"]}
    other = {"feature_service": "fraud_authorization_v1", "entities": {"card_id": ["c"]}}
    foreign = {
        "features": ["card_velocity_features:declined_count_1d"],
        **{"entities": {"card_id": ["c"]}},
    }
    of_no_service = {
        "features": ["pull_bureau_features:bur_score", *foreign["features"]],
        "entities": {"pull_id": ["p"], "card_id": ["c"]},
    }
    with TestClient(create_app(), base_url="http://10.0.0.1") as client:
        assert client.post("/get-online-features", json=ASK).status_code == 401
        client.headers["Authorization"] = f"bearer {token}"
        assert client.post("/get-online-features", json=ASK).status_code == 200
        client.headers["Authorization"] = f"Bearer {token}"
        assert client.post("/get-online-features", json=ASK).status_code == 200
        assert client.post("/get-online-features", json=refs).status_code == 200
        assert client.get("/health").status_code == 200
        for refused in (other, foreign):
            assert client.post("/get-online-features", json=refused).status_code == 403
        answer = client.post("/get-online-features", json=of_no_service)
        assert (answer.status_code, answer.json()["detail"]) == (403, "the token is not for *")
        for path in ("/score/fraud", "/v1/score/underwriting", "/score/fraud/batch"):
            assert client.post(path, json={}).status_code == 403
        assert client.get("/metrics").status_code == 403
        revoke_token("team-a")
        assert client.post("/get-online-features", json=ASK).status_code == 401
    with pytest.raises(CardlineError, match="has no token"):
        revoke_token("team-a")


PERMISSIONS = """
from feast import FeatureService, FeatureView
from feast.permissions.action import AuthzedAction
from feast.permissions.permission import Permission
from feast.permissions.policy import RoleBasedPolicy

reading = Permission(
    name="behaviour_for_team_a",
    types=[FeatureService],
    name_patterns=["^account_behaviour_v1$"],
    policy=RoleBasedPolicy(roles=["team-a"]),
    actions=[AuthzedAction.READ_ONLINE],
)
pushing = Permission(
    name="pushes",
    types=[FeatureView],
    name_patterns=["^card_recent_features$"],
    policy=RoleBasedPolicy(roles=["push"]),
    actions=[AuthzedAction.WRITE_ONLINE],
)
"""


def test_feasts_permissions_come_after_the_scopes(
    home: Path,
    fill: Fill,
    publish_all: Publish,
    repository: Path,
) -> None:
    from fastapi.testclient import TestClient

    from pipelines.features import registry

    (repository / "permissions.py").write_text(PERMISSIONS)
    fill()
    publish_all()
    materialize(end=START + DAY)
    named = [each.name for each in registry.feature_store().list_permissions()]
    assert sorted(named) == ["behaviour_for_team_a", "pushes"]
    scopes = ["features:account_behaviour_v1", "features:fraud_authorization_v1", "push"]
    tokens = {name: create_token(name, scopes) for name in ("team-a", "team-b")}
    tokens["operator"] = create_token("operator", ["*"])
    single = {"features": ["account_amount_features:amount_count_30d"],
              "entities": ASK["entities"]}  # fmt: skip
    fraud = {"feature_service": "fraud_authorization_v1", "entities": {"card_id": ["c"]}}
    pushed = {"rows": [{"card_id": "c", "transaction_id": "t", "amount_minor": 1,
                        "event_at": START.isoformat(), "is_declined": False}]}  # fmt: skip
    with TestClient(create_app(), base_url="http://10.0.0.1") as client:

        def statuses(name: str) -> list[int]:
            client.headers["Authorization"] = f"Bearer {tokens[name]}"
            asked = [client.post("/get-online-features", json=b) for b in (ASK, fraud, single)]
            return [each.status_code for each in [*asked, client.post("/push", json=pushed)]]

        # No permission speaks of the fraud service, nor of reading views by themselves.
        for _ in range(2):
            assert statuses("team-a") == [200, 403, 403, 200]
            assert statuses("team-b") == [403, 403, 403, 200]
            assert statuses("operator") == [200, 200, 200, 200]
    (repository / "permissions.py").unlink()
    assert registry.apply()
    assert registry.feature_store().list_permissions() == []


def test_a_token_ends_with_its_days(home: Path) -> None:
    from datetime import UTC, datetime, timedelta

    from pipelines.serving.tokens import list_tokens

    create_token("team-a", ["*"], days=2)
    (token,) = list_tokens(get_settings())
    now = datetime.now(UTC).replace(tzinfo=None)
    assert token.is_valid(now + timedelta(days=1))
    assert not token.is_valid(now + timedelta(days=3))
    with pytest.raises(CardlineError, match="there is no scope"):
        create_token("team-b", ["features:everything"])
    with pytest.raises(CardlineError, match="team-a has a token"):
        create_token("team-a", ["*"])
    with pytest.raises(CardlineError, match="one line"):
        create_token("team\nb", ["*"])
    for days in (0, 99_999_999):
        with pytest.raises(CardlineError, match="1 to 3,650 days"):
            create_token("team-b", ["*"], days=days)


def test_a_client_that_asks_too_often_waits() -> None:
    from pipelines.serving.limits import RateLimit

    now = 0.0
    limit = RateLimit(2, clock=lambda: now)
    assert [limit.wait("a"), limit.wait("a"), limit.wait("b")] == [0, 0, 0]
    assert limit.wait("a") == 1
    now = 0.5
    assert [limit.wait("a"), limit.wait("a")] == [0, 1]
    assert not any(RateLimit(0, clock=lambda: now).wait("a") for _ in range(9))


def test_the_limit_answers_429(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient

    monkeypatch.setenv("CARDLINE_SERVE_REQUESTS_PER_SECOND", "1")
    get_settings.cache_clear()
    with TestClient(create_app(), base_url="http://127.0.0.1") as client:
        answers = [client.get("/health") for _ in range(9)]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 429)


def test_nothing_can_be_written_through_it(client: Any) -> None:
    for path in ("/write-to-online-store", "/materialize", "/chat"):
        assert client.post(path, json={}).status_code == 404, path


def test_other_host_names_are_refused_without_a_token(client: Any) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}):
        answer = client.post("/get-online-features", json=ASK, headers=headers)
        assert answer.status_code == 400
    for host in ("localhost:6566", "[::1]:6566", "127.0.0.1"):
        assert client.get("/health", headers={"host": host}).status_code == 200


def test_with_a_token_every_request_needs_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, fill: Fill, publish_all: Publish
) -> None:
    from fastapi.testclient import TestClient

    fill()
    publish_all()
    materialize(end=START + DAY)
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


def test_a_token_of_the_home_is_enough_for_other_machines(home: Path) -> None:
    create_token("team-a", ["*"])
    require_safe_binding("0.0.0.0")
