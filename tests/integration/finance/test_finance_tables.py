"""The finance tables against a ledger that is added up independently, in Python."""

import re
from collections import defaultdict
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import CardlineError
from pipelines.finance.gl_export import COLUMNS, gl_journals
from pipelines.settings import Settings
from pipelines.transform import chart_of_accounts, compiled_models
from pipelines.warehouse import connect
from tests.integration.finance.conftest import build_finance
from tests.rewards_ledger import FINANCE_MARTS, Ledger, busy_ledger

FLOWS = {
    "ACCRUAL": "accrued",
    "CLAWBACK": "clawed_back",
    "REDEMPTION": "redeemed",
    "REDEMPTION_CANCEL": "redeemed",
    "TRANSFER": "transferred",
    "EXPIRY": "expired",
    "FORFEITURE": "forfeited",
    "ADJUSTMENT": "adjusted",
    "WRITE_OFF": "written_off",
}
SIGNS = {"accrued": 1, "adjusted": 1, "written_off": 1}


def table(settings: Settings, name: str) -> pl.DataFrame:
    with connect(read_only=True, settings=settings) as con:
        return con.execute(f"select * from finance.{name} order by all").pl()


def added_up(ledger: Ledger) -> dict[tuple[str, str], dict[str, int]]:
    """Flows by program and period, from what each entry did to members' accounts."""
    effect: dict[str, int] = defaultdict(int)
    for leg in ledger.tables["postings"]:
        if leg["ledger_account"] == "MEMBER_AVAILABLE":
            effect[leg["journal_id"]] += leg["amount"] * (1 if leg["direction"] == "CREDIT" else -1)
    flows: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in ledger.tables["journal"]:
        name = FLOWS[entry["event_type"]]
        key = (entry["program_id"], entry["accounting_period"])
        flows[key][name] += SIGNS.get(name, -1) * effect[entry["journal_id"]]
    return flows


def test_points_are_those_of_the_ledger(finance_home: Settings) -> None:
    expected = added_up(busy_ledger())
    balance: dict[str, int] = defaultdict(int)
    rows = table(finance_home, "liability_rollforward")
    assert rows.height == 3 * 8
    for row in rows.iter_rows(named=True):
        program = row["program_id"]
        assert row["opening_points"] == balance[program]
        flows = expected[program, row["period"]]
        for name in set(FLOWS.values()):
            assert row[f"{name}_points"] == flows[name], (program, row["period"], name)
            balance[program] += SIGNS.get(name, -1) * flows[name]
        assert row["closing_points"] == balance[program]


def test_money_is_the_worth_of_the_points(finance_home: Settings) -> None:
    for row in table(finance_home, "liability_rollforward").iter_rows(named=True):
        value = row["point_value_micros"]
        exact = row["closing_points"] * value
        assert abs(row["closing_minor"] * 1_000_000 - exact) <= 500_000
        for name in set(FLOWS.values()) - {"adjusted"}:
            points, minor = row[f"{name}_points"], row[f"{name}_minor"]
            assert abs(minor * 1_000_000 - points * value) <= 1_000_000
            assert points or not minor


def test_shares_of_funding_add_up_to_the_liability(finance_home: Settings) -> None:
    ledger = busy_ledger()
    share = {lot["lot_id"]: lot["funding_partner_bps"] for lot in ledger.tables["lots_issued"]}
    held: dict[tuple[str, int], int] = defaultdict(int)
    for leg in ledger.tables["postings"]:
        if leg["account_id"]:
            sign = 1 if leg["direction"] == "CREDIT" else -1
            held[leg["program_id"], share.get(leg["lot_id"], 0)] += sign * leg["amount"]
    rows = table(finance_home, "liability_by_funding")
    last = rows.filter(period="2025-08")
    assert {(r["program_id"], r["funding_partner_bps"]): r["closing_points"]
            for r in last.iter_rows(named=True)} == held  # fmt: skip
    assert {bps for _, bps in held} == {0, 3333}
    total = table(finance_home, "liability_rollforward")
    names = [
        name for name in total.columns if name in rows.columns and total[name].dtype.is_integer()
    ]
    names.remove("version")
    summed = rows.group_by("program_id", "period").agg(pl.col(names).sum())
    keys = ["program_id", "period"]
    assert summed.sort(keys).select(keys + names).equals(total.sort(keys).select(keys + names))
    # 33.33 % of what is open of the lots that the partner has a share in, half away from zero.
    part = last.row(by_predicate=(pl.col("program_id") == "points")
                    & (pl.col("funding_partner_bps") == 3333), named=True)  # fmt: skip
    assert part["closing_partner_minor"] == (2 * part["closing_minor"] * 3333 + 10_000) // 20_000


def test_a_month_without_entries_keeps_the_balance(finance_home: Settings) -> None:
    rows = table(finance_home, "liability_rollforward").filter(program_id="cash", period="2025-03")
    row = rows.row(0, named=True)
    assert row["opening_points"] == row["closing_points"] > 0
    assert row["opening_minor"] == row["closing_minor"]
    assert not any(row[f"{name}_minor"] for name in FLOWS.values())


