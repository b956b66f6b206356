"""The page of a parity comparison: what was compared, what differs and why."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.features.parity import Comparison
from pipelines.files import written_aside
from pipelines.pages import style, template
from pipelines.settings import Settings

MAX_ROWS = 500


def write_page(settings: Settings, comparison: Comparison, at: datetime) -> Path:
    """Write `<reports>/features/parity.html` anew, as compared `at` (UTC); returns it."""
    path = settings.reports_dir / "features" / "parity.html"
    compared, mismatches = comparison.compared, comparison.mismatches
    known = dict(compared.select("service", "known_through").iter_rows())
    reasons = (
        mismatches.group_by("view", "feature", "reason")
        .agg(pl.col("entity").n_unique().alias("entities"))
        .sort("entities", "view", "feature", descending=[True, False, False])
    )
    page = template("parity.html").render(
        style=style(),
        at=f"{at:%Y-%m-%d %H:%M:%S}",
        values=f"{sum(row['entities'] * row['features'] for row in compared.to_dicts()):,}",
        total=mismatches.height,
        compared=compared.to_dicts(),
        reasons=reasons.to_dicts(),
        mismatches=[
            _told(row, known[row["service"]]) for row in mismatches.head(MAX_ROWS).to_dicts()
        ],
    )
    with written_aside(path) as aside:
        aside.write_text(page, encoding="utf-8", newline="\n")
    return path


def _told(row: dict[str, Any], known_through: datetime) -> dict[str, Any]:
    given = json.loads(row["entity"])
    return row | {
        "entity": [(name, value) for name, value in given.items() if value is not None],
        "offline_row": _row_of(row["offline_event_time"], known_through),
        "online_row": _row_of(row["online_event_time"], known_through),
    }


def _row_of(event_time: datetime | None, known_through: datetime) -> str:
    """The event time of a row and how old it was then."""
    if event_time is None:
        return "–"
    age = known_through - event_time
    if age < timedelta(0):
        return f"{event_time}, after what is known"
    hours = age.seconds // 3600
    return f"{event_time}, {age.days} d {hours} h old"
