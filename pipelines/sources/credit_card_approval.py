"""Credit card approval prediction: applications, and a monthly status for those that got a card.

What the data say: an application's income, occupation and the like; for some of them a status for
each month from the opening of the account (at the earliest 60 months back) to month 0. What they
do not say, and how it is landed:

* Month 0 has no date: December 2019 stands for it (`MONTH_ZERO`). Only differences have meaning.
* An application with monthly statuses was approved on the first day of the first of these months,
  which opens the account. One without is dated at the end of month 0 and has no decision: the
  data do not say whether it was declined.
* Some ids have two applications of plainly different people. Both are landed under their id, in
  the order of the file, so that the second is a version of the first.
* One person often applies several times: rows that agree in everything but the id are taken for
  one person, named after the smallest id (with its number where that id occurs again). The
  attributes are as of the extract, not as of each application: the age in days of one person is
  the same on applications that are years apart.
* Status `0`-`5` is days past due 1-29, 30-59, 60-89, 90-119, 120-149 and 150 or written off: the
  statement has the lower end. `C` (paid off that month) is 0. `X` (no loan that month) has none.
* The data hold no amounts but income: balances and limits are 0, which stands for "not stated".
  Their currency is not named and called USD.
* An account whose statuses end before month 0 with `C` was closed, paid off, at the end of that
  month; others stay open, as the data do not say why they end.
* Sex, family, education, property and age in days are not landed, apart from the year of birth.
"""

from datetime import date
from pathlib import Path

import polars as pl

from pipelines.errors import CardlineError
from pipelines.progress import track
from pipelines.sources.adapters import AdaptSummary
from pipelines.sources.landing import LandingWriter
from pipelines.sources.source_files import (
    dataset_folder,
    last_day_of_month,
    months_between,
    scan_table,
    to_minor,
    write_by_day,
)

DATASET = "credit-card-approval"
FILE_NAME = "credit_card_approval"
PROGRAM_ID = "credit_card_approval"
CURRENCY = "USD"
MONTH_ZERO = date(2019, 12, 1)
EXTRACTED_ON = date(2019, 12, 31)
SPREADSHEET_ROWS = 2**20 - 1
"""Rows below the header that the usual spreadsheet can hold."""
DAYS_PAST_DUE = {"0": 1, "1": 30, "2": 60, "3": 90, "4": 120, "5": 150, "C": 0}
"""Lower end of the range that each status stands for; `X`, no loan that month, has none."""
NO_LOAN = "X"
PAID_OFF = "C"
APPLICATIONS = (
    "ID", "CODE_GENDER", "FLAG_OWN_CAR", "FLAG_OWN_REALTY", "CNT_CHILDREN", "AMT_INCOME_TOTAL",
    "NAME_INCOME_TYPE", "NAME_EDUCATION_TYPE", "NAME_FAMILY_STATUS", "NAME_HOUSING_TYPE",
    "DAYS_BIRTH", "DAYS_EMPLOYED", "FLAG_WORK_PHONE", "FLAG_PHONE", "FLAG_EMAIL",
    "OCCUPATION_TYPE", "CNT_FAM_MEMBERS",
)  # fmt: skip
STATUSES = ("ID", "MONTHS_BALANCE", "STATUS")
EMPLOYMENT = {
    "Commercial associate": "EMPLOYED",
    "Pensioner": "RETIRED",
    "State servant": "EMPLOYED",
    "Student": "STUDENT",
    "Working": "EMPLOYED",
}
"""`employment_status` by the kind of income."""


def adapt(source: Path, landing: Path) -> AdaptSummary:
    """Write applications, customers, accounts and statements.

    Memory is bounded by the applications, and by one month of statuses.
    """
    files = ("application_record.parquet", "credit_record.parquet")
    folder = dataset_folder(source, "credit_card_approval", files)
    statuses = scan_table(folder / files[1], STATUSES)
    lives = _lives(statuses)
    applications = _applications(scan_table(folder / files[0], APPLICATIONS), lives)
    writer = LandingWriter(landing)

    write_by_day(
        writer,
        "applications",
        applications.drop("birth_year"),
        pl.col("submitted_at").dt.date(),
        FILE_NAME,
    )
    customers = _customers(applications, lives)
    write_by_day(writer, "customers", customers, pl.col("updated_at").dt.date(), FILE_NAME)
    accounts = _accounts(applications, lives)
    write_by_day(writer, "accounts", accounts, pl.col("updated_at").dt.date(), FILE_NAME)

    first, last = lives.select(pl.col("opened_on").min(), pl.col("last_month_on").max()).row(0)
    if first is None:
        raise CardlineError(f"{folder / files[1]} holds no rows: there is nothing to adapt")
    for start, _ in track(list(months_between(first, last)), "Monthly statuses"):
        month = start.date()
        statements = _statements(statuses, month)
        if statements.height:
            writer.write("statements", last_day_of_month(month), statements, FILE_NAME)
    return AdaptSummary(DATASET, writer.rows, tuple(_notes(applications, lives, statuses)))


