"""The server's OpenAPI document, from the feature services and the models that there are."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.features.pushes import SOURCE, Authorization
from pipelines.features.requests import TIMES
from pipelines.features.retrieval import service_definition, service_names

_JSON = {"INT64": "integer", "DOUBLE": "number", "STRING": "string", "BOOL": "boolean"}
_REFUSALS = {
    "400": "The host name, the origin or the length is not allowed.",
    "401": "A bearer token is required.",
    "403": "The token is not for this.",
    "404": "There is no such service or model.",
    "408": "The body did not arrive in time.",
    "413": "The request is too large.",
    "415": "The body is not JSON.",
    "422": "The request cannot be meant; `detail` says why.",
    "429": "Too many requests of this client.",
    "503": "The online store does not answer now, or was never filled.",
}


def document(
    models: Mapping[str, str], limits: Mapping[str, int], references: Sequence[str]
) -> dict[str, Any]:
    """OpenAPI 3.1. `models` maps a model that can score to its feature service; `references` are
    the single features, as `view:feature`."""
    paths: dict[str, Any] = {
        "/get-online-features": {"post": _get_features(limits["rows"], references)},
        **{path: {"post": _push(limits["push_rows"])} for path in ("/v1/push", "/push")},
        "/health": {"get": _plain("Whether the server is alive.")},
        "/ready": {"get": _plain("Whether the online store answers and is filled.")},
        "/metrics": {"get": _plain("Metrics for Prometheus.", "text/plain")},
    }
    for model, service in models.items():
        row = _row(service)
        batch = {
            "type": "object",
            "required": ["rows"],
            "additionalProperties": False,
            "properties": {
                "rows": {
                    "type": "array",
                    "items": row,
                    "minItems": 1,
                    "maxItems": limits["score_rows"],
                }
            },
        }
        one = _score(model, row, f"Score one row by the {model} model.")
        many = _score(model, batch, f"Score several rows by the {model} model.", is_batch=True)
        for prefix in ("/v1", ""):
            paths[f"{prefix}/score/{model}"] = {"post": one}
            paths[f"{prefix}/score/{model}/batch"] = {"post": many}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Cardline", "version": "1", "description": "Features and scores online."},
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Refusal": {
                    "type": "object",
                    "required": ["detail"],
                    "properties": {"detail": {"type": "string"}},
                },
                "Vectors": _VECTORS,
                "Decision": _DECISION,
            },
        },
        "security": [{"token": []}, {}],
    }


def _get_features(rows: int, references: Sequence[str]) -> dict[str, Any]:
    options = {
        "full_feature_names": {"type": "boolean"},
        "include_feature_view_version_metadata": {"type": "boolean"},
    }
    inputs = {name: _inputs(name) for name in service_names()}
    of_services = [
        {
            "type": "object",
            "required": ["feature_service", "entities"],
            "properties": {
                "feature_service": {"const": name},
                "entities": _columns(taken, rows),
                **options,
            },
        }
        for name, taken in inputs.items()
    ]
    of_features = {
        "type": "object",
        "required": ["features", "entities"],
        "properties": {
            "feature_service": {"type": "null"},
            "features": {"type": "array", "minItems": 1, "items": {"enum": [*references]}},
            "entities": _columns({k: v for each in inputs.values() for k, v in each.items()}, rows),
            **options,
        },
    }
    body = {"anyOf": [*of_services, of_features]}
    return {
        "summary": "Feature vectors, a column per feature, as Feast answers.",
        "requestBody": _body(body),
        "responses": _responses({"$ref": "#/components/schemas/Vectors"}),
    }


def _columns(taken: Mapping[str, Any], rows: int) -> dict[str, Any]:
    columns = {
        name: {"type": "array", "minItems": 1, "maxItems": rows, "items": item}
        for name, item in taken.items()
    }
    return {
        "type": "object",
        "minProperties": 1,
        "properties": columns,
        "additionalProperties": False,
        "description": "Columns of equal length: keys and request values.",
    }


def _push(rows: int) -> dict[str, Any]:
    row = Authorization.model_json_schema()
    column = {"type": "array", "items": {}, "minItems": 1, "maxItems": rows}
    body = {
        "type": "object",
        "properties": {
            "rows": {"type": "array", "items": row, "minItems": 1, "maxItems": rows},
            "push_source_name": {"enum": [SOURCE]},
            "df": {"type": "object", "properties": dict.fromkeys(row["properties"], column)},
            "to": {"enum": ["online"]},
        },
        "anyOf": [{"required": ["rows"]}, {"required": ["push_source_name", "df"]}],
    }
    answer = {
        "type": "object",
        "required": ["rows", "cards_changed"],
        "properties": {"rows": {"type": "integer"}, "cards_changed": {"type": "integer"}},
    }
    return {
        "summary": "Authorizations that the next read is to know of.",
        "description": "Needs the scope `push`. The same authorization again changes nothing. "
        "Rows, or columns as Feast's push has them.",
        "requestBody": _body(body),
        "responses": _responses(answer),
    }


def _score(
    model: str, body: dict[str, Any], summary: str, *, is_batch: bool = False
) -> dict[str, Any]:
    answer: dict[str, Any] = {"$ref": "#/components/schemas/Decision"}
    if is_batch:
        answer = {
            "type": "object",
            "required": ["decisions"],
            "properties": {"decisions": {"type": "array", "items": answer}},
        }
    responses = _responses(answer)
    responses["409"] = _refusal("The same call is being answered at the moment.")
    return {
        "summary": summary,
        "description": f"Needs the scope `score:{model}`. The answer is kept in the decision log.",
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "minLength": 1, "maxLength": 128},
                "description": "The same call with the same key gives the same answer again.",
            }
        ],
        "requestBody": _body(body),
        "responses": responses,
    }


def _row(service: str) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "reference": {
            "type": ["string", "null"],
            "maxLength": 128,
            "description": "The caller's own id of what is decided on; kept in the log.",
        }
    } | _inputs(service)
    return {
        "type": "object",
        "properties": properties,
        "anyOf": [{"required": [key]} for key in service_definition(service).keys],
        "additionalProperties": False,
    }


def _inputs(service: str) -> dict[str, Any]:
    """The schema of each key and request value of a service."""
    taken = service_definition(service)
    schemas: dict[str, Any] = {key: {"type": "string"} for key in taken.keys}
    for name, kind in taken.request.items():
        schema: dict[str, Any] = {"type": [_JSON[kind], "null"]}
        if kind == "INT64":
            # Amounts are never below zero.
            least = 0 if name.endswith("_minor") else -(2**63)
            schema |= {"minimum": least, "maximum": 2**63 - 1}
        if name in TIMES:
            schema["format"] = "date-time"
        schemas[name] = schema
    return schemas


def _plain(summary: str, media: str = "application/json") -> dict[str, Any]:
    responses = {"200": {"description": "Yes.", "content": {media: {"schema": {}}}}}
    refusals = {code: _refusal(_REFUSALS[code]) for code in ("400", "401", "403", "429", "503")}
    return {"summary": summary, "responses": responses | refusals}


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _responses(answer: dict[str, Any]) -> dict[str, Any]:
    given = {"description": "The answer.", "content": {"application/json": {"schema": answer}}}
    return {"200": given} | {code: _refusal(text) for code, text in _REFUSALS.items()}


def _refusal(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Refusal"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


_VECTORS = {
    "type": "object",
    "required": ["metadata", "results"],
    "properties": {
        "metadata": {
            "type": "object",
            "required": ["feature_names"],
            "properties": {"feature_names": {"type": "array", "items": {"type": "string"}}},
        },
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["values", "statuses", "event_timestamps"],
                "properties": {
                    "values": {"type": "array", "items": {}},
                    "statuses": {
                        "type": "array",
                        "items": {"enum": ["PRESENT", "NOT_FOUND", "OUTSIDE_MAX_AGE"]},
                    },
                    "event_timestamps": {
                        "type": "array",
                        "items": {"type": "string", "format": "date-time"},
                    },
                },
            },
        },
    },
}
_DECISION = {
    "type": "object",
    "required": [
        "decision_id", "decided_at", "reference", "model", "feature_service", "score", "reasons",
        "inputs", "features", "statuses", "views", "feature_vector_sha256",
    ],
    "properties": {
        "decision_id": {"type": "string"},
        "decided_at": {"type": "string", "format": "date-time"},
        "reference": {"type": ["string", "null"]},
        "model": {
            "type": "object",
            "required": ["name", "version", "state"],
            "properties": {name: {"type": "string"} for name in ("name", "version", "state")},
        },
        "feature_service": {"type": "string"},
        "score": {"type": "number"},
        "pd": {"type": "number", "description": "Underwriting: probability of default."},
        "reasons": {"type": "array", "items": {"type": "object"}},
        "policy_reasons": {
            "type": "array",
            "items": {"type": "object"},
            "description": "Underwriting: the rules of ability to pay that are broken.",
        },
        "inputs": {"type": "object", "description": "Keys and request values as they were taken."},
        "features": {"type": "object"},
        "statuses": {"type": "object"},
        "views": {
            "type": "object",
            "description": "By feature view: event time of the row, and age of what is known.",
        },
        "feature_vector_sha256": {"type": "string"},
    },
}  # fmt: skip
