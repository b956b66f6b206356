"""One run from landing to the online store in this process, timed by stage: JSON on stdout.

A stage's `work` is what its steps took by Dagster's own record (of dbt: what its models and tests
took by dbt's); the rest of its seconds is orchestration. `processor` is the seconds of processor of
this process and its children, which other work on the machine changes less.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dagster as dg

JOBS = ("landing_ingest", "curated_tables_build", "features_publish")


def timed_run() -> dict[str, Any]:
    """Seconds of imports and of each job on this home, and the slowest of dbt's nodes."""
    started = time.perf_counter()
    from pipelines import definitions, run
    from pipelines.ingestion.load import pending
    from pipelines.instance import dagster_instance
    from pipelines.settings import get_settings

    definitions.defs()
    figures: dict[str, Any] = {"imports": time.perf_counter() - started, "stages": {}}
    settings = get_settings()
    with dagster_instance() as instance:
        runner = run._Runner(instance, run.RunSummary())
        for name in JOBS:
            started, processor = time.perf_counter(), _processor_seconds()
            if name != "landing_ingest":
                runner.job(name)
            elif pending():
                run._ingest(runner, settings.landing_dir, None)
            else:
                continue
            took = time.perf_counter() - started
            figures["stages"][name] = {
                "seconds": took,
                "processor": _processor_seconds() - processor,
                "work": _step_seconds(instance),
            }
            if name == "curated_tables_build":
                nodes = _dbt_nodes(settings.dbt_target_dir)
                figures["stages"][name]["work"] = sum(nodes.values())
                figures["dbt"] = dict(sorted(nodes.items(), key=lambda n: -n[1])[:25])
    return figures


def _processor_seconds() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def _step_seconds(instance: "dg.DagsterInstance") -> float:
    [run] = instance.get_run_records(limit=1)
    steps = instance.get_run_step_stats(run.dagster_run.run_id)
    return sum((step.end_time or 0) - (step.start_time or 0) for step in steps)


def _dbt_nodes(target: Path) -> dict[str, float]:
    """Seconds of each node of the last dbt run in `target`, the dagster-dbt subfolders included."""
    newest = max(target.rglob("run_results.json"), key=lambda path: path.stat().st_mtime)
    results = json.loads(newest.read_text())["results"]
    return {result["unique_id"]: result["execution_time"] for result in results}


if __name__ == "__main__":
    json.dump(timed_run(), sys.stdout)
