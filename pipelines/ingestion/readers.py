"""Landing files as frames of what stands in them: CSV, JSON lines and Parquet, chunk by chunk.

Text stays text here; typing and judging is `validation.py`'s. A line that cannot be split into
the header's columns becomes a `BadLine`, never an exception that would cost the rest of the file.
"""

import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import polars as pl

LINE = "_line"
FILE = "_file"
"""Columns that ingest adds while it works: row or line number, and which file of a group."""
CHUNK_ROWS = 500_000
FIRST_DATA_LINE = 2
SUFFIXES = (".csv", ".csv.gz", ".parquet", ".jsonl", ".ndjson", ".json", ".jsonl.gz")


class UnreadableFile(Exception):
    """The file as a whole cannot be read; the message says why and holds no data of it."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that has no place in the file's columns."""

    line_no: int
    reason: str
    payload: str


@dataclass(slots=True)
class Chunk:
    """Rows of a file: `frame` has the file's columns and `_line`, the line or row number."""

    frame: pl.DataFrame
    bad_lines: list[BadLine] = field(default_factory=list)


def is_readable(path: Path) -> bool:
    """Whether the name is that of a data file: not a manifest, not hidden, a known format."""
    return path.name.endswith(SUFFIXES) and not path.name.startswith((".", "_"))


def read_chunks(path: Path) -> Iterator[Chunk]:
    """The rows of `path` in order, at most `CHUNK_ROWS` at a time; at least one chunk.

    Raises `UnreadableFile` where the format, the encoding or the header is broken.
    """
    if path.stat().st_size == 0:
        raise UnreadableFile("the file is empty: it has not even a header")
    if path.name.endswith(".parquet"):
        yield from _parquet(path)
    elif path.name.endswith((".csv", ".csv.gz")):
        yield from _csv(path)
    else:
        yield from _json_lines(path)


def _parquet(path: Path) -> Iterator[Chunk]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            line = 1
            for batch in file.iter_batches(CHUNK_ROWS):
                frame = pl.DataFrame(pl.from_arrow(batch)).with_row_index(LINE, offset=line)
                line += frame.height
                yield Chunk(frame)
            if line == 1:
                empty = pl.DataFrame(pl.from_arrow(file.schema_arrow.empty_table()))
                yield Chunk(empty.with_row_index(LINE))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UnreadableFile("not a whole Parquet file") from error


def _csv(path: Path) -> Iterator[Chunk]:
    header = _csv_header(path)
    if path.name.endswith(".csv") and path.stat().st_size > _WHOLE_CSV_BYTES:
        chunks = _large_csv(path)
    else:
        chunks = _small_csv(path)
    try:
        yield from chunks
    except pl.exceptions.ComputeError:
        # A ragged or badly quoted line: only the slow reader can tell which one.
        yield from _csv_line_by_line(path, header)


_WHOLE_CSV_BYTES = 256 << 20


def _small_csv(path: Path) -> Iterator[Chunk]:
    frame = pl.read_csv(path, infer_schema=False, encoding="utf8")
    yield Chunk(frame.with_row_index(LINE, offset=FIRST_DATA_LINE))


def _large_csv(path: Path) -> Iterator[Chunk]:
    # A first pass over the lines alone: a chunk that was handed out cannot be taken back.
    scan = pl.scan_csv(path, infer_schema=False, encoding="utf8")
    scan.select(pl.len()).collect()
    line = FIRST_DATA_LINE
    for frame in scan.collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True):
        numbered = frame.with_row_index(LINE, offset=line)
        line += frame.height
        yield Chunk(numbered)


def _open_text(path: Path) -> IO[str]:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _csv_header(path: Path) -> list[str]:
    try:
        with _open_text(path) as file:
            header = next(csv.reader(file), [])
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, csv.Error) as error:
        raise UnreadableFile("the file is not UTF-8 text") from error
    if not any(header):
        raise UnreadableFile("the header is empty")
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise UnreadableFile(f"the header names {', '.join(repeated)} more than once")
    return header


def _csv_line_by_line(path: Path, header: list[str]) -> Iterator[Chunk]:
    rows: list[list[str | None]] = []
    lines: list[int] = []
    bad: list[BadLine] = []
    try:
        with _open_text(path) as file:
            reader = csv.reader(file)
            next(reader, None)
            for line_no, row in enumerate(reader, start=FIRST_DATA_LINE):
                if not row:
                    continue
                if len(row) == len(header):
                    rows.append([value or None for value in row])
                    lines.append(line_no)
                else:
                    reason = f"the line has {len(row)} fields and the header {len(header)}"
                    bad.append(BadLine(line_no, reason, json.dumps(row)))
                if len(rows) >= CHUNK_ROWS:
                    yield _from_rows(header, rows, lines, bad)
                    rows, lines, bad = [], [], []
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise UnreadableFile("the file is not UTF-8 text") from error
    except csv.Error as error:
        raise UnreadableFile("the file is not CSV") from error
    yield _from_rows(header, rows, lines, bad)


def _from_rows(
    header: list[str], rows: list[list[str | None]], lines: list[int], bad: list[BadLine]
) -> Chunk:
    frame = pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String()), orient="row")
    return Chunk(frame.insert_column(0, pl.Series(LINE, lines, dtype=pl.UInt32)), bad)


def _json_lines(path: Path) -> Iterator[Chunk]:
    rows: list[dict[str, object]] = []
    lines: list[int] = []
    bad: list[BadLine] = []
    try:
        with _open_text(path) as file:
            for line_no, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError:
                    row = None
                if isinstance(row, dict):
                    rows.append(row)
                    lines.append(line_no)
                else:
                    bad.append(BadLine(line_no, "the line is not a JSON object", line.strip()))
                if len(rows) >= CHUNK_ROWS:
                    yield _from_objects(rows, lines, bad)
                    rows, lines, bad = [], [], []
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise UnreadableFile("the file is not UTF-8 text") from error
    yield _from_objects(rows, lines, bad)


def _from_objects(rows: list[dict[str, object]], lines: list[int], bad: list[BadLine]) -> Chunk:
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [_as_text(row.get(name)) for row in rows] for name in names}
    frame = pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String()))
    return Chunk(frame.insert_column(0, pl.Series(LINE, lines, dtype=pl.UInt32)), bad)


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(value)
