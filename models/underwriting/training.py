"""Training the scorecard and its challenger: samples, fit, metrics, reasons and gates."""

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
from models.common.errors import ModelError
from models.common.evaluation import (
    PSI_NOISE,
    SHIFTED,
    STABLE,
    FixedBins,
    bootstrap_interval,
    curves,
    paired_interval,
    summary,
    swap_set,
)
from models.common.reasons import LEAST_POINTS, Reason
from models.common.registry import TOLERANCE, TrainedModel
from models.common.splits import TimePersonSplit, by_month_and_person
from models.underwriting.attributes import attribute_features
from models.underwriting.catalogue import (
    GENERAL_REASON,
    REASONS_VERSION,
    entry_for,
    prohibited_features,
    refuse_prohibited,
)
from models.underwriting.challenger import MonotoneBoosting
from models.underwriting.rejects import (
    DECLINED,
    TEST_CELL,
    Lesson,
    RejectInference,
    by_parcelling,
    by_test_cell,
)
from models.underwriting.scorecard import REASON_METHODS, WEAK, Scorecard
from models.underwriting.scoring import PointsModel, row_reasons

SCORECARD = "scorecard"
CHALLENGER = "monotone_boosting"
CALIBRATION_SHARE = 0.2
"""Of the development rows: the latest, which the challenger does not learn from."""
GRID_POINTS = 200
AGREEMENT_ROWS = 100
LEAST_AGREEMENT = 0.8


@dataclass(frozen=True)
class ScorecardParameters:
    """Settings of an underwriting training; all of them are in the manifest.

    `cutoff_share` of the development sample lies below the model's cut-off: reasons compare with
    applicants slightly above it, swap sets decline as many with either model. `reject_inference`
    says what is learned of declined applicants; see `models.underwriting.rejects`.
    """

    pdo: float = 20.0
    base_score: float = 600.0
    base_odds: float = 50.0
    minimum_share: float = 0.05
    minimum_iv: float = 0.02
    maximum_features: int = 15
    regularisation: float = 1.0
    out_of_time_share: float = 0.2
    holdout_share: float = 0.2
    cutoff_share: float = 0.2
    minimum_rows: int = 200
    minimum_class_rows: int = 20
    reject_inference: RejectInference = "none"
    reject_multiplier: float = 1.5
    test_cell_share: float = 0.1


@dataclass(frozen=True)
class OutcomeFrame:
    """Matured outcomes with the features known at the decision.

    One row per decision: `key` (unique), `person`, `decision_at`, `is_bad` (0/1) and features.
    Indeterminate and immature decisions are not in it; `population` counts them for the record.
    `known_through` is the moment up to which outcomes were known. `source`, where given, is a
    column that says how a row came to its outcome (`models.underwriting.rejects`); rows of DECLINED
    may have none.
    """

    frame: pl.DataFrame
    key: str
    person: str
    decision_at: str
    target: str
    population: Mapping[str, int]
    known_through: datetime
    source: str | None = None


@dataclass(frozen=True)
class _Samples:
    """One pinned data set, split once: both models learn from and are measured on the same rows."""

    outcomes: OutcomeFrame
    frame: pl.DataFrame
    bad: np.ndarray
    split: TimePersonSplit
    candidates: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: dict[str, str]
    sha256: str
    declined: pl.DataFrame

    @property
    def development(self) -> pl.DataFrame:
        return self.frame.filter(pl.Series(self.split.train))

    def sources(self) -> np.ndarray:
        """How each row came to its outcome; empty texts where nothing is said."""
        if self.outcomes.source is None:
            return np.full(self.frame.height, "")
        return self.frame[self.outcomes.source].to_numpy()


