"""Credit card approval: applications and their versions, monthly status as statements."""

from datetime import date, datetime

import pytest

from pipelines.sources import credit_card_approval
from tests.landed import landed
from tests.unit import adapter_samples


@pytest.fixture
def adapted(tmp_path):
    source = adapter_samples.credit_card_approval(tmp_path / "credit_card_approval")
    return tmp_path / "landing", credit_card_approval.adapt(source, tmp_path / "landing")


def test_an_application_with_statuses_opened_an_account(adapted):
    landing, _ = adapted
    rows = landed(landing, "applications").filter(application_id="cca_application_1")
    assert rows.select("decision", "account_id", "submitted_at", "batch_date").rows() == [
        ("APPROVED", "cca_account_1", datetime(2019, 9, 1), date(2019, 9, 1))
    ]
    assert rows["stated_income_minor"].item() == 11_250_000


def test_one_without_statuses_has_no_decision(adapted):
    landing, _ = adapted
    rows = landed(landing, "applications").filter(application_id="cca_application_3")
    assert set(rows["decision"]) == {None} and set(rows["account_id"]) == {None}
    assert set(rows["batch_date"]) == {date(2019, 12, 31)}


def test_an_id_that_occurs_twice_keeps_both_in_the_order_of_the_file(adapted):
    landing, summary = adapted
    rows = landed(landing, "applications").filter(application_id="cca_application_3")
    assert rows["employment_status"].to_list() == ["RETIRED", "STUDENT"]
    assert rows["stated_income_minor"].to_list() == [9_000_000, 4_500_050]
    assert rows["person_id"].n_unique() == 2
    assert any(note.startswith("1 application ids occur again") for note in summary.notes)


def test_applications_alike_in_everything_are_one_person(adapted):
    landing, _ = adapted
    rows = landed(landing, "applications").filter(employment_status="EMPLOYED")
    assert set(rows["person_id"]) == {"cca_person_1"}
    assert set(rows["customer_id"]) == {"cca_customer_1"}
    customer = landed(landing, "customers").filter(customer_id="cca_customer_1")
    assert customer.select("updated_at", "birth_year").rows() == [(datetime(2019, 7, 1), 1990)]


def test_status_becomes_days_past_due_by_month(adapted):
    landing, _ = adapted
    rows = landed(landing, "statements").filter(account_id="cca_account_1").sort("period_end_on")
    assert rows.select("period_end_on", "days_past_due").rows() == [
        (date(2019, 9, 30), None),
        (date(2019, 10, 31), 1),
        (date(2019, 11, 30), 30),
        (date(2019, 12, 31), 150),
    ]
    assert rows["batch_date"].to_list() == rows["period_end_on"].to_list()
    oldest = landed(landing, "statements").filter(account_id="cca_account_9")
    assert oldest["period_end_on"].item() == date(2014, 12, 31)


def test_an_account_that_ends_paid_off_is_closed(adapted):
    landing, _ = adapted
    rows = landed(landing, "accounts").filter(account_id="cca_account_2")
    assert rows.select("status", "opened_on", "closed_on", "close_reason", "batch_date").rows() == [
        ("OPEN", date(2019, 7, 1), None, None, date(2019, 7, 1)),
        ("CLOSED", date(2019, 7, 1), date(2019, 8, 31), "PAID_OFF", date(2019, 8, 31)),
    ]
    others = landed(landing, "accounts").filter(status="OPEN")
    assert sorted(others["account_id"]) == ["cca_account_1", "cca_account_2", "cca_account_9"]


def test_an_account_without_an_application_has_a_customer(adapted):
    landing, summary = adapted
    account = landed(landing, "accounts").filter(account_id="cca_account_9")
    assert account["customer_id"].item() in set(landed(landing, "customers")["customer_id"])
    assert "1 accounts have no application" in summary.notes


def test_a_file_as_long_as_a_spreadsheet_is_told(adapted, tmp_path, monkeypatch):
    _, summary = adapted
    assert not any("spreadsheet" in note for note in summary.notes)
    monkeypatch.setattr(credit_card_approval, "SPREADSHEET_ROWS", 7)
    again = credit_card_approval.adapt(tmp_path / "credit_card_approval", tmp_path / "again")
    assert any("spreadsheet's limit" in note for note in again.notes)
