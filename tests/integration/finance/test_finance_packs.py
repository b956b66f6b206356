"""Finance packs: what they say, that they stand alone, and that they come out the same."""

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import openpyxl
import polars as pl
import pytest

from pipelines.errors import CardlineError
from pipelines.files import sha256_of
from pipelines.finance.packs import build_pack, periods_due, programs_in
from pipelines.finance.publication import PUBLISHED, publish_tables
from pipelines.settings import Settings
from pipelines.warehouse import connect, transaction

PROGRAM, PERIOD = "points", "2025-06"


@pytest.fixture(scope="module")
def pack(finance_home: Settings) -> Path:
    return build_pack(PROGRAM, PERIOD, settings=finance_home)


@pytest.fixture
def changed(finance_home: Settings) -> Iterator[Settings]:
    """The home with one more exception while the test runs."""
    with connect(settings=finance_home) as con, transaction(con):
        con.execute(
            "insert into finance.exceptions (exception_id, recon_id, type, opened_on, state) "
            "values ('OVER_REFUND:acct-secret', 'R4', 'OVER_REFUND', date '2025-06-03', 'OPEN')"
        )
    yield finance_home
    with connect(settings=finance_home) as con, transaction(con):
        con.execute("delete from finance.exceptions where recon_id = 'R4'")


def rows(pack: Path, name: str) -> list[dict[str, str]]:
    with (pack / name).open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


def test_manifest_tells_the_truth_about_every_file(pack: Path) -> None:
    manifest = json.loads((pack / "manifest.json").read_text())
    outputs = manifest["outputs"]
    assert set(outputs) == {path.name for path in pack.iterdir()} - {"manifest.json"}
    for name, told in outputs.items():
        content = (pack / name).read_bytes()
        assert told["sha256"] == hashlib.sha256(content).hexdigest()
        if name.endswith(".csv"):
            assert told["rows"] == len(rows(pack, name))
    gl = outputs["gl_entries.csv"]["control_totals"]
    assert gl["debit_minor"] == gl["credit_minor"] > 0
    assert manifest["as_of"]["effective_on"] == "2025-06-30"
    assert manifest["version"] == 1
    assert manifest["rules"][0]["rule_hash"]


def test_page_says_the_closing_balance_and_needs_nothing_else(pack: Path) -> None:
    page = (pack / "report.html").read_text()
    closing = rows(pack, "liability_rollforward.csv")[-1]
    assert f"{int(closing['closing_points']):,}" in page
    assert f"{int(closing['closing_minor']) / 100:,.2f}" in page
    assert "Points and cost are those of the roll-forward" in page
    assert page.count("<svg") == 3
    assert "<script" not in page
    assert not re.search(r"""(src|href)\s*=\s*["']|@import|url\((?!#)""", page)
    # Names of XML vocabularies are the only addresses.
    assert set(re.findall(r"https?://[^\"' <)]+", page)) <= {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink",
    }  # fmt: skip


def test_pack_has_no_member_in_it(finance_home: Settings, pack: Path) -> None:
    for path in pack.iterdir():
        if path.suffix in (".csv", ".html", ".json"):
            text = path.read_text()
            assert not re.search(r"\ba\d{1,2}\b(?!-)", re.sub(r"<style>.*?</style>", "", text)), (
                path
            )
            assert "e-j0" not in text


def test_the_index_leads_to_every_pack(finance_home: Settings, pack: Path) -> None:
    page = (finance_home.reports_dir / "index.html").read_text()
    links = re.findall(r'href="([^"]+)"', page)
    assert f"rewards/{PROGRAM}/{PERIOD}/{pack.name}/report.html" in links
    assert all((finance_home.reports_dir / link).is_file() for link in links)
    assert {path.as_posix() for path in finance_home.reports_dir.rglob("report.html")} == {
        (finance_home.reports_dir / link).as_posix() for link in links if link.endswith(".html")
    }
    closing = rows(pack, "liability_rollforward.csv")[-1]["closing_minor"]
    assert f"{int(closing) / 100:,.2f} USD" in page


def test_what_finance_may_read_tells_of_no_person(changed: Settings) -> None:
    files = publish_tables(changed)
    assert set(files) == set(PUBLISHED)
    with connect(read_only=True, settings=changed) as con:
        known = {
            str(value)
            for query in (
                "select distinct account_id from rewards.journal",
                "select journal_id from rewards.journal",
                "select lot_id from rewards.lots_issued",
                "select event_id from rewards.decisions union "
                "select transaction_id from rewards.decisions",
            )
            for (value,) in con.execute(query).fetchall()
        }
    personal = re.compile(r"account_id|customer|person|card_id|transaction|event_id|email|_ref")
    for name, path in files.items():
        frame = pl.read_parquet(path)
        assert not [column for column in frame.columns if personal.search(column)], name
        for column in frame.select(pl.col(pl.String)).columns:
            told = set(frame[column].drop_nulls())
            assert not told & known, (name, column)
            assert "secret" not in " ".join(told)
    assert pl.read_parquet(files["exceptions"]).height > 0
    before = contents(files["periods"].parent)
    publish_tables(changed)
    assert contents(files["periods"].parent) == before


