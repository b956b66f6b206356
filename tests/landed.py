"""Reading back what an adapter wrote into a landing folder."""

import json
from pathlib import Path

import polars as pl

from pipelines.contracts import FEEDS
from pipelines.files import sha256_of
from pipelines.ingestion.sensitive import find_sensitive
from pipelines.ingestion.validation import judge


def landed(landing: Path, feed: str) -> pl.DataFrame:
    """All rows of a feed in the order of their batches, with `batch_date` and `file` (its name)."""
    frames = [
        pl.read_parquet(path).with_columns(
            pl.lit(path.parent.name).str.to_date().alias("batch_date"),
            pl.lit(path.name).alias("file"),
        )
        for path in sorted((landing / feed).glob("*/*.parquet"))
    ]
    return pl.concat(frames, how="diagonal") if frames else pl.DataFrame()


def contract_breaks(landing: Path) -> list[str]:
    """What ingest would hold against the files: bad rows, sensitive text, wrong manifests."""
    breaks: list[str] = []
    for path in sorted(landing.glob("*/*/*.parquet")):
        frame = pl.read_parquet(path)
        manifest = json.loads(path.with_name(f"{path.name}.manifest.json").read_text())
        if manifest["rows"] != frame.height or manifest["sha256"] != sha256_of(path):
            breaks.append(f"{path}: manifest does not hold")
        breaks += [
            f"{path}: {reason}"
            for reason in judge(FEEDS[path.parts[-3]], frame).reason.drop_nulls().unique()
        ]
        breaks += [
            f"{path}: {column.name} holds {found}"
            for column in frame.select(pl.col(pl.String))
            if (found := find_sensitive(column))
        ]
    return breaks


def contents(landing: Path) -> dict[str, bytes]:
    """The bytes of every file below `landing`, by its path."""
    return {
        str(path.relative_to(landing)): path.read_bytes()
        for path in sorted(landing.rglob("*"))
        if path.is_file()
    }
