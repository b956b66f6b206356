"""The Fraud-Detection-Handbook's published features, one row per transaction, set-based.

Windows end at the current row and include it, as pandas' time-based `rolling` does: `(t − W, t]`
over rows in order. Rows of one customer within the same second are ordered by TRANSACTION_ID, and
a row sees only those up to itself. Terminal windows are moved back by the delay:
`(t − delay − W, t − delay]`, where all rows of a second count together. The current row is in the
customer's windows, which is the published definition and not the platform's: our own features
leave it out.

Counts are float64 because the published package delivers them so (a rolling count is a float).
"""

import numpy as np
import polars as pl

WINDOWS_DAYS = (1, 7, 30)
DELAY_DAYS = 7
DAY_SECONDS = 86_400
NIGHT_UNTIL_HOUR = 6
FIRST_WEEKEND_DAY = 6

IDENTIFIERS = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID")
FEATURES = (
    "TX_AMOUNT",
    "TX_DURING_WEEKEND",
    "TX_DURING_NIGHT",
    *(
        f"CUSTOMER_ID_{measure}_{days}DAY_WINDOW"
        for days in WINDOWS_DAYS
        for measure in ("NB_TX", "AVG_AMOUNT")
    ),
    *(
        f"TERMINAL_ID_{measure}_{days}DAY_WINDOW"
        for days in WINDOWS_DAYS
        for measure in ("NB_TX", "RISK")
    ),
)


def handbook_features(transactions: pl.DataFrame) -> pl.DataFrame:
    """Identifiers, the published features, TX_FRAUD and TX_TIME_DAYS, ordered by transaction.

    Needs TRANSACTION_ID, TX_DATETIME, CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT (two decimals) and
    TX_FRAUD. TX_TIME_DAYS counts days from the first transaction's day.
    """
    frame = transactions.sort("TX_DATETIME", "TRANSACTION_ID").with_columns(
        pl.col("TX_DATETIME").cast(pl.Datetime("us"))
    )
    day = pl.col("TX_DATETIME").dt.date()
    result = frame.select(
        *IDENTIFIERS,
        "TX_AMOUNT",
        (pl.col("TX_DATETIME").dt.weekday() >= FIRST_WEEKEND_DAY)
        .cast(pl.Int64)
        .alias("TX_DURING_WEEKEND"),
        (pl.col("TX_DATETIME").dt.hour() <= NIGHT_UNTIL_HOUR)
        .cast(pl.Int64)
        .alias("TX_DURING_NIGHT"),
        **_customer_columns(frame),
        **_terminal_columns(frame),
    )
    return result.with_columns(
        frame["TX_FRAUD"],
        frame.select((day - day.min()).dt.total_days().alias("TX_TIME_DAYS")).to_series(),
    )


class Timeline:
    """Rows of all entities on one axis: sorted by entity, then time, then given order.

    Entities are spaced so far apart that no window reaches from one into the next, so that a
    binary search over the axis finds the window bounds of all rows at once.
    """

    def __init__(self, entity: pl.Series, moment: pl.Series, longest_days: int) -> None:
        seconds = moment.dt.epoch("s").to_numpy()
        seconds = seconds - seconds.min()
        spacing = int(seconds.max()) + (longest_days + 1) * DAY_SECONDS
        rank = entity.rank("dense").to_numpy().astype(np.int64)
        axis = rank * spacing + seconds
        self.order = np.argsort(axis, kind="stable")
        self.axis = axis[self.order]

    def rows_until(self, days_before: int) -> np.ndarray:
        """Rows at or before `t − days_before`, counted from the start of the axis."""
        return np.searchsorted(self.axis, self.axis - days_before * DAY_SECONDS, side="right")

    def rows_before(self, seconds: int) -> np.ndarray:
        """Rows before `t − seconds`, counted from the start of the axis."""
        return np.searchsorted(self.axis, self.axis - seconds, side="left")

    def running(self, values: np.ndarray) -> np.ndarray:
        """Running totals with a leading 0; exact, for integers."""
        return np.concatenate([[0], np.cumsum(values[self.order])])

    def given_order(self, values: np.ndarray) -> np.ndarray:
        """Back from the axis to the order in which the rows were given."""
        result = np.empty_like(values)
        result[self.order] = values
        return result


def _customer_columns(frame: pl.DataFrame) -> dict[str, pl.Series]:
    axis = Timeline(frame["CUSTOMER_ID"], frame["TX_DATETIME"], max(WINDOWS_DAYS))
    # Amounts are summed in cents: a running float total would lose the last digits of the mean.
    cents = (frame["TX_AMOUNT"] * 100).round().cast(pl.Int64).to_numpy()
    total = axis.running(cents)
    through_current = np.arange(1, frame.height + 1)
    columns: dict[str, pl.Series] = {}
    for days in WINDOWS_DAYS:
        start = axis.rows_until(days)
        count = through_current - start
        mean = (total[through_current] - total[start]) / 100 / count
        columns[f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW"] = _series(axis, count)
        columns[f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW"] = _series(axis, mean)
    return columns


def _terminal_columns(frame: pl.DataFrame) -> dict[str, pl.Series]:
    longest = DELAY_DAYS + max(WINDOWS_DAYS)
    axis = Timeline(frame["TERMINAL_ID"], frame["TX_DATETIME"], longest)
    frauds = axis.running(frame["TX_FRAUD"].to_numpy())
    end = axis.rows_until(DELAY_DAYS)
    columns: dict[str, pl.Series] = {}
    for days in WINDOWS_DAYS:
        start = axis.rows_until(DELAY_DAYS + days)
        count = end - start
        risk = np.divide(
            frauds[end] - frauds[start], count, out=np.zeros(len(count)), where=count > 0
        )
        columns[f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW"] = _series(axis, count)
        columns[f"TERMINAL_ID_RISK_{days}DAY_WINDOW"] = _series(axis, risk)
    return columns


def _series(axis: Timeline, values: np.ndarray) -> pl.Series:
    return pl.Series(axis.given_order(values).astype(np.float64))
