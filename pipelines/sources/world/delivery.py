"""Sorting rows into the files in which they arrive.

Daily (batch date = day of `received_at`): transactions, payments, statements, fraud labels,
disputes, reward events. Weekly, on Mondays at 05:00, which is then also their known time:
customers, accounts, cards, merchants' changes, settlement. Weekly too, but with the earlier known
time of the API call that made them: applications and the bureau feeds.

So it is in the last `DAILY_DAYS` days. What came before them is delivered as a conversion is: one
file a feed and month, at the month's end, with the known time of each row. What would arrive after
the last day of the world has not arrived: it is left out.
"""

from datetime import timedelta

import polars as pl

from pipelines.contracts import FEEDS
from pipelines.sources.landing import LandingWriter
from pipelines.sources.world.clock import Window, instants, weekly_delivery

BY_API = frozenset(
    {
        "applications", "bureau_pulls", "bureau_tradelines", "bureau_trended",
        "bureau_inquiries", "bureau_records", "bureau_attributes",
    }
)  # fmt: skip
"""Feeds whose rows were known before their weekly file."""

DAILY_DAYS = 45
"""Days at the end of the world whose files come day by day."""


def batched(feed: str, rows: pl.DataFrame, window: Window) -> pl.DataFrame:
    """`rows` with `batch_date`, in the order of delivery; without what comes too late."""
    if feed in BY_API:
        known = rows["received_at"].to_physical().to_numpy()
        batch = instants(weekly_delivery(known)).dt.date()
    else:
        batch = rows["received_at"].dt.date()
    converted = window.ends_on - timedelta(days=DAILY_DAYS)
    month_end = pl.min_horizontal(pl.col("batch_date").dt.month_end(), pl.lit(converted))
    # Rows are made in one order: a stable sort keeps it where two are known at one moment.
    return (
        rows.with_columns(batch_date=batch)
        .with_columns(
            pl.when(pl.col("batch_date") <= converted)
            .then(month_end)
            .otherwise("batch_date")
            .alias("batch_date")
        )
        .filter(pl.col("batch_date") <= window.ends_on)
        .sort("batch_date", "received_at", maintain_order=True)
    )


def deliver(
    writer: LandingWriter, feeds: dict[str, pl.DataFrame], window: Window, part: str
) -> int:
    """Write what arrives of `feeds` (rows with `received_at`); returns the number of files."""
    files = 0
    for feed, rows in feeds.items():
        schema = FEEDS[feed].polars_schema() | {"received_at": pl.Datetime("us")}
        frame = batched(feed, rows, window)
        frame = frame.select(
            *(pl.col(name).cast(kind) for name, kind in schema.items() if name in frame.columns),
            "batch_date",
        )
        batches = frame.partition_by("batch_date", maintain_order=True)
        for number, batch in enumerate(batches, start=1):
            day = batch["batch_date"][0]
            writer.write(feed, day, batch.drop("batch_date"), part, sequence_no=number)
        files += len(batches)
    return files
