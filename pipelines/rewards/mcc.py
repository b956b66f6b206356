"""Merchant category codes: the one list of categories that every room shares."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import yaml

from pipelines.errors import CardlineError

CATEGORIES_FILE = Path(__file__).with_name("mcc_categories.yaml")


class MccSet:
    """A set of four-digit codes, built from codes and ranges such as `5411` or `7800-7802`."""

    __slots__ = ("_ranges",)

    def __init__(self, items: Iterable[int | str]) -> None:
        self._ranges = tuple(_parse(item) for item in items)

    def __contains__(self, mcc: object) -> bool:
        return isinstance(mcc, str) and any(low <= mcc <= high for low, high in self._ranges)

    def __bool__(self) -> bool:
        return bool(self._ranges)


def _parse(item: int | str) -> tuple[str, str]:
    """The first and the last code of `item`; raises `ValueError` if it is neither."""
    low, _, high = str(item).partition("-")
    codes = [code.strip().zfill(4) for code in (low, high or low)]
    if any(len(code) != 4 or not code.isdigit() for code in codes) or codes[0] > codes[1]:
        raise ValueError(f"{item!r} is neither an MCC (four digits) nor a range of them")
    return codes[0], codes[1]


@cache
def categories() -> Mapping[str, MccSet]:
    """Category name → its codes, as shipped in `mcc_categories.yaml`."""
    try:
        declared = yaml.safe_load(CATEGORIES_FILE.read_text(encoding="utf-8"))
        return {name: MccSet(items) for name, items in declared.items()}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CardlineError(f"{CATEGORIES_FILE}: {error}") from error


def in_category(mcc: str | None, category: str) -> bool:
    """Whether `mcc` belongs to `category`; raises `KeyError` if there is no such category."""
    return mcc in categories()[category]


def categories_of(mcc: str | None) -> tuple[str, ...]:
    """Every category that `mcc` belongs to, in the order of the file."""
    return tuple(name for name, codes in categories().items() if mcc in codes)
