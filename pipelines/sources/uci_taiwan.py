"""UCI "default of credit card clients": six months of bills and payments of Taiwanese accounts.

What the data say, per account: limit and age; for April to September 2005 the repayment status,
the bill and the amount paid; whether the client defaulted in October 2005. How it is landed:

* `PAY_0`, `BILL_AMT1` and `PAY_AMT1` are September, 6 is April. One statement per calendar month.
* `days_past_due` comes from the repayment status: -2 (no consumption), -1 (paid in full) and
  0 (revolving credit) are 0 days, a delay of n months is 30 * n days.
* The month's payment is the one made on the previous bill, so that
  `closing = previous bill + purchases - payments - credits` holds exactly. What the bill moved by
  beyond the payment is not broken down in the data: an increase is called purchases (fees and
  interest are in it), a decrease credits. A bill below zero is a balance in the client's favour.
* No bill of March is given: April opens at 0 and carries what was brought forward, with the
  month's own spending in it, as `other_debits_minor` (or credits).
* Payments are dated on the 15th: the data give only the month. Statements, payments and the
  outcome arrive on the last day of their month.
* Accounts are older than the data; 1 April 2005 stands for the day of opening, and the ages of
  2005 give the year of birth. Sex, education and marital status are not read.
* Amounts are New Taiwan dollars; ISO 4217 gives TWD two digits, so minor units are hundredths.
"""

from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from pipelines.errors import CardlineError
from pipelines.sources.adapters import AdaptSummary
from pipelines.sources.landing import LandingWriter
from pipelines.sources.source_files import (
    dataset_folder,
    last_day_of_month,
    midnight,
    scan_table,
    to_minor,
)

DATASET = "uci-taiwan"
FILE_NAME = "uci_taiwan"
PROGRAM_ID = "uci_taiwan"
CURRENCY = "TWD"
MONTHS = tuple(date(2005, month, 1) for month in range(4, 10))
STATUS = ("PAY_6", "PAY_5", "PAY_4", "PAY_3", "PAY_2", "PAY_0")
BILLS = tuple(f"BILL_AMT{number}" for number in range(6, 0, -1))
PAID = tuple(f"PAY_AMT{number}" for number in range(6, 0, -1))
"""Columns by month, oldest first: one each for the months of `MONTHS`."""
DEFAULTED = ("default.payment.next.month", "default payment next month")
"""The two spellings under which the outcome is published."""
OBSERVED_ON = date(2005, 10, 31)
DAYS_PER_MONTH_OF_DELAY = 30


def adapt(source: Path, landing: Path) -> AdaptSummary:
    """Write customers, accounts, statements, payments and credit outcomes."""
    folder = dataset_folder(source, "uci_taiwan", ("UCI_Credit_Card.csv",))
    path = folder / "UCI_Credit_Card.csv"
    table = scan_table(path, ("ID", "LIMIT_BAL", "AGE", *STATUS, *BILLS, *PAID))
    defaulted = next((name for name in DEFAULTED if name in table.collect_schema().names()), None)
    if defaulted is None:
        raise CardlineError(
            f"{path} has no column {DEFAULTED[0]}: without it no outcome can be landed"
        )
    rows = _typed(table, defaulted)
    if rows.is_empty():
        raise CardlineError(f"{path} holds no rows: there is nothing to adapt")
    writer = LandingWriter(landing)

    opened_on = MONTHS[0]
    updated_at = pl.lit(midnight(opened_on)).alias("updated_at")
    writer.write(
        "customers",
        opened_on,
        rows.select(
            "customer_id", updated_at, (opened_on.year - pl.col("AGE")).alias("birth_year")
        ),
        FILE_NAME,
    )
    writer.write(
        "accounts",
        opened_on,
        rows.select(
            "account_id",
            "customer_id",
            pl.lit(PROGRAM_ID).alias("program_id"),
            pl.lit(opened_on).alias("opened_on"),
            pl.col("LIMIT_BAL").alias("credit_limit_minor"),
            pl.lit(CURRENCY).alias("currency"),
            updated_at,
            pl.lit("OPEN").alias("status"),
        ),
        FILE_NAME,
    )
    for position, month in enumerate(MONTHS):
        month_end = last_day_of_month(month)
        writer.write("statements", month_end, _statements(rows, position), FILE_NAME)
        writer.write("payments", month_end, _payments(rows, position), FILE_NAME)
    writer.write(
        "credit_outcomes",
        OBSERVED_ON,
        rows.select(
            pl.format("uci_outcome_{}", "ID").alias("outcome_id"),
            "account_id",
            pl.col("is_bad"),
            pl.lit(OBSERVED_ON).alias("observed_on"),
            pl.lit(midnight(OBSERVED_ON) + timedelta(days=1, microseconds=-1)).alias("known_at"),
            pl.lit("default of the payment due in October 2005").alias("definition"),
        ),
        FILE_NAME,
    )
    return AdaptSummary(DATASET, writer.rows, tuple(_notes(table, rows)))


