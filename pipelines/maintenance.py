"""Housekeeping of the lake: small files merged, old snapshots expired, unused files removed.

Readers beside it keep what they read: a file that went out of use is left for `GRACE` more, far
longer than any query takes. Accepted rows stay the plain Parquet files that ingest wrote.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from pipelines.settings import Settings, get_settings
from pipelines.transform import TESTED
from pipelines.warehouse import CATALOG, connect, watermark

GRACE = timedelta(days=1)
REWRITE_FROM = 0.2
"""Share of a file's rows that must be deleted before the file is written anew without them."""


@dataclass(frozen=True, slots=True)
class Maintained:
    """What one maintenance did; files are the tables' data and delete files in use."""

    snapshots_expired: int
    files_before: int
    files_after: int
    files_removed: int


def maintain(settings: Settings | None = None, grace: timedelta = GRACE) -> Maintained:
    """Expire snapshots, merge and rewrite data files, remove what has been unused for `grace`.

    A writer: no other may write meanwhile. Running it again changes nothing more.
    """
    settings = settings or get_settings()
    now = datetime.now(UTC)
    with connect(settings=settings) as con:
        before = _files_in_use(con)
        expired = _expire(con, settings, now - timedelta(days=settings.snapshot_retention_days))
        for schema, table in _tables(con):
            con.execute(
                "call ducklake_rewrite_data_files(?, ?, schema => ?, delete_threshold => ?)",
                [CATALOG, table, schema, REWRITE_FROM],
            )
            con.execute(
                "call ducklake_merge_adjacent_files(?, ?, schema => ?)", [CATALOG, table, schema]
            )
        removed = 0
        for clean in ("ducklake_cleanup_old_files", "ducklake_delete_orphaned_files"):
            removed += len(
                con.execute(f"call {clean}(?, older_than => ?)", [CATALOG, now - grace]).fetchall()
            )
        return Maintained(expired, before, _files_in_use(con), removed)


def _expire(con: duckdb.DuckDBPyConnection, settings: Settings, before: datetime) -> int:
    """Expire snapshots of before `before` that nothing needs; returns how many."""
    kept, first_kept = _needed_snapshots(con, settings)
    versions = [
        version
        for (version,) in con.execute(
            "select snapshot_id from ducklake_snapshots(?) where snapshot_time < ? "
            "and snapshot_id < coalesce(?, snapshot_id + 1) "
            "and snapshot_id < (select max(snapshot_id) from ducklake_snapshots(?))",
            [CATALOG, before, first_kept, CATALOG],
        ).fetchall()
        if version not in kept
    ]
    if versions:
        con.execute("call ducklake_expire_snapshots(?, versions => ?)", [CATALOG, versions])
    return len(versions)


def _needed_snapshots(
    con: duckdb.DuckDBPyConnection, settings: Settings
) -> tuple[set[int], int | None]:
    """Snapshots that model manifests name, and the first from which on none may be missing.

    Publishing reads what changed since the snapshot that it published last, and data tests what was
    written since the one on which they passed.
    """
    models = [
        json.loads(path.read_text()).get("snapshot")
        for path in settings.models_dir.glob("*/*/manifest.json")
    ]
    worked_through: list[int] = [
        json.loads(path.read_text())["snapshot"]
        for path in settings.features_dir.glob("*/manifest.json")
    ]
    if (tested := watermark(con, TESTED)) >= 0:
        worked_through.append(tested)
    return {one for one in models if isinstance(one, int)}, min(worked_through, default=None)


def _tables(con: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Schema and name of the tables whose files are DuckLake's own."""
    return con.execute(
        "select schema_name, table_name from duckdb_tables() "
        "where database_name = ? and schema_name <> 'raw' order by all",
        [CATALOG],
    ).fetchall()


def _files_in_use(con: duckdb.DuckDBPyConnection) -> int:
    row = con.execute(
        "select coalesce(sum(file_count + delete_file_count), 0)::bigint "
        "from ducklake_table_info(?)",
        [CATALOG],
    ).fetchone()
    assert row is not None
    return int(row[0])
