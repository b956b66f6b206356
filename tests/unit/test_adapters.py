"""What holds for every adapter: contract, idempotence, where the source may be, clear errors."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import CardlineError
from pipelines.ingestion.load import ingest
from pipelines.settings import get_settings
from pipelines.sources.adapters import ADAPTERS
from pipelines.warehouse import connect
from tests.landed import contents, contract_breaks
from tests.unit import adapter_samples

FOLDERS = {
    "sparkov": ("sparkov", adapter_samples.sparkov),
    "handbook": ("handbook_fraud", adapter_samples.handbook),
    "uci-taiwan": ("uci_taiwan", adapter_samples.uci_taiwan),
    "credit-card-approval": ("credit_card_approval", adapter_samples.credit_card_approval),
    "birmingham": ("birmingham_pcard", adapter_samples.birmingham),
}


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("CARDLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CARDLINE_TOKEN_KEY", "a key of this test")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture(params=FOLDERS)
def dataset(request):
    return request.param


def _source(dataset: str, parent: Path) -> Path:
    folder, build = FOLDERS[dataset]
    return build(parent / folder)


def test_every_data_set_has_an_adapter():
    assert set(ADAPTERS) == set(FOLDERS)


def test_rows_keep_the_contract(dataset, tmp_path):
    landing = tmp_path / "landing"
    summary = ADAPTERS[dataset](_source(dataset, tmp_path), landing)
    assert contract_breaks(landing) == []
    written = {
        feed.name: sum(pl.read_parquet(file).height for file in feed.glob("*/*.parquet"))
        for feed in landing.iterdir()
    }
    assert dict(summary.rows) == written
    assert summary.notes


def test_the_same_source_gives_the_same_files(dataset, tmp_path):
    source = _source(dataset, tmp_path)
    ADAPTERS[dataset](source, tmp_path / "once")
    first = contents(tmp_path / "once")
    ADAPTERS[dataset](source, tmp_path / "once")
    ADAPTERS[dataset](source, tmp_path / "again")
    assert contents(tmp_path / "once") == first
    assert contents(tmp_path / "again") == first


def test_the_folder_above_is_accepted(dataset, tmp_path):
    source = _source(dataset, tmp_path / "data")
    ADAPTERS[dataset](source, tmp_path / "direct")
    ADAPTERS[dataset](tmp_path / "data", tmp_path / "above")
    assert contents(tmp_path / "above") == contents(tmp_path / "direct")


def test_a_source_that_does_not_exist(dataset, tmp_path):
    with pytest.raises(CardlineError, match=r"nowhere does not exist"):
        ADAPTERS[dataset](tmp_path / "nowhere", tmp_path / "landing")


def test_a_missing_file_is_named(dataset, tmp_path):
    source = _source(dataset, tmp_path)
    for file in source.iterdir():
        kept = tmp_path / file.name
        shutil.move(file, kept)
        if not any(source.glob(f"*{file.suffix}")):
            with pytest.raises(CardlineError, match=r"has no .*(csv|parquet)"):
                ADAPTERS[dataset](source, tmp_path / "landing")
        shutil.move(kept, file)


@pytest.mark.parametrize(
    ("dataset", "file", "column"),
    [
        ("sparkov", "transactions.parquet", "cc_num"),
        ("sparkov", "customers.csv", "ssn"),
        ("handbook", "transactions_raw.parquet", "TX_FRAUD"),
        ("uci-taiwan", "UCI_Credit_Card.csv", "PAY_AMT3"),
        ("uci-taiwan", "UCI_Credit_Card.csv", "default.payment.next.month"),
        ("credit-card-approval", "credit_record.parquet", "STATUS"),
        ("birmingham", "2014-07.csv", "CARD NUMBER"),
    ],
)
def test_a_missing_column_is_named(dataset, file, column, tmp_path):
    path = _source(dataset, tmp_path) / file
    if path.suffix == ".csv":
        pl.read_csv(path, infer_schema=False).drop(column).write_csv(path)
    else:
        pl.read_parquet(path).drop(column).write_parquet(path)
    with pytest.raises(CardlineError) as caught:
        ADAPTERS[dataset](path.parent, tmp_path / "landing")
    assert column in str(caught.value) and str(path) in str(caught.value)


def test_a_source_without_rows(tmp_path):
    path = adapter_samples.handbook(tmp_path / "handbook_fraud") / "transactions_raw.parquet"
    pl.read_parquet(path).clear().write_parquet(path)
    with pytest.raises(CardlineError, match="holds no rows"):
        ADAPTERS["handbook"](path.parent, tmp_path / "landing")


def test_a_broken_file_is_told_without_its_content(tmp_path):
    source = adapter_samples.sparkov(tmp_path / "sparkov")
    (source / "customers.csv").write_text(
        "ssn,cc_num,acct_num,state,zip,lat,long,dob\n"
        f"219-09-9999,{adapter_samples.CARD_NUMBERS[0]},1,TX,1,1,1,1,1,1,1\n"
    )
    with pytest.raises(CardlineError) as caught:
        ADAPTERS["sparkov"](source, tmp_path / "landing")
    assert adapter_samples.CARD_NUMBERS[0] not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_quirks_of_public_data_are_no_findings(dataset, tmp_path):
    settings = get_settings()
    ADAPTERS[dataset](_source(dataset, tmp_path), settings.landing_dir)
    summary = ingest(settings=settings)
    assert (summary.files_quarantined, summary.rows_quarantined) == (0, {})
    with connect(read_only=True, settings=settings) as con:
        assert con.execute("select kind, feed, detail from landing.findings").fetchall() == []