def train_scorecard(
    outcomes: OutcomeFrame,
    features: Sequence[str],
    *,
    name: str,
    purpose: str,
    target: str,
    parameters: ScorecardParameters | None = None,
    seed: int = 0,
    champion: PointsModel | None = None,
    context: Mapping[str, Any] | None = None,
) -> TrainedModel:
    """A scorecard on the development persons of the earlier months, measured out of time.

    Raises ModelError for a prohibited feature or no usable one, NotEnoughOutcomes where labels
    are too few or of one class. `champion` is measured on the same later rows, for the gate.
    """
    settings = parameters or ScorecardParameters()
    samples = _samples(outcomes, features, name, settings)
    lesson = _lesson(samples, settings)
    scorecard = _fitted(samples, settings, lesson)
    scorecard.set_references(matrix(samples.development, samples.kept), settings.cutoff_share)
    measured = _measured(samples, scorecard, champion)
    if settings.reject_inference != "none":
        measured["reject_inference"] = _with_and_without(samples, settings, scorecard)
    return TrainedModel(
        name=name,
        estimator=scorecard,
        features=tuple(scorecard.features_),
        dropped_features={**samples.dropped, **scorecard.notes_},
        dataset_sha256=samples.sha256,
        parameters={"kind": SCORECARD, **asdict(settings)},
        seed=seed,
        window=_window(samples),
        metrics=measured,
        reasons=_reasons(scorecard, scorecard.reference_points_),
        gates={**gates(measured, scorecard), "monotone": _monotone_bins(scorecard)},
        purpose=purpose,
        target=target,
        context=dict(context or {}),
        notes=samples.split.notes,
        tables={"scorecard.csv": scorecard_table(scorecard).write_csv()},
    )


def train_challenger(
    outcomes: OutcomeFrame,
    features: Sequence[str],
    scorecard: TrainedModel,
    *,
    name: str,
    purpose: str,
    target: str,
    parameters: ScorecardParameters | None = None,
    seed: int = 0,
    champion: PointsModel | None = None,
    context: Mapping[str, Any] | None = None,
) -> TrainedModel:
    """Monotone boosting on the same rows and split, compared with `scorecard` decision by decision.

    It looks at every usable feature whose bins carry information, and is calibrated on the latest
    fifth of the development rows. It enters the registry in the shadow (CHALLENGER) and may be
    promoted only where it wins beyond chance and gives the scorecard's reasons.
    """
    settings = parameters or ScorecardParameters()
    samples = _samples(outcomes, features, name, settings)
    if samples.sha256 != scorecard.dataset_sha256:
        raise ModelError("the challenger and the scorecard must learn from one data set")
    silent = [f for f in samples.kept if scorecard.dropped_features.get(f, "").startswith(WEAK)]
    inputs = [f for f in samples.kept if f not in silent]
    earlier, later = _calibration_slice(samples)
    # The learner cannot bin what none of its rows has, be it known of the later ones.
    known = np.isfinite(matrix(samples.frame, inputs)[earlier])
    unseen = [f for f, column in zip(inputs, known.T, strict=True) if not column.any()]
    inputs = [f for f in inputs if f not in unseen]
    values = matrix(samples.frame, inputs)
    lesson = _lesson(samples, settings, earlier, inputs)
    model = MonotoneBoosting(
        pdo=settings.pdo,
        base_score=settings.base_score,
        base_odds=settings.base_odds,
        random_state=seed,
    )
    model.fit(
        lesson.values,
        lesson.bad,
        sample_weight=lesson.weight,
        features=inputs,
        directions=[_direction(f) for f in inputs],
    )
    notes = list(samples.split.notes)
    if not model.calibrate(values[later], samples.bad[later]):
        notes.append("too few bads in the latest development rows to calibrate on")
    model.set_references(values[samples.split.train], settings.cutoff_share)
    measured = _measured(samples, model, champion)
    measured["against_scorecard"] = _against(samples, model, scorecard.estimator, settings)
    return TrainedModel(
        name=name,
        estimator=model,
        features=tuple(inputs),
        dropped_features={
            **samples.dropped,
            **dict.fromkeys(silent, f"{WEAK} {settings.minimum_iv}"),
            **dict.fromkeys(unseen, "all missing before the rows to calibrate on"),
        },
        dataset_sha256=samples.sha256,
        parameters={"kind": CHALLENGER, **asdict(settings), **_learner(model)},
        seed=seed,
        window=_window(samples),
        metrics=measured,
        reasons=_reasons(model, {}),
        gates={
            **gates(measured, model),
            "monotone": _monotone_scores(model, values[samples.split.train]),
            **_challenger_gates(measured["against_scorecard"]),
        },
        purpose=purpose,
        target=target,
        context=dict(context or {}),
        notes=tuple(notes),
        state="CHALLENGER",
    )


