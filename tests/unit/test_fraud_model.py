"""The fraud model under label delay: what it may know when, sampling and alerts."""

from datetime import date, datetime, timedelta
from xml.etree.ElementTree import fromstring

import numpy as np
import polars as pl
import pytest

from models.common.dataset import matrix
from models.common.errors import NotEnoughOutcomes
from models.common.registry import Registry
from models.fraud.classifier import KINDS, FraudClassifier
from models.fraud.evaluation import Economics
from models.fraud.plots import pictures
from models.fraud.scoring import MAXIMUM_REASONS, alert_reasons, daily_alerts, score_frame
from models.fraud.selection import Block, choose, compare, prequential_blocks
from models.fraud.training import (
    FraudParameters,
    TransactionFrame,
    known_fraud,
    sample_negatives,
    train_fraud,
    without_compromised_cards,
)

START = datetime(2024, 1, 1)
CUTOFF = datetime(2024, 2, 20)
DELAY = timedelta(days=7)
FAST = FraudParameters(max_iter=25, trees=20)


def transactions(rows: int = 4000, seed: int = 0) -> pl.DataFrame:
    """Two months; large amounts on odd hours are fraud more often; reports take 3 to 10 days."""
    generator = np.random.default_rng(seed)
    seconds = np.sort(generator.integers(0, 60 * 86_400, rows))
    amount = generator.lognormal(8, 1, rows)
    night = generator.random(rows) < 0.2
    fraud = generator.random(rows) < np.where(night & (amount > 5000), 0.4, 0.003)
    at = pl.Series([START + timedelta(seconds=int(s)) for s in seconds])
    delay = pl.Series([timedelta(days=int(d)) for d in generator.integers(3, 11, rows)])
    return pl.DataFrame(
        {
            "transaction_id": [f"t{i:06}" for i in range(rows)],
            "card_id": [f"c{i}" for i in generator.integers(0, 1500, rows)],
            "event_at": at,
            "fraud_known_at": at + delay,
            "amount_minor": amount.astype(int),
            "is_night": night,
            "noise": generator.normal(size=rows),
            "__fraud": fraud,
        }
    ).with_columns(
        pl.when(pl.col("__fraud")).then(pl.col("fraud_known_at")),
        pl.lit(None, dtype=pl.Datetime("us")).alias("fraud_withdrawn_at"),
    )


def train(frame: pl.DataFrame, **changes):
    arguments = {
        "name": "fraud", "cutoff": CUTOFF, "delay": DELAY,
        "test_until": CUTOFF + timedelta(days=8), "observed_through": datetime(2024, 3, 10),
        "purpose": "p", "target": "t", "parameters": FAST,
    }  # fmt: skip
    return train_fraud(
        TransactionFrame(frame),
        ["amount_minor", "is_night", "noise", "absent"],
        **{**arguments, **changes},
    )


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return transactions()


@pytest.fixture(scope="module")
def model(frame: pl.DataFrame):
    return train(frame)


def test_it_finds_fraud_out_of_time(model):
    later = model.metrics["out_of_time"]
    assert later["auc"] > 0.7
    assert later["average_precision"] > 3 * later["prevalence"]
    assert 0 < later["card_precision_at_100"] <= later["card_precision_at_100_keeping_detected"] + 1
    assert model.dropped_features == {"absent": "not delivered"}
    assert model.features == ("amount_minor", "is_night", "noise")
    first = next(iter(model.reasons["features"]))
    assert first in ("amount_minor", "is_night")


def test_reports_after_the_cutoff_do_not_teach(frame):
    """Deleting every report that was not known at the cut-off leaves the same model."""
    known = frame.with_columns(
        pl.when(pl.col("fraud_known_at") <= CUTOFF).then(pl.col("fraud_known_at"))
    )
    with_all, with_known = train(frame), train(known)
    values = matrix(frame, with_all.features)
    assert np.array_equal(
        with_all.estimator.predict_proba(values), with_known.estimator.predict_proba(values)
    )


def test_transactions_in_the_gap_do_not_teach(frame):
    outside = frame.filter(~pl.col("event_at").is_between(CUTOFF - DELAY, CUTOFF, closed="left"))
    values = matrix(frame, ["amount_minor", "is_night", "noise"])
    assert np.array_equal(
        train(frame).estimator.predict_proba(values),
        train(outside).estimator.predict_proba(values),
    )


def test_a_withdrawn_report_is_no_fraud_from_then_on():
    at = datetime(2024, 1, 10)
    frame = pl.DataFrame(
        {"fraud_known_at": [at, at, None], "fraud_withdrawn_at": [None, at + DELAY, None]},
        schema={"fraud_known_at": pl.Datetime("us"), "fraud_withdrawn_at": pl.Datetime("us")},
    )
    assert known_fraud(frame, at - timedelta(seconds=1)).tolist() == [0, 0, 0]
    assert known_fraud(frame, at).tolist() == [1, 1, 0]
    assert known_fraud(frame, at + DELAY).tolist() == [1, 0, 0]


