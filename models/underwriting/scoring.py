"""Scoring with a scorecard: probability, score, reasons and the fingerprint of the vector."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from models.common.dataset import matrix, vector_sha256
from models.common.reasons import Reason, principal_reasons
from models.underwriting.scorecard import Scorecard


def score_frame(
    scorecard: Scorecard, reasons: Mapping[str, Any], frame: pl.DataFrame
) -> pl.DataFrame:
    """`pd`, `score`, `reasons` (JSON) and `feature_vector_sha256` per row, in row order.

    `reasons` is the version's reasons.json. A feature the frame lacks counts as missing.
    """
    values = matrix(frame, scorecard.inputs_)
    return pl.DataFrame(
        {
            "pd": scorecard.predict_proba(values)[:, 1],
            "score": scorecard.total_points(values),
            "reasons": [_as_json(r) for r in row_reasons(scorecard, reasons, values)],
            "feature_vector_sha256": vector_sha256(frame, scorecard.features_),
        }
    )


def row_reasons(
    scorecard: Scorecard, reasons: Mapping[str, Any], values: np.ndarray
) -> list[list[Reason]]:
    """Principal reasons per row: points below the mean of all development applicants.

    A missing value brings the wording for missing data, never that of an imputed value. Rows in
    the same bins share their reasons, so each combination of bins is worked out once.
    """
    table = reasons["features"]
    names = scorecard.features_
    mean = {f: float(table[f]["mean_points"]) for f in names}
    best = {f: float(table[f]["maximum_points"]) for f in names}
    positions = scorecard.positions(values)
    combinations, which = np.unique(positions, axis=0, return_inverse=True)
    found: list[list[Reason]] = []
    for bins in combinations:
        points = {f: float(scorecard.points_[k][bins[k]]) for k, f in enumerate(names)}
        wording = {
            f: (table[f]["missing_code"], table[f]["missing_text"])
            if bins[k] == len(scorecard.edges_[k]) + 1
            else (table[f]["code"], table[f]["text"])
            for k, f in enumerate(names)
        }
        found.append(principal_reasons(points, mean, best, wording))
    return [found[i] for i in which.ravel()]


def _as_json(reasons: list[Reason]) -> str:
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
