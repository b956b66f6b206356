"""Points of one account as lots: first in, first out; what is missing is a deficit.

Pure and in integers. A lot is consumed in the order (expires_on, issued_on, lot_id), lots that
never expire last. Points taken back leave their own lots first. What no lot covers becomes a
deficit, which later points fill before they open a lot. There are never open lots beside a
deficit, so balance = sum of open lots - deficit.
"""

from bisect import insort
from calendar import monthrange
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date

from pipelines.rewards.terms import Expiry

NEVER = date.max


@dataclass(slots=True)
class Lot:
    """Points issued together; `source_id` is the event that earned them. Pending ones wait for
    the day `available_on`, or without one for their statement, before they may be spent."""

    lot_id: str
    source_id: str
    issued_on: date
    expires_on: date | None
    funding_partner_bps: int
    points_issued: int
    points_open: int
    is_pending: bool = False
    available_on: date | None = None

    def order(self) -> tuple[date, date, str]:
        """Place in the order of consumption."""
        return self.expires_on or NEVER, self.issued_on, self.lot_id


Movement = tuple[str | None, int]
"""Lot (None: the deficit) and how many points."""


@dataclass(slots=True)
class AccountLots:
    """Open lots and deficit of one account in one program, in ledger units."""

    open: list[Lot] = field(default_factory=list)
    deficit: int = 0

    def __post_init__(self) -> None:
        self.open.sort(key=Lot.order)

    @property
    def available(self) -> int:
        """What may be spent: the open lots that are not pending."""
        return sum(lot.points_open for lot in self.open if not lot.is_pending)

    @property
    def balance(self) -> int:
        """Open lots less the deficit."""
        return sum(lot.points_open for lot in self.open) - self.deficit

    def credit(self, lot: Lot) -> list[Movement]:
        """Add the points of `lot`: first to the deficit, what remains opens the lot.

        `lot.points_issued` is lowered to what remains. Returns where the points went.
        """
        movements: list[Movement] = []
        fills = min(self.deficit, lot.points_issued)
        if fills:
            self.deficit -= fills
            movements.append((None, fills))
        lot.points_issued -= fills
        lot.points_open = lot.points_issued
        if lot.points_issued:
            insort(self.open, lot, key=Lot.order)
            movements.append((lot.lot_id, lot.points_issued))
        return movements

    @property
    def pending(self) -> int:
        """What waits for its statement."""
        return sum(lot.points_open for lot in self.open if lot.is_pending)

    def debit(
        self, points: int, own: Iterable[str] = (), pending_first: bool = False
    ) -> list[Movement]:
        """Take `points`: from the lots earned by the events `own`, then the oldest, then owed.

        `pending_first`: of both, from those that wait for their statement first.
        """
        movements: list[Movement] = []
        sources = set(own)
        left = points
        if pending_first:
            waiting = [lot for lot in self.open if lot.is_pending]
            waiting.sort(key=lambda lot: lot.source_id not in sources)
            left = self._take(waiting, left, movements)
        if sources:
            left = self._take(
                (lot for lot in self.open if lot.source_id in sources), left, movements
            )
        left = self._take(self.open, left, movements)
        if left:
            self.deficit += left
            movements.append((None, left))
        if len(movements) > 1 or sources or pending_first:
            self.open = [lot for lot in self.open if lot.points_open]
        elif self.open and not self.open[0].points_open:
            del self.open[0]
        return movements

    def spend(self, points: int) -> list[Movement]:
        """Take `points` oldest first; raises `ValueError` where there are fewer, or a deficit."""
        if self.deficit or points > self.available:
            raise ValueError(f"{points} points asked for, {self.available} there")
        movements: list[Movement] = []
        self._take((lot for lot in self.open if not lot.is_pending), points, movements)
        self.open = [lot for lot in self.open if lot.points_open]
        return movements

    def release(self, until: date) -> list[Lot]:
        """Lots issued by `until` that waited for their statement; they may be spent from now on."""
        return self._release(lambda lot: lot.available_on is None and lot.issued_on <= until)

    def release_on(self, day: date) -> list[Lot]:
        """Lots that waited until `day`; they may be spent from now on."""
        return self._release(lambda lot: lot.available_on is not None and lot.available_on <= day)

    def next_available(self) -> date | None:
        """When the next of the lots that wait for a day may be spent."""
        days = [lot.available_on for lot in self.open if lot.is_pending and lot.available_on]
        return min(days, default=None)

    def _release(self, is_due: Callable[[Lot], bool]) -> list[Lot]:
        released = [lot for lot in self.open if lot.is_pending and is_due(lot)]
        for lot in released:
            lot.is_pending = False
        return released

    def restore(self, lot: Lot, points: int) -> None:
        """Put `points` back into a lot that they were taken from."""
        lot.points_open += points
        if all(each is not lot for each in self.open):
            insort(self.open, lot, key=Lot.order)

    def expire(self, day: date) -> list[Movement]:
        """Take what is left of every lot that expires on or before `day`."""
        movements: list[Movement] = []
        for lot in self.open:
            if lot.expires_on is None or lot.expires_on > day:
                break
            movements.append((lot.lot_id, lot.points_open))
            lot.points_open = 0
        if movements:
            del self.open[: len(movements)]
        return movements

    def next_expiry(self) -> date | None:
        """When the next open lot expires."""
        return self.open[0].expires_on if self.open else None

    @staticmethod
    def _take(lots: Iterable[Lot], left: int, movements: list[Movement]) -> int:
        for lot in lots:
            if left == 0:
                break
            part = min(left, lot.points_open)
            if part:
                lot.points_open -= part
                left -= part
                movements.append((lot.lot_id, part))
        return left


def expires_on(issued_on: date, expiry: Expiry) -> date | None:
    """The last day on which points issued on `issued_on` can be used; None if they never lapse.

    Months are calendar months; a day that the target month lacks becomes its last day.
    """
    if expiry.kind != "LOT" or expiry.months is None:
        return None
    month = issued_on.year * 12 + issued_on.month - 1 + expiry.months
    match expiry.align:
        case "END_OF_QUARTER":
            month += 2 - month % 3
        case "END_OF_YEAR":
            month += 11 - month % 12
    year, month_index = divmod(month, 12)
    last = monthrange(year, month_index + 1)[1]
    day = min(issued_on.day, last) if expiry.align == "NONE" else last
    return date(year, month_index + 1, day)


def lapses_on(active_on: date, expiry: Expiry) -> date | None:
    """The last day on which an account that was last active on `active_on` keeps its points."""
    if expiry.kind != "INACTIVITY":
        return None
    return expires_on(active_on, expiry.model_copy(update={"kind": "LOT"}))
