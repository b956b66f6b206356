"""Handbook: transactions in order, terminals as merchants, labels seven days late."""

from datetime import date, datetime

from pipelines.sources import handbook
from tests.landed import landed
from tests.unit import adapter_samples


def test_transactions_terminals_and_labels(tmp_path):
    landing = tmp_path / "landing"
    handbook.adapt(adapter_samples.handbook(tmp_path / "handbook_fraud"), landing)
    rows = landed(landing, "transactions")
    assert rows.select("transaction_id", "account_id", "card_id", "merchant_id").rows() == [
        ("handbook_transaction_0", "handbook_account_7", "handbook_card_7", "handbook_merchant_30"),
        ("handbook_transaction_1", "handbook_account_8", "handbook_card_8", "handbook_merchant_31"),
        ("handbook_transaction_2", "handbook_account_7", "handbook_card_7", "handbook_merchant_31"),
    ]
    assert rows["amount_minor"].to_list() == [0, 22029, 5716]
    assert rows["batch_date"].to_list() == [date(2018, 4, 30), date(2018, 4, 30), date(2018, 5, 1)]
    assert landed(landing, "merchants")["merchant_id"].to_list() == [
        "handbook_merchant_30",
        "handbook_merchant_31",
    ]
    assert landed(landing, "merchants")["batch_date"].to_list() == [date(2018, 4, 29)] * 2
    labels = landed(landing, "fraud_labels")
    assert labels.select("transaction_id", "known_at", "fraud_type", "batch_date").rows() == [
        ("handbook_transaction_2", datetime(2018, 5, 8, 0, 0, 5), "SCENARIO_2", date(2018, 5, 8))
    ]
    assert {folder.name for folder in landing.iterdir()} == {
        "transactions",
        "merchants",
        "fraud_labels",
    }
