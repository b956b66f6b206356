"""Time in the synthetic world: whole days since 1970 and microseconds since 1970, both UTC."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from pipelines.sources.world.draws import Ints

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
_MONDAY = 4
"""1970-01-05, the first Monday, is day 4."""
_EPOCH = date(1970, 1, 1)
WEEKLY_HOUR = 5
DUE_AFTER_DAYS = 25
"""A statement's minimum is due so many days after its period ends."""


@dataclass(frozen=True, slots=True)
class Window:
    """The days that the world covers, both ends included."""

    first: int
    last: int

    @classmethod
    def ending(cls, ends_on: date, days: int) -> "Window":
        """The `days` days up to and with `ends_on`."""
        last = (ends_on - _EPOCH).days
        return cls(last - days + 1, last)

    @property
    def days(self) -> int:
        """How many days it covers."""
        return self.last - self.first + 1

    @property
    def starts_on(self) -> date:
        """Its first day."""
        return day_to_date(self.first)

    @property
    def ends_on(self) -> date:
        """Its last day."""
        return day_to_date(self.last)


def day_to_date(day: int) -> date:
    """The calendar date of a day number."""
    return _EPOCH + timedelta(days=int(day))


def dates(days: Ints) -> pl.Series:
    """Day numbers as a date column; a negative number is null."""
    series = pl.Series(values=days.astype(np.int32))
    return series.set(series < 0, None).cast(pl.Date)


def instants(micros: Ints) -> pl.Series:
    """Microseconds as a timestamp column; a negative number is null."""
    series = pl.Series(values=micros.astype(np.int64))
    return series.set(series < 0, None).cast(pl.Datetime("us"))


def weekly_delivery(known: Ints) -> Ints:
    """The next Monday, 05:00, at or after `known`: when the weekly file with it arrives."""
    shifted = known - (_MONDAY * DAY + WEEKLY_HOUR * HOUR)
    weeks = -(-shifted // (7 * DAY))
    return weeks * 7 * DAY + _MONDAY * DAY + WEEKLY_HOUR * HOUR


def months_since_1970(days: Ints) -> Ints:
    """Calendar months between January 1970 and the month of each day."""
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def first_of_month(months: Ints) -> Ints:
    """Day number of the first day of each month (counted from January 1970)."""
    return months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def day_of_month(days: Ints) -> Ints:
    """1 to 31."""
    return days - first_of_month(months_since_1970(days)) + 1


@dataclass(frozen=True, slots=True)
class Cycles:
    """Billing cycles of accounts: `ends` is accounts × cycles, day numbers."""

    opened: Ints
    cycle_day: Ints
    ends: Ints

    @classmethod
    def of(cls, opened: Ints, cycle_day: Ints, last_day: int) -> "Cycles":
        """Cycles of accounts opened on `opened`, enough of them to reach past `last_day`.

        The first one ends on the first `cycle_day` at least three weeks after opening.
        """
        month = months_since_1970(opened)
        first_end = first_of_month(month) + cycle_day - 1
        for _ in range(2):
            too_early = first_end < opened + 21
            month = np.where(too_early, month + 1, month)
            first_end = first_of_month(month) + cycle_day - 1
        start = int(opened.min()) if opened.size else last_day
        count = (last_day - start) // 28 + 3
        ends = first_of_month(month[:, None] + np.arange(count)[None, :]) + cycle_day[:, None] - 1
        return cls(opened, cycle_day, ends)

    @property
    def count(self) -> int:
        """How many cycles each account has here."""
        return self.ends.shape[1]

    @property
    def starts(self) -> Ints:
        """First day of each cycle, accounts × cycles."""
        return np.concatenate([self.opened[:, None], self.ends[:, :-1] + 1], axis=1)

    def of_day(self, account: Ints, days: Ints) -> Ints:
        """The cycle that each day falls in; days before opening count to the first."""
        since_first = months_since_1970(days) - months_since_1970(self.ends[account, 0])
        late = day_of_month(days) > self.cycle_day[account]
        return np.clip(since_first + late, 0, None)
