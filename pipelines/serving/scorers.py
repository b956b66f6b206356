"""Scores by the current model version, made as the batch scores of the warehouse are.

The registry decides which version that is; a promotion counts from the next request on.
"""

import json
import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from models.common.errors import ModelError
from pipelines.errors import CardlineError
from pipelines.features.publish import POLARS_TYPES
from pipelines.features.reading import NOT_FOUND, Vectors
from pipelines.features.retrieval import service_definition
from pipelines.settings import get_settings
from pipelines.training import FRAUD, UNDERWRITING, registry

if TYPE_CHECKING:
    from models.common.registry import ModelVersion


class NoModel(CardlineError):
    """No version of a model is registered in this home."""


class UnusableModel(CardlineError):
    """The version in force cannot be loaded."""


@dataclass(frozen=True)
class LoadedModel:
    """A version ready to score: its estimator, its wording of reasons and its feature service."""

    version: "ModelVersion"
    service: str
    estimator: Any
    reasons: dict[str, Any]

    def score(
        self, given: dict[str, list[Any]], vectors: Vectors, references: list[str | None]
    ) -> list[dict[str, Any]]:
        """One answer per row, ready for JSON: score, reasons, inputs, features, states, ages."""
        frame = self._frame(given, vectors)
        asked = [*vectors.plan.keys, *vectors.plan.request]
        results = _SCORE[self.version.name](self, frame)
        at = datetime.now(UTC).replace(tzinfo=None)
        shared = {
            "decided_at": at.isoformat(timespec="milliseconds") + "Z",
            "model": {
                "name": self.version.name,
                "version": self.version.version,
                "state": self.version.state,
            },
            "feature_service": self.service,
        }
        return [
            {
                "decision_id": uuid.uuid4().hex,
                "reference": references[row],
                **shared,
                **result,
                "inputs": {name: given[name][row] for name in asked},
                "features": {c.name: c.values[row] for c in vectors.columns},
                "statuses": {c.name: c.statuses[row] for c in vectors.columns},
                "views": _freshness(vectors, row, at),
            }
            for row, result in enumerate(results)
        ]

    def _frame(self, given: dict[str, list[Any]], vectors: Vectors) -> pl.DataFrame:
        values = {c.name: c.values for c in vectors.columns}
        values |= {name: given[name] for name in vectors.plan.request}
        schema = {name: self._types[name] for name in values}
        # By rows: of a single one, a column is ten times as dear as its value.
        return pl.DataFrame(list(zip(*values.values(), strict=True)), schema=schema, orient="row")

    @cached_property
    def _types(self) -> dict[str, Any]:
        service = service_definition(self.service)
        kinds = service.features | service.request
        return {name: POLARS_TYPES[kind] for name, kind in kinds.items()}


class Scorer:
    """The current version of one model, loaded anew when the registry's log of states changes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._seen: object = None
        self._loaded: LoadedModel | None = None
        self._lock = threading.Lock()

    @property
    def is_stale(self) -> bool:
        """Whether `current` has to load something, which takes a moment."""
        return self._log_state() != self._seen

    def current(self) -> LoadedModel:
        """The version to score with. Raises `NoModel` where there is none."""
        with self._lock:
            state = self._log_state()
            if state != self._seen:
                self._loaded = self._load()
                self._seen = state
        if self._loaded is None:
            raise NoModel(
                f"no {self.name} model is registered in this home: run `cardline train {self.name}`"
            )
        return self._loaded

    def _load(self) -> LoadedModel | None:
        version = registry().current(self.name)
        if version is None:
            return None
        try:
            estimator = registry().load(version.name, version.version)
        except ModelError as error:
            raise UnusableModel(str(error)) from error
        return LoadedModel(
            version,
            version.manifest["context"]["feature_service"],
            estimator,
            json.loads((version.path / "reasons.json").read_text()),
        )

    def _log_state(self) -> object:
        try:
            status = (registry().root / self.name / "states.json").stat()
        except FileNotFoundError:
            return None
        return (status.st_mtime_ns, status.st_ino)


def _underwriting(model: LoadedModel, frame: pl.DataFrame) -> list[dict[str, Any]]:
    from models.underwriting.policy import policy_reasons
    from models.underwriting.scoring import as_json, score_frame

    scored = score_frame(model.estimator, model.reasons, frame, get_settings().reason_method)
    rows = scored.drop("features").to_dicts()
    for row, broken in zip(rows, policy_reasons(frame), strict=True):
        row["policy_reasons"] = as_json(broken)
    told = ("reasons", "key_factors", "policy_reasons")
    return [row | {name: json.loads(row[name]) for name in told} for row in rows]


def _fraud(model: LoadedModel, frame: pl.DataFrame) -> list[dict[str, Any]]:
    from models.common.dataset import vector_sha256
    from models.fraud.scoring import alert_reasons, score_frame

    return [
        {
            "score": score,
            "reasons": reasons,
            "feature_vector_sha256": fingerprint,
        }
        for score, reasons, fingerprint in zip(
            score_frame(model.estimator, frame).to_list(),
            alert_reasons(model.estimator, frame),
            vector_sha256(frame, model.estimator.features_),
            strict=True,
        )
    ]


_SCORE = {UNDERWRITING: _underwriting, FRAUD: _fraud}


def _freshness(vectors: Vectors, row: int, at: datetime) -> dict[str, dict[str, Any]]:
    """By view: what the row's values are as of, and how old what is known is."""
    found: dict[str, dict[str, Any]] = {}
    for column in vectors.columns:
        if column.view in found or column.view not in vectors.known_through:
            continue
        known = vectors.known_through[column.view]
        is_there = column.statuses[row] != NOT_FOUND
        found[column.view] = {
            "event_timestamp": column.event_times[row] if is_there else None,
            "known_through": known.isoformat() + "Z",
            "age_seconds": round((at - known).total_seconds(), 3),
        }
    return found
