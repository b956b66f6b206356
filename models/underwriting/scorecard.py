"""A points scorecard: logistic regression on weights of evidence of monotone bins."""

from collections.abc import Sequence
from math import log

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from models.common.errors import ModelError
from models.underwriting.binning import Bins, bin_position, monotone_bins

MAXIMUM_VIF = 5.0
WEAK = "information value below"
"""How the note begins on a feature that says nothing about the outcome."""
REASON_METHODS = ("average", "cutoff", "maximum")
"""What an applicant is compared with: all applicants, those at or slightly above the cut-off (both
of Reg B, comment 9(b)(2)-5), or the best there is."""
CUTOFF_BAND = 0.1
"""Share of applicants above the cut-off that count as slightly above it."""
BEST_SHARE = 0.05


def reference_groups(score: np.ndarray, cutoff_share: float) -> tuple[float, dict[str, np.ndarray]]:
    """The score below which `cutoff_share` of the sample lies, and the group of each method.

    Groups are row masks; none is empty. The best are the highest twentieth of scores.
    """
    cutoff, band, best = np.quantile(
        score,
        [cutoff_share, min(1.0, cutoff_share + CUTOFF_BAND), 1 - BEST_SHARE],
        method="inverted_cdf",
    )
    return float(cutoff), {
        "average": np.ones(len(score), dtype=bool),
        "cutoff": (score >= cutoff) & (score <= band),
        "maximum": score >= best,
    }


def pdo_scale(pdo: float, base_score: float, base_odds: float) -> tuple[float, float]:
    """Factor and offset with which `base_odds`:1 scores `base_score` and `pdo` doubles the odds."""
    factor = pdo / log(2)
    return factor, base_score - factor * log(base_odds)


