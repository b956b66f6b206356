"""Reading a public data set: where its files are, which columns they have, dates and amounts."""

import re
from calendar import monthrange
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path

import polars as pl

from pipelines.currencies import minor_digits
from pipelines.errors import CardlineError
from pipelines.sources.landing import LandingWriter

LABEL_DELAY = timedelta(days=7)
"""When a fraud label of a data set without label times counts as known, after the event."""


def dataset_folder(source: Path, folder: str, patterns: Sequence[str]) -> Path:
    """The folder that has a file for each of `patterns`: `source`, or `source/folder`.

    Raises `CardlineError` naming what is missing and where it was looked for.
    """
    if not source.is_dir():
        raise CardlineError(f"source folder {source} does not exist: give the data set's folder")
    for candidate in (source / folder, source):
        if all(any(candidate.glob(pattern)) for pattern in patterns):
            return candidate
    looked_in = source / folder if (source / folder).is_dir() else source
    missing = [pattern for pattern in patterns if not any(looked_in.glob(pattern))]
    raise CardlineError(
        f"source folder {looked_in} has no {', '.join(missing)}: "
        f"give the folder of the data set ({folder}) or the one above it"
    )


def scan_table(path: Path, columns: Sequence[str], is_ragged: bool = False) -> pl.LazyFrame:
    """A Parquet or CSV file, lazily; every column of a CSV is text.

    `is_ragged` reads lines with more fields than the header, and leaves out what is too much.
    Raises `CardlineError` where the file cannot be read or lacks one of `columns`.
    """
    try:
        if path.suffix == ".parquet":
            table = pl.scan_parquet(path)
        else:
            table = pl.scan_csv(
                path,
                infer_schema=False,
                encoding="utf8-lossy",
                truncate_ragged_lines=is_ragged,
            )
        present = table.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        # Without its cause, whose message may quote the file's content and so a card number.
        raise CardlineError(
            f"{path} is not a readable {path.suffix[1:]} file ({type(error).__name__}): "
            "fetch it again"
        ) from None
    require_columns(path, present, columns)
    return table


def require_columns(path: Path, present: Sequence[str], required: Sequence[str]) -> None:
    """Raises `CardlineError` if a required column is not there."""
    missing = [column for column in required if column not in present]
    if missing:
        raise CardlineError(
            f"{path} has no column {', '.join(missing)} (it has {', '.join(present)}): "
            "the layout is not the one documented for this data set"
        )


def time_range(table: pl.LazyFrame, column: str, path: Path) -> tuple[datetime, datetime]:
    """First and last timestamp in `column`; raises `CardlineError` on a file without rows."""
    first, last = (
        table.select(
            pl.col(column).cast(pl.Datetime("us")).min().alias("first"),
            pl.col(column).cast(pl.Datetime("us")).max().alias("last"),
        )
        .collect(engine="streaming")
        .row(0)
    )
    if first is None:
        raise CardlineError(f"{path} holds no rows: there is nothing to adapt")
    return first, last


def months_between(first: date, last: date) -> Iterator[tuple[datetime, datetime]]:
    """Start and end (exclusive) of each calendar month from that of `first` to that of `last`."""
    year, month = first.year, first.month
    while (year, month) <= (last.year, last.month):
        start = datetime(year, month, 1)
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        yield start, datetime(year, month, 1)


def last_day_of_month(day: date) -> date:
    """The last day of the month of `day`."""
    return day.replace(day=monthrange(day.year, day.month)[1])


def midnight(day: date) -> datetime:
    """The start of `day`."""
    return datetime.combine(day, time())


def to_minor(amount: pl.Expr, currency: str) -> pl.Expr:
    """Amounts (numbers, or text such as `12.5` and `1.00E+05`) as integer minor units.

    Exact below 2**53 minor units; null where the text is no number.
    """
    scale = 10 ** minor_digits(currency)
    return (amount.cast(pl.Float64, strict=False) * scale).round().cast(pl.Int64)


def slug(text: str) -> str:
    """Lower-case letters and digits, everything else as single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def write_by_day(
    writer: LandingWriter, feed: str, frame: pl.DataFrame, day: pl.Expr, name: str
) -> None:
    """Write `frame` as one batch per value of `day`, rows in their order; nulls are refused."""
    batches = frame.with_columns(day.alias("_batch_date")).partition_by(
        "_batch_date", as_dict=True, include_key=False, maintain_order=True
    )
    for (batch_date,), batch in batches.items():
        if batch_date is None:
            raise CardlineError(f"feed {feed}: {batch.height} rows have no date to deliver them on")
        writer.write(feed, batch_date, batch, name)
