"""The challenger: monotone boosting on the scorecard's scale, explained against real applicants."""

from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from models.common.calibrated import CalibratedClassifier
from models.underwriting.scorecard import pdo_scale, reference_groups

REFERENCE_ROWS = 8
"""Applicants of each reference group that a score is compared with."""
CELLS_AT_ONCE = 100_000
"""Values explained at once: each is looked at once per feature."""


class MonotoneBoosting(CalibratedClassifier):
    """Monotone gradient boosting in points, whose points lost add up to the score's difference.

    Missing values need no imputation. After `fit`: `features_` in matrix order, `booster_`, and
    `slope_` and `intercept_` of the calibration line on the logit.

    A tree's path uses at most two features, so the score is a sum of functions of one or two
    features. Of such a function the mean over one order of replacing features and its reverse is
    the exact Shapley value: `points_lost` is no sample and no approximation.
    """

    def __init__(
        self,
        *,
        pdo: float = 20.0,
        base_score: float = 600.0,
        base_odds: float = 50.0,
        learning_rate: float = 0.05,
        max_iter: int = 120,
        max_leaf_nodes: int = 8,
        min_samples_leaf: int = 40,
        l2_regularization: float = 5.0,
        random_state: int = 0,
    ) -> None:
        self.pdo = pdo
        self.base_score = base_score
        self.base_odds = base_odds
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
    ) -> "MonotoneBoosting":
        """Learn from a (rows, features) float matrix, NaN for missing, and 0/1 outcomes.

        `sample_weight` undoes the subsampling of negatives, so scores are on the scale of the
        whole population. `directions` (1 rises, -1 falls, 0 free) hold for every prediction.
        """
        width = values.shape[1]
        self.inputs_ = list(features) if features is not None else [f"x{i}" for i in range(width)]
        self.features_ = list(self.inputs_)
        self.directions_ = list(directions) if directions is not None else [0] * width
        self.classes_ = np.array([0, 1])
        self.booster_ = HistGradientBoostingClassifier(
            learning_rate=self.learning_rate,
            max_iter=self.max_iter,
            max_leaf_nodes=self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf,
            l2_regularization=self.l2_regularization,
            monotonic_cst=None if directions is None else list(directions),
            # Pairs only: `points_lost` rests on it.
            interaction_cst="pairwise",
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

    def set_references(self, values: np.ndarray, cutoff_share: float) -> None:
        """Choose the applicants that reasons compare with, from the development sample.

        Of each group a few are kept, evenly spaced by score.
        """
        score = self.total_points(values)
        self.cutoff_score_, groups = reference_groups(score, cutoff_share)
        self.references_: dict[str, np.ndarray] = {}
        for method, mask in groups.items():
            rows = np.flatnonzero(mask)
            rows = rows[np.argsort(score[rows], kind="stable")]
            middles = (np.arange(REFERENCE_ROWS) + 0.5) / REFERENCE_ROWS * len(rows)
            self.references_[method] = values[np.unique(rows[middles.astype(int)])]

    def total_points(self, values: np.ndarray) -> np.ndarray:
        """The score per row; higher is safer."""
        factor, offset = pdo_scale(self.pdo, self.base_score, self.base_odds)
        return offset - factor * self.logit(np.asarray(values, dtype=float))

    def points_lost(self, values: np.ndarray, method: str) -> np.ndarray:
        """Points lost per row and feature against a reference group, shape (rows, features).

        A row's sum is the mean score of the group's kept applicants minus the row's own.
        """
        values = np.asarray(values, dtype=float)
        parts = np.array_split(values, 1 + values.size // CELLS_AT_ONCE)
        reference = self.references_[method]
        # Many small predictions: threads would wait for each other more than they work.
        with threadpool_limits(1):
            return np.concatenate(
                [
                    np.mean([self._replaced(part, other) for other in reference], axis=0)
                    for part in parts
                ]
            )

    def _replaced(self, values: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Change of the score by each feature as the row turns into `other` in both orders."""
        rows, width = values.shape
        forward = np.tri(width + 1, width, -1, dtype=bool)
        gained = np.zeros(values.shape)
        for steps in (forward, forward[:, ::-1]):
            mixed = np.where(steps[None], other, values[:, None])
            score = self.total_points(mixed.reshape(-1, width)).reshape(rows, width + 1)
            change = np.diff(score, axis=1)
            gained += change if steps is forward else change[:, ::-1]
        return gained / 2

    def is_missing(self, values: np.ndarray) -> np.ndarray:
        """Which values per row and feature are not known."""
        return np.isnan(np.asarray(values, dtype=float))
