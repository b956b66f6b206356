"""The ultimate redemption rate against a triangle worked out by hand."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.finance.pack_html import rewards_cost_minor
from pipelines.finance.redemption import (
    BORNHUETTER_FERGUSON,
    CHAIN_LADDER,
    blended,
    emerged_by_age,
    estimate,
    half_away,
    link_ratios,
)

ISSUED = [100_000, 110_000, 120_000, 130_000]
TRIANGLE = [[20_000, 35_000, 42_000, 45_000], [23_100, 40_000, 47_500], [24_000, 42_500], [27_300]]
TAIL = Fraction("1.05")


def printed(number: Fraction, digits: int) -> str:
    return f"{half_away(number * 10**digits) / 10**digits:.{digits}f}"


def test_chain_ladder_to_the_printed_digits() -> None:
    ratios = link_ratios(TRIANGLE)
    assert [printed(f, 6) for f in ratios if f] == ["1.751118", "1.193333", "1.071429"]
    cohorts = estimate(ISSUED, TRIANGLE, TAIL, prior=Fraction("0.9"))
    assert [printed(c.ultimate, 2) for c in cohorts] == [
        "47250.00", "53437.50", "57056.25", "64178.90",
    ]  # fmt: skip
    assert [printed(c.rate, 6) for c in cohorts] == ["0.472500", "0.485795", "0.475469", "0.493684"]
    assert printed(blended(cohorts), 6) == "0.482441"
    assert {c.method for c in cohorts} == {CHAIN_LADDER}


def test_a_cohort_of_one_month_leans_on_the_prior() -> None:
    prior = Fraction("0.48")
    cohorts = estimate(ISSUED, TRIANGLE, TAIL, prior, young=2)
    assert [c.method for c in cohorts] == [CHAIN_LADDER] * 3 + [BORNHUETTER_FERGUSON]
    cdf = Fraction(64_178_90, 100) / 27_300
    by_hand = 27_300 + float(prior) * 130_000 * (1 - 1 / float(cdf))
    assert float(cohorts[-1].ultimate) == pytest.approx(by_hand, abs=0.01)
    assert printed(cohorts[-1].ultimate, 2) == "63156.70"


def test_an_age_at_which_nothing_had_been_redeemed_is_no_evidence() -> None:
    cohorts = estimate([100, 100], [[0, 30], [0]], Fraction(1), Fraction("0.8"))
    assert [c.method for c in cohorts] == [CHAIN_LADDER, BORNHUETTER_FERGUSON]
    assert cohorts[1].ultimate == 80
    assert estimate([100], [[0]], Fraction(1), Fraction("0.8"))[0].ultimate == 0


def test_cost_of_the_hand_worked_month_closes_the_net_liability() -> None:
    """Face and allowance of that month are a unit test of the roll-forward."""
    month = {
        "accrued_minor": 250_000, "clawed_back_minor": 12_000, "adjusted_minor": 500,
        "provision_minor": 17_850, "reestimate_minor": -1_414,
    }  # fmt: skip
    cost = rewards_cost_minor(month)
    assert cost == 222_064
    assert 920_000 + cost - 180_000 == 962_064


@given(
    st.lists(st.lists(st.integers(0, 500), min_size=6, max_size=6), min_size=1, max_size=6),
    st.integers(1_000, 1_400),
    st.integers(0, 6),
)
def test_rates_are_shares_and_shares_emerge_with_age(
    flows: list[list[int]], tail_milli: int, young: int
) -> None:
    triangle = []
    for number, row in enumerate(flows):
        seen = row[: len(flows) - number]
        triangle.append([sum(seen[: age + 1]) for age in range(len(seen))])
    issued = [max(1, row[-1]) * 2 for row in triangle]
    tail = Fraction(tail_milli, 1_000)
    emerged = emerged_by_age(link_ratios(triangle), tail)
    assert emerged == sorted(emerged) and emerged[-1] == 1 / tail
    cohorts = estimate(issued, triangle, tail, Fraction("0.7"), young)
    for cohort in cohorts:
        assert 0 <= cohort.rate <= 1
        assert cohort.ultimate >= cohort.redeemed
    assert min(c.rate for c in cohorts) <= blended(cohorts) <= max(c.rate for c in cohorts)
