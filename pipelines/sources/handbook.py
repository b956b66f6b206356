"""Fraud-Detection-Handbook: a published simulation of transactions at terminals, with frauds.

What the data say: customer, terminal, time and amount of each transaction, and whether it was a
fraud and of which scenario. What they do not say and is set here:

* A customer is one account with one card. There are no accounts, customers or cards to deliver:
  neither program, limit nor home is in the data, so only transactions, merchants and labels are.
* A terminal is a merchant, delivered the day before the first transaction.
* No currency is named; amounts are called USD. Times are taken as UTC.
* A fraud is known seven days after it happened, the delay that the handbook's own baseline uses.
  Only frauds get a label.
"""

from datetime import timedelta
from pathlib import Path

import polars as pl

from pipelines.progress import track
from pipelines.sources.adapters import AdaptSummary
from pipelines.sources.landing import LandingWriter
from pipelines.sources.source_files import (
    LABEL_DELAY,
    dataset_folder,
    midnight,
    months_between,
    scan_table,
    time_range,
    to_minor,
    write_by_day,
)

DATASET = "handbook"
CURRENCY = "USD"
TRANSACTIONS = (
    "TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD",
    "TX_FRAUD_SCENARIO",
)  # fmt: skip


def adapt(source: Path, landing: Path) -> AdaptSummary:
    """Write transactions, merchants and fraud labels.

    Memory is bounded by one month of transactions and by the number of frauds.
    """
    folder = dataset_folder(source, "handbook_fraud", ("transactions_raw.parquet",))
    path = folder / "transactions_raw.parquet"
    transactions = scan_table(path, TRANSACTIONS).with_columns(
        pl.col("TX_DATETIME").cast(pl.Datetime("us"))
    )
    first, last = time_range(transactions, "TX_DATETIME", path)
    writer = LandingWriter(landing)
    delivered_on = first.date() - timedelta(days=1)

    terminals = transactions.select("TERMINAL_ID").unique().collect(engine="streaming")
    writer.write(
        "merchants",
        delivered_on,
        terminals.sort("TERMINAL_ID").select(
            _id("merchant", "TERMINAL_ID"),
            pl.lit(midnight(delivered_on)).alias("updated_at"),
            pl.format("terminal {}", "TERMINAL_ID").alias("name"),
        ),
        DATASET,
    )
    for start, end in track(list(months_between(first, last)), "Handbook transactions"):
        events = (
            transactions.filter(pl.col("TX_DATETIME") >= start, pl.col("TX_DATETIME") < end)
            .select(
                _id("event", "TRANSACTION_ID"),
                _id("transaction", "TRANSACTION_ID"),
                pl.lit("CLEARING").alias("event_type"),
                _id("account", "CUSTOMER_ID"),
                _id("card", "CUSTOMER_ID"),
                pl.col("TX_DATETIME").alias("event_at"),
                to_minor(pl.col("TX_AMOUNT"), CURRENCY).alias("amount_minor"),
                pl.lit(CURRENCY).alias("currency"),
                pl.lit("DEBIT").alias("direction"),
                _id("merchant", "TERMINAL_ID"),
                pl.lit("PURCHASE").alias("transaction_class"),
                "TRANSACTION_ID",
            )
            .collect(engine="streaming")
            .sort("event_at", "TRANSACTION_ID")
            .drop("TRANSACTION_ID")
        )
        write_by_day(writer, "transactions", events, pl.col("event_at").dt.date(), DATASET)

    labels = (
        transactions.filter(pl.col("TX_FRAUD") == 1)
        .select(
            _id("label", "TRANSACTION_ID"),
            _id("transaction", "TRANSACTION_ID"),
            pl.lit("FRAUD").alias("label"),
            pl.col("TX_DATETIME").alias("occurred_at"),
            (pl.col("TX_DATETIME") + LABEL_DELAY).alias("known_at"),
            pl.format("SCENARIO_{}", "TX_FRAUD_SCENARIO").alias("fraud_type"),
            pl.lit("HANDBOOK").alias("source"),
        )
        .collect(engine="streaming")
        .sort("known_at", "label_id")
    )
    write_by_day(writer, "fraud_labels", labels, pl.col("known_at").dt.date(), DATASET)
    return AdaptSummary(
        DATASET,
        writer.rows,
        (
            "the data hold no programs, limits or homes: no accounts, customers or cards",
            f"the data name no currency: amounts are called {CURRENCY}",
            "a fraud is labelled seven days after it happened; other transactions get no label",
        ),
    )


def _id(kind: str, column: str) -> pl.Expr:
    return pl.format(f"handbook_{kind}_{{}}", column).alias(f"{kind}_id")
