"""Training: from the warehouse to a registered model version, when it is due."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipelines.errors import CardlineError
from pipelines.settings import PROJECT_DIR, get_settings
from pipelines.warehouse import connect, data_clock

if TYPE_CHECKING:
    from models.common.registry import ModelVersion, Registry, TrainedModel
    from models.underwriting.training import OutcomeFrame, ScorecardParameters

UNDERWRITING = "underwriting"
FRAUD = "fraud"
TRAINER = "scheduler"
FRAUD_TRAINING_DAYS = 90
FRAUD_TEST_DAYS = 14
FRAUD_RETRAIN_DAYS = 7
FRAUD_MAXIMUM_NEGATIVES = 100_000


class NotDue(CardlineError):
    """There are not enough known outcomes to learn from yet."""


@dataclass(frozen=True)
class Training:
    """A registered version: its metrics as flat scalars and its model card (Markdown)."""

    name: str
    version: str
    state: str
    metrics: dict[str, Any]
    card: str


@dataclass(frozen=True)
class FraudWindow:
    """Blocks of a fraud training: `[start, cutoff − delay)` teaches, `[cutoff, test_until)` tests.

    `test_until` leaves the label delay before `known_by`, so that test labels have had that time
    to arrive.
    """

    start: datetime
    cutoff: datetime
    test_until: datetime
    known_by: datetime
    delay: timedelta


def registry() -> "Registry":
    """The model registry of this home."""
    from models.common.registry import Registry

    return Registry(get_settings().models_dir)


def train(name: str, trainer: str = TRAINER) -> Training:
    """Train `underwriting` or `fraud` on what is known now and register it as a candidate.

    Underwriting also registers a challenger from the same data set, in the shadow. The same data
    give the same version: nothing is written twice. Returns the candidate. Raises `NotDue` where
    outcomes are too few or of one class, `CardlineError` for an unknown model or unusable data.
    """
    from models.common.errors import ModelError, NotEnoughOutcomes

    makers: dict[str, Callable[[], list[TrainedModel]]] = {
        UNDERWRITING: _underwriting,
        FRAUD: lambda: [_fraud()],
    }
    if name not in makers:
        raise CardlineError(f"there is no model {name!r}: it is one of {', '.join(makers)}")
    try:
        commit = _git_sha()
        versions = [
            registry().register(trained, trainer=trainer, git_sha=commit)
            for trained in makers[name]()
        ]
    except NotEnoughOutcomes as reason:
        raise NotDue(str(reason)) from reason
    except ModelError as error:
        raise CardlineError(str(error)) from error
    return _training(versions[-1])


def train_underwriting(trainer: str = TRAINER) -> Training:
    """Train and register the underwriting scorecard and its challenger; see `train`."""
    return train(UNDERWRITING, trainer)


def train_fraud(trainer: str = TRAINER) -> Training:
    """Train and register the fraud model; see `train`."""
    return train(FRAUD, trainer)


def newest(name: str) -> Training | None:
    """The version registered last, whatever its state."""
    versions = registry().list_versions(name)
    return _training(versions[-1]) if versions else None


def is_due(name: str) -> bool:
    """Whether enough is known for a first version, or enough is new for another.

    Underwriting learns again in every new month of the warehouse's clock, fraud after
    FRAUD_RETRAIN_DAYS days. Never raises for lack of data.
    """
    with connect(read_only=True) as con:
        clock = data_clock(con)
    if clock is None:
        return False
    versions = registry().list_versions(name)
    last = versions[-1].manifest["window"] if versions else None
    if name == UNDERWRITING:
        if last is not None:
            trained = datetime.fromisoformat(last["end"])
            return (clock.year, clock.month) > (trained.year, trained.month)
        return _has_outcomes(clock)
    window = _fraud_window()
    if window is None or not _has_frauds(window):
        return False
    return last is None or window.cutoff >= datetime.fromisoformat(last["cutoff"]) + timedelta(
        days=FRAUD_RETRAIN_DAYS
    )


def _has_outcomes(clock: datetime) -> bool:
    from models.underwriting.training import ScorecardParameters
    from pipelines.training_frames import underwriting_outcomes

    with connect(read_only=True) as con:
        frame = underwriting_outcomes(con, clock).frame.drop_nulls("is_bad")
    needed = ScorecardParameters()
    bads = int(frame["is_bad"].sum())
    return (
        frame.height >= needed.minimum_rows
        and min(bads, frame.height - bads) >= needed.minimum_class_rows
    )


def _has_frauds(window: FraudWindow) -> bool:
    from models.fraud.training import FraudParameters
    from pipelines.training_frames import known_fraud_count

    with connect(read_only=True) as con:
        known = known_fraud_count(con, window.start, window.cutoff - window.delay, window.cutoff)
    return known >= FraudParameters().minimum_frauds


def _underwriting() -> "list[TrainedModel]":
    """The challenger and, last, the scorecard, both from one pinned data set."""
    from models.common.errors import NotEnoughOutcomes
    from models.underwriting.attributes import attribute_features
    from models.underwriting.catalogue import refuse_prohibited
    from models.underwriting.training import OutcomeFrame
    from pipelines.training_frames import underwriting_features, underwriting_outcomes
    from pipelines.training_sets import pinned

    with connect(read_only=True) as con:
        clock = data_clock(con)
        if clock is None:
            raise NotEnoughOutcomes("the warehouse is empty: land outcomes first")
        outcomes = underwriting_outcomes(con, clock)
    if outcomes.frame.is_empty():
        raise NotEnoughOutcomes(
            "no application or account has a matured outcome yet: deliver statements over the "
            "performance window, or credit_outcomes"
        )
    features = underwriting_features(outcomes.service)
    refuse_prohibited(features)
    file, frame = pinned(UNDERWRITING, outcomes, features)
    features += attribute_features(frame.columns)
    return _learned(
        OutcomeFrame(
            frame=frame,
            key=outcomes.grain,
            person="person",
            decision_at="decision_at",
            target="is_bad",
            population=outcomes.population,
            known_through=clock,
            source="source",
        ),
        features,
        dataset_file=file,
        parameters=_parameters(),
        champion=_champion(UNDERWRITING),
        context={
            "feature_service": outcomes.service,
            "grain": outcomes.grain,
            "owner": "credit risk",
            "materiality": "high: decides who is given credit, and how much",
            "monitoring": "monthly in risk.monitoring: stability of scores and features, early "
            "bads by vintage, approvals, overrides, first reasons; trained again each month, and "
            "on drift",
        },
    )


def _parameters() -> "ScorecardParameters":
    from models.underwriting.training import ScorecardParameters

    settings = get_settings()
    return ScorecardParameters(
        reject_inference=settings.reject_inference,
        reject_multiplier=settings.reject_multiplier,
        test_cell_share=settings.test_cell_share,
    )


def _learned(
    outcomes: "OutcomeFrame",
    features: list[str],
    *,
    dataset_file: str | None,
    champion: "tuple[str, Any] | None",
    context: dict[str, Any],
    parameters: "ScorecardParameters | None" = None,
) -> "list[TrainedModel]":
    from models.underwriting.training import train_challenger, train_scorecard

    kind = "an application" if context["grain"] == "application_id" else "an account"
    told: dict[str, Any] = {
        "name": UNDERWRITING,
        "purpose": f"Probability that {kind} turns out bad, with the reasons that count against "
        "it.",
        "target": "BAD against GOOD as in risk.underwriting_spine and risk.account_performance; "
        "indeterminate and immature outcomes are not learned from",
        "champion": champion and champion[1],
        "context": context,
        "parameters": parameters,
    }
    scorecard = train_scorecard(outcomes, features, **told)
    challenger = train_challenger(outcomes, features, scorecard, **told)
    compared_with = champion and champion[0]
    return [
        replace(model, dataset_file=dataset_file, compared_with=compared_with)
        for model in (challenger, scorecard)
    ]


def reproduction_error(name: str, version: str) -> float:
    """Largest difference of probabilities between a version and its retraining from the manifest.

    Over every row of the pinned data set. Raises `CardlineError` where the data set is missing or
    is not the one of the manifest.
    """
    import numpy as np

    from models.common.dataset import dataset_sha256, matrix
    from models.underwriting.training import (
        CHALLENGER,
        OutcomeFrame,
        ScorecardParameters,
        pinned_columns,
    )
    from pipelines.training_sets import COLUMNS, read_pinned

    found = registry().get(name, version)
    manifest, context = found.manifest, found.manifest["context"]
    frame = read_pinned(name, version, manifest)
    outcomes = OutcomeFrame(
        frame=frame,
        key=context["grain"],
        person="person",
        decision_at="decision_at",
        target="is_bad",
        population=found.metrics["population"],
        known_through=datetime.fromisoformat(manifest["window"]["end"]),
        source="source" if "source" in frame.columns else None,
    )
    features = [c for c in frame.columns if c not in (context["grain"], *COLUMNS)]
    if dataset_sha256(pinned_columns(outcomes, features)) != manifest["dataset_sha256"]:
        raise CardlineError(f"the pinned data set of {name} {version} is not that of its manifest")
    told = manifest["parameters"]
    settings = {f.name: told[f.name] for f in fields(ScorecardParameters) if f.name in told}
    challenger, scorecard = _learned(
        outcomes,
        features,
        dataset_file=None,
        champion=None,
        context=context,
        parameters=ScorecardParameters(**settings),
    )
    again = challenger if manifest["parameters"]["kind"] == CHALLENGER else scorecard
    kept = registry().load(name, version)
    difference = kept.predict_proba(matrix(frame, kept.inputs_)) - again.estimator.predict_proba(
        matrix(frame, again.estimator.inputs_)
    )
    return float(np.abs(difference).max())


def _fraud() -> "TrainedModel":
    from models.common.errors import NotEnoughOutcomes
    from models.fraud.training import FraudParameters, TransactionFrame, train_fraud
    from pipelines.training_frames import (
        FRAUD_SERVICE,
        fraud_features,
        labelled_transactions,
        next_day,
        with_features,
    )

    window = _fraud_window()
    if window is None:
        raise NotEnoughOutcomes(
            "too few days of transactions for a training block, the label delay and a test block"
        )
    if not _has_frauds(window):
        raise NotEnoughOutcomes(
            f"fewer than {FraudParameters().minimum_frauds} frauds of the days before "
            f"{window.cutoff - window.delay:%Y-%m-%d} were known by {window.cutoff:%Y-%m-%d}: "
            "train again when more labels have arrived"
        )
    with connect(read_only=True) as con:
        frame = labelled_transactions(
            con,
            window.start,
            window.test_until,
            sampled_until=window.cutoff,
            maximum_negatives=FRAUD_MAXIMUM_NEGATIVES,
        )
    champion = _champion(FRAUD)
    trained = train_fraud(
        TransactionFrame(with_features(FRAUD_SERVICE, frame, "event_at"), weight="weight"),
        fraud_features(),
        name=FRAUD,
        cutoff=window.cutoff,
        delay=window.delay,
        test_until=window.test_until,
        # Labels count from the midnight after their day.
        observed_through=next_day(window.known_by),
        purpose="Probability that a purchase is a third-party fraud, for the alerts of the day.",
        target="reported as fraud by a third party; a transaction without a report counts as "
        "legitimate",
        parameters=FraudParameters(alerts_per_day=get_settings().alert_budget_per_day),
        champion=champion and champion[1],
        context={
            "feature_service": FRAUD_SERVICE,
            "grain": "transaction_id",
            "online_refresh_minutes": get_settings().online_refresh_minutes,
        },
    )
    return replace(trained, compared_with=champion and champion[0])


def _fraud_window() -> FraudWindow | None:
    """The blocks that the warehouse's clock asks for; none where the days do not suffice."""
    from pipelines.training_frames import day_of, next_day, transaction_span

    delay = timedelta(days=get_settings().label_delay_days)
    with connect(read_only=True) as con:
        clock, span = data_clock(con), transaction_span(con)
    if clock is None or span is None:
        return None
    first, last = span[0], min(next_day(span[1]), next_day(clock))
    test_until = min(last, day_of(clock + timedelta(microseconds=1)) - delay)
    days = (test_until - first) // timedelta(days=1)
    test_days = min(FRAUD_TEST_DAYS, max(1, days // 5))
    cutoff = test_until - timedelta(days=test_days)
    start = max(first, cutoff - delay - timedelta(days=FRAUD_TRAINING_DAYS))
    if cutoff - delay <= start:
        return None
    return FraudWindow(start, cutoff, test_until, clock, delay)


def _champion(name: str) -> "tuple[str, Any] | None":
    """The champion's version and estimator; none where a candidate is in force."""
    champion = registry().current(name)
    if champion is None or champion.state != "CHAMPION":
        return None
    return champion.version, registry().load(name, champion.version)


def _training(version: "ModelVersion") -> Training:
    return Training(
        version.name,
        version.version,
        version.state,
        headline_metrics(version),
        (version.path / "model_card.md").read_text(),
    )


def headline_metrics(version: "ModelVersion") -> dict[str, Any]:
    """Scalars that say how good a version is, of the latest sample that could be measured."""
    metrics = version.metrics
    later = metrics.get("out_of_time", {})
    measured = "out_of_time" if later.get("auc") is not None else "holdout"
    sample = metrics.get(measured) or {}
    names = ("rows", "positives", "auc", "gini", "ks", "average_precision", "calibration_ratio")
    result: dict[str, Any] = {"sample": measured, "features": len(version.manifest["features"])}
    result |= {name: sample.get(name) for name in names}
    result |= {k: v for k, v in sample.items() if k.startswith("card_precision")}
    gates = version.manifest["gates"].values()
    result["gates_failed"] = sum(gate.startswith("fail") for gate in gates)
    return result


def _git_sha() -> str | None:
    """The commit of the code, where it runs from a checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=PROJECT_DIR, capture_output=True, text=True,
            check=False, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
