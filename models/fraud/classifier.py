"""A fraud classifier of one of three kinds that speaks in probabilities and tells its reasons."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import ThreadpoolController

from models.common.calibrated import CalibratedClassifier

ROWS_TOLD_AT_ONCE = 1_000
KINDS = ("logistic_regression", "random_forest", "gradient_boosting")
"""From the simplest to the least simple: of equally good ones the first is taken."""


@cache
def _thread_pools() -> ThreadpoolController:
    """Those of the libraries above: finding them takes longer than scoring a row."""
    return ThreadpoolController()


class FraudClassifier(CalibratedClassifier):
    """One of `KINDS`, with sigmoid calibration on a later slice.

    The trees take missing values as they are; the regression takes logarithms of sizes, medians
    for what is missing and a flag that it is. After `fit`: `features_` in matrix order,
    `estimator_`, `typical_` (the median of each feature among legitimate rows), `slope_` and
    `intercept_` of the calibration line on the logit (1 and what undoes a subsampling where the
    slice had too few frauds to fit one).
    """

    def __init__(
        self,
        *,
        kind: str = "gradient_boosting",
        learning_rate: float = 0.06,
        max_iter: int = 150,
        max_leaf_nodes: int = 15,
        min_samples_leaf: int = 20,
        l2_regularization: float = 1.0,
        trees: int = 100,
        min_rows_leaf: int = 5,
        rows_per_tree: int = 20_000,
        random_state: int = 0,
    ) -> None:
        self.kind = kind
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.max_leaf_nodes = max_leaf_nodes
        self.min_samples_leaf = min_samples_leaf
        self.l2_regularization = l2_regularization
        self.trees = trees
        self.min_rows_leaf = min_rows_leaf
        self.rows_per_tree = rows_per_tree
        self.random_state = random_state

    def fit(
        self,
        values: np.ndarray,
        fraud: np.ndarray,
        sample_weight: np.ndarray | None = None,
        features: Sequence[str] | None = None,
    ) -> "FraudClassifier":
        """Learn from a (rows, features) float matrix with NaN for missing.

        `sample_weight` undoes the subsampling of negatives, so scores are on the scale of the
        whole population. Boosting learns without it and shifts its log-odds instead.
        """
        self.features_ = (
            list(features) if features is not None else [f"x{i}" for i in range(values.shape[1])]
        )
        self.classes_ = np.array([0, 1])
        self.typical_ = _medians(values[fraud == 0])
        self.estimator_ = self._unfitted(len(values))
        self.slope_, self.intercept_ = 1.0, 0.0
        # One thread adds up in the same order on every machine, and never waits for another.
        with _thread_pools().limit(limits=1):
            if self.kind == "logistic_regression":
                self.estimator_.fit(
                    _sizes(values), fraud, logisticregression__sample_weight=sample_weight
                )
            elif self.kind == "random_forest":
                self.estimator_.fit(values, fraud, sample_weight=sample_weight)
            else:
                # The bins of weighted rows take ten times as long as the fit itself. A column of
                # which no row is known has none: a constant in its place is never asked for.
                unknown = np.isnan(values).all(axis=0)
                self.estimator_.fit(np.where(unknown, 0.0, values), fraud)
                if sample_weight is not None:
                    self.intercept_ = _shift(fraud, sample_weight)
        if self.kind == "random_forest":
            # The sum of the votes depends on the order in which threads come.
            self.estimator_.set_params(n_jobs=1)
        return self

    def _unfitted(self, rows: int) -> Any:
        if self.kind == "logistic_regression":
            return make_pipeline(
                SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
                StandardScaler(),
                LogisticRegression(max_iter=1000, random_state=self.random_state),
            )
        if self.kind == "random_forest":
            return RandomForestClassifier(
                n_estimators=self.trees,
                min_samples_leaf=self.min_rows_leaf,
                max_samples=min(1.0, self.rows_per_tree / rows),
                n_jobs=-1,
                random_state=self.random_state,
            )
        if self.kind == "gradient_boosting":
            return HistGradientBoostingClassifier(
                learning_rate=self.learning_rate,
                max_iter=self.max_iter,
                max_leaf_nodes=self.max_leaf_nodes,
                min_samples_leaf=self.min_samples_leaf,
                l2_regularization=self.l2_regularization,
                # Never on a random slice: that would look into the block meant for calibration.
                early_stopping=False,  # pyright: ignore[reportArgumentType]
                random_state=self.random_state,
            )
        raise ValueError(f"there is no kind {self.kind!r}: it is one of {', '.join(KINDS)}")

    def raw_logit(self, values: np.ndarray) -> np.ndarray:
        """Log-odds of fraud per row, as fitted."""
        # Threads that wait for one another cost more than they save on a machine that is busy.
        with _thread_pools().limit(limits=1):
            return self._logit_of(values)

    def _logit_of(self, values: np.ndarray) -> np.ndarray:
        if self.kind == "logistic_regression":
            return self.estimator_.decision_function(_sizes(values))
        if self.kind == "gradient_boosting":
            return self.estimator_.decision_function(values)
        # A forest can be sure; half a vote in ten thousand keeps its logit finite.
        share = np.clip(self.estimator_.predict_proba(values)[:, 1], 5e-5, 1 - 5e-5)
        return np.log(share / (1 - share))

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """What each feature adds to each row's logit, shape (rows, features).

        It is the logit less that of the same row with the feature at its typical value, so a
        feature that is typical itself adds nothing. Features that speak together share nothing:
        the columns do not add up to the logit.
        """
        width = values.shape[1]
        added = np.empty(values.shape)
        # Many rows in one call: asking for one takes as long as asking for hundreds.
        for start in range(0, len(values), ROWS_TOLD_AT_ONCE):
            rows = values[start : start + ROWS_TOLD_AT_ONCE]
            changed = np.repeat(rows, width, axis=0)
            changed[np.arange(len(changed)), np.tile(np.arange(width), len(rows))] = np.tile(
                self.typical_, len(rows)
            )
            logit = self.raw_logit(np.concatenate([rows, changed]))
            without = logit[len(rows) :].reshape(len(rows), width)
            added[start : start + len(rows)] = logit[: len(rows), None] - without
        return self.slope_ * added


def _sizes(values: np.ndarray) -> np.ndarray:
    """Signed logarithms: amounts and counts are skewed, and a line is not to follow their tail."""
    return np.sign(values) * np.log1p(np.abs(values))


def _shift(fraud: np.ndarray, weight: np.ndarray) -> float:
    """What the weights add to the log-odds of a fraud."""
    return float(np.log(weight[fraud == 1].mean() / weight[fraud == 0].mean()))


def _medians(values: np.ndarray) -> np.ndarray:
    """Median of what is known of each column; NaN where nothing is."""
    known = np.isfinite(values).any(axis=0)
    medians = np.full(values.shape[1], np.nan)
    if known.any():
        medians[known] = np.nanmedian(values[:, known], axis=0)
    return medians
