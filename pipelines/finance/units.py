"""Minor units and program units, written for people."""

from dataclasses import dataclass
from decimal import Decimal

from pipelines.currencies import minor_digits

MINUS = "−"


@dataclass(frozen=True)
class Unit:
    """A unit that amounts are stored in as integers of `10**-scale`."""

    name: str
    scale: int

    @classmethod
    def money(cls, currency: str) -> "Unit":
        """The unit of an ISO 4217 `currency`."""
        return cls(currency, minor_digits(currency))

    def decimal(self, amount: int) -> Decimal:
        """`amount` in whole units, exactly."""
        return Decimal(int(amount)).scaleb(-self.scale)

    def text(self, amount: int | None) -> str:
        """`amount` with separators and a proper minus, e.g. `−1,234.50`; a dash for nothing."""
        if amount is None:
            return "–"
        sign = MINUS if amount < 0 else ""
        return f"{sign}{abs(self.decimal(amount)):,.{self.scale}f}"

    def signed(self, amount: int) -> str:
        """`amount` with its sign, e.g. `+12.00`; zero has none."""
        return f"+{self.text(amount)}" if amount > 0 else self.text(amount)

    @property
    def number_format(self) -> str:
        """The spreadsheet format of the unit."""
        digits = "." + "0" * self.scale if self.scale else ""
        return f"#,##0{digits};[Red]-#,##0{digits};0{digits}"
