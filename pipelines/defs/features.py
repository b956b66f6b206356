"""Features on their way to Feast: published for training, materialised for serving."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from pipelines.defs.common import DAILY_FRESHNESS, OWNERS, RETRIES, markdown_table
from pipelines.training_frames import next_day
from pipelines.warehouse import connect, data_clock

VIEWS = (
    "card_velocity_features",
    "card_recent_features",
    "account_recent_features",
    "merchant_recent_features",
    "device_recent_features",
    "ip_recent_features",
    "card_state_features",
    "account_contact_features",
    "account_limit_features",
    "account_redemption_features",
    "account_amount_features",
    "account_history_features",
    "account_mcc_features",
    "account_merchant_features",
    "merchant_risk_features",
    "mcc_risk_features",
    "device_risk_features",
    "ip_risk_features",
    "pull_bureau_features",
    "pull_application_features",
    "customer_application_features",
    "account_payment_features",
)
OFFLINE = dg.AssetKey(["features", "offline_store"])
ONLINE = dg.AssetKey(["features", "online_store"])
PARITY = dg.AssetKey(["features", "parity"])
ONLINE_POOL = "online_store"
ONLINE_EQUALS_OFFLINE = "online_equals_offline"
WHEN_NEW = dg.AutomationCondition.eager()
"""For the sensor `feature_automation_sensor`: when what an asset is made of has changed."""


class MaterializeConfig(dg.Config):
    """Features are published and served as of `through` (ISO); None: the end of the last batch
    date."""

    through: str | None = None

    def moment(self) -> datetime | None:
        if self.through is not None:
            return datetime.fromisoformat(self.through)
        with connect(read_only=True) as con:
            clock = data_clock(con)
        # Windows are counted up to the midnights between days.
        return None if clock is None else next_day(clock)


@dg.asset(
    key=OFFLINE,
    deps=[dg.AssetKey(["features", view]) for view in VIEWS],
    group_name="features",
    owners=OWNERS,
    kinds={"feast", "parquet"},
    retry_policy=RETRIES,
    pool=ONLINE_POOL,
    automation_condition=WHEN_NEW,
    freshness_policy=DAILY_FRESHNESS,
    description="One Parquet file per feature view and day, and per month of what is older, for "
    "Feast's point-in-time retrieval. Only those that changed are written.",
)
def offline_store(config: MaterializeConfig) -> dg.MaterializeResult:
    from pipelines.features.publish import publish
    from pipelines.features.registry import apply

    apply()
    published = publish(through=config.moment())
    return dg.MaterializeResult(
        metadata=_metadata(
            [{"view": p.view, "rows": p.rows, "written": len(p.written)} for p in published],
            "rows",
        )
    )


@dg.asset(
    key=ONLINE,
    deps=[OFFLINE],
    group_name="features",
    owners=OWNERS,
    kinds={"feast"},
    retry_policy=RETRIES,
    pool=ONLINE_POOL,
    automation_condition=WHEN_NEW,
    freshness_policy=DAILY_FRESHNESS,
    description="One row per entity and feature view: the newest that is known, never replaced by "
    "an older one.",
)
def online_store(config: MaterializeConfig) -> dg.MaterializeResult:
    from pipelines.features.materialize import materialize

    done = materialize(end=config.moment())
    return dg.MaterializeResult(
        metadata=_metadata(
            [
                {"view": m.view, "entities": m.rows, "written": m.written,
                 "known_through": m.known_through}
                for m in done
            ],
            "entities",
        )
    )  # fmt: skip


def _metadata(rows: Sequence[dict[str, Any]], counted: str) -> dict[str, Any]:
    import polars as pl

    return {
        "dagster/row_count": sum(int(row[counted]) for row in rows),
        "views": markdown_table(pl.DataFrame(rows)),
    }


class ParityConfig(dg.Config):
    """How many entities of every view are compared."""

    sample: int = 100


@dg.asset(
    key=PARITY,
    deps=[ONLINE],
    group_name="features",
    owners=OWNERS,
    kinds={"feast", "html"},
    retry_policy=RETRIES,
    pool=ONLINE_POOL,
    automation_condition=WHEN_NEW,
    freshness_policy=DAILY_FRESHNESS,
    check_specs=[
        dg.AssetCheckSpec(
            ONLINE_EQUALS_OFFLINE,
            asset=PARITY,
            description="For a sample of entities every online feature equals the point-in-time "
            "one.",
        )
    ],
    description="Online and point-in-time values side by side, for a sample of entities that is "
    "another one each day; the page tells what differs and why.",
)
def parity_page(config: ParityConfig) -> dg.MaterializeResult:
    from pipelines.features.parity import compare
    from pipelines.features.parity_page import write_page
    from pipelines.settings import get_settings

    now = datetime.now(UTC).replace(tzinfo=None)
    comparison = compare(config.sample, seed=now.toordinal())
    page = write_page(get_settings(), comparison, now)
    mismatches = comparison.mismatches
    return dg.MaterializeResult(
        metadata={
            "page": dg.MetadataValue.path(str(page)),
            "mismatches": mismatches.height,
            "compared": markdown_table(comparison.compared),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=ONLINE_EQUALS_OFFLINE,
                passed=mismatches.is_empty(),
                metadata={
                    "mismatches": mismatches.height,
                    "page": dg.MetadataValue.path(str(page)),
                    "sample": markdown_table(mismatches.head(10)),
                },
            )
        ],
    )
