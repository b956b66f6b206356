"""A second process, for work that needs nothing of what the first one does meanwhile."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from threading import Thread
from typing import NoReturn

from pipelines.ahead import import_ahead
from pipelines.progress import console


@contextmanager
def second_process(*modules: str) -> Iterator[Executor]:
    """One process beside this one, which imports `modules` while it waits for its first work.

    It leaves the terminal to this one, and ends with it, however this one ends.
    """
    with ProcessPoolExecutor(
        1,
        # A fork would have half of this process's threads, and DuckDB's locks as they stood.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare,
    ) as executor:
        imported = executor.submit(import_ahead, *modules)
        yield executor
        imported.result()


def _prepare() -> None:
    console.quiet = True
    # The first process ends this one when it is interrupted.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> NoReturn:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
