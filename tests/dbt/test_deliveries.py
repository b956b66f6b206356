"""From landing files to marts: re-delivery adds nothing, trailers and columns decide, and what a
world's statements and disputes say is what posted (ING-1…3, TXN-2, TXN-3)."""

import json
import os
import random
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.contracts import FEEDS
from pipelines.ingestion.load import ingest
from pipelines.sources.world import generate
from pipelines.warehouse import connect
from tests.dbt.lake_builds import build, tables

SEED = int(os.environ.get("CARDLINE_TEST_SEED", "7"))
WHOLE = ("--exclude", "path:models/finance")
DAILY = (*WHOLE, "path:models/staging", "config.materialized:view")
LAYERS = ("intermediate", "marts", "features", "risk")


def _load_no() -> int:
    with connect(read_only=True) as con:
        row = con.execute("select max(load_no) from landing.files").fetchone()
    assert row is not None
    return int(row[0])


def _tables() -> dict[str, list[tuple[Any, ...]]]:
    found = tables(*LAYERS)
    del found["intermediate.int_entities__touched"]
    return found


def _query(query: str) -> list[tuple[Any, ...]]:
    with connect(read_only=True) as con:
        return con.execute(query).fetchall()


@pytest.fixture(scope="module")
def landing(home: Path) -> Path:
    """The landing folder of a small world that has been taken in and built."""
    generate(home / "landing", 14, 200, SEED)
    ingest()
    build(*WHOLE)
    return home / "landing"


def test_statements_say_what_posted_to_the_cent(landing: Path) -> None:
    compared = _query("select count(*), count(distinct account_id) from marts.fct_statements")
    assert compared[0][0] > 40
    build(
        "--select", "assert_statement_identity", "assert_statements_say_what_posted",
        "assert_posted_messages_add_up", "assert_dispute_liability_identity", command="test",
    )  # fmt: skip
    broken = _query(
        "select statement_id from intermediate.int_statements__compared where "
        "purchases_minor <> posted_purchases_minor or fees_minor <> posted_fees_minor "
        "or cash_advances_minor <> posted_cash_advances_minor "
        "or balance_transfers_minor <> posted_balance_transfers_minor "
        "or interest_minor <> posted_interest_minor or credits_minor <> posted_credits_minor"
    )
    assert broken == []


def test_nothing_that_settled_is_held(landing: Path) -> None:
    """A purchase that cleared in full holds nothing; a hold never outlives its expiry."""
    held = _query(
        "select status, count(*) from intermediate.int_transactions__held "
        "where status in ('DECLINED', 'EXPIRED', 'VOIDED') and hold_minor > 0 group by all"
    )
    assert held == []
    statuses = {status for (status,) in _query(
        "select distinct status from intermediate.int_transactions__held")}  # fmt: skip
    assert statuses >= {"SETTLED", "DECLINED", "PENDING", "VOIDED"}


def test_delivering_files_again_whole_or_split_changes_no_table(landing: Path) -> None:
    before = _tables()
    rng = random.Random(SEED)
    for feed in sorted(path.name for path in landing.iterdir()):
        files = sorted((landing / feed).glob("*/*.parquet"))
        for path in rng.sample(files, min(3, len(files))):
            day = date.fromisoformat(path.parent.name) + timedelta(days=rng.randrange(0, 30))
            folder = landing / feed / day.isoformat()
            folder.mkdir(exist_ok=True)
            if rng.random() < 0.3:
                shutil.copyfile(path, folder / f"whole-{path.parent.name}-{path.name}")
                continue
            rows = pl.read_parquet(path)
            if "received_at" not in FEEDS[feed].column_names and rng.random() < 0.5:
                # Then the file's known time counts, which is a later one.
                rows = rows.drop("received_at")
            cut = rng.randrange(rows.height + 1)
            for part, piece in enumerate((rows[:cut], rows[cut:])):
                if piece.height:
                    name = f"split-{path.parent.name}-{part}"
                    if rng.random() < 0.5:
                        piece.write_csv(
                            folder / f"{name}.csv", datetime_format="%Y-%m-%dT%H:%M:%S%.6f"
                        )
                    else:
                        piece.write_parquet(folder / f"{name}.parquet")
    load_no = _load_no()
    summary = ingest()
    assert (summary.files_quarantined, summary.rows_quarantined) == (0, {})
    assert sum(summary.rows.values()) > 100
    build(*DAILY, from_load_no=load_no)
    after = _tables()
    changed = {name: (len(rows), len(after[name])) for name, rows in before.items()
               if rows != after[name]}  # fmt: skip
    assert not changed


@pytest.mark.parametrize("feed", [name for name, feed in FEEDS.items() if feed.has_control_totals])
def test_a_trailer_off_by_a_cent_posts_nothing(landing: Path, feed: str) -> None:
    """ING-2: the file waits whole, whichever way and on whichever side the cent is missing."""
    counted = f"select count(*) from raw.{feed}"
    before = _query(counted)
    path = max((landing / feed).glob("*/part-0.parquet"))
    rows = pl.read_parquet(path)
    rows = rows.with_columns(pl.col(FEEDS[feed].key[0]) + "new")
    for direction in ("DEBIT", "CREDIT"):
        total = int(rows.filter(pl.col("direction") == direction)["amount_minor"].sum())
        for cent in (-1, 1):
            name = f"trailer-{direction}{cent}.parquet"
            target = path.with_name(name)
            rows.with_columns(mark=pl.lit(name)).write_parquet(target)
            totals = {"amount_minor": {direction: total + cent}}
            manifest = {"rows": rows.height, "control_totals": totals}
            target.with_name(f"{name}.manifest.json").write_text(json.dumps(manifest))
    summary = ingest()
    assert (summary.files_loaded, summary.files_quarantined) == (0, 4)
    assert _query(counted) == before
    reasons = _query(
        f"select reason from quarantine.files where feed = '{feed}' "
        "and path like '%trailer-%' order by all"
    )
    assert len(reasons) == 4
    assert all(reason.startswith("control total amount_minor of ") for (reason,) in reasons)


@pytest.mark.parametrize("feed", list(FEEDS))
def test_columns_may_be_added_and_required_ones_never_missing(landing: Path, feed: str) -> None:
    """ING-3, for every feed and each of its required columns."""
    contract = FEEDS[feed]
    paths = list((landing / feed).glob("*/part-0.parquet"))
    if not paths:
        rows = pl.DataFrame(schema=contract.polars_schema())
    else:
        rows = pl.read_parquet(max(paths))[:3]
        rows = rows.with_columns(pl.col(contract.key[0]) + "more")
    folder = landing / feed / "2026-10-31"
    folder.mkdir(parents=True, exist_ok=True)
    rows.with_columns(appended_later=pl.lit("x")).write_parquet(folder / "wider.parquet")
    for name in contract.required_columns:
        rows.drop(name).write_parquet(folder / f"without-{name}.parquet")
    summary = ingest()
    assert (summary.files_loaded, summary.files_quarantined) == (
        1, len(contract.required_columns),
    )  # fmt: skip
    assert summary.rows.get(feed, 0) == rows.height
    reasons = {reason for (reason,) in _query(
        f"select reason from quarantine.files where feed = '{feed}' and path like '%without-%'"
    )}  # fmt: skip
    assert reasons == {f"required column missing: {name}" for name in contract.required_columns}
    kept = _query(f"select count(*) from raw.{feed} where extra like '%appended_later%'")
    assert kept == [(rows.height,)]
