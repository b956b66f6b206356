"""The month's journals as accounting systems import them: one CSV line a debit or credit."""

import polars as pl

from pipelines.errors import CardlineError
from pipelines.finance.units import Unit
from pipelines.settings import Settings
from pipelines.warehouse import connect

COLUMNS = (
    "journal", "posting_date", "period", "account", "account_name", "debit", "credit", "currency",
    "description", "unit",
)  # fmt: skip

_ENTRIES = """
select
    program_id || '-' || period || '-' || source as journal,
    last_day(cast(period || '-01' as date)) as posting_date,
    period, gl_account as account, account_name, debit_minor, credit_minor, currency,
    'Rewards ' || replace(lower(source), '_', ' ') as description, program_id as unit, line_no
from finance.gl_entries
where period = ? and (? is null or program_id = ?)
union all
select
    network || '-' || report_on || '-' || source, report_on, period, gl_account, account_name,
    debit_minor, credit_minor, currency, 'Settlement ' || lower(source), network, line_no
from finance.settlement_entries
where period = ? and ? is null
order by unit, posting_date, journal, line_no
"""


def gl_journals(period: str, program: str | None, settings: Settings | None = None) -> pl.DataFrame:
    """The journals of `period` (YYYY-MM) with the columns `COLUMNS`.

    Amounts are decimals in whole units of their currency, as text; a line has a debit or a credit.
    With `program` only its journals, without also those of the settlement with the networks.
    Raises `CardlineError` where there are none, and where they do not balance.
    """
    with connect(read_only=True, settings=settings) as con:
        found = con.execute(_ENTRIES, [period, program, program, period, program]).pl()
    if found.is_empty():
        of = f"program {program!r}" if program else "any program"
        raise CardlineError(
            f"there are no journals of {of} in {period!r} (a month as YYYY-MM): see "
            "finance.gl_entries"
        )
    apart = (
        found.group_by("journal", "currency")
        .agg((pl.col("debit_minor") - pl.col("credit_minor")).sum().alias("difference"))
        .filter(pl.col("difference") != 0)
        .sort("journal")
    )
    if not apart.is_empty():
        journal, _, difference = apart.row(0)
        raise CardlineError(f"journal {journal} does not balance: {difference} minor units")

    def whole(name: str) -> pl.Series:
        return pl.Series(
            name.removesuffix("_minor"),
            [
                f"{Unit.money(currency).decimal(amount):f}" if amount else ""
                for amount, currency in found.select(name, "currency").iter_rows()
            ],
            dtype=pl.String,
        )

    return found.with_columns(whole("debit_minor"), whole("credit_minor")).select(COLUMNS)
