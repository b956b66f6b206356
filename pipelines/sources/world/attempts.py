"""Attempts to pay: every use of a card, before the issuer says yes or no.

One row per attempt, as a frame of numbers; genuine ones here, fraudulent ones in `fraud`. What
becomes of an attempt is decided by `servicing` (credit available, state of the account) and told
in messages by `messages`.
"""

import numpy as np
import polars as pl

from pipelines.sources.world.clock import DAY, SECOND, Window, months_since_1970
from pipelines.sources.world.draws import Draws, Floats, Ints
from pipelines.sources.world.holders import Holders, spending_pressure
from pipelines.sources.world.merchants import (
    CATEGORIES,
    CATEGORY,
    CITIES,
    FOREIGN_CITIES,
    HOME_CITIES,
    ONLINE,
    Merchants,
)

ENTRY_MODES = ("CHIP", "CONTACTLESS", "MAGSTRIPE", "ECOMMERCE", "CREDENTIAL_ON_FILE")
CHIP, CONTACTLESS, MAGSTRIPE, ECOMMERCE, ON_FILE = range(5)
_WEEKDAY = np.array([1.0, 1.15, 1.3, 1.05, 0.9, 0.92, 0.95])
"""Thursday (day 0 of 1970) first."""

SCHEMA = {
    "holder": pl.Int64,
    "at": pl.Int64,
    "category": pl.Int64,
    "merchant": pl.Int64,
    "amount": pl.Int64,
    "is_present": pl.Boolean,
    "entry": pl.Int64,
    "device": pl.Int64,
    "incident": pl.Int64,
    "salt": pl.Int64,
}
"""`holder` is the place in the chunk, `device` 0–2 the holder's own and from 3 a stranger's,
`incident` −1 for a genuine attempt, `salt` what later draws about the attempt are keyed by."""


def genuine_attempts(
    seed: int, holders: Holders, merchants: Merchants, window: Window
) -> pl.DataFrame:
    """What holders buy themselves, with `SCHEMA`, in no particular order."""
    holder, day, number = _when(seed, holders, window)
    draws = Draws(seed, "attempts")
    keys = (holders.number[holder], day, number)
    cumulated = np.cumsum(holders.category_weights, axis=1)
    u = draws.uniform(*keys, 1) * cumulated[holder, -1]
    category = np.minimum(
        (u[:, None] >= cumulated[holder]).sum(axis=1), len(CATEGORIES) - 1
    ).astype(np.int64)
    is_trip, place = _whereabouts(seed, holders, holder, day)
    at_home = ~is_trip & draws.happens(0.90, *keys, 2)
    elsewhere = HOME_CITIES[draws.integers(0, HOME_CITIES.size, *keys, 3)]
    place = np.where(is_trip, place, np.where(at_home, holders.city[holder], elsewhere))
    remote_share = np.array([c.remote for c in CATEGORIES])[category]
    is_remote = draws.happens(remote_share, *keys, 4)
    place = np.where(is_remote, ONLINE, place)
    # What is not sold abroad is bought at home.
    place = np.where(merchants.exists(category, place), place, holders.city[holder])
    place = np.where(merchants.exists(category, place), place, ONLINE)
    favourite = draws.bits(keys[0], category, 5).astype(np.int64) & 0xFF
    merchant = merchants.choose(category, place, draws.uniform(*keys, 6), favourite)
    partner = merchants.partner_number[holders.program[holder], place]
    own = (partner >= 0) & draws.happens(0.55, *keys, 7)
    own &= merchants.category[np.maximum(partner, 0)] == category
    merchant = np.where(own, partner, merchant)
    amount = price(draws, keys, category) * holders.ticket_factor[holder]
    spree = _is_spree(seed, holders, holder, day)
    amount = np.where(spree, amount * 1.7, amount)
    is_present = place != ONLINE
    contact = draws.uniform(*keys, 8)
    entry = np.where(contact < 0.52, CONTACTLESS, np.where(contact < 0.97, CHIP, MAGSTRIPE))
    entry = np.where(is_present, entry, np.where(contact < 0.6, ECOMMERCE, ON_FILE))
    device = np.where(draws.happens(0.75, *keys, 9), 0, np.where(contact < 0.9, 1, 2))
    hour = np.array([c.hour for c in CATEGORIES])[category]
    second = (hour + np.where(is_present, 2.6, 4.0) * draws.normal(*keys, 10)) * 3_600
    second = np.mod(second, 86_400).astype(np.int64)
    micros = draws.integers(0, SECOND, *keys, 11)
    return pl.DataFrame(
        {
            "holder": holder,
            "at": day * DAY + second * SECOND + micros,
            "category": category,
            "merchant": merchant,
            "amount": cents(amount, category),
            "is_present": is_present,
            "entry": entry,
            "device": device,
            "incident": np.full(holder.size, -1, np.int64),
            "salt": day * 64 + number,
        },
        schema=SCHEMA,
    )


