"""A day's data tests look at what the day wrote, and find there what they would find in all."""

from pathlib import Path

import pytest

from pipelines.warehouse import connect, snapshots
from tests.dbt.lake_builds import build, deliver
from tests.dbt.random_history import history, loads_of

SEED = 11
CURATED = ("--exclude", "path:models/finance", "path:tests/finance", "resource_type:unit_test")
FAULTS = {
    "unique_fct_payments_payment_id":
        "insert into marts.fct_payments from (from marts.fct_payments order by payment_id limit 1)",
    "not_null_int_refunds__linked_transaction_id":
        "insert into intermediate.int_refunds__linked by name select null as transaction_id",
    "accepted_values_fct_fraud_labels_label":
        "insert into marts.fct_fraud_labels by name select * replace ('MAYBE' as label, "
        "label_id || 'x' as label_id) from marts.fct_fraud_labels limit 1",
    "is_unique_together_card_velocity_features":
        "insert into features.card_velocity_features from "
        "(from features.card_velocity_features limit 1)",
    "is_unique_together_int_transaction_events__versioned":
        "insert into intermediate.int_transaction_events__versioned from (from "
        "intermediate.int_transaction_events__versioned where superseded_at is null and file_id in "
        "(select file_id from landing.files where load_no = 1) order by event_at limit 1)",
    "assert_scd_periods_do_not_overlap":
        "insert into marts.dim_accounts by name select * replace (valid_from - interval 1 day "
        "as valid_from) from marts.dim_accounts where is_current limit 1",
    "assert_features_known_no_earlier_than_about":
        "insert into features.account_amount_features by name select * replace "
        "(event_timestamp - interval 1 day as created_timestamp) "
        "from features.account_amount_features limit 1",
}  # fmt: skip


def _newest_snapshot() -> int:
    with connect(read_only=True) as con:
        return snapshots(con)[1]


@pytest.fixture(scope="module")
def day(home: Path) -> tuple[int, int]:
    """The ingest commit before a day's, and the snapshot on which tests passed before it."""
    first, second, *_ = loads_of(history(SEED), SEED)
    load_no = deliver(first)
    build(*CURATED, command="build")
    tested = _newest_snapshot()
    deliver(second)
    build(*CURATED, command="build", from_load_no=load_no, tested_snapshot=tested)
    return load_no, tested


def test_each_fault_of_the_day_is_found_and_no_other(day: tuple[int, int]) -> None:
    """Found while it is news, and left alone once the tests are told to look after it."""
    load_no, tested = day
    with connect() as con:
        for statement in FAULTS.values():
            con.execute(statement)
    after = _newest_snapshot()
    with pytest.raises(AssertionError) as failed:
        build(*CURATED, command="test", from_load_no=load_no, tested_snapshot=tested)
    assert [name for name in FAULTS if name not in str(failed.value)] == []
    build(*CURATED, command="test", from_load_no=load_no, tested_snapshot=after)
    with pytest.raises(AssertionError) as failed:
        build(*CURATED, command="test")
    assert [name for name in FAULTS if name not in str(failed.value)] == []
