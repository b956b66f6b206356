"""The workbook of a finance pack: figures with formulas that tie, the same bytes each time."""

from collections.abc import Collection, Iterator
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
MONEY, POINTS = "Roll-forward money", "Roll-forward points"
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
        summary = sheets.sheet("Summary", 1, [62, 18, 18, 24])
        sheets.rollforward(MONEY, "minor", data.money)
        sheets.rollforward(POINTS, "points", data.points)
        sheets.allowance()
        sheets.negative_balances()
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
        # Of all programs, in several currencies: minor units, without a sum.
        sheets.table("Open exceptions", data.exceptions)
        sheets.table("Control totals", data.control_totals)
        sheets.summary(summary)


class _Sheets:
    """Writes sheets in one style into `book`."""

    def __init__(self, book: Any, data: PackData) -> None:
        self.book, self.data = book, data
        # Where each total is, and its value: what the summary is made of.
        self.totals: dict[tuple[str, str], tuple[str, float]] = {}
        self.bold = book.add_format({"bold": True})
        head = {
            "bold": True, "bottom": 2, "font_color": "#27496D", "text_wrap": True, "valign": "top",
        }  # fmt: skip
        self.head = book.add_format(head)
        self.head_number = book.add_format(head | {"align": "right"})
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

    def negative_balances(self) -> None:
        """What members are owed, less what those below zero owe, by month, in money."""
        unit, months = self.data.money, self.data.negative_balances.tail(MONTHS_SHOWN)
        title, names = "Negative balances", ("owed_to_members", "owed_by_members")
        sheet = self.sheet(title, 1, [9, 26, 32, 18])
        for column, label in enumerate(
            ["Period", "Owed to members (2100)", "Members below zero owe (1220)", "Liability"]
        ):
            sheet.write_string(0, column, label, self.head_number if column else self.head)
        for row_no, row in enumerate(months.iter_rows(named=True), start=1):
            sheet.write_string(row_no, 0, row["period"])
            for column, name in enumerate(names, start=1):
                amount = _number(unit.decimal(row[f"{name}_minor"]))
                sheet.write_number(row_no, column, amount, self.number(unit))
            closes = _number(unit.decimal(row["closing_minor"]))
            formula = f"=ROUND(B{row_no + 1}-C{row_no + 1},{unit.scale})"
            sheet.write_formula(row_no, 3, formula, self.number(unit, total=True), closes)
            self.totals[title, "liability"] = (f"'{title}'!D{row_no + 1}", closes)

    def summary(self, sheet: Any) -> None:
        """The headline, and every tie between sheets: both sides and their difference."""
        money = self.data.money
        sheet.write_string(0, 0, f"{self.data.name}, {self.data.period}", self.head)
        sheet.write_string(0, 1, money.name, self.head_number)
        month = [
            ("Closing liability, face", (MONEY, "closing", 1)),
            ("Breakage allowance (estimate)", ("Breakage allowance", "closing_allowance", -1)),
        ]
        cost = [
            ("Accrued", (MONEY, "accrued", 1)),
            ("Adjusted", (MONEY, "adjusted", 1)),
            ("Clawed back", (MONEY, "clawed_back", 1)),
            ("Provision on what was issued (estimate)", ("Breakage allowance", "provision", -1)),
            ("Re-estimate (estimate)", ("Breakage allowance", "reestimate", -1)),
        ]
        row_no = 1
        for lines, total in ((month, "Net liability"), (cost, "Rewards cost of the month")):
            first, running = row_no, 0.0
            for label, (title, name, sign) in lines:
                reference, amount = self.totals[title, name]
                formula = f"={'-' if sign < 0 else ''}{reference}"
                sheet.write_string(row_no, 0, label)
                sheet.write_formula(row_no, 1, formula, self.number(money), sign * amount + 0.0)
                running += sign * amount
                row_no += 1
            sheet.write_string(row_no, 0, total, self.bold)
            formula = f"=ROUND(SUM(B{first + 1}:B{row_no}),{money.scale})"
            told = round(running, money.scale)
            sheet.write_formula(row_no, 1, formula, self.number(money, total=True), told)
            row_no += 2
        for column, label in enumerate(
            ["Ties", "One side", "Other side", "Difference (must be 0)"]
        ):
            sheet.write_string(row_no, column, label, self.head_number if column else self.head)
        for label, left, right, unit in self._ties():
            row_no += 1
            sheet.write_string(row_no, 0, label)
            for column, (formula, amount) in enumerate((left, right), start=1):
                sheet.write_formula(row_no, column, f"={formula}", self.number(unit), amount)
            difference = f"=ROUND(B{row_no + 1}-C{row_no + 1},{unit.scale})"
            told = round(left[1] - right[1], unit.scale)
            sheet.write_formula(row_no, 3, difference, self.number(unit), told)

    def _ties(self) -> Iterator[tuple[str, tuple[str, float], tuple[str, float], Unit]]:
        """What must agree between two sheets: label, both sides as formula and value, unit."""
        money, points, totals = self.data.money, self.data.points, self.totals

        def total(title: str, name: str) -> tuple[str, float]:
            return totals.get((title, name), ("0", 0.0))

        yield (
            "Face: roll-forward and its shares by funding",
            total(MONEY, "closing"),
            total("Funding", "closing_minor"),
            money,
        )
        yield (
            "Face: roll-forward and members' balances",
            total(MONEY, "closing"),
            total("Negative balances", "liability"),
            money,
        )
        yield (
            "Points: roll-forward and open points by expiry",
            total(POINTS, "closing"),
            total("Expiry", "points"),
            points,
        )
        accrued, clawed_back = total(POINTS, "accrued"), total(POINTS, "clawed_back")
        moved = (f"{accrued[0]}+{clawed_back[0]}", accrued[1] + clawed_back[1])
        yield (
            "Points: accrued less clawed back, and what was decided by rule",
            moved,
            total("Rules", "points"),
            points,
        )
        yield (
            "General ledger: debits and credits",
            total("GL entries", "debit_minor"),
            total("GL entries", "credit_minor"),
            money,
        )
        yield (
            "Partner receivable: invoice and general ledger (1210)",
            self._sum_if(
                "Invoice", self.data.invoice_lines, "direction", "RECEIVABLE", "amount_minor"
            ),
            self._booked("1210"),
            money,
        )

    def _sum_if(
        self, title: str, frame: pl.DataFrame, where: str, value: str, name: str
    ) -> tuple[str, float]:
        """The sum of column `name` of a table's rows that have `value` in the column `where`."""
        if frame.is_empty():
            return "0", 0.0
        ranges = [
            f"'{title}'!{_letter(frame.columns.index(each))}2:"
            f"{_letter(frame.columns.index(each))}{frame.height + 1}"
            for each in (where, name)
        ]
        amount = self.data.money.decimal(int(frame.filter(pl.col(where) == value)[name].sum()))
        return f'SUMIF({ranges[0]},"{value}",{ranges[1]})', _number(amount)

    def _booked(self, account: str) -> tuple[str, float]:
        """Debits less credits of an account in the month."""
        entries = self.data.gl_entries
        if entries.is_empty():
            return "0", 0.0
        last = entries.height + 1
        sums = [
            f"SUMIF('GL entries'!C2:C{last},\"{account}\",'GL entries'!{letter}2:{letter}{last})"
            for letter in "EF"
        ]
        mine = entries.filter(account_code=account)
        amount = int(mine["debit_minor"].sum()) - int(mine["credit_minor"].sum())
        return f"{sums[0]}-{sums[1]}", _number(self.data.money.decimal(amount))

    def sheet(self, title: str, frozen_columns: int, widths: Collection[int] = ()) -> Any:
        """A new sheet with its first row frozen, printed on A4 as wide as one page."""
        sheet = self.book.add_worksheet(title)
        sheet.freeze_panes(1, frozen_columns)
        sheet.set_paper(9)
        sheet.set_landscape()
        sheet.fit_to_pages(1, 0)
        sheet.repeat_rows(0)
        for column, width in enumerate(widths):
            sheet.set_column(column, column, width)
        return sheet

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
        sheet = self.sheet(title, 1, [26])
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
            sheet.write_string(0, column, row["period"], self.head_number)
            for offset, (name, _, sign) in enumerate(lines, start=1):
                amount = _number(unit.decimal(sign * row[f"{name}_{suffix}"]))
                if offset == 1 and column > 1:
                    cell = xl_rowcol_to_cell(last + 1, column - 1)
                    sheet.write_formula(offset, column, f"={cell}", plain, amount)
                else:
                    sheet.write_number(offset, column, amount, plain)
                self.totals[title, name] = (
                    f"'{title}'!{xl_rowcol_to_cell(offset, column)}",
                    amount,
                )
            first_cell = xl_rowcol_to_cell(1, column)
            last_cell = xl_rowcol_to_cell(last, column)
            closes = _number(unit.decimal(row[f"{closing[0]}_{suffix}"]))
            formula = f"=ROUND(SUM({first_cell}:{last_cell}),{unit.scale})"
            sheet.write_formula(last + 1, column, formula, total, closes)
            cell = xl_rowcol_to_cell(last + 1, column)
            self.totals[title, closing[0]] = (f"'{title}'!{cell}", closes)
            sheet.write_number(last + 2, column, closes, plain)
            difference = (
                f"=ROUND({xl_rowcol_to_cell(last + 1, column)}"
                f"-{xl_rowcol_to_cell(last + 2, column)},{unit.scale})"
            )
            sheet.write_formula(last + 3, column, difference, plain, 0)

    def ledger(self) -> None:
        """General ledger entries with totals of debits and credits and their difference."""
        unit = self.data.money
        sheet = self.sheet("GL entries", 0, [44, 22, 9, 34, 14, 14, 9])
        headers = ["Entry", "Source", "Account", "Name", "Debit", "Credit", "Currency"]
        for column, header in enumerate(headers):
            is_amount = header in ("Debit", "Credit")
            sheet.write_string(0, column, header, self.head_number if is_amount else self.head)
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
            self.totals["GL entries", name] = (f"'GL entries'!{letter}{last + 1}", total)
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
        sheet = self.sheet(title, 0)
        units = {name: self.data.money for name in money} | {
            name: self.data.points for name in points
        }
        for column, name in enumerate(frame.columns):
            label = (name.removesuffix("_minor") if name in units else name).replace("_", " ")
            is_number = frame.schema[name].is_numeric()
            sheet.write_string(0, column, label, self.head_number if is_number else self.head)
            longest = max([len(label), *(len(str(value)) for value in frame[name])])
            sheet.set_column(column, column, min(max(longest + 2, _MIN_WIDTH), _MAX_WIDTH))
            unit = units.get(name)
            for row_no, value in enumerate(frame[name], start=1):
                self._cell(sheet, row_no, column, value, unit)
            if unit is not None and frame.height:
                letter = _letter(column)
                total = _number(unit.decimal(int(frame[name].sum())))
                formula = f"=ROUND(SUM({letter}2:{letter}{frame.height + 1}),{unit.scale})"
                sheet.write_formula(
                    frame.height + 1, column, formula, self.number(unit, total=True), total
                )
                self.totals[title, name] = (f"'{title}'!{letter}{frame.height + 2}", total)
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


def _letter(column: int) -> str:
    from xlsxwriter.utility import xl_col_to_name

    return xl_col_to_name(column)


def _number(amount: Decimal | float) -> float:
    """A spreadsheet only knows doubles: exact to 15 digits."""
    return float(amount)
