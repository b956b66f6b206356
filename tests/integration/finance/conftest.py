"""A home with a busy rewards ledger and the finance tables that dbt makes of it."""

from collections.abc import Iterator

import duckdb
import pytest

from pipelines.finance.reconciliation import reconcile
from pipelines.settings import Settings
from pipelines.transform import dbt
from pipelines.warehouse import connect
from tests.rewards_ledger import FINANCE_MARTS, busy_ledger

# What packs read of the marts; the curated tables themselves are tested elsewhere.
MARTS = """
create table marts.fct_earning_events as
select
    event_id, account_id, program_id, effective_on as posted_on, eligible_minor as amount_minor,
    'USD' as currency, recorded_at as received_at, 'file-' || left(event_id, 6) as file_id,
    case when rule_id = 'base' then '5411' else '4511' end as mcc
from rewards.decisions;
create table marts.fct_reward_events (file_id varchar, program_id varchar, event_at timestamp);
"""


def settle(con: duckdb.DuckDBPyConnection) -> None:
    """Settlement of three days; the network's charges of the last are not what was paid."""
    for number, paid_charges in enumerate((7, 7, 9), start=1):
        on = f"2025-06-{number:02d}"
        con.execute(
            "insert into marts.fct_settlement_totals values "
            "(?, 'VISA', ?, 'USD', 9000, 180, ?, ?, true)",
            [f"t{number}", on, paid_charges, 9000 - 180 - paid_charges],
        )
        for kind, direction, amount, micros in (
            ("CLEARING", "DEBIT", 10_000, 200_400_000),
            ("CLEARING", "CREDIT", 1_000, 20_000_000),
            ("FEE", "DEBIT", 7, None),
        ):
            con.execute(
                "insert into marts.fct_settlement_details values "
                "(?, 'VISA', ?, ?, ?, 'USD', ?, null, null, ?)",
                [f"d{number}{kind}{direction}", on, kind, amount, direction, micros],
            )
        con.execute("insert into raw.settlement_totals (file_id, report_on) values ('s', ?)", [on])
    con.execute(
        "insert into landing.files (file_id, feed, batch_date, load_no, state, rows) "
        "values ('s', 'settlement_totals', date '2025-06-05', 1, 'DUPLICATE', 0)"
    )


def build_finance(settings: Settings) -> None:
    """Everything in `dbt/models/finance`, with its data and unit tests."""
    dbt(["build", "--select", "finance"], settings)


@pytest.fixture(scope="session")
def finance_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a home with three programs over eight months; not to be written to."""
    settings = Settings(home=tmp_path_factory.mktemp("finance"))  # pyright: ignore[reportCallIssue]
    with connect(settings=settings) as con:
        busy_ledger().write(con)
        con.execute(MARTS)
        con.execute(FINANCE_MARTS)
        settle(con)
    build_finance(settings)
    reconcile(settings=settings)
    yield settings
