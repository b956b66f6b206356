"""Card and social security numbers are found wherever they stand, and little else is."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.ingestion.sensitive import find_sensitive, passes_luhn

PAN = "4111111111111111"


def _found(value: str, column: str = "name") -> str | None:
    return find_sensitive(pl.Series(column, [None, "harmless", value]))


@pytest.mark.parametrize(
    "text",
    [
        PAN,
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        f"paid with {PAN}, thanks",
        f"card={PAN}",
        "ref 99 / 5500005555555559 / 12",
        "30569309025904",
        "4222222222222",
    ],
)
def test_a_card_number_is_found_in_free_text(text: str) -> None:
    assert _found(text) == "a card number"


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",
        "0000000000000000",
        f"a{PAN}",
        "order 123456789012",
        "2024-01-31T23:59:59.999999",
        "dd713682c0aea34e60dfabdc5e4a40aa",
        "12345678901234567890123",
    ],
)
def test_what_is_no_card_number_passes(text: str) -> None:
    assert _found(text) is None


def test_social_security_numbers_are_found_by_their_separators_or_their_column() -> None:
    assert _found("115-04-4507") == "a social security number"
    assert _found("his number: 115 04 4507.") == "a social security number"
    assert _found("115044507", "ssn") == "a social security number"
    assert _found("115044507", "reference") is None
    assert _found("000-12-3456") is None
    assert _found("915-12-3456") is None


@given(st.integers(10**12, 10**18 - 1))
def test_the_luhn_check_digit_makes_any_number_a_card_number(body: int) -> None:
    digit = next(d for d in "0123456789" if passes_luhn(f"{body}{d}"))
    assert _found(f"x {body}{digit} y") == "a card number"
