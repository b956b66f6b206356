"""One named job an intent; schedules, sensors and automation that start them."""

from datetime import timedelta

import dagster as dg

from pipelines.defs import finance, landing, models
from pipelines.defs.closing import month_end_close
from pipelines.defs.features import OFFLINE, ONLINE, PARITY
from pipelines.defs.maintenance import lake_maintenance

DBT_LAYERS = ("staging", "intermediate", "marts", "features")

landing_ingest = dg.define_asset_job(
    "landing_ingest",
    selection=dg.AssetSelection.assets(landing.DELIVERIES),
    description="Take delivered files in: one batch date, or a range of them in one run.",
)
curated_tables_build = dg.define_asset_job(
    "curated_tables_build",
    selection=(
        dg.AssetSelection.groups("raw", *DBT_LAYERS)
        | dg.AssetSelection.assets(["rewards", "programs"])
    )
    - dg.AssetSelection.assets(OFFLINE, ONLINE, PARITY),
    description="Bring staging, intermediate, marts and feature tables up to what was ingested.",
)
features_publish = dg.define_asset_job(
    "features_publish",
    selection=dg.AssetSelection.assets(OFFLINE, ONLINE, PARITY),
    description="Publish features for training, put the newest into the online store and hold both "
    "against each other.",
)
feature_parity = dg.define_asset_job(
    "feature_parity",
    selection=dg.AssetSelection.assets(PARITY),
    description="Hold online features against point-in-time ones, for other entities each day.",
)
rewards_accrual = dg.define_asset_job(
    "rewards_accrual",
    selection=(
        dg.AssetSelection.groups("rewards") - dg.AssetSelection.assets(["rewards", "programs"])
    ),
    description="Decide points for every new posted event and post them to the ledger.",
)
finance_tables_build = dg.define_asset_job(
    "finance_tables_build",
    selection=dg.AssetSelection.groups("finance") - dg.AssetSelection.assets(finance.PACKS),
    description="Bring the finance tables up to the ledger, and reconcile.",
)
finance_packs_build = dg.define_asset_job(
    "finance_packs_build",
    selection=dg.AssetSelection.assets(finance.PACKS),
    description="Build the report packs of one accounting period.",
)
underwriting_retrain = dg.define_asset_job(
    "underwriting_retrain",
    selection=dg.AssetSelection.assets(models.UNDERWRITING),
    description="Train the underwriting model on what is known now and register the version.",
)
fraud_retrain = dg.define_asset_job(
    "fraud_retrain",
    selection=dg.AssetSelection.assets(models.FRAUD),
    description="Train the fraud model on labels known by now and register the version.",
)
scores_refresh = dg.define_asset_job(
    "scores_refresh",
    selection=dg.AssetSelection.assets(
        ["models", "underwriting_scores"], models.MONITORING, ["models", "fraud_scores"]
    ),
    description="Score what has no score of the model in force yet, watch the scores, and rank the "
    "day's alerts.",
)

JOBS = [
    landing_ingest,
    curated_tables_build,
    features_publish,
    feature_parity,
    rewards_accrual,
    finance_tables_build,
    finance_packs_build,
    month_end_close,
    underwriting_retrain,
    fraud_retrain,
    scores_refresh,
    lake_maintenance,
]


@dg.schedule(job=finance_packs_build, cron_schedule="0 6 2 * *", execution_timezone="UTC")
def finance_packs_build_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """On the second of a month, the packs of the month that is over."""
    over = context.scheduled_execution_time.replace(day=1) - timedelta(days=1)
    return dg.RunRequest(partition_key=over.date().replace(day=1).isoformat())


SCHEDULES = [
    *(
        dg.ScheduleDefinition(
            name=f"{job.name}_schedule",
            job=job,
            cron_schedule=cron,
            execution_timezone="UTC",
        )
        for job, cron in (
            (curated_tables_build, "0 4 * * *"),
            (rewards_accrual, "0 5 * * *"),
            (finance_tables_build, "30 5 * * *"),
            (feature_parity, "30 6 * * *"),
            (scores_refresh, "0 6 * * *"),
            (fraud_retrain, "0 7 * * 1"),
            (underwriting_retrain, "0 7 3 * *"),
            (lake_maintenance, "0 2 * * 0"),
        )
    ),
    finance_packs_build_schedule,
]

feature_automation_sensor = dg.AutomationConditionSensorDefinition(
    "feature_automation_sensor",
    target=dg.AssetSelection.assets(OFFLINE, ONLINE, PARITY),
    description="Publishes, serves and compares features when their tables have changed.",
)
