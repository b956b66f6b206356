"""Training on transactions whose labels arrive late."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from models.common.dataset import dataset_sha256, matrix, require_outcomes, usable_features
from models.common.evaluation import (
    PSI_NOISE,
    SHIFTED,
    STABLE,
    FixedBins,
    card_precision_at_k,
    summary,
)
from models.common.registry import TOLERANCE, TrainedModel
from models.common.splits import with_label_delay
from models.fraud.classifier import KINDS, FraudClassifier
from models.fraud.evaluation import Economics, alert_metrics, break_even, label_completeness
from models.fraud.plots import pictures
from models.fraud.selection import Block, Comparison, compare, prequential_blocks

CHANCE = 3.0
"""Standard deviations of a count that chance explains."""


@dataclass(frozen=True)
class FraudParameters:
    """Settings of a fraud training; all of them are in the manifest.

    `maximum_negatives` and `calibration_share` apply to the training block; the test block is
    never sampled. The kinds are compared on `validation_blocks` blocks of `validation_days` before
    the end of the training block, learning from at most `validation_negatives` each.
    `review_cost_minor` and `friction_minor` are what an alert and a false one cost, in minor units.
    """

    kinds: tuple[str, ...] = KINDS
    learning_rate: float = 0.06
    max_iter: int = 150
    max_leaf_nodes: int = 15
    min_samples_leaf: int = 20
    l2_regularization: float = 1.0
    trees: int = 50
    min_rows_leaf: int = 5
    rows_per_tree: int = 20_000
    validation_blocks: int = 2
    validation_days: int = 7
    validation_negatives: int = 4_000
    maximum_negatives: int = 200_000
    calibration_share: float = 0.2
    alerts_per_day: int = 100
    minimum_rows: int = 500
    minimum_frauds: int = 20
    review_cost_minor: int = 500
    friction_minor: int = 1_000

    def classifier(self, kind: str, seed: int) -> FraudClassifier:
        """An unfitted model of a kind with these settings."""
        return FraudClassifier(
            kind=kind,
            learning_rate=self.learning_rate,
            max_iter=self.max_iter,
            max_leaf_nodes=self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf,
            l2_regularization=self.l2_regularization,
            trees=self.trees,
            min_rows_leaf=self.min_rows_leaf,
            rows_per_tree=self.rows_per_tree,
            random_state=seed,
        )


@dataclass(frozen=True)
class TransactionFrame:
    """Scored moments with the features known then.

    Columns: `transaction_id` (unique), `card_id`, `event_at`, `amount_minor`, `fraud_known_at`
    (null where the transaction was never reported), `fraud_withdrawn_at` (null where the report
    still stands) and features; where a source has them also `fraud_again_at` (reported once more
    after that) and `card_compromised_at` (when the first fraud of the card was known, also one that
    is not among the rows). `weight` undoes a sampling of negatives that was done before, 1
    where there was none.
    """

    frame: pl.DataFrame
    weight: str | None = None


def known_fraud(frame: pl.DataFrame, known_by: datetime) -> np.ndarray:
    """1 for transactions held to be fraud at a moment; later news is not known yet."""
    reported = (frame["fraud_known_at"] <= known_by).fill_null(False)
    withdrawn = (frame["fraud_withdrawn_at"] <= known_by).fill_null(False)
    held = reported & ~withdrawn
    if "fraud_again_at" in frame.columns:
        held |= (frame["fraud_again_at"] <= known_by).fill_null(False)
    return held.cast(pl.Int64).to_numpy()


def without_compromised_cards(frame: pl.DataFrame, test: np.ndarray) -> np.ndarray:
    """The test mask without cards that were known to be compromised when the day began.

    Such a card would have been blocked: finding it again is no achievement.
    """
    compromised_at = (
        frame["card_compromised_at"]
        if "card_compromised_at" in frame.columns
        else frame.select(
            pl.when(pl.col("card_id").is_not_null()).then(
                pl.col("fraud_known_at").min().over("card_id")
            )
        ).to_series()
    )
    blocked = (compromised_at <= frame["event_at"].dt.truncate("1d")).fill_null(False)
    return test & ~blocked.to_numpy()


def train_fraud(
    transactions: TransactionFrame,
    features: Sequence[str],
    *,
    name: str,
    cutoff: datetime,
    delay: timedelta,
    test_until: datetime,
    observed_through: datetime,
    purpose: str,
    target: str,
    parameters: FraudParameters | None = None,
    seed: int = 0,
    champion: FraudClassifier | None = None,
    context: Mapping[str, Any] | None = None,
) -> TrainedModel:
    """Train on what was known at `cutoff`, test on transactions from then to before `test_until`.

    Test labels are those known at `observed_through`; a fraud reported later still counts as
    legitimate there, so measured precision is a lower bound. A training label counts only if it
    was known by the cut-off, and the last `delay` before it is left out because its labels are
    still arriving. Raises NotEnoughOutcomes where the frauds of the training block are too few.
    `champion` is measured on the same test rows, for the gate.
    """
    settings = parameters or FraudParameters()
    frame = transactions.frame.sort("event_at", "transaction_id")
    split = with_label_delay(frame["event_at"], cutoff=cutoff, delay=delay)
    known_at_cutoff = known_fraud(frame, cutoff)
    train = np.flatnonzero(split.train)
    require_outcomes(
        known_at_cutoff[train],
        what=name,
        minimum_rows=settings.minimum_rows,
        minimum_positives=settings.minimum_frauds,
    )
    weights = (
        frame[transactions.weight].cast(pl.Float64).to_numpy()
        if transactions.weight
        else np.ones(frame.height)
    )
    selection = usable_features(frame[train], features)
    values = matrix(frame, selection.kept)
    comparison = _compared(frame, values, weights, selection.kept, cutoff, delay, settings, seed)
    model = settings.classifier(comparison.kind, seed)
    fit_rows, later_rows = _calibration_slice(train, known_at_cutoff, settings)
    rows, row_weights = sample_negatives(
        fit_rows, known_at_cutoff, weights, settings.maximum_negatives, seed
    )
    model.fit(
        values[rows], known_at_cutoff[rows], sample_weight=row_weights, features=selection.kept
    )
    notes = [_how_chosen(comparison)]
    if not len(later_rows) or not model.calibrate(
        values[later_rows], known_at_cutoff[later_rows], weights[later_rows]
    ):
        notes.append("too few frauds in the later training slice: scores are not recalibrated")
    if len(rows) < len(fit_rows):
        notes.append(f"{len(fit_rows) - len(rows)} negatives were sampled out and weighted back")
    test = split.test & (frame["event_at"] < test_until).to_numpy()
    open_cards = without_compromised_cards(frame, test)
    probability = model.predict_proba(values)[:, 1]
    label = known_fraud(frame, observed_through)
    metrics = _metrics(
        frame,
        label,
        known_at_cutoff,
        probability=probability,
        weights=weights,
        train=split.train,
        test=open_cards,
        settings=settings,
    )
    if test.any():
        # Of all cards, as the development block has them.
        bins = FixedBins.from_development(probability[split.train], weights=weights[split.train])
        metrics["out_of_time"]["score_psi"] = bins.psi(probability[test]).value
    if champion is not None and metrics["out_of_time"]["auc"] is not None:
        told = champion.predict_proba(matrix(frame, champion.features_))[open_cards, 1]
        metrics["champion_average_precision"] = summary(
            label[open_cards], told, weights[open_cards]
        )["average_precision"]
    metrics["test_rows_of_compromised_cards_removed"] = int((test & ~open_cards).sum())
    metrics["prequential"] = comparison.table()
    economics = Economics(settings.review_cost_minor, settings.friction_minor)
    tested = frame.select("card_id", "event_at", "amount_minor").with_columns(
        pl.Series("score", probability), pl.Series("label", label)
    ).filter(pl.Series(open_cards))  # fmt: skip
    threshold = break_even(economics, _mean_amount(frame, known_at_cutoff))
    metrics["out_of_time"] |= alert_metrics(tested, settings.alerts_per_day, economics, threshold)
    metrics["label_completeness"] = _completeness(
        frame, label, observed_through, cutoff, test_until, seed
    )
    return TrainedModel(
        name=name,
        estimator=model,
        features=tuple(selection.kept),
        dropped_features=selection.dropped,
        dataset_sha256=dataset_sha256(
            frame.select(
                "transaction_id",
                "card_id",
                "event_at",
                "fraud_known_at",
                "fraud_withdrawn_at",
                *[
                    f
                    for f in dict.fromkeys(["fraud_again_at", "card_compromised_at", *features])
                    if f in frame.columns
                ],
            )
        ),
        parameters={**asdict(settings), "label_delay_days": delay / timedelta(days=1)},
        seed=seed,
        window={
            "start": str(frame["event_at"].min()),
            "end": str(observed_through),
            "cutoff": str(cutoff),
            "test_until": str(test_until),
        },
        metrics=metrics,
        reasons={
            "version": 1,
            "method": "average precision lost when the values of a feature are shuffled",
            "features": _importance(model, values, label, open_cards, seed),
        },
        gates=gates(metrics),
        measure="average_precision",
        purpose=purpose,
        target=target,
        context=dict(context or {}),
        notes=tuple(notes),
        tables=pictures(tested, probability[split.train], economics),
    )


def _compared(
    frame: pl.DataFrame,
    values: np.ndarray,
    weights: np.ndarray,
    features: Sequence[str],
    cutoff: datetime,
    delay: timedelta,
    settings: FraudParameters,
    seed: int,
) -> Comparison:
    """The kinds on blocks of the training period; nothing of the test block is looked at."""
    open_cards = without_compromised_cards(frame, np.ones(frame.height, dtype=bool))
    blocks = [
        replace(block, test=block.test[open_cards[block.test]])
        for block in prequential_blocks(
            frame["event_at"],
            end=cutoff - delay,
            delay=delay,
            length=timedelta(days=settings.validation_days),
            count=settings.validation_blocks,
        )
    ]

    def score(kind: str, block: Block) -> np.ndarray | None:
        known = known_fraud(frame, block.starts_at)
        if known[block.train].sum() < settings.minimum_frauds:
            return None
        rows, row_weights = sample_negatives(
            block.train, known, weights, settings.validation_negatives, seed
        )
        model = settings.classifier(kind, seed)
        model.fit(values[rows], known[rows], sample_weight=row_weights, features=features)
        return model.predict_proba(values[block.test])[:, 1]

    return compare(settings.kinds, blocks, score, known_fraud(frame, cutoff), weights)


def _how_chosen(comparison: Comparison) -> str:
    if not comparison.average_precision:
        return f"{comparison.kind}: too few frauds were known to compare kinds before the test"
    means = ", ".join(
        f"{kind} {row['average_precision_mean']:.3f} ± {row['average_precision_sd']:.3f}"
        for kind, row in comparison.table().items()
    )
    blocks = max(len(values) for values in comparison.average_precision.values())
    return f"{comparison.kind} was chosen on {blocks} blocks before the test: {means}"


def _mean_amount(frame: pl.DataFrame, fraud: np.ndarray) -> float:
    return float(frame["amount_minor"].filter(pl.Series(fraud == 1)).mean() or 0.0)  # pyright: ignore[reportArgumentType]


def _completeness(
    frame: pl.DataFrame,
    label: np.ndarray,
    known_by: datetime,
    start: datetime,
    end: datetime,
    seed: int,
) -> dict[str, Any] | None:
    frauds = frame.filter(pl.Series(label == 1))
    found = label_completeness(
        frauds["event_at"],
        frauds["fraud_known_at"],
        known_by=known_by,
        start=start,
        end=end,
        seed=seed,
    )
    return asdict(found) if found else None


def _calibration_slice(
    train: np.ndarray, fraud: np.ndarray, settings: FraudParameters
) -> tuple[np.ndarray, np.ndarray]:
    """The latest share of the training rows is kept for calibration if enough frauds remain."""
    size = int(len(train) * settings.calibration_share)
    if not size or fraud[train[:-size]].sum() < settings.minimum_frauds // 2:
        return train, train[:0]
    return train[:-size], train[-size:]


def sample_negatives(
    rows: np.ndarray, fraud: np.ndarray, weights: np.ndarray, maximum: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """All frauds and at most `maximum` others, with weights that keep the totals of both."""
    positives, negatives = rows[fraud[rows] == 1], rows[fraud[rows] == 0]
    if len(negatives) <= maximum:
        return rows, weights[rows]
    drawn = np.random.default_rng(seed).choice(negatives, size=maximum, replace=False)
    kept = np.sort(np.concatenate([positives, drawn]))
    factor = weights[negatives].sum() / weights[drawn].sum()
    return kept, np.where(fraud[kept] == 1, weights[kept], weights[kept] * factor)


def _metrics(
    frame: pl.DataFrame,
    label: np.ndarray,
    known_at_cutoff: np.ndarray,
    *,
    probability: np.ndarray,
    weights: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    settings: FraudParameters,
) -> dict[str, Any]:
    development = summary(known_at_cutoff[train], probability[train], weights[train])
    later = summary(label[test], probability[test], weights[test])
    if test.any():
        for removal, suffix in ((True, ""), (False, "_keeping_detected")):
            later[f"card_precision_at_{settings.alerts_per_day}{suffix}"] = card_precision_at_k(
                frame["event_at"].filter(pl.Series(test)).dt.date(),
                frame["card_id"].filter(pl.Series(test)),
                label[test],
                probability[test],
                k=settings.alerts_per_day,
                remove_detected=removal,
            )
    return {"development": development, "out_of_time": later}


def gates(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Promotion gates: "pass", "warn: why" or "fail: why", all measured out of time."""
    later = metrics["out_of_time"]
    if later["auc"] is None:
        return {"validation_sample": "fail: no fraud known in the test block yet"}
    result = {"validation_sample": "pass"}
    lift = later["average_precision"] / later["prevalence"]
    result["lift"] = "pass" if lift > 1 else f"fail: average precision {lift:.2f} × prevalence"
    champion_precision = metrics.get("champion_average_precision")
    if champion_precision is not None:
        found = later["average_precision"]
        result["champion_average_precision"] = (
            "pass"
            if found >= champion_precision - TOLERANCE
            else f"fail: {found:.4f} against the champion's {champion_precision:.4f} on these rows"
        )
    # Labels of the test block are still arriving, so its frauds are undercounted by design: that
    # fewer were expected than have come already is no matter of labels.
    ratio, observed = later["calibration_ratio"], later["positives"]
    missed = observed * (1 - ratio)
    result["calibration"] = (
        "pass"
        if abs(ratio - 1) <= 0.25
        else f"{'fail' if missed > CHANCE * observed**0.5 else 'warn'}: Σp/Σy {ratio:.3f} on "
        f"{observed:.0f} frauds"
    )
    shift, development = later["score_psi"], metrics["development"]
    noise = PSI_NOISE * (1 / later["rows"] + 1 / development["rows"])
    result["score_psi"] = (
        "pass"
        if shift < STABLE
        else f"{'warn' if shift < SHIFTED + noise else 'fail'}: PSI {shift:.3f}"
    )
    return result


def _importance(
    model: FraudClassifier, values: np.ndarray, label: np.ndarray, test: np.ndarray, seed: int
) -> dict[str, Any]:
    """Permutation importance on at most 1,000 legitimate test rows, all frauds among them."""
    from sklearn.inspection import permutation_importance

    rows = np.flatnonzero(test)
    if not label[rows].sum():
        return {f: {"importance": None} for f in model.features_}
    rows, _ = sample_negatives(rows, label, np.ones(len(label)), 1_000, seed)
    measured = permutation_importance(
        model,
        values[rows],
        label[rows],
        scoring="average_precision",
        n_repeats=2,
        random_state=seed,
    )
    importance = np.asarray(measured["importances_mean"], dtype=float)
    order = np.argsort(-importance, kind="stable")
    return {model.features_[i]: {"importance": float(importance[i])} for i in order}