def test_workbook_ties_by_formula_and_by_value(pack: Path) -> None:
    formulas = openpyxl.load_workbook(pack / "report.xlsx")
    values = openpyxl.load_workbook(pack / "report.xlsx", data_only=True)
    for title in ("Roll-forward money", "Roll-forward points", "Breakage allowance"):
        sheet, cached = formulas[title], values[title]
        assert sheet.freeze_panes == "B2"
        closes, difference = sheet.max_row - 2, sheet.max_row
        for column in range(2, sheet.max_column + 1):
            flows = [cached.cell(row, column).value for row in range(2, closes)]
            assert round(sum(flows), 2) == cached.cell(closes, column).value
            assert str(sheet.cell(closes, column).value).startswith("=ROUND(SUM(")
            assert cached.cell(difference, column).value == 0
            if column > 2:
                before = sheet.cell(closes, column - 1).coordinate
                assert sheet.cell(2, column).value == f"={before}"
    gl = values["GL entries"]
    assert gl.cell(gl.max_row - 1, 5).value == gl.cell(gl.max_row - 1, 6).value > 0


def has_calc() -> bool:
    """Whether LibreOffice is there with its Calc, which is a package of its own."""
    soffice = shutil.which("soffice")
    return soffice is not None and (Path(soffice).resolve().parent / "libsclo.so").exists()


@pytest.mark.skipif(not has_calc(), reason="LibreOffice Calc is not there")
def test_libreoffice_calculates_the_same_cents(pack: Path, tmp_path: Path) -> None:
    formulas = openpyxl.load_workbook(pack / "report.xlsx")
    stored = openpyxl.load_workbook(pack / "report.xlsx", data_only=True)
    # Saved by openpyxl, formulas have no values: what is there afterwards was calculated.
    formulas.save(tmp_path / "bare.xlsx")
    subprocess.run(
        ["soffice", "--headless", f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}",
         "--convert-to", "xlsx", "--outdir", str(tmp_path / "out"), str(tmp_path / "bare.xlsx")],
        check=True, timeout=300, capture_output=True,
    )  # fmt: skip
    calculated = openpyxl.load_workbook(tmp_path / "out" / "bare.xlsx", data_only=True)
    compared = 0
    for sheet in formulas:
        for cell in (cell for row in sheet for cell in row if cell.data_type == "f"):
            found, expected = (
                book[sheet.title][cell.coordinate].value for book in (calculated, stored)
            )
            assert round(found, 2) == round(expected, 2), (sheet.title, cell.coordinate)
            compared += 1
    assert compared > 100
    assert told_by(calculated) == told_by_csv(pack)
    summary = [row for row in calculated["Summary"].iter_rows(values_only=True)]
    ties = [row for row in summary if row[3] is not None and row[0] != "Ties"]
    assert len(ties) == 6
    assert [row[3] for row in ties] == [0] * 6


def told_by(book: openpyxl.Workbook) -> dict[str, list[int]]:
    """Cents that a workbook's formulas come to: closing balances, debts, ledger totals."""

    def cents(value: object) -> int:
        return round(float(str(value)) * 100)

    sheets = ("Roll-forward money", "Breakage allowance")
    told = {
        title: [cents(cell.value) for cell in book[title][book[title].max_row - 2][1:]]
        for title in sheets
    }
    debts, ledger = book["Negative balances"], book["GL entries"]
    told["liability"] = [cents(row[3].value) for row in debts.iter_rows(min_row=2)]
    total = ledger[ledger.max_row - 1]
    return told | {"ledger": [cents(total[4].value), cents(total[5].value)]}


def told_by_csv(pack: Path) -> dict[str, list[int]]:
    """The same, added up from the CSVs in whole cents."""
    months, entries = rows(pack, "liability_rollforward.csv"), rows(pack, "gl_entries.csv")
    return {
        "Roll-forward money": [int(row["closing_minor"]) for row in months],
        "Breakage allowance": [int(row["closing_allowance_minor"]) for row in months],
        "liability": [
            int(row["owed_to_members_minor"]) - int(row["owed_by_members_minor"])
            for row in rows(pack, "negative_balances.csv")
        ],
        "ledger": [
            sum(int(row[name]) for row in entries) for name in ("debit_minor", "credit_minor")
        ],
    }


