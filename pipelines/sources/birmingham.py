"""Birmingham City Council's purchase cards: real transactions, one file a month as delivered.

Columns are found by their names, since layouts differ by month: case, spaces and order do not
count. What the files say and how it is landed:

* A file is one delivery. Its batch date is the end of the month in its name (`2014-07.csv`) or the
  latest transaction in it, whichever is later, as files hold stragglers of other months. A month
  delivered again under another name is counted again.
* The amount is the one billed. Layouts with an original and a billing currency give both; the
  original one is not landed. Amounts below zero are refunds: event type RETURN, direction CREDIT.
* Only the last four digits of a card are given. With some 700 cards in use about 25 pairs share
  them, and about as many are seen in two directorates in one month: so a card is the four digits
  within a directorate. Two cards of one directorate may still be taken for one, and a holder who
  changes directorate for two.
* Each card is an account of its own; a directorate is the customer. No limit is given: 0 stands
  for "not stated". The first transaction seen stands for the day of opening; an earlier one that
  is delivered later gives a new version.
* Merchant names are free text. The merchant is the name without payment facilitator, web prefix,
  branch numbers and punctuation. Long digit runs in names are masked: they may be references to
  people or cards.
* Expenditure codes are mapped to merchant category codes in `birmingham_categories.py`. A merchant
  has the most frequent one of the month in which it first appears.
* Rows that are alike in everything are different purchases: the event id is a hash of the file's
  name, the row and its number among its likes.
* Cost centres, VAT and the other codes are not landed. Rows without a date, amount or card are
  left out and counted in the notes.
"""

import base64
import hashlib
import re
from datetime import date, datetime
from pathlib import Path

import polars as pl

from pipelines.progress import track
from pipelines.sources.adapters import AdaptSummary
from pipelines.sources.birmingham_categories import EXPENDITURE_MCC
from pipelines.sources.landing import LandingWriter
from pipelines.sources.source_files import (
    dataset_folder,
    last_day_of_month,
    midnight,
    require_columns,
    scan_table,
    slug,
    to_minor,
)

DATASET = "birmingham"
PROGRAM_ID = "birmingham_rebate"
CURRENCY = "GBP"
REQUIRED = ("TRANS DATE", "ORIGINAL GROSS AMT", "MERCHANT NAME", "CARD NUMBER")
OPTIONAL = (
    "ORIGINAL CUR", "BILLING GROSS AMT", "BILLING CUR CODE", "TRANS CAC DESC 1", "DIRECTORATE",
)  # fmt: skip
DATE_FORMATS = (
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%d/%m/%y", "%d/%m/%Y", "%d/%m/%Y %H:%M",
    "%d/%m/%Y %H:%M:%S", "%d-%b-%y", "%d-%b-%Y",
)  # fmt: skip
"""Two-digit years come first: `%Y` would read them as years of the first century."""
DIRECTORATES = {"adults-comms": "adult-communities"}
"""Other spellings of a directorate, as in ids."""
FACILITATORS = ("izettle", "paypal", "sq", "sumup", "zettle")
LONG_NUMBER = r"(?:[0-9][^0-9A-Za-z]*){8,}[0-9]"
"""Nine digits or more, however grouped, as in phone, social security and card numbers."""


def adapt(source: Path, landing: Path) -> AdaptSummary:
    """Write transactions, customers, accounts, cards and merchants.

    Memory is bounded by one file, and by the number of cards and merchants.
    """
    folder = dataset_folder(source, "birmingham_pcard", ("*.csv",))
    writer = LandingWriter(landing)
    known = _Known()
    notes = [
        "cards are the last four digits within a directorate: cards that share both are one",
        "the data state no credit limit: 0 stands for that",
    ]
    for path in track(sorted(folder.glob("*.csv")), "Birmingham months"):
        rows = _read(path)
        usable = rows.filter(pl.col("reason").is_null())
        notes.extend(_notes(path, rows, usable))
        if usable.is_empty():
            continue
        batch_date = _batch_date(path, usable)
        name = f"{DATASET}_{path.stem}"
        writer.write("transactions", batch_date, _events(path, usable), name)
        for feed, frame in known.take(usable, batch_date).items():
            if frame.height:
                writer.write(feed, batch_date, frame, name)
    return AdaptSummary(DATASET, writer.rows, tuple(notes))


