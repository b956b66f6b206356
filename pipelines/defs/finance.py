"""What finance reads: reconciliations and report packs; the finance tables are dbt's."""

import dagster as dg
from pydantic import Field

from pipelines.defs.common import (
    MONTHLY_FRESHNESS,
    OWNERS,
    POOL,
    RETRIES,
    markdown_table,
    require_partition,
)
from pipelines.partitions import monthly, period_of

period_log = dg.AssetSpec(
    ["finance", "period_log"],
    group_name="finance",
    owners=OWNERS,
    kinds={"duckdb"},
    description="One row per step of a program's month: soft-closed, closed, reopened; by whom, as "
    "of what, chained by hash. `cardline close` and the job month_end_close append to it.",
)
closed_invoice_lines = dg.AssetSpec(
    ["finance", "closed_invoice_lines"],
    group_name="finance",
    owners=OWNERS,
    kinds={"duckdb"},
    description="One row per closed period and line of the rate card, as it was billed.",
)


@dg.asset(
    key=["finance", "partner_rate_cards"],
    group_name="finance",
    owners=OWNERS,
    kinds={"yaml", "duckdb"},
    pool=POOL,
    retry_policy=RETRIES,
    description="One row per version, component and tier of the partners' rate cards; a version "
    "that a closed month was billed by is never changed.",
)
def partner_rate_cards() -> dg.MaterializeResult:
    from pipelines.finance.rate_cards import publish_rate_cards

    rows = publish_rate_cards()
    return dg.MaterializeResult(
        metadata={"dagster/row_count": rows.height, "rate_cards": markdown_table(rows)}
    )


RECONCILIATIONS = dg.AssetKey(["finance", "reconciliations"])
PACKS = dg.AssetKey(["finance", "packs"])


@dg.asset(
    key=RECONCILIATIONS,
    deps=[
        dg.AssetKey(["rewards", "balances"]),
        dg.AssetKey(["marts", "fct_statements"]),
        dg.AssetKey(["finance", "liability_rollforward"]),
        dg.AssetKey(["finance", "settlement_entries"]),
    ],
    group_name="finance",
    owners=OWNERS,
    kinds={"python", "duckdb"},
    pool=POOL,
    retry_policy=RETRIES,
    freshness_policy=MONTHLY_FRESHNESS,
    description="One row per reconciliation and business day: left and right counts and sums, and "
    "the breaks between them.",
)
def reconciliations() -> dg.MaterializeResult:
    from pipelines.finance.reconciliation import reconcile

    summary = reconcile()
    return dg.MaterializeResult(
        metadata={"dagster/row_count": summary.height, "reconciliations": markdown_table(summary)}
    )


@dg.asset_check(asset=RECONCILIATIONS, description="No reconciliation has an open break.")
def no_breaks() -> dg.AssetCheckResult:
    from pipelines.finance.reconciliation import open_breaks

    breaks = open_breaks()
    return dg.AssetCheckResult(
        passed=breaks.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"breaks": breaks.height, "first": markdown_table(breaks.head(10))},
    )


class PackConfig(dg.Config):
    """Programs to report on; none: every program with movements in the period."""

    programs: list[str] = Field(default_factory=list)


@dg.asset(
    key=PACKS,
    deps=[RECONCILIATIONS, dg.AssetKey(["finance", "gl_entries"])],
    group_name="finance",
    owners=OWNERS,
    kinds={"python", "excel"},
    partitions_def=monthly,
    retry_policy=RETRIES,
    freshness_policy=MONTHLY_FRESHNESS,
    description="One pack per program and period: HTML, XLSX, CSV and a manifest that reproduces "
    "them to the byte.",
)
def packs(context: dg.AssetExecutionContext, config: PackConfig) -> dg.MaterializeResult:
    from pipelines.finance.packs import build_pack, programs_in
    from pipelines.finance.publication import publish_tables
    from pipelines.settings import get_settings

    require_partition(context, "month")
    period = period_of(context.partition_key)
    built = {
        program: str(build_pack(program, period))
        for program in (config.programs or programs_in(period))
    }
    return dg.MaterializeResult(
        metadata={
            "packs": len(built),
            "index": dg.MetadataValue.path(f"{get_settings().reports_dir}/index.html"),
            "tables": len(publish_tables()),
        }
        | {
            program: dg.MetadataValue.path(f"{folder}/report.html")
            for program, folder in built.items()
        }
    )
