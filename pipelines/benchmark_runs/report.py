"""What every benchmark hands over: a table on standard output and `metrics.json`."""

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import CardlineError
from pipelines.files import written_aside


def find_source(source: Path, name: str) -> Path:
    """The file `name`, where `source` is that file or a folder that holds it."""
    path = source / name if source.is_dir() else source
    if not path.is_file():
        raise CardlineError(f"no {name} in {source}: give the folder of the data set as --source")
    return path


def write_metrics(out: Path, metrics: Mapping[str, Any]) -> Path:
    """`metrics.json` in `out`, with the library versions that produced it."""
    from models.common.registry import library_versions

    path = out / "metrics.json"
    body = {**metrics, "libraries": library_versions(), "machine": platform.machine()}
    with written_aside(path) as aside:
        aside.write_text(json.dumps(body, indent=2) + "\n")
    return path


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on standard output; figures have four decimals, a missing one is a dash."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    Console(width=120).print(table)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
