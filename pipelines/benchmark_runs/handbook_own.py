"""Our own features of the Fraud-Detection-Handbook's transactions, set-based.

They follow the platform's rules and not the published ones: a window of W is `[t − W, t)` over rows
that are strictly earlier by time and TRANSACTION_ID, the row itself left out; a label counts from
`DELAY_DAYS` after its transaction, so at `t` those of `[t − delay − W, t − delay]` are seen.

What they add to the published features: the amount against what the customer usually spends, how
many of the customer's last purchases were unusual, and what is known of a terminal over longer
windows, with frauds at a usual amount counted apart. Those speak of the terminal, frauds at an
unusual amount of the card.
"""

import numpy as np
import polars as pl

from pipelines.benchmark_runs.handbook_features import DAY_SECONDS, DELAY_DAYS, Timeline

AMOUNT_DAYS = (7, 30, 90)
COUNT_SECONDS = {"1H": 3600, "1D": DAY_SECONDS, "7D": 7 * DAY_SECONDS}
UNUSUAL_DAYS = (3, 7, 14)
KNOWN_DAYS = (1, 3, 7, 14, 21, 28, 90)
LONGEST_DAYS = DELAY_DAYS + max(*KNOWN_DAYS, *AMOUNT_DAYS)
UNUSUAL_RATIO = 2.5
"""An amount is unusual from this multiple of the customer's usual amount on."""
MINIMUM_AMOUNTS = 5
RATIO_CAP = 10.0
FLOOR_CENTS = 100.0
PRIOR_ROWS = 20
PRIOR_RATE = 0.005


def own_features(transactions: pl.DataFrame) -> pl.DataFrame:
    """TRANSACTION_ID and our features (float64, NaN for unknown), ordered as `handbook_features`.

    Needs TRANSACTION_ID, TX_DATETIME, CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT (two decimals) and
    TX_FRAUD.
    """
    frame = transactions.sort("TX_DATETIME", "TRANSACTION_ID")
    customer = Timeline(frame["CUSTOMER_ID"], frame["TX_DATETIME"], LONGEST_DAYS)
    terminal = Timeline(frame["TERMINAL_ID"], frame["TX_DATETIME"], LONGEST_DAYS)
    fraud = frame["TX_FRAUD"].to_numpy()
    cents = (frame["TX_AMOUNT"] * 100).round().cast(pl.Int64).to_numpy()
    columns = {
        "AMOUNT": frame["TX_AMOUNT"].to_numpy(),
        "HOUR": frame["TX_DATETIME"].dt.hour().to_numpy(),
        "VISITS_BEFORE": frame.select(
            pl.int_range(pl.len()).over("CUSTOMER_ID", "TERMINAL_ID")
        ).to_series().to_numpy(),
    }  # fmt: skip
    columns |= _customer_columns(customer, cents, fraud)
    columns |= _terminal_columns(terminal, fraud, columns["AMOUNT_TO_USUAL"])
    return pl.DataFrame(
        {
            "TRANSACTION_ID": frame["TRANSACTION_ID"],
            **{name: np.asarray(values, dtype=np.float64) for name, values in columns.items()},
        }
    )


