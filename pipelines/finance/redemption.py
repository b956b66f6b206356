"""The ultimate redemption rate: which share of the points issued will ever be redeemed.

Chain ladder over cohorts by issue month: the link ratio of an age is what the cohorts observed at
it and at the next had redeemed by the next, over what they had by it. Cohorts that are young, or
of an age at which nothing had been redeemed yet, lean on a prior (Bornhuetter-Ferguson).

An estimate, and only that: it is compared with the breakage estimate that the program's terms
state, which alone is booked. Computed in exact fractions, so that it comes out the same anywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import duckdb
import polars as pl

from pipelines.settings import Settings

CHAIN_LADDER, BORNHUETTER_FERGUSON = "CHAIN_LADDER", "BORNHUETTER_FERGUSON"
MICROS = 1_000_000


@dataclass(frozen=True)
class Cohort:
    """One cohort's estimate, in points; `emerged` is the share of its ultimate redeemed by now."""

    issued: int
    redeemed: int
    emerged: Fraction
    ultimate: Fraction
    method: str

    @property
    def rate(self) -> Fraction:
        """Ultimate redemption rate, at most 1; 0 where nothing was issued."""
        return min(Fraction(1), self.ultimate / self.issued) if self.issued > 0 else Fraction(0)


def link_ratios(triangle: Sequence[Sequence[int]]) -> list[Fraction | None]:
    """Volume-weighted ratios of cumulative redemptions from each age to the next.

    `triangle` has one row per cohort, oldest first, with what was redeemed by each age. None where
    nothing had been redeemed by an age but was by the next: then no ratio is known.
    """
    ratios: list[Fraction | None] = []
    for age in range(max((len(row) for row in triangle), default=0) - 1):
        both = [row for row in triangle if len(row) > age + 1]
        before, after = sum(row[age] for row in both), sum(row[age + 1] for row in both)
        ratios.append(Fraction(after, before) if before else (None if after else Fraction(1)))
    return ratios


def emerged_by_age(ratios: Sequence[Fraction | None], tail: Fraction) -> list[Fraction]:
    """Share of the ultimate that is redeemed by each age, the oldest last; 0 where unknown."""
    shares = [1 / tail]
    for ratio in reversed(ratios):
        shares.append(shares[-1] / ratio if ratio else Fraction(0))
    return shares[::-1]


def estimate(
    issued: Sequence[int],
    triangle: Sequence[Sequence[int]],
    tail: Fraction,
    prior: Fraction,
    young: int = 0,
) -> list[Cohort]:
    """One estimate per cohort; those observed at fewer than `young` ages take the prior's part."""
    emerged = emerged_by_age(link_ratios(triangle), tail)
    cohorts = []
    for points, row in zip(issued, triangle, strict=True):
        share = emerged[len(row) - 1]
        if len(row) < young or not share:
            method, ultimate = BORNHUETTER_FERGUSON, row[-1] + prior * points * (1 - share)
        else:
            method, ultimate = CHAIN_LADDER, row[-1] / share
        cohorts.append(Cohort(points, row[-1], share, Fraction(ultimate), method))
    return cohorts


def blended(cohorts: Sequence[Cohort]) -> Fraction:
    """Ultimate redemption rate of all points issued."""
    issued = sum(cohort.issued for cohort in cohorts if cohort.issued > 0)
    redeemed = sum((cohort.rate * cohort.issued for cohort in cohorts if cohort.issued > 0),
                   Fraction(0))  # fmt: skip
    return redeemed / issued if issued else Fraction(0)


def half_away(number: Fraction) -> int:
    """The one rounding of an estimate: half away from zero."""
    whole = (2 * abs(number.numerator) + number.denominator) // (2 * number.denominator)
    return whole if number >= 0 else -whole


@dataclass(frozen=True)
class Study:
    """The estimate of one program at a month's end.

    `cohorts`: cohort, months observed, issued, redeemed, lapsed and open points, method, and in
    millionths emerged_micros and rate_micros. `emergence`: cohort, age, redeemed_micros of what was
    issued. `figures`: label and amounts as the memo tells them, by name.
    """

    cohorts: pl.DataFrame
    emergence: pl.DataFrame
    figures: dict[str, int]


