"""The workbook of a finance pack: figures with formulas that tie, the same bytes each time."""

from collections.abc import Collection
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.finance.pack_data import FLOWS, PackData
from pipelines.finance.units import Unit

# Workbooks carry a creation time: one for all, so that equal figures are equal files.
CREATED_AT = datetime(2000, 1, 1)
MONTHS_SHOWN = 24
COHORT_POINTS = ("issued_points", "redeemed_points", "lapsed_points", "open_points")
_MIN_WIDTH, _MAX_WIDTH = 9, 44


def write_xlsx(data: PackData, path: Path, version: int) -> None:
    """Write the workbook of `data` to `path`.

    Amounts are in whole units with the unit's decimals. Totals, closing balances and checks are
    formulas with their values stored, so that they show where formulas are not computed.
    """
    import xlsxwriter

    with xlsxwriter.Workbook(str(path), {"in_memory": True}) as book:
        book.set_properties(
            {
                "title": f"{data.name}, rewards {data.period}, version {version}",
                "created": CREATED_AT,
            }
        )
        sheets = _Sheets(book, data)
        sheets.rollforward("Roll-forward money", "minor", data.money)
        sheets.rollforward("Roll-forward points", "points", data.points)
        sheets.allowance()
        funding = data.funding.columns
        sheets.table(
            "Funding", data.funding,
            money={name for name in funding if name.endswith("_minor")},
            points={name for name in funding if name.endswith("_points")},
        )  # fmt: skip
        sheets.table("Redemption rate", data.redemption.cohorts, points=COHORT_POINTS)
        sheets.table("Expiry", data.expiry, points={"points"})
        sheets.table("Prior period", data.prior_period, money={"amount_minor"}, points={"points"})
        sheets.ledger()
        money = {"eligible_minor", "amount_minor"}
        sheets.table("Invoice", data.invoice_lines, money={"amount_minor"}, points={"points"})
        sheets.table("Rules", data.decisions, money=money, points={"points"})
        sheets.table("Categories", data.categories, money=money, points={"points"})
        sheets.table("Zero reasons", data.zero_reasons)
        sheets.table("Ledger events", data.events, points={"points"})
        sheets.table("Reconciliation", data.reconciliations)
        sheets.table("Open exceptions", data.exceptions, money=money)
        sheets.table("Control totals", data.control_totals)


