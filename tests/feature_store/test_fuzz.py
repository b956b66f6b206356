"""Whatever is sent by the OpenAPI document, or past it: an answer that it tells of, no failure."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.features.materialize import materialize
from pipelines.features.reading import Plans
from pipelines.features.retrieval import service_names
from pipelines.serving.server import create_app
from tests.feature_store.servers import serving
from tests.feature_store.tables import DAY, START, Fill, Publish
from tests.feature_store.test_online import random_tables
from tests.feature_store.test_scores import register_fraud, register_underwriting

MANY = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    | st.sampled_from(["customer_id-1", "card_id-2", "\x00", "9" * 400, "-0", "1e999", "nan"])
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.fixture
def client(home: Any, fill: Fill, publish_all: Publish) -> Iterator[Any]:
    from fastapi.testclient import TestClient

    fill(**random_tables(3))
    publish_all()
    materialize(end=START + 40 * DAY)
    register_underwriting()
    register_fraud()
    application = create_app()
    with TestClient(application, base_url="http://127.0.0.1") as client:
        yield client


def by_schema(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of a schema as the document writes them, some of them wrong in one place."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    if "anyOf" in schema and "type" not in schema:
        return st.one_of([by_schema(each) for each in schema["anyOf"]])
    kinds = schema.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "object" in kinds:
        optional = {name: by_schema(each) for name, each in schema.get("properties", {}).items()}
        required = {name: optional.pop(name) for name in schema.get("required", [])}
        return st.fixed_dictionaries(required, optional=optional)
    if "array" in kinds:
        return st.lists(by_schema(schema.get("items", {})), min_size=1, max_size=3)
    simple = {
        "string": st.text(max_size=140) | st.sampled_from(["card_id-1", "pull_id-2"]),
        "integer": st.integers(schema.get("minimum"), schema.get("maximum")),
        "number": st.floats(allow_nan=False, allow_infinity=False),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return st.one_of([simple[kind] for kind in kinds]) if kinds else SCALARS


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def require_told(answer: Any, operation: dict[str, Any]) -> None:
    assert answer.status_code < 500, answer.text
    assert str(answer.status_code) in operation["responses"]
    if answer.status_code >= 400:
        assert set(answer.json()) == {"detail"}
        assert "Traceback" not in answer.text


@pytest.mark.slow
def test_requests_by_the_document_never_fail(client: Any) -> None:
    document = client.get("/openapi.json").json()
    posts = [each for each in operations(document) if each[1] == "post"]
    strategies = {
        path: by_schema(operation["requestBody"]["content"]["application/json"]["schema"])
        for path, _, operation in posts
    }

    @MANY
    @given(st.data())
    def ask(data: st.DataObject) -> None:
        path, _, operation = data.draw(st.sampled_from(posts))
        body = data.draw(strategies[path])
        keys = data.draw(st.sampled_from([{}, {"Idempotency-Key": "k"}]))
        answer = client.post(path, content=json.dumps(body), headers=keys | JSON)
        require_told(answer, operation)

    ask()


@pytest.mark.slow
def test_single_features_are_answered_whatever_their_keys(client: Any) -> None:
    plans = Plans()

    @MANY
    @given(st.lists(st.sampled_from(plans.references), min_size=1, max_size=6, unique=True),
           st.integers(1, 3), st.data())  # fmt: skip
    def ask(features: list[str], size: int, data: st.DataObject) -> None:
        plan = plans.features(features)
        keys = st.lists(st.text(max_size=20) | st.integers(), min_size=size, max_size=size)
        entities = {key: data.draw(keys) for key in plan.keys}
        body = {"features": features, "entities": entities}
        answer = client.post("/get-online-features", json=body)
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        assert [len(each["values"]) for each in results] == [size] * (
            len(plan.keys) + len(features)
        )

    ask()


@pytest.mark.slow
def test_bodies_past_the_document_never_fail(client: Any) -> None:
    posts = [each for each in operations(client.get("/openapi.json").json()) if each[1] == "post"]
    columns = ["feature_service", "features", "entities", "rows", "reference", "card_id",
               "account_id", "amount_minor", "event_hour"]  # fmt: skip
    near = st.dictionaries(st.sampled_from(columns), ANYTHING, max_size=5)
    named = st.fixed_dictionaries(
        {"feature_service": st.sampled_from(["fraud_authorization_v1", "underwriting_v1"]),
         "entities": st.dictionaries(st.sampled_from(columns), ANYTHING, max_size=4)}
    )  # fmt: skip
    bodies = st.binary(max_size=60) | (near | named | ANYTHING).map(
        lambda v: json.dumps(v).encode()
    )

    @MANY
    @given(st.sampled_from(posts), bodies)
    def ask(operation: Any, body: bytes) -> None:
        path, _, described = operation
        require_told(client.post(path, content=body, headers=JSON), described)

    ask()


@pytest.mark.slow
def test_schemathesis_finds_no_failure(home: Any, fill: Fill, publish_all: Publish) -> None:
    """Over HTTP, on the server in a process of its own."""
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.core.result import Ok
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    fill(**random_tables(3))
    publish_all()
    materialize(end=START + 40 * DAY)
    register_underwriting()
    register_fraud()
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    asked: Counter[tuple[str, int]] = Counter()
    accepted: Counter[str | None] = Counter()
    with serving() as (port, _):
        base = f"http://127.0.0.1:{port}"
        schema = schemathesis.openapi.from_url(f"{base}/openapi.json")
        for found in schema.get_all_operations():
            assert isinstance(found, Ok), found
            operation = found.ok()
            case = operation.as_strategy() | operation.as_strategy(
                generation_mode=schemathesis.GenerationMode.NEGATIVE
            )

            @settings(MANY, max_examples=150)
            @given(case)
            def ask(case: Any) -> None:
                answer = case.call(base_url=base)
                asked[case.path, answer.status_code] += 1
                if case.path == "/get-online-features" and answer.status_code == 200:
                    accepted[case.body.get("feature_service")] += 1
                case.validate_response(answer, checks=checks)

            ask()
    # It is answered as well as refused: neither alone would say much.
    posts = ("/get-online-features", "/v1/push", "/v1/score/fraud", "/v1/score/underwriting/batch")
    for path in posts:
        assert asked[path, 200] and asked[path, 422], asked
    assert accepted.keys() >= {*service_names()}, accepted


@pytest.mark.slow
def test_odd_requests_never_fail(client: Any) -> None:
    paths = [path for path, _, _ in operations(client.get("/openapi.json").json())]
    headers = st.dictionaries(
        st.sampled_from(["authorization", "content-type", "content-length", "host", "origin",
                         "idempotency-key"]),
        st.binary(max_size=20),
    )  # fmt: skip

    @MANY
    @given(
        st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"]),
        st.sampled_from([*paths, "/push", "/", "/score", "/v1/score/fraud/", "/../secrets"]),
        headers,
    )
    def ask(method: str, path: str, given_headers: dict[str, bytes]) -> None:
        answer = client.request(method, path, headers=given_headers)
        assert answer.status_code < 500, answer.text

    ask()


JSON = {"content-type": "application/json"}
