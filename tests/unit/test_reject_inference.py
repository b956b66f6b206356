"""What is learned of declined applicants: nothing by default, and what each option changes."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.common.dataset import matrix
from models.common.validation import render_validation
from models.underwriting.rejects import ACCEPTED, DECLINED, TEST_CELL
from models.underwriting.scorecard import Scorecard
from models.underwriting.training import OutcomeFrame, ScorecardParameters, train_scorecard

FEATURES = ["bur_util_rev", "bur_inq_6m_n"]


def applicants(rows: int = 6_000) -> pl.DataFrame:
    """Applicants above a risk are declined, but one in ten at random; `fate` is everybody's."""
    generator = np.random.default_rng(3)
    util, inquiries = generator.beta(2, 3, rows), generator.poisson(2, rows)
    risk = -4 + 4 * util + 0.4 * inquiries
    fate = generator.random(rows) < 1 / (1 + np.exp(-risk))
    below = risk > -1.2
    is_test_cell = below & (generator.random(rows) < 0.1)
    source = np.where(is_test_cell, TEST_CELL, np.where(below, DECLINED, ACCEPTED))
    frame = pl.DataFrame(
        {
            "application_id": [f"a{i:05}" for i in range(rows)],
            "person": [f"p{i}" for i in range(rows)],
            "decision_at": [
                datetime(2024, 1, 1) + timedelta(days=int(d))
                for d in generator.integers(0, 480, rows)
            ],
            "source": source,
            "fate": fate.astype(int),
            "bur_util_rev": util,
            "bur_inq_6m_n": inquiries,
        }
    )
    known = pl.when(pl.col("source") != DECLINED).then("fate")
    return frame.with_columns(known.alias("is_bad"))


def train(frame: pl.DataFrame, source: str | None = "source", **settings: Any) -> Any:
    return train_scorecard(
        OutcomeFrame(
            frame, "application_id", "person", "decision_at", "is_bad",
            {"GOOD": 1}, datetime(2026, 1, 1), source=source,
        ),
        FEATURES,
        name="underwriting",
        purpose="p",
        target="t",
        parameters=ScorecardParameters(**settings),
    )  # fmt: skip


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return applicants()


def expected_of_declined(model: Any, frame: pl.DataFrame) -> float:
    declined = matrix(frame.filter(pl.col("source") == DECLINED), model.inputs_)
    return float(model.predict_proba(declined)[:, 1].mean())


def test_by_default_the_declined_teach_nothing(frame: pl.DataFrame) -> None:
    told = frame.with_columns(pl.when(pl.col("source") == DECLINED).then(1).otherwise("is_bad")
                              .alias("is_bad"))  # fmt: skip
    alone = train(frame.filter(pl.col("source") != DECLINED), source=None)
    values = matrix(frame, FEATURES)
    for given in (frame, told):
        model = train(given)
        assert "reject_inference" not in model.metrics
        assert model.metrics["development"] == alone.metrics["development"]
        assert np.array_equal(
            model.estimator.predict_proba(values), alone.estimator.predict_proba(values)
        )


def test_a_weight_is_so_many_rows() -> None:
    generator = np.random.default_rng(0)
    values = generator.integers(0, 6, (2_000, 2)).astype(float)
    bad = (generator.random(2_000) < 0.1 + 0.1 * values[:, 0]).astype(int)
    weight = generator.integers(1, 4, 2_000)
    weighted = Scorecard().fit(values, bad, sample_weight=weight.astype(float))
    repeated = Scorecard().fit(np.repeat(values, weight, axis=0), np.repeat(bad, weight))
    assert weighted.features_ == repeated.features_
    assert weighted.total_points(values) == pytest.approx(repeated.total_points(values), abs=1e-3)


def test_parcelling_expects_more_of_the_declined_and_tells_both(frame: pl.DataFrame) -> None:
    without = train(frame).estimator
    model = train(frame, reject_inference="parcelling", reject_multiplier=1.5)
    told = model.metrics["reject_inference"]
    assert (
        told["without"]["expected_bad_rate_of_declined"]
        < (told["with"]["expected_bad_rate_of_declined"])
    )
    assert expected_of_declined(without, frame) < expected_of_declined(model.estimator, frame)
    # Measured on outcomes alone, whatever was assumed.
    accepted = frame.filter(pl.col("is_bad").is_not_null()).height
    samples = ("development", "holdout", "out_of_time")
    assert sum(model.metrics[sample]["rows"] for sample in samples) == accepted
    manifest = {
        "name": "underwriting", "version": "v", "purpose": "p", "target": "t",
        "window": model.window, "dataset_sha256": "d", "trainer": "ann", "git_sha": None,
        "gates": model.gates,
    }  # fmt: skip
    page = render_validation(manifest, model.metrics)
    assert "Declined applicants: with and without" in page
    assert "parcelling" in page


@pytest.mark.parametrize("option", ["bureau", "test_cell"])
def test_what_is_known_of_the_declined_brings_their_probability_near_the_truth(
    frame: pl.DataFrame, option: str
) -> None:
    given = frame if option == "test_cell" else frame.with_columns(pl.col("fate").alias("is_bad"))
    model = train(given, reject_inference=option, test_cell_share=0.1)
    truth = frame.filter(pl.col("source") == DECLINED)["fate"].mean()
    assert isinstance(truth, float)
    assert expected_of_declined(model.estimator, frame) == pytest.approx(truth, abs=0.05)
    told = model.metrics["reject_inference"]
    assert told["method"] == option
    assert told["without"]["expected_bad_rate_of_declined"] < truth