class _Sheets:
    """Writes sheets in one style into `book`."""

    def __init__(self, book: Any, data: PackData) -> None:
        self.book, self.data = book, data
        self.bold = book.add_format({"bold": True})
        self.head = book.add_format(
            {"bold": True, "bottom": 2, "font_color": "#27496D", "text_wrap": True, "valign": "top"}
        )
        self.day = book.add_format({"num_format": "yyyy-mm-dd", "align": "left"})
        self._numbers: dict[tuple[str, bool], Any] = {}

    def number(self, unit: Unit, total: bool = False) -> Any:
        """The cell format of an amount in `unit`."""
        key = (unit.number_format, total)
        if key not in self._numbers:
            style: dict[str, Any] = {"num_format": unit.number_format}
            if total:
                style |= {"bold": True, "top": 1}
            self._numbers[key] = self.book.add_format(style)
        return self._numbers[key]

    def rollforward(self, title: str, suffix: str, unit: Unit) -> None:
        """Lines down, months across: each month opens with the one before and adds up."""
        lines = [("opening", "Opening balance", 1), *FLOWS]
        self._months(title, lines, ("closing", "Closing balance"), suffix, unit)

    def allowance(self) -> None:
        """The breakage allowance by month, in money."""
        lines = [
            ("opening_allowance", "Opening allowance", 1),
            ("provision", "Provision", 1),
            ("breakage", "Expired and forfeited", -1),
            ("reestimate", "Re-estimate", 1),
        ]
        closing = ("closing_allowance", "Closing allowance")
        self._months("Breakage allowance", lines, closing, "minor", self.data.money)

    def _months(
        self,
        title: str,
        lines: list[tuple[str, str, int]],
        closing: tuple[str, str],
        suffix: str,
        unit: Unit,
    ) -> None:
        from xlsxwriter.utility import xl_rowcol_to_cell

        months = self.data.rollforward.tail(MONTHS_SHOWN)
        sheet = self.book.add_worksheet(title)
        sheet.freeze_panes(1, 1)
        sheet.set_column(0, 0, 26)
        sheet.set_column(1, months.height, 14)
        sheet.write_string(0, 0, f"{self.data.name}, {unit.name}", self.head)
        last = len(lines)
        for offset, label in enumerate([*(label for _, label, _ in lines), closing[1]], start=1):
            is_total = offset in (1, last + 1)
            sheet.write_string(offset, 0, label, self.bold if is_total else None)
        sheet.write_string(last + 2, 0, "Ledger balance")
        sheet.write_string(last + 3, 0, "Difference (must be 0)")
        plain, total = self.number(unit), self.number(unit, total=True)
        for column, row in enumerate(months.iter_rows(named=True), start=1):
            sheet.write_string(0, column, row["period"], self.head)
            for offset, (name, _, sign) in enumerate(lines, start=1):
                amount = _number(unit.decimal(sign * row[f"{name}_{suffix}"]))
                if offset == 1 and column > 1:
                    cell = xl_rowcol_to_cell(last + 1, column - 1)
                    sheet.write_formula(offset, column, f"={cell}", plain, amount)
                else:
                    sheet.write_number(offset, column, amount, plain)
            first_cell = xl_rowcol_to_cell(1, column)
            last_cell = xl_rowcol_to_cell(last, column)
            closes = _number(unit.decimal(row[f"{closing[0]}_{suffix}"]))
            formula = f"=ROUND(SUM({first_cell}:{last_cell}),{unit.scale})"
            sheet.write_formula(last + 1, column, formula, total, closes)
            sheet.write_number(last + 2, column, closes, plain)
            difference = (
                f"=ROUND({xl_rowcol_to_cell(last + 1, column)}"
                f"-{xl_rowcol_to_cell(last + 2, column)},{unit.scale})"
            )
            sheet.write_formula(last + 3, column, difference, plain, 0)

    def ledger(self) -> None:
        """General ledger entries with totals of debits and credits and their difference."""
        unit = self.data.money
        sheet = self.book.add_worksheet("GL entries")
        sheet.freeze_panes(1, 0)
        headers = ["Entry", "Source", "Account", "Name", "Debit", "Credit", "Currency"]
        for column, header in enumerate(headers):
            sheet.write_string(0, column, header, self.head)
        for column, width in enumerate((44, 22, 9, 34, 14, 14, 9)):
            sheet.set_column(column, column, width)
        entries = list(self.data.gl_entries.iter_rows(named=True))
        for row_no, entry in enumerate(entries, start=1):
            for column, name in enumerate(("entry_id", "source", "account_code", "account_name")):
                sheet.write_string(row_no, column, entry[name])
            for column, name in ((4, "debit_minor"), (5, "credit_minor")):
                if entry[name]:
                    amount = _number(unit.decimal(entry[name]))
                    sheet.write_number(row_no, column, amount, self.number(unit))
            sheet.write_string(row_no, 6, entry["currency"])
        if not entries:
            return
        last = len(entries) + 1
        sheet.autofilter(0, 0, len(entries), 6)
        sheet.write_string(last, 0, "Total", self.bold)
        for column, letter, name in ((4, "E", "debit_minor"), (5, "F", "credit_minor")):
            total = _number(unit.decimal(sum(entry[name] for entry in entries)))
            formula = f"=ROUND(SUM({letter}2:{letter}{last}),{unit.scale})"
            sheet.write_formula(last, column, formula, self.number(unit, total=True), total)
        sheet.write_string(last + 1, 0, "Difference (must be 0)")
        sheet.write_formula(
            last + 1, 4, f"=ROUND(E{last + 1}-F{last + 1},{unit.scale})", self.number(unit), 0
        )

    def table(
        self,
        title: str,
        frame: pl.DataFrame,
        money: Collection[str] = (),
        points: Collection[str] = (),
    ) -> None:
        """`frame` as it is, columns of minor and program units in whole units, with their sum."""
        sheet = self.book.add_worksheet(title)
        sheet.freeze_panes(1, 0)
        units = {name: self.data.money for name in money} | {
            name: self.data.points for name in points
        }
        for column, name in enumerate(frame.columns):
            label = name.removesuffix("_minor").replace("_", " ")
            sheet.write_string(0, column, label, self.head)
            longest = max([len(label), *(len(str(value)) for value in frame[name])])
            sheet.set_column(column, column, min(max(longest + 2, _MIN_WIDTH), _MAX_WIDTH))
            unit = units.get(name)
            for row_no, value in enumerate(frame[name], start=1):
                self._cell(sheet, row_no, column, value, unit)
            if unit is not None and frame.height:
                letter = chr(ord("A") + column)
                total = _number(unit.decimal(int(frame[name].sum())))
                formula = f"=ROUND(SUM({letter}2:{letter}{frame.height + 1}),{unit.scale})"
                sheet.write_formula(
                    frame.height + 1, column, formula, self.number(unit, total=True), total
                )
        if frame.height:
            sheet.autofilter(0, 0, frame.height, len(frame.columns) - 1)

    def _cell(self, sheet: Any, row: int, column: int, value: Any, unit: Unit | None) -> None:
        if value is None:
            return
        if unit is not None:
            sheet.write_number(row, column, _number(unit.decimal(value)), self.number(unit))
        elif isinstance(value, bool):
            sheet.write_boolean(row, column, value)
        elif isinstance(value, int | float | Decimal):
            sheet.write_number(row, column, _number(value))
        elif isinstance(value, date) and not isinstance(value, datetime):
            midnight = datetime.combine(value, datetime.min.time())
            sheet.write_datetime(row, column, midnight, self.day)
        else:
            sheet.write_string(row, column, str(value))


def _number(amount: Decimal | float) -> float:
    """A spreadsheet only knows doubles: exact to 15 digits."""
    return float(amount)
