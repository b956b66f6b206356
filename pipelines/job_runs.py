"""Running the code location's jobs inside this process."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stdout, suppress
from functools import partial
from multiprocessing import parent_process
from threading import Thread
from typing import TYPE_CHECKING, Any, NoReturn

from pipelines.errors import INTERRUPTED, CardlineError
from pipelines.instance import COMMAND_TAG
from pipelines.settings import get_settings

if TYPE_CHECKING:
    import dagster as dg


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
    with log.open("a") as file, redirect_stdout(file), ended_by_signals():
        result = _in_thread(execute)
    if result.success:
        return
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            error = failure.error
            while error is not None and error.cause is not None:
                error = error.cause
            why = error.message.strip().splitlines()[0] if error is not None else "unknown"
            why = why.removeprefix(f"{CardlineError.__module__}.{CardlineError.__name__}: ")
            raise CardlineError(
                f"{name} failed in {event.step_key}: {why} (`cardline ui` shows run "
                f"{result.run_id[:8]}; the next `cardline run` goes on from there)"
            )
    raise CardlineError(f"{name} failed: `cardline ui` shows run {result.run_id[:8]}")


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """While the block runs, an interrupt ends this process and those that it started, at once.

    For the main thread, where Python handles signals.
    """
    # While a step runs, Dagster has file descriptor 2 lead to the step's own log.
    said_to = os.dup(2)
    end = partial(_end_at_once, said_to)
    before = {number: signal.signal(number, end) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(said_to)


def _in_thread(work: Callable[[], Any]) -> Any:
    """Do `work` in a thread: in the main one Dagster takes the signals for itself, and loses those
    that come between its steps."""
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=run, daemon=True, name="job").start()
    return done.result()


_ENDING = (signal.SIGINT, signal.SIGTERM)


def _end_at_once(said_to: int, number: int, _: object) -> NoReturn:
    """End this process and those that it started, whatever they are doing: runs survive that."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    if parent_process() is None:
        os.write(said_to, f"\n{INTERRUPTED}\n".encode())
    os._exit(128 + number)


_QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}
