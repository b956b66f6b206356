"""The council's purchase cards with their own program: books against the files as delivered."""

import csv
import os
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from pipelines.finance.packs import build_pack
from pipelines.finance.reconciliation import verify_reconciliations
from pipelines.settings import Settings
from pipelines.sources.adapters import ADAPTERS
from pipelines.sources.birmingham import PROGRAM_ID
from tests.books import Books

PUBLIC_DATA = os.environ.get("CARDLINE_PUBLIC_DATA")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PUBLIC_DATA, reason="CARDLINE_PUBLIC_DATA is not set"),
]


def delivered() -> Iterator[tuple[str, int]]:
    """Month and billed pence of every row of the council's files, read with nothing of ours."""
    for path in sorted((Path(PUBLIC_DATA or "") / "birmingham_pcard").glob("*.csv")):
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            for row in csv.DictReader(file):
                amount = row.get("BILLING GROSS AMT") or row["ORIGINAL GROSS AMT"]
                if row["TRANS DATE"] and amount:
                    yield row["TRANS DATE"][:7], int(Decimal(amount.replace(",", "")) * 100)


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Books:
    books = Books(Settings(home=tmp_path_factory.mktemp("birmingham")))  # pyright: ignore
    ADAPTERS["birmingham"](Path(PUBLIC_DATA or ""), books.settings.landing_dir)
    books.build()
    return books


def test_control_totals_of_every_month_are_those_of_the_files(books: Books) -> None:
    worked: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for month, pence in delivered():
        told = worked[month]
        told[0] += 1
        told[1] += max(pence, 0)
        told[2] += max(-pence, 0)
    posted = books.frame(
        "select strftime(posted_on, '%Y-%m') as month, count(*), "
        "coalesce(sum(amount_minor) filter (where direction = 'DEBIT'), 0)::bigint, "
        "coalesce(sum(amount_minor) filter (where direction = 'CREDIT'), 0)::bigint "
        "from marts.fct_posted_transactions group by all"
    )
    assert {month: sums for month, *sums in posted.rows()} == dict(worked)
    assert sum(sums[0] for sums in worked.values()) == 10_978


def test_every_row_is_decided_and_the_base_rule_gives_a_penny_a_pound(books: Books) -> None:
    decided = books.frame(
        "select count(distinct event_id) from rewards.decisions where rule_id = 'base'"
    ).item()
    assert decided == sum(1 for _ in delivered())
    # No code of the council's is one that the terms exclude.
    points = books.frame(
        "select sum(points)::bigint from rewards.decisions inner join "
        "marts.fct_posted_events using (event_id) where rule_id = 'base' and direction = 'DEBIT'"
    ).item()
    assert points == sum(pence // 100 for _, pence in delivered() if pence > 0)


def test_the_pack_of_a_month_ties_and_nothing_breaks(books: Books) -> None:
    for month in ("2014-07", "2014-08", "2017-09"):
        pack = build_pack(PROGRAM_ID, month, settings=books.settings)
        decisions = pl.read_csv(pack / "decisions_summary.csv")
        [base] = decisions.filter(rule_id="base")["decisions"]
        assert base == sum(1 for on, _ in delivered() if on == month)
        closing = pl.read_csv(pack / "liability_rollforward.csv").row(-1, named=True)
        assert decisions["points"].sum() == (
            closing["accrued_points"] - closing["clawed_back_points"]
        )
        # A unit is a penny: points and money are one.
        assert closing["closing_points"] == closing["closing_minor"]
    assert books.exceptions().is_empty()
    assert all(result.ok for result in verify_reconciliations(books.settings))
