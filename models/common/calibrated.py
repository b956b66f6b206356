"""Classifiers whose scores are probabilities, by a line fitted on later rows."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

MINIMUM_CALIBRATION_POSITIVES = 20


class CalibratedClassifier(ClassifierMixin, BaseEstimator):
    """A classifier with sigmoid calibration on a later slice.

    `fit` sets `slope_` and `intercept_` of the calibration line on the logit, by default to 1 and
    0, where they stay if the slice has too few positives to fit one.
    """

    slope_: float
    intercept_: float

    def raw_logit(self, values: np.ndarray) -> np.ndarray:
        """Log-odds of the positive class per row, as fitted."""
        raise NotImplementedError

    def calibrate(
        self, values: np.ndarray, target: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> bool:
        """Fit the calibration line on rows the model has not seen; false if positives are few."""
        if not MINIMUM_CALIBRATION_POSITIVES <= target.sum() < len(target):
            return False
        line: Any = LogisticRegression(C=1e6, max_iter=1000).fit(
            self.raw_logit(values).reshape(-1, 1), target, sample_weight=sample_weight
        )
        if line.coef_[0, 0] <= 0:
            return False
        self.slope_, self.intercept_ = float(line.coef_[0, 0]), float(line.intercept_[0])
        return True

    def logit(self, values: np.ndarray) -> np.ndarray:
        """Calibrated log-odds of the positive class per row."""
        if not len(values):
            return np.empty(0)
        return self.slope_ * self.raw_logit(values) + self.intercept_

    def predict_proba(self, values: np.ndarray) -> np.ndarray:
        """Probabilities of the negative and the positive class, shape (rows, 2)."""
        positive = 1.0 / (1.0 + np.exp(-self.logit(values)))
        return np.column_stack([1 - positive, positive])

    def predict(self, values: np.ndarray) -> np.ndarray:
        """1 where positive is likelier than not."""
        return (self.predict_proba(values)[:, 1] > 0.5).astype(int)
