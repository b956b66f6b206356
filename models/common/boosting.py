"""Histogram gradient boosting whose scores are probabilities, by a line fitted on later rows."""

from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from models.common.calibrated import CalibratedClassifier


class CalibratedBoosting(CalibratedClassifier):
    """Histogram gradient boosting with sigmoid calibration on a later slice.

    Missing values need no imputation. After `fit`: `features_` in matrix order, `booster_`,
    `slope_` and `intercept_` of the calibration line on the logit (1 and 0 where the slice had
    too few positives to fit one).
    """

    interaction_cst: str | None = None
    """ "pairwise" keeps every path of a tree to two features."""

    def __init__(
        self,
        *,
        learning_rate: float = 0.06,
        max_iter: int = 150,
        max_leaf_nodes: int = 15,
        min_samples_leaf: int = 20,
        l2_regularization: float = 1.0,
        random_state: int = 0,
    ) -> None:
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.max_leaf_nodes = max_leaf_nodes
        self.min_samples_leaf = min_samples_leaf
        self.l2_regularization = l2_regularization
        self.random_state = random_state

    def fit(
        self,
        values: np.ndarray,
        target: np.ndarray,
        sample_weight: np.ndarray | None = None,
        features: Sequence[str] | None = None,
        directions: Sequence[int] | None = None,
    ) -> "CalibratedBoosting":
        """Learn from a (rows, features) float matrix with NaN for missing.

        `sample_weight` undoes the subsampling of negatives, so scores are on the scale of the
        whole population. `directions` (1 rises, -1 falls, 0 free) hold for every prediction.
        """
        self.features_ = (
            list(features) if features is not None else [f"x{i}" for i in range(values.shape[1])]
        )
        self.classes_ = np.array([0, 1])
        self.booster_ = HistGradientBoostingClassifier(
            learning_rate=self.learning_rate,
            max_iter=self.max_iter,
            max_leaf_nodes=self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf,
            l2_regularization=self.l2_regularization,
            monotonic_cst=None if directions is None else list(directions),
            interaction_cst=self.interaction_cst,
            # Never on a random slice: that would look into the block meant for calibration.
            early_stopping=False,  # pyright: ignore[reportArgumentType]
            random_state=self.random_state,
        )
        # One thread adds up in the same order on every machine, and never waits for another.
        with threadpool_limits(1):
            self.booster_.fit(values, target, sample_weight=sample_weight)
        self.slope_, self.intercept_ = 1.0, 0.0
        return self

    def raw_logit(self, values: np.ndarray) -> np.ndarray:
        """Log-odds of the positive class per row, as fitted."""
        return self.booster_.decision_function(values)