def price(draws: Draws, keys: tuple[Ints, ...], category: Ints) -> Floats:
    """An ordinary price in each category, cents."""
    median = np.array([c.median for c in CATEGORIES])[category]
    sigma = np.array([c.sigma for c in CATEGORIES])[category]
    return median * np.exp(sigma * draws.normal(*keys, 20))


def cents(amount: Floats, category: Ints) -> Ints:
    """Whole cents, at least one dollar; machines give cash in twenties."""
    cash = np.maximum(np.round(amount / 2_000), 1) * 2_000
    return np.where(category == CATEGORY["cash"], cash, np.maximum(amount, 100)).astype(np.int64)


def _when(seed: int, holders: Holders, window: Window) -> tuple[Ints, Ints, Ints]:
    """Holder, day and number within the day of each attempt."""
    days = np.arange(window.first, window.last + 1, dtype=np.int64)
    pressure = spending_pressure(holders.hardship)
    holder_grid = np.repeat(np.arange(holders.count), days.size)
    day_grid = np.tile(days, holders.count)
    cycle = holders.cycles.of_day(holder_grid, day_grid)
    cycle = np.minimum(cycle, pressure.shape[1] - 1)
    # Before Christmas people buy more, after it less.
    month = months_since_1970(days) % 12
    season = np.where(month == 11, 1.22, np.where(month == 0, 0.9, 1.0))
    rate = holders.daily_spending[holder_grid] * pressure[holder_grid, cycle]
    rate = rate * np.tile(season, holders.count) * _WEEKDAY[day_grid % 7]
    rate = np.where(_is_spree(seed, holders, holder_grid, day_grid), rate + 3.0, rate)
    rate = np.where(day_grid >= holders.first_use[holder_grid], rate, 0.0)
    rate = np.where(holders.daily_spending[holder_grid] > 0, rate, 0.0)
    bust_day = holders.bust_day[holder_grid]
    rate = np.where((bust_day >= 0) & (day_grid >= bust_day), 0.0, rate)
    draws = Draws(seed, "attempts/count")
    count = np.minimum(draws.poisson(rate, holders.number[holder_grid], day_grid), 60)
    holder, day = np.repeat(holder_grid, count), np.repeat(day_grid, count)
    number = np.arange(holder.size) - np.repeat(np.cumsum(count) - count, count)
    return holder, day, number


def _is_spree(seed: int, holders: Holders, holder: Ints, day: Ints):
    """Days on which an honest holder shops a lot at once: about one in fifty."""
    return Draws(seed, "sprees").happens(0.02, holders.number[holder], day)


def _whereabouts(seed: int, holders: Holders, holder: Ints, day: Ints):
    """Whether the holder travels that week, and to which place."""
    draws = Draws(seed, "trips")
    number, week = holders.number[holder], day // 7
    u = draws.uniform(number, week, 1)
    abroad = FOREIGN_CITIES[draws.integers(0, FOREIGN_CITIES.size, number, week, 2)]
    inland = HOME_CITIES[draws.integers(0, HOME_CITIES.size, number, week, 3)]
    return u < 0.06, np.where(u < 0.015, abroad, inland)


def is_foreign(merchants: Merchants) -> np.ndarray:
    """Whether each merchant is outside the United States."""
    return (merchants.country != "US").to_numpy()


__all__ = ["CITIES", "ENTRY_MODES", "SCHEMA", "cents", "genuine_attempts", "is_foreign", "price"]
