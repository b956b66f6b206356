"""Landing files of a plain portfolio in any size, for measuring; what it tells is of no interest.

An account buys about once in three days, each purchase an authorization and a clearing the day
after; some are refunded, some labelled, and every month has a statement and a payment. Accounts
shop in neighbourhoods of their own, so more accounts add rows beside those of the others and change
none of them. History comes as monthly files, as a conversion delivers it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from pipelines.sources.landing import LandingWriter
from pipelines.warehouse import memory

LAST_DAY = date(2026, 9, 30)
"""The last day of every history; the day after it is the one that is measured."""
MESSAGES_PER_ACCOUNT_DAY = 2 / 3
NEIGHBOURS, SHOPS = 50, 10

_PURCHASES = """
create or replace table purchases as
select
    account,
    'a' || account as account_id,
    'c' || account as card_id,
    bought_on,
    't' || account || '-' || epoch_us(bought_on)::bigint // 86400000000 || '-' || number
        as transaction_id,
    bought_on + to_seconds((hash(account, bought_on, number, 1) % 86000)::bigint) as event_at,
    (100 + hash(account, bought_on, number, 2) % 20000)::bigint as amount_minor,
    'm' || (account // $neighbours * $shops + hash(account, bought_on, number, 3) % $shops)
        as merchant_id,
    hash(account, bought_on, number, 4) % 1000 as fate
from range($accounts) as accounts(account),
    range($first::timestamp, $last::timestamp + interval 1 day, interval 1 day) as days(bought_on),
    range($a_day::bigint) as numbers(number)
where $a_day > 1 or (hash(account, bought_on, 0) % 3 = 0)
"""

_MESSAGES = """
select
    transaction_id || kind.suffix as event_id, transaction_id || kind.of_its_own as transaction_id,
    kind.event_type, account_id, card_id,
    event_at + to_days(kind.later) as event_at, amount_minor, 'USD' as currency, kind.direction,
    case when kind.event_type <> 'AUTHORIZATION' then (event_at + to_days(kind.later))::date end
        as posted_on,
    merchant_id, (5000 + substr(merchant_id, 2)::bigint % 40)::varchar as mcc,
    'US' as merchant_country,
    case when kind.event_type = 'AUTHORIZATION' then 'APPROVED' end as auth_result,
    case when kind.event_type = 'RETURN' and fate % 2 = 0 then transaction_id end
        as original_transaction_id
from purchases, (
    values ('A', '', 'AUTHORIZATION', 'DEBIT', 0), ('C', '', 'CLEARING', 'DEBIT', 1),
        ('R', '-R', 'RETURN', 'CREDIT', 4)
) as kind(suffix, of_its_own, event_type, direction, later)
where kind.event_type <> 'RETURN' or fate < 20
order by event_at, event_id
"""

_LABELS = """
select
    'l' || transaction_id as label_id, transaction_id,
    case when fate < 997 then 'LEGIT' else 'FRAUD' end as label,
    event_at as occurred_at, event_at + interval 3 day as known_at, 'CNP' as fraud_type
from purchases
where fate >= 995
"""

_ACCOUNTS = """
select
    'a' || account as account_id, 'u' || account as customer_id, 'clear_cash' as program_id,
    $first::date as opened_on, 500000::bigint as credit_limit_minor, 'USD' as currency,
    $first::timestamp as updated_at, 'OPEN' as status
from range($accounts) as accounts(account)
"""
_CARDS = """
select
    'c' || account as card_id, 'a' || account as account_id, $first::timestamp as updated_at,
    'ACTIVE' as state
from range($accounts) as accounts(account)
"""
_MERCHANTS = """
select
    'm' || merchant as merchant_id, $first::timestamp as updated_at, 'Shop ' || merchant as name,
    (5000 + merchant % 40)::varchar as mcc, 'US' as country
from range(($accounts // $neighbours + 1) * $shops) as merchants(merchant)
"""
_STATEMENTS = """
select
    's' || account || '-' || strftime($month::date, '%Y%m') as statement_id,
    'a' || account as account_id, $month::date as period_start_on, $last::date as period_end_on,
    0::bigint as opening_balance_minor, 100000::bigint as closing_balance_minor,
    'USD' as currency, 2500::bigint as minimum_due_minor, 90000::bigint as payments_minor,
    500000::bigint as credit_limit_minor, 0::bigint as days_past_due
from range($accounts) as accounts(account)
"""
_PAYMENTS = """
select
    'p' || account || '-' || strftime($month::date, '%Y%m') as payment_id,
    'a' || account as account_id, 90000::bigint as amount_minor, 'USD' as currency,
    $month::timestamp + interval 9 hour as initiated_at, 'SETTLED' as state
from range($accounts) as accounts(account)
"""


@dataclass(frozen=True, slots=True)
class Size:
    """A portfolio: `accounts` that buy over `days` up to `LAST_DAY`."""

    accounts: int
    days: int

    @classmethod
    def of(cls, transactions: int, days: int) -> "Size":
        """About `transactions` rows of the feed over `days`."""
        return cls(max(1, round(transactions / (days * MESSAGES_PER_ACCOUNT_DAY))), days)


def write_history(landing: Path, size: Size) -> int:
    """Write the history up to `LAST_DAY`; returns the rows of the feed `transactions`."""
    writer = LandingWriter(landing)
    first = LAST_DAY - timedelta(days=size.days - 1)
    whole = {"accounts": size.accounts, "first": first}
    shape = {"neighbours": NEIGHBOURS, "shops": SHOPS}
    with memory() as con:
        writer.write("accounts", first, con.execute(_ACCOUNTS, whole).pl())
        writer.write("cards", first, con.execute(_CARDS, whole).pl())
        shops = {"accounts": size.accounts, "first": first} | shape
        writer.write("merchants", first, con.execute(_MERCHANTS, shops).pl())
        for month, last in _months(first, LAST_DAY):
            of_month = {"accounts": size.accounts, "month": month, "last": last}
            con.execute(
                _PURCHASES,
                {"accounts": size.accounts, "first": month, "last": last, "a_day": 1} | shape,
            )
            messages = con.execute(_MESSAGES).pl()
            writer.write("transactions", last, _up_to(messages, "event_at", last))
            writer.write("fraud_labels", last, _up_to(con.execute(_LABELS).pl(), "known_at", last))
            writer.write("statements", last, con.execute(_STATEMENTS, of_month).pl())
            payments = {"accounts": size.accounts, "month": month}
            writer.write("payments", last, con.execute(_PAYMENTS, payments).pl())
    return writer.rows["transactions"]


def write_day(landing: Path, day: date, accounts: int, transactions: int) -> int:
    """Write one day: the first `accounts` accounts send `transactions` rows."""
    writer = LandingWriter(landing)
    with memory() as con:
        con.execute(
            _PURCHASES,
            {
                "accounts": accounts, "first": day - timedelta(days=1), "last": day,
                "a_day": max(2, round(transactions / (2 * accounts))),
                "neighbours": NEIGHBOURS, "shops": SHOPS,
            },
        )  # fmt: skip
        messages = con.execute(_MESSAGES).pl()
        labels = con.execute(_LABELS).pl()
    today = pl.col("event_at").dt.date() == day
    messages = messages.filter(today).head(transactions)
    writer.write("transactions", day, messages.with_columns(received_at=pl.col("event_at")))
    writer.write("fraud_labels", day, labels)
    return messages.height


def write_csv(path: Path, size: Size) -> int:
    """Write the messages of `size` to one CSV file at `path`; returns their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with memory() as con:
        con.execute(
            _PURCHASES,
            {
                "accounts": size.accounts, "first": LAST_DAY - timedelta(days=size.days - 1),
                "last": LAST_DAY, "a_day": 1, "neighbours": NEIGHBOURS, "shops": SHOPS,
            },
        )  # fmt: skip
        con.sql(_MESSAGES).write_csv(str(path))
        counted = con.read_csv(str(path)).aggregate("count(*)").fetchone()
    assert counted is not None
    return int(counted[0])


def _months(first: date, last: date) -> Iterator[tuple[date, date]]:
    """The months from `first` to `last`, each by its first and last day of them."""
    start = first
    while start <= last:
        following = (start.replace(day=1) + timedelta(days=32)).replace(day=1)
        yield start, min(last, following - timedelta(days=1))
        start = following


def _up_to(frame: pl.DataFrame, moment: str, last: date) -> pl.DataFrame:
    """Rows with their known time; what would come after the history is left out."""
    known = frame.with_columns(received_at=pl.col(moment))
    return known.filter(pl.col(moment).dt.date() <= min(last + timedelta(days=5), LAST_DAY))
