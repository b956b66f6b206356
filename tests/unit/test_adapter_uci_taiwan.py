"""UCI Taiwan: statements that close, days past due, payments, outcomes."""

from datetime import date, datetime

import polars as pl
import pytest

from pipelines.sources import uci_taiwan
from tests.landed import landed
from tests.unit import adapter_samples


@pytest.fixture
def adapted(tmp_path):
    source = adapter_samples.uci_taiwan(tmp_path / "uci_taiwan")
    return tmp_path / "landing", uci_taiwan.adapt(source, tmp_path / "landing")


def test_every_statement_closes(adapted):
    landing, _ = adapted
    statements = landed(landing, "statements")
    debits = pl.sum_horizontal(
        "purchases_minor", "cash_advances_minor", "balance_transfers_minor", "fees_minor",
        "interest_minor", "other_debits_minor",
    )  # fmt: skip
    expected = (
        pl.col("opening_balance_minor")
        + debits
        - pl.col("payments_minor")
        - pl.col("credits_minor")
    )
    assert statements.filter(pl.col("closing_balance_minor") != expected).is_empty()
    follows = statements.sort("account_id", "period_end_on").select(
        opening="opening_balance_minor",
        before=pl.col("closing_balance_minor").shift().over("account_id"),
    )
    assert follows.drop_nulls().filter(pl.col("opening") != pl.col("before")).is_empty()


def test_the_months_of_one_client(adapted):
    landing, _ = adapted
    rows = landed(landing, "statements").filter(account_id="uci_account_1").sort("period_end_on")
    assert rows["period_end_on"].to_list() == [
        date(2005, 4, 30), date(2005, 5, 31), date(2005, 6, 30),
        date(2005, 7, 31), date(2005, 8, 31), date(2005, 9, 30),
    ]  # fmt: skip
    assert rows["batch_date"].to_list() == rows["period_end_on"].to_list()
    assert rows["closing_balance_minor"].to_list() == [50000, 80000, 90000, 70000, 310000, 390000]
    # 3, -2 (no consumption), -1 (paid in full), 0 (revolving), 1, 2 months of delay
    assert rows["days_past_due"].to_list() == [90, 0, 0, 0, 30, 60]
    # April opens at nothing known; its 500.00 and the payment of 100.00 were brought forward.
    assert rows["opening_balance_minor"][0] == 0 and rows["other_debits_minor"][0] == 60000
    assert rows["purchases_minor"].to_list() == [0, 80000, 90000, 80000, 310000, 80000]
    assert rows["payments_minor"].to_list() == [10000, 50000, 80000, 100000, 70000, 0]


def test_a_bill_below_zero_and_a_number_with_an_exponent(adapted):
    landing, summary = adapted
    last = landed(landing, "statements").filter(
        account_id="uci_account_2", period_end_on=date(2005, 9, 30)
    )
    assert last["closing_balance_minor"].item() == -5000
    assert last["credits_minor"].item() == 5000 and last["purchases_minor"].item() == 0
    assert last["credit_limit_minor"].item() == 15_000_000
    assert any("1 amounts are written with an exponent" in note for note in summary.notes)
    assert any("1 statements close with a balance" in note for note in summary.notes)


def test_payments_of_more_than_nothing_in_the_middle_of_their_month(adapted):
    landing, _ = adapted
    payments = landed(landing, "payments").filter(account_id="uci_account_1")
    assert payments["amount_minor"].to_list() == [10000, 50000, 80000, 100000, 70000]
    assert payments["payment_id"].n_unique() == 5
    assert payments["initiated_at"].to_list()[0] == datetime(2005, 4, 15)
    assert set(payments["currency"]) == {"TWD"}


def test_outcomes_are_known_at_the_end_of_october(adapted):
    landing, _ = adapted
    outcomes = landed(landing, "credit_outcomes")
    assert outcomes.select("account_id", "is_bad", "observed_on").rows() == [
        ("uci_account_1", True, date(2005, 10, 31)),
        ("uci_account_2", False, date(2005, 10, 31)),
    ]
    assert set(outcomes["known_at"].dt.date()) == {date(2005, 10, 31)}


def test_no_attribute_that_lending_may_not_use_but_the_year_of_birth(adapted):
    landing, _ = adapted
    customers = landed(landing, "customers")
    assert set(customers.columns) == {
        "customer_id", "updated_at", "birth_year", "batch_date", "file",
    }  # fmt: skip
    assert customers["birth_year"].to_list() == [1981, 1965]


def test_the_other_spelling_of_the_outcome(tmp_path):
    source = adapter_samples.uci_taiwan(tmp_path / "uci_taiwan")
    path = source / "UCI_Credit_Card.csv"
    published, other = uci_taiwan.DEFAULTED
    path.write_text(path.read_text().replace(published, other))
    assert uci_taiwan.adapt(source, tmp_path / "landing").rows["credit_outcomes"] == 2
