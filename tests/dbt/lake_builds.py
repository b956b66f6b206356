"""Filling the lake as ingest would, and building the dbt project on it in this process."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.contracts import FEEDS
from pipelines.settings import PROJECT_DIR, get_settings
from pipelines.transform import dbt_arguments, dbt_environment, news_since
from pipelines.warehouse import connect, latest_load_no, transaction

Row = dict[str, Any]
DBT_DIR = PROJECT_DIR / "dbt"


def deliver(feeds: Mapping[str, Iterable[Row]]) -> int:
    """One ingest commit of `feeds` into the home's lake; every row has `received_at`.

    Returns the number of the commit.
    """
    with connect() as con:
        load_no = latest_load_no(con) + 1
        with transaction(con):
            for name, rows in feeds.items():
                _load(con, load_no, name, list(rows))
    return load_no


def _load(con: Any, load_no: int, name: str, rows: list[Row]) -> None:
    feed = FEEDS[name]
    frame = pl.DataFrame(
        [
            _with_lineage(feed.column_names, f"{name}-{load_no}", no, row)
            for no, row in enumerate(rows)
        ],
        schema=feed.raw_schema(),
        orient="row",
    )
    con.register("delivered", frame.to_arrow())
    con.execute(f"insert into raw.{name} by name select * from delivered")
    con.unregister("delivered")
    con.execute(
        "insert into landing.files (file_id, feed, batch_date, rows, state, received_at, load_no) "
        "values (?, ?, ?, ?, 'LOADED', ?, ?)",
        [
            f"{name}-{load_no}", name, max(row["received_at"] for row in rows).date(), len(rows),
            max(row["received_at"] for row in rows), load_no,
        ],
    )  # fmt: skip


def _with_lineage(columns: list[str], file_id: str, line_no: int, row: Row) -> Row:
    unknown = set(row) - set(columns) - {"received_at"}
    assert not unknown, f"{file_id}: the contract has no {unknown}"
    content = repr([row.get(column) for column in columns if column != "received_at"])
    received_at: datetime = row["received_at"]
    return {
        **{column: row.get(column) for column in columns},
        "file_id": file_id,
        "line_no": line_no,
        "record_hash": hashlib.md5(content.encode(), usedforsecurity=False).hexdigest(),
        "batch_date": received_at.date(),
        "received_at": received_at,
        "extra": None,
    }


def build(
    *arguments: str, command: str = "run", from_load_no: int = -1, tested_snapshot: int = -1
) -> None:
    """Run dbt on the home; raises `AssertionError` with what failed."""
    from dbt.cli.main import dbtRunner

    with connect() as con:
        os.environ.update(news_since(con, from_load_no, tested_snapshot))
    os.environ.update(dbt_environment())
    outcome = dbtRunner().invoke(
        [
            command, *arguments, "--quiet", *dbt_arguments(),
            "--project-dir", str(DBT_DIR), "--profiles-dir", str(DBT_DIR),
        ]
    )  # fmt: skip
    failed = [
        f"{result.node.unique_id}: {result.message}"
        for result in getattr(outcome.result, "results", [])
        if result.status in ("error", "fail")
    ]
    assert outcome.success, failed or outcome.exception


def tables(*schemas: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table and view of `schemas`, sorted, by `schema.table`."""
    with connect(read_only=True) as con:
        names = con.execute(
            "select table_schema, table_name from information_schema.tables "
            "where table_catalog = 'lake' and list_contains(?, table_schema) order by all",
            [list(schemas)],
        ).fetchall()
        return {
            f"{schema}.{name}": con.execute(
                f"select * from {schema}.{name} order by all"
            ).fetchall()
            for schema, name in names
        }


def rows_of(table: str) -> list[Row]:
    """The rows of a table as dictionaries."""
    with connect(read_only=True) as con:
        return con.execute(f"select * from {table}").pl().to_dicts()


def home_of(folder: Path) -> Path:
    """Point this process at an empty home in `folder`."""
    os.environ["CARDLINE_HOME"] = str(folder)
    get_settings.cache_clear()
    return folder
