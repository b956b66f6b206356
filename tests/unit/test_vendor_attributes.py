"""Attributes that a bureau computed: numbers, special codes apart, what may not be looked at."""

import json
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from models.common.registry import TrainedModel
from models.underwriting.attributes import COLUMN, attribute_features, with_attributes
from models.underwriting.scoring import score_frame
from models.underwriting.training import OutcomeFrame, train_scorecard


def reports(*told: dict | None) -> pl.DataFrame:
    texts = [None if report is None else json.dumps(report) for report in told]
    return pl.DataFrame({COLUMN: pl.Series(texts, dtype=pl.String)})


def test_special_codes_are_apart_from_values() -> None:
    found = with_attributes(
        reports({"AT20S": 12.5}, {"AT20S": "NO_TRADES"}, {"AT20S": None}, None, {"RVLR-01": 3})
    ).drop(COLUMN)
    assert found.to_dict(as_series=False) == {
        "att_at20s": [12.5, None, None, None, None],
        "att_at20s_is_no_trades": [0.0, 1.0, 0.0, None, None],
        "att_rvlr_01": [None, None, None, None, 3.0],
    }


def test_names_and_codes_that_differ_in_signs_or_case_alone_are_one() -> None:
    found = with_attributes(
        reports({"a-b": 1.0, "A b": 2.0}, {"a-b": "No Trades"}, {"A b": "NO_TRADES"},
                {"a b is no trades": 5.0})
    ).drop(COLUMN)  # fmt: skip
    assert found.to_dict(as_series=False) == {
        "att_a_b": [2.0, None, None, None],
        "att_a_b_is_no_trades": [None, None, None, 5.0],
    }
    found = with_attributes(reports({"x": "No Trades"}, {"X": "NO_TRADES"})).drop(COLUMN)
    assert found.to_dict(as_series=False) == {
        "att_x": [None, None], "att_x_is_no_trades": [1.0, 1.0]
    }  # fmt: skip


def applicants(rows: int = 2_000) -> pl.DataFrame:
    """Risk falls with AT20S, is high without trades; the vendor also sends an age."""
    generator = np.random.default_rng(1)
    months = generator.integers(1, 200, rows)
    has_none = generator.random(rows) < 0.2
    risk = np.where(has_none, 0.4, 0.3 * (1 - months / 200))
    told = [
        {"AT20S": "NO_TRADES" if none else float(m), "XYZ9": float(m % 7), "AGE": 40.0}
        for none, m in zip(has_none, months, strict=True)
    ]
    return reports(*told).with_columns(
        pl.Series("application_id", [f"a{i}" for i in range(rows)]),
        pl.Series("person", [f"p{i}" for i in range(rows)]),
        pl.Series("decision_at", [datetime(2024, 1, 1) + timedelta(hours=5 * i)
                                  for i in range(rows)]),
        pl.Series("is_bad", (generator.random(rows) < risk).astype(int)),
    )  # fmt: skip


def trained(wide: pl.DataFrame) -> TrainedModel:
    return train_scorecard(
        OutcomeFrame(
            wide, "application_id", "person", "decision_at", "is_bad", {}, datetime(2026, 1, 1)
        ),
        attribute_features(wide.columns),
        name="underwriting",
        purpose="p",
        target="t",
    )


def test_a_model_of_attributes_alone_scores_what_a_report_says() -> None:
    frame = applicants()
    wide = with_attributes(frame)
    model = trained(wide)
    assert {"att_at20s", "att_at20s_is_no_trades"} & set(model.features)
    assert model.dropped_features["att_age"] == "prohibited, and not looked at"
    assert wide["att_age"].null_count() == wide.height
    # From the report as it came, the serving side's way.
    scored = score_frame(model.estimator, model.reasons, reports({"AT20S": "NO_TRADES"},
                                                                {"AT20S": 180.0}))  # fmt: skip
    assert scored["pd"][0] > 2 * scored["pd"][1]
    assert "Limited credit experience" in scored["reasons"][0]


def test_an_attribute_without_words_of_its_own_is_told_of() -> None:
    frame = applicants().with_columns(
        pl.Series(COLUMN, [json.dumps({"XYZ9": float(bad) + i % 5})
                           for i, bad in enumerate(applicants()["is_bad"])])
    )  # fmt: skip
    wide = with_attributes(frame)
    model = trained(wide)
    assert model.features == ("att_xyz9",)
    assert model.gates["reason_coverage"].startswith("warn:")
