"""Landing files as frames of what stands in them: CSV, JSON lines and Parquet, chunk by chunk.

Text stays text here; typing and judging is `validation.py`'s. A line that cannot be split into
the header's columns becomes a `BadLine`, never an exception that would cost the rest of the file.
"""

import base64
import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

import numpy as np
import polars as pl

if TYPE_CHECKING:
    import pyarrow as pa

LINE = "\0line"
FILE = "\0file"
"""Columns that ingest adds while it works: row or line number, and which file of a group. No
delivered column has such a name."""
CHUNK_ROWS = 500_000
FIRST_DATA_LINE = 2
_BROKEN_GZIP = (gzip.BadGzipFile, EOFError, zlib.error)
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
    """Rows of a file: `frame` has the file's columns and `LINE`, the line or row number."""

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
        more = ": it has not even a header" if path.name.endswith((".csv", ".csv.gz")) else ""
        raise UnreadableFile(f"the file is empty{more}")
    if path.name.endswith(".parquet"):
        yield from _parquet(path)
    elif path.name.endswith((".csv", ".csv.gz")):
        yield from _csv(path)
    else:
        yield from _json_lines(path)


def _refuse_repeated(names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UnreadableFile(f"the header names {', '.join(repeated)} more than once")


def _parquet(path: Path) -> Iterator[Chunk]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _refuse_repeated(file.schema_arrow.names)
            line = 1
            for batch in file.iter_batches(CHUNK_ROWS):
                frame = _from_arrow(batch).with_row_index(LINE, offset=line)
                line += frame.height
                yield Chunk(frame)
            if line == 1:
                nothing = pa.RecordBatch.from_pylist([], file.schema_arrow)
                yield Chunk(_from_arrow(nothing).with_row_index(LINE))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UnreadableFile("not a whole Parquet file") from error


def _from_arrow(batch: "pa.RecordBatch") -> pl.DataFrame:
    """The rows of `batch`; what the feeds have no type for becomes text."""
    for position, name in enumerate(batch.schema.names):
        plain = _plain(batch.column(position))
        if plain is not None:
            batch = batch.set_column(position, name, plain)
    return pl.DataFrame(pl.from_arrow(batch))


# Polars knows the names of zones only.
_OFFSET_ZONE = re.compile("[zZ]|[+-].*")


def _plain(values: "pa.Array") -> "pa.Array | None":
    """`values` as text, or in a type that Polars knows; None where they can stay as they are."""
    import pyarrow as pa

    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        return _decoded(values.storage)
    if pa.types.is_dictionary(kind):
        return None if _is_text(kind.value_type) else _decoded(values.dictionary_decode())
    if pa.types.is_timestamp(kind) and kind.tz is not None and _OFFSET_ZONE.fullmatch(kind.tz):
        return values.cast(pa.timestamp(kind.unit, "UTC"))
    if pa.types.is_decimal256(kind):
        try:
            return values.cast(pa.decimal128(38, kind.scale))
        except pa.ArrowInvalid:
            return values.cast(pa.string())
    if pa.types.is_duration(kind):
        return pl.Series(pl.from_arrow(values)).dt.to_string("iso").to_arrow()
    if _is_bytes(kind):
        try:
            return values.cast(pa.binary()).cast(pa.string())
        except pa.ArrowInvalid:
            return pa.array([_without_bytes(value) for value in values.to_pylist()], pa.string())
    if pa.types.is_nested(kind):
        texts = [
            None if value is None else json.dumps(_without_bytes(value), default=str)
            for value in values.to_pylist()
        ]
        return pa.array(texts, pa.string())
    return None


def _decoded(values: "pa.Array") -> "pa.Array":
    plain = _plain(values)
    return values if plain is None else plain


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_bytes(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _without_bytes(value: object) -> object:
    """`value` with its bytes as text, in Base64 where they are not UTF-8."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: _without_bytes(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_bytes(part) for part in value]
    return value


def _csv(path: Path) -> Iterator[Chunk]:
    header = _csv_header(path)
    is_large = path.name.endswith(".csv") and path.stat().st_size > _WHOLE_CSV_BYTES
    line = FIRST_DATA_LINE
    may_be_separators = may_be_short = True
    try:
        for frame in _large_csv(path) if is_large else _small_csv(path):
            if may_be_short and frame.to_series(-1).null_count():
                if _may_have_short_line(path, len(header)):
                    break
                may_be_short = False
            numbered = frame.with_row_index(LINE, offset=line)
            blank = _blank_rows(frame)
            if blank is not None:
                if may_be_separators and _has_line_of_separators(path):
                    break
                may_be_separators = False
                numbered = numbered.filter(~blank)
            line += frame.height
            yield Chunk(numbered)
        else:
            return
    except (pl.exceptions.ComputeError, OSError):
        # A ragged or badly quoted line, a broken archive: only the slow reader can tell.
        pass
    yield from _csv_line_by_line(path, header, line)


_WHOLE_CSV_BYTES = 256 << 20
_BLOCK_BYTES = 256 << 10


def _small_csv(path: Path) -> Iterator[pl.DataFrame]:
    yield pl.read_csv(path, infer_schema=False, encoding="utf8")


def _large_csv(path: Path) -> Iterator[pl.DataFrame]:
    # A first pass over the lines alone: most of what is ragged is found before any row is typed.
    scan = pl.scan_csv(path, infer_schema=False, encoding="utf8")
    scan.select(pl.len()).collect()
    yield from scan.collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True)


def _may_have_short_line(path: Path, columns: int) -> bool:
    """Whether a line has fewer fields than `columns`, which a fast reader fills up with nulls.

    None has more. A line that only a reader of CSV can count, such as a part of a quoted text, may
    be short as well.
    """
    if _has_every_separator(path, columns):
        return False
    lines = pl.scan_csv(
        path, has_header=False, separator="\x1f", quote_char=None, encoding="utf8",
        schema={"line": pl.String}, truncate_ragged_lines=True,
    )  # fmt: skip
    plain = pl.col("line").str.replace_all('"[^"]*"', "")
    is_short = plain.str.count_matches(",", literal=True) < columns - 1
    return lines.select(is_short.any()).collect().item()


def _has_every_separator(path: Path, columns: int) -> bool:
    """Whether there are as many separators as lines need, and no quote that may hide one."""
    separators = lines = 0
    last = b"\n"
    with _open_bytes(path) as file:
        while block := file.read(_BLOCK_BYTES):
            if b'"' in block:
                return False
            signs = np.frombuffer(block, dtype=np.uint8)
            separators += np.count_nonzero(signs == ord(","))
            lines += np.count_nonzero(signs == ord("\n"))
            last = block[-1:]
    return separators == (lines + (last != b"\n")) * (columns - 1)


def _blank_rows(frame: pl.DataFrame) -> pl.Series | None:
    """Which rows are blank but for white space in the first column; None where none is."""
    first, *others = frame.get_columns()
    if not all(column.null_count() for column in others):
        return None
    blank = pl.Series([True]).new_from_index(0, frame.height)
    for column in others:
        blank &= column.is_null()
        if not blank.any():
            return None
    blank &= first.set(~blank, "kept").str.strip_chars().fill_null("") == ""
    return blank if blank.any() else None


def _has_line_of_separators(path: Path) -> bool:
    """Whether a line has separators and nothing else: such a row is not blank, but looks so."""
    with _open_text(path) as file:
        return any("," in line and not line.strip(' ,"\t\r\n') for line in file)


def _open_bytes(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.name.endswith(".gz") else path.open("rb")


def _open_text(path: Path) -> IO[str]:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


@contextmanager
def _told_text(path: Path) -> Iterator[IO[str]]:
    """The text of `path`; what is wrong with it as a whole is told by `UnreadableFile`."""
    try:
        with _open_text(path) as file:
            yield file
    except UnicodeDecodeError as error:
        raise UnreadableFile("the file is not UTF-8 text") from error
    except _BROKEN_GZIP as error:
        raise UnreadableFile("not a whole gzip file") from error
    except csv.Error as error:
        raise UnreadableFile("the file is not CSV") from error


def _csv_header(path: Path) -> list[str]:
    with _told_text(path) as file:
        header = next(csv.reader(file), [])
    if not any(header):
        raise UnreadableFile("the header is empty")
    _refuse_repeated(header)
    return header


_END = "end,end"


def _csv_line_by_line(path: Path, header: list[str], start: int) -> Iterator[Chunk]:
    """The rows from line `start` on: those before it were handed out by a faster reader."""
    rows: list[list[str | None]] = []
    lines: list[int] = []
    bad: list[BadLine] = []
    is_over = False

    def until_over(file: IO[str]) -> Iterator[str]:
        nonlocal is_over
        yield from file
        is_over = True
        yield _END

    with _told_text(path) as file:
        reader = csv.reader(until_over(file))
        next(reader, None)
        for line_no, row in enumerate(reader, start=FIRST_DATA_LINE):
            if is_over:
                # An open quote swallows the end too: it is no row of two fields then.
                if row != _END.split(","):
                    raise UnreadableFile(f"a quote that line {line_no} opens is never closed")
                break
            is_blank = not row or (len(row) == 1 and not row[0].strip())
            if line_no < start or is_blank:
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
    yield _from_rows(header, rows, lines, bad)


def _from_rows(
    header: list[str], rows: list[list[str | None]], lines: list[int], bad: list[BadLine]
) -> Chunk:
    frame = pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String()), orient="row")
    return Chunk(frame.insert_column(0, pl.Series(LINE, lines, dtype=pl.UInt32)), bad)


def _json_lines(path: Path) -> Iterator[Chunk]:
    rows: list[dict[str, str | None]] = []
    lines: list[int] = []
    bad: list[BadLine] = []
    is_empty = True
    with _told_text(path) as file:
        for line_no, line in enumerate(file, start=1):
            if not line.strip():
                continue
            is_empty = False
            row = _json_row(line)
            if isinstance(row, dict):
                rows.append(row)
                lines.append(line_no)
            else:
                bad.append(BadLine(line_no, row, line.strip()))
            if len(rows) >= CHUNK_ROWS:
                yield _from_objects(rows, lines, bad)
                rows, lines, bad = [], [], []
    if is_empty:
        raise UnreadableFile("the file is empty")
    yield _from_objects(rows, lines, bad)


def _json_row(line: str) -> dict[str, str | None] | str:
    """The columns of one line as texts, or why it has none."""
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            return "the line is not a JSON object"
        texts = {name: _as_text(value) for name, value in row.items()}
        if "\\u" in line:
            # Half of a surrogate pair is JSON and no text.
            "".join([*texts, *(text for text in texts.values() if text is not None)]).encode()
    except UnicodeEncodeError:
        return "the line holds half a character (a lone surrogate)"
    except ValueError:
        return "the line is not a JSON object"
    except RecursionError:
        return "the line is nested too deep"
    return texts


def _from_objects(rows: list[dict[str, str | None]], lines: list[int], bad: list[BadLine]) -> Chunk:
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    frame = pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String()))
    return Chunk(frame.insert_column(0, pl.Series(LINE, lines, dtype=pl.UInt32)), bad)


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(value)
