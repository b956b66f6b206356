"""Training a scorecard: samples, fit, metrics, reasons and gates."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from models.common.dataset import (
    binary_target,
    dataset_sha256,
    matrix,
    require_outcomes,
    usable_features,
)
from models.common.evaluation import FixedBins, bootstrap_interval, summary
from models.common.registry import TrainedModel
from models.common.splits import TimePersonSplit, by_month_and_person
from models.underwriting.catalogue import REASONS_VERSION, entry_for, refuse_prohibited
from models.underwriting.scorecard import Scorecard


@dataclass(frozen=True)
class ScorecardParameters:
    """Settings of a scorecard training; all of them are in the manifest."""

    pdo: float = 20.0
    base_score: float = 600.0
    base_odds: float = 50.0
    minimum_share: float = 0.05
    minimum_iv: float = 0.02
    maximum_features: int = 15
    regularisation: float = 1.0
    out_of_time_share: float = 0.2
    holdout_share: float = 0.2
    minimum_rows: int = 200
    minimum_class_rows: int = 20


@dataclass(frozen=True)
class OutcomeFrame:
    """Matured outcomes with the features known at the decision.

    One row per decision: `key` (unique), `person`, `decision_at`, `is_bad` (0/1) and features.
    Indeterminate and immature decisions are not in it; `population` counts them for the record.
    `known_through` is the moment up to which outcomes were known.
    """

    frame: pl.DataFrame
    key: str
    person: str
    decision_at: str
    target: str
    population: Mapping[str, int]
    known_through: datetime


def train_scorecard(
    outcomes: OutcomeFrame,
    features: Sequence[str],
    *,
    name: str,
    purpose: str,
    target: str,
    parameters: ScorecardParameters | None = None,
    seed: int = 0,
    champion_auc: float | None = None,
    context: Mapping[str, Any] | None = None,
) -> TrainedModel:
    """A scorecard on the development persons of the earlier months, measured out of time.

    Raises ModelError for a prohibited feature or no usable one, NotEnoughOutcomes where labels
    are too few or of one class. `champion_auc` is the champion's out-of-time AUC for the gate.
    """
    settings = parameters or ScorecardParameters()
    refuse_prohibited(list(features))
    frame = outcomes.frame.sort(outcomes.key)
    bad = binary_target(frame, outcomes.target)
    require_outcomes(
        bad,
        what=name,
        minimum_rows=settings.minimum_rows,
        minimum_positives=settings.minimum_class_rows,
    )
    split = by_month_and_person(
        frame[outcomes.decision_at],
        frame[outcomes.person].cast(pl.String),
        out_of_time_share=settings.out_of_time_share,
        holdout_share=settings.holdout_share,
    )
    require_outcomes(
        bad[split.train],
        what=f"{name}, development sample",
        minimum_rows=settings.minimum_rows // 2,
        minimum_positives=settings.minimum_class_rows // 2,
    )
    development = frame.filter(pl.Series(split.train))
    unknown = {f: "no consumer reason is declared for it" for f in features if not entry_for(f)}
    selection = usable_features(development, [f for f in features if f not in unknown])
    scorecard = Scorecard(
        pdo=settings.pdo,
        base_score=settings.base_score,
        base_odds=settings.base_odds,
        minimum_share=settings.minimum_share,
        minimum_iv=settings.minimum_iv,
        maximum_features=settings.maximum_features,
        regularisation=settings.regularisation,
    )
    scorecard.fit(
        matrix(development, selection.kept),
        bad[split.train],
        features=selection.kept,
        directions=[_direction(f) for f in selection.kept],
    )
    values = matrix(frame, scorecard.inputs_)
    probability = scorecard.predict_proba(values)[:, 1]
    metrics = _metrics(frame, outcomes, bad, probability, split)
    moments = frame[outcomes.decision_at]
    return TrainedModel(
        name=name,
        estimator=scorecard,
        features=tuple(scorecard.features_),
        dropped_features={**unknown, **selection.dropped, **scorecard.notes_},
        dataset_sha256=dataset_sha256(
            frame.select(
                outcomes.key,
                outcomes.person,
                outcomes.decision_at,
                outcomes.target,
                *[f for f in dict.fromkeys(features) if f in frame.columns],
            )
        ),
        parameters=asdict(settings),
        seed=seed,
        window={
            "start": str(moments.min()),
            "end": str(outcomes.known_through),
            "decisions_through": str(moments.max()),
        },
        metrics=metrics,
        reasons=_reasons(scorecard),
        gates=gates(metrics, scorecard, champion_auc),
        purpose=purpose,
        target=target,
        context=dict(context or {}),
        notes=split.notes,
        tables={"scorecard.csv": scorecard_table(scorecard).write_csv()},
    )


def _direction(feature: str) -> int:
    entry = entry_for(feature)
    return entry.direction if entry else 0


def _metrics(
    frame: pl.DataFrame,
    outcomes: OutcomeFrame,
    bad: np.ndarray,
    probability: np.ndarray,
    split: TimePersonSplit,
) -> dict[str, Any]:
    bins = FixedBins.from_development(probability[split.train])
    metrics: dict[str, Any] = {"population": dict(outcomes.population)}
    persons = frame[outcomes.person].cast(pl.String).to_numpy()
    samples = {
        "development": split.train,
        "holdout": split.holdout,
        "out_of_time": split.out_of_time,
    }
    for sample, mask in samples.items():
        block = summary(bad[mask], probability[mask])
        if mask.any():
            block["score_psi"] = bins.psi(probability[mask]).value
            interval = bootstrap_interval(bad[mask], probability[mask], persons[mask])
            block["auc_interval"] = list(interval) if interval else None
        metrics[sample] = block
    return metrics


def gates(
    metrics: Mapping[str, Any], scorecard: Scorecard, champion_auc: float | None
) -> dict[str, str]:
    """Promotion gates: "pass", "warn: why" (a person decides) or "fail: why" (blocked).

    Measured out of time, or on the hold-out where there is no later month. A calibration ratio
    off by more than 10 % fails only beyond the noise of the sample.
    """
    sample = "out_of_time" if metrics["out_of_time"]["auc"] is not None else "holdout"
    later, development = metrics[sample], metrics["development"]
    result: dict[str, str] = {}
    if later["auc"] is None:
        return {"validation_sample": "fail: no later sample with both classes to measure on"}
    result["validation_sample"] = (
        "pass" if sample == "out_of_time" else "warn: no out-of-time sample, hold-out used"
    )
    result["discrimination"] = "pass" if later["auc"] > 0.5 else f"fail: AUC {later['auc']:.4f}"
    if champion_auc is not None:
        result["champion_auc"] = (
            "pass"
            if later["auc"] >= champion_auc - 0.005
            else f"fail: AUC {later['auc']:.4f} against the champion's {champion_auc:.4f}"
        )
    drop = development["ks"] - later["ks"]
    result["ks_drop"] = "pass" if drop <= 0.05 else f"warn: KS falls by {drop:.3f}"
    result["calibration"] = _calibration_gate(later, development)
    shift = later["score_psi"]
    result["score_psi"] = (
        "pass" if shift < 0.10 else f"warn: {shift:.3f}" if shift < 0.25 else f"fail: {shift:.3f}"
    )
    bare = [f for f in scorecard.features_ if entry_for(f) is None]
    result["reason_coverage"] = f"fail: {', '.join(bare)}" if bare else "pass"
    turned = [
        f
        for f, woe, sign in zip(
            scorecard.features_, scorecard.woe_, scorecard.directions_, strict=True
        )
        if (np.diff(woe[:-1]) * sign > 0).any()
    ]
    result["monotone"] = f"fail: {', '.join(turned)}" if turned else "pass"
    return result


def _calibration_gate(sample: Mapping[str, Any], development: Mapping[str, Any]) -> str:
    """Expected against observed bads; what chance explains is a warning.

    Chance is that of the sample's own bads around the expectation, and that of the bad rate that
    the model learned from a finite development sample.
    """
    ratio, observed = sample["calibration_ratio"], sample["positives"]
    if abs(ratio - 1) <= 0.10:
        return "pass"
    expected = ratio * observed
    own = expected * (1 - expected / sample["rows"])
    learned = expected**2 * (1 - development["prevalence"]) / development["positives"]
    if abs(expected - observed) <= 1.96 * (own + learned) ** 0.5:
        return f"warn: Σp/Σy {ratio:.3f}, within the noise of {observed} bads"
    return f"fail: Σp/Σy {ratio:.3f}"


def _reasons(scorecard: Scorecard) -> dict[str, Any]:
    """Versioned map of every feature of the model to its consumer reason and points."""
    table: dict[str, Any] = {}
    for k, feature in enumerate(scorecard.features_):
        entry = entry_for(feature)
        if entry is None:
            continue
        table[feature] = {
            "code": entry.code,
            "text": entry.text,
            "missing_code": entry.missing[0],
            "missing_text": entry.missing[1],
            "mean_points": float(scorecard.mean_points_[k]),
            "maximum_points": float(scorecard.points_[k].max()),
        }
    return {
        "version": REASONS_VERSION,
        "method": "points below the mean of the development sample",
        "features": table,
    }


def scorecard_table(scorecard: Scorecard) -> pl.DataFrame:
    """One row per feature and bin: bounds, counts, bad rate, WoE and points."""
    rows: list[dict[str, Any]] = []
    for k, feature in enumerate(scorecard.features_):
        bounds = [-np.inf, *scorecard.edges_[k], np.inf]
        for i, points in enumerate(scorecard.points_[k]):
            missing = i == len(bounds) - 1
            good, bad = float(scorecard.goods_[k][i]), float(scorecard.bads_[k][i])
            rows.append(
                {
                    "feature": feature,
                    "bin": "missing" if missing else f"[{bounds[i]:g}, {bounds[i + 1]:g})",
                    "goods": int(good),
                    "bads": int(bad),
                    "bad_rate": bad / (good + bad) if good + bad else None,
                    "woe": float(scorecard.woe_[k][i]),
                    "points": float(points),
                    "coefficient": float(scorecard.coefficients_[k]),
                    "information_value": float(scorecard.information_values_[k]),
                }
            )
    return pl.DataFrame(rows)
