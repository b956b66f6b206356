"""What finance may read: its tables as files beside the packs, and nothing that tells of a person.

`<reports>/tables/<table>.parquet`, a file a table. Whoever may read the reports folder and nothing
else of the home has the finance role: packs and these tables (`docs/finance.md`). What refers to
an account, a transaction or an event stays in the warehouse.
"""

from pathlib import Path

import duckdb

from pipelines.files import written_aside
from pipelines.settings import Settings, get_settings
from pipelines.warehouse import connect, transaction

PUBLISHED: dict[str, tuple[str, ...]] = {
    "periods": (),
    "period_log": (),
    "liability_rollforward": (),
    "liability_by_funding": (),
    "prior_period_lines": (),
    "redemption_cohorts": (),
    "gl_entries": (),
    "settlement_entries": (),
    "interchange_summary": (),
    "partner_invoice_lines": (),
    "partner_rate_cards": (),
    "reconciliations": (),
    "exceptions": (
        "exception_id", "left_ref", "right_ref", "detail", "evidence_ref", "journal_id",
    ),
}  # fmt: skip
"""Tables of the schema `finance`, each with the columns that stay in the warehouse."""


def tables_folder(settings: Settings) -> Path:
    """Where the published tables are."""
    return settings.reports_dir / "tables"


def publish_tables(settings: Settings | None = None) -> dict[str, Path]:
    """Write every table of `PUBLISHED` that exists, all as of one state; returns their files.

    Rows are in a fixed order, so that the same table is the same file.
    """
    settings = settings or get_settings()
    folder = tables_folder(settings)
    files = {}
    with connect(read_only=True, settings=settings) as con, transaction(con):
        for table, withheld in PUBLISHED.items():
            columns = _columns(con, table)
            told = [name for name in columns if name not in withheld]
            if not told:
                continue
            listed = ", ".join(f'"{name}"' for name in told)
            frame = con.execute(
                f"select {listed} from finance.{table} order by all"  # noqa: S608
            ).pl()
            path = folder / f"{table}.parquet"
            with written_aside(path) as aside:
                frame.write_parquet(aside)
            files[table] = path
    return files


def _columns(con: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    return [
        name
        for (name,) in con.execute(
            "select column_name from information_schema.columns "
            "where table_catalog = current_catalog() and table_schema = 'finance' "
            "and table_name = ? order by ordinal_position",
            [table],
        ).fetchall()
    ]
