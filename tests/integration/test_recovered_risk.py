"""The scorecard on the synthetic world, where the true probabilities are known."""

import numpy as np
import polars as pl
import pytest

from benchmarks.default_risk import (
    MONTHS,
    RUN,
    longest_run,
    population,
    recovered,
    true_probability,
)
from models.underwriting.rejects import DECLINED
from pipelines.sources.world.holders import draw_hardship


@pytest.fixture(scope="module")
def world() -> pl.DataFrame:
    return population(accounts=3_000, days=900, seed=7)


def test_the_true_probability_is_what_happens() -> None:
    """Exact against 20,000 fates of each of three people."""
    people = [(-1.0, 1.2), (0.0, 1.0), (1.5, 0.5)]
    draws = 20_000
    for risk, income in people:
        risks, incomes = np.full(draws, risk), np.full(draws, income)
        fates = draw_hardship(1, np.arange(draws), risks, incomes, MONTHS + 1)
        share = float((longest_run(fates) >= RUN).mean())
        exact = float(true_probability(risks[:1], incomes[:1])[0])
        assert share == pytest.approx(exact, abs=4 * (exact * (1 - exact) / draws) ** 0.5)


def test_accounts_are_recovered_by_decile(world: pl.DataFrame) -> None:
    deciles = recovered(world, "none")["later accounts"]
    assert sum(d.is_recovered for d in deciles) >= 8
    true = [d.true for d in deciles]
    assert true[0] > 0.2
    assert true[-1] < 0.03


def test_the_declined_are_worse_than_those_without_them_expect(world: pl.DataFrame) -> None:
    """What accounts alone cannot tell, outcomes at other lenders can."""
    declined = world.filter(pl.col("source") == DECLINED)["true_pd"].mean()
    booked = world.filter("is_booked")["true_pd"].mean()
    assert isinstance(declined, float)
    assert isinstance(booked, float)
    assert declined > 3 * booked
    riskiest = {o: recovered(world, o)["all who applied later"][0] for o in ("none", "bureau")}
    assert riskiest["none"].expected < riskiest["none"].true
    assert riskiest["bureau"].is_recovered
