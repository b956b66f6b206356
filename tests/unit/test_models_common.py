"""Data sets, splits, reasons and what the models package may import."""

import ast
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import models
from models.common.dataset import (
    binary_target,
    dataset_sha256,
    matrix,
    require_outcomes,
    usable_features,
    vector_sha256,
)
from models.common.errors import ModelError, NotEnoughOutcomes
from models.common.evaluation import bootstrap_interval, ks, roc_auc, summary
from models.common.reasons import principal_reasons
from models.common.splits import by_month_and_person, with_label_delay

FORBIDDEN = {"pipelines", "duckdb", "feast", "dagster", "dbt", "feature_repo"}


def test_models_are_pure():
    root = Path(models.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            met = {name.split(".")[0] for name in names} & FORBIDDEN
            assert not met, f"{path.name} imports {met}"


def test_models_load_nothing_of_the_pipeline():
    code = (
        "import sys, models.fraud.training, models.underwriting.training, "
        "models.common.registry\n"
        f"print(sorted({FORBIDDEN!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_features_that_say_nothing_are_dropped_with_a_note():
    frame = pl.DataFrame(
        {"a": [1, 2], "empty": pl.Series([None, None], dtype=pl.Int64), "same": [3, 3],
         "text": ["x", "y"], "flag": [True, False]}
    )  # fmt: skip
    found = usable_features(frame, ["a", "empty", "same", "text", "flag", "absent"])
    assert found.kept == ("a", "flag")
    assert set(found.dropped) == {"empty", "same", "text", "absent"}


def test_matrix_has_nan_for_missing_infinite_and_absent():
    frame = pl.DataFrame({"a": [1, None, 3], "b": [float("inf"), 0.5, float("nan")]})
    found = matrix(frame, ["a", "b", "c"])
    assert found.shape == (3, 3)
    assert np.isnan(found).tolist() == [
        [False, True, True],
        [True, False, True],
        [False, True, True],
    ]


def test_target_must_be_binary():
    assert binary_target(pl.DataFrame({"y": [True, False]}), "y").tolist() == [1, 0]
    for bad in ([0, 2], [0, None]):
        with pytest.raises(ModelError, match="target 'y'"):
            binary_target(pl.DataFrame({"y": bad}), "y")


@pytest.mark.parametrize("target", [np.zeros(500), np.ones(500), np.r_[np.ones(30), np.zeros(30)]])
def test_too_few_or_one_sided_outcomes_are_not_due(target):
    with pytest.raises(NotEnoughOutcomes, match="matured outcomes"):
        require_outcomes(target, what="m", minimum_rows=200, minimum_positives=20)


def test_data_set_fingerprint_follows_values_not_chunks():
    frame = pl.DataFrame({"id": ["a", "b"], "x": [1.0, None], "t": [datetime(2024, 1, 1)] * 2})
    chunked = pl.concat([frame[:1], frame[1:]], rechunk=False)
    assert dataset_sha256(frame) == dataset_sha256(chunked)
    for changed in (
        frame.with_columns(pl.col("x").fill_null(0.0)),
        frame.reverse(),
        frame.rename({"x": "y"}),
        frame.with_columns(pl.Series("id", ["ab", ""])),
    ):
        assert dataset_sha256(frame) != dataset_sha256(changed)


def test_vector_fingerprint_is_per_row_and_order_of_features():
    frame = pl.DataFrame({"a": [1, 1], "b": [2, 3]})
    first, second = vector_sha256(frame, ["a", "b"])
    assert first != second
    assert vector_sha256(frame, ["b", "a"])[0] != first
    assert vector_sha256(frame[:1], ["a", "b"]) == [first]


def _decisions(months: int, persons: int, per_month: int = 40) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "at": [
                datetime(2024, 1 + m, 1 + i % 28) for m in range(months) for i in range(per_month)
            ],
            "person": [
                f"p{(m * 7 + i) % persons}" for m in range(months) for i in range(per_month)
            ],
        }
    )


def test_out_of_time_is_whole_latest_months_and_no_person_is_in_two_samples():
    frame = _decisions(months=8, persons=200)
    split = by_month_and_person(frame["at"], frame["person"])
    month = frame["at"].dt.month().to_numpy()
    assert set(month[split.out_of_time]) == {7, 8}
    assert not set(month[split.train | split.holdout]) & {7, 8}
    persons = frame["person"].to_numpy()
    samples = [set(persons[m]) for m in (split.train, split.holdout, split.out_of_time)]
    assert not samples[0] & samples[1]
    assert not samples[0] & samples[2]
    assert not samples[1] & samples[2]
    assert all(samples)