_COHORTS = pl.Schema(
    {
        "cohort": pl.String, "months_observed": pl.Int64, "issued_points": pl.Int64,
        "redeemed_points": pl.Int64, "lapsed_points": pl.Int64, "open_points": pl.Int64,
        "method": pl.String, "emerged_micros": pl.Int64, "rate_micros": pl.Int64,
    }
)  # fmt: skip
_EMERGENCE = pl.Schema({"cohort": pl.String, "age": pl.Int64, "redeemed_micros": pl.Int64})

_TRIANGLE = """
select
    cohorts.cohort,
    cast(sum(issued_points) as bigint) as issued,
    cast(sum(redeemed_points) as bigint) as redeemed,
    cast(sum(lapsed_points) as bigint) as lapsed,
    greatest(cohorts.period, cohorts.cohort) as period
from finance.redemption_cohorts as cohorts
where program_id = ? and period <= ?
group by all
order by all
"""


def _months(period: str) -> int:
    return 12 * int(period[:4]) + int(period[5:])


@dataclass(frozen=True)
class _Books:
    """Cohorts of a program up to a month: totals and the triangle, oldest first."""

    names: list[str]
    issued: list[int]
    lapsed: list[int]
    triangle: list[list[int]]


def _books(con: duckdb.DuckDBPyConnection, program: str, period: str) -> _Books:
    end = _months(period)
    by_cohort: dict[str, list[tuple[int, int, int, int]]] = {}
    for cohort, issued, redeemed, lapsed, month in con.execute(
        _TRIANGLE, [program, period]
    ).fetchall():
        by_cohort.setdefault(cohort, []).append((_months(month), issued, redeemed, lapsed))
    names = [name for name in sorted(by_cohort) if name <= period]
    triangle = []
    for name in names:
        redeemed = {}
        for month, _, points, _ in by_cohort[name]:
            redeemed[month] = redeemed.get(month, 0) + points
        row, running = [], 0
        for month in range(_months(name), end + 1):
            running += redeemed.get(month, 0)
            row.append(running)
        triangle.append(row)
    return _Books(
        names,
        [sum(each[1] for each in by_cohort[name]) for name in names],
        [sum(each[3] for each in by_cohort[name]) for name in names],
        triangle,
    )


def study(con: duckdb.DuckDBPyConnection, program: str, period: str, settings: Settings) -> Study:
    """The estimate at the end of `period`, from the books of `con`."""
    month = con.execute(
        "select point_value_micros, breakage_bps, closing_points, closing_minor, "
        "closing_allowance_minor, redeemed_points, transferred_points "
        "from finance.liability_rollforward where program_id = ? and period = ?",
        [program, period],
    ).pl().row(0, named=True)  # fmt: skip
    tail = Fraction(settings.redemption_tail_milli, 1_000)
    prior = 1 - Fraction(month["breakage_bps"], 10_000)
    young = settings.young_cohort_months
    books = _books(con, program, period)
    cohorts = estimate(books.issued, books.triangle, tail, prior, young)
    rate = blended(cohorts)
    cost = _cost_per_point(con, program, period, month["point_value_micros"])
    indicated = _not_redeemed(books, cohorts)
    rows = [
        (
            name, len(row), cohort.issued, cohort.redeemed, lapsed,
            cohort.issued - cohort.redeemed - lapsed, cohort.method,
            half_away(cohort.emerged * MICROS), half_away(cohort.rate * MICROS),
        )
        for name, row, cohort, lapsed in zip(
            books.names, books.triangle, cohorts, books.lapsed, strict=True
        )
    ]  # fmt: skip
    emergence = [
        (name, age, half_away(Fraction(points * MICROS, cohort.issued)))
        for name, row, cohort in zip(books.names, books.triangle, cohorts, strict=True)
        for age, points in enumerate(row)
        if cohort.issued > 0
    ]
    issued = sum(cohort.issued for cohort in cohorts if cohort.issued > 0)
    value = Fraction(month["point_value_micros"], MICROS)
    net = month["closing_minor"] - half_away(indicated * value)
    figures: dict[str, int] = {
        "rate_micros": half_away(rate * MICROS),
        "approved_rate_micros": half_away(prior * MICROS),
        "cost_per_point_micros": half_away(cost),
        "indicated_allowance_minor": half_away(indicated * value),
        "booked_allowance_minor": month["closing_allowance_minor"],
        "allowance_difference_minor": half_away(indicated * value)
        - month["closing_allowance_minor"],
        "indicated_net_minor": net,
        # One point of the rate is a hundredth of everything that was issued.
        "rate_plus_one_point_minor": half_away(Fraction(issued, 100) * value),
        "rate_minus_one_point_minor": -half_away(Fraction(issued, 100) * value),
        "cost_plus_five_percent_minor": half_away(Fraction(net, 20)),
        "cost_minus_five_percent_minor": -half_away(Fraction(net, 20)),
        "actual_points": month["redeemed_points"] + month["transferred_points"],
        "expected_points": _expected(con, program, period, tail, prior, young),
    }
    return Study(
        pl.DataFrame(rows, schema=_COHORTS, orient="row"),
        pl.DataFrame(emergence, schema=_EMERGENCE, orient="row"),
        figures,
    )


