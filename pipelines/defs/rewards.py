"""The rewards accrual: decisions, journal, postings, lots and balances."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from pipelines.defs.common import (
    DAILY_FRESHNESS,
    OWNERS,
    POOL,
    RETRIES,
    daily_bars,
    markdown_table,
    table_metadata,
)
from pipelines.settings import get_settings
from pipelines.warehouse import connect, transaction

TABLES = {
    "decisions": "One row per posted event and rule: why these points, the zero ones too.",
    "superseded_decisions": "One row per decision that a late or corrected event replaced.",
    "journal": "One row per journal entry, chained by hash to the one before.",
    "postings": "One row per leg of a journal entry; debits equal credits per asset.",
    "lots_issued": "One row per lot as it was issued.",
    "lot_consumption": "One row per entry and lot that it took points from.",
    "lots": "One row per lot of points that was issued together and expires together.",
    "balances": "One row per account and program.",
}


@dg.asset(
    key=["rewards", "programs"],
    group_name="rewards",
    owners=OWNERS,
    kinds={"yaml", "duckdb"},
    pool=POOL,
    description="One row per version of a program's terms, as published in the programs folder; a "
    "version that was used is never changed.",
)
def programs() -> dg.MaterializeResult:
    from pipelines.rewards.tables import ensure_tables, publish_programs
    from pipelines.rewards.terms import load_programs

    with connect() as con, transaction(con):
        ensure_tables(con)
        publish_programs(con, load_programs(get_settings().programs))
        return dg.MaterializeResult(metadata=table_metadata(con, "rewards.programs"))


class AccrualConfig(dg.Config):
    """Last known day to accrue, ISO date; None: everything that has arrived."""

    through: str | None = None


@dg.multi_asset(
    name="rewards_ledger",
    specs=[
        dg.AssetSpec(
            ["rewards", name],
            deps=[
                dg.AssetKey(["rewards", "programs"]),
                *(
                    dg.AssetKey(["marts", name])
                    for name in (
                        "fct_earning_events",
                        "fct_reward_events",
                        "fct_payments",
                        "fct_statements",
                        "dim_accounts",
                    )
                ),
            ],
            group_name="rewards",
            owners=OWNERS,
            kinds={"python", "duckdb"},
            description=description,
            freshness_policy=DAILY_FRESHNESS,
        )
        for name, description in TABLES.items()
    ],
    pool=POOL,
    retry_policy=RETRIES,
)
def rewards_ledger(config: AccrualConfig) -> Iterator[dg.MaterializeResult]:
    from pipelines.rewards.accrual import accrue
    from pipelines.rewards.archive import archive_seals
    from pipelines.rewards.explanation import example

    accrue(date.fromisoformat(config.through) if config.through else None)
    archive_seals()
    with connect(read_only=True) as con:
        points = con.execute(
            "select effective_on, sum(points)::bigint as points from rewards.decisions "
            "group by effective_on order by effective_on"
        ).pl()
        reasons = con.execute(
            "select program_id, coalesce(zero_reason, 'earned') as outcome, count(*) as decisions, "
            "sum(points)::bigint as points from rewards.decisions group by all order by all"
        ).pl()
        for name in TABLES:
            metadata = table_metadata(con, f"rewards.{name}")
            if name == "decisions" and points.height:
                metadata["points_by_day"] = daily_bars(
                    points, "effective_on", "points", "Points accrued by effective day"
                )
                metadata["outcomes"] = markdown_table(reasons)
                metadata["why_these_points"] = dg.MetadataValue.md(f"```\n{example(con)}\n```")
            yield dg.MaterializeResult(asset_key=["rewards", name], metadata=metadata)


@dg.asset_check(
    asset=["rewards", "postings"],
    blocking=True,
    pool=POOL,
    description="Debits equal credits in every journal entry, lots add up to the balances, and of "
    "what was sealed since this check last passed, the hash chain, the seals and the files hold.",
)
def ledger_balances() -> dg.AssetCheckResult:
    from pipelines.rewards.verification import verify_new_seals

    results = verify_new_seals()
    return dg.AssetCheckResult(
        passed=all(result.ok for result in results),
        metadata={result.name: result.detail for result in results},
    )


@dg.asset_check(
    asset=["rewards", "decisions"],
    blocking=True,
    description="Every posted event of a known program has a decision.",
)
def every_posted_event_is_decided() -> dg.AssetCheckResult:
    with connect(read_only=True) as con:
        row = con.execute(
            "select count(*) from marts.fct_earning_events as event "
            "where program_id in (select program_id from rewards.programs) "
            "and not exists (select 1 from rewards.decisions as decision "
            "where decision.event_id = event.event_id)"
        ).fetchone()
    undecided = int(row[0]) if row else 0
    return dg.AssetCheckResult(passed=undecided == 0, metadata={"undecided_events": undecided})