def _typed(table: pl.LazyFrame, defaulted: str) -> pl.DataFrame:
    """One row per client: ids, integers, amounts in minor units, `is_bad`."""
    return (
        table.select(
            pl.col("ID").cast(pl.Int64),
            pl.format("uci_account_{}", "ID").alias("account_id"),
            pl.format("uci_customer_{}", "ID").alias("customer_id"),
            *(_whole(column) for column in ("AGE", *STATUS)),
            *(to_minor(pl.col(column), CURRENCY) for column in ("LIMIT_BAL", *BILLS, *PAID)),
            (_whole(defaulted) == 1).alias("is_bad"),
        )
        .collect()
        .sort("ID")
    )


def _whole(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Float64, strict=False).cast(pl.Int64)


def _statements(rows: pl.DataFrame, position: int) -> pl.DataFrame:
    """One row per account for the month at `position` of `MONTHS`."""
    month = MONTHS[position]
    opening = pl.col(BILLS[position - 1]) if position else pl.lit(0, pl.Int64)
    moved = pl.col(BILLS[position]) - opening + pl.col(PAID[position])
    return rows.select(
        pl.format("uci_statement_{}_{}", "ID", pl.lit(f"{month:%Y-%m}")).alias("statement_id"),
        "account_id",
        pl.lit(month).alias("period_start_on"),
        pl.lit(last_day_of_month(month)).alias("period_end_on"),
        opening.alias("opening_balance_minor"),
        pl.col(BILLS[position]).alias("closing_balance_minor"),
        pl.lit(CURRENCY).alias("currency"),
        pl.col("LIMIT_BAL").alias("credit_limit_minor"),
        moved.clip(0).alias("purchases_minor" if position else "other_debits_minor"),
        pl.lit(0).alias("other_debits_minor" if position else "purchases_minor"),
        *(
            pl.lit(0).alias(column)
            for column in (
                "cash_advances_minor", "balance_transfers_minor", "fees_minor", "interest_minor",
            )
        ),
        pl.col(PAID[position]).alias("payments_minor"),
        (-moved).clip(0).alias("credits_minor"),
        (pl.col(STATUS[position]).clip(0) * DAYS_PER_MONTH_OF_DELAY).alias("days_past_due"),
    )  # fmt: skip


def _payments(rows: pl.DataFrame, position: int) -> pl.DataFrame:
    """One row per account that paid something in the month at `position` of `MONTHS`."""
    month = MONTHS[position]
    paid_at = pl.lit(datetime(month.year, month.month, 15))
    return rows.filter(pl.col(PAID[position]) > 0).select(
        pl.format("uci_payment_{}_{}", "ID", pl.lit(f"{month:%Y-%m}")).alias("payment_id"),
        "account_id",
        pl.col(PAID[position]).alias("amount_minor"),
        pl.lit(CURRENCY).alias("currency"),
        paid_at.alias("initiated_at"),
        pl.lit("SETTLED").alias("state"),
        paid_at.alias("settled_at"),
    )


def _notes(table: pl.LazyFrame, rows: pl.DataFrame) -> list[str]:
    notes = [
        "no bill of March 2005 is given: April opens at 0 and what was brought forward, with the "
        "month's spending, is in other_debits_minor",
        "the data do not break a bill down: purchases_minor holds fees and interest as well",
        "payments are dated on the 15th of their month; accounts count as opened on 2005-04-01",
    ]
    in_favour = rows.select(pl.sum_horizontal(pl.col(column) < 0 for column in BILLS).sum()).item()
    if in_favour:
        notes.append(f"{in_favour} statements close with a balance in the client's favour")
    shortened = (
        table.select(
            pl.sum_horizontal(
                pl.col(column).str.contains("(?i)e").sum()
                for column in ("LIMIT_BAL", *BILLS, *PAID)
            )
        )
        .collect()
        .item()
    )
    if shortened:
        notes.append(
            f"{shortened} amounts are written with an exponent, as a spreadsheet shortens them: "
            "they may have lost digits"
        )
    return notes