def test_cards_known_to_be_compromised_that_morning_are_not_tested():
    day = datetime(2024, 2, 21)
    frame = pl.DataFrame(
        {
            "card_id": ["a", "a", "b", "b"],
            "event_at": [day - DELAY, day + timedelta(hours=9)] * 2,
            "fraud_known_at": [day, None, day + timedelta(hours=1), None],
        }
    )
    test = np.array([False, True, False, True])
    assert without_compromised_cards(frame, test).tolist() == [False, False, False, True]


def test_test_labels_end_with_what_was_observed(frame):
    early = train(frame, observed_through=CUTOFF + timedelta(days=8))
    late = train(frame, observed_through=datetime(2024, 6, 1))
    assert early.metrics["out_of_time"]["positives"] < late.metrics["out_of_time"]["positives"]
    assert early.metrics["out_of_time"]["rows"] == late.metrics["out_of_time"]["rows"]


def test_sampling_keeps_all_frauds_and_the_weight_of_the_others():
    fraud = np.r_[np.ones(10, dtype=int), np.zeros(990, dtype=int)]
    rows, weights = sample_negatives(np.arange(1000), fraud, np.ones(1000), 90, seed=0)
    assert fraud[rows].sum() == 10
    assert len(rows) == 100
    assert weights[fraud[rows] == 0].sum() == pytest.approx(990)
    same, _ = sample_negatives(np.arange(1000), fraud, np.ones(1000), 90, seed=0)
    assert np.array_equal(rows, same)


def test_sampled_training_stays_calibrated(frame):
    sampled = train(
        frame, parameters=FraudParameters(max_iter=25, trees=20, maximum_negatives=1500)
    )
    assert any("sampled out" in note for note in sampled.notes)
    assert sampled.metrics["development"]["calibration_ratio"] == pytest.approx(1.0, abs=0.35)


def test_training_again_gives_the_same_predictions(frame, model):
    values = matrix(frame, model.features)
    again = train(frame.sample(fraction=1.0, shuffle=True, seed=4))
    assert again.dataset_sha256 == model.dataset_sha256
    difference = model.estimator.predict_proba(values) - again.estimator.predict_proba(values)
    assert np.abs(difference).max() <= 1e-9


def test_without_known_frauds_training_is_not_due(frame):
    none = frame.with_columns(pl.lit(None, dtype=pl.Datetime("us")).alias("fraud_known_at"))
    with pytest.raises(NotEnoughOutcomes, match="fraud"):
        train(none)


def test_a_test_block_without_known_fraud_fails_its_gate(frame):
    blind = train(frame, observed_through=START)
    assert blind.metrics["out_of_time"]["auc"] is None
    assert blind.gates["validation_sample"].startswith("fail")


def test_calibration_needs_frauds_and_keeps_the_order():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(4000, 2))
    fraud = (generator.random(4000) < 1 / (1 + np.exp(3 - values[:, 0]))).astype(int)
    model = FraudClassifier(max_iter=20).fit(values[:2000], fraud[:2000])
    before = model.predict_proba(values)[:, 1]
    assert not model.calibrate(values[2000:2010], fraud[2000:2010] * 0)
    assert model.calibrate(values[2000:], fraud[2000:])
    after = model.predict_proba(values)[:, 1]
    assert np.array_equal(np.argsort(before, kind="stable"), np.argsort(after, kind="stable"))
    assert after[2000:].mean() == pytest.approx(fraud[2000:].mean(), rel=1e-3)


def test_scoring_keeps_rows_and_takes_absent_features_as_missing(frame, model):
    scores = score_frame(model.estimator, frame.head(5).drop("noise"))
    assert len(scores) == 5
    assert scores.is_between(0, 1).all()
    assert len(score_frame(model.estimator, frame.head(0))) == 0


def test_alerts_are_the_best_cards_of_each_day_once_each():
    day = date(2024, 3, 1)
    scored = pl.DataFrame(
        {
            "transaction_id": ["t1", "t2", "t3", "t4", "t5"],
            "card_id": ["a", "a", "b", "c", "a"],
            "alert_on": [day, day, day, day, day + timedelta(days=1)],
            "score": [0.4, 0.9, 0.5, 0.5, 0.1],
        }
    )
    alerts = daily_alerts(scored, per_day=2)
    assert alerts["transaction_id"].to_list() == ["t2", "t3", "t5"]
    assert alerts["rank"].to_list() == [1, 2, 1]