def _month_on(months_from_zero: str) -> pl.Expr:
    """First day of the month that lies `months_from_zero` (at most 0) from month 0."""
    offset = pl.format("{}mo", pl.col(months_from_zero).cast(pl.Int64))
    return pl.lit(MONTH_ZERO).dt.offset_by(offset)


def _lives(statuses: pl.LazyFrame) -> pl.DataFrame:
    """One row per account: ID, opened_on, last_month_on (first days of months), last_status."""
    return (
        statuses.group_by("ID")
        .agg(
            pl.col("MONTHS_BALANCE").min().alias("first_month"),
            pl.col("MONTHS_BALANCE").max().alias("last_month"),
            pl.col("STATUS").sort_by("MONTHS_BALANCE").last().alias("last_status"),
            pl.len().alias("months"),
        )
        .collect(engine="streaming")
        .sort("ID")
        .with_columns(
            _month_on("first_month").alias("opened_on"),
            _month_on("last_month").alias("last_month_on"),
        )
    )


def _applications(table: pl.LazyFrame, lives: pl.DataFrame) -> pl.DataFrame:
    """Rows of the feed in the order of the file, and `birth_year`."""
    attributes = [column for column in APPLICATIONS if column != "ID"]
    rows = (
        table.select(APPLICATIONS)
        .with_row_index("row_no")
        .collect()
        .with_columns(pl.int_range(1, pl.len() + 1).over("ID").alias("occurrence"))
    )
    person = (
        pl.when(pl.col("occurrence") == 1)
        .then(pl.format("{}", "ID"))
        .otherwise(pl.format("{}_{}", "ID", "occurrence"))
    )
    people = rows.group_by(attributes).agg(
        person.sort_by("ID", "occurrence").first().alias("person")
    )
    born_on = pl.lit(EXTRACTED_ON) + pl.duration(days=pl.col("DAYS_BIRTH"))
    submitted_at = pl.coalesce("opened_on", pl.lit(EXTRACTED_ON)).cast(pl.Datetime("us"))
    has_account = pl.col("opened_on").is_not_null()
    return (
        rows.join(people, on=attributes, nulls_equal=True, how="left")
        .join(lives.select("ID", "opened_on"), on="ID", how="left")
        .sort("row_no")
        .select(
            pl.format("cca_application_{}", "ID").alias("application_id"),
            pl.format("cca_person_{}", "person").alias("person_id"),
            pl.lit(PROGRAM_ID).alias("program_id"),
            submitted_at.alias("submitted_at"),
            pl.format("cca_customer_{}", "person").alias("customer_id"),
            to_minor(pl.col("AMT_INCOME_TOTAL"), CURRENCY).alias("stated_income_minor"),
            pl.lit(CURRENCY).alias("currency"),
            pl.col("NAME_INCOME_TYPE")
            .replace_strict(EMPLOYMENT, default=None)
            .alias("employment_status"),
            pl.when(has_account).then(pl.lit("APPROVED")).alias("decision"),
            pl.when(has_account).then(submitted_at).alias("decision_at"),
            pl.when(has_account)
            .then(pl.format("cca_account_{}", "ID"))
            .alias("account_id"),
            born_on.dt.year().alias("birth_year"),
        )
    )  # fmt: skip


def _customers(applications: pl.DataFrame, lives: pl.DataFrame) -> pl.DataFrame:
    """One row per person at the first application, and one per account without an application."""
    applicants = applications.group_by("customer_id").agg(
        pl.col("submitted_at").min().alias("updated_at"),
        pl.col("person_id").first(),
        pl.col("birth_year").first(),
    )
    others = _without_application(applications, lives).select(
        "customer_id", pl.col("opened_on").cast(pl.Datetime("us")).alias("updated_at")
    )
    return pl.concat([applicants, others], how="diagonal").sort("updated_at", "customer_id")


