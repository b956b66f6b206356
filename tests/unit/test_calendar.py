"""Holidays and borders, of countries as they come."""

import pytest

from pipelines.features.calendar import is_cross_border, is_holiday


@pytest.mark.parametrize(
    ("country", "event_at", "expected"),
    [
        ("US", "2024-07-04T01:00:00.000000", True),
        ("us", "2024-07-04T23:59:59.999999", True),
        ("US", "2024-07-05T00:00:00.000000", False),
        ("FR", "2024-07-14T12:00:00.000000", True),
        ("US", None, None),
        (None, "2024-07-04T01:00:00.000000", None),
        ("US", "0001-01-01T00:00:00.000000", False),
    ],
)
def test_a_holiday_is_that_of_the_country(
    country: str | None, event_at: str | None, expected: bool | None
) -> None:
    assert is_holiday(country, event_at) is expected


def test_a_border_is_between_two_countries() -> None:
    assert is_cross_border("US") is is_cross_border("us") is False
    assert is_cross_border("FR") is True


@pytest.mark.parametrize(
    "country", ["", "ZZ", "USA", "MAR", "utils", "__doc__", " US", "U", "840", "ÄÖ"]
)
def test_of_what_is_no_country_nothing_is_known(country: str) -> None:
    assert is_holiday(country, "2024-07-04T01:00:00.000000") is None
    assert country == "ZZ" or is_cross_border(country) is None