def separable(rows: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three columns: the first makes fraud likely, the second is noise with gaps, the third too."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(rows, 3))
    fraud = (generator.random(rows) < 1 / (1 + np.exp(4 - 3 * values[:, 0]))).astype(int)
    values[generator.random(rows) < 0.1, 1] = np.nan
    return values, fraud


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_with_missing_values_and_repeats(kind: str):
    values, fraud = separable()
    model, again = (FraudClassifier(kind=kind, trees=30).fit(values, fraud) for _ in range(2))
    probability = model.predict_proba(values)[:, 1]
    assert np.array_equal(probability, again.predict_proba(values)[:, 1])
    assert probability[fraud == 1].mean() > 3 * probability[fraud == 0].mean()
    assert model.predict_proba(values[:0]).shape == (0, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_where_a_feature_is_not_known_at_all(kind: str):
    """In an early block a feed may not have begun; its values change nothing then."""
    generator = np.random.default_rng(0)
    values = generator.random((500, 2))
    fraud = (values[:, 0] > 0.8).astype(int)
    model = FraudClassifier(kind=kind).fit(values * [1, np.nan], fraud)
    assert np.allclose(model.raw_logit(values), model.raw_logit(values * [1, 0]))


@pytest.mark.parametrize("kind", KINDS)
def test_what_makes_fraud_likely_is_the_first_reason(kind: str):
    values, fraud = separable()
    model = FraudClassifier(kind=kind, trees=30).fit(values, fraud, features=["a", "b", "c"])
    worst = values[np.argsort(-values[:, 0])[:20]]
    frame = pl.DataFrame(worst, schema=["a", "b", "c"])
    for reasons, row in zip(alert_reasons(model, frame), worst, strict=True):
        assert 1 <= len(reasons) <= MAXIMUM_REASONS
        assert reasons[0]["feature"] == "a"
        assert reasons[0]["value"] == pytest.approx(row[0], abs=1e-4)
        added = [reason["adds"] for reason in reasons]
        assert added == sorted(added, reverse=True)  # pyright: ignore[reportArgumentType]
        assert min(added) >= 0  # pyright: ignore[reportArgumentType]


def test_a_typical_row_has_no_reasons():
    values, fraud = separable()
    model = FraudClassifier(max_iter=20).fit(values, fraud)
    assert model.contributions(model.typical_.reshape(1, -1)).tolist() == [[0.0, 0.0, 0.0]]


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="oracle"):
        FraudClassifier(kind="oracle").fit(*separable(100))


def test_the_simplest_of_equals_is_chosen():
    assert choose({"simple": [0.5, 0.7], "complex": [0.61, 0.6]}) == "simple"
    assert choose({"simple": [0.5, 0.6], "complex": [0.61, 0.6]}) == "complex"


def test_blocks_before_the_test_leave_the_delay_out():
    at = pl.Series([START + timedelta(hours=12 * i) for i in range(120)])
    blocks = prequential_blocks(
        at, end=CUTOFF - DELAY, delay=DELAY, length=timedelta(days=7), count=2
    )
    assert [len(block.test) for block in blocks] == [14, 14]
    for block in blocks:
        assert at[block.train].max() < block.starts_at - DELAY  # pyright: ignore
        assert at[block.test].min() == block.starts_at
        assert at[block.test].max() < CUTOFF - DELAY  # pyright: ignore


def test_blocks_that_teach_nothing_are_passed_over():
    label = np.array([1, 0, 1, 0])
    empty = Block(np.array([0]), np.array([1]), START)
    block = Block(np.array([0, 1]), np.array([2, 3]), START)
    found = compare(
        ("a", "b"), [empty, block],
        lambda kind, _: np.array([0.9, 0.1]) if kind == "b" else None, label, np.ones(4),
    )  # fmt: skip
    assert found.average_precision == {"b": [1.0]}
    assert found.kind == "b"
    nothing = compare(("a", "b"), [empty], lambda *_: None, label, np.ones(4))
    assert nothing.kind == "gradient_boosting"


def test_kinds_are_compared_without_the_test_block(frame, model):
    """Deleting the test block changes neither the comparison nor the choice."""
    assert set(model.metrics["prequential"]) == set(KINDS)
    assert all(row["blocks"] > 0 for row in model.metrics["prequential"].values())
    without = train(frame.filter(pl.col("event_at") < CUTOFF))
    assert without.metrics["prequential"] == model.metrics["prequential"]
    assert without.estimator.kind == model.estimator.kind
    assert any("was chosen on" in note for note in model.notes)


def test_metrics_as_used_are_complete(model):
    later = model.metrics["out_of_time"]
    for name in ("value_detection_rate", "insult_rate", "recall_at_budget", "threshold"):
        assert 0 <= later[name] <= 1, name
    assert later["value_detection_rate_next_day"] <= later["value_detection_rate"]
    assert later["hours_to_detect_median"] >= 0
    completeness = model.metrics["label_completeness"]
    assert 0 < completeness["low"] <= completeness["share"] <= completeness["high"] <= 1


def test_the_card_shows_pictures_of_the_test_block(model, tmp_path):
    version = Registry(tmp_path).register(model, trainer="t")
    card = (version.path / "model_card.md").read_text()
    names = ("precision_recall", "calibration", "scores", "alert_budget", "net_benefit", "drift")
    for name in names:
        assert f"]({name}.svg)" in card
        assert fromstring((version.path / f"{name}.svg").read_text()).tag.endswith("svg")


def test_a_test_block_without_fraud_has_no_pictures(frame):
    tested = frame.with_columns(pl.lit(0).alias("label"), pl.lit(0.1).alias("score"))
    assert pictures(tested, np.array([0.1, 0.2]), Economics(1, 1)) == {}
