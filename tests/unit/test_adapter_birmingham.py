"""Birmingham: layouts by name, refunds, foreign purchases, rows alike, free-text merchants."""

from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.ingestion.sensitive import find_sensitive
from pipelines.sources import birmingham
from tests.landed import landed
from tests.unit import adapter_samples


@pytest.fixture
def adapted(tmp_path):
    source = adapter_samples.birmingham(tmp_path / "birmingham_pcard")
    return tmp_path / "landing", birmingham.adapt(source, tmp_path / "landing")


def test_each_file_is_a_delivery_after_its_last_transaction(adapted):
    landing, _ = adapted
    rows = landed(landing, "transactions")
    deliveries = rows.group_by("file", maintain_order=True).agg(pl.first("batch_date"), pl.len())
    assert deliveries.rows() == [
        ("birmingham_2014-07.parquet", date(2014, 7, 31), 4),
        ("birmingham_2014-08.parquet", date(2014, 9, 2), 2),
        ("birmingham_2017-09.parquet", date(2017, 9, 30), 2),
    ]


def test_a_negative_row_is_a_refund(adapted):
    landing, _ = adapted
    refunds = landed(landing, "transactions").filter(direction="CREDIT")
    assert refunds.select("event_type", "amount_minor", "transaction_class").rows() == [
        ("RETURN", 1250, "REFUND")
    ]


def test_a_foreign_purchase_has_the_billed_amount(adapted):
    landing, summary = adapted
    rows = landed(landing, "transactions").filter(merchant_id="bcc_merchant_hotel-na-rohu")
    assert rows.select("amount_minor", "currency", "mcc").rows() == [(39047, "GBP", "4722")]
    assert any("1 rows bought in another currency" in note for note in summary.notes)


def test_rows_alike_are_different_purchases_with_stable_ids(adapted, tmp_path):
    landing, _ = adapted
    alike = landed(landing, "transactions").filter(merchant_id="bcc_merchant_post-kiosk")
    assert alike["amount_minor"].to_list() == [700, 700]
    assert alike["event_id"].n_unique() == 2
    source = tmp_path / "birmingham_pcard" / "2014-07.csv"
    header, *lines = source.read_text().splitlines()
    source.write_text("\n".join([header, *reversed(lines)]) + "\n")
    birmingham.adapt(source.parent, tmp_path / "reversed")
    assert set(landed(tmp_path / "reversed", "transactions")["event_id"]) == set(
        landed(landing, "transactions")["event_id"]
    )


def test_columns_are_found_by_name(adapted, tmp_path):
    landing, _ = adapted
    source = tmp_path / "birmingham_pcard" / "2014-08.csv"
    frame = pl.read_csv(source, infer_schema=False)
    renamed = {name: f" {name.title().replace(' ', '  ')}" for name in frame.columns}
    frame.select(reversed(frame.columns)).rename(renamed).write_csv(source)
    birmingham.adapt(source.parent, tmp_path / "shuffled")
    meaning = ["account_id", "event_at", "amount_minor", "direction", "merchant_id", "mcc"]
    assert (
        landed(tmp_path / "shuffled", "transactions")
        .select(meaning)
        .equals(landed(landing, "transactions").select(meaning))
    )


def test_cards_are_told_apart_by_directorate(adapted):
    landing, _ = adapted
    assert sorted(landed(landing, "cards")["card_id"]) == [
        "bcc_card_adult-communities_1111",
        "bcc_card_adult-communities_5770",
        "bcc_card_corporate-resources_8944",
        "bcc_card_local-services_1111",
    ]
    assert sorted(landed(landing, "customers")["customer_id"]) == [
        "bcc_customer_adult-communities",
        "bcc_customer_corporate-resources",
        "bcc_customer_local-services",
    ]
    assert set(landed(landing, "accounts")["program_id"]) == {"birmingham_rebate"}


def test_an_earlier_transaction_delivered_later_is_a_new_version_of_the_account(adapted):
    landing, _ = adapted
    versions = landed(landing, "accounts").filter(account_id="bcc_account_adult-communities_5770")
    assert versions.select("batch_date", "opened_on").rows() == [
        (date(2014, 7, 31), date(2014, 7, 24)),
        (date(2014, 9, 2), date(2014, 6, 30)),
    ]


