"""Draws, identifiers and calendars of the synthetic world."""

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.world.clock import (
    DAY,
    HOUR,
    Cycles,
    Window,
    day_of_month,
    day_to_date,
    weekly_delivery,
)
from pipelines.sources.world.draws import Draws
from pipelines.sources.world.fraud import discovery_delay
from pipelines.sources.world.identifiers import Identifiers, letters

SEEDS = st.integers(min_value=0, max_value=2**63)
EPOCH_DAYS = st.integers(min_value=10_000, max_value=25_000)


@given(SEEDS, st.lists(st.integers(0, 2**40), min_size=1, max_size=50), st.data())
def test_a_draw_depends_on_its_own_keys_only(seed: int, keys: list[int], data) -> None:
    draws = Draws(seed, "anything")
    together = draws.uniform(np.array(keys), 7)
    chosen = data.draw(st.integers(0, len(keys) - 1))
    assert draws.uniform(np.array([keys[chosen]]), 7)[0] == together[chosen]
    assert ((together >= 0) & (together < 1)).all()


@given(SEEDS)
def test_purposes_seeds_and_the_order_of_keys_draw_apart(seed: int) -> None:
    keys = np.arange(40)
    base = Draws(seed, "one").uniform(keys, 3)
    assert not np.isin(Draws(seed, "two").uniform(keys, 3), base).any()
    assert not np.isin(Draws(seed + 1, "one").uniform(keys, 3), base).any()
    assert (Draws(seed, "one").uniform(3, keys)[keys != 3] != base[keys != 3]).all()


def test_draws_have_the_distributions_that_they_are_named_for() -> None:
    draws, keys = Draws(3, "moments"), np.arange(200_000)
    assert draws.uniform(keys).mean() == pytest.approx(0.5, abs=0.005)
    assert draws.normal(keys).std() == pytest.approx(1.0, abs=0.01)
    assert draws.normal(keys).mean() == pytest.approx(0.0, abs=0.01)
    assert draws.poisson(2.5, keys).mean() == pytest.approx(2.5, abs=0.02)
    assert draws.poisson(2.5, keys).var() == pytest.approx(2.5, abs=0.05)
    assert draws.exponential(4.0, keys).mean() == pytest.approx(4.0, abs=0.05)
    shares = np.bincount(draws.choice([0.2, 0.5, 0.3], keys)) / keys.size
    assert shares == pytest.approx([0.2, 0.5, 0.3], abs=0.01)
    neighbours = np.corrcoef(draws.uniform(keys, 1), draws.uniform(keys + 1, 1))[0, 1]
    assert abs(neighbours) < 0.01


def test_choice_takes_a_row_of_weights_for_each_key() -> None:
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 5.0]])
    assert Draws(1, "rows").choice(weights, np.arange(3)).tolist() == [0, 1, 1]


@given(SEEDS)
def test_identifiers_are_letters_and_differ(seed: int) -> None:
    index = np.concatenate([np.arange(3_000), np.arange(2**30 - 100, 2**30)])
    names = Identifiers(seed).of("account", index)
    assert names.n_unique() == index.size
    assert names.str.contains("^[b-z]{7}$").all()


@given(st.lists(st.integers(0, 20**4 - 1), unique=True, min_size=1))
def test_letters_tell_numbers_apart(values: list[int]) -> None:
    written = letters(np.array(values), 4)
    assert written.n_unique() == len(values)
    assert written.dtype == pl.String


@given(st.integers(0, 10**17))
def test_the_weekly_file_comes_on_a_monday_within_a_week(known: int) -> None:
    delivered = int(weekly_delivery(np.array([known]))[0])
    assert 0 <= delivered - known < 7 * DAY
    assert delivered % DAY == 5 * HOUR
    assert day_to_date(delivered // DAY).weekday() == 0


@given(EPOCH_DAYS, st.sampled_from([2, 5, 11, 20, 26]), st.integers(60, 900))
def test_cycles_tile_the_life_of_an_account(opened: int, cycle_day: int, days: int) -> None:
    cycles = Cycles.of(np.array([opened]), np.array([cycle_day]), opened + days)
    ends, starts = cycles.ends[0], cycles.starts[0]
    assert starts[0] == opened
    assert (starts[1:] == ends[:-1] + 1).all()
    assert (day_of_month(ends) == cycle_day).all()
    assert ends[0] - opened >= 21
    assert ends[-1] >= opened + days
    assert np.isin(np.diff(ends), [28, 29, 30, 31]).all()
    every_day = np.arange(opened, ends[-1] + 1)
    found = cycles.of_day(np.zeros(every_day.size, np.int64), every_day)
    assert ((every_day >= starts[found]) & (every_day <= ends[found])).all()


def test_a_window_has_both_its_ends() -> None:
    window = Window.ending(date(2026, 3, 1), 366)
    assert (window.starts_on, window.ends_on) == (date(2025, 3, 1), date(2026, 3, 1))
    assert window.days == 366


def test_fraud_is_known_by_the_mixture() -> None:
    delay = discovery_delay(9, np.arange(20_000)) / DAY
    shares = [(delay <= limit).mean() for limit in (3, 30, 95)]
    assert shares == pytest.approx([0.40, 0.75, 0.95], abs=0.015)