def _fitted(samples: _Samples, settings: ScorecardParameters, lesson: Lesson) -> Scorecard:
    return Scorecard(
        pdo=settings.pdo,
        base_score=settings.base_score,
        base_odds=settings.base_odds,
        minimum_share=settings.minimum_share,
        minimum_iv=settings.minimum_iv,
        maximum_features=settings.maximum_features,
        regularisation=settings.regularisation,
    ).fit(
        lesson.values,
        lesson.bad,
        features=samples.kept,
        directions=[_direction(f) for f in samples.kept],
        sample_weight=lesson.weight,
    )


def _lesson(
    samples: _Samples,
    settings: ScorecardParameters,
    mask: np.ndarray | None = None,
    features: Sequence[str] | None = None,
) -> Lesson:
    """What to learn from: the development rows, or those of `mask`, by the way of the settings."""
    rows = samples.split.train if mask is None else mask
    names = samples.kept if features is None else features
    plain = Lesson(matrix(samples.frame, names)[rows], samples.bad[rows])
    if settings.reject_inference == "test_cell":
        is_test_cell = samples.sources()[rows] == TEST_CELL
        return by_test_cell(plain, is_test_cell, settings.test_cell_share)
    if settings.reject_inference == "parcelling":
        known = Lesson(matrix(samples.frame, samples.kept)[rows], samples.bad[rows])
        without = _fitted(samples, settings, known)
        probability = without.predict_proba(matrix(samples.declined, samples.kept))[:, 1]
        declined = matrix(samples.declined, names)
        return by_parcelling(plain, declined, probability, settings.reject_multiplier)
    return plain


def _with_and_without(
    samples: _Samples, settings: ScorecardParameters, model: Scorecard
) -> dict[str, Any]:
    """The model beside the one that assumes nothing, on the later outcomes and on the declined."""
    mask = _later_rows(samples)
    values, bad = matrix(samples.frame, samples.kept), samples.bad
    train = samples.split.train & (samples.sources() != DECLINED)
    models = {
        "without": _fitted(samples, settings, Lesson(values[train], bad[train])),
        "with": model,
    }
    declined = matrix(samples.declined, samples.kept)
    told: dict[str, Any] = {
        "method": settings.reject_inference,
        "declined_rows": samples.declined.height,
    }
    for name, each in models.items():
        probability = each.predict_proba(values[mask])[:, 1]
        found = summary(bad[mask], probability)
        told[name] = {
            "auc": found["auc"],
            "calibration_ratio": found["calibration_ratio"],
            "expected_bad_rate": float(probability.mean()),
            "expected_bad_rate_of_declined": float(each.predict_proba(declined)[:, 1].mean())
            if len(declined)
            else None,
        }
    return told


def _calibration_slice(samples: _Samples) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the development rows to learn from and of the later ones to calibrate on.

    Where decisions are of one moment none is later, and all are learned from.
    """
    train = samples.split.train
    moments = samples.frame[samples.outcomes.decision_at].dt.timestamp("us").to_numpy()
    later = train & (moments > np.quantile(moments[train], 1 - CALIBRATION_SHARE))
    return train & ~later, later


def _learner(model: MonotoneBoosting) -> dict[str, Any]:
    return {
        name: value
        for name, value in model.get_params().items()
        if name not in ("pdo", "base_score", "base_odds", "random_state")
    }


def _samples(
    outcomes: OutcomeFrame, features: Sequence[str], name: str, settings: ScorecardParameters
) -> _Samples:
    delivered = attribute_features(features)
    refuse_prohibited([f for f in features if f not in delivered])
    frame, declined = _by_source(outcomes, settings)
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
    unknown = {f: "no consumer reason is declared for it" for f in features if not entry_for(f)}
    unknown |= dict.fromkeys(prohibited_features(delivered), "prohibited, and not looked at")
    selection = usable_features(
        frame.filter(pl.Series(split.train)), [f for f in features if f not in unknown]
    )
    return _Samples(
        outcomes,
        frame,
        bad,
        split,
        tuple(dict.fromkeys(features)),
        selection.kept,
        {**unknown, **selection.dropped},
        dataset_sha256(pinned_columns(outcomes, features)),
        declined.filter(
            pl.col(outcomes.decision_at)
            <= frame[outcomes.decision_at].filter(pl.Series(split.train)).max()
        ),
    )


def _by_source(
    outcomes: OutcomeFrame, settings: ScorecardParameters
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows with an outcome to learn from and be measured on, and the declined, both by key."""
    frame = outcomes.frame.sort(outcomes.key)
    if outcomes.source is None:
        return frame, frame.clear()
    is_declined = pl.col(outcomes.source) == DECLINED
    is_learned = ~is_declined
    if settings.reject_inference == "bureau":
        is_learned = pl.col(outcomes.target).is_not_null()
    return frame.filter(is_learned), frame.filter(is_declined)


