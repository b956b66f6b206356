"""What the country of a merchant tells of an authorization: public holidays, and borders."""

from datetime import date
from functools import lru_cache

from pipelines.settings import get_settings


def is_holiday(country: str | None, event_at: str | None) -> bool | None:
    """Whether the day (UTC) of `event_at` (ISO) is a public holiday of `country` (ISO 3166).

    None where either is missing, or holidays of the country are not known. Source: the package
    `holidays`.
    """
    if country is None or event_at is None:
        return None
    day = date.fromisoformat(event_at[:10])
    days = _holidays(country, day.year)
    return None if days is None else day in days


def is_cross_border(country: str | None) -> bool | None:
    """Whether the merchant's country is another than that in which the cards are issued."""
    return None if country is None else country != get_settings().issuer_country


@lru_cache(maxsize=4_096)
def _holidays(country: str, year: int) -> frozenset[date] | None:
    from holidays import country_holidays

    try:
        return frozenset(country_holidays(country, years=year))
    except NotImplementedError:
        return None
