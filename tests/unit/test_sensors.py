"""When Dagster is asked to start something."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from pipelines.defs.jobs import finance_packs_build_schedule
from pipelines.defs.landing import IngestConfig, deliveries
from pipelines.defs.sensors import landing_arrival_sensor
from pipelines.errors import CardlineError


@pytest.mark.parametrize(
    ("tick", "month"), [((2026, 3, 2), "2026-02-01"), ((2026, 1, 2), "2025-12-01")]
)
def test_packs_are_built_of_the_month_that_is_over(tick: tuple[int, int, int], month: str) -> None:
    context = dg.build_schedule_context(scheduled_execution_time=datetime(*tick, 6, tzinfo=UTC))
    request = finance_packs_build_schedule(context)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == month


def test_files_that_an_ended_run_left_are_asked_for_again_a_few_times(home: Path) -> None:
    batch = home / "landing" / "payments" / "2026-03-01"
    batch.mkdir(parents=True)
    (batch / "payments.csv").write_text("payment_id")
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance)

        def asked() -> dg.RunRequest:
            [request] = landing_arrival_sensor(context)  # pyright: ignore[reportGeneralTypeIssues]
            assert isinstance(request, dg.RunRequest)
            return request

        def ended(status: dg.DagsterRunStatus) -> None:
            instance.add_run(
                dg.DagsterRun(job_name="landing_ingest", tags=dict(asked().tags), status=status)
            )

        first = asked()
        assert asked().run_key == first.run_key
        ended(dg.DagsterRunStatus.STARTED)
        assert asked().run_key == first.run_key
        ended(dg.DagsterRunStatus.FAILURE)
        assert asked().run_key != first.run_key
        ended(dg.DagsterRunStatus.CANCELED)
        ended(dg.DagsterRunStatus.FAILURE)
        skipped = landing_arrival_sensor(context)
        assert isinstance(skipped, dg.SkipReason)
        assert "2026-03-01" in str(skipped.skip_message)
        (batch / "more.csv").write_text("payment_id")
        assert asked().run_key != first.run_key


def test_a_run_for_no_partition_is_told_what_it_lacks() -> None:
    with pytest.raises(CardlineError, match="landing/deliveries is made by batch date"):
        deliveries(dg.build_asset_context(), IngestConfig())