def pinned_columns(outcomes: OutcomeFrame, features: Sequence[str]) -> pl.DataFrame:
    """The rows and columns that a model is learned from, in the order of its fingerprint."""
    frame = outcomes.frame.sort(outcomes.key)
    return frame.select(
        outcomes.key,
        outcomes.person,
        outcomes.decision_at,
        outcomes.target,
        *([outcomes.source] if outcomes.source else []),
        *[f for f in dict.fromkeys(features) if f in frame.columns],
    )


def _window(samples: _Samples) -> dict[str, str]:
    moments = samples.frame[samples.outcomes.decision_at]
    return {
        "start": str(moments.min()),
        "end": str(samples.outcomes.known_through),
        "decisions_through": str(moments.max()),
    }


def _direction(feature: str) -> int:
    entry = entry_for(feature)
    return entry.direction if entry else 0


def _measured(
    samples: _Samples, model: PointsModel, champion: PointsModel | None
) -> dict[str, Any]:
    """Metrics by sample, stability against development, and the curves of the report; of the
    champion its AUC on the later rows."""
    outcomes, split, bad = samples.outcomes, samples.split, samples.bad
    values = matrix(samples.frame, model.inputs_)
    probability = model.predict_proba(values)[:, 1]
    score = model.total_points(values)
    bins = FixedBins.from_development(score[split.train])
    inputs = {f: values[:, model.inputs_.index(f)] for f in model.features_}
    by_feature = {f: FixedBins.from_development(v[split.train]) for f, v in inputs.items()}
    persons = samples.frame[outcomes.person].cast(pl.String).to_numpy()
    metrics: dict[str, Any] = {
        "population": dict(outcomes.population),
        "cutoff": {"score": model.cutoff_score_, "reference_groups": list(REASON_METHODS)},
        "stability_bins": {
            "score": asdict(bins),
            "features": {f: asdict(b) for f, b in by_feature.items()},
        },
        "curves": {},
    }
    masks = {
        "development": split.train,
        "holdout": split.holdout,
        "out_of_time": split.out_of_time,
    }
    for sample, mask in masks.items():
        block = summary(bad[mask], probability[mask])
        if mask.any():
            block["score_psi"] = bins.psi(score[mask]).value
            shifts = {f: by_feature[f].psi(v[mask]).value for f, v in inputs.items()}
            block["csi"] = {f: round(shift, 6) for f, shift in shifts.items()}
            interval = bootstrap_interval(bad[mask], probability[mask], persons[mask])
            block["auc_interval"] = list(interval) if interval else None
            metrics["curves"][sample] = curves(bad[mask], probability[mask], score[mask])
            metrics["curves"][sample]["shares"] = bins.shares(score[mask])
        metrics[sample] = block
    metrics["curves"]["vintages"] = _vintages(samples, probability)
    if champion is not None:
        later = _later_rows(samples)
        told = champion.predict_proba(matrix(samples.frame, champion.inputs_))[:, 1]
        metrics["champion_auc"] = summary(bad[later], told[later])["auc"]
    return metrics


def _vintages(samples: _Samples, probability: np.ndarray) -> list[dict[str, Any]]:
    """Expected and observed bad rate per month of decision."""
    month = samples.frame[samples.outcomes.decision_at].dt.strftime("%Y-%m").alias("month")
    return (
        pl.DataFrame({"month": month, "bad": samples.bad, "expected": probability})
        .group_by("month")
        .agg(pl.len().alias("rows"), pl.col("expected").mean(), pl.col("bad").mean())
        .sort("month")
        .to_dicts()
    )


