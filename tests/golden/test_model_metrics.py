"""Published or hand-worked values of the metrics, bins and reasons."""

import numpy as np
import pytest

from models.common.evaluation import (
    FixedBins,
    average_precision,
    bootstrap_interval,
    brier,
    calibration,
    card_precision_at_k,
    gini,
    ks,
    paired_interval,
    psi,
    roc_auc,
    swap_set,
)
from models.common.reasons import principal_reasons
from models.underwriting.binning import information_value, weight_of_evidence
from models.underwriting.scorecard import pd_from_score, pdo_scale, score_from_pd
from pipelines.fair_lending.measures import (
    adverse_impact_ratio,
    bisg,
    standardised_mean_difference,
)

TOTALS = np.array([400.0, 300.0, 200.0, 80.0, 50.0, 20.0])
BADS = np.array([8.0, 12.0, 20.0, 20.0, 10.0, 20.0])


def test_weights_of_evidence_and_information_value_parts():
    goods = TOTALS - BADS
    woe = weight_of_evidence(goods, BADS)
    assert woe[:5] == pytest.approx([1.524697, 0.810930, -0.169899, -1.268511, -0.980829], abs=1e-6)
    parts = [(goods / goods.sum() - BADS / BADS.sum())[i] * woe[i] for i in range(5)]
    assert parts == pytest.approx([0.487056, 0.135155, 0.005899, 0.202609, 0.068113], abs=1e-6)
    assert information_value(goods, BADS, woe) == pytest.approx(
        sum(parts) + (0 - 20 / 90) * woe[5], abs=1e-9
    )


def test_an_empty_cell_is_corrected_and_stays_finite():
    woe = weight_of_evidence(TOTALS - BADS, BADS)
    assert np.isfinite(woe[5])
    assert woe[5] == pytest.approx(np.log((0.5 / 960) / (20 / 90)))


def test_points_double_the_odds():
    factor, offset = pdo_scale(20, 600, 50)
    assert factor == pytest.approx(28.853901, abs=1e-6)
    assert offset == pytest.approx(487.122876, abs=1e-6)
    scores = [score_from_pd(p, factor, offset) for p in (0.01, 0.02, 0.05, 0.10, 0.20)]
    assert scores == pytest.approx([619.7100, 599.4171, 572.0814, 550.5214, 527.1229], abs=1e-4)
    assert pd_from_score(np.array(scores), factor, offset) == pytest.approx(
        [0.01, 0.02, 0.05, 0.10, 0.20]
    )


@pytest.mark.parametrize(
    ("actual", "value"),
    [((0.08, 0.17, 0.30, 0.27, 0.18), 0.016347), ((0.05, 0.10, 0.25, 0.30, 0.30), 0.226176)],
)
def test_population_stability_index(actual, value):
    assert psi((0.10, 0.20, 0.30, 0.25, 0.15), actual).value == pytest.approx(value, abs=1e-6)


def test_an_empty_bin_is_lifted_and_reported():
    found = psi((0.5, 0.5, 0.0), (0.5, 0.4, 0.1))
    assert found.zero_bins == 1
    assert np.isfinite(found.value)


def test_fixed_bins_count_missing_apart():
    bins = FixedBins.from_development(np.array([*range(100), np.nan], dtype=float), bins=4)
    shares = bins.shares(np.array([0.0, 99.0, np.nan, np.nan]))
    assert len(shares) == 5
    assert shares[-1] == 0.5
    assert bins.psi(np.array([*range(100), np.nan], dtype=float)).value == pytest.approx(0.0)


def test_ks_with_ties_takes_distinct_scores():
    target = np.array([1, 1, 0, 0, 0, 1, 0, 0, 1, 0])
    assert ks(target, np.zeros(10)) == 0.0
    score = np.array([0.9, 0.9, 0.9, 0.4, 0.4, 0.4, 0.1, 0.1, 0.9, 0.1])
    # Among the four at 0.9 are 3 of 4 bads and 1 of 6 goods: |3/4 − 1/6| = 7/12.
    assert ks(target, score) == pytest.approx(7 / 12)
    assert ks(target, -score) == pytest.approx(7 / 12)


def test_ranking_and_probability_metrics_by_hand():
    target = np.array([0, 0, 1, 1])
    score = np.array([0.1, 0.4, 0.35, 0.8])
    assert roc_auc(target, score) == 0.75
    assert gini(target, score) == 0.5
    assert average_precision(target, score) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert brier(target, score) == pytest.approx((0.01 + 0.16 + 0.4225 + 0.04) / 4)
    found = calibration(target, score, bins=2)
    assert found.ratio == pytest.approx(1.65 / 2)
    # Equally filled groups: {0.1, 0.35} and {0.4, 0.8}.
    assert found.ece == pytest.approx((2 * abs(0.225 - 0.5) + 2 * abs(0.6 - 0.5)) / 4)