def test_one_month_has_no_out_of_time_sample_and_says_so():
    frame = _decisions(months=1, persons=200)
    split = by_month_and_person(frame["at"], frame["person"])
    assert not split.out_of_time.any()
    assert split.holdout.any()
    assert "no out-of-time" in split.notes[0]


def test_three_vintages_are_out_of_time_even_where_fewer_hold_enough_rows():
    early, late = _decisions(months=12, persons=900, per_month=10), _decisions(12, 900, 400)
    frame = pl.concat([early, late.filter(pl.col("at") >= datetime(2024, 12, 1))])
    split = by_month_and_person(frame["at"], frame["person"])
    months = frame["at"].dt.month().to_numpy()
    assert set(months[split.out_of_time]) == {10, 11, 12}
    assert split.notes[0] == "9 monthly vintages in the development sample, of 12 that are wanted"


def test_the_label_delay_gap_is_in_neither_block():
    at = pl.Series([datetime(2024, 1, 1) + timedelta(hours=h) for h in range(24 * 40)])
    cutoff, delay = datetime(2024, 1, 25), timedelta(days=7)
    split = with_label_delay(at, cutoff=cutoff, delay=delay)
    moments = at.to_numpy()
    assert moments[split.train].max() < np.datetime64(cutoff - delay)
    assert moments[split.test].min() == np.datetime64(cutoff)
    gap = ~split.train & ~split.test
    assert gap.sum() == 7 * 24


def test_ks_equals_brute_force_over_thresholds():
    generator = np.random.default_rng(3)
    for _ in range(20):
        target = generator.integers(0, 2, 60)
        score = generator.integers(0, 8, 60) / 8
        if len(set(target)) < 2:
            continue
        brute = max(
            abs((score[target == 1] <= t).mean() - (score[target == 0] <= t).mean())
            for t in np.unique(score)
        )
        assert ks(target, score) == pytest.approx(brute)


def test_random_scores_have_the_prevalence_as_average_precision():
    generator = np.random.default_rng(0)
    target = (generator.random(20_000) < 0.05).astype(int)
    found = summary(target, np.full(20_000, 0.05))
    assert found["average_precision"] == pytest.approx(target.mean())
    assert found["auc"] == 0.5


def test_a_summary_of_one_class_or_no_rows_has_nulls():
    assert summary(np.zeros(5), np.full(5, 0.2))["auc"] is None
    assert summary(np.zeros(0), np.zeros(0)) == {
        **summary(np.zeros(0), np.zeros(0)), "rows": 0, "positives": 0, "auc": None
    }  # fmt: skip
    with pytest.raises(ModelError, match="both classes"):
        roc_auc(np.zeros(5), np.zeros(5))


def test_bootstrap_interval_holds_the_value_and_resamples_groups():
    generator = np.random.default_rng(1)
    target = generator.integers(0, 2, 400)
    score = target + generator.normal(0, 1.5, 400)
    low, high = bootstrap_interval(target, score, np.arange(400)) or (1.0, 0.0)
    assert low < roc_auc(target, score) < high
    weighted = bootstrap_interval(target, score, np.arange(400), draws=1, seed=5)
    drawn = np.random.default_rng(5).integers(0, 400, 400)
    assert weighted == pytest.approx((roc_auc(target[drawn], score[drawn]),) * 2)
    grouped = bootstrap_interval(target, score, np.arange(400) // 50) or (0.0, 1.0)
    assert grouped != (low, high)


def test_reasons_leave_out_the_best_bin_and_repeated_wording():
    points = {"a": 5.0, "b": 1.0, "c": 2.0, "d": 9.0}
    reference = {"a": 6.0, "b": 8.0, "c": 8.0, "d": 9.5}
    best = {"a": 5.0, "b": 9.0, "c": 9.0, "d": 12.0}
    wording = {"a": ("A", "a"), "b": ("B", "late"), "c": ("C", "late"), "d": ("D", "d")}
    assert [r.code for r in principal_reasons(points, reference, best, wording)] == ["B", "D"]


def test_a_feature_without_wording_cannot_be_explained():
    with pytest.raises(ModelError, match="no consumer reason"):
        principal_reasons({"a": 1.0}, {"a": 2.0}, {"a": 3.0}, {})
