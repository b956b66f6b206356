"""Vendor attributes as features: whatever a bureau computed, by its own names.

They come as one object of JSON per report. A number becomes `att_<name>`; a special code, which
says why there is no number, leaves that unknown and sets `att_<name>_is_<code>`, so that a code
never counts as a value and has evidence of its own.
"""

import json
import re
from collections.abc import Iterable

import polars as pl

from models.common.errors import ModelError
from models.underwriting.catalogue import PREFIX, prohibited_features

COLUMN = "bur_attributes"


def with_attributes(frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` with a column of floats per attribute and per special code, sorted by name.

    Without `COLUMN` it is the frame itself. A value that a report does not have is null; a code's
    column is 0 where the report has the attribute otherwise. Of an attribute that no model may look
    at the column is there, so that it can be told of, and empty. Raises ModelError where two names
    of a vendor become one.
    """
    if COLUMN not in frame.columns:
        return frame
    reports = _reports(frame)
    names = sorted({name for report in reports for name in report})
    columns: list[pl.Series] = []
    for name, feature in _features(names).items():
        if prohibited_features([feature]):
            columns.append(pl.Series(feature, [None] * frame.height, pl.Float64))
            continue
        found = [report.get(name) for report in reports]
        values = [None if isinstance(v, str) else v for v in found]
        columns.append(pl.Series(feature, values, pl.Float64))
        for code in sorted({v for v in found if isinstance(v, str)}):
            told = [
                None if name not in report else float(value == code)
                for report, value in zip(reports, found, strict=True)
            ]
            columns.append(pl.Series(f"{feature}_is_{_plain(code)}", told, pl.Float64))
    return frame.hstack(columns)


def attribute_features(columns: Iterable[str]) -> list[str]:
    """Those of `columns` that `with_attributes` made."""
    return [name for name in columns if name.startswith(PREFIX)]


def _reports(frame: pl.DataFrame) -> list[dict[str, float | str | None]]:
    return [json.loads(text) if text else {} for text in frame[COLUMN]]


def _features(names: list[str]) -> dict[str, str]:
    features = {name: f"{PREFIX}{_plain(name)}" for name in names}
    if len(set(features.values())) < len(features):
        raise ModelError(f"attributes whose names differ in signs or case alone: {names}")
    return features


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip().lower())
