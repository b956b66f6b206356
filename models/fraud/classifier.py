"""A gradient boosting classifier that learns from few negatives and speaks in probabilities."""

from models.common.boosting import CalibratedBoosting


class FraudClassifier(CalibratedBoosting):
    """Calibrated gradient boosting; directions are free and features may interact."""
