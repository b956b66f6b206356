"""Our features of the handbook's transactions against their definition, row by row."""

import math
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pipelines.benchmark_runs.handbook_own import (
    AMOUNT_DAYS,
    COUNT_SECONDS,
    KNOWN_DAYS,
    MINIMUM_AMOUNTS,
    UNUSUAL_DAYS,
    own_features,
)

NAN = float("nan")
DELAY = timedelta(days=7)


def history(rows: int, seed: int) -> pl.DataFrame:
    """A coarse clock, so that rows meet within a second and on the edges of windows and delay."""
    generator = np.random.default_rng(seed)
    moments = np.sort(generator.integers(0, 130 * 4, rows))
    return pl.DataFrame(
        {
            "TRANSACTION_ID": np.arange(rows),
            "TX_DATETIME": [datetime(2018, 4, 1) + timedelta(hours=6 * int(m)) for m in moments],
            "CUSTOMER_ID": generator.integers(0, 4, rows),
            "TERMINAL_ID": generator.integers(0, 5, rows),
            "TX_AMOUNT": np.round(generator.lognormal(3, 1, rows), 2),
            "TX_FRAUD": (generator.random(rows) < 0.15).astype(int),
        }
    )


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else NAN


def amounts(amount: float, earlier: list[float]) -> tuple[float, float]:
    if len(earlier) < MINIMUM_AMOUNTS:
        return NAN, NAN
    usual, deviation = mean(earlier), float(np.std(earlier, ddof=1))
    return amount / max(usual, 1), (amount - usual) / max(deviation, 0.05 * usual, 1)


def by_definition(rows: list[dict]) -> list[dict[str, float]]:
    """Every feature of every row by looking through all rows before it."""
    result: list[dict[str, float]] = []
    for i, row in enumerate(rows):
        at = row["TX_DATETIME"]
        mine = [j for j in range(i) if rows[j]["CUSTOMER_ID"] == row["CUSTOMER_ID"]]
        there = [j for j in range(i) if rows[j]["TERMINAL_ID"] == row["TERMINAL_ID"]]
        known = [j for j in there if rows[j]["TX_DATETIME"] + DELAY <= at]

        def ago(j: int, at: datetime = at) -> timedelta:
            return at - rows[j]["TX_DATETIME"]

        def within(candidates: list[int], window: timedelta, ago=ago) -> list[int]:
            return [j for j in candidates if ago(j) <= window]

        def frauds(candidates: list[int]) -> list[int]:
            return [j for j in candidates if rows[j]["TX_FRAUD"]]

        def at_usual(candidates: list[int], frauds=frauds) -> list[int]:
            return [j for j in frauds(candidates) if not result[j]["AMOUNT_TO_USUAL"] >= 2.5]

        amount = row["TX_AMOUNT"]
        found: dict[str, float] = {
            "AMOUNT": amount,
            "HOUR": at.hour,
            "VISITS_BEFORE": len(set(mine) & set(there)),
            "CUSTOMER_SECONDS_SINCE_LAST": ago(mine[-1]).total_seconds() if mine else NAN,
        }
        for name, seconds in COUNT_SECONDS.items():
            window = timedelta(seconds=seconds)
            found[f"CUSTOMER_COUNT_{name}"] = len(within(mine, window))
            found[f"TERMINAL_COUNT_{name}"] = len(within(there, window))
        for days in AMOUNT_DAYS:
            earlier = [rows[j]["TX_AMOUNT"] for j in within(mine, timedelta(days=days))]
            found[f"AMOUNT_TO_MEAN_{days}D"], found[f"AMOUNT_ZSCORE_{days}D"] = amounts(
                amount, earlier
            )
        usual = [
            rows[j]["TX_AMOUNT"]
            for j in within(mine, timedelta(days=90))
            if not result[j]["AMOUNT_TO_MEAN_90D"] >= 2.5
        ]
        ratio, found["AMOUNT_TO_USUAL_ZSCORE"] = amounts(amount, usual)
        found["USUAL_AMOUNT"] = mean(usual)
        found["AMOUNT_TO_USUAL"] = ratio if math.isnan(ratio) else min(ratio, 10)
        for days in UNUSUAL_DAYS:
            ratios = [result[j]["AMOUNT_TO_USUAL"] for j in within(mine, timedelta(days=days))]
            found[f"CUSTOMER_UNUSUAL_{days}D"] = sum(r >= 2.5 for r in ratios)
            found[f"CUSTOMER_RATIO_{days}D"] = mean([1 if math.isnan(r) else r for r in ratios])
        mine_known = [j for j in mine if ago(j) >= DELAY]
        for days in (28, 90):
            window = timedelta(days=days) + DELAY
            found[f"CUSTOMER_KNOWN_FRAUDS_{days}D"] = len(frauds(within(mine_known, window)))
        for days in KNOWN_DAYS:
            seen = within(known, timedelta(days=days) + DELAY)
            found[f"TERMINAL_KNOWN_{days}D"] = len(seen)
            found[f"TERMINAL_FRAUDS_{days}D"] = len(frauds(seen))
            found[f"TERMINAL_FRAUDS_AT_USUAL_{days}D"] = len(at_usual(seen))
            found[f"TERMINAL_RATE_{days}D"] = (len(frauds(seen)) + 0.1) / (len(seen) + 20)
        recent = within(known, timedelta(days=max(KNOWN_DAYS)) + DELAY)
        for name, those in (
            ("FRAUD", frauds(recent)),
            ("FRAUD_AT_USUAL", at_usual(recent)),
            ("LEGIT", [j for j in recent if not rows[j]["TX_FRAUD"]]),
        ):
            found[f"TERMINAL_DAYS_SINCE_{name}"] = (
                ago(those[-1]) / timedelta(days=1) if those else NAN
            )
        begun = at_usual(within(known, timedelta(days=28) + DELAY))
        since = [j for j in known if begun and j >= begun[0]]
        found["TERMINAL_DAYS_SINCE_FIRST_FRAUD_AT_USUAL_28D"] = (
            ago(begun[0]) / timedelta(days=1) if begun else NAN
        )
        found["TERMINAL_RATE_SINCE_FIRST_FRAUD_AT_USUAL_28D"] = mean(
            [rows[j]["TX_FRAUD"] for j in since]
        )
        result.append(found)
    return result


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_feature_follows_its_definition(seed: int):
    rows = history(500, seed)
    ours = own_features(rows.sample(fraction=1.0, shuffle=True, seed=seed))
    reference = by_definition(rows.to_dicts())
    assert set(ours.columns) == {"TRANSACTION_ID", *reference[0]}
    for name in reference[0]:
        expected = np.array([row[name] for row in reference], dtype=float)
        # Ratios are added up in thousandths.
        tolerance = 1e-3 if name.startswith("CUSTOMER_RATIO") else 1e-9
        np.testing.assert_allclose(
            ours[name].to_numpy(), expected, rtol=1e-9, atol=tolerance, err_msg=name
        )


def test_what_was_not_known_yet_changes_nothing():
    rows = history(500, 3)
    at = rows["TX_DATETIME"][350]
    seen = rows.filter(pl.col("TX_DATETIME") <= at)
    unknown = seen.with_columns(
        pl.when(pl.col("TX_DATETIME") + DELAY > at).then(0).otherwise(pl.col("TX_FRAUD"))
        .alias("TX_FRAUD")
    )  # fmt: skip
    assert own_features(unknown).tail(1).equals(own_features(rows)[seen.height - 1])
