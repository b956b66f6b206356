"""Sparkov: a generator's card transactions with merchants, home coordinates and fraud flags.

What the data say: one person, one card and one account to each row of `customers.csv`; posted
purchases with a category; whether each was fraud. What they do not say and is set here:

* Times carry no zone; they equal `unix_time` and are taken as UTC.
* Each day's transactions arrive as that day's batch. Customers, accounts, cards and merchants
  arrive the day before the first transaction, on which the accounts also count as opened.
* There is no credit limit: 0 stands for "not stated", so that utilisation comes out empty.
* A fraud is known seven days after it happened. Only frauds get a label: that a purchase was
  never reported is no message that anybody sends, it follows from the label's age.
* A category is mapped to the merchant category code nearest to it (`CATEGORIES`). A merchant that
  sells in two categories has its more frequent one; each transaction has its own.
* Terminal coordinates are drawn anew for each transaction, near the cardholder's home, so they
  belong to the transaction and not to the merchant.

Card, account and social security numbers are tokenised here; names, streets, jobs and genders are
not read.
"""

from datetime import timedelta
from pathlib import Path

import polars as pl

from pipelines.ingestion.tokens import Tokeniser
from pipelines.progress import track
from pipelines.sources.adapters import AdaptSummary
from pipelines.sources.landing import LandingWriter
from pipelines.sources.source_files import (
    LABEL_DELAY,
    dataset_folder,
    midnight,
    months_between,
    scan_table,
    slug,
    time_range,
    to_minor,
    write_by_day,
)

DATASET = "sparkov"
PROGRAM_ID = "sparkov_rewards"
CURRENCY = "USD"
COUNTRY = "US"
CATEGORIES = {
    "entertainment": "7832",
    "food_dining": "5812",
    "gas_transport": "5541",
    "grocery_net": "5411",
    "grocery_pos": "5411",
    "health_fitness": "7997",
    "home": "5200",
    "kids_pets": "5945",
    "misc_net": "5969",
    "misc_pos": "5999",
    "personal_care": "7298",
    "pharmacy": "5912",
    "shopping_net": "5964",
    "shopping_pos": "5311",
    "travel": "4722",
    "utilities": "4900",
}
"""Merchant category code by category of the source."""
CUSTOMERS = ("ssn", "cc_num", "acct_num", "state", "zip", "lat", "long", "dob")
TRANSACTIONS = (
    "trans_num", "trans_ts", "cc_num", "acct_num", "merchant", "category", "amt", "merch_lat",
    "merch_long", "is_fraud",
)  # fmt: skip
MERCHANT_PREFIX = "fraud_"
"""The generator puts this before every merchant's name; it says nothing about fraud."""


def adapt(source: Path, landing: Path) -> AdaptSummary:
    """Write transactions, fraud labels, customers, accounts, cards and merchants.

    Memory is bounded by one month of transactions and by the number of frauds.
    """
    folder = dataset_folder(source, "sparkov", ("transactions.parquet", "customers.csv"))
    path = folder / "transactions.parquet"
    transactions = scan_table(path, TRANSACTIONS)
    people = scan_table(folder / "customers.csv", CUSTOMERS).select(CUSTOMERS).collect()
    first, last = time_range(transactions, "trans_ts", path)
    writer = LandingWriter(landing)
    tokens = Tokeniser.from_settings()
    delivered_on = first.date() - timedelta(days=1)
    notes = [
        "the data state no credit limit (0 stands for that) and no day of opening "
        f"({delivered_on} stands for it)",
        "a fraud is labelled seven days after it happened; other transactions get no label",
    ]

    people = people.select(
        pl.lit(midnight(delivered_on)).alias("updated_at"),
        tokens.tokens(people["ssn"], "customer").alias("customer_id"),
        tokens.tokens(people["ssn"], "person").alias("person_id"),
        tokens.tokens(people["acct_num"], "account").alias("account_id"),
        tokens.tokens(people["cc_num"], "card").alias("card_id"),
        pl.col("dob").str.slice(0, 4).cast(pl.Int64, strict=False).alias("birth_year"),
        "state",
        pl.col("zip").alias("postal_code"),
        pl.col("lat").cast(pl.Float64, strict=False).alias("latitude"),
        pl.col("long").cast(pl.Float64, strict=False).alias("longitude"),
    )
    customers = people.drop("account_id", "card_id")
    accounts = people.select(
        "account_id",
        "customer_id",
        "updated_at",
        pl.lit(PROGRAM_ID).alias("program_id"),
        pl.lit(delivered_on).alias("opened_on"),
        pl.lit(0).alias("credit_limit_minor"),
        pl.lit(CURRENCY).alias("currency"),
        pl.lit("OPEN").alias("status"),
    )
    cards = people.select("card_id", "account_id", "updated_at", pl.lit("ACTIVE").alias("state"))
    for feed, key, frame in (
        ("customers", "customer_id", customers),
        ("accounts", "account_id", accounts),
        ("cards", "card_id", cards),
    ):
        writer.write(feed, delivered_on, frame.unique(key, keep="first").sort(key), DATASET)

    merchants = _merchants(transactions)
    writer.write(
        "merchants",
        delivered_on,
        merchants.select(
            "merchant_id",
            pl.lit(midnight(delivered_on)).alias("updated_at"),
            "name",
            "mcc",
            pl.lit(COUNTRY).alias("country"),
        ),
        DATASET,
    )
    several = merchants.filter(pl.col("categories") > 1).height
    if several:
        notes.append(f"{several} merchants sell in several categories and have the most frequent")
    unmapped = merchants.filter(pl.col("mcc").is_null()).height
    if unmapped:
        notes.append(f"{unmapped} merchants have a category without a merchant category code")

    strangers: set[str] = set()
    merchant_ids = merchants.select("merchant", "merchant_id")
    for start, end in track(list(months_between(first, last)), "Sparkov transactions"):
        month = (
            transactions.select(TRANSACTIONS)
            .with_columns(pl.col("trans_ts").cast(pl.Datetime("us")))
            .filter(pl.col("trans_ts") >= start, pl.col("trans_ts") < end)
            .collect(engine="streaming")
        )
        if month.is_empty():
            continue
        events = _events(month.join(merchant_ids, on="merchant", how="left"), tokens)
        strangers |= set(events["account_id"].unique()) - set(people["account_id"])
        write_by_day(writer, "transactions", events, pl.col("event_at").dt.date(), DATASET)
    if strangers:
        notes.append(f"{len(strangers)} accounts have transactions and no row in customers.csv")

    labels = _labels(transactions)
    write_by_day(writer, "fraud_labels", labels, pl.col("known_at").dt.date(), DATASET)
    return AdaptSummary(DATASET, writer.rows, tuple(notes))


