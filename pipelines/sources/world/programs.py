"""The three co-brand programs as the card processor knows them; reward rules are elsewhere."""

from dataclasses import dataclass
from datetime import date

import numpy as np

from pipelines.sources.world.draws import Ints


@dataclass(frozen=True, slots=True)
class CardProgram:
    """Terms of one card. `share` is its part of applications; fees are in US cents."""

    program_id: str
    network: str
    partner_id: str | None
    partner_category: str | None
    share: float
    apr_bps: int
    annual_fee_minor: int
    points_per_dollar: float
    least_redemption: int


PROGRAMS: tuple[CardProgram, ...] = (
    CardProgram("skyline_miles", "VISA", "skyline", "airline", 0.40, 2_399, 9_500, 0.8, 5_000),
    CardProgram(
        "mercato_points", "MASTERCARD", "mercato", "department", 0.35, 2_749, 0, 0.8, 1_000
    ),
    CardProgram("clear_cash", "VISA", None, None, 0.25, 2_249, 0, 0.8, 1_000),
)
"""`points_per_dollar` is a floor under what any purchase earns, so that what members redeem here
never exceeds what the reward rules have given them; clear_cash counts in cents."""
APR_STEP_BPS = 25
"""Every 1 July from 2025 on the rates go up; a cycle is charged at the rate of its first day."""
_REVIEWS = np.array([(date(year, 7, 1) - date(1970, 1, 1)).days for year in range(2025, 2075)])


def apr_bps(program: Ints, day: Ints) -> Ints:
    """Yearly rate of each program on each day, basis points."""
    base = np.array([p.apr_bps for p in PROGRAMS])[program]
    return base + APR_STEP_BPS * np.searchsorted(_REVIEWS, day, side="right")
