"""A home with a busy rewards ledger and the finance tables that dbt makes of it."""

from collections.abc import Iterator

import pytest

from pipelines.finance.reconciliation import reconcile
from pipelines.settings import Settings
from pipelines.transform import dbt
from pipelines.warehouse import connect
from tests.rewards_ledger import busy_ledger

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
    build_finance(settings)
    reconcile(settings=settings)
    yield settings
