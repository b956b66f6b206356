"""The currencies that there are, and how many digits their minor units are."""

from iso4217 import Currency

MINOR_DIGITS: dict[str, int] = {
    currency.code: currency.exponent for currency in Currency if currency.exponent is not None
}
"""Digits after the point by code, as ISO 4217 has them; metals and test codes have none and are
left out."""


def minor_digits(currency: str) -> int:
    """Digits of the minor unit of `currency`, two of one that ISO 4217 does not have."""
    return MINOR_DIGITS.get(currency, 2)
