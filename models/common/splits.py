"""Who learns from whom: out-of-time and out-of-person samples, and the label delay gap."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from models.common.errors import ModelError

OUT_OF_TIME_SHARE = 0.2
# Of as many monthly vintages a model should learn, and of as many it should be tested.
DEVELOPMENT_VINTAGES = 12
OUT_OF_TIME_VINTAGES = 3


@dataclass(frozen=True)
class TimePersonSplit:
    """Row masks of one frame. `train` and `holdout` share months, `out_of_time` is later.

    No person is in two of the samples. `notes` says what had to be given up.
    """

    train: np.ndarray
    holdout: np.ndarray
    out_of_time: np.ndarray
    notes: tuple[str, ...]


def person_fraction(person: str) -> float:
    """A fixed number in [0, 1) for a person, the same in every run and on every machine."""
    return int.from_bytes(hashlib.sha256(person.encode()).digest()[:8], "big") / 2**64


def by_month_and_person(
    decision_at: pl.Series,
    person: Sequence[str] | pl.Series,
    *,
    out_of_time_share: float = OUT_OF_TIME_SHARE,
    holdout_share: float = 0.2,
) -> TimePersonSplit:
    """The latest whole months with at least the asked share of rows are out of time.

    They are at least three where there are twelve months, and one for each four of fewer. Persons
    of the out-of-time sample are taken out of development; of the other persons a fixed share is
    held out. With one decision month there is no out-of-time sample, and it says so.
    """
    if not 0 < out_of_time_share < 1 or not 0 < holdout_share < 1:
        raise ModelError("split shares lie between 0 and 1")
    month = decision_at.dt.truncate("1mo")
    counts = pl.DataFrame({"month": month}).group_by("month").len().sort("month")
    least = min(OUT_OF_TIME_VINTAGES, counts.height // 4)
    late: list[datetime] = []
    rows = 0
    for when, size in reversed(counts.rows()):
        is_enough = rows >= out_of_time_share * len(month) and len(late) >= least
        if is_enough or len(late) + 1 >= counts.height:
            break
        late.append(when)
        rows += size
    persons = [str(p) for p in person]
    out_of_time = month.is_in(late).to_numpy() if late else np.zeros(len(month), dtype=bool)
    later_persons = {p for p, is_late in zip(persons, out_of_time, strict=True) if is_late}
    seen_later = np.array([p in later_persons for p in persons], dtype=bool)
    fraction = np.array([person_fraction(p) for p in persons])
    development = ~out_of_time & ~seen_later
    holdout = development & (fraction < holdout_share)
    notes = []
    if not late:
        notes.append("one decision month: no out-of-time sample, the hold-out is by person only")
    for sample, found, wanted in (
        ("the development sample", counts.height - len(late), DEVELOPMENT_VINTAGES),
        ("out of time", len(late), OUT_OF_TIME_VINTAGES),
    ):
        if 0 < found < wanted:
            notes.append(f"{found} monthly vintages in {sample}, of {wanted} that are wanted")
    removed = int((~out_of_time & seen_later).sum())
    if removed:
        notes.append(f"{removed} development rows of persons seen out of time were left out")
    return TimePersonSplit(development & ~holdout, holdout, out_of_time, tuple(notes))


@dataclass(frozen=True)
class DelaySplit:
    """Row masks of a transaction frame around a training cut-off.

    `train` ends `delay` before `cutoff`, so every label in it is known by the cut-off; the gap
    between is in neither; `test` starts at the cut-off.
    """

    train: np.ndarray
    test: np.ndarray
    cutoff: datetime


def with_label_delay(event_at: pl.Series, *, cutoff: datetime, delay: timedelta) -> DelaySplit:
    """Split at a cut-off with the label delay as the gap."""
    moments = event_at.cast(pl.Datetime("us"))
    train = (moments < cutoff - delay).to_numpy()
    return DelaySplit(train, (moments >= cutoff).to_numpy(), cutoff)