class Scorecard(ClassifierMixin, BaseEstimator):
    """Points per bin; the sum of the points is the score, and the score is the log-odds.

    After `fit`: `features_` in model order, `edges_`, `woe_` and `points_` (one array per
    feature; the last entry of `woe_` and `points_` is the missing bin), `coefficients_` (all
    positive: more evidence of good is always more points) and `notes_` on what was left out; after
    `set_references` also `cutoff_score_` and `reference_points_` by method. All coefficients and
    directions can be read off the points, so the model is its own documentation.
    """

    def __init__(
        self,
        *,
        pdo: float = 20.0,
        base_score: float = 600.0,
        base_odds: float = 50.0,
        minimum_share: float = 0.05,
        minimum_iv: float = 0.02,
        maximum_features: int = 15,
        regularisation: float = 1.0,
    ) -> None:
        self.pdo = pdo
        self.base_score = base_score
        self.base_odds = base_odds
        self.minimum_share = minimum_share
        self.minimum_iv = minimum_iv
        self.maximum_features = maximum_features
        self.regularisation = regularisation

    def fit(
        self,
        values: np.ndarray,
        bad: np.ndarray,
        features: Sequence[str] | None = None,
        directions: Sequence[int] | None = None,
        sample_weight: np.ndarray | None = None,
    ) -> "Scorecard":
        """Learn from a (rows, features) float matrix, NaN for missing, and 0/1 outcomes."""
        values = np.asarray(values, dtype=float)
        bad = np.asarray(bad, dtype=float)
        width = values.shape[1]
        names = list(features) if features is not None else [f"x{i}" for i in range(width)]
        signs = list(directions) if directions is not None else [0] * width
        bins = [
            monotone_bins(
                values[:, i],
                bad,
                direction=signs[i],
                minimum_share=self.minimum_share,
                weight=sample_weight,
            )
            for i in range(width)
        ]
        evidence = np.column_stack([b.woe[b.position(values[:, i])] for i, b in enumerate(bins)])
        self.notes_: dict[str, str] = {}
        chosen = self._select(names, bins, evidence)
        chosen, coefficients, intercept = self._regress(
            names, bins, evidence, bad, chosen, sample_weight
        )
        factor, offset = pdo_scale(self.pdo, self.base_score, self.base_odds)
        n = len(chosen)
        self.classes_ = np.array([0, 1])
        self.inputs_ = names
        self.features_ = [names[i] for i in chosen]
        self.edges_ = [bins[i].edges for i in chosen]
        self.woe_ = [bins[i].woe for i in chosen]
        self.goods_ = [bins[i].goods for i in chosen]
        self.bads_ = [bins[i].bads for i in chosen]
        self.information_values_ = [bins[i].information_value for i in chosen]
        self.directions_ = [bins[i].direction for i in chosen]
        self.coefficients_ = coefficients
        self.points_ = [
            factor * (beta * woe - intercept / n) + offset / n
            for beta, woe in zip(coefficients, self.woe_, strict=True)
        ]
        return self

    def set_references(self, values: np.ndarray, cutoff_share: float) -> None:
        """Mean points per feature of each reference group, from the development sample.

        For "maximum" they are the most points that the feature can give.
        """
        points = self.points(values)
        self.cutoff_score_, groups = reference_groups(points.sum(axis=1), cutoff_share)
        self.reference_points_ = {m: points[mask].mean(axis=0) for m, mask in groups.items()}
        self.reference_points_["maximum"] = np.array([p.max() for p in self.points_])

    def _select(self, names: list[str], bins: list[Bins], evidence: np.ndarray) -> list[int]:
        """Strongest features first, without those that repeat a stronger one (VIF)."""
        ranked = sorted(range(len(names)), key=lambda i: (-bins[i].information_value, names[i]))
        strong = [i for i in ranked if bins[i].information_value >= self.minimum_iv]
        for i in ranked:
            if i not in strong:
                self.notes_[names[i]] = f"{WEAK} {self.minimum_iv}"
        chosen: list[int] = []
        for i in strong:
            if len(chosen) == self.maximum_features:
                self.notes_[names[i]] = f"not among the {self.maximum_features} strongest"
            elif _vif(evidence[:, [*chosen, i]]) > MAXIMUM_VIF:
                self.notes_[names[i]] = "repeats stronger features (VIF above 5)"
            else:
                chosen.append(i)
        if not chosen:
            raise ModelError(
                f"no feature reaches an information value of {self.minimum_iv}: there is nothing "
                "to build a scorecard from"
            )
        return chosen

    def _regress(
        self,
        names: list[str],
        bins: list[Bins],
        evidence: np.ndarray,
        bad: np.ndarray,
        chosen: list[int],
        sample_weight: np.ndarray | None,
    ) -> tuple[list[int], np.ndarray, float]:
        """Fit, dropping the weakest feature with a turned sign until none is left."""
        while True:
            regression = LogisticRegression(C=self.regularisation, max_iter=1000, tol=1e-8)
            regression.fit(-evidence[:, chosen], bad, sample_weight=sample_weight)
            coefficients = np.ravel(regression.coef_)
            turned = [k for k in range(len(chosen)) if coefficients[k] <= 0]
            if not turned or len(chosen) == 1:
                return (
                    chosen,
                    np.maximum(coefficients, 0.0),
                    float(np.ravel(regression.intercept_)[0]),
                )
            weakest = min(turned, key=lambda k: bins[chosen[k]].information_value)
            self.notes_[names[chosen[weakest]]] = "sign turned beside stronger features"
            chosen = [i for k, i in enumerate(chosen) if k != weakest]

    def _columns(self, values: np.ndarray) -> np.ndarray:
        position = {name: i for i, name in enumerate(self.inputs_)}
        return np.asarray(values, dtype=float)[:, [position[name] for name in self.features_]]

    def positions(self, values: np.ndarray) -> np.ndarray:
        """Bin index per row and model feature, shape (rows, len(features_))."""
        columns = self._columns(values)
        return np.column_stack(
            [bin_position(edges, columns[:, k]) for k, edges in enumerate(self.edges_)]
        )

    def points(self, values: np.ndarray) -> np.ndarray:
        """Points per row and model feature, shape (rows, len(features_))."""
        position = self.positions(values)
        return np.column_stack([p[position[:, k]] for k, p in enumerate(self.points_)])

    def total_points(self, values: np.ndarray) -> np.ndarray:
        """The score per row; higher is safer."""
        return self.points(values).sum(axis=1)

    def points_lost(self, values: np.ndarray, method: str) -> np.ndarray:
        """Points below the reference group's mean per row and model feature.

        No feature in its best bin has lost any: a mean is never above the best.
        """
        return self.reference_points_[method] - self.points(values)

    def is_missing(self, values: np.ndarray) -> np.ndarray:
        """Which values per row and model feature are not known."""
        return np.isnan(self._columns(values))

    def predict_proba(self, values: np.ndarray) -> np.ndarray:
        """Probabilities of good and bad, shape (rows, 2)."""
        factor, offset = pdo_scale(self.pdo, self.base_score, self.base_odds)
        probability = pd_from_score(self.total_points(values), factor, offset)
        return np.column_stack([1 - probability, probability])

    def predict(self, values: np.ndarray) -> np.ndarray:
        """1 where bad is likelier than good."""
        return (self.predict_proba(values)[:, 1] > 0.5).astype(int)


def score_from_pd(probability: float, factor: float, offset: float) -> float:
    """Score of a probability of default: offset + factor·ln(odds of good)."""
    return offset + factor * log((1 - probability) / probability)


def pd_from_score(score: np.ndarray, factor: float, offset: float) -> np.ndarray:
    """Probability of default of a score."""
    return 1.0 / (1.0 + np.exp((np.asarray(score) - offset) / factor))


def _vif(columns: np.ndarray) -> float:
    """Variance inflation of the last column by the others; 1 where it stands alone."""
    if columns.shape[1] == 1:
        return 1.0
    if np.ptp(columns[:, -1]) == 0:
        return float("inf")
    design = np.column_stack([np.ones(len(columns)), columns[:, :-1]])
    target = columns[:, -1]
    fitted = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    unexplained = float(((target - fitted) ** 2).sum())
    total = float(((target - target.mean()) ** 2).sum())
    return total / unexplained if unexplained > 0 else float("inf")
