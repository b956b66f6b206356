"""What the country of a merchant tells of an authorization: public holidays, and borders.

A country is two letters (ISO 3166), large or small; of anything else nothing is known.
"""

from datetime import date
from functools import lru_cache

from pipelines.settings import get_settings


def is_holiday(country: str | None, event_at: str | None) -> bool | None:
    """Whether the day (UTC) of `event_at` (ISO) is a public holiday of `country`.

    None where either is missing, or holidays of the country are not known. Source: the package
    `holidays`.
    """
    code = _code(country)
    if code is None or event_at is None:
        return None
    day = date.fromisoformat(event_at[:10])
    days = _holidays(code, day.year)
    return None if days is None else day in days


def is_cross_border(country: str | None) -> bool | None:
    """Whether the merchant's country is another than that in which the cards are issued."""
    code = _code(country)
    return None if code is None else code != get_settings().issuer_country


def _code(country: str | None) -> str | None:
    if country is None or len(country) != 2 or not (country.isascii() and country.isalpha()):
        return None
    return country.upper()


@lru_cache(maxsize=4_096)
def _holidays(code: str, year: int) -> frozenset[date] | None:
    from holidays import country_holidays, list_supported_countries

    # The package takes other names for countries, too, some of which are its own modules.
    if code not in list_supported_countries():
        return None
    return frozenset(country_holidays(code, years=year))