def test_members_below_zero_are_told_apart_and_why(finance_home: Settings) -> None:
    pack = build_pack("miles", PERIOD, settings=finance_home)
    closing = rows(pack, "liability_rollforward.csv")[-1]
    owed = rows(pack, "negative_balances.csv")[-1]
    for unit in ("points", "minor"):
        owing = int(owed[f"owed_by_members_{unit}"])
        assert int(owed[f"owed_to_members_{unit}"]) - owing == int(closing[f"closing_{unit}"])
        assert owing > 0
    page = (pack / "report.html").read_text()
    assert "of which members below zero owe (1220)" in page
    assert "What these members earn next fills that first" in page


def test_an_open_month_is_known_through_the_last_day_worked(changed: Settings, pack: Path) -> None:
    """Not merely through its last entry; and a further day without news is no other version."""
    with connect(settings=changed) as con, transaction(con):
        con.execute("insert into rewards.progress values (date '2025-09-14')")
    try:
        told = build_pack(PROGRAM, PERIOD, settings=changed)
        manifest = json.loads((told / "manifest.json").read_text())
        assert manifest["as_of"]["recorded_at"] == "2025-09-14T23:59:59.999999"
        page = (told / "report.html").read_text()
        assert re.search(r"Recorded through</dt><dd>2025-09-14 23:59:59 UTC", page)
        # The page says how an exception can be open though the reconciliations agree.
        assert ", 1 cases of the engine, of all programs" in page
        assert "was put forward by the rewards engine" in page
        with connect(settings=changed) as con, transaction(con):
            con.execute("update rewards.progress set through = date '2025-09-15'")
        assert build_pack(PROGRAM, PERIOD, settings=changed) == told
    finally:
        with connect(settings=changed) as con, transaction(con):
            con.execute("delete from rewards.progress")
        shutil.rmtree(pack.with_name("v2"), ignore_errors=True)


def test_cohorts_and_their_estimate_tie_to_the_liability(pack: Path) -> None:
    month = rows(pack, "liability_rollforward.csv")[-1]
    cohorts = rows(pack, "redemption_cohorts.csv")
    told = {row["figure"]: int(row["amount"]) for row in rows(pack, "redemption_rate.csv")}
    held = sum(int(row["open_points"]) for row in cohorts)
    assert held >= int(month["closing_points"]) > 0
    assert 0 < told["rate_micros"] <= 1_000_000
    assert told["booked_allowance_minor"] == int(month["closing_allowance_minor"])
    assert 0 <= told["indicated_allowance_minor"] <= int(month["closing_minor"])
    assert {row["method"] for row in cohorts} <= {"CHAIN_LADDER", "BORNHUETTER_FERGUSON"}
    assert "Ultimate redemption rate" in (pack / "report.html").read_text()


def open_lots(settings: Settings) -> list[tuple[date | None, int]]:
    """Expiry and open points of each lot at the end of the month."""
    with connect(read_only=True, settings=settings) as con:
        entries = {
            journal
            for journal, period in con.execute(
                "select journal_id, accounting_period from rewards.journal where program_id = ?",
                [PROGRAM],
            ).fetchall()
            if period <= PERIOD
        }
        issued = con.execute(
            "select lot_id, expires_on, points_issued, issue_journal_id from rewards.lots_issued"
        ).fetchall()
        used = con.execute("select lot_id, points, journal_id from rewards.lot_consumption")
        spent: dict[str, int] = {}
        for lot, points, journal in used.fetchall():
            spent[lot] = spent.get(lot, 0) + (points if journal in entries else 0)
    return [
        (expires_on, points - spent.get(lot, 0))
        for lot, expires_on, points, journal in issued
        if journal in entries
    ]


def test_open_points_by_expiry_make_up_the_closing_balance(
    finance_home: Settings, pack: Path
) -> None:
    told = {row["expires"]: int(row["points"]) for row in rows(pack, "open_points_by_expiry.csv")}
    closing = rows(pack, "liability_rollforward.csv")[-1]
    assert sum(told.values()) == int(closing["closing_points"]) != 0
    ends = {
        "within 1 month": date(2025, 7, 30), "within 3 months": date(2025, 9, 30),
        "within 6 months": date(2025, 12, 30), "within 12 months": date(2026, 6, 30),
        "later": date.max,
    }  # fmt: skip
    worked: dict[str, int] = {}
    for expires_on, points in open_lots(finance_home):
        name = (
            next(name for name, end in ends.items() if expires_on <= end) if expires_on else "never"
        )
        worked[name] = worked.get(name, 0) + points
    told.pop("owed by accounts below zero", None)
    assert told == {name: points for name, points in worked.items() if points}
    assert "Open points by expiry" in (pack / "report.html").read_text()


