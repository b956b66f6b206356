"""Training frames: which features are usable, as which matrix, under which fingerprint."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from models.common.errors import ModelError, NotEnoughOutcomes


@dataclass(frozen=True)
class FeatureSelection:
    """Features that can carry information, and why each other one cannot."""

    kept: tuple[str, ...]
    dropped: dict[str, str]


def usable_features(frame: pl.DataFrame, candidates: Iterable[str]) -> FeatureSelection:
    """Keep numeric or boolean candidates that are present and vary.

    A feed that never arrived leaves its features all null; they are dropped with a note instead
    of failing the training, and the note ends in the manifest and the model card.
    """
    kept: list[str] = []
    dropped: dict[str, str] = {}
    for name in candidates:
        if name not in frame.columns:
            dropped[name] = "not delivered"
            continue
        column = frame[name]
        if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
            dropped[name] = f"not numeric ({column.dtype})"
        elif column.null_count() == len(column):
            dropped[name] = "all missing in the training window"
        elif column.n_unique() == 1:
            dropped[name] = "constant in the training window"
        else:
            kept.append(name)
    return FeatureSelection(tuple(kept), dropped)


def matrix(frame: pl.DataFrame, features: Sequence[str]) -> np.ndarray:
    """Float matrix of shape (rows, features); a missing value or column is NaN.

    Infinite values count as missing: they come from a ratio whose denominator was not known.
    """
    known = set(frame.columns)
    there = [at for at, name in enumerate(features) if name in known]
    values = np.full((frame.height, len(features)), np.nan)
    if there:
        # All columns in one step: one after the other, a row would take longer than its score.
        names = [features[at] for at in there]
        values[:, there] = frame.select(pl.col(names).cast(pl.Float64)).to_numpy()
    values[~np.isfinite(values)] = np.nan
    return values


def binary_target(frame: pl.DataFrame, name: str) -> np.ndarray:
    """The 0/1 target as int64; a null or another value is an error."""
    values = frame[name].cast(pl.Int64)
    if values.null_count() or not set(values.unique().to_list()) <= {0, 1}:
        raise ModelError(f"target '{name}' must be 0 or 1 in every row")
    return values.to_numpy()


def require_outcomes(
    target: np.ndarray, *, what: str, minimum_rows: int, minimum_positives: int
) -> None:
    """Raise NotEnoughOutcomes unless both classes are there in the asked numbers."""
    rows, positives = len(target), int(target.sum())
    negatives = rows - positives
    if rows < minimum_rows or positives < minimum_positives or negatives < minimum_positives:
        raise NotEnoughOutcomes(
            f"{what}: {rows:,} matured outcomes with {positives:,} positive and {negatives:,} "
            f"negative; at least {minimum_rows:,} with {minimum_positives:,} of each are needed. "
            "Train again when more outcomes are known."
        )


def dataset_sha256(frame: pl.DataFrame) -> str:
    """Fingerprint of a frame's content: names, types and values, row by row in the given order.

    Independent of chunking and of the Parquet or Arrow version, so that the manifest of an old
    model can still be checked after an upgrade.
    """
    digest = hashlib.sha256(f"rows={frame.height}".encode())
    for name in frame.columns:
        column = frame[name].rechunk()
        digest.update(f"|{name}:{column.dtype}|".encode())
        digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
        if column.dtype.is_temporal():
            column = column.to_physical()
        if column.dtype.is_float():
            values = column.cast(pl.Float64).fill_null(0.0).to_numpy()
        elif column.dtype.is_integer() or column.dtype == pl.Boolean:
            values = column.cast(pl.Int64).fill_null(0).to_numpy()
        else:
            text = column.cast(pl.String).fill_null("")
            digest.update(text.str.len_bytes().cast(pl.Int64).to_numpy().tobytes())
            digest.update("".join(text.to_list()).encode())
            continue
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def vector_sha256(frame: pl.DataFrame, features: Sequence[str]) -> list[str]:
    """One fingerprint per row of the exact feature values that were scored, in feature order."""
    header = "|".join(features).encode()
    values = np.ascontiguousarray(matrix(frame, features))
    return [hashlib.sha256(header + row.tobytes()).hexdigest() for row in values]
