"""Card and social security numbers are found wherever they stand, and little else is."""

import json
import random
import uuid

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.ingestion.sensitive import find_in_name, find_sensitive, masked, passes_luhn

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
        "12 4111111111111111",
        "2024-01-31 4111111111111111",
        "2024 4111 1111 1111 1111",
        "4.111111111111111E+15",
    ],
)
def test_a_card_number_is_found_in_free_text(text: str) -> None:
    assert _found(text) == "a card number"


@pytest.mark.parametrize(
    "text",
    [
        "4111\u00a01111\u00a01111\u00a01111",
        "4111  1111  1111  1111",
        "4111 - 1111 - 1111 - 1111",
        "4111.1111.1111.1111",
        "4111_1111_1111_1111",
        "4111/1111/1111/1111",
        "4111\u20131111\u20131111\u20131111",
        "4111\u200b1111\u200b1111\u200b1111",
        "3782.822463.10005",
        "".join(chr(0xFF10 + int(digit)) for digit in PAN),
        "".join(chr(0x0660 + int(digit)) for digit in PAN),
    ],
)
def test_signs_of_any_script_may_group_and_write_a_card_number(text: str) -> None:
    assert _found(f"paid: {text}.") == "a card number"
    assert masked(f"paid: {text}.") == "paid: [card number]."


@pytest.mark.parametrize(
    "text",
    ["PAN{}", "card{}", "CardNo{}", "PAN{}EXP1230"],
)
def test_words_may_touch_a_card_number(text: str) -> None:
    assert _found(text.format(PAN)) == "a card number"


@pytest.mark.parametrize(
    "text", [f"on file:\n{PAN}", f"\t{PAN}", f"caf\u00e9{PAN}", "\uff14" + PAN[1:]]
)
def test_the_escapes_of_json_hide_no_card_number(text: str) -> None:
    assert _found(json.dumps({"memo": text})) == "a card number"
    assert _found(json.dumps({"extra": json.dumps({"memo": text})})) == "a card number"


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
        f"dead{PAN}",
        f"TXN{PAN}",
        f"acc{PAN}",
        "554433221000000BBBBBBBBB",
        f"{PAN}ab",
        "TXN0000000000000018",
        "192.168.100.200",
        "FV 123/05/2024",
        "classname 115044507",
        '{"ssn": null, "phone": 115044507}',
    ],
)
def test_what_is_no_card_number_passes(text: str) -> None:
    assert _found(text) is None
    assert masked(text) == text


def test_a_credit_history_is_not_refused_by_chance() -> None:
    dice = random.Random(5)
    months = ["".join(dice.choices("0123456BDE", (70, 9, 6, 4, 3, 2, 2, 2, 1, 1), k=n))
              for n in (13, 14, 15, 16, 17, 18, 19, 24) for _ in range(500)]  # fmt: skip
    assert find_sensitive(pl.Series("payment_history", ["0" + each[1:] for each in months])) is None
    assert find_sensitive(pl.Series("payment_history", [PAN])) == "a card number"


def test_references_of_letters_and_digits_are_not_refused_by_chance() -> None:
    dice = random.Random(7)
    for prefix in ("TXN", "acc", "ORD", "REF4", "m", "cust"):
        ids = [f"{prefix}{dice.randrange(10**16):016d}" for _ in range(5_000)]
        assert find_sensitive(pl.Series("reference", ids)) is None


def test_random_ids_are_not_refused_by_chance() -> None:
    dice = random.Random(3)
    ids = [str(uuid.UUID(int=dice.getrandbits(128), version=4)) for _ in range(200_000)]
    assert find_sensitive(pl.Series("id", ids)) is None
    assert find_sensitive(pl.Series("id", ids).str.replace_all("-", "")) is None
    assert find_sensitive("txn_" + pl.Series("id", ids)) is None


@pytest.mark.parametrize(
    "text",
    [
        "SSN115-04-4507",
        "SSN-115-04-4507",
        "SSN: 115044507",
        "115.04.4507",
        "115\u00a004\u00a04507",
        "115\u201304\u20134507",
        '{"ssn": "115044507"}',
        '{"person": {"customerSsn": 15044507}}',
    ],
)
def test_social_security_numbers_are_found_by_their_name_and_by_other_separators(text: str) -> None:
    assert _found(text) == "a social security number"
    assert "4507" not in masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "115044507.0",
        "15044507",
        " 115044507 ",
        "'115044507",
        "115-044507",
        '["115044507"]',
        '{"value": "115044507"}',
    ],
)
def test_a_table_writes_social_security_numbers_in_other_ways(text: str) -> None:
    assert _found(text, "ssn") == "a social security number"


@pytest.mark.parametrize("name", [f"{PAN}.csv", "a_4111-1111-1111-1111", "115-04-4507.csv"])
def test_names_of_files_may_hold_numbers_too(name: str) -> None:
    assert find_in_name(name) is not None


def test_moments_and_serials_in_names_are_no_card_numbers() -> None:
    moments = [f"s_20240305{number:06d}.csv" for number in range(200)]
    assert not any(find_in_name(name) for name in [*moments, "part_001_22_0003.csv"])


def test_social_security_numbers_are_found_by_their_separators_or_their_column() -> None:
    assert _found("115-04-4507") == "a social security number"
    assert _found("his number: 115 04 4507.") == "a social security number"
    assert _found("115044507", "ssn") == "a social security number"
    assert _found("115044507", "reference") is None
    assert _found("DE115044507", "tax_id") is None
    assert _found("000-12-3456") is None
    assert _found("915-12-3456") is None


@given(st.integers(10**12, 10**18 - 1))
def test_the_luhn_check_digit_makes_any_number_a_card_number(body: int) -> None:
    digit = next(d for d in "0123456789" if passes_luhn(f"{body}{d}"))
    assert _found(f"x {body}{digit} y") == "a card number"
