"""Vendor attributes as features: whatever a bureau computed, by its own names.

They come as one object of JSON per report. A number becomes `att_<name>`; a special code, which
says why there is no number, leaves that unknown and sets `att_<name>_is_<code>`, so that a code
never counts as a value and has evidence of its own.
"""

import json
import re
from collections.abc import Iterable

import polars as pl

from models.underwriting.catalogue import PREFIX, prohibited_features

COLUMN = "bur_attributes"


def with_attributes(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with a column of floats per attribute and per special code, sorted by name.

    Without `COLUMN` it is the frame itself. A value that a report does not have is null; a code's
    column is 0 where the report has the attribute otherwise. Of an attribute that no model may look
    at the column is there, so that it can be told of, and empty. Names that differ in signs or case
    alone are one attribute: of several in one report the first by name counts.
    """
    if COLUMN not in frame.columns:
        return frame
    reports = _reports(frame)
    columns: list[pl.Series] = []
    features = {name for report in reports for name in report}
    for feature in sorted(features):
        if prohibited_features([feature]):
            columns.append(pl.Series(feature, [None] * frame.height, pl.Float64))
            continue
        found = [report.get(feature) for report in reports]
        values = [None if isinstance(v, str) else v for v in found]
        columns.append(pl.Series(feature, values, pl.Float64))
        for code in sorted({v for v in found if isinstance(v, str)}):
            if f"{feature}_is_{code}" in features:
                continue
            told = [
                None if feature not in report else float(value == code)
                for report, value in zip(reports, found, strict=True)
            ]
            columns.append(pl.Series(f"{feature}_is_{code}", told, pl.Float64))
    return frame.hstack(columns)


def attribute_features(columns: Iterable[str]) -> list[str]:
    """Those of `columns` that `with_attributes` made."""
    return [name for name in columns if name.startswith(PREFIX)]


def _reports(frame: pl.DataFrame) -> list[dict[str, float | str | None]]:
    """By feature: its value, or the special code that says why there is none."""
    reports: list[dict[str, float | str | None]] = []
    for text in frame[COLUMN]:
        told = json.loads(text) if text else {}
        report: dict[str, float | str | None] = {}
        for name in sorted(told):
            value = told[name]
            report.setdefault(
                f"{PREFIX}{_plain(name)}", _plain(value) if isinstance(value, str) else value
            )
        reports.append(report)
    return reports


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip().lower())
