"""The adapters on the public data themselves: counts and sums that the sources fix."""

import os
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from pipelines.settings import get_settings
from pipelines.sources.adapters import ADAPTERS
from tests.landed import contract_breaks

PUBLIC_DATA = os.environ.get("CARDLINE_PUBLIC_DATA")
pytestmark = pytest.mark.skipif(
    not PUBLIC_DATA, reason="CARDLINE_PUBLIC_DATA, the folder of the public data, is not set"
)


@pytest.fixture(scope="module")
def adapt(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARDLINE_HOME", str(tmp_path_factory.mktemp("home")))
        get_settings.cache_clear()
        done: dict[str, tuple[Path, dict[str, int], tuple[str, ...]]] = {}

        def adapted(dataset: str):
            if dataset not in done:
                landing = tmp_path_factory.mktemp("landing")
                summary = ADAPTERS[dataset](Path(PUBLIC_DATA or ""), landing)
                done[dataset] = landing, dict(summary.rows), summary.notes
            return done[dataset]

        yield adapted
        get_settings.cache_clear()


def _scan(landing: Path, feed: str) -> pl.LazyFrame:
    return pl.scan_parquet(landing / feed / "*" / "*.parquet", missing_columns="insert")


@pytest.mark.parametrize(
    ("dataset", "rows"),
    [
        (
            "uci-taiwan",
            {
                "customers": 30_000, "accounts": 30_000, "statements": 180_000,
                "payments": 143_103, "credit_outcomes": 30_000,
            },
        ),
        (
            "credit-card-approval",
            {
                "applications": 438_557, "customers": 99_613, "accounts": 51_079,
                "statements": 1_048_575,
            },
        ),
        (
            "birmingham",
            {
                "transactions": 10_978, "customers": 6, "accounts": 1_098, "cards": 1_096,
                "merchants": 2_237,
            },
        ),
        pytest.param(
            "handbook",
            {"merchants": 10_000, "transactions": 1_754_155, "fraud_labels": 14_681},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "sparkov",
            {
                "customers": 1_000, "accounts": 1_000, "cards": 1_000, "merchants": 693,
                "transactions": 1_732_175, "fraud_labels": 9_551,
            },
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_row_counts(adapt, dataset, rows):
    landing, written, _ = adapt(dataset)
    assert written == rows
    if dataset != "sparkov":
        assert contract_breaks(landing) == []


def test_birmingham_sums_to_the_penny(adapt):
    landing, _, _ = adapt("birmingham")
    signed = pl.when(pl.col("direction") == "DEBIT").then(1).otherwise(-1) * pl.col("amount_minor")
    assert _scan(landing, "transactions").select(signed.sum()).collect().item() == 235_299_840


def test_taiwan_has_the_published_default_rate(adapt):
    landing, _, _ = adapt("uci-taiwan")
    assert (
        _scan(landing, "credit_outcomes").select(pl.col("is_bad").sum()).collect().item() == 6_636
    )


def test_the_cut_credit_record_is_told(adapt):
    _, _, notes = adapt("credit-card-approval")
    assert any("spreadsheet's limit" in note for note in notes)
    assert "9528 accounts have no application" in notes


@pytest.mark.slow
def test_sparkov_amounts_to_the_cent_and_no_number_of_a_card_or_person(adapt):
    landing, _, _ = adapt("sparkov")
    total = _scan(landing, "transactions").select(pl.col("amount_minor").sum()).collect().item()
    assert Decimal(total) / 100 == Decimal("123391178.49")
    people = pl.read_csv(Path(PUBLIC_DATA or "") / "sparkov" / "customers.csv", infer_schema=False)
    numbers = set(people["cc_num"]) | set(people["ssn"]) | set(people["acct_num"])
    for feed in landing.iterdir():
        texts = _scan(landing, feed.name).select(pl.col(pl.String)).collect()
        for column in texts:
            assert not numbers & set(column.unique()), f"{feed.name}.{column.name}"
