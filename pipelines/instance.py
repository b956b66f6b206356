"""The Dagster instance of a home, and running its jobs inside this process."""

import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NoReturn

from pipelines.errors import CardlineError
from pipelines.files import written_aside
from pipelines.progress import console
from pipelines.settings import Settings, get_settings

if TYPE_CHECKING:
    import dagster as dg

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
    import dagster as dg

    prepare_home()
    with _alone(), dg.DagsterInstance.get() as instance:
        _end_killed_runs(instance)
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
                f"{path.read_text().strip() or 'not known'}): waiting for it to end"
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


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


def run_job(
    instance: "dg.DagsterInstance",
    name: str,
    *,
    config: dict[str, Any] | None = None,
    tags: dict[str, str] | None = None,
    partition_key: str | None = None,
) -> None:
    """Run one job of the code location to its end, in this process.

    Raises `CardlineError` with the step that failed and the first line of why; a failed blocking
    check counts as a failure.
    """
    from pipelines.definitions import defs

    job = defs().resolve_job_def(name)
    log = get_settings().home / "logs" / "run.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    execute = partial(
        job.execute_in_process,
        instance=instance,
        run_config={"ops": config or {}, "loggers": _QUIET},
        tags={COMMAND_TAG: "true"} | (tags or {}),
        partition_key=partition_key,
        raise_on_error=False,
    )
    # What dbt prints while it works goes to the log: standard output is the command's own.
    with log.open("a") as file, redirect_stdout(file):
        result = _beside_signals(execute)
    if result.success:
        return
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            error = failure.error
            while error is not None and error.cause is not None:
                error = error.cause
            why = error.message.strip().splitlines()[0] if error is not None else "unknown"
            raise CardlineError(
                f"{name} failed in {event.step_key}: {why} (`cardline ui` shows run "
                f"{result.run_id[:8]}; the next `cardline run` goes on from there)"
            )
    raise CardlineError(f"{name} failed: `cardline ui` shows run {result.run_id[:8]}")


def _beside_signals(work: Callable[[], Any]) -> Any:
    """Do `work` in a thread, so that an interrupt ends the command at once.

    In the main thread Dagster takes the signals for itself, and loses those that come between its
    steps.
    """
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    # While a step runs, Dagster has file descriptor 2 lead to the step's own log.
    said_to = os.dup(2)
    end = partial(_end_at_once, said_to)
    before = {number: signal.signal(number, end) for number in _ENDING}
    try:
        Thread(target=run, daemon=True, name="job").start()
        return done.result()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(said_to)


_ENDING = (signal.SIGINT, signal.SIGTERM)


def _end_at_once(said_to: int, number: int, _: object) -> NoReturn:
    """End this process and those that it started, whatever they are doing: runs survive that."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    os.write(said_to, b"\nerror: interrupted; run the command again to go on\n")
    os._exit(128 + number)


COMMAND_TAG = "cardline/command"
"""Marks runs that a command makes inside its own process."""

_QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}