def test_rows_that_cannot_be_landed_are_counted(adapted):
    _, summary = adapted
    told = next(note for note in summary.notes if note.startswith("2014-07.csv"))
    assert "1 rows left out (blank)" in told
    assert "1 rows left out (no readable date)" in told
    assert "1 rows alike another in everything" in told


def test_a_long_number_in_a_name_is_masked(adapted):
    landing, _ = adapted
    names = landed(landing, "merchants")["name"].to_list()
    assert "helpline #" in names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tesco stores 3084", "tesco-stores"),
        ("Tesco  Stores-2097", "tesco-stores"),
        ("paypal *Acme Ltd", "acme-ltd"),
        ("www.acme ltd 0123", "acme-ltd"),
        ("paypal", "paypal"),
        ("travelodge gb0553", "travelodge"),
        ("m6 toll", "m6-toll"),
        ("99p stores ltd", "99p-stores-ltd"),
    ],
)
def test_merchant_names(name, expected):
    assert birmingham.merchant_id(name) == f"bcc_merchant_{expected}"


def test_a_name_without_letters_or_digits_is_no_merchant():
    assert birmingham.merchant_id(" *-* ") is None


@pytest.mark.parametrize(
    ("amount", "minor", "direction"),
    [
        ("12.5", 1250, "DEBIT"),
        ("£1,234.50", 123450, "DEBIT"),
        ("(3.99)", 399, "CREDIT"),
        ("-0.01", 1, "CREDIT"),
        ("7.00-", 700, "CREDIT"),
        ("60.010000000000005", 6001, "DEBIT"),
    ],
)
def test_amounts_as_people_write_them(amount, minor, direction, tmp_path):
    _one_row(tmp_path, amount=f'"{amount}"')
    row = landed(tmp_path / "landing", "transactions")
    assert row.select("amount_minor", "direction").rows() == [(minor, direction)]


@pytest.mark.parametrize(
    "day", ["2014-07-03 00:00:00", "2014-07-03", "03/07/2014", "03/07/14", "03-Jul-14"]
)
def test_dates_as_people_write_them(day, tmp_path):
    _one_row(tmp_path, day=day)
    assert landed(tmp_path / "landing", "transactions")["event_at"].dt.date().to_list() == [
        date(2014, 7, 3)
    ]


@pytest.mark.parametrize("amount", ["", "n/a", "12.5.1", "1-2"])
def test_what_is_no_amount_is_left_out(amount, tmp_path):
    summary = _one_row(tmp_path, amount=amount)
    assert any("1 rows left out (no readable amount)" in note for note in summary.notes)
    assert not summary.rows


def test_an_original_amount_does_not_pass_for_a_billed_one(tmp_path):
    folder = tmp_path / "birmingham_pcard"
    folder.mkdir()
    (folder / "2014-07.csv").write_text(
        "\ufeffTRANS DATE,ORIGINAL GROSS AMT,ORIGINAL CUR,BILLING CUR CODE,MERCHANT NAME,"
        "CARD NUMBER\n"
        "2014-07-03,100,EUR,GBP,hotel,************5770\n"
        "2014-07-03,100,GBP,GBP,shop,************5770\n"
    )
    summary = birmingham.adapt(folder, tmp_path / "landing")
    assert any("1 rows left out (amount in another currency)" in note for note in summary.notes)
    rows = landed(tmp_path / "landing", "transactions")
    assert rows["card_id"].to_list() == ["bcc_card_unknown_5770"]


@given(
    digits=st.lists(st.integers(0, 9), min_size=9, max_size=24), grouping=st.sampled_from(" -/.")
)
def test_no_name_lands_a_card_number(digits, grouping):
    name = grouping.join(map(str, digits))
    masked = pl.select(pl.lit(f"ref {name}").str.replace_all(birmingham.LONG_NUMBER, "#")).item()
    assert find_sensitive(pl.Series("name", [masked])) is None
    assert find_sensitive(pl.Series("id", [birmingham.merchant_id(masked)])) is None


def _one_row(tmp_path, day="2014-07-03", amount="1.00"):
    folder = tmp_path / "birmingham_pcard"
    folder.mkdir()
    (folder / "2014-07.csv").write_text(
        f"{adapter_samples.BIRMINGHAM_2014}\n"
        f"{day},VR,{amount},shop,************5770,GBP,K1,Books,R1,X,A00,Local Services\n"
    )
    return birmingham.adapt(folder, tmp_path / "landing")
