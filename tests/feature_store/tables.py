"""Feature tables that tests fill by hand."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import duckdb
import polars as pl

DAY = timedelta(days=1)
START = datetime(2024, 3, 1)
SQL_TYPES = {"INT64": "bigint", "DOUBLE": "double", "STRING": "varchar", "BOOL": "boolean"}
Fill = Callable[..., None]
Publish = Callable[..., Any]


def insert(con: duckdb.DuckDBPyConnection, view: str, rows: list[dict[str, Any]]) -> None:
    """Add rows to a feature table."""
    if not rows:
        return
    frame = pl.DataFrame(rows, infer_schema_length=None)
    con.register("given", frame.to_arrow())
    con.execute(f"insert into features.{view} by name select * from given")
    con.unregister("given")
