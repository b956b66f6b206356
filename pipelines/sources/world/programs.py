"""The three co-brand programs as the card processor knows them; reward rules are elsewhere."""

from dataclasses import dataclass


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
