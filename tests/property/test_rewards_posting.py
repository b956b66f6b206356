"""Entries written in columns against entries worked one by one, over random histories."""

from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.rewards.ledger import LOT_SCHEMA, Entries
from pipelines.rewards.lots import AccountLots
from pipelines.rewards.posting import ACTION_SCHEMA, Account, AccountPosting
from pipelines.rewards.posting_columns import in_deficit, merged, post_in_columns
from tests.property.rewards_histories import START, program

MILES = program(expiry={"kind": "LOT", "months": 24, "align": "END_OF_QUARTER"})
LAST = START + timedelta(days=60)
NO_LOTS = pl.DataFrame(schema={**LOT_SCHEMA, "points_open": pl.Int64, "is_pending": pl.Boolean})
STATES = pl.DataFrame(schema={"account_id": pl.String, "balance": pl.Int64})
relaxed = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def actions(draw: st.DrawFn) -> pl.DataFrame:
    """What the posted events of two accounts give and take, in their order."""
    rows: list[dict[str, Any]] = []
    day = 0
    for number in range(draw(st.integers(1, 14))):
        account = f"a{draw(st.integers(1, 2))}"
        day += draw(st.integers(0, 2))
        earned = [r["event_id"] for r in rows
                  if r["account_id"] == account and r["points"] > 0]  # fmt: skip
        parts = draw(st.lists(st.integers(1, 90), min_size=1, max_size=2))
        takes = bool(earned) and draw(st.integers(0, 2)) == 0
        items = draw(st.lists(st.sampled_from(earned), max_size=2, unique=True)) if takes else None
        sign = -1 if takes else 1
        rows.append(
            {
                "account_id": account, "day": START + timedelta(days=day), "place": number,
                "event_id": f"e{number}", "version_no": 1, "revision": 1,
                "event_class": "CLAWBACK" if takes else "EARN",
                "points": sign * sum(parts), "bonus": 0,
                "funding_partner_bps": [0, 5000][: len(parts)],
                "parts": [sign * part for part in parts],
                "effective_on": START + timedelta(days=day - draw(st.integers(0, 40))),
                "rule_hash": "h", "reverses": False, "item_event_ids": items,
            }
        )  # fmt: skip
    return pl.DataFrame(rows, schema=ACTION_SCHEMA)


def one_by_one(found: pl.DataFrame) -> tuple[Entries, dict[str, AccountLots]]:
    """The entries of `found` worked in their order, and the lots that are left."""
    posting = AccountPosting(MILES, START - timedelta(days=1), LAST, [])
    lots: dict[str, AccountLots] = {}
    for name in found["account_id"].unique().sort():
        account = Account(name, AccountLots())
        account.actions = found.filter(account_id=name).to_dicts()
        posting.run(account)
        lots[name] = account.lots
    order, entries, _ = posting.finish()
    return merged([(order, entries)]), lots


def check(found: pl.DataFrame) -> None:
    """Both ways write the same, and what they write adds up."""
    expected, left = one_by_one(found)
    signed = pl.when(pl.col("direction") == "CREDIT").then("amount").otherwise(-pl.col("amount"))
    sums = expected.postings.group_by("journal_id").agg(total=signed.sum())
    assert sums["total"].to_list() == [0] * sums.height
    held = dict(
        expected.postings.filter(pl.col("account_id").is_not_null())
        .group_by("account_id").agg(balance=signed.sum()).iter_rows()
    )  # fmt: skip
    for name, lots in left.items():
        assert (
            held[name] == lots.balance == sum(lot.points_open for lot in lots.open) - lots.deficit
        )
        assert all(lot.points_open > 0 for lot in lots.open)
        assert not (lots.open and lots.deficit)
    below = in_deficit(found, STATES).implode()
    fine = found.filter(~pl.col("account_id").is_in(below))
    written = merged([post_in_columns(MILES, fine, NO_LOTS)])
    again, _ = one_by_one(fine)
    for name in ("journals", "postings", "lots", "consumption"):
        assert getattr(written, name).equals(getattr(again, name)), name


@relaxed
@given(actions())
def test_columns_write_what_one_by_one_writes(found):
    check(found)


@pytest.mark.slow
@settings(relaxed, max_examples=10_000)
@given(actions())
def test_columns_write_what_one_by_one_writes_in_ten_thousand_histories(found):
    check(found)
