"""How good a fraud score is in use: a budget of alerts a day, money, labels that come late."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Economics:
    """What an alert costs, in minor units: its review, and the annoyance of an honest customer."""

    review_minor: int
    friction_minor: int


def break_even(economics: Economics, loss_minor: float) -> float:
    """The probability from which an alert is worth its costs where a fraud costs `loss_minor`.

    It solves p·loss = review + (1 − p)·friction; 1 where nothing is lost.
    """
    cost = economics.review_minor + economics.friction_minor
    return min(1.0, cost / max(loss_minor + economics.friction_minor, cost, 1e-9))


def budget_alerts(frame: pl.DataFrame, per_day: int) -> pl.DataFrame:
    """The alerts of each day: the highest-scored cards, each by its highest-scored transaction.

    `frame` has card_id, event_at, score and label (0 or 1). A card on which a fraud was alerted is
    blocked and not alerted on later days. Ties go to the earlier transaction.
    """
    best = (
        frame.with_columns(pl.col("event_at").dt.date().alias("day"))
        .sort(["day", "score", "event_at", "card_id"], descending=[False, True, False, False])
        .unique(subset=["day", "card_id"], keep="first", maintain_order=True)
    )
    blocked: set[Any] = set()
    chosen: list[pl.DataFrame] = []
    for day in best.partition_by("day", maintain_order=True):
        alerts = day.filter(~pl.col("card_id").is_in(list(blocked))).head(per_day)
        blocked.update(alerts.filter(pl.col("label") == 1)["card_id"].to_list())
        chosen.append(alerts)
    return pl.concat(chosen) if chosen else best


def alert_metrics(
    frame: pl.DataFrame, per_day: int, economics: Economics, threshold: float
) -> dict[str, float | int | None]:
    """Metrics of a day's budget of alerts and of declining from `threshold` on.

    `frame` has card_id, event_at, amount_minor, score and label of the test block. A card counts
    as found from its first alerted fraud on. `value_detection_rate` is the share of the fraud
    amount at or after it, as if the alert were answered at once; `..._next_day` what is left to
    stop at the midnight after, when a daily batch knows. `insult_rate` is the share of legitimate
    transactions that declining from `threshold` on would hit. Rates of nothing are null.
    """
    frauds = frame.filter(pl.col("label") == 1)
    alerts = budget_alerts(frame, per_day)
    true = alerts.filter(pl.col("label") == 1)
    found = true.group_by("card_id").agg(pl.col("event_at").min().alias("found_at"))
    first = frauds.group_by("card_id").agg(pl.col("event_at").min().alias("began_at"))
    followed = frauds.join(found, on="card_id", how="left")
    at_once = pl.col("event_at") >= pl.col("found_at")
    next_day = pl.col("event_at") >= pl.col("found_at").dt.truncate("1d") + DAY
    saved = int(followed.filter(at_once)["amount_minor"].sum())
    stoppable = int(followed.filter(next_day)["amount_minor"].sum())
    total = int(frauds["amount_minor"].sum())
    hours = found.join(first, on="card_id").select(
        (pl.col("found_at") - pl.col("began_at")) / timedelta(hours=1)
    )
    card_days = frauds.select("card_id", pl.col("event_at").dt.date()).unique().height
    false = alerts.height - true.height
    honest = frame.filter(pl.col("label") == 0)
    return {
        "alerts": alerts.height,
        "alerts_true": true.height,
        "false_per_true_alert": _share(false, true.height),
        "recall_at_budget": _share(true.height, card_days),
        "card_detection_rate": _share(found.height, first.height),
        "value_detection_rate": _share(saved, total),
        "value_detection_rate_next_day": _share(stoppable, total),
        "hours_to_detect_median": hours.to_series().median() if found.height else None,  # pyright: ignore[reportReturnType]
        "net_benefit_minor": saved
        - economics.review_minor * alerts.height
        - economics.friction_minor * false,
        "threshold": threshold,
        "insult_rate": _share(honest.filter(pl.col("score") >= threshold).height, honest.height),
        "recall_at_threshold": _share(
            frauds.filter(pl.col("score") >= threshold).height, frauds.height
        ),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True)
class Completeness:
    """Which share of a block's frauds is known by now, with a 90 % band over report days.

    `developed_days` is the longest delay of a report that has been seen: what comes later still is
    not in the estimate.
    """

    share: float
    low: float
    high: float
    developed_days: int


def label_completeness(
    occurred_at: pl.Series,
    known_at: pl.Series,
    *,
    known_by: datetime,
    start: datetime,
    end: datetime,
    draws: int = 200,
    seed: int = 0,
) -> Completeness | None:
    """Chain ladder over days: how many of the frauds of `[start, end)` are reported by `known_by`.

    Rows are frauds, whenever they occurred. A day's frauds are taken to become known with its age
    as those of older days did, and to occur evenly over the days of the block: a chain ladder's
    own totals would leave out the days of which nothing is known yet. The band comes from drawing
    whole days again. Null where no fraud is known by then.
    """
    reports = pl.DataFrame({"at": occurred_at, "known": known_at}).filter(
        pl.col("known") <= known_by
    )
    days = reports.select(
        day=pl.col("at").dt.truncate("1d"),
        lag=((pl.col("known") - pl.col("at").dt.truncate("1d")) / DAY).floor().cast(pl.Int64),
    )
    if days.is_empty():
        return None
    longest = max(int(days["lag"].max()), 0)  # pyright: ignore[reportArgumentType]
    cohorts = days["day"].unique().sort()
    age = ((known_by - cohorts) / DAY).floor().cast(pl.Int64).to_numpy()
    age = np.minimum(age, longest)
    counts = np.zeros((len(cohorts), longest + 1))
    position = cohorts.search_sorted(days["day"]).to_numpy()
    np.add.at(counts, (position, np.clip(days["lag"].to_numpy(), 0, longest)), 1)
    known = counts.cumsum(axis=1)
    block_age = np.array([(known_by - day) // DAY for day in _days(start, end)])
    block_age = np.clip(block_age, 0, longest)
    generator = np.random.default_rng(seed)
    shares = [_developed(known, age, np.ones(len(cohorts)))[block_age].mean()]
    for _ in range(draws):
        drawn = generator.integers(0, len(cohorts), len(cohorts))
        weight = np.bincount(drawn, minlength=len(cohorts)).astype(float)
        shares.append(_developed(known, age, weight)[block_age].mean())
    low, high = np.quantile(shares[1:], [0.05, 0.95])
    return Completeness(float(shares[0]), float(low), float(high), longest)


def _days(start: datetime, end: datetime) -> list[datetime]:
    return [start + n * DAY for n in range(max(1, (end - start) // DAY))]


def _developed(known: np.ndarray, age: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Share of a day's frauds that is known at each age in days, from the oldest age backwards."""
    lags = known.shape[1]
    developed = np.ones(lags)
    for lag in range(lags - 2, -1, -1):
        old_enough = weight * (age > lag)
        before, after = old_enough @ known[:, lag], old_enough @ known[:, lag + 1]
        developed[lag] = developed[lag + 1] * (before / after if after else 1.0)
    return developed
