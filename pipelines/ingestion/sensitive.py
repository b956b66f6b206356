"""Finding card numbers and US social security numbers in text.

A card number is 13–19 digits that stand alone (spaces or hyphens may group them) and pass the
Luhn check; a social security number is three, two and four digits with separators and none of
the never-issued areas, groups and serials. Nine bare digits count only in a column that is named
for them: elsewhere they are too often something else.
"""

import re
from collections.abc import Iterable

import polars as pl

from pipelines.errors import CardlineError

PAN_CANDIDATE = r"(?:^|[^0-9A-Za-z])([0-9](?:[ -]?[0-9]){12,18})(?:$|[^0-9A-Za-z])"
SSN_CANDIDATE = r"(?:^|[^0-9A-Za-z-])([0-9]{3}[- ][0-9]{2}[- ][0-9]{4})(?:$|[^0-9A-Za-z-])"
BARE_SSN = r"^\s*([0-9]{9})\s*$"
_SSN_COLUMN = re.compile(r"ssn|social_?security|tax_?id", re.IGNORECASE)
FEWEST_DIGITS = 9
_NEVER_ISSUED_AREAS = ("000", "666")


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit)
        if position % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def is_card_number(text: str) -> bool:
    """Whether `text`, a run of digits that may be grouped, is a card number."""
    digits = re.sub(r"[ -]", "", text)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and passes_luhn(digits)


def is_social_security_number(text: str) -> bool:
    """Whether `text`, nine digits that may be separated, can be a social security number."""
    digits = re.sub(r"[ -]", "", text)
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return (
        len(digits) == 9
        and area not in _NEVER_ISSUED_AREAS
        and area[0] != "9"
        and group != "00"
        and serial != "0000"
    )


def find_sensitive(values: pl.Series) -> str | None:
    """What a text column holds that must not land: a description without the value, or None."""
    kinds = [
        (PAN_CANDIDATE, is_card_number, "a card number"),
        (SSN_CANDIDATE, is_social_security_number, "a social security number"),
    ]
    if _SSN_COLUMN.search(values.name):
        kinds.append((BARE_SSN, is_social_security_number, "a social security number"))
    # One pass for all kinds, and none over values that are all too short to be any.
    longest = values.str.len_bytes().max()
    if not isinstance(longest, int) or longest < FEWEST_DIGITS:
        return None
    is_candidate = values.str.contains("|".join(candidate for candidate, _, _ in kinds))
    if not is_candidate.any():
        return None
    candidates = values.filter(is_candidate).unique()
    for candidate, judge, what in kinds:
        if _any(candidates, candidate, judge):
            return what
    return None


def require_tokens(name: str, values: Iterable[str | None]) -> None:
    """Raise `CardlineError`, which names no value, where texts hold what must not be kept."""
    what = find_sensitive(pl.Series(name, list(values), pl.String))
    if what is not None:
        raise CardlineError(f"{name} holds {what}: send the token that stands for it")


def _any(values: pl.Series, candidate: str, judge: object) -> bool:
    hits = values.filter(values.str.contains(candidate))
    pattern = re.compile(candidate)
    assert callable(judge)
    return any(judge(found) for value in hits for found in _overlapping(pattern, value))


def _overlapping(pattern: re.Pattern[str], text: str) -> list[str]:
    """All candidates; the separator that ends one may begin the next."""
    found: list[str] = []
    position = 0
    while match := pattern.search(text, position):
        found.append(match.group(1))
        position = match.end(1)
    return found