def _later_rows(samples: _Samples) -> np.ndarray:
    """Mask of the out-of-time rows, of the hold-out where these have no bads."""
    split = samples.split
    return split.out_of_time if samples.bad[split.out_of_time].any() else split.holdout


def _later(metrics: Mapping[str, Any]) -> str:
    return "out_of_time" if metrics["out_of_time"]["auc"] is not None else "holdout"


def gates(metrics: Mapping[str, Any], model: PointsModel) -> dict[str, str]:
    """Promotion gates: "pass", "warn: why" (a person decides) or "fail: why" (blocked).

    Measured out of time, or on the hold-out where there is no later month. What the noise of a
    small sample explains (calibration, distribution of single features) is a warning.
    """
    sample = _later(metrics)
    later, development = metrics[sample], metrics["development"]
    result: dict[str, str] = {}
    if later["auc"] is None:
        return {"validation_sample": "fail: no later sample with both classes to measure on"}
    result["validation_sample"] = (
        "pass" if sample == "out_of_time" else "warn: no out-of-time sample, hold-out used"
    )
    result["discrimination"] = (
        "pass" if later["auc"] > 0.5 else f"fail: AUC {later['auc']:.4f} is no better than chance"
    )
    champion_auc = metrics.get("champion_auc")
    if champion_auc is not None:
        result["champion_auc"] = (
            "pass"
            if later["auc"] >= champion_auc - TOLERANCE
            else f"fail: AUC {later['auc']:.4f} is more than {TOLERANCE} below the champion's "
            f"{champion_auc:.4f} on the same rows"
        )
    drop = development["ks"] - later["ks"]
    result["ks_drop"] = "pass" if drop <= 0.05 else f"warn: KS falls by {drop:.3f} from development"
    result["calibration"] = _calibration_gate(later, development)
    shift = later["score_psi"]
    result["score_psi"] = (
        "pass"
        if shift < STABLE
        else f"{'warn' if shift < SHIFTED else 'fail'}: the scores' distribution moved since "
        f"development (PSI {shift:.3f})"
    )
    result["csi"] = _csi_gate(later, development)
    result["reason_coverage"] = _reason_gate(model.features_)
    return result


def _reason_gate(features: Sequence[str]) -> str:
    """Every feature has a reason for a consumer; a person has to see to reasons that say little."""
    entries = {f: entry_for(f) for f in features}
    bare = [f for f, entry in entries.items() if entry is None]
    if bare:
        return f"fail: no consumer reason for {', '.join(bare)}"
    general = [f for f, entry in entries.items() if entry and entry.code == GENERAL_REASON]
    if general:
        return f"warn: a reason of their own is still to be written for {', '.join(general)}"
    return "pass"


def _csi_gate(later: Mapping[str, Any], development: Mapping[str, Any]) -> str:
    """All features below 0.25 beyond what the sample sizes alone bring into the index."""
    noise = PSI_NOISE * (1 / later["rows"] + 1 / development["rows"])
    moved = {f: v for f, v in later["csi"].items() if v >= SHIFTED}
    told = ", ".join(f"{f} {v:.3f}" for f, v in sorted(moved.items(), key=lambda x: -x[1]))
    if not moved:
        return "pass"
    if max(moved.values()) < SHIFTED + noise:
        return f"warn: moved since development, within the noise of {later['rows']} rows: {told}"
    return f"fail: features moved since development (CSI 0.25 or more): {told}"


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
    return f"fail: {expected:.0f} bads were expected and {observed} came (Σp/Σy {ratio:.3f})"


def _monotone_bins(scorecard: Scorecard) -> str:
    turned = [
        f
        for f, woe, sign in zip(
            scorecard.features_, scorecard.woe_, scorecard.directions_, strict=True
        )
        if (np.diff(woe[:-1]) * sign > 0).any()
    ]
    return f"fail: against its direction: {', '.join(turned)}" if turned else "pass"


