"""What a feed's declaration can say; the checks, the tables and the docs are derived from it."""

from dataclasses import dataclass
from typing import Literal

import polars as pl

from pipelines.currencies import MINOR_DIGITS

ColumnType = Literal["string", "integer", "number", "boolean", "timestamp", "date"]

POLARS_TYPES: dict[ColumnType, pl.DataType] = {
    "string": pl.String(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
    "timestamp": pl.Datetime("us"),
    "date": pl.Date(),
}
SQL_TYPES: dict[ColumnType, str] = {
    "string": "varchar",
    "integer": "bigint",
    "number": "double",
    "boolean": "boolean",
    "timestamp": "timestamp",
    "date": "date",
}
LARGEST_AMOUNT = 10**15
"""In minor units: no real amount is larger, and sums of squares of larger ones overflow."""
LINEAGE_COLUMNS: dict[str, ColumnType] = {
    "file_id": "string",
    "line_no": "integer",
    "record_hash": "string",
    "batch_date": "date",
    "received_at": "timestamp",
    "extra": "string",
}
"""What ingest adds to every row; `extra` holds unknown columns as a JSON object."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a landing feed. `minimum` and `maximum` are inclusive; `pattern` must match the
    whole text."""

    name: str
    type: ColumnType
    description: str
    required: bool = False
    allowed: tuple[str, ...] | None = None
    minimum: int | None = None
    maximum: int | None = None
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Feed:
    """One landing feed. The same `key` with other content is a new version of that row.

    `is_event`: a row tells of something that happened once, so that another version of it corrects
    the first. `references`: columns whose value is a key of another feed, and which feed.
    """

    name: str
    description: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    require_one_of: tuple[str, ...] = ()
    is_event: bool = False
    references: tuple[tuple[str, str], ...] = ()

    def column(self, name: str) -> Column:
        """The declared column `name`; raises `KeyError` for another."""
        return {column.name: column for column in self.columns}[name]

    @property
    def column_names(self) -> list[str]:
        """The declared columns in their order."""
        return [column.name for column in self.columns]

    @property
    def required_columns(self) -> list[str]:
        """Columns that a file must have and that are never null."""
        return [column.name for column in self.columns if column.required]

    @property
    def past_columns(self) -> list[str]:
        """Moments that every row has: what they tell of is over when the row is delivered."""
        return [c.name for c in self.columns if c.required and c.type == "timestamp"]

    def polars_schema(self) -> dict[str, pl.DataType]:
        """The declared columns with their Polars types."""
        return {column.name: POLARS_TYPES[column.type] for column in self.columns}

    def raw_schema(self) -> dict[str, pl.DataType]:
        """Columns of `raw.<feed>` with their Polars types: the declared and the lineage columns."""
        lineage = {name: POLARS_TYPES[kind] for name, kind in LINEAGE_COLUMNS.items()}
        return self.polars_schema() | lineage

    def raw_columns(self) -> dict[str, str]:
        """Columns of `raw.<feed>` with their SQL types."""
        declared = {column.name: SQL_TYPES[column.type] for column in self.columns}
        return declared | {name: SQL_TYPES[kind] for name, kind in LINEAGE_COLUMNS.items()}

    @property
    def has_control_totals(self) -> bool:
        """Whether amounts can be added up by direction."""
        return {"amount_minor", "direction"} <= set(self.column_names)


def string(
    name: str,
    description: str,
    *,
    required: bool = False,
    allowed: tuple[str, ...] | None = None,
    pattern: str | None = None,
) -> Column:
    """A text column."""
    return Column(name, "string", description, required, allowed, pattern=pattern)


def integer(
    name: str,
    description: str,
    *,
    required: bool = False,
    minimum: int | None = None,
    maximum: int | None = None,
) -> Column:
    """A 64-bit integer column."""
    return Column(name, "integer", description, required, minimum=minimum, maximum=maximum)


def minor(name: str, description: str, *, required: bool = False, signed: bool = False) -> Column:
    """An amount in minor units up to `LARGEST_AMOUNT`, not below zero unless `signed`."""
    minimum = -LARGEST_AMOUNT if signed else 0
    return Column(name, "integer", description, required, minimum=minimum, maximum=LARGEST_AMOUNT)


def number(name: str, description: str, *, required: bool = False) -> Column:
    """A floating-point column, never money."""
    return Column(name, "number", description, required)


def latitude(description: str) -> Column:
    """Degrees north, below zero south."""
    return Column("latitude", "number", description, minimum=-90, maximum=90)


def longitude(description: str) -> Column:
    """Degrees east, below zero west."""
    return Column("longitude", "number", description, minimum=-180, maximum=180)


def boolean(name: str, description: str, *, required: bool = False) -> Column:
    """A true/false column."""
    return Column(name, "boolean", description, required)


def timestamp(name: str, description: str, *, required: bool = False) -> Column:
    """A UTC timestamp in microseconds."""
    return Column(name, "timestamp", description, required)


def day(name: str, description: str, *, required: bool = False) -> Column:
    """A business date."""
    return Column(name, "date", description, required)


def currency(*, required: bool = False) -> Column:
    """The ISO 4217 code of the row's amounts."""
    return string(
        "currency",
        "ISO 4217 code of the amounts in this row",
        required=required,
        allowed=tuple(sorted(MINOR_DIGITS)),
    )
