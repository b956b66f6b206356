"""The public data sets that can be turned into landing files, by the name the CLI knows them by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from pipelines.errors import CardlineError


@dataclass(frozen=True, slots=True)
class AdaptSummary:
    """What one adapter wrote: landing rows by feed, and what a reader of them has to know."""

    dataset: str
    rows: Mapping[str, int]
    notes: tuple[str, ...]


Adapter = Callable[[Path, Path], AdaptSummary]


def _imported_late(module: str) -> Adapter:
    def adapt(source: Path, landing: Path) -> AdaptSummary:
        from polars.exceptions import PolarsError

        adapter: Adapter = import_module(f"pipelines.sources.{module}").adapt
        try:
            return adapter(source, landing)
        except PolarsError as error:
            # Without its cause, whose message may quote the file's content and so a card number.
            raise CardlineError(
                f"source folder {source} holds values that {module} does not expect "
                f"({type(error).__name__}): compare it with the published data set"
            ) from None

    return adapt


ADAPTERS: Mapping[str, Adapter] = {
    "sparkov": _imported_late("sparkov"),
    "handbook": _imported_late("handbook"),
    "uci-taiwan": _imported_late("uci_taiwan"),
    "credit-card-approval": _imported_late("credit_card_approval"),
    "birmingham": _imported_late("birmingham"),
}
"""`adapt(source folder, landing folder)` by data set; the same source gives the same files.

Raises `CardlineError` where the source lacks a file or a column.
"""
