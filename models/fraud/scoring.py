"""Scoring transactions, choosing the day's alerts and saying why."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from models.common.dataset import matrix
from models.fraud.classifier import FraudClassifier

MAXIMUM_REASONS = 3


def score_frame(model: FraudClassifier, frame: pl.DataFrame) -> pl.Series:
    """Probability of fraud per row, in row order; a feature the frame lacks counts as missing."""
    values = matrix(frame, model.features_)
    return pl.Series("score", model.predict_proba(values)[:, 1])


def daily_alerts(scored: pl.DataFrame, per_day: int) -> pl.DataFrame:
    """The `per_day` highest-scored cards of every day, each by its highest-scored transaction.

    `scored` has transaction_id, card_id, alert_on (the day) and score; the result adds `rank` (1 is
    the highest). Ties go by transaction id.
    """
    return (
        scored.sort(["alert_on", "score", "transaction_id"], descending=[False, True, False])
        .unique(subset=["alert_on", "card_id"], keep="first", maintain_order=True)
        .with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("alert_on").alias("rank"))
        .filter(pl.col("rank") <= per_day)
    )


def alert_reasons(model: FraudClassifier, frame: pl.DataFrame) -> list[list[dict[str, object]]]:
    """Per row the features that add most to its logit, largest first, at most MAXIMUM_REASONS.

    Each reason has `feature`, its `value` (null where missing), what is `typical`, and `adds`, see
    `FraudClassifier.contributions`. A feature that adds nothing is no reason.
    """
    values = matrix(frame, model.features_)
    return [
        _largest(model.features_, row, model.typical_, added)
        for row, added in zip(values, model.contributions(values), strict=True)
    ]


def _largest(
    features: Sequence[str], row: np.ndarray, typical: np.ndarray, added: np.ndarray
) -> list[dict[str, object]]:
    order = np.argsort(-added, kind="stable")[:MAXIMUM_REASONS]
    return [
        {
            "feature": features[i],
            "value": _known(float(row[i])),
            "typical": _known(float(typical[i])),
            "adds": round(float(added[i]), 4),
        }
        for i in order
        if added[i] > 0
    ]


def _known(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None
