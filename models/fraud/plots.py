"""Pictures of a fraud model on its test block, for the model card."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from models.common.evaluation import FixedBins
from models.common.plots import Point, bar_chart, line_chart
from models.fraud.evaluation import Economics, alert_metrics

BUDGETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
CALIBRATION_BINS = 8
SCORE_EDGES = (0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
MOST_POINTS = 200


def pictures(
    test: pl.DataFrame, development_scores: np.ndarray, economics: Economics
) -> dict[str, str]:
    """SVG by file name: precision and recall, calibration, scores, budgets of alerts, drift.

    `test` has card_id, event_at, amount_minor, score and label (0 or 1) of the test block;
    `development_scores` are those of the training block. Empty without a fraud in the test block.
    """
    label, score = test["label"].to_numpy(), test["score"].to_numpy()
    if not label.any():
        return {}
    by_budget = _by_budget(test, economics)
    benefit = {"net benefit": by_budget.pop("net benefit")}
    return {
        f"{name}.svg": svg
        for name, svg in {
            "precision_recall": line_chart(
                {"precision": _precision_by_recall(label, score)}, "recall", "precision"
            ),
            "calibration": line_chart(_calibration(label, score), "expected rate", "observed rate"),
            "scores": bar_chart(_scores(label, score), _score_labels(), "share of its class"),
            "alert_budget": line_chart(by_budget, "alerts a day", "share"),
            "net_benefit": line_chart(benefit, "alerts a day", "major units"),
            "drift": _drift(development_scores, score),
        }.items()
        if svg
    }


def _precision_by_recall(label: np.ndarray, score: np.ndarray) -> list[Point]:
    """A point where a tie of scores ends, thinned out to MOST_POINTS."""
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(label[order])
    ends = np.flatnonzero(np.diff(score[order], append=-np.inf))
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, MOST_POINTS).astype(int))]
    return [(float(found[i] / found[-1]), float(found[i] / (i + 1))) for i in ends]


def _calibration(label: np.ndarray, score: np.ndarray) -> dict[str, list[Point]]:
    """Bins that each hold the same number of expected frauds, so that rare high scores show."""
    order = np.argsort(score, kind="stable")
    reached = np.cumsum(score[order])
    bins = np.minimum(CALIBRATION_BINS * reached / reached[-1], CALIBRATION_BINS - 1).astype(int)
    observed: list[Point] = []
    for number in np.unique(bins):
        rows = order[bins == number]
        observed.append((float(score[rows].mean()), float(label[rows].mean())))
    return {"observed": observed, "perfect": [(x, x) for x, _ in observed]}


def _scores(label: np.ndarray, score: np.ndarray) -> Mapping[str, list[float]]:
    bins = np.searchsorted(SCORE_EDGES, score, side="right")
    return {
        name: [float(share) for share in np.bincount(bins[rows], minlength=len(SCORE_EDGES) + 1)
               / max(1, rows.sum())]
        for name, rows in (("legitimate", label == 0), ("fraud", label == 1))
    }  # fmt: skip


def _score_labels() -> list[str]:
    return [*(f"< {edge:g}" for edge in SCORE_EDGES), f"≥ {SCORE_EDGES[-1]:g}"]


def _by_budget(test: pl.DataFrame, economics: Economics) -> dict[str, list[Point]]:
    """Of each budget: precision, the share of defrauded card-days found, net benefit in units."""
    lines: dict[str, list[Point]] = {"precision": [], "recall": [], "net benefit": []}
    for budget in BUDGETS:
        found = alert_metrics(test, budget, economics, threshold=1.0)
        true, benefit = found["alerts_true"] or 0, found["net_benefit_minor"] or 0
        lines["precision"].append((float(budget), true / (found["alerts"] or 1)))
        lines["recall"].append((float(budget), found["recall_at_budget"] or 0.0))
        lines["net benefit"].append((float(budget), benefit / 100))
    return lines


def _drift(development: np.ndarray, score: np.ndarray) -> str:
    bins = FixedBins.from_development(development)
    labels = [*(f"< {edge:.2g}" for edge in bins.edges), "above"]
    return bar_chart(
        {"training": bins.expected[:-1], "test": bins.shares(score)[:-1]}, labels, "share of rows"
    )
