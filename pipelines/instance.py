"""The Dagster instance of a home: its settings, and one command at a time."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from pipelines.files import written_aside
from pipelines.progress import console
from pipelines.settings import Settings, get_settings

if TYPE_CHECKING:
    import dagster as dg

COMMAND_TAG = "cardline/command"
"""Marks runs that a command makes inside its own process."""
_COMMAND_ID = "CARDLINE_COMMAND_ID"
INSTANCE_CONFIG = """\
# Written by Cardline at every start; settings of this home's Dagster instance.
telemetry:
  enabled: false
nux:
  enabled: false
event_log_storage:
  module: pipelines.event_log
  class: BatchedEventLog
  config:
    base_dir: {event_logs}
run_monitoring:
  enabled: true
  free_slots_after_run_end_seconds: 60
freshness:
  enabled: true
concurrency:
  pools:
    # One writer at a time (docs/adr/001-warehouse.md).
    default_limit: 1
    granularity: op
  runs:
    max_concurrent_runs: 4
"""


def prepare_home(settings: Settings | None = None) -> None:
    """Make the home's Dagster folder and point this process and its children to it."""
    settings = settings or get_settings()
    settings.dagster_dir.mkdir(parents=True, exist_ok=True)
    config = settings.dagster_dir / "dagster.yaml"
    text = INSTANCE_CONFIG.format(
        # A JSON string is a YAML string, whatever the folder is called.
        event_logs=json.dumps(str(settings.dagster_dir / "history" / "runs"))
    )
    if not config.exists() or config.read_text() != text:
        with written_aside(config) as aside:
            aside.write_text(text)
    os.environ["DAGSTER_HOME"] = str(settings.dagster_dir)
    os.environ["CARDLINE_HOME"] = str(settings.home)
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "1000")


@contextmanager
def dagster_instance() -> Iterator["dg.DagsterInstance"]:
    """The instance that the UI shows: runs made with it are there to look at."""
    prepare_home()
    with _alone(), instance_of_home() as instance:
        _end_killed_runs(instance)
        yield instance


@contextmanager
def instance_of_home() -> Iterator["dg.DagsterInstance"]:
    """The same, for a process at work for one that has the home to itself."""
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        yield instance


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other command runs jobs in this home; the lock goes with its process."""
    path = _lock_path()
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(
                f"another command is at work in {path.parent} (process "
                f"{path.read_text().partition(' ')[0] or 'not known'}): waiting for it to end"
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        _end_leftovers(path.read_text())
        # In what this command starts, however deep, the variable tells whose it is.
        os.environ[_COMMAND_ID] = command = f"{os.getpid()} {uuid4()}"
        file.truncate(0)
        file.write(f"{command}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _end_leftovers(killed: str) -> None:
    """End what a killed command, named as in the lock, started and left at work.

    It would go on to write beside whoever comes next.
    """
    if not killed.strip():
        return
    import psutil

    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(_COMMAND_ID) == killed.strip():
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=10)


def _lock_path() -> Path:
    return get_settings().home / ".run.lock"


def is_at_rest() -> bool:
    """Whether no command runs jobs in this home, and the last one that did came to its end."""
    path = _lock_path()
    return path.exists() and path.stat().st_size == 0


def _end_killed_runs(instance: "dg.DagsterInstance") -> None:
    """Fail runs whose process was killed, and free their pools, which nobody else would.

    Every process that makes such runs holds the lock of `_alone`, so while this one has it, a run
    with our tag that is not finished has no process any more.
    """
    import dagster as dg

    unfinished = dg.RunsFilter(
        tags={COMMAND_TAG: "true"},
        statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING,
                  dg.DagsterRunStatus.NOT_STARTED],
    )  # fmt: skip
    for run in instance.get_runs(unfinished):
        instance.report_run_failed(run, "the process was killed; a later command goes on from here")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