def _not_redeemed(books: _Books, cohorts: list[Cohort]) -> Fraction:
    """Open points that are expected to lapse: of each cohort, between none and what is open."""
    total = Fraction(0)
    for cohort, lapsed in zip(cohorts, books.lapsed, strict=True):
        left = cohort.issued - cohort.redeemed - lapsed
        lapses = cohort.issued * (1 - cohort.rate) - lapsed
        total += min(max(lapses, Fraction(0)), Fraction(max(left, 0)))
    return total


def _expected(
    con: duckdb.DuckDBPyConnection,
    program: str,
    period: str,
    tail: Fraction,
    prior: Fraction,
    young: int,
) -> int:
    """Points that the estimate of a month before expected to be redeemed in `period`.

    Of the cohorts that there were by then; what is redeemed of points in the month that they are
    issued in is no part of it.
    """
    year, month = divmod(_months(period) - 2, 12)
    books = _books(con, program, f"{year:04d}-{month + 1:02d}")
    emerged = emerged_by_age(link_ratios(books.triangle), tail)
    expected = Fraction(0)
    for cohort, row in zip(
        estimate(books.issued, books.triangle, tail, prior, young), books.triangle, strict=True
    ):
        reached = emerged[len(row)] if len(row) < len(emerged) else emerged[-1]
        base = cohort.ultimate if cohort.method == CHAIN_LADDER else prior * cohort.issued
        expected += base * (reached - cohort.emerged)
    return half_away(expected)


def _cost_per_point(
    con: duckdb.DuckDBPyConnection, program: str, period: str, value_micros: int
) -> Fraction:
    """Cost of a redeemed unit in millionths of a minor unit, weighted by how it was redeemed."""
    row = con.execute(
        """
        select
            coalesce(sum(rollforward.redeemed_points * terms.redemption_cost_micros
                + rollforward.transferred_points * terms.purchase_price_micros), 0),
            coalesce(sum(rollforward.redeemed_points + rollforward.transferred_points), 0)
        from finance.liability_rollforward as rollforward
        inner join finance.int_program_terms__by_period as terms
            on rollforward.program_id = terms.program_id and rollforward.period = terms.period
        where rollforward.program_id = ? and rollforward.period <= ?
        """,
        [program, period],
    ).fetchone()
    assert row is not None
    cost, points = int(row[0]), int(row[1])
    return Fraction(cost, points) if points > 0 else Fraction(value_micros)


def figures_frame(figures: dict[str, Any]) -> pl.DataFrame:
    """The memo's figures as rows: figure, amount."""
    return pl.DataFrame(
        {"figure": list(figures), "amount": [int(amount) for amount in figures.values()]},
        schema={"figure": pl.String, "amount": pl.Int64},
    )