def _monotone_scores(model: MonotoneBoosting, values: np.ndarray) -> str:
    """Walk every directed feature over its development range, others as in a middle row."""
    middle = values[np.argsort(model.total_points(values), kind="stable")[len(values) // 2]]
    turned = []
    for k, (feature, sign) in enumerate(zip(model.inputs_, model.directions_, strict=True)):
        known = values[:, k][np.isfinite(values[:, k])]
        if sign and len(known):
            grid = np.tile(middle, (GRID_POINTS, 1))
            grid[:, k] = np.linspace(known.min(), known.max(), GRID_POINTS)
            if (np.diff(model.total_points(grid)) * sign > LEAST_POINTS).any():
                turned.append(feature)
    return f"fail: against its direction: {', '.join(turned)}" if turned else "pass"


def _against(
    samples: _Samples,
    model: MonotoneBoosting,
    scorecard: Scorecard,
    settings: ScorecardParameters,
) -> dict[str, Any]:
    """The challenger beside the scorecard on the later sample: AUC, decisions and reasons."""
    mask = _later_rows(samples)
    frame, bad = samples.frame.filter(pl.Series(mask)), samples.bad[mask]
    values, known = matrix(frame, model.inputs_), matrix(frame, scorecard.inputs_)
    ours, theirs = model.total_points(values), scorecard.total_points(known)
    persons = frame[samples.outcomes.person].cast(pl.String).to_numpy()
    interval = paired_interval(bad, -ours, -theirs, persons)
    lowest = np.argsort(theirs, kind="stable")[: round(settings.cutoff_share * len(theirs))]
    declined = lowest[:: max(1, len(lowest) // AGREEMENT_ROWS)][:AGREEMENT_ROWS]
    return {
        "compared_rows": len(bad),
        "auc_gain_interval": list(interval) if interval else None,
        "swap_set": swap_set(bad, theirs, ours, settings.cutoff_share),
        "reason_agreement": reason_agreement(
            row_reasons(model, _reasons(model, {}), values[declined], "cutoff"),
            row_reasons(scorecard, _reasons(scorecard, {}), known[declined], "cutoff"),
        ),
        "declines_compared": len(declined),
    }


def reason_agreement(challenger: list[list[Reason]], scorecard: list[list[Reason]]) -> float | None:
    """Share of rows whose first reason by the challenger is one of the scorecard's first two."""
    shared = [
        bool(ours) and ours[0].code in {r.code for r in theirs[:2]}
        for ours, theirs in zip(challenger, scorecard, strict=True)
        if ours or theirs
    ]
    return float(np.mean(shared)) if shared else None


def _challenger_gates(against: Mapping[str, Any]) -> dict[str, str]:
    interval, agreement = against["auc_gain_interval"], against["reason_agreement"]
    if interval is None:
        win = "fail: too few bads to compare it with the scorecard"
    elif interval[0] > 0:
        win = "pass"
    else:
        win = (
            f"fail: its AUC beats the scorecard's by {interval[0]:.4f} to {interval[1]:.4f} "
            "(95 %), which is no win beyond chance"
        )
    if agreement is None or agreement < LEAST_AGREEMENT:
        told = "unknown" if agreement is None else f"{agreement:.0%}"
        reasons = (
            f"fail: its first reasons agree with the scorecard's on {told} of the declines; "
            f"{LEAST_AGREEMENT:.0%} are needed"
        )
    else:
        reasons = "pass"
    return {"win_over_scorecard": win, "reason_agreement": reasons}


def _reasons(model: PointsModel, reference_points: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Versioned map of every feature of the model to its consumer reason, and how reasons come."""
    table: dict[str, Any] = {}
    for k, feature in enumerate(model.features_):
        entry = entry_for(feature)
        if entry is None:
            continue
        table[feature] = {
            "code": entry.code,
            "text": entry.text,
            "missing_code": entry.missing[0],
            "missing_text": entry.missing[1],
            **{f"{m}_points": float(points[k]) for m, points in reference_points.items()},
        }
    return {
        "version": REASONS_VERSION,
        "methods": {
            "average": "points below the mean of all development applicants",
            "cutoff": "points below the mean of applicants at or slightly above the cut-off",
            "maximum": "points below the best there is (key factors)",
        },
        "cutoff_score": model.cutoff_score_,
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
                    "bin": "missing" if missing else f"[{bounds[i]}, {bounds[i + 1]})",
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
