"""Who holds each account and how they live: spending, paying habits, months of hardship.

Hardship is what makes accounts go bad. Its onset has a monthly hazard that grows with latent risk
and falls with income, so what the bureau knows at application predicts it without determining it;
spending speeds up in the months before, and stops being paid for afterwards.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.sources.world.clock import DAY, Cycles, Window
from pipelines.sources.world.draws import Bools, Draws, Floats, Ints
from pipelines.sources.world.merchants import CATEGORIES, CATEGORY
from pipelines.sources.world.programs import PROGRAMS

CYCLE_DAYS = np.array([2, 5, 8, 11, 14, 17, 20, 23, 26])
FIRST_USE_AFTER_DAYS = 8
"""The card is in the post for a week; by then the weekly account file has arrived too."""
ONSET_HAZARD = 0.0165
ONSET_RISK_SLOPE = 1.6
ONSET_INCOME_SLOPE = 0.6
HARDSHIP_PERSISTS = 0.90
"""Monthly, for a person of average risk; worse risks find out of it more slowly."""
HARDSHIP_PERSISTS_SLOPE = 0.02
BUST_OUT_SHARE = 0.006


@dataclass(frozen=True, slots=True)
class Holders:
    """One entry per account. `number` is the account's number in the world, money in cents."""

    number: Ints
    person: Ints
    program: Ints
    city: Ints
    risk: Floats
    limit: Ints
    opened_at: Ints
    first_use: Ints
    cycles: Cycles
    daily_spending: Floats
    ticket_factor: Floats
    category_weights: Floats
    full_payer: Floats
    hardship: Bools
    """Accounts × cycles."""
    ring: Ints
    """The application ring of each account, −1 for nearly all."""
    bust_day: Ints
    """Day on which a fraudulent holder begins to spend the whole limit; −1 for honest ones."""

    @property
    def count(self) -> int:
        """How many accounts."""
        return self.number.size

    @property
    def opened_on(self) -> Ints:
        """Day of opening."""
        return self.opened_at // DAY


def build_holders(seed: int, applications: pl.DataFrame, window: Window) -> Holders:
    """The holders of the accounts that `applications` booked, in the order of their numbers."""
    booked = applications.filter("is_booked").sort("account")
    number, risk = booked["account"].to_numpy(), booked["risk"].to_numpy()
    opened_at = booked["decided"].to_numpy()
    draws = Draws(seed, "holders")
    cycle_day = CYCLE_DAYS[draws.integers(0, CYCLE_DAYS.size, number, 1)]
    cycles = Cycles.of(opened_at // DAY, cycle_day, window.last)
    income = booked["income"].to_numpy() / 6_200_000
    first_use = opened_at // DAY + FIRST_USE_AFTER_DAYS
    first_use += np.floor(draws.exponential(5.0, number, 2)).astype(np.int64)
    ring = booked["ring"].to_numpy()
    bust_day = _bust_days(seed, number, ring, first_use)
    is_dormant = draws.happens(0.03, number, 3) & (bust_day < 0)
    spending = 0.78 * np.exp(0.55 * draws.normal(number, 4)) * np.where(is_dormant, 0.0, 1.0)
    taste = Draws(seed, "tastes").normal(
        number[:, None], np.arange(len(CATEGORIES), dtype=np.int64)[None, :]
    )
    weights = np.array([c.weight for c in CATEGORIES])[None, :] * np.exp(0.55 * taste)
    for code, program in enumerate(PROGRAMS):
        if program.partner_category is not None:
            weights[booked["program"].to_numpy() == code, CATEGORY[program.partner_category]] *= 2.5
    hardship = draw_hardship(seed, number, risk, income, cycles.count)
    # Who never meant to pay stops with the statement that shows it.
    last_paid = cycles.of_day(np.arange(number.size), np.maximum(bust_day, first_use))
    after = np.arange(cycles.count)[None, :] > last_paid[:, None]
    hardship = np.where((bust_day >= 0)[:, None], after, hardship)
    # Cash at a machine is drawn by those who are short of it.
    weights[:, CATEGORY["cash"]] *= np.exp(0.6 * risk)
    return Holders(
        number=number,
        person=booked["person"].to_numpy(),
        program=booked["program"].to_numpy(),
        city=booked["city"].to_numpy(),
        risk=risk,
        limit=booked["limit"].to_numpy(),
        opened_at=opened_at,
        first_use=first_use,
        cycles=cycles,
        daily_spending=np.minimum(spending, 3.0),
        ticket_factor=np.sqrt(income) * np.exp(0.20 * draws.normal(number, 5)),
        category_weights=weights,
        full_payer=1 / (1 + np.exp(-(0.5 - 1.1 * risk + 0.8 * draws.normal(number, 6)))),
        hardship=hardship,
        ring=ring,
        bust_day=bust_day,
    )


def _bust_days(seed: int, number: Ints, ring: Ints, first_use: Ints) -> Ints:
    """Members of a ring bust out within weeks, others after months of good conduct."""
    draws = Draws(seed, "bust-outs")
    patient = first_use + draws.integers(60, 200, number, 1)
    chosen = draws.happens(BUST_OUT_SHARE, number, 2)
    swift = first_use + draws.integers(3, 12, number, 3)
    return np.where(ring >= 0, swift, np.where(chosen, patient, -1))


def hardship_chances(risk: Floats, income: Floats) -> tuple[Floats, Floats]:
    """Chance in a month that hardship begins, and that it goes on; `income` as a share of 62,000
    dollars."""
    hazard = ONSET_HAZARD * np.exp(
        ONSET_RISK_SLOPE * risk - ONSET_INCOME_SLOPE * np.log(np.maximum(income, 0.05))
    )
    persists = np.clip(HARDSHIP_PERSISTS + HARDSHIP_PERSISTS_SLOPE * risk, 0.5, 0.97)
    return np.minimum(hazard, 0.5), persists


def draw_hardship(seed: int, number: Ints, risk: Floats, income: Floats, cycles: int) -> Bools:
    """Months of hardship of each `number`, rows × cycles; the first has none."""
    draws = Draws(seed, "hardship")
    hazard, persists = hardship_chances(risk, income)
    states = np.zeros((number.size, cycles), np.bool_)
    state = np.zeros(number.size, np.bool_)
    for cycle in range(1, cycles):
        u = draws.uniform(number, cycle)
        state = np.where(state, u < persists, u < hazard)
        states[:, cycle] = state
    return states


def spending_pressure(hardship: Bools) -> Floats:
    """Factor on daily spending, accounts × cycles: more in the two before hardship, less in it."""
    ahead = np.zeros_like(hardship)
    ahead[:, :-1] |= hardship[:, 1:]
    ahead[:, :-2] |= hardship[:, 2:]
    return np.where(hardship, 0.75, np.where(ahead, 1.35, 1.0))