def _merchants(transactions: pl.LazyFrame) -> pl.DataFrame:
    """One row per merchant that has transactions: merchant, merchant_id, name, mcc, categories."""
    frame = (
        transactions.group_by("merchant", "category")
        .agg(pl.len().alias("transactions"))
        .collect(engine="streaming")
        .sort("merchant", "transactions", "category", descending=[False, True, False])
        .group_by("merchant", maintain_order=True)
        .agg(pl.col("category").first(), pl.len().alias("categories"))
        .with_columns(
            pl.col("merchant").str.strip_prefix(MERCHANT_PREFIX).alias("name"),
            pl.col("category").replace_strict(CATEGORIES, default=None).alias("mcc"),
        )
    )
    ids = [f"sparkov_merchant_{slug(name)}" for name in frame["name"]]
    seen: dict[str, int] = {}
    for position, merchant_id in enumerate(ids):
        seen[merchant_id] = seen.get(merchant_id, 0) + 1
        if seen[merchant_id] > 1:
            ids[position] = f"{merchant_id}_{seen[merchant_id]}"
    return frame.with_columns(pl.Series("merchant_id", ids, dtype=pl.String))


def _events(month: pl.DataFrame, tokens: Tokeniser) -> pl.DataFrame:
    online = pl.col("category").str.ends_with("_net")
    in_person = pl.col("category").str.ends_with("_pos")
    return month.select(
        pl.col("trans_num").alias("event_id"),
        pl.col("trans_num").alias("transaction_id"),
        pl.lit("CLEARING").alias("event_type"),
        tokens.tokens(month["acct_num"].cast(pl.String), "account").alias("account_id"),
        tokens.tokens(month["cc_num"].cast(pl.String), "card").alias("card_id"),
        pl.col("trans_ts").alias("event_at"),
        to_minor(pl.col("amt"), CURRENCY).alias("amount_minor"),
        pl.lit(CURRENCY).alias("currency"),
        pl.lit("DEBIT").alias("direction"),
        "merchant_id",
        pl.col("category").replace_strict(CATEGORIES, default=None).alias("mcc"),
        pl.lit(COUNTRY).alias("merchant_country"),
        pl.col("merch_lat").cast(pl.Float64).alias("latitude"),
        pl.col("merch_long").cast(pl.Float64).alias("longitude"),
        pl.when(online).then(pl.lit("ECOMMERCE")).alias("entry_mode"),
        pl.when(online).then(False).when(in_person).then(True).alias("is_card_present"),
        pl.lit("PURCHASE").alias("transaction_class"),
    ).sort("event_at", "event_id")


def _labels(transactions: pl.LazyFrame) -> pl.DataFrame:
    occurred_at = pl.col("trans_ts").cast(pl.Datetime("us"))
    return (
        transactions.filter(pl.col("is_fraud").cast(pl.Int64) == 1)
        .select(
            pl.format("sparkov_label_{}", "trans_num").alias("label_id"),
            pl.col("trans_num").alias("transaction_id"),
            pl.lit("FRAUD").alias("label"),
            occurred_at.alias("occurred_at"),
            (occurred_at + LABEL_DELAY).alias("known_at"),
            pl.lit("SPARKOV").alias("source"),
        )
        .collect(engine="streaming")
        .sort("known_at", "label_id")
    )
