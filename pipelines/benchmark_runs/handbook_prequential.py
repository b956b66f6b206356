"""Our features and models on the handbook's weeks: chosen on early weeks, tested on later ones.

A step learns from a week, leaves the delay out and tests the week after it without the cards that
were known to be compromised, as published. Candidates are compared on weeks that end a delay before
the first test week begins, so nothing of a test week decides anything. Tested are the published
week and, as in the published prequential figures, the three weeks before it.
"""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from pipelines.benchmark_runs.handbook_features import DELAY_DAYS
from pipelines.progress import track

WEEK = timedelta(days=7)
BLOCK_DAYS = 7
ALERTS_PER_DAY = 100
PUBLISHED_TRAIN_START_ON = date(2018, 7, 25)
TEST_WEEKS = 4
VALIDATION_WEEKS = 2
TIE = 0.01
"""Average precisions closer than this are taken for equal, and the simpler candidate is chosen."""
METRICS = ("auc_roc", "average_precision", "card_precision_at_100")
PUBLISHED_PREQUENTIAL: dict[str, tuple[float, float, float]] = {
    "logistic_regression": (0.868, 0.623, 0.297),
    "random_forest": (0.870, 0.678, 0.299),
    "xgboost": (0.869, 0.687, 0.303),
}
LABELS = ("TX_FRAUD", "CUSTOMER_ID", "TX_TIME_DAYS")


def candidates() -> dict[str, Callable[[], Any]]:
    """Makers of unfitted models, from the simplest to the least simple."""
    from models.fraud.classifier import FraudClassifier

    return {
        "logistic_regression": lambda: FraudClassifier(kind="logistic_regression"),
        "random_forest": lambda: FraudClassifier(kind="random_forest", min_rows_leaf=3),
        "gradient_boosting": lambda: FraudClassifier(kind="gradient_boosting"),
    }


def first_days() -> dict[str, list[date]]:
    """First training days of the steps of the validation and of the test."""
    tests = [PUBLISHED_TRAIN_START_ON - n * WEEK for n in reversed(range(TEST_WEEKS))]
    # A step spans three weeks; the labels of the last one are known when the first test begins.
    last = tests[0] - 2 * WEEK
    return {
        "validation": [last - n * WEEK for n in reversed(range(VALIDATION_WEEKS))],
        "test": tests,
    }


def split(
    features: pl.DataFrame, week_start_on: date, first_on: date
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Train and test blocks of the step that learns from the week from `week_start_on`.

    On test day n the cards known to be compromised are those of the training block's frauds and
    of the frauds up to the day `delay` before, and their transactions are left out. `first_on` is
    the day that TX_TIME_DAYS counts from.
    """
    first = (week_start_on - first_on).days
    day = pl.col("TX_TIME_DAYS")
    train = features.filter(day.is_between(first, first + BLOCK_DAYS - 1))
    compromised = set(_defrauded(train))
    test_days: list[pl.DataFrame] = []
    for offset in range(BLOCK_DAYS):
        known_day = first + BLOCK_DAYS + offset - 1
        compromised.update(_defrauded(features.filter(day == known_day)))
        block = features.filter(day == first + BLOCK_DAYS + DELAY_DAYS + offset)
        test_days.append(block.filter(~pl.col("CUSTOMER_ID").is_in(list(compromised))))
    return train, pl.concat(test_days)


def _defrauded(block: pl.DataFrame) -> list[int]:
    return block.filter(pl.col("TX_FRAUD") == 1)["CUSTOMER_ID"].unique().to_list()


def evaluate(
    model: Any, train: pl.DataFrame, test: pl.DataFrame, features: Sequence[str]
) -> dict[str, float]:
    """The published metrics of a model that learns from `train`, on `test`."""
    from models.common.evaluation import average_precision, card_precision_at_k, roc_auc

    model.fit(train.select(features).to_numpy(), train["TX_FRAUD"].to_numpy())
    score = model.predict_proba(test.select(features).to_numpy())[:, 1]
    fraud = test["TX_FRAUD"].to_numpy()
    return {
        "auc_roc": roc_auc(fraud, score),
        "average_precision": average_precision(fraud, score),
        "card_precision_at_100": card_precision_at_k(
            test["TX_TIME_DAYS"], test["CUSTOMER_ID"], fraud, score, k=ALERTS_PER_DAY
        ),
    }


def summary(steps: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Mean and standard deviation of each metric over the steps, and the steps."""
    return {
        "weeks": len(steps),
        **{f"{m}_mean": float(np.mean([s[m] for s in steps])) for m in METRICS},
        **{f"{m}_sd": float(np.std([s[m] for s in steps])) for m in METRICS},
    }


def run_own(own: pl.DataFrame, first_on: date) -> dict[str, Any]:
    """The comparison on early weeks, and the chosen candidate on the test weeks.

    `own` has `LABELS` and our features; `first_on` is the day that TX_TIME_DAYS counts from.
    Returns what `metrics.json` says of it: `validation` per candidate, the one `chosen`, its
    `published_split`, and `prequential` over the weeks of the published figures.
    """
    names = [name for name in own.columns if name not in (*LABELS, "TRANSACTION_ID")]
    weeks = first_days()
    competing = candidates()
    validation = {
        name: summary(
            [evaluate(make(), *split(own, week, first_on), names) for week in weeks["validation"]]
        )
        for name, make in track(list(competing.items()), "Candidates on early weeks")
    }
    chosen = choose({name: found["average_precision_mean"] for name, found in validation.items()})
    steps = [
        evaluate(competing[chosen](), *split(own, week, first_on), names)
        for week in track(weeks["test"], "Test weeks")
    ]
    return {
        "features": names,
        "weeks": {name: [str(day) for day in days] for name, days in weeks.items()},
        "validation": validation,
        "chosen": chosen,
        "published_split": steps[-1],
        "prequential": {
            "own": summary(steps),
            "published": {
                name: dict(zip(METRICS, figures, strict=True))
                for name, figures in PUBLISHED_PREQUENTIAL.items()
            },
        },
    }


def choose(means: dict[str, float]) -> str:
    """The first candidate within TIE of the best mean average precision."""
    best = max(means.values())
    return next(name for name, value in means.items() if value >= best - TIE)