def _without_application(applications: pl.DataFrame, lives: pl.DataFrame) -> pl.DataFrame:
    return (
        lives.with_columns(
            pl.format("cca_account_{}", "ID").alias("account_id"),
            pl.format("cca_customer_{}", "ID").alias("customer_id"),
        )
        .join(applications.select("account_id"), on="account_id", how="anti")
        .sort("ID")
    )


def _accounts(applications: pl.DataFrame, lives: pl.DataFrame) -> pl.DataFrame:
    """One row per account at its opening, and a second at its closing where it was paid off."""
    holders = applications.drop_nulls("account_id").unique("account_id", keep="last")
    opened = (
        lives.with_columns(pl.format("cca_account_{}", "ID").alias("account_id"))
        .join(holders.select("account_id", "customer_id"), on="account_id", how="left")
        .select(
            "account_id",
            pl.coalesce("customer_id", pl.format("cca_customer_{}", "ID")).alias("customer_id"),
            pl.lit(PROGRAM_ID).alias("program_id"),
            "opened_on",
            pl.lit(0).alias("credit_limit_minor"),
            pl.lit(CURRENCY).alias("currency"),
            pl.col("opened_on").cast(pl.Datetime("us")).alias("updated_at"),
            pl.lit("OPEN").alias("status"),
            pl.col("last_month_on").dt.month_end().alias("_end_on"),
            _is_paid_off().alias("_is_paid_off"),
        )
    )
    closed = opened.filter("_is_paid_off").with_columns(
        pl.col("_end_on").cast(pl.Datetime("us")).alias("updated_at"),
        pl.lit("CLOSED").alias("status"),
        pl.col("_end_on").alias("closed_on"),
        pl.lit("PAID_OFF").alias("close_reason"),
    )
    return (
        pl.concat([opened, closed], how="diagonal")
        .drop("_end_on", "_is_paid_off")
        .sort("updated_at", "account_id")
    )


def _is_paid_off() -> pl.Expr:
    return (pl.col("last_month") < 0) & (pl.col("last_status") == PAID_OFF)


def _statements(statuses: pl.LazyFrame, month: date) -> pl.DataFrame:
    """One row per account with a status in `month` (a first day)."""
    offset = (month.year - MONTH_ZERO.year) * 12 + month.month - MONTH_ZERO.month
    return (
        statuses.filter(pl.col("MONTHS_BALANCE") == offset)
        .select(
            "ID",
            pl.format("cca_statement_{}_{}", "ID", pl.lit(f"{month:%Y-%m}")).alias("statement_id"),
            pl.format("cca_account_{}", "ID").alias("account_id"),
            pl.lit(month).alias("period_start_on"),
            pl.lit(last_day_of_month(month)).alias("period_end_on"),
            pl.lit(0).alias("opening_balance_minor"),
            pl.lit(0).alias("closing_balance_minor"),
            pl.lit(CURRENCY).alias("currency"),
            pl.col("STATUS").replace_strict(DAYS_PAST_DUE, default=None).alias("days_past_due"),
        )
        .collect(engine="streaming")
        .sort("ID")
        .drop("ID")
    )


def _notes(applications: pl.DataFrame, lives: pl.DataFrame, statuses: pl.LazyFrame) -> list[str]:
    months = lives["months"].sum()
    twice = applications["application_id"]
    unjoined = _without_application(applications, lives).height
    undecided = applications["decision"].null_count()
    notes = [
        f"month 0 has no date in the data: {MONTH_ZERO:%B %Y} stands for it",
        "the data hold no amounts but income: balances and limits are 0",
        f"{undecided} applications have no monthly statuses: dated {EXTRACTED_ON}, no decision",
        f"{unjoined} accounts have no application",
        f"{twice.len() - twice.n_unique()} application ids occur again: "
        "the later row is a version of the earlier",
        f"{applications['person_id'].n_unique()} people by equal attributes",
        f"{lives.filter(_is_paid_off()).height} accounts closed, paid off, before month 0",
    ]
    if months == SPREADSHEET_ROWS:
        notes.append(
            f"the monthly statuses stop at {months} rows, a spreadsheet's limit: "
            "the last account may be cut short and later ones are missing"
        )
    unknown = (
        statuses.filter(~pl.col("STATUS").is_in([*DAYS_PAST_DUE, NO_LOAN]))
        .select(pl.len())
        .collect(engine="streaming")
        .item()
    )
    if unknown:
        notes.append(f"{unknown} monthly statuses are none of 0-5, C and X: no days past due")
    return notes
