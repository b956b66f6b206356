"""The warehouse: a DuckLake of Parquet files behind a catalog.

The only module that opens DuckDB. One process writes at a time (the pool `warehouse`); any number
read beside it and never wait (`docs/adr/001-warehouse.md`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

import duckdb

from pipelines.errors import CardlineError
from pipelines.settings import Settings, get_settings

CATALOG = "lake"
EXTENSIONS = ("ducklake", "sqlite_scanner")
SCHEMAS = (
    "landing", "raw", "quarantine", "staging", "intermediate", "marts", "features",
    "rewards", "finance", "risk", "fraud", "ops",
)  # fmt: skip
BUSY_TIMEOUT_MS = 30_000

_TABLES = """
create table if not exists landing.files (
    file_id varchar, feed varchar, batch_date date, path varchar, bytes bigint, rows bigint,
    rows_quarantined bigint, state varchar, reason varchar, unknown_columns varchar,
    received_at timestamp, fingerprint varchar, load_no bigint, loaded_at timestamp,
    sequence_no bigint
);
create table if not exists quarantine.files (
    feed varchar, file_id varchar, line_no bigint, batch_date date, path varchar, reason varchar,
    payload varchar, received_at timestamp, load_no bigint
);
create table if not exists quarantine.rows (
    feed varchar, file_id varchar, line_no bigint, reason varchar, payload varchar,
    received_at timestamp, load_no bigint
);
create table if not exists ops.watermarks (name varchar, load_no bigint);
create table if not exists finance.exceptions (
    exception_id varchar, recon_id varchar, type varchar, severity varchar, amount_minor bigint,
    currency varchar, left_ref varchar, right_ref varchar, opened_on date, state varchar,
    detail varchar
);
create table if not exists finance.partner_rate_cards (
    program_id varchar, component varchar, direction varchar, tier_from bigint, tier_to bigint,
    rate_micros bigint, unit varchar, valid_from date, valid_to date, version bigint,
    fee_amounts bigint[]
);
create table if not exists finance.closed_invoice_lines (
    program_id varchar, period varchar, version bigint, original_period varchar,
    component varchar, direction varchar, rate_card_version bigint, quantity_micros decimal(38, 0),
    amount_extended decimal(38, 10)
);
create table if not exists finance.exception_log (
    log_no bigint, exception_id varchar, action varchar, acted_by varchar, owner varchar,
    note varchar, resolution_code varchar, evidence_ref varchar, journal_id varchar,
    known_at timestamp, acted_at timestamp
);
create table if not exists finance.period_log (
    log_no bigint, program_id varchar, period varchar, state varchar, version bigint,
    preparer varchar, approver varchar, second_approver varchar, reason varchar,
    effective_on date, known_at timestamp, ledger_seq bigint, ledger_hash varchar,
    figures_sha256 varchar, evidence json, acted_at timestamp, prev_hash varchar,
    entry_hash varchar
);
"""
_LATEST_COLUMN = "quarantine.files.line_no"
"""What came last: a warehouse that has it has all that this module makes."""
_LATER_COLUMNS = """
alter table landing.files add column if not exists sequence_no bigint;
alter table quarantine.files add column if not exists line_no bigint;
alter table finance.exceptions add column if not exists owner varchar;
alter table finance.exceptions add column if not exists resolution_code varchar;
alter table finance.exceptions add column if not exists resolved_by varchar;
alter table finance.exceptions add column if not exists evidence_ref varchar;
alter table finance.exceptions add column if not exists journal_id varchar;
alter table finance.partner_rate_cards add column if not exists fee_amounts bigint[];
"""


@cache
def link_extensions(directory: Path) -> None:
    """Make DuckDB's extensions loadable from `directory`, out of their wheels.

    Nothing is downloaded and nothing is copied: links lead to the installed packages.
    """
    with duckdb.connect() as con:
        version = con.execute("pragma version").fetchone()
        platform = con.execute("pragma platform").fetchone()
    assert version is not None and platform is not None
    target = directory / version[0] / platform[0]
    target.mkdir(parents=True, exist_ok=True)
    for name in EXTENSIONS:
        wheel = import_module(f"duckdb_extension_{name}")
        source = Path(wheel.__path__[0]) / "extensions" / version[0] / f"{name}.duckdb_extension"
        link = target / source.name
        if not link.exists() or link.resolve() != source.resolve():
            aside = link.with_name(f".{link.name}.{os.getpid()}")
            aside.symlink_to(source)
            aside.replace(link)


def memory() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB without the lake, of the caller's own."""
    return _new(get_settings())