def test_calibration_groups_do_not_divide_ties():
    """Two distinct probabilities make two groups, however the rows lie: by hand."""
    target = np.array([1, 1, 0, 0, 0, 0, 1, 0])
    probability = np.array([0.5, 0.5, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    found = calibration(target, probability)
    assert [(b["rows"], b["expected"], b["observed"]) for b in found.bins] == [
        (5.0, pytest.approx(0.1), pytest.approx(1 / 5)),
        (3.0, pytest.approx(0.5), pytest.approx(2 / 3)),
    ]
    assert found.ece == pytest.approx((5 * (1 / 5 - 0.1) + 3 * (2 / 3 - 0.5)) / 8)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(8)
        assert calibration(target[order], probability[order]).ece == pytest.approx(found.ece)


def test_card_precision_over_three_days_with_and_without_removal():
    # Two alerts a day. Card a is compromised on all days, card d on day 3.
    rows = [
        (1, "a", 1, 0.9), (1, "a", 0, 0.2), (1, "b", 0, 0.8), (1, "c", 0, 0.1),
        (2, "a", 1, 0.9), (2, "b", 0, 0.8), (2, "c", 1, 0.5), (2, "d", 0, 0.4),
        (3, "a", 1, 0.9), (3, "b", 0, 0.8), (3, "c", 0, 0.7), (3, "d", 1, 0.6),
    ]  # fmt: skip
    day, card, target, score = (list(column) for column in zip(*rows, strict=True))
    arguments = (day, card, np.array(target), np.array(score))
    # Kept: a is found each day, the second alert never is a fraud.
    assert card_precision_at_k(*arguments, k=2, remove_detected=False) == pytest.approx(0.5)
    # Removed: a on day 1; b and c on day 2 (c is found); b and d on day 3 (d is found).
    assert card_precision_at_k(*arguments, k=2, remove_detected=True) == pytest.approx(0.5)
    # One alert: a each day when kept; a, then b, then b when removed.
    assert card_precision_at_k(*arguments, k=1, remove_detected=False) == pytest.approx(1.0)
    assert card_precision_at_k(*arguments, k=1, remove_detected=True) == pytest.approx(1 / 3)


def test_card_precision_divides_by_k_on_a_day_with_fewer_cards():
    assert card_precision_at_k(
        [1, 1], ["a", "b"], np.array([1, 0]), np.array([0.9, 0.1]), k=100
    ) == pytest.approx(0.01)


REASON_POINTS = {
    "bc_util": (12, 41, 58),
    "inq6m": (20, 33, 38),
    "mths_since_dq": (18, 40, 52),
    "age_oldest": (30, 36, 45),
    "dti": (25, 27, 35),
    "n_open6m": (22, 24, 30),
}


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (1, [("bc_util", 29), ("mths_since_dq", 22), ("inq6m", 13), ("age_oldest", 6)]),
        (2, [("bc_util", 46), ("mths_since_dq", 34), ("inq6m", 18), ("age_oldest", 15)]),
    ],
)
def test_principal_reasons(reference, expected):
    reasons = principal_reasons(
        {f: v[0] for f, v in REASON_POINTS.items()},
        {f: v[reference] for f, v in REASON_POINTS.items()},
        {f: v[2] for f, v in REASON_POINTS.items()},
        {f: (f, f"about {f}") for f in REASON_POINTS},
    )
    assert [(r.feature, r.points_lost) for r in reasons] == expected


def test_ks_equals_a_walk_over_every_threshold_with_ties():
    generator = np.random.default_rng(3)
    for _ in range(50):
        target = generator.integers(0, 2, 40)
        score = generator.integers(0, 6, 40).astype(float)
        if not 0 < target.sum() < 40:
            continue
        gaps = [
            abs((score[target == 1] <= cut).mean() - (score[target == 0] <= cut).mean())
            for cut in score
        ]
        assert ks(target, score) == pytest.approx(max(gaps))


def test_intervals_by_bootstrap_hold_the_measure_and_the_paired_one_is_narrower():
    generator = np.random.default_rng(4)
    target = generator.integers(0, 2, 800)
    score = target + generator.normal(0, 1.5, 800)
    worse = score + generator.normal(0, 0.3, 800)
    persons = np.arange(800) // 2
    low, high = bootstrap_interval(target, score, persons)  # pyright: ignore[reportGeneralTypeIssues]
    assert low < roc_auc(target, score) < high
    gain = paired_interval(target, score, worse, persons)
    assert gain is not None
    assert gain[0] < roc_auc(target, score) - roc_auc(target, worse) < gain[1]
    assert gain[1] - gain[0] < (high - low) / 2
    assert paired_interval(target, score, score, persons) == (0.0, 0.0)


def test_a_swap_set_declines_as_many_with_either_model():
    target = np.array([1, 0, 1, 0, 0, 0, 1, 0])
    champion = np.array([1, 2, 3, 4, 5, 6, 7, 8])
    challenger = np.array([1, 4, 2, 5, 6, 7, 3, 8])
    found = swap_set(target, champion, challenger, 0.25)
    # The champion declines rows 1 and 2, the challenger rows 1 and 3.
    assert found["declined_by_both"] == {"rows": 1, "bad_rate": 1.0}
    assert found["swapped_in"] == {"rows": 1, "bad_rate": 0.0}
    assert found["swapped_out"] == {"rows": 1, "bad_rate": 1.0}
    assert found["approved_by_both"] == {"rows": 5, "bad_rate": pytest.approx(0.2)}


def test_adverse_impact_and_mean_difference_by_hand():
    assert adverse_impact_ratio(270, 450, 560, 800) == pytest.approx(0.857143, abs=1e-6)
    assert adverse_impact_ratio(0, 0, 560, 800) is None
    found = standardised_mean_difference(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0]))
    assert found == pytest.approx(-1.0)
    # A surname of 60 : 40 in a place where the second group is three times as common.
    shares = bisg(np.array([[0.6, 0.4], [0.0, 0.0]]), np.array([[0.1, 0.3], [0.1, 0.3]]))
    assert shares[0] == pytest.approx([1 / 3, 2 / 3])
    assert np.isnan(shares[1]).all()
