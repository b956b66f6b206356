"""Sparkov: what becomes of customers, cards, merchants, purchases and frauds."""

from datetime import date, datetime, timedelta

import polars as pl
import pytest

from pipelines.settings import get_settings
from pipelines.sources import sparkov
from tests.landed import contents, landed
from tests.unit import adapter_samples


@pytest.fixture
def adapted(tmp_path, monkeypatch):
    monkeypatch.setenv("CARDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CARDLINE_TOKEN_KEY", "a key of this test")
    get_settings.cache_clear()
    source = adapter_samples.sparkov(tmp_path / "sparkov")
    yield tmp_path / "landing", sparkov.adapt(source, tmp_path / "landing")
    get_settings.cache_clear()


def test_no_number_of_a_card_account_or_person_is_landed(adapted):
    landing, _ = adapted
    numbers = [
        *adapter_samples.CARD_NUMBERS,
        *adapter_samples.ACCOUNT_NUMBERS,
        *adapter_samples.SECURITY_NUMBERS,
    ]
    frames = [pl.read_parquet(path) for path in landing.glob("*/*/*.parquet")]
    values = {str(value) for frame in frames for row in frame.iter_rows() for value in row}
    assert not [value for value in values if any(number in value for number in numbers)]
    stored = b"".join(contents(landing).values())
    assert not any(number.encode() in stored for number in numbers)


def test_one_account_and_card_per_customer_joined_by_tokens(adapted):
    landing, _ = adapted
    customers, accounts, cards = (
        landed(landing, feed) for feed in ("customers", "accounts", "cards")
    )
    assert [frame.height for frame in (customers, accounts, cards)] == [3, 3, 3]
    assert set(accounts["customer_id"]) == set(customers["customer_id"])
    assert set(cards["account_id"]) == set(accounts["account_id"])
    assert set(accounts["program_id"]) == {"sparkov_rewards"}
    assert sorted(customers["birth_year"]) == [1980, 1981, 1982]
    assert sorted(customers["postal_code"]) == ["00234", "01234", "02234"]
    assert set(customers["latitude"]) == {30.5}
    transactions = landed(landing, "transactions")
    pairs = transactions.select("card_id", "account_id").unique()
    assert pairs.join(cards, on=["card_id", "account_id"]).height == 3


def test_who_holds_what_is_delivered_before_the_first_transaction(adapted):
    landing, _ = adapted
    for feed in ("customers", "accounts", "cards", "merchants"):
        assert set(landed(landing, feed)["batch_date"]) == {date(2019, 1, 30)}


def test_purchases_by_day_in_minor_units(adapted):
    landing, _ = adapted
    rows = landed(landing, "transactions")
    assert rows["batch_date"].to_list() == [
        date(2019, 1, 31), date(2019, 2, 1), date(2019, 2, 1), date(2019, 2, 3),
    ]  # fmt: skip
    assert rows["amount_minor"].to_list() == [1005, 3562548, 100, 29]
    assert rows["mcc"].to_list() == ["5411", "5812", "5411", "5964"]
    assert rows["entry_mode"].to_list() == [None, None, None, "ECOMMERCE"]
    assert rows["is_card_present"].to_list() == [True, None, True, False]
    assert set(rows["direction"]) == {"DEBIT"} and set(rows["event_type"]) == {"CLEARING"}
    assert rows["event_id"].to_list() == rows["transaction_id"].to_list()
    assert rows["event_id"][0] == f"{0xA1:032x}"
    assert rows["latitude"][0] == pytest.approx(30.123456)


def test_a_merchant_of_two_categories_has_its_more_frequent_one(adapted):
    landing, summary = adapted
    merchants = landed(landing, "merchants")
    assert merchants.select("merchant_id", "name", "mcc").rows() == [
        ("sparkov_merchant_netshop-ltd", "Netshop Ltd", "5964"),
        ("sparkov_merchant_old-mill-and-sons", "Old, Mill and Sons", "5411"),
    ]
    assert any("1 merchants sell in several categories" in note for note in summary.notes)


def test_a_fraud_is_known_seven_days_later(adapted):
    landing, _ = adapted
    labels = landed(landing, "fraud_labels")
    occurred_at = datetime(2019, 2, 1, 12)
    assert labels.select(
        "transaction_id", "label", "occurred_at", "known_at", "batch_date"
    ).rows() == [
        (f"{0xC3:032x}", "FRAUD", occurred_at, occurred_at + timedelta(days=7), date(2019, 2, 8))
    ]


def test_an_account_without_a_customer_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("CARDLINE_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    source = adapter_samples.sparkov(tmp_path / "sparkov")
    customers = source / "customers.csv"
    pl.read_csv(customers, infer_schema=False).head(2).write_csv(customers)
    summary = sparkov.adapt(source, tmp_path / "landing")
    get_settings.cache_clear()
    assert "1 accounts have transactions and no row in customers.csv" in summary.notes
    assert summary.rows["transactions"] == 4