def _customer_columns(
    axis: Timeline, cents: np.ndarray, fraud: np.ndarray
) -> dict[str, np.ndarray]:
    here = np.arange(len(cents))
    amount = cents[axis.order].astype(np.float64)
    columns: dict[str, np.ndarray] = {}
    for name, seconds in COUNT_SECONDS.items():
        columns[f"CUSTOMER_COUNT_{name}"] = here - axis.rows_before(seconds)
    every = np.ones(len(cents), dtype=np.int64)
    for days in AMOUNT_DAYS:
        usual = _Amounts(axis, cents, every, days)
        columns[f"AMOUNT_TO_MEAN_{days}D"] = usual.ratio(amount)
        columns[f"AMOUNT_ZSCORE_{days}D"] = usual.zscore(amount)
    # The first look is at all amounts; the usual amount then leaves out those that stood out.
    longest = max(AMOUNT_DAYS)
    is_usual = ~(columns[f"AMOUNT_TO_MEAN_{longest}D"] >= UNUSUAL_RATIO)
    usual = _Amounts(axis, cents, axis.given_order(is_usual.astype(np.int64)), longest)
    ratio = np.minimum(usual.ratio(amount), RATIO_CAP)
    columns["USUAL_AMOUNT"] = usual.mean / 100
    columns["AMOUNT_TO_USUAL"] = ratio
    columns["AMOUNT_TO_USUAL_ZSCORE"] = usual.zscore(amount)
    unusual = _totals((ratio >= UNUSUAL_RATIO).astype(np.int64))
    # Thousandths, so that running totals are exact.
    excess = _totals(np.rint(np.nan_to_num(ratio, nan=1.0) * 1000).astype(np.int64))
    for days in UNUSUAL_DAYS:
        start = axis.rows_before(days * DAY_SECONDS)
        columns[f"CUSTOMER_UNUSUAL_{days}D"] = unusual[here] - unusual[start]
        columns[f"CUSTOMER_RATIO_{days}D"] = (
            _rate(excess[here] - excess[start], here - start) / 1000
        )
    known = axis.rows_until(DELAY_DAYS)
    frauds = axis.running(fraud)
    for days in (28, 90):
        start = axis.rows_before((DELAY_DAYS + days) * DAY_SECONDS)
        columns[f"CUSTOMER_KNOWN_FRAUDS_{days}D"] = frauds[known] - frauds[start]
    since = np.diff(axis.axis, prepend=np.iinfo(np.int64).min // 2).astype(np.float64)
    columns["CUSTOMER_SECONDS_SINCE_LAST"] = _within(since, LONGEST_DAYS)
    return {name: axis.given_order(np.asarray(v, np.float64)) for name, v in columns.items()}


class _Amounts:
    """Mean and standard deviation of the earlier amounts of `days` that `mask` lets count."""

    def __init__(self, axis: Timeline, cents: np.ndarray, mask: np.ndarray, days: int) -> None:
        here, start = np.arange(len(cents)), axis.rows_before(days * DAY_SECONDS)
        counted, total, squares = (
            running[here] - running[start]
            for running in (axis.running(mask * cents**power) for power in (0, 1, 2))
        )
        self.count = counted
        self.mean = _rate(total, counted)
        spread = squares - total * self.mean
        self.deviation = np.sqrt(np.maximum(_rate(spread, counted - 1), 0))

    def ratio(self, amount: np.ndarray) -> np.ndarray:
        """The amount over the mean; NaN below `MINIMUM_AMOUNTS` amounts."""
        return np.where(
            self.count >= MINIMUM_AMOUNTS, amount / np.maximum(self.mean, FLOOR_CENTS), np.nan
        )

    def zscore(self, amount: np.ndarray) -> np.ndarray:
        """Deviations from the mean, of at least 5 % of the mean and one unit of currency."""
        floored = np.maximum(np.maximum(self.deviation, 0.05 * self.mean), FLOOR_CENTS)
        return np.where(self.count >= MINIMUM_AMOUNTS, (amount - self.mean) / floored, np.nan)


def _terminal_columns(
    axis: Timeline, fraud: np.ndarray, ratio: np.ndarray
) -> dict[str, np.ndarray]:
    here = np.arange(len(fraud))
    is_fraud = fraud[axis.order].astype(bool)
    # A fraud at a usual amount, or of a customer whose usual amount is not known.
    at_usual = is_fraud & ~(ratio[axis.order] >= UNUSUAL_RATIO)
    columns: dict[str, np.ndarray] = {}
    for name, seconds in COUNT_SECONDS.items():
        columns[f"TERMINAL_COUNT_{name}"] = here - axis.rows_before(seconds)
    known = axis.rows_until(DELAY_DAYS)
    frauds, at_usual_total = _totals(is_fraud), _totals(at_usual)
    for days in KNOWN_DAYS:
        start = axis.rows_before((DELAY_DAYS + days) * DAY_SECONDS)
        rows, found = known - start, frauds[known] - frauds[start]
        columns[f"TERMINAL_KNOWN_{days}D"] = rows
        columns[f"TERMINAL_FRAUDS_{days}D"] = found
        columns[f"TERMINAL_FRAUDS_AT_USUAL_{days}D"] = at_usual_total[known] - at_usual_total[start]
        columns[f"TERMINAL_RATE_{days}D"] = (found + PRIOR_ROWS * PRIOR_RATE) / (rows + PRIOR_ROWS)
    longest = DELAY_DAYS + max(KNOWN_DAYS)
    for name, mask in (("FRAUD", is_fraud), ("FRAUD_AT_USUAL", at_usual), ("LEGIT", ~is_fraud)):
        last = np.maximum.accumulate(np.where(mask, here, -1))
        found = np.where(known > 0, last[known - 1], -1)
        since = np.where(found >= 0, axis.axis - axis.axis[found], np.inf)
        columns[f"TERMINAL_DAYS_SINCE_{name}"] = _within(since, longest) / DAY_SECONDS
    first = np.minimum.accumulate(np.where(at_usual, here, len(here))[::-1])[::-1]
    start = axis.rows_before((DELAY_DAYS + 28) * DAY_SECONDS)
    found = np.where(start < len(here), first[np.minimum(start, len(here) - 1)], len(here))
    is_known = found < known
    columns["TERMINAL_DAYS_SINCE_FIRST_FRAUD_AT_USUAL_28D"] = (
        np.where(is_known, axis.axis - axis.axis[np.where(is_known, found, 0)], np.nan)
        / DAY_SECONDS
    )
    # How fraudulent the terminal has been since its first such fraud, which began its compromise.
    totals = _totals(np.ones(len(here), dtype=np.int64))
    begun = np.where(is_known, found, known)
    columns["TERMINAL_RATE_SINCE_FIRST_FRAUD_AT_USUAL_28D"] = _rate(
        frauds[known] - frauds[begun], totals[known] - totals[begun]
    )
    return {name: axis.given_order(np.asarray(v, np.float64)) for name, v in columns.items()}


def _totals(values: np.ndarray) -> np.ndarray:
    """Running totals with a leading 0."""
    return np.concatenate([[0], np.cumsum(values)])


def _rate(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(
        total, count, out=np.full(len(count), np.nan, dtype=np.float64), where=count > 0
    )


def _within(seconds: np.ndarray, days: int) -> np.ndarray:
    """NaN where it is longer ago than `days`, or of another entity, which lies further away."""
    return np.where(seconds <= days * DAY_SECONDS, seconds, np.nan)