def _read(path: Path) -> pl.DataFrame:
    """The rows of a file in their order, typed, with `reason` where a row cannot be landed.

    Columns: line (text of the whole row), event_on, amount_minor (signed), currency, is_foreign,
    merchant_name (long numbers masked), has_long_number, merchant_id, card (last four digits),
    directorate (as in ids), mcc, reason.
    """
    table = scan_table(path, (), is_ragged=True)
    names: dict[str, str] = {}
    for column in table.collect_schema().names():
        # The first of several columns of one name counts; readers number the others.
        names.setdefault(" ".join(column.upper().split()), column)
    require_columns(path, list(names), REQUIRED)
    if "DIRECTORATES" in names:
        names.setdefault("DIRECTORATE", names["DIRECTORATES"])

    def text(column: str) -> pl.Expr:
        if column not in names:
            return pl.lit(None, pl.String)
        stripped = pl.col(names[column]).str.strip_chars()
        return pl.when(stripped != "").then(stripped)

    has_billed_amount = "BILLING GROSS AMT" in names
    billed = "BILLING GROSS AMT" if has_billed_amount else "ORIGINAL GROSS AMT"
    raw = table.select(
        pl.concat_str(pl.all().fill_null(""), separator="\x1f").alias("line"),
        *(text(column).alias(column) for column in (*REQUIRED, *OPTIONAL)),
    )
    amount = _plain_number(pl.col(billed))
    billing_currency = pl.coalesce("BILLING CUR CODE", pl.lit(CURRENCY)).str.to_uppercase()
    directorate = (
        pl.col("DIRECTORATE")
        .str.to_lowercase()
        .str.replace_all("[^a-z0-9]+", "-")
        .str.strip_chars("-")
    )
    name = pl.col("MERCHANT NAME").fill_null("")
    original_currency = pl.coalesce("ORIGINAL CUR", billing_currency).str.to_uppercase()
    rows = (
        raw.select(
            "line",
            pl.coalesce(
                pl.col("TRANS DATE").str.to_date(layout, strict=False) for layout in DATE_FORMATS
            ).alias("event_on"),
            to_minor(amount, CURRENCY).alias("amount_minor"),
            (billing_currency if has_billed_amount else original_currency).alias("currency"),
            (original_currency != billing_currency).alias("is_foreign"),
            name.str.replace_all(LONG_NUMBER, "#").alias("merchant_name"),
            name.str.contains(LONG_NUMBER).alias("has_long_number"),
            pl.col("CARD NUMBER").str.extract(r"(\d{4})$").alias("card"),
            directorate.replace(DIRECTORATES).fill_null("unknown").alias("directorate"),
            pl.col("TRANS CAC DESC 1")
            .str.to_lowercase()
            .str.replace_all(r"\s+", " ")
            .replace_strict(EXPENDITURE_MCC, default=None)
            .alias("mcc"),
        )
        .with_columns(
            pl.when(pl.col("line").str.strip_chars("\x1f \t") == "")
            .then(pl.lit("blank"))
            .when(pl.col("event_on").is_null())
            .then(pl.lit("no readable date"))
            .when(pl.col("amount_minor").is_null())
            .then(pl.lit("no readable amount"))
            .when(pl.col("card").is_null())
            .then(pl.lit("no card number"))
            .when(pl.col("currency") != CURRENCY)
            .then(pl.lit("amount in another currency"))
            .alias("reason")
        )
        .collect()
    )
    ids = {name: merchant_id(name) for name in rows["merchant_name"].unique()}
    return rows.with_columns(
        pl.col("merchant_name").replace_strict(ids, return_dtype=pl.String).alias("merchant_id")
    )


def _plain_number(text: pl.Expr) -> pl.Expr:
    """`£1,234.50`, `(12.00)` and `12.00-` as numbers that parse; null where it holds no amount."""
    bare = text.str.replace_all(r"[£,\s]", "")
    is_negative = bare.str.contains(r"^\(.*\)$|^-|-$")
    digits = bare.str.strip_chars("()-")
    return (
        pl.when(digits.str.contains(r"^\d+(\.\d*)?([eE]\+?\d+)?$|^\.\d+$"))
        .then(pl.when(is_negative).then(pl.lit("-")).otherwise(pl.lit("")) + digits)
        .otherwise(None)
    )


def _batch_date(path: Path, rows: pl.DataFrame) -> date:
    latest = rows.select(pl.col("event_on").max()).item()
    try:
        named = last_day_of_month(datetime.strptime(path.stem, "%Y-%m").date())
    except ValueError:
        return latest
    return max(named, latest)


def _events(path: Path, rows: pl.DataFrame) -> pl.DataFrame:
    is_refund = pl.col("amount_minor") < 0
    return rows.select(
        pl.Series("event_id", _event_ids(path.stem, rows["line"])),
        pl.when(is_refund).then(pl.lit("RETURN")).otherwise(pl.lit("CLEARING")).alias("event_type"),
        _id("account"),
        _id("card"),
        pl.col("event_on").cast(pl.Datetime("us")).alias("event_at"),
        pl.col("amount_minor").abs(),
        "currency",
        pl.when(is_refund).then(pl.lit("CREDIT")).otherwise(pl.lit("DEBIT")).alias("direction"),
        "merchant_id",
        "mcc",
        pl.when(is_refund)
        .then(pl.lit("REFUND"))
        .otherwise(pl.lit("PURCHASE"))
        .alias("transaction_class"),
    ).with_columns(pl.col("event_id").alias("transaction_id"))


