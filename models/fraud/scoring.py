"""Scoring transactions and choosing the day's alerts."""

import numpy as np
import polars as pl

from models.common.dataset import matrix
from models.fraud.classifier import FraudClassifier


def score_frame(model: FraudClassifier, frame: pl.DataFrame) -> pl.Series:
    """Probability of fraud per row, in row order; a feature the frame lacks counts as missing."""
    values = matrix(frame, model.features_)
    return pl.Series("score", model.predict_proba(values)[:, 1])


def row_reasons(
    model: FraudClassifier, frame: pl.DataFrame, limit: int = 4
) -> list[list[tuple[str, float]]]:
    """Per row the features that raise its score most, at most `limit`, with how much each does.

    A feature raises the score by what its log-odds fall when the feature alone is not known.
    Features that were not known, or that do not raise it, are never among them.
    """
    values = matrix(frame, model.features_)
    rows, width = values.shape
    without = np.repeat(values, width, axis=0)
    without[np.arange(rows * width), np.tile(np.arange(width), rows)] = np.nan
    known = model.slope_ * model.booster_.decision_function(values) if rows else np.empty(0)
    unknown = model.slope_ * model.booster_.decision_function(without) if rows else np.empty(0)
    raised = known[:, None] - unknown.reshape(rows, width)
    order = np.argsort(-raised, axis=1, kind="stable")[:, :limit]
    return [
        [(model.features_[i], float(gain[i])) for i in best if gain[i] > 0]
        for gain, best in zip(raised, order, strict=True)
    ]


def daily_alerts(scored: pl.DataFrame, per_day: int) -> pl.DataFrame:
    """The `per_day` highest-scored cards of every day, each by its highest-scored transaction.

    `scored` has transaction_id, card_id, event_at and score; the result adds `alert_on` and
    `rank` (1 is the highest). Ties go by transaction id.
    """
    return (
        scored.with_columns(pl.col("event_at").dt.date().alias("alert_on"))
        .sort(["alert_on", "score", "transaction_id"], descending=[False, True, False])
        .unique(subset=["alert_on", "card_id"], keep="first", maintain_order=True)
        .with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("alert_on").alias("rank"))
        .filter(pl.col("rank") <= per_day)
    )
