"""The code location: assembles what `pipelines/defs/` holds."""

import os

import dagster as dg

from pipelines.defs import features, finance, jobs, landing, models, rewards, sensors, transform
from pipelines.settings import get_settings
from pipelines.transform import DBT_DIR, DBT_EXECUTABLE, dbt_environment

os.environ.update(dbt_environment())


@dg.definitions
def defs() -> dg.Definitions:
    """Every asset, check, job, schedule and sensor of Cardline."""
    get_settings().dbt_target_dir.mkdir(parents=True, exist_ok=True)
    return dg.Definitions(
        assets=[
            landing.deliveries,
            landing.raw_tables,
            transform.curated_tables,
            features.offline_store,
            features.online_store,
            features.parity_page,
            rewards.programs,
            rewards.rewards_ledger,
            transform.finance_tables,
            finance.period_log,
            finance.closed_invoice_lines,
            finance.partner_rate_cards,
            finance.reconciliations,
            finance.packs,
            models.underwriting,
            models.fraud,
            *models.SCORING,
        ],
        asset_checks=[
            landing.no_file_waits,
            landing.deliveries_are_in_order,
            landing.volume_is_usual,
            rewards.ledger_balances,
            rewards.every_posted_event_is_decided,
            finance.no_breaks,
            models.underwriting_is_as_expected,
        ],
        jobs=jobs.JOBS,
        schedules=jobs.SCHEDULES,
        sensors=[*sensors.SENSORS, jobs.feature_automation_sensor],
        resources={
            "dbt": transform.DbtResource(
                project_dir=str(DBT_DIR),
                profiles_dir=str(DBT_DIR),
                dbt_executable=str(DBT_EXECUTABLE),
            )
        },
        executor=dg.in_process_executor,
    )
