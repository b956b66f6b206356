"""Order and sums of columns by whole numbers, where ids as text would cost more."""

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Runs:
    """The runs of a column of `size` elements: where each starts and how long it is."""

    start: np.ndarray
    length: np.ndarray

    @classmethod
    def of(cls, column: pl.Series | np.ndarray) -> "Runs":
        """The runs of equal neighbours in `column`, which has no nulls."""
        values = column.rle_id().to_numpy() if isinstance(column, pl.Series) else column
        starts = np.flatnonzero(np.concatenate([np.ones(1, bool), values[1:] != values[:-1]]))
        starts = starts[: len(values)]
        return cls(starts, np.diff(np.append(starts, len(values))))

    def spread(self, values: np.ndarray) -> np.ndarray:
        """One value a run as one an element."""
        return np.repeat(values, self.length)

    def number(self) -> np.ndarray:
        """The number of each element's run, from zero."""
        return self.spread(np.arange(len(self.start)))

    def place(self) -> np.ndarray:
        """The place of each element in its run, from zero."""
        return np.arange(self.length.sum()) - self.spread(self.start)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """The sum of each run of `values`."""
        return np.add.reduceat(values, self.start) if len(values) else values

    def before(self, values: np.ndarray) -> np.ndarray:
        """The sum of what comes before each element in its run.

        Exact wherever that sum fits: what the running total of all runs overflows, the difference
        takes back.
        """
        total = np.cumsum(values) - values
        return total - self.spread(total[self.start])


def ranks(column: pl.Series) -> np.ndarray:
    """The place of each of the texts in `column` among its distinct values in order.

    Costs least where equal ones stand together.
    """
    runs = Runs.of(column)
    heads = column[runs.start]
    places = heads.cast(pl.Enum(heads.unique().sort())).to_physical().to_numpy()
    return runs.spread(places.astype(np.int64))


def sorted_by(frame: pl.DataFrame, numbers: list[np.ndarray], ties: list[str]) -> pl.DataFrame:
    """`frame` in the order of `numbers`, the first of them first; where all of these are equal, in
    that of its columns `ties` or, without any, as it stands."""
    key = np.zeros(frame.height, dtype=np.int64)
    for column in numbers if frame.height else []:
        span = int(column.max()) - int(column.min()) + 1
        if (int(key.max()) + 1) * span >= 2**63:
            # Places among the distinct values are small enough together.
            key, column = (np.unique(each, return_inverse=True)[1] for each in (key, column))  # noqa: PLW2901
            span = len(column)
        key = key * span + (column - column.min())
    if (key[1:] > key[:-1]).all():
        return frame
    order = np.argsort(key, kind="stable")
    runs = Runs.of(key[order])
    tied = np.flatnonzero(runs.spread(runs.length) > 1)
    if ties and len(tied):
        rows = order[tied]
        part = frame[rows].select(pl.Series("key", key[rows]), *ties)
        order[tied] = rows[part.select(pl.arg_sort_by("key", *ties)).to_series().to_numpy()]
    return frame[order]


def following(
    frame: pl.DataFrame, key: str, ids: pl.Series, then: str
) -> tuple[pl.DataFrame, np.ndarray]:
    """Rows of `frame` by the place of their `key` among the distinct `ids`, and by `then`.

    Also where the rows of each of the ids begin, with the end of the last as one more. Costs little
    where they stand in that order already.
    """
    runs = Runs.of(frame[key])
    follows = pl.Series(runs.place() == 0) | (frame[then] > frame[then].shift(1))
    if follows.all() and frame[key][runs.start].equals(ids):
        return frame, np.append(runs.start, frame.height)
    places = pl.DataFrame({key: ids}).with_row_index("_place")
    found = frame.join(places, on=key).sort("_place", then)
    ends = np.searchsorted(found["_place"].to_numpy(), np.arange(len(ids) + 1))
    return found.drop("_place"), ends
