"""Progress on a terminal, silence in a pipe."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import track as _rich_track

T = TypeVar("T")

console = Console(stderr=True)


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """`items`, with a progress bar on standard error where that is a terminal."""
    if not console.is_terminal:
        return items
    return _rich_track(items, description=description, total=total, console=console, transient=True)


@contextmanager
def step(description: str) -> Iterator[None]:
    """A spinner with `description` while the block runs, where standard error is a terminal."""
    if not console.is_terminal:
        yield
        return
    with console.status(description):
        yield
