"""Entries written in columns against entries worked one by one, over random histories."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.rewards.ledger import LOT_SCHEMA, Entries
from pipelines.rewards.lots import AccountLots, Lot
from pipelines.rewards.posting import ACTION_SCHEMA, Account, AccountPosting, month_ends
from pipelines.rewards.posting_columns import (
    merged,
    month_end_transfers,
    of_events,
    post_in_columns,
)
from pipelines.rewards.terms import Program
from tests.property.rewards_histories import START, program

POINTS = program(expiry={"kind": "LOT", "months": 24, "align": "END_OF_QUARTER"})
MILES = program(expiry={"kind": "NONE"}, settlement_model="PARTNER_POSTED", currency_kind="MILES")
BEFORE, LAST = START - timedelta(days=1), START + timedelta(days=60)
HELD_SCHEMA = {**LOT_SCHEMA, "points_open": pl.Int64, "is_pending": pl.Boolean}
ACCOUNTS = ("a1", "a2", "a3")
relaxed = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass
class History:
    """What the posted events of accounts give and take, and what these held before."""

    actions: pl.DataFrame
    lots: pl.DataFrame
    states: pl.DataFrame


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Earlier lots or debts of three accounts, then what the events of two of them do."""
    lots, states = [], []
    for account in ACCOUNTS:
        points = [] if draw(st.booleans()) else draw(st.lists(st.integers(1, 90), max_size=2))
        for number, each in enumerate(points):
            issued_on = START - timedelta(days=draw(st.integers(1, 40)))
            source = f"old{number}{account}"
            lots.append((f"lot:{source}:1", account, source, f"accrual:{source}:1", issued_on,
                         None, 0, each + 5, None, each, False))  # fmt: skip
        states.append((account, sum(points) if points else -draw(st.integers(0, 120))))
    earned: dict[str, list[str]] = {account: [f"old0{account}"] for account in ACCOUNTS}
    rows: list[dict[str, Any]] = []
    day = 0
    for number in range(draw(st.integers(1, 14))):
        account = draw(st.sampled_from(ACCOUNTS[:2]))
        day += draw(st.integers(0, 9))
        funders = draw(st.lists(st.sampled_from([0, 2500, 5000, 10_000]), min_size=1, max_size=3,
                                unique=True))  # fmt: skip
        parts = [draw(st.integers(0, 90)) for _ in funders]
        parts[0] += not any(parts)
        kind = draw(st.sampled_from(["EARN", "EARN", "CLAWBACK", "CLAWBACK", "RESTORE"]))
        items = None
        if kind != "EARN":
            items = draw(st.lists(st.sampled_from(earned[account]), max_size=2, unique=True))
        else:
            earned[account].append(f"e{number}")
        sign = -1 if kind == "CLAWBACK" else 1
        rows.append(
            {
                "account_id": account, "day": START + timedelta(days=day), "place": number,
                "event_id": f"e{number}", "version_no": 1, "revision": 1, "event_class": kind,
                "journal_id": f"{'accrual' if kind == 'EARN' else 'clawback'}:e{number}:1",
                "points": sign * sum(parts), "bonus": 0, "funding_partner_bps": funders,
                "parts": [sign * part for part in parts],
                "effective_on": START + timedelta(days=day - draw(st.integers(0, 40))),
                "rule_hash": "h", "reverses": False, "item_event_ids": items,
            }
        )  # fmt: skip
    return History(
        pl.DataFrame(rows, schema=ACTION_SCHEMA),
        pl.DataFrame(lots, schema=HELD_SCHEMA, orient="row"),
        pl.DataFrame(states, schema={"account_id": pl.String, "balance": pl.Int64}, orient="row"),
    )


def one_by_one(
    terms: Program, history: History, ends: list[date]
) -> tuple[Entries, dict[str, AccountLots]]:
    """The entries worked in their order, and the lots that are left."""
    posting = AccountPosting(terms, BEFORE, LAST, ends)
    left: dict[str, AccountLots] = {}
    for name, balance in history.states.rows():
        lots = [
            Lot(each["lot_id"], each["source_id"], each["issued_on"], None, 0,
                each["points_issued"], each["points_open"])
            for each in history.lots.filter(account_id=name).iter_rows(named=True)
        ]  # fmt: skip
        account = Account(
            name, AccountLots(lots, max(0, -balance)), known_lots={lot.lot_id: lot for lot in lots}
        )
        account.actions = history.actions.filter(account_id=name).to_dicts()
        posting.run(account)
        left[name] = account.lots
    order, entries, _ = posting.finish()
    return merged([(order, entries)]), left


def check(terms: Program, history: History) -> None:
    """Both ways write the same, and what they write adds up."""
    ends = month_ends(BEFORE, LAST)
    expected, left = one_by_one(terms, history, ends)
    signed = pl.when(pl.col("direction") == "CREDIT").then("amount").otherwise(-pl.col("amount"))
    sums = expected.postings.group_by("journal_id").agg(total=signed.sum())
    assert sums["total"].to_list() == [0] * sums.height
    held = dict(history.states.rows())
    moved = expected.postings.filter(pl.col("account_id").is_not_null())
    for name, points in moved.group_by("account_id").agg(points=signed.sum()).rows():
        held[name] += points
    for name, lots in left.items():
        assert (
            held[name] == lots.balance == sum(lot.points_open for lot in lots.open) - lots.deficit
        )
        assert all(lot.points_open > 0 for lot in lots.open)
        assert not (lots.open and lots.deficit)
    entries = of_events(terms, history.actions)
    if terms is MILES:
        transfers = month_end_transfers(terms, history.actions, history.states, ends)
        entries = pl.concat([entries, transfers])
    written = merged([post_in_columns(terms, entries, history.states, history.lots)])
    for name in ("journals", "postings", "lots", "consumption"):
        assert getattr(written, name).equals(getattr(expected, name)), name


either = st.sampled_from([POINTS, MILES])


@relaxed
@given(either, histories())
def test_columns_write_what_one_by_one_writes(terms, history):
    check(terms, history)


@pytest.mark.slow
@settings(relaxed, max_examples=10_000)
@given(either, histories())
def test_columns_write_what_one_by_one_writes_in_ten_thousand_histories(terms, history):
    check(terms, history)