def test_invoice_and_ledger_tie(pack: Path) -> None:
    month = rows(pack, "liability_rollforward.csv")[-1]
    summary = rows(pack, "decisions_summary.csv")
    decided = sum(int(row["points"]) for row in summary)
    assert decided == int(month["accrued_points"]) - int(month["clawed_back_points"])
    # What was clawed back is taken off spend as it is off points.
    assert all(int(row["eligible_minor"]) == 137 * int(row["points"]) for row in summary)
    invoice = rows(pack, "partner_invoice_lines.csv")
    billed = sum(int(row["amount_minor"]) for row in invoice if row["direction"] == "RECEIVABLE")
    booked = sum(
        int(row["debit_minor"]) - int(row["credit_minor"])
        for row in rows(pack, "gl_entries.csv")
        if row["account_code"] == "1210"
    )
    assert billed == booked != 0


def test_same_ledger_gives_the_same_version(finance_home: Settings, pack: Path) -> None:
    before = contents(pack)
    assert build_pack(PROGRAM, PERIOD, settings=finance_home) == pack
    assert contents(pack) == before
    assert [path.name for path in pack.parent.iterdir()] == ["v1"]


def test_another_process_and_folder_give_the_same_bytes(
    finance_home: Settings, pack: Path, tmp_path: Path
) -> None:
    before = contents(pack)
    kept = tmp_path / "kept"
    shutil.move(pack, kept)
    code = (
        "from pathlib import Path; from pipelines.settings import Settings;"
        "from pipelines.finance.packs import build_pack;"
        f"build_pack({PROGRAM!r}, {PERIOD!r}, Settings(home=Path({str(finance_home.home)!r})))"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
    assert contents(pack) == before


def test_other_content_is_the_next_version_and_the_old_one_stays(
    changed: Settings, pack: Path
) -> None:
    before = contents(pack)
    newer = build_pack(PROGRAM, PERIOD, settings=changed)
    try:
        assert newer == pack.with_name("v2")
        assert contents(pack) == before
        assert json.loads((newer / "manifest.json").read_text())["supersedes"] == 1
        text = "".join(path.read_text() for path in newer.iterdir() if path.suffix != ".xlsx")
        assert "over refund" in text and "secret" not in text
    finally:
        shutil.rmtree(newer)


def test_a_damaged_pack_is_not_taken_for_the_truth(finance_home: Settings) -> None:
    first = build_pack("cash", PERIOD, settings=finance_home)
    (first / "gl_entries.csv").write_text("tampered")
    second = build_pack("cash", PERIOD, settings=finance_home)
    assert second.name == "v2"
    assert (first / "gl_entries.csv").read_text() == "tampered"


def test_a_month_without_entries_has_a_pack(finance_home: Settings) -> None:
    pack = build_pack("cash", "2025-03", settings=finance_home)
    assert "Nothing in this period." in (pack / "report.html").read_text()
    assert rows(pack, "gl_entries.csv") == []


@pytest.mark.parametrize(
    ("program", "period", "message"),
    [
        ("points", "2025-13", "expected YYYY-MM"),
        ("points", "June", "expected YYYY-MM"),
        ("points", "2031-01", "it has them from 2025-01 to 2025-08"),
        ("nope", "2025-06", "known programs: cash, miles, points"),
        ("../../etc", "2025-06", "no rewards program"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(
    finance_home: Settings, program: str, period: str, message: str
) -> None:
    with pytest.raises(CardlineError, match=re.escape(message)) as error:
        build_pack(program, period, settings=finance_home)
    assert "\n" not in str(error.value)


def test_programs_and_ended_months(finance_home: Settings) -> None:
    assert programs_in("2025-05", settings=finance_home) == ["cash", "miles", "points"]
    # No delivery has come in yet, so no month has ended.
    assert periods_due(finance_home) == []


def test_exceptions_are_added_up_by_currency(changed: Settings, pack: Path) -> None:
    with connect(settings=changed) as con, transaction(con):
        con.execute(
            "insert into finance.exceptions (exception_id, recon_id, type, opened_on, state, "
            "amount_minor, currency) values "
            "('1', 'R4', 'OVER_REFUND', date '2025-06-03', 'OPEN', 700000, 'JPY'), "
            "('2', 'R4', 'OVER_REFUND', date '2025-06-03', 'OPEN', 1234, 'USD')"
        )
    told = build_pack(PROGRAM, PERIOD, settings=changed)
    try:
        found = [row for row in rows(told, "open_exceptions.csv") if row["recon_id"] == "R4"]
        assert [(row["amount_minor"], row["currency"]) for row in found] == [
            ("700000", "JPY"), ("1234", "USD"), ("0", ""),
        ]  # fmt: skip
        page = (told / "report.html").read_text()
        assert "700,000</td>" in page and "12.34</td>" in page
    finally:
        shutil.rmtree(pack.with_name("v2"), ignore_errors=True)
