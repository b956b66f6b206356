"""Reading the warehouse for `cardline sql`."""

import re
import sys
from typing import TYPE_CHECKING

import duckdb

from pipelines.errors import CardlineError
from pipelines.progress import console as error_console
from pipelines.warehouse import connect

if TYPE_CHECKING:
    import polars as pl

FORMATS = ("table", "csv", "json", "parquet")
SHOWN_ROWS = 1000
# Functions of DuckLake that look like queries and remove or rewrite files, read-only or not.
_UPKEEP = re.compile(
    r"ducklake_(?:add|cleanup|delete|expire|flush|merge|rewrite|set)_\w+", re.IGNORECASE
)
_QUERIES = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def print_query(query: str, form: str) -> None:
    """Print the result of one query in `form`; raises `CardlineError` with DuckDB's first line, and
    for anything but one query."""
    if form not in FORMATS:
        raise CardlineError(f"--format {form!r} is none of {', '.join(FORMATS)}")
    with connect(read_only=True) as con:
        try:
            statements = con.extract_statements(query)
            if len(statements) != 1 or statements[0].type not in _QUERIES:
                raise CardlineError("write one query: select …, from …, describe … or explain …")
            if upkeep := _UPKEEP.search(query):
                raise CardlineError(f"{upkeep[0]} changes the lake: the job lake_maintenance does")
            frame = con.execute(statements[0]).pl()
        except duckdb.Error as error:
            first = str(error).strip().splitlines()[0]
            raise CardlineError(f"the query failed: {first}") from error
    if form == "table":
        _print_table(frame)
    elif form == "csv":
        nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
        if nested:
            raise CardlineError(
                f"CSV has no lists: leave {', '.join(nested)} out, or take --format json"
            )
        frame.write_csv(sys.stdout)
    elif form == "json":
        print(_with_whole_numbers(frame).write_json())
    else:
        if sys.stdout.isatty():
            raise CardlineError("Parquet is binary: send standard output to a file")
        frame.write_parquet(sys.stdout.buffer)


def _with_whole_numbers(frame: "pl.DataFrame") -> "pl.DataFrame":
    """Sums of integers are decimals without a fraction, which would be written as texts."""
    import polars as pl

    whole = [
        name
        for name, kind in frame.schema.items()
        if isinstance(kind, pl.Decimal) and not kind.scale
    ]
    return frame.with_columns(pl.col(whole).cast(pl.Int128))


def _print_table(frame: "pl.DataFrame") -> None:
    """A row a line where that fits, else a value a line."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Console()
    shown = [
        ["" if value is None else str(value) for value in row]
        for row in frame.head(SHOWN_ROWS).iter_rows()
    ]
    widths = [max(map(len, column)) for column in zip(frame.columns, *shown, strict=True)]
    if sum(widths) + 3 * len(widths) + 1 > out.width:
        margin = max(map(len, frame.columns))
        for number, row in enumerate(shown, 1):
            print(f"--- row {number}")
            for name, value in zip(frame.columns, row, strict=True):
                print(f"{name:<{margin}}  {value}")
    else:
        table = Table()
        for name, kind in frame.schema.items():
            table.add_column(Text(name), justify="right" if kind.is_numeric() else "left")
        for row in shown:
            table.add_row(*map(Text, row))
        out.print(table)
    if frame.height > SHOWN_ROWS:
        error_console.print(f"{SHOWN_ROWS} of {frame.height} rows shown; --format csv gives all")
