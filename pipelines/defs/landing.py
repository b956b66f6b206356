"""From delivered files to the raw tables."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg

from pipelines.contracts import FEEDS
from pipelines.defs.common import (
    DAILY_FRESHNESS,
    OWNERS,
    POOL,
    RETRIES,
    daily_bars,
    daily_findings,
    markdown_table,
    require_partition,
    table_metadata,
)
from pipelines.findings import fresh_findings
from pipelines.ingestion.arrivals import findings_by_day, freshness, unusual_volumes
from pipelines.ingestion.load import ingest
from pipelines.partitions import daily
from pipelines.transform import WATERMARK
from pipelines.warehouse import connect, files_waiting, watermark

DELIVERIES = dg.AssetKey(["landing", "deliveries"])


_SHOWN_FINDINGS = 20


class IngestConfig(dg.Config):
    """Which landing folder to take in."""

    landing: str | None = None


@dg.asset(
    key=DELIVERIES,
    group_name="landing",
    owners=OWNERS,
    kinds={"parquet", "polars"},
    partitions_def=daily,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool=POOL,
    retry_policy=RETRIES,
    freshness_policy=DAILY_FRESHNESS,
    description="One partition per batch date: its delivered files, checked against manifest and "
    "contract; good rows go to the raw tables, bad rows and files to quarantine. Taking the same "
    "files in again changes nothing.",
)
def deliveries(context: dg.AssetExecutionContext, config: IngestConfig) -> dg.MaterializeResult:
    require_partition(context, "batch date")
    days = context.partition_key_range
    summary = ingest(
        landing=Path(config.landing) if config.landing else None,
        since=_as_day(days.start),
        through=_as_day(days.end),
    )
    with connect(read_only=True) as con:
        waiting = con.execute(
            "select feed, batch_date, reason, path from quarantine.files "
            "order by load_no desc, feed limit 10"
        ).pl()
        reasons = con.execute(
            "select feed, reason, count(*) as rows from quarantine.rows "
            "group by all order by rows desc limit 10"
        ).pl()
        found = findings_by_day(con)
        fresh = freshness(con, datetime.now(UTC).date())
    plots = {}
    if found.height:
        plots["findings_by_day"] = daily_findings(found, "What was found wrong, by batch date")
    return dg.MaterializeResult(
        metadata={
            **plots,
            "freshness": markdown_table(fresh),
            "files_loaded": summary.files_loaded,
            "files_quarantined": summary.files_quarantined,
            "files_duplicate": summary.files_duplicate,
            "dagster/row_count": sum(summary.rows.values()),
            "rows_by_feed": dg.MetadataValue.json(summary.rows),
            "rows_quarantined": sum(summary.rows_quarantined.values()),
            "quarantined_files": markdown_table(waiting),
            "quarantined_rows": markdown_table(reasons),
        }
    )


def _as_day(key: str) -> date:
    return date.fromisoformat(key)


@dg.asset_check(
    asset=DELIVERIES,
    description="No file waits in quarantine.",
)
def no_file_waits() -> dg.AssetCheckResult:
    with connect(read_only=True) as con:
        waiting = files_waiting(con)
    return dg.AssetCheckResult(
        passed=waiting == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"files_waiting": waiting},
    )


@dg.asset_check(
    asset=DELIVERIES,
    description="No file is missing in a sequence, none came late; the last ingest corrected no "
    "event and brought no key that leads nowhere. `landing.findings` has those of all ingests.",
)
def deliveries_are_in_order() -> dg.AssetCheckResult:
    with connect(read_only=True) as con:
        found = (
            con.sql(fresh_findings())
            .filter("kind in ('FILE_MISSING', 'FILE_LATE', 'CORRECTION', 'ORPHAN_KEY')")
            .aggregate(
                "kind as finding, feed, batch_date, count(*) as found, any_value(detail) as example"
            )
            .order("found desc, finding, feed, batch_date")
            .pl()
        )
    plots = {}
    if found.height:
        plots["by_day"] = daily_findings(found.drop("example"), "Out of order, by batch date")
    return dg.AssetCheckResult(
        passed=found.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            **plots,
            "findings": int(found["found"].sum()),
            "by_kind": markdown_table(found.head(_SHOWN_FINDINGS)),
        },
    )


@dg.asset_check(
    asset=DELIVERIES,
    description="No feed sent far more or fewer rows than is usual for it on that weekday.",
)
def volume_is_usual() -> dg.AssetCheckResult:
    with connect(read_only=True) as con:
        unusual = unusual_volumes(con)
    return dg.AssetCheckResult(
        passed=unusual.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"unusual": unusual.height, "days": markdown_table(unusual.head(20))},
    )


@dg.multi_asset(
    name="raw_tables",
    specs=[
        dg.AssetSpec(
            ["raw", feed.name],
            deps=[DELIVERIES],
            group_name="raw",
            owners=OWNERS,
            kinds={"duckdb", "parquet"},
            description=f"{feed.description} Accepted rows as they came, typed, with file, line, "
            "content hash, batch date and known time.",
            freshness_policy=DAILY_FRESHNESS,
        )
        for feed in FEEDS.values()
    ],
    can_subset=True,
)
def raw_tables(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
    with connect(read_only=True) as con:
        by_day = con.execute(
            "select feed, batch_date, sum(rows)::bigint as rows, max(load_no) as load_no "
            "from landing.files where state = 'LOADED' group by all order by all"
        ).pl()
        worked_through = watermark(con, WATERMARK)
        quarantined = dict(
            con.execute("select feed, count(*) from quarantine.rows group by feed").fetchall()
        )
        for feed in FEEDS.values():
            key = dg.AssetKey(["raw", feed.name])
            if key not in context.selected_asset_keys:
                continue
            metadata = table_metadata(con, f"raw.{feed.name}", is_personal=True)
            metadata["rows_quarantined"] = quarantined.get(feed.name, 0)
            days = by_day.filter(by_day["feed"] == feed.name)
            # A picture takes as long as everything else here: only where there is news to show.
            if days.filter(days["load_no"] > worked_through).height:
                metadata["rows_by_batch_date"] = daily_bars(
                    days, "batch_date", "rows", f"{feed.name}: accepted rows by batch date"
                )
            yield dg.MaterializeResult(asset_key=key, metadata=metadata)