def _new(settings: Settings, config: dict[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB of its own, in memory, that uses as many cores as it may."""
    con = _session(duckdb.connect(config=config or {}))
    if settings.threads is not None:
        con.execute(f"set threads = {settings.threads:d}")
    return con


def threads() -> int:
    """Cores that a DuckDB of this process uses."""
    with memory() as con:
        row = con.execute("select current_setting('threads')").fetchone()
    assert row is not None
    return int(row[0])


def _session(con: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """`con` with what DuckDB keeps for each connection."""
    con.execute("set timezone = 'UTC'")
    # It would go to the standard output of a command, between its answer's lines.
    con.execute("set enable_progress_bar = false")
    # Beyond its buffer a result waits to be fetched, and one of several pipelines (`union all`)
    # waits for good: https://github.com/duckdb/duckdb/issues/22215
    con.execute("set streaming_buffer_size = '1TB'")
    return con


def scratch() -> duckdb.DuckDBPyConnection:
    """A connection for computing over frames and files, to one in-memory DuckDB of this process.

    What the caller registers or makes as a temporary table is its own, and goes when it closes.
    """
    with _OPENING:
        con = _scratch(os.getpid()).cursor()
    return _session(con)


@cache
def _scratch(_process: int) -> duckdb.DuckDBPyConnection:
    con = memory()
    con.execute("set parquet_metadata_cache = true")
    return con


def connect(
    read_only: bool = False, settings: Settings | None = None, alone: bool = False
) -> duckdb.DuckDBPyConnection:
    """A connection whose default catalog is the warehouse of `settings` (default: this home's).

    The caller closes it (`with connect() as con`). `read_only` refuses every write. Connections of
    a process share one DuckDB, which takes a third of a second to open; `alone` gives one of its
    own to a caller that attaches to it. Raises `CardlineError` where there is no warehouse to read.
    """
    settings = settings or get_settings()
    if read_only:
        require_warehouse(settings)
    if alone:
        con = _open(read_only, settings)
    else:
        with _OPENING:
            con = _session(_shared(read_only, settings).cursor())
    con.execute(f"use {CATALOG}")
    return con


def require_warehouse(settings: Settings | None = None) -> None:
    """Raise `CardlineError` in a home without a warehouse, which a writer would make there."""
    settings = settings or get_settings()
    if not settings.catalog_path.exists():
        raise CardlineError(
            f"no warehouse in {settings.home}: run `cardline demo` or `cardline run` first, "
            "or set CARDLINE_HOME to a home that has one"
        )


_OPENING = Lock()
_OPENED: dict[tuple[int, Path, bool], tuple[int, duckdb.DuckDBPyConnection]] = {}
"""By process (a fork cannot use its parent's), catalog and kind: its inode and the DuckDB."""


def _shared(read_only: bool, settings: Settings) -> duckdb.DuckDBPyConnection:
    """This process's DuckDB on the warehouse, opened anew where another catalog took its place."""
    path = settings.catalog_path
    key = (os.getpid(), path, read_only)
    known = _OPENED.get(key)
    if known is None or not path.exists() or path.stat().st_ino != known[0]:
        con = _open(read_only, settings)
        known = _OPENED[key] = (path.stat().st_ino, con)
    return known[1]


def _open(read_only: bool, settings: Settings) -> duckdb.DuckDBPyConnection:
    link_extensions(settings.extensions_dir)
    settings.lake_dir.mkdir(parents=True, exist_ok=True)
    con = _new(settings, {"extension_directory": str(settings.extensions_dir)})
    try:
        con.execute("set parquet_metadata_cache = true")
        # The bounds that DuckLake keeps of a column are wrong where a commit wrote several files,
        # the first without values of it: what the optimizer would conclude from them loses rows.
        con.execute("set disabled_optimizers = 'statistics_propagation'")
        for name in EXTENSIONS:
            con.load_extension(name)
        options = [
            f"data_path '{_quoted(settings.lake_dir / 'data')}'",
            # Or every version of every table has a table of its own in the catalog, for few rows.
            "data_inlining_row_limit 0",
        ]
        if read_only:
            options.append("read_only")
        else:
            options += ["meta_journal_mode 'WAL'", f"meta_busy_timeout {BUSY_TIMEOUT_MS}"]
        con.execute(
            f"attach 'ducklake:sqlite:{_quoted(settings.catalog_path)}' as {CATALOG} "
            f"({', '.join(options)})"
        )
        if not read_only:
            con.execute(f"use {CATALOG}")
            _ensure_tables(con)
    except duckdb.Error as error:
        con.close()
        if "DATA_PATH" in str(error):
            raise CardlineError(
                f"the warehouse in {settings.home} was made in another folder, and names its files "
                "by it: put the home back there, or make a new one from its landing folder with "
                "`cardline run --landing`"
            ) from error
        raise
    except BaseException:
        con.close()
        raise
    return con


def _quoted(path: Path) -> str:
    """`path` for a quoted literal: ATTACH takes no parameters."""
    return str(path).replace("'", "''")


def has_table(con: duckdb.DuckDBPyConnection, schema: str, name: str) -> bool:
    """Whether the warehouse has this table or view yet."""
    found = con.execute(
        "select 1 from information_schema.tables where table_schema = ? and table_name = ?",
        [schema, name],
    ).fetchone()
    return found is not None


def _ensure_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Schemas, inventory tables and an empty table for every feed; nothing where all is there."""
    from pipelines.contracts import FEEDS
    from pipelines.findings import FINDINGS, findings_view

    existing = {
        f"{schema}.{name}"
        for schema, name in con.execute(
            "select schema_name, table_name from duckdb_tables() where database_name = ? "
            "union all select schema_name, view_name from duckdb_views() where database_name = ? "
            "union all select schema_name, table_name || '.' || column_name from duckdb_columns() "
            "where database_name = ? and schema_name = 'quarantine'",
            [CATALOG, CATALOG, CATALOG],
        ).fetchall()
    }
    if {FINDINGS, _LATEST_COLUMN} <= existing and all(f"raw.{name}" in existing for name in FEEDS):
        return
    with transaction(con):
        for schema in SCHEMAS:
            con.execute(f"create schema if not exists {schema}")
        con.execute(_TABLES)
        for feed in FEEDS.values():
            columns = ", ".join(f'"{name}" {kind}' for name, kind in feed.raw_columns().items())
            con.execute(f"create table if not exists raw.{feed.name} ({columns})")
        con.execute(_LATER_COLUMNS)
        con.execute(findings_view())


@contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All of the block's writes, or none of them."""
    con.execute("begin transaction")
    try:
        yield
    except BaseException:
        con.execute("rollback")
        raise
    con.execute("commit")


@contextmanager
def held_open(settings: Settings | None = None) -> Iterator[None]:
    """The catalog kept open while another process works on it.

    Who closes a catalog of SQLite last writes its log back under a lock, and who opens it at that
    moment waits for a second, the least that DuckDB's SQLite can. A reader beside is never last.
    """
    with connect(read_only=True, settings=settings) as con, transaction(con):
        snapshots(con)
        yield


def snapshots(con: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """The oldest and the newest snapshot of the lake that can be read."""
    row = con.execute(
        "select min(snapshot_id), max(snapshot_id) from ducklake_snapshots(?)", [CATALOG]
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def latest_load_no(con: duckdb.DuckDBPyConnection) -> int:
    """Number of the last ingest commit, 0 before the first."""
    row = con.execute("select coalesce(max(load_no), 0) from landing.files").fetchone()
    assert row is not None
    return int(row[0])


def files_waiting(con: duckdb.DuckDBPyConnection) -> int:
    """How many delivered files were refused, and not made good since."""
    row = con.execute("select count(*) from landing.files where state = 'QUARANTINED'").fetchone()
    assert row is not None
    return int(row[0])


def watermark(con: duckdb.DuckDBPyConnection, name: str) -> int:
    """The last ingest commit that step `name` has worked through, -1 before its first run."""
    row = con.execute(
        "select coalesce(max(load_no), -1) from ops.watermarks where name = ?", [name]
    ).fetchone()
    assert row is not None
    return int(row[0])


def set_watermark(con: duckdb.DuckDBPyConnection, name: str, load_no: int) -> None:
    """Record that step `name` has worked through ingest commit `load_no`."""
    con.execute("delete from ops.watermarks where name = ?", [name])
    con.execute("insert into ops.watermarks values (?, ?)", [name, load_no])


def data_clock(con: duckdb.DuckDBPyConnection) -> datetime | None:
    """The latest known time of anything that was loaded; none in an empty warehouse.

    What is due and what is known follow this clock and not the machine's, so that the same data
    always lead to the same models and scores.
    """
    row = con.execute(
        "select max(received_at) from landing.files where state = 'LOADED'"
    ).fetchone()
    return row[0] if row else None
