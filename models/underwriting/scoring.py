"""Scoring: probability, score, reasons, and the exact vector with its fingerprint."""

import json
from collections.abc import Mapping
from math import isnan
from typing import Any, Protocol

import numpy as np
import polars as pl

from models.common.dataset import matrix, vector_sha256
from models.common.reasons import MAXIMUM_REASONS, Reason, worst_first
from models.underwriting.attributes import with_attributes

INQUIRIES = "R15"
"""Reason code of recent inquiries, a key factor in its own right."""
KEY_FACTORS = "maximum"
"""What key factors of a score compare with: the best there is."""


class PointsModel(Protocol):
    """A model that scores in points and can tell which feature cost how many of them."""

    inputs_: list[str]
    features_: list[str]
    cutoff_score_: float

    def predict_proba(self, values: np.ndarray) -> np.ndarray: ...
    def total_points(self, values: np.ndarray) -> np.ndarray: ...
    def points_lost(self, values: np.ndarray, method: str) -> np.ndarray: ...
    def is_missing(self, values: np.ndarray) -> np.ndarray: ...


def score_frame(
    model: PointsModel, reasons: Mapping[str, Any], frame: pl.DataFrame, method: str = "average"
) -> pl.DataFrame:
    """Per row, in row order: `pd`, `score`, `reasons` and `key_factors` (JSON), the exact vector as
    `features` (JSON) and its fingerprint `feature_vector_sha256`.

    `reasons` is the version's reasons.json. A feature the frame lacks counts as missing; vendor
    attributes are taken from their object.
    """
    frame = with_attributes(frame)
    values = matrix(frame, model.inputs_)
    return pl.DataFrame(
        {
            "pd": model.predict_proba(values)[:, 1],
            "score": model.total_points(values),
            "reasons": [as_json(r) for r in row_reasons(model, reasons, values, method)],
            "key_factors": [as_json(r) for r in key_factors(model, reasons, values)],
            "features": vectors(frame, model.features_),
            "feature_vector_sha256": vector_sha256(frame, model.features_),
        }
    )


def row_reasons(
    model: PointsModel, reasons: Mapping[str, Any], values: np.ndarray, method: str = "average"
) -> list[list[Reason]]:
    """Principal reasons per row: at most four, points lost against the method's reference group.

    A missing value brings the wording for missing data, never that of an imputed value.
    """
    return _worst(model, reasons, values, method, None)


def key_factors(
    model: PointsModel, reasons: Mapping[str, Any], values: np.ndarray
) -> list[list[Reason]]:
    """What kept each score from the best: at most four factors, and inquiries as a fifth."""
    return _worst(model, reasons, values, KEY_FACTORS, INQUIRIES)


def _worst(
    model: PointsModel,
    reasons: Mapping[str, Any],
    values: np.ndarray,
    method: str,
    besides: str | None,
) -> list[list[Reason]]:
    """Rows that lost the same points share their reasons, which are worked out once."""
    if not len(values):
        return []
    table, names = reasons["features"], model.features_
    lost = model.points_lost(values, method)
    missing = model.is_missing(values)
    kinds, first, which = np.unique(
        np.hstack([lost, missing]), axis=0, return_index=True, return_inverse=True
    )
    found: list[list[Reason]] = []
    for row in first[: len(kinds)]:
        wording = {
            name: (table[name]["missing_code"], table[name]["missing_text"])
            if missing[row, k]
            else (table[name]["code"], table[name]["text"])
            for k, name in enumerate(names)
        }
        points = dict(zip(names, lost[row].tolist(), strict=True))
        found.append(worst_first(points, wording, limit=MAXIMUM_REASONS, besides=besides))
    return [found[i] for i in which.ravel()]


def vectors(frame: pl.DataFrame, features: list[str]) -> list[str]:
    """One JSON object per row: the values that are scored, null where they are not known."""
    return [
        json.dumps({f: None if isnan(v) else v for f, v in zip(features, row, strict=True)})
        for row in matrix(frame, features).tolist()
    ]


def as_json(reasons: list[Reason]) -> str:
    """Reasons as a JSON list, worst first."""
    return json.dumps(
        [
            {
                "code": r.code,
                "text": r.text,
                "feature": r.feature,
                "points_lost": round(r.points_lost, 4),
            }
            for r in reasons
        ]
    )
