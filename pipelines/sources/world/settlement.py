"""Rows of the feeds `settlement_details` and `settlement_totals`, delivered weekly.

One line per clearing, single message, refund and reversal of a refund; one `FEE` line per network
and day with the network's charges. A total is gross (debits less credits, without charges),
interchange (the lines' micros added up and rounded once, halves up), charges and
net = gross − interchange − charges. One report in twenty is incomplete at first: its first version
has three fifths of each figure, and the complete one comes a week later.
"""

import numpy as np
import polars as pl

from pipelines.sources.world import lifecycle
from pipelines.sources.world.clock import DAY, HOUR, Window, instants, weekly_delivery
from pipelines.sources.world.holders import Holders
from pipelines.sources.world.programs import PROGRAMS

NETWORKS = tuple(sorted({program.network for program in PROGRAMS}))
_SETTLED = (lifecycle.CLEARING, lifecycle.REFUND, lifecycle.REFUND_REVERSAL)
_MICROS = 1_000_000
_CHARGE_PER_LINE = 2
_CHARGE_BPS = 13


def settlement_detail_rows(holders: Holders, messages: pl.DataFrame) -> pl.DataFrame:
    """Lines for what settled, with `received_at`; interchange is 1.2–2.4 % and 10 cents."""
    rows = messages.filter(pl.col("kind").is_in(list(_SETTLED)))
    network = pl.Series([program.network for program in PROGRAMS])[
        holders.program[rows["holder"].to_numpy()]
    ]
    day = rows["posted_on"].to_physical().cast(pl.Int64).to_numpy()
    basis = (
        pl.when(pl.col("mcc").is_in(["5411", "5541", "5542", "4900", "4814"]))
        .then(120)
        .when(pl.col("entry_mode").is_in(["ECOMMERCE", "CREDENTIAL_ON_FILE"]))
        .then(240)
        .otherwise(185)
    )
    is_cash = pl.col("transaction_class") == "CASH_ADVANCE"
    micros = pl.col("amount_minor") * basis * (_MICROS // 10_000) + 10 * _MICROS
    return rows.select(
        detail_id=pl.lit("sd_") + pl.col("event_id").str.slice(3),
        network=network,
        report_on=pl.col("posted_on"),
        type=pl.when(pl.col("event_type").str.starts_with("FINANCIAL_"))
        .then(pl.lit("FINANCIAL"))
        .otherwise(pl.lit("CLEARING")),
        amount_minor=pl.col("amount_minor"),
        currency=pl.lit("USD"),
        direction=pl.col("direction"),
        transaction_id=pl.col("transaction_id"),
        event_id=pl.col("event_id"),
        # Cash costs the issuer a reimbursement instead; it is left out here.
        interchange_micros=pl.when(is_cash).then(0).otherwise(micros),
        received_at=instants(delivered(day)),
    )


def delivered(day: np.ndarray) -> np.ndarray:
    """When a day's report arrives: with the weekly file at least two days after it."""
    return weekly_delivery((day + 2) * DAY + 4 * HOUR)


def sums(details: pl.DataFrame) -> pl.DataFrame:
    """Sums of lines per network and day, which can be added up over chunks."""
    sign = pl.when(pl.col("direction") == "DEBIT").then(1).otherwise(-1)
    return details.group_by("network", "report_on").agg(
        gross=(pl.col("amount_minor") * sign).sum(),
        volume=pl.col("amount_minor").sum(),
        micros=(pl.col("interchange_micros") * sign).sum(),
        lines=pl.len(),
    )


def closing_rows(partial: list[pl.DataFrame], window: Window) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The charge lines and the totals of every network and day with settlement."""
    total = (
        pl.concat(partial)
        .group_by("network", "report_on")
        .agg(pl.col("gross", "volume", "micros", "lines").sum())
        .filter(pl.col("report_on") <= window.ends_on)
        .sort("report_on", "network")
        .with_columns(
            charges=pl.col("lines") * _CHARGE_PER_LINE
            + (pl.col("volume") * _CHARGE_BPS + 5_000) // 10_000,
            interchange=(pl.col("micros") + _MICROS // 2) // _MICROS,
            key=pl.col("network").str.to_lowercase().str.slice(0, 2)
            + "_"
            + pl.col("report_on").dt.strftime("%Y-%m-%d"),
        )
    )
    day = total["report_on"].to_physical().cast(pl.Int64).to_numpy()
    received = instants(delivered(day))
    fees = total.select(
        detail_id=pl.lit("sd_fee_") + pl.col("key"),
        network=pl.col("network"),
        report_on=pl.col("report_on"),
        type=pl.lit("FEE"),
        amount_minor=pl.col("charges"),
        currency=pl.lit("USD"),
        direction=pl.lit("DEBIT"),
        received_at=received,
    )
    complete = total.select(
        total_id=pl.lit("st_") + pl.col("key"),
        network=pl.col("network"),
        report_on=pl.col("report_on"),
        currency=pl.lit("USD"),
        gross_minor=pl.col("gross"),
        interchange_minor=pl.col("interchange"),
        charges_minor=pl.col("charges"),
        net_minor=pl.col("gross") - pl.col("interchange") - pl.col("charges"),
        is_complete=pl.lit(True),
        received_at=received,
    )
    return fees, _with_early_reports(complete, window)


def _with_early_reports(complete: pl.DataFrame, window: Window) -> pl.DataFrame:
    """`complete` with an incomplete version before some; those arrive a week later then."""
    day = complete["report_on"].to_physical().cast(pl.Int64).to_numpy()
    comes_in_time = delivered(day) + 7 * DAY < (window.last + 1) * DAY
    is_early = pl.Series((day % 20 == 7) & comes_in_time)
    early = complete.filter(is_early).with_columns(
        gross_minor=pl.col("gross_minor") * 3 // 5,
        interchange_minor=pl.col("interchange_minor") * 3 // 5,
        charges_minor=pl.col("charges_minor") * 3 // 5,
        is_complete=pl.lit(False),
    )
    early = early.with_columns(
        net_minor=pl.col("gross_minor") - pl.col("interchange_minor") - pl.col("charges_minor")
    )
    wait = pl.when(is_early).then(pl.duration(days=7)).otherwise(pl.duration(days=0))
    return pl.concat([early, complete.with_columns(pl.col("received_at") + wait)])
