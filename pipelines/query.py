"""Reading the warehouse for `cardline sql`."""

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


def print_query(query: str, form: str) -> None:
    """Print the result of one query in `form`; raises `CardlineError` with DuckDB's first line."""
    if form not in FORMATS:
        raise CardlineError(f"--format {form!r} is none of {', '.join(FORMATS)}")
    with connect(read_only=True) as con:
        try:
            frame = con.execute(query).pl()
        except duckdb.Error as error:
            first = str(error).strip().splitlines()[0]
            raise CardlineError(f"the query failed: {first}") from error
    if form == "table":
        _print_table(frame)
    elif form == "csv":
        frame.write_csv(sys.stdout)
    elif form == "json":
        print(frame.write_json())
    else:
        if sys.stdout.isatty():
            raise CardlineError("Parquet is binary: send standard output to a file")
        frame.write_parquet(sys.stdout.buffer)


def _print_table(frame: "pl.DataFrame") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name, kind in frame.schema.items():
        table.add_column(name, justify="right" if kind.is_numeric() else "left", overflow="fold")
    for row in frame.head(SHOWN_ROWS).iter_rows():
        table.add_row(*("" if value is None else str(value) for value in row))
    Console().print(table)
    if frame.height > SHOWN_ROWS:
        error_console.print(f"{SHOWN_ROWS} of {frame.height} rows shown; --format csv gives all")
