"""Alerts, money and late labels against examples worked by hand."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from models.fraud.evaluation import (
    Economics,
    alert_metrics,
    break_even,
    budget_alerts,
    label_completeness,
)

DAY = datetime(2024, 3, 1)
COSTS = Economics(review_minor=500, friction_minor=1000)


def scored(*rows: tuple[str, float, int, float, int]) -> pl.DataFrame:
    """card, hours after DAY, amount_minor, score, label."""
    return pl.DataFrame(
        [(card, DAY + timedelta(hours=h), a, s, y) for card, h, a, s, y in rows],
        schema=["card_id", "event_at", "amount_minor", "score", "label"], orient="row",
    )  # fmt: skip


TWO_DAYS = scored(
    # Card a: a small test that is not alerted, found on day 1 at 10:00, two more frauds after.
    ("a", 8, 100, 0.2, 1), ("a", 10, 4000, 0.9, 1), ("a", 20, 3000, 0.3, 1),
    ("a", 30, 2000, 0.95, 1),
    # Card b is honest, and alerted on day 1 and again on day 2.
    ("b", 11, 5000, 0.8, 0), ("b", 40, 100, 0.7, 0),
    # Card c is never found.
    ("c", 41, 900, 0.1, 1), ("d", 42, 50, 0.05, 0),
)  # fmt: skip


def test_a_found_card_is_not_alerted_again():
    alerts = budget_alerts(TWO_DAYS, 2)
    assert alerts.select("card_id", "score").rows() == [
        ("a", 0.9), ("b", 0.8), ("b", 0.7), ("c", 0.1)
    ]  # fmt: skip
    assert budget_alerts(TWO_DAYS, 1)["card_id"].to_list() == ["a", "b"]


def test_two_days_by_hand():
    found = alert_metrics(TWO_DAYS, 1, COSTS, threshold=0.75)
    assert found["alerts"] == 2
    assert found["alerts_true"] == 1
    assert found["false_per_true_alert"] == 1
    # Defrauded card-days: a on both days, c on the second.
    assert found["recall_at_budget"] == pytest.approx(1 / 3)
    assert found["card_detection_rate"] == pytest.approx(1 / 2)
    assert found["value_detection_rate"] == pytest.approx(9000 / 10_000)
    assert found["value_detection_rate_next_day"] == pytest.approx(2000 / 10_000)
    assert found["hours_to_detect_median"] == pytest.approx(2)
    assert found["net_benefit_minor"] == 9000 - 2 * 500 - 1000
    assert found["insult_rate"] == pytest.approx(1 / 3)
    assert found["recall_at_threshold"] == pytest.approx(2 / 5)


def test_nothing_to_find_is_null_not_zero():
    honest = TWO_DAYS.filter(pl.col("label") == 0)
    found = alert_metrics(honest, 1, COSTS, threshold=0.5)
    assert found["value_detection_rate"] is None
    assert found["hours_to_detect_median"] is None
    assert found["false_per_true_alert"] is None
    assert found["net_benefit_minor"] == -2 * 1500


def test_the_threshold_is_where_an_alert_pays_for_itself():
    threshold = break_even(COSTS, loss_minor=14_000)
    assert threshold == pytest.approx(0.1)
    assert threshold * 14_000 == pytest.approx(500 + (1 - threshold) * 1000)
    assert break_even(COSTS, loss_minor=0) == 1


def reports(days: int, per_day: int, lags: tuple[int, ...]) -> tuple[pl.Series, pl.Series]:
    """The same number of frauds each day, reported after the given days in turn."""
    at = [DAY + timedelta(days=d, hours=9) for d in range(days) for _ in range(per_day)]
    known = [
        DAY + timedelta(days=d + lags[i % len(lags)]) for d in range(days) for i in range(per_day)
    ]
    return pl.Series(at), pl.Series(known)


def test_completeness_of_a_steady_delay_is_exact():
    # A quarter each after 1, 2, 5 and 10 days; the block is the five days before "now".
    at, known = reports(40, 8, (1, 2, 5, 10))
    now = DAY + timedelta(days=40)
    found = label_completeness(
        at, known, known_by=now, start=now - timedelta(days=5), end=now
    )  # fmt: skip
    assert found is not None
    # Ages 1 to 5 days: one, two, two, two and three quarters are known, of five whole days.
    assert found.share == pytest.approx((1 + 2 + 2 + 2 + 3) / 20)
    assert found.low == pytest.approx(found.share)
    assert found.high == pytest.approx(found.share)
    assert found.developed_days == 10


def test_completeness_uses_no_report_from_the_future():
    at, known = reports(40, 8, (1, 2, 5, 10))
    now = DAY + timedelta(days=40)
    seen = pl.Series((known <= now).to_numpy())

    def complete(at: pl.Series, known: pl.Series):
        return label_completeness(
            at, known, known_by=now, start=now - timedelta(days=5), end=now
        )  # fmt: skip

    assert complete(at, known) == complete(at.filter(seen), known.filter(seen))


def test_the_band_holds_the_truth_of_noisy_delays():
    generator = np.random.default_rng(0)
    day = np.repeat(np.arange(60), 20)
    at = pl.Series([DAY + timedelta(days=int(d), hours=9) for d in day])
    known = pl.Series(
        [
            DAY + timedelta(days=int(d) + 1 + int(lag))
            for d, lag in zip(day, generator.geometric(0.2, len(day)), strict=True)
        ]
    )
    now = DAY + timedelta(days=60)
    start = now - timedelta(days=10)
    block = at >= start
    truth = float((known.filter(block) <= now).mean())  # pyright: ignore[reportArgumentType]
    found = label_completeness(at, known, known_by=now, start=start, end=now)
    assert found is not None
    assert found.low < found.share < found.high
    assert found.low - 0.05 <= truth <= found.high + 0.05


def test_without_a_known_fraud_there_is_no_completeness():
    at, known = reports(3, 4, (5,))
    now = DAY + timedelta(days=3)
    assert label_completeness(at, known, known_by=now, start=DAY, end=now) is None
