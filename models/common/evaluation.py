"""Metrics with exact definitions, ties included.

KS is taken over distinct scores (a tie is one step), PSI on fixed development bins, and card
precision counts cards, not transactions, per day.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from models.common.errors import ModelError

PSI_EPSILON = 1e-4


def _both_classes(target: np.ndarray) -> bool:
    return 0 < target.sum() < len(target)


def roc_auc(target: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Area under the ROC curve; a tie between a bad and a good counts one half."""
    if not _both_classes(target):
        raise ModelError("AUC needs both classes in the sample")
    return float(roc_auc_score(target, score, sample_weight=weight))


def average_precision(
    target: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None
) -> float:
    """Area under the precision-recall steps; a random score gives the prevalence."""
    if not target.sum():
        raise ModelError("average precision needs at least one positive")
    return float(average_precision_score(target, score, sample_weight=weight))


def gini(target: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """2·AUC − 1."""
    return 2.0 * roc_auc(target, score, weight) - 1.0


def ks(target: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Largest gap between the score distributions of goods and bads over distinct scores.

    Zero where all scores tie. Rows are never ordered inside a tie, so the result does not depend
    on the order of the rows.
    """
    if not _both_classes(target):
        raise ModelError("KS needs both classes in the sample")
    weights = np.ones(len(target)) if weight is None else weight
    distinct, position = np.unique(score, return_inverse=True)
    bad = np.bincount(position, weights=weights * target, minlength=len(distinct))
    good = np.bincount(position, weights=weights * (1 - target), minlength=len(distinct))
    gap = np.abs(np.cumsum(bad) / bad.sum() - np.cumsum(good) / good.sum())
    return float(gap.max())


def brier(target: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Mean squared difference between the probability and the outcome."""
    return float(np.average((probability - target) ** 2, weights=weight))


@dataclass(frozen=True)
class Calibration:
    """How far probabilities are from frequencies.

    `ratio` is Σp/Σy (null without positives), `intercept` and `slope` come from a logistic
    regression of the outcome on the logit of the probability (1 and 0 are perfect), `ece` is the
    weighted mean gap over `bins` equally filled groups, in which ties stay together.
    """

    ratio: float | None
    slope: float | None
    intercept: float | None
    ece: float
    bins: tuple[dict[str, float], ...]


def calibration(
    target: np.ndarray,
    probability: np.ndarray,
    weight: np.ndarray | None = None,
    bins: int = 10,
) -> Calibration:
    """Calibration by ratio, by logit slope and by equally filled groups of the probability."""
    weights = np.ones(len(target)) if weight is None else weight
    positives = float((weights * target).sum())
    ratio = float((weights * probability).sum() / positives) if positives else None
    slope = intercept = None
    if _both_classes(target):
        slope, intercept = _logit_line(target, probability, weights)
    group = _filled_groups(probability, bins)
    table: list[dict[str, float]] = []
    gap = 0.0
    for part in (np.flatnonzero(group == number) for number in np.unique(group)):
        mass = float(weights[part].sum())
        expected = float(np.average(probability[part], weights=weights[part]))
        observed = float(np.average(target[part], weights=weights[part]))
        gap += mass * abs(expected - observed)
        table.append({"rows": float(len(part)), "expected": expected, "observed": observed})
    return Calibration(ratio, slope, intercept, gap / float(weights.sum()), tuple(table))


def _filled_groups(values: np.ndarray, groups: int) -> np.ndarray:
    """The group of each value, as equally filled as ties allow.

    Equal values are never divided, so that the order of rows does not matter: they belong where
    the middle of them lies, and other groups may stay empty.
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    parts = np.array_split(np.arange(len(values)), max(1, min(groups, len(values))))
    middle = np.cumsum(counts) - (counts + 1) / 2
    return np.searchsorted(np.cumsum([len(p) for p in parts]), middle, side="right")[place]


def _logit_line(
    target: np.ndarray, probability: np.ndarray, weight: np.ndarray
) -> tuple[float | None, float | None]:
    from sklearn.linear_model import LogisticRegression

    clipped = np.clip(probability, 1e-9, 1 - 1e-9)
    logit = np.log(clipped / (1 - clipped))
    if np.ptp(logit) == 0.0:
        return None, None
    fit = LogisticRegression(C=1e6, max_iter=1000).fit(
        logit.reshape(-1, 1), target, sample_weight=weight
    )
    return float(fit.coef_[0, 0]), float(fit.intercept_[0])


@dataclass(frozen=True)
class Psi:
    """A population stability index and how many empty bins were lifted to epsilon for it."""

    value: float
    zero_bins: int


def psi(expected: Sequence[float], actual: Sequence[float]) -> Psi:
    """Σ (a − e)·ln(a/e) over the shares of fixed bins; an empty bin counts as 1e-4.

    Below 0.10 is stable, 0.10 to 0.25 worth a look, 0.25 and more significant.
    """
    if len(expected) != len(actual):
        raise ModelError(f"PSI needs the same bins: {len(expected)} against {len(actual)}")
    shares = np.array([expected, actual], dtype=float)
    zero = int((shares <= 0).any(axis=0).sum())
    base, now = np.maximum(shares, PSI_EPSILON)
    return Psi(float(((now - base) * np.log(now / base)).sum()), zero)


STABLE, SHIFTED = 0.10, 0.25
"""Stability indexes below and from which a distribution has not moved, and has."""
PSI_NOISE = 21.2
"""98th percentile of chi-squared for ten bins and one for missing; without a shift the index is
chi-squared times (1/n + 1/m)."""


@dataclass(frozen=True)
class FixedBins:
    """Bins fixed on the development sample: inner edges, and a last bin for missing values."""

    edges: tuple[float, ...]
    expected: tuple[float, ...]

    @classmethod
    def from_development(
        cls, values: np.ndarray, bins: int = 10, weights: np.ndarray | None = None
    ) -> "FixedBins":
        """Quantile edges of the development values; repeated quantiles collapse. `weights` say how
        many rows each stands for."""
        known = values[np.isfinite(values)]
        inner = np.linspace(0, 1, bins + 1)[1:-1]
        edges = tuple(float(e) for e in np.unique(np.quantile(known, inner))) if len(known) else ()
        return cls(edges, tuple(cls(edges, ()).shares(values, weights)))

    def shares(self, values: np.ndarray, weights: np.ndarray | None = None) -> list[float]:
        """Share of rows in each bin, missing last; zeros throughout for no rows."""
        position = np.searchsorted(self.edges, values, side="right")
        position = np.where(np.isfinite(values), position, len(self.edges) + 1)
        counts = np.bincount(position, weights, minlength=len(self.edges) + 2)
        return [float(c) / max(1.0, float(counts.sum())) for c in counts]

    def psi(self, values: np.ndarray) -> Psi:
        """Stability of these values against the development sample."""
        return psi(self.expected, self.shares(values))


def card_precision_at_k(
    day: Sequence[Any] | np.ndarray | pl.Series,
    card: Sequence[Any] | np.ndarray | pl.Series,
    target: np.ndarray,
    score: np.ndarray,
    *,
    k: int = 100,
    remove_detected: bool = True,
) -> float:
    """Mean over days of (compromised cards among the k highest-scored cards) / k.

    A card's score of a day is its highest transaction score; it is compromised on the day if any
    of its transactions is a fraud. With `remove_detected`, a card found on one day is not alerted
    again on later days, as an investigator would have blocked it. Ties in score fall to the
    lower card id, so the result does not depend on the order of rows. The denominator is always
    k, also on a day with fewer cards (the published definition).
    """
    cards = (
        pl.DataFrame({"day": day, "card": card, "target": target, "score": score})
        .group_by("day", "card")
        .agg(pl.col("target").max(), pl.col("score").max())
        .sort(["day", "score", "card"], descending=[False, True, False])
    )
    if cards.is_empty():
        raise ModelError("card precision needs at least one day")
    detected: set[Any] = set()
    precisions: list[float] = []
    for block in cards.partition_by("day", maintain_order=True):
        known = list(detected) if remove_detected else []
        found = block.filter(~pl.col("card").is_in(known)).head(k).filter(pl.col("target") == 1)
        detected.update(found["card"].to_list())
        precisions.append(found.height / k)
    return float(np.mean(precisions))


def summary(
    target: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None
) -> dict[str, Any]:
    """Rows, prevalence and the threshold-free metrics of one sample; null where undefined."""
    result: dict[str, Any] = {
        "rows": len(target),
        "positives": int(target.sum()),
        "prevalence": float(np.average(target, weights=weight)) if len(target) else None,
    }
    names = (
        "auc",
        "gini",
        "ks",
        "average_precision",
        "brier",
        "log_loss",
        "calibration_ratio",
        "calibration_slope",
        "calibration_intercept",
        "ece",
    )
    result.update(dict.fromkeys(names))
    if not len(target):
        return result
    lines = calibration(target, probability, weight)
    result.update(
        brier=brier(target, probability, weight),
        calibration_ratio=lines.ratio,
        calibration_slope=lines.slope,
        calibration_intercept=lines.intercept,
        ece=lines.ece,
    )
    if _both_classes(target):
        auc = roc_auc(target, probability, weight)
        result.update(
            auc=auc,
            gini=2 * auc - 1,
            ks=ks(target, probability, weight),
            average_precision=average_precision(target, probability, weight),
            log_loss=float(log_loss(target, probability, sample_weight=weight)),
        )
    return result


def curves(
    target: np.ndarray, probability: np.ndarray, score: np.ndarray, points: int = 50
) -> dict[str, Any]:
    """What a validation report draws of one sample: ROC, score histogram, calibration by decile.

    `cumulative` has the shares of goods and bads up to each score, thinned to about `points`;
    their largest gap is KS. Scores are higher for safer rows.
    """
    distinct, position = np.unique(score, return_inverse=True)
    bad = np.bincount(position, weights=target, minlength=len(distinct))
    good = np.bincount(position, weights=1 - target, minlength=len(distinct))
    kept = np.unique(np.linspace(0, len(distinct) - 1, points).astype(int))
    edges = np.histogram_bin_edges(score, bins=20)
    return {
        "cumulative": {
            "score": distinct[kept].round(4).tolist(),
            "bads": (np.cumsum(bad) / max(1.0, bad.sum()))[kept].round(6).tolist(),
            "goods": (np.cumsum(good) / max(1.0, good.sum()))[kept].round(6).tolist(),
        },
        "histogram": {
            "edges": edges.round(4).tolist(),
            "bads": np.histogram(score[target == 1], edges)[0].tolist(),
            "goods": np.histogram(score[target == 0], edges)[0].tolist(),
        },
        "calibration": list(calibration(target, probability).bins),
    }


def swap_set(
    target: np.ndarray, champion: np.ndarray, challenger: np.ndarray, declined_share: float
) -> dict[str, dict[str, float | int | None]]:
    """Champion × challenger decisions with both declining the same share of the lowest scores.

    Each of the four cells has `rows` and the observed `bad_rate` (null where empty). Ties at the
    cut fall to the earlier row, so that both decline exactly as many.
    """
    count = round(declined_share * len(target))
    approved = []
    for score in (champion, challenger):
        passes = np.ones(len(target), dtype=bool)
        passes[np.argsort(score, kind="stable")[:count]] = False
        approved.append(passes)
    old, new = approved
    cells = {
        "approved_by_both": old & new,
        "swapped_in": ~old & new,
        "swapped_out": old & ~new,
        "declined_by_both": ~old & ~new,
    }
    return {
        name: {
            "rows": int(cell.sum()),
            "bad_rate": float(target[cell].mean()) if cell.any() else None,
        }
        for name, cell in cells.items()
    }


def bootstrap_interval(
    target: np.ndarray,
    score: np.ndarray,
    group: np.ndarray,
    *,
    draws: int = 200,
    seed: int = 0,
) -> tuple[float, float] | None:
    """95 % interval of the AUC, resampling whole groups (accounts or persons).

    Null where a draw in ten or more has a single class.
    """
    return _interval(_drawn_aucs(target, [score], group, draws, seed)[0])


def paired_interval(
    target: np.ndarray,
    score: np.ndarray,
    other: np.ndarray,
    group: np.ndarray,
    *,
    draws: int = 200,
    seed: int = 0,
) -> tuple[float, float] | None:
    """95 % interval of AUC(score) − AUC(other), both measured on each draw of whole groups."""
    ours, theirs = _drawn_aucs(target, [score, other], group, draws, seed)
    return _interval(ours - theirs)


def _interval(values: np.ndarray) -> tuple[float, float] | None:
    known = values[~np.isnan(values)]
    if len(known) < 0.9 * len(values):
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def _drawn_aucs(
    target: np.ndarray, scores: list[np.ndarray], group: np.ndarray, draws: int, seed: int
) -> np.ndarray:
    """AUC per score and draw, shape (scores, draws); NaN where a draw has a single class."""
    _, member = np.unique(group, return_inverse=True)
    groups = int(member.max()) + 1 if len(member) else 0
    ranked = [np.unique(score, return_inverse=True) for score in scores]
    generator = np.random.default_rng(seed)
    found = np.full((len(scores), draws), np.nan)
    for draw in range(draws):
        counts = np.bincount(generator.integers(0, groups, groups), minlength=groups)
        weight = counts[member].astype(float)
        for k, (distinct, position) in enumerate(ranked):
            bad = np.bincount(position, weights=weight * target, minlength=len(distinct))
            good = np.bincount(position, weights=weight * (1 - target), minlength=len(distinct))
            pairs = bad.sum() * good.sum()
            if pairs:
                # Goods scored below each bad, and half of those that tie with it.
                below = np.cumsum(good) - good / 2
                found[k, draw] = float((bad * below).sum() / pairs)
    return found
