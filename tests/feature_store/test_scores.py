"""Scores over HTTP: as in the warehouse, once per call, kept in the decision log."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.common.registry import Registry, TrainedModel
from pipelines.features.materialize import materialize
from pipelines.features.retrieval import feature_names, online, service_definition
from pipelines.serving.server import create_app
from pipelines.serving.tokens import create_token
from pipelines.settings import get_settings
from pipelines.training_frames import underwriting_features
from tests.feature_store.tables import DAY, START, Fill, Publish
from tests.feature_store.test_online import random_tables

UNDERWRITING = {
    "pull_id": "pull_id-1", "customer_id": "customer_id-2", "stated_income_minor": 6_000_000,
    "housing_payment_minor": 90_000, "requested_limit_minor": 500_000, "reference": "app-1",
}  # fmt: skip
FRAUD = {
    "card_id": "card_id-1", "account_id": "account_id-1", "merchant_id": "merchant_id-3",
    "amount_minor": 12_500, "event_hour": 23, "event_weekday": 6, "reference": "auth-1",
    "event_at": "2024-04-12T23:10:00Z", "mcc": "mcc-2", "is_card_present": False,
}  # fmt: skip
SERVICES = {"underwriting": "underwriting_v1", "fraud": "fraud_authorization_v1"}


def _register(name: str, estimator: Any, reasons: dict[str, Any], seed: int) -> None:
    Registry(get_settings().models_dir).register(
        TrainedModel(
            name=name, estimator=estimator, features=tuple(estimator.features_),
            dropped_features={}, dataset_sha256=str(seed), parameters={}, seed=seed,
            window={"start": "2024-01-01", "cutoff": "2024-01-01", "end": f"2024-02-0{seed}"},
            metrics={}, reasons=reasons, gates={}, purpose="", target="",
            context={"feature_service": SERVICES[name], "grain": "application_id"},
        ),
        trainer="test",
    )  # fmt: skip


def register_underwriting(seed: int = 1) -> None:
    from models.underwriting.scorecard import Scorecard

    names = underwriting_features("underwriting_v1")
    generator = np.random.default_rng(seed)
    values = generator.random((400, len(names)))
    values[generator.random(values.shape) < 0.1] = np.nan
    bad = (np.nan_to_num(values[:, :4]).sum(axis=1) + generator.random(400) > 2.4).astype(int)
    card = Scorecard().fit(values, bad, names)
    card.set_references(values, cutoff_share=0.2)
    table = {
        name: {
            "mean_points": float(points.mean()), "maximum_points": float(points.max()),
            "code": name, "text": f"{name} is unusual",
            "missing_code": f"{name}-missing", "missing_text": f"{name} is not known",
        }
        for name, points in zip(card.features_, card.points_, strict=True)
    }  # fmt: skip
    _register("underwriting", card, {"features": table}, seed)


def register_fraud(seed: int = 1) -> None:
    from models.fraud.classifier import FraudClassifier

    names = [*feature_names("fraud_authorization_v1"), "amount_minor"]
    generator = np.random.default_rng(seed)
    values = generator.random((400, len(names))) * 10
    fraud = (values[:, 0] + values[:, -1] > 12).astype(int)
    model = FraudClassifier(max_iter=20).fit(values, fraud, features=names)
    _register("fraud", model, {}, seed)


@pytest.fixture
def serve(home: Path, fill: Fill, publish_all: Publish) -> Iterator[Callable[[], Any]]:
    from fastapi.testclient import TestClient

    fill(**random_tables(3))
    publish_all()
    materialize(end=START + 40 * DAY)
    clients = []

    def _serve() -> Any:
        clients.append(TestClient(create_app(), base_url="http://127.0.0.1"))
        return clients[-1].__enter__()

    yield _serve
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve: Callable[[], Any]) -> Any:
    register_underwriting()
    register_fraud()
    return serve()


def logged() -> list[tuple[Any, ...]]:
    with sqlite3.connect(get_settings().decisions_path) as con:
        return con.execute(
            "select decision_id, client, model_name, model_version, reference, score, "
            "idempotency_key, answer from decisions order by rowid"
        ).fetchall()


def frame_of(service: str, row: dict[str, Any]) -> pl.DataFrame:
    """The row as the batch scores take it."""
    from pipelines.features.retrieval import POLARS_TYPES

    taken = service_definition(service)
    values = online(service, [row])[0] | {name: row.get(name) for name in taken.request}
    kinds = taken.features | taken.request
    return pl.DataFrame([pl.Series(n, [values[n]], POLARS_TYPES[k]) for n, k in kinds.items()])


def test_an_application_is_scored_as_the_warehouse_would(client: Any) -> None:
    from models.underwriting.scoring import score_frame

    answer = client.post("/score/underwriting", json=UNDERWRITING)
    assert answer.status_code == 200, answer.text
    given = answer.json()
    version = Registry(get_settings().models_dir).current("underwriting")
    assert version is not None
    reasons = json.loads((version.path / "reasons.json").read_text())
    estimator = Registry(get_settings().models_dir).load("underwriting", version.version)
    (batch,) = score_frame(estimator, reasons, frame_of("underwriting_v1", UNDERWRITING)).to_dicts()
    assert given["pd"] == batch["pd"]
    assert given["score"] == batch["score"]
    assert given["reasons"] == json.loads(batch["reasons"])
    assert given["reasons"]
    assert given["feature_vector_sha256"] == batch["feature_vector_sha256"]
    assert given["model"] == {
        "name": "underwriting", "version": version.version, "state": "CANDIDATE"
    }  # fmt: skip
    assert given["features"] == online("underwriting_v1", [UNDERWRITING])[0]
    assert given["inputs"] == {n: v for n, v in UNDERWRITING.items() if n != "reference"}
    bureau = given["views"]["pull_bureau_features"]
    assert bureau["known_through"] == (START + 40 * DAY).isoformat() + "Z"
    assert bureau["age_seconds"] > 0
    assert bureau["event_timestamp"].startswith("2024-03-")


def test_who_cannot_pay_is_told_so_whatever_the_score(client: Any) -> None:
    for income, codes in ((90_000_000, []), (1, ["R05", "R03"]), (0, ["R05", "R03"])):
        asked = UNDERWRITING | {"stated_income_minor": income}
        given = client.post("/score/underwriting", json=asked).json()
        assert [reason["code"] for reason in given["policy_reasons"]] == codes
        assert given["features"]["app_dti"] is not None
        assert json.loads(logged()[-1][-1])["policy_reasons"] == given["policy_reasons"]


def test_a_transaction_is_scored_with_what_raises_it(client: Any) -> None:
    from models.fraud.scoring import score_frame

    given = client.post("/v1/score/fraud", json=FRAUD).json()
    version = Registry(get_settings().models_dir).current("fraud")
    assert version is not None
    estimator = Registry(get_settings().models_dir).load("fraud", version.version)
    frame = frame_of("fraud_authorization_v1", FRAUD)
    assert given["score"] == score_frame(estimator, frame).item()
    assert 0 < len(given["reasons"]) <= 4
    raised = [reason["adds"] for reason in given["reasons"]]
    assert raised == sorted(raised, reverse=True)
    assert min(raised) > 0
    for reason in given["reasons"]:
        usual = frame.with_columns(pl.lit(reason["typical"], pl.Float64).alias(reason["feature"]))
        assert score_frame(estimator, usual).item() < given["score"]


def test_every_decision_is_in_the_log(client: Any) -> None:
    one = client.post("/score/fraud", json=FRAUD).json()
    many = client.post("/score/underwriting/batch", json={"rows": [UNDERWRITING] * 12}).json()
    rows = logged()
    assert len(rows) == 13
    assert [json.loads(row[-1]) for row in rows] == [one, *many["decisions"]]
    assert {row[4] for row in rows} == {"auth-1", "app-1"}
    assert len({row[0] for row in rows}) == 13
    assert get_settings().decisions_path.stat().st_mode & 0o077 == 0


def test_a_batch_answers_as_single_calls_do(client: Any) -> None:
    rows = [FRAUD | {"card_id": f"card_id-{i}", "amount_minor": 100 * i} for i in range(20)]
    rows.append({"account_id": "account_id-4", "event_at": FRAUD["event_at"]})
    decisions = client.post("/score/fraud/batch", json={"rows": rows}).json()["decisions"]
    for row, decision in zip(rows, decisions, strict=True):
        single = client.post("/score/fraud", json=row).json()
        for name in ("score", "features", "statuses", "feature_vector_sha256"):
            assert single[name] == decision[name]


def test_the_same_call_again_decides_nothing_anew(client: Any) -> None:
    key = {"Idempotency-Key": "4111111111111111"}
    first = client.post("/score/fraud", json=FRAUD, headers=key)
    again = client.post("/v1/score/fraud", json=FRAUD, headers=key)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    other = client.post("/score/fraud", json=FRAUD | {"amount_minor": 1}, headers=key)
    assert other.status_code == 422
    batch = {"rows": [FRAUD, FRAUD]}
    assert client.post("/score/fraud/batch", json=batch, headers=key).status_code == 422
    two = client.post("/score/fraud/batch", json=batch, headers={"Idempotency-Key": "k-2"})
    same = client.post("/score/fraud/batch", json=batch, headers={"Idempotency-Key": "k-2"})
    assert same.json() == two.json()
    assert client.post("/score/underwriting", json=UNDERWRITING, headers=key).status_code == 200
    assert len(logged()) == 4
    assert not [row for row in logged() if key["Idempotency-Key"] in str(row)]


def test_a_promotion_counts_from_the_next_request(serve: Callable[[], Any]) -> None:
    register_fraud(1)
    client = serve()
    before = client.post("/score/fraud", json=FRAUD).json()
    register_fraud(2)
    after = client.post("/score/fraud", json=FRAUD).json()
    assert after["model"]["version"] != before["model"]["version"]
    registry = Registry(get_settings().models_dir)
    registry.promote("fraud", before["model"]["version"], "somebody else", "better")
    promoted = client.post("/score/fraud", json=FRAUD).json()
    assert promoted["model"] == {**before["model"], "state": "CHAMPION"}
    assert promoted["score"] == before["score"]


def test_without_a_model_there_is_no_score(serve: Callable[[], Any]) -> None:
    client = serve()
    answer = client.post("/score/fraud", json=FRAUD)
    assert answer.status_code == 404
    assert "cardline train fraud" in answer.json()["detail"]
    register_fraud()
    assert client.post("/score/fraud", json=FRAUD).status_code == 200


def test_a_damaged_model_is_named_and_scores_nothing(serve: Callable[[], Any]) -> None:
    register_fraud()
    [file] = (get_settings().models_dir / "fraud").glob("*/model.skops")
    file.write_bytes(file.read_bytes()[:-1])
    client = serve()
    for answer in (client.post("/score/fraud", json=FRAUD), client.get("/ready")):
        assert answer.status_code == 503
        assert f"fraud {file.parent.name}: model.skops is not what was" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (FRAUD | {"amount_minor": -1}, "amount_minor is below zero"),
        ({}, "at least one key is needed"),
        ({"amount_minor": 3}, "at least one key is needed"),
        (FRAUD | {"account_id": None}, "account_id is null"),
        (FRAUD | {"pan": "x"}, "does not take pan"),
        (FRAUD | {"event_hour": "late"}, "event_hour is not int64"),
        (FRAUD | {"reference": 7}, "reference is not a string"),
        (FRAUD | {"reference": "x" * 129}, "reference is longer"),
        (FRAUD | {"reference": "4111 1111 1111 1111"}, "reference holds a card number"),
        (FRAUD | {"card_id": "4111111111111111"}, "a row holds a card number"),
        ([FRAUD], "not a JSON object"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused(client: Any, row: Any, says: str) -> None:
    answer = client.post("/score/fraud", json=row)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert client.post("/score/fraud/batch", json={"rows": [FRAUD, row]}).status_code == 422
    assert logged() == []


def test_calls_and_batches_are_bounded(client: Any) -> None:
    assert client.post("/score/fraud/batch", json={"rows": [FRAUD] * 501}).status_code == 413
    for body in ({"rows": []}, {"rows": {}}, {}, {"rows": [FRAUD], "more": 1}):
        assert client.post("/score/fraud/batch", json=body).status_code == 422
    for key in ("", "x" * 129, "a b"):
        headers = {"Idempotency-Key": key}
        assert client.post("/score/fraud", json=FRAUD, headers=headers).status_code == 422
    assert logged() == []


def test_scoring_needs_its_scope(serve: Callable[[], Any]) -> None:
    register_fraud()
    register_underwriting()
    client = serve()
    client.headers["Authorization"] = f"Bearer {create_token('team-f', ['score:fraud'])}"
    assert client.post("/score/fraud", json=FRAUD).status_code == 200
    assert client.post("/score/underwriting", json=UNDERWRITING).status_code == 403
    asked = {"feature_service": "underwriting_v1", "entities": {"pull_id": ["p"]}}
    assert client.post("/get-online-features", json=asked).status_code == 403
    assert [row[1] for row in logged()] == ["team-f"]


def test_nothing_is_decided_where_it_cannot_be_logged(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(get_settings().decisions_path) as con:
        con.execute("drop table decisions")
    answer = client.post("/score/fraud", json=FRAUD)
    assert answer.status_code == 503
    assert "score" not in answer.json()


def test_the_openapi_document_tells_every_route(client: Any) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    paths = set(document["paths"])
    assert {"/get-online-features", "/v1/score/fraud", "/score/underwriting/batch"} <= paths
    row = document["paths"]["/v1/score/fraud"]["post"]["requestBody"]["content"]
    taken = service_definition("fraud_authorization_v1")
    properties = row["application/json"]["schema"]["properties"]
    assert set(properties) == {"reference", *taken.keys, *taken.request}