def _event_ids(delivery: str, lines: pl.Series) -> list[str]:
    """One id per row: equal rows are told apart by their number among their likes."""
    seen: dict[str, int] = {}
    ids = []
    for line in lines:
        seen[line] = seen.get(line, 0) + 1
        content = f"{delivery}\x1f{line}\x1f{seen[line]}".encode()
        digest = base64.b32encode(hashlib.sha256(content).digest()).decode().lower()
        ids.append(f"bcc_{digest[:24]}")
    return ids


def _id(kind: str) -> pl.Expr:
    """Id of the row's card or account: directorate and last four digits."""
    return pl.format(f"bcc_{kind}_{{}}_{{}}", "directorate", "card").alias(f"{kind}_id")


def merchant_id(name: str) -> str | None:
    """The merchant that a free-text name stands for; null for a name without letters or digits.

    `paypal *Acme Ltd` and `www.acme ltd 0123` are both `bcc_merchant_acme-ltd`.
    """
    words = slug(name).split("-")
    while len(words) > 1 and words[0] in (*FACILITATORS, "www"):
        words = words[1:]
    while len(words) > 1 and re.fullmatch(r"[a-z]{0,2}\d{2,}", words[-1]):
        words = words[:-1]
    return f"bcc_merchant_{'-'.join(words)}" if words[0] else None


class _Known:
    """Which directorates, cards and merchants earlier files brought."""

    def __init__(self) -> None:
        self._customers: set[str] = set()
        self._opened: dict[str, date] = {}
        self._merchants: set[str] = set()

    def take(self, rows: pl.DataFrame, batch_date: date) -> dict[str, pl.DataFrame]:
        """Frames of the feeds with what `rows` add or change."""
        updated_at = pl.lit(midnight(batch_date)).alias("updated_at")
        cards = (
            rows.group_by(
                pl.format("bcc_customer_{}", "directorate").alias("customer_id"),
                _id("account"),
                _id("card"),
            )
            .agg(pl.col("event_on").min().alias("opened_on"))
            .sort("account_id")
        )
        is_new = [account not in self._opened for account in cards["account_id"]]
        is_earlier = [
            opened_on < self._opened.get(account, date.max)
            for account, opened_on in cards.select("account_id", "opened_on").iter_rows()
        ]
        accounts = cards.filter(is_earlier)
        self._opened |= dict(accounts.select("account_id", "opened_on").iter_rows())
        customers = cards.select("customer_id").unique().sort("customer_id")
        customers = _unseen(customers, "customer_id", self._customers)
        merchants = _unseen(_merchants(rows), "merchant_id", self._merchants)
        return {
            "customers": customers.with_columns(updated_at),
            "accounts": accounts.select(
                "account_id",
                "customer_id",
                pl.lit(PROGRAM_ID).alias("program_id"),
                "opened_on",
                pl.lit(0).alias("credit_limit_minor"),
                pl.lit(CURRENCY).alias("currency"),
                updated_at,
                pl.lit("OPEN").alias("status"),
            ),
            "cards": cards.filter(is_new).select(
                "card_id", "account_id", updated_at, pl.lit("ACTIVE").alias("state")
            ),
            "merchants": merchants.with_columns(updated_at),
        }


def _unseen(frame: pl.DataFrame, column: str, seen: set[str]) -> pl.DataFrame:
    """The rows whose id is not in `seen`, which it is after that."""
    unseen = frame.filter([value not in seen for value in frame[column]])
    seen |= set(unseen[column])
    return unseen


def _merchants(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per merchant in `rows`: merchant_id, its most frequent name and category code."""
    named = rows.select("merchant_id", pl.col("merchant_name").alias("name"), "mcc").drop_nulls(
        "merchant_id"
    )

    def most_frequent(column: str) -> pl.DataFrame:
        return (
            named.drop_nulls(column)
            .group_by("merchant_id", column)
            .len("times")
            .sort("merchant_id", "times", column, descending=[False, True, False])
            .unique("merchant_id", keep="first", maintain_order=True)
            .drop("times")
        )

    return (
        most_frequent("name")
        .join(most_frequent("mcc"), on="merchant_id", how="left")
        .sort("merchant_id")
    )


def _notes(path: Path, rows: pl.DataFrame, usable: pl.DataFrame) -> list[str]:
    left_out = rows.drop_nulls("reason").group_by("reason").len("times").sort("reason")
    counts = {
        "refunds": usable.select((pl.col("amount_minor") < 0).sum()).item(),
        "rows alike another in everything": usable.height - usable["line"].n_unique(),
        "rows bought in another currency than billed": usable["is_foreign"].sum(),
        "rows without a merchant category code": usable["mcc"].null_count(),
        "names with a long number, masked": usable["has_long_number"].sum(),
    }
    told = [f"{count} {what}" for what, count in counts.items() if count]
    told += [f"{times} rows left out ({reason})" for reason, times in left_out.iter_rows()]
    return [f"{path.name}: {', '.join(told)}"] if told else []