def test_invoice_lines_bill_what_the_ledger_transferred(finance_home: Settings) -> None:
    lines = table(finance_home, "partner_invoice_lines")
    purchases = lines.filter(component="POINT_PURCHASE")
    transferred = table(finance_home, "liability_rollforward").filter(program_id="miles")
    assert purchases["points"].sum() == transferred["transferred_points"].sum()
    assert (lines["amount_extended"] - lines["rounding_residue"] == lines["amount_minor"]).all()


def test_negative_balances_are_reclassified(finance_home: Settings) -> None:
    owed: dict[tuple[str, str], int] = defaultdict(int)
    for leg in busy_ledger().tables["postings"]:
        if leg["account_id"]:
            sign = 1 if leg["direction"] == "CREDIT" else -1
            owed[leg["program_id"], leg["account_id"]] += sign * leg["amount"]
    for program, value in (("miles", 1_234_567), ("cash", 1_000_000)):
        points = -sum(min(balance, 0) for (name, _), balance in owed.items() if name == program)
        booked = table(finance_home, "gl_entries").filter(program_id=program, account_code="1220")
        minor = booked["debit_minor"].sum() - booked["credit_minor"].sum()
        assert minor == (2 * points * value + 1_000_000) // 2_000_000


def test_the_clearing_account_is_zero_or_has_an_exception(finance_home: Settings) -> None:
    entries = table(finance_home, "settlement_entries").filter(account_code="1010")
    balance = entries.group_by("report_on").agg(
        (pl.col("debit_minor") - pl.col("credit_minor")).sum().alias("minor")
    )
    left = {str(on): minor for on, minor in balance.iter_rows()}
    assert left == {"2025-06-01": 0, "2025-06-02": 0, "2025-06-03": -2}
    found = table(finance_home, "exceptions").filter(recon_id="R8")
    assert found.select("type", "opened_on", "amount_minor", "left_ref").rows() == [
        ("STUCK", date(2025, 6, 3), 2, "VISA/2025-06-03/USD")
    ]


def test_a_month_of_settlement_is_one_line(finance_home: Settings) -> None:
    # Three days of 9,000 gross; charges of 7 a day, and one day that was paid as if they were 9.
    [row] = table(finance_home, "interchange_summary").to_dicts()
    assert row == {
        "network": "VISA", "period": "2025-06", "currency": "USD", "settlement_days": 3,
        "gross_minor": 27_000, "interchange_minor": 540, "charges_minor": 21,
        "net_paid_minor": 26_437, "in_clearing_minor": 2, "interchange_rate_micros": 20_000,
    }  # fmt: skip


def test_journals_are_exported_for_the_general_ledger(
    finance_home: Settings, tmp_path: Path
) -> None:
    journals = gl_journals("2025-06", None, finance_home)
    assert journals.columns == list(COLUMNS)
    for name in ("debit", "credit"):
        lines = journals[name].to_list()
        assert all(re.fullmatch(r"(\d+\.\d\d)?", line) for line in lines)
    both = journals.with_columns(
        pl.col("debit", "credit").replace("", "0").cast(pl.Decimal(18, 2))
    ).group_by("journal")
    assert (both.agg((pl.col("debit") - pl.col("credit")).sum())["debit"] == 0).all()
    assert "4010" in journals["account"] and "VISA" in journals["unit"]
    one = gl_journals("2025-06", "points", finance_home)
    assert set(one["unit"]) == {"points"}
    with pytest.raises(CardlineError, match="no journals of program 'nope'"):
        gl_journals("2025-06", "nope", finance_home)


def test_the_chart_of_accounts_is_changed_by_a_file(tmp_path: Path) -> None:
    path = tmp_path / "chart.yaml"
    path.write_text("2100: {account: '210500', name: Members' points}")
    chart = chart_of_accounts(path)
    assert chart["2100"] == {"account": "210500", "name": "Members' points"}
    assert chart["4010"] == chart_of_accounts()["4010"]
    settings = Settings(home=tmp_path, chart_of_accounts=path)  # pyright: ignore[reportCallIssue]
    connect(settings=settings).close()
    assert "210500" in compiled_models("finance", settings)["gl_entries"]
    for text, message in (
        ("9999: {account: '1'}", "no such account"),
        ("2100: {number: '1'}", "expected `account` and `name`"),
        ("just text", "expected accounts"),
    ):
        path.write_text(text)
        with pytest.raises(CardlineError, match=message):
            chart_of_accounts(path)
    with pytest.raises(CardlineError, match="no chart of accounts"):
        chart_of_accounts(tmp_path / "none.yaml")


@pytest.mark.slow
def test_tables_build_from_an_empty_ledger(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)  # pyright: ignore[reportCallIssue]
    with connect(settings=settings) as con:
        Ledger().write(con)
        con.execute(FINANCE_MARTS)
    build_finance(settings)
    for name in ("liability_rollforward", "partner_invoice_lines", "gl_entries", "periods"):
        assert table(settings, name).is_empty()
