"""Starting work when files arrive, and when a model is not as expected."""

import hashlib
from datetime import date

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)

from pipelines.defs.jobs import (
    curated_tables_build,
    landing_ingest,
    scores_refresh,
    underwriting_retrain,
)
from pipelines.ingestion.load import pending
from pipelines.monitoring import alerts
from pipelines.partitions import ranges_of

_FILES_TAG = "cardline/files"
_ATTEMPTS = 3
_ENDED = [
    dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED
]  # fmt: skip


def range_tags(start: date, end: date) -> dict[str, str]:
    """Tags of a run over a range of partitions, both ends included."""
    return {
        ASSET_PARTITION_RANGE_START_TAG: start.isoformat(),
        ASSET_PARTITION_RANGE_END_TAG: end.isoformat(),
    }


@dg.sensor(
    job=landing_ingest,
    minimum_interval_seconds=60,
    description="Starts ingest of the batch dates whose files are new or changed, in one run where "
    "they lie together; where that fails, up to three times.",
)
def landing_arrival_sensor(
    context: dg.SensorEvaluationContext,
) -> list[dg.RunRequest] | dg.SkipReason:
    waiting = [delivery for delivery in pending() if delivery.problem is None]
    if not waiting:
        return dg.SkipReason("no new file in landing")
    requests, given_up = [], []
    for first, last in ranges_of(delivery.batch_date for delivery in waiting):
        # The key names exactly these files: while they are taken in, no second run is asked for.
        files = [d for d in waiting if first <= d.batch_date <= last]
        named = ";".join(sorted(f"{d.path.name}@{d.fingerprint()}" for d in files))
        key = hashlib.sha256(named.encode()).hexdigest()
        ended = context.instance.get_runs_count(
            dg.RunsFilter(tags={_FILES_TAG: key}, statuses=_ENDED)
        )
        if ended >= _ATTEMPTS:
            given_up.append(f"{first} to {last}")
            continue
        # Dagster starts one run a key, whatever becomes of it.
        requests.append(
            dg.RunRequest(
                run_key=f"{key}:{ended}", tags={_FILES_TAG: key, **range_tags(first, last)}
            )
        )
    if not requests:
        return dg.SkipReason(
            f"ingest of {', '.join(given_up)} has ended {_ATTEMPTS} times with files left: see its "
            "runs, then start `landing_ingest` yourself"
        )
    return requests


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitored_jobs=[landing_ingest],
    request_job=curated_tables_build,
    description="Builds the curated tables when an ingest has ended.",
)
def landing_ingested_sensor(context: dg.RunStatusSensorContext) -> dg.RunRequest:
    return dg.RunRequest(run_key=context.dagster_run.run_id)


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitored_jobs=[scores_refresh],
    request_job=underwriting_retrain,
    description="Trains underwriting anew when the model in use is not as expected, once a month.",
)
def underwriting_drift_sensor() -> dg.RunRequest | dg.SkipReason:
    found = alerts()
    if found.is_empty():
        return dg.SkipReason("the model in use is as expected")
    version, month = found.select("model_version", "month").row(-1)
    # A version that is not replaced after all asks again with the next month that stands out.
    return dg.RunRequest(run_key=f"{version}:{month}")


SENSORS = [landing_arrival_sensor, landing_ingested_sensor, underwriting_drift_sensor]
