"""Published benchmarks: our figures beside those of others, on their data and their split."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

Benchmark = Callable[[Path, Path], dict[str, Any]]


def _handbook(source: Path, out: Path) -> dict[str, Any]:
    from pipelines.benchmark_runs.handbook import run

    return run(source, out)


def _uci_taiwan(source: Path, out: Path) -> dict[str, Any]:
    from pipelines.benchmark_runs.uci_taiwan import run

    return run(source, out)


BENCHMARKS: dict[str, Benchmark] = {"handbook": _handbook, "uci-taiwan": _uci_taiwan}
"""By the name on the command line; each takes (source, out) and returns its metrics."""
