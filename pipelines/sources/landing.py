"""Writing landing files: Parquet and its manifest, whole or not at all."""

import json
from datetime import date, datetime
from pathlib import Path

import polars as pl

from pipelines.contracts import FEEDS
from pipelines.errors import CardlineError
from pipelines.files import sha256_of, written_aside


class LandingWriter:
    """Writes frames into `<landing>/<feed>/<batch_date>/<name>.parquet` with their manifests.

    The same frame gives the same bytes, so that writing it again changes nothing downstream.
    """

    def __init__(self, landing: Path) -> None:
        self.landing = landing
        self.rows: dict[str, int] = {}

    def write(
        self,
        feed: str,
        batch_date: date,
        frame: pl.DataFrame,
        name: str = "part-0",
        received_at: datetime | None = None,
        sequence_no: int | None = None,
    ) -> Path:
        """Write `frame` and its manifest; returns the data file.

        `frame` has columns of the feed, and may have `received_at`, the known time of each row;
        `received_at` beside it is that of the whole file. `sequence_no` counts the feed's files of
        this `name`, so that a missing one is missed. Raises `CardlineError` on an unknown
        feed, an undeclared column or a required column that is missing.
        """
        contract = FEEDS.get(feed)
        if contract is None:
            raise CardlineError(f"there is no feed {feed!r}: it is one of {', '.join(FEEDS)}")
        schema = contract.polars_schema() | {"received_at": pl.Datetime("us")}
        undeclared = [column for column in frame.columns if column not in schema]
        missing = [column for column in contract.required_columns if column not in frame.columns]
        if undeclared or missing:
            raise CardlineError(
                f"feed {feed}, batch {batch_date}: "
                + "; ".join(
                    f"{what} {', '.join(columns)}"
                    for what, columns in (("undeclared", undeclared), ("missing", missing))
                    if columns
                )
            )
        ordered = {column: schema[column] for column in schema if column in frame.columns}
        # Sources that write many small files have cast them at once before.
        if dict(frame.schema) != ordered or frame.columns != list(ordered):
            frame = frame.select(pl.col(column).cast(kind) for column, kind in ordered.items())
        path = self.landing / feed / batch_date.isoformat() / f"{name}.parquet"
        with written_aside(path) as aside:
            frame.write_parquet(aside, compression="zstd", compression_level=1, statistics=True)
            manifest = _manifest(frame, sha256_of(aside), received_at, sequence_no)
            with written_aside(path.with_name(f"{path.name}.manifest.json")) as manifest_aside:
                manifest_aside.write_text(json.dumps(manifest, indent=1) + "\n")
        self.rows[feed] = self.rows.get(feed, 0) + frame.height
        return path


def _manifest(
    frame: pl.DataFrame, sha256: str, received_at: datetime | None, sequence_no: int | None
) -> dict[str, object]:
    manifest: dict[str, object] = {"rows": frame.height, "sha256": sha256}
    if received_at is not None:
        manifest["received_at"] = received_at.isoformat()
    if sequence_no is not None:
        manifest["sequence_no"] = sequence_no
    if {"amount_minor", "direction"} <= set(frame.columns):
        totals = frame.group_by("direction").agg(pl.col("amount_minor").sum()).sort("direction")
        manifest["control_totals"] = {"amount_minor": dict(totals.iter_rows())}
    return manifest
