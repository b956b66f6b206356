"""The exception queue: what people do to it, what the chain settles by itself, adjustments."""

import json
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import pytest

from pipelines.errors import CardlineError
from pipelines.finance.exceptions import (
    Adjustment,
    ageing,
    assign,
    explain,
    history,
    list_exceptions,
    request_adjustment,
    resolve,
)
from pipelines.finance.reconciliation import reconcile
from pipelines.ingestion.load import ingest
from pipelines.settings import Settings
from pipelines.warehouse import connect
from tests.rewards_ledger import Ledger

TODAY = date(2026, 3, 31)
OPENED = {
    "a": date(2026, 3, 30),
    "b": date(2026, 3, 27),
    "c": date(2026, 3, 5),
    "d": date(2026, 1, 1),
}


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    settings = Settings(home=tmp_path)  # pyright: ignore[reportCallIssue]
    ledger = Ledger().program("points")
    ledger.post("ACCRUAL", 100, TODAY)
    with connect(settings=settings) as con:
        ledger.write(con)
        con.execute(
            "create table marts.dim_accounts (account_id varchar, program_id varchar, "
            "is_current boolean)"
        )
        con.execute("insert into marts.dim_accounts values ('a1', 'points', true)")
        con.execute(
            "insert into landing.files (file_id, feed, batch_date, received_at, state, load_no) "
            "values ('f', 'disputes', ?, ?, 'LOADED', 1)",
            [TODAY, datetime(2026, 3, 31, 23, 59)],
        )
        for name, on in OPENED.items():
            con.execute(
                "insert into finance.exceptions (exception_id, recon_id, type, severity, "
                "amount_minor, opened_on, state) values (?, 'R4', 'OVER_REFUND', 'MEDIUM', 5, ?, "
                "'OPEN')",
                [name, on],
            )
    yield settings


def state(settings: Settings, name: str) -> dict:
    found = list_exceptions(None, settings=settings)
    return next(row for row in found.to_dicts() if row["exception_id"] == name)


def test_the_queue_is_listed_by_age(settings: Settings) -> None:
    found = list_exceptions(settings=settings)
    assert found.select("exception_id", "age_bucket").rows() == [
        ("d", "31+"), ("c", "6-30"), ("b", "2-5"), ("a", "0-1"),
    ]  # fmt: skip
    assert ageing(found).row(0)[2:] == (1, 1, 1, 1, 4)
    assert list_exceptions(recon_id="R1", settings=settings).is_empty()
    with pytest.raises(CardlineError, match="no state 'LOST'"):
        list_exceptions(("LOST",), settings=settings)


def test_from_assigned_to_resolved_with_who_did_what(settings: Settings) -> None:
    assert assign("a", "ana", "lead", settings) == "ASSIGNED"
    assert explain("a", "paid back in cash", "ana", settings) == "EXPLAINED"
    with pytest.raises(CardlineError, match="no entry 'j9'"):
        resolve("a", "POSTED", "ana", journal_id="j9", settings=settings)
    with pytest.raises(CardlineError, match="no resolution code"):
        resolve("a", "because", "ana", settings=settings)
    assert resolve("a", "POSTED", "ana", journal_id="j000001", settings=settings) == "RESOLVED"
    row = state(settings, "a")
    assert (row["owner"], row["resolved_by"], row["journal_id"]) == ("ana", "ana", "j000001")
    steps = history("a", settings).select("action", "acted_by", "note").rows()
    assert steps == [
        ("ASSIGNED", "lead", None), ("EXPLAINED", "ana", "paid back in cash"),
        ("RESOLVED", "ana", None),
    ]  # fmt: skip
    for name, message in (("a", "is RESOLVED already"), ("nope", "no exception 'nope'")):
        with pytest.raises(CardlineError, match=message):
            assign(name, "ana", "lead", settings)
    assert resolve("b", "SMALL", "ana", write_off=True, settings=settings) == "WRITTEN_OFF"
    assert list_exceptions(owner="ana", settings=settings).is_empty()


def test_an_explained_break_is_resolved_when_its_input_is_mended(settings: Settings) -> None:
    with connect(settings=settings) as con:
        con.execute(
            "insert into landing.files (file_id, feed, batch_date, path, rows, state, load_no, "
            "reason) values ('bad', 'disputes', ?, 'p', 0, 'QUARANTINED', 2, 'the manifest says 2 "
            "rows')",
            [TODAY],
        )
    reconcile(settings=settings)
    found = list_exceptions(recon_id="R0", settings=settings)
    name = found["exception_id"].item(0)
    explain(name, "cut off", "ana", settings)
    reconcile(full=True, settings=settings)
    assert state(settings, name)["state"] == "EXPLAINED"
    with connect(settings=settings) as con:
        con.execute(
            "insert into landing.files (file_id, feed, batch_date, path, rows, state, load_no) "
            "values ('good', 'disputes', ?, 'p', 0, 'LOADED', 3)",
            [TODAY],
        )
    reconcile(settings=settings)
    row = state(settings, name)
    assert (row["state"], row["resolution_code"]) == ("RESOLVED", "INPUT_MENDED")


def test_an_adjustment_goes_through_landing_and_settles_with_its_entry(settings: Settings) -> None:
    for points, account, message in ((0, "a1", "moves nothing"), (5, "zz", "no account 'zz'")):
        with pytest.raises(CardlineError, match=message):
            request_adjustment("c", Adjustment(account, points), "ana", "goodwill", settings)
    event = request_adjustment("c", Adjustment("a1", 40), "ana", "goodwill", settings)
    with pytest.raises(CardlineError, match="has its adjustment already"):
        request_adjustment("c", Adjustment("a1", 40), "ana", "goodwill", settings)
    (path,) = settings.landing_dir.rglob("*.jsonl")
    row = json.loads(path.read_text())
    assert (row["kind"], row["points"], row["reference"]) == ("ADJUST", 40, "c")
    summary = ingest(settings=settings)
    assert summary.rows == {"reward_events": 1} and not summary.rows_quarantined
    reconcile(settings=settings)
    assert state(settings, "c")["state"] == "OPEN"
    with connect(settings=settings) as con:
        con.execute(
            "insert into rewards.reward_event_outcomes (reward_event_id, outcome, journal_id) "
            "values (?, 'POSTED', 'j000001')",
            [event],
        )
    reconcile(settings=settings)
    row = state(settings, "c")
    assert (row["state"], row["resolution_code"], row["journal_id"], row["resolved_by"]) == (
        "RESOLVED", "ADJUSTMENT_POSTED", "j000001", "ana",
    )  # fmt: skip
