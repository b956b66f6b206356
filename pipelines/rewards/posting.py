"""Decisions and members' instructions become journal entries, legs and lots.

Within a known day an account's entries come in the order of the days that they are about, and of
one such day in this order: what posted events give and take (in the engine's order, a correction's
reversal first), then points that a statement or their day releases, then instructions of members
and those that follow from a closure, then lots that expire at its end. So what is delivered
together is worked as if it had come day by day. Then come, at the end of the known day, the month-
end transfer of a program whose points the partner posts, and reserved redemptions that nobody has
cancelled in their days. An instruction that the balance does not allow is refused for good. Days
are worked one after the other, so one pass over many days writes what a pass for each day would
have written.
"""

from calendar import monthrange
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

import polars as pl

from pipelines.rewards.ledger import (
    CONSUMPTION_SCHEMA,
    JOURNAL_SCHEMA,
    LOT_SCHEMA,
    POSTING_SCHEMA,
    Entries,
)
from pipelines.rewards.lots import AccountLots, Lot, Movement, expires_on, lapses_on
from pipelines.rewards.terms import Program, ProgramTerms

NOTHING_OPEN = "NOTHING_OPEN"
"""Why nothing was posted for the closure of an account without points: no exception."""

RESTORED_DAYS = 30
"""Points of a cancelled redemption whose lot has lapsed live on for at least so many days."""

ACTION_SCHEMA = pl.Schema(
    {
        "account_id": pl.String,
        "day": pl.Date,
        "place": pl.Int64,
        "event_id": pl.String,
        "version_no": pl.Int64,
        "revision": pl.Int64,
        "event_class": pl.String,
        "journal_id": pl.String,
        "points": pl.Int64,
        "bonus": pl.Int64,
        "funding_partner_bps": pl.List(pl.Int64),
        "parts": pl.List(pl.Int64),
        "waits": pl.List(pl.Int64),
        "effective_on": pl.Date,
        "rule_hash": pl.String,
        "reverses": pl.Boolean,
        "item_event_ids": pl.List(pl.String),
    }
)
"""What posted events do to balances: `points` in all, `bonus` of them by a sign-up bonus, `parts`
by who funds them and the days that they wait (`waits`; null where none do). `journal_id` is the
entry that this makes or, where it `reverses`, undoes; `place` orders an account's day."""

PHASE_EVENT, PHASE_RELEASE, PHASE_INSTRUCTION, PHASE_EXPIRY, PHASE_TRANSFER = range(5)


@dataclass(frozen=True, slots=True)
class Instruction:
    """A member's or an operator's instruction: REDEEM, REDEEM_CANCEL, TRANSFER or ADJUST."""

    reward_event_id: str
    kind: str
    day: date
    effective_on: date
    points: int | None
    reference: str | None
    sort_key: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an instruction; `reason` is set where it was rejected."""

    reward_event_id: str
    outcome: str
    reason: str | None
    journal_id: str | None
    day: date


@dataclass(slots=True)
class Redemption:
    """A redemption that may still be cancelled: its entry and what it took from which lots.

    `settles_on`: where its points are only reserved, the day at whose end they are redeemed.
    """

    reward_event_id: str
    journal_id: str
    movements: list[Movement]
    settles_on: date | None = None
    is_cancelled: bool = False

    @property
    def points(self) -> int:
        """How many it took."""
        return sum(points for _, points in self.movements)


@dataclass(slots=True)
class Forborne:
    """Points that a return policy kept an entry from taking back, for purchases; below zero: that
    an entry did not give back because they had not been taken."""

    journal_id: str
    item_event_ids: frozenset[str]
    points: int


@dataclass
class Account:
    """One account's lots and what is to be done with it in this pass.

    `activity`: on which day it became known that the account was active on another; `active_on`
    the last such day before this pass. `closures`: from when on nothing can be spent, and since
    and until when that is known. `bonus`: points of a sign-up bonus that stand; `early_closure`:
    the day on which, known from another on, an early closure takes them back.
    """

    account_id: str
    lots: AccountLots
    actions: list[dict[str, object]] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    statements: list[tuple[date, date]] = field(default_factory=list)
    activity: list[tuple[date, date]] = field(default_factory=list)
    active_on: date | None = None
    closures: list[tuple[date, date, date]] = field(default_factory=list)
    bonus: int = 0
    early_closure: tuple[date, date] = (date.max, date.max)
    forborne: list[Forborne] = field(default_factory=list)
    redemptions: dict[str, Redemption] = field(default_factory=dict)
    known_lots: dict[str, Lot] = field(default_factory=dict)

    def add_redemption(self, reference: str | None, redemption: Redemption) -> None:
        """Let cancellations find it by its id, and by the order that it is for: of several the
        first that is not cancelled."""
        self.redemptions[redemption.reward_event_id] = redemption
        earlier = self.redemptions.get(reference or "")
        if reference and (earlier is None or earlier.is_cancelled):
            self.redemptions[reference] = redemption


@dataclass
class _Buffer:
    """Rows to be written, as lists."""

    journals: list[tuple[object, ...]] = field(default_factory=list)
    order: list[tuple[date, int, str]] = field(default_factory=list)
    postings: list[tuple[object, ...]] = field(default_factory=list)
    lots: list[tuple[object, ...]] = field(default_factory=list)
    consumption: list[tuple[object, ...]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


def month_ends(after: date | None, through: date) -> list[date]:
    """The last days of months later than `after` and up to `through`; none without `after`."""
    if after is None:
        return []
    ends = []
    day = after + timedelta(days=1)
    while True:
        day = day.replace(day=monthrange(day.year, day.month)[1])
        if day > through:
            return ends
        ends.append(day)
        day += timedelta(days=1)


def lot_id_of(
    source_id: str, revision: int, funding_partner_bps: int = 0, wait_days: int = 0
) -> str:
    """The id of the lot that a source's `revision` opens."""
    funded = f":{funding_partner_bps}" if funding_partner_bps else ""
    return f"lot:{source_id}:{revision}{funded}" + (f":+{wait_days}d" if wait_days else "")


def terms_on(program: Program, day: date) -> ProgramTerms:
    """The terms in force on `day`; the first ones before they begin."""
    return program.versions[program.index_on(day) or 0].terms


def expiry_of(program: Program, issued_on: date) -> date | None:
    """Last day on which points issued on `issued_on` can be used, by the terms of that day."""
    return expires_on(issued_on, terms_on(program, issued_on).expiry)


def _waits(program: Program, issued_on: date) -> bool:
    """Whether points issued on `issued_on` wait for the statement, by the terms of that day."""
    return terms_on(program, issued_on).accrual.settlement == "STATEMENT"


def _in_time(actions: list[dict[str, object]]) -> Iterator[tuple[dict[str, object], date]]:
    """Each action with the day that it is about, in no order. A correction's reversal goes with the
    entry that comes after it, so that the order of places holds."""
    about, day = date.max, date.max
    for action in sorted(actions, key=lambda each: (each["day"], each["place"]), reverse=True):  # pyright: ignore
        if action["day"] != day:
            about, day = date.max, action["day"]  # pyright: ignore[reportAssignmentType]
        about = min(about, action["effective_on"])  # pyright: ignore[reportArgumentType]
        yield action, about


def _first_reserved(account: Account) -> Redemption | None:
    """The reserved redemption that settles next."""
    waiting = [each for each in account.redemptions.values() if each.settles_on]
    return min(
        waiting, key=lambda each: (each.settles_on or date.max, each.reward_event_id), default=None
    )


class AccountPosting:
    """Works accounts of one program one entry at a time; collects what is to be written."""

    def __init__(
        self, program: Program, after: date | None, through: date, month_ends: list[date]
    ) -> None:
        """`after` is the day that the last pass went through; this one goes to `through`."""
        self.program = program
        self.after = after or date.min
        self.through = through
        is_partner = program.latest.settlement_model == "PARTNER_POSTED"
        self.transfers = month_ends if is_partner else []
        self.out = _Buffer()

    def run(self, account: Account) -> int:
        """Everything that is due for `account`; returns its balance afterwards."""
        self._transfer_index = 0
        self._floor = self.after
        self._bonus_turns: Counter[date] = Counter()
        todo: list[tuple[date, date, int, tuple[object, ...], object]] = []
        for action, about in _in_time(account.actions):
            todo.append((action["day"], about, PHASE_EVENT, (action["place"],), action))  # pyright: ignore
        for day, active_on in account.activity:
            todo.append((day, date.min, PHASE_EVENT, (-1,), active_on))
        for day, ends_on in account.statements:
            todo.append((day, ends_on, PHASE_RELEASE, (ends_on,), ends_on))
        for each in account.instructions:
            todo.append((each.day, each.effective_on, PHASE_INSTRUCTION, each.sort_key, each))
        todo.sort(key=lambda entry: entry[:4])
        for day, about, phase, _, what in todo:
            self._end_days(account, day - timedelta(days=1))
            self._floor = max(self._floor, day)
            until = min(about, day)
            self._expire_before(account, until, day)
            if isinstance(what, date) and phase == PHASE_EVENT:
                account.active_on = max(account.active_on or what, what)
            elif phase == PHASE_EVENT:
                self._post_action(account, day, what)  # pyright: ignore[reportArgumentType]
            elif phase == PHASE_RELEASE:
                self._release(account, day, what)  # pyright: ignore[reportArgumentType]
            else:
                self._release_waited(account, day, until)
                self._take_bonus(account, day, until)
                self._post_instruction(account, what)  # pyright: ignore[reportArgumentType]
        self._end_days(account, self.through)
        return account.lots.balance

    def _end_days(self, account: Account, until: date) -> None:
        """Expiries and transfers at the ends of days up to `until`."""
        while True:
            due: list[tuple[date, int]] = []
            if waits_until := account.lots.next_available():
                due.append((max(waits_until, self._floor), -2))
            if account.bonus:
                due.append((max(*account.early_closure, self._floor), -1))
            expiry = account.lots.next_expiry()
            if expiry is not None:
                due.append((max(expiry, self._floor), 0))
            if inactive := self._inactive_on(account):
                due.append((max(inactive, self._floor), 1))
            if self._transfer_index < len(self.transfers):
                due.append((self.transfers[self._transfer_index], 2))
            reserved = _first_reserved(account)
            if reserved and reserved.settles_on:
                due.append((max(reserved.settles_on, self._floor), 3))
            day, what = min(due, default=(date.max, 0))
            if day > until:
                return
            if what == -2:
                self._release_waited(account, day, day)
            elif what == -1:
                self._take_bonus(account, day, day)
            elif what == 0:
                assert expiry is not None
                self._expire(account, expiry, day)
            elif what == 1:
                self._lapse(account, day)
            elif what == 3:
                assert reserved is not None
                self._settle(account, reserved, day)
            else:
                self._transfer_index += 1
                self._transfer_month(account, day)

    def _take_bonus(self, account: Account, day: date, about: date) -> None:
        """An early closure by the day `about` takes the sign-up bonus back; what it took of one
        that is no longer given, it gives back."""
        points, (closed_on, known_on) = account.bonus, account.early_closure
        if not points or about < closed_on or day < known_on:
            return
        account.bonus = 0
        # A day that takes it back may also bring the fraud that takes it back in another way.
        turn = self._bonus_turns[day]
        self._bonus_turns[day] += 1
        source = f"{account.account_id}:{day}{f':{turn}' if turn else ''}"
        journal_id = f"closure:bonus_clawback:{self.program.program_id}:{source}"
        self._entry(
            account, day, PHASE_INSTRUCTION, "CLAWBACK", "CLOSURE", source, f"CLOSURE|{source}",
            closed_on, journal_id,
        )  # fmt: skip
        if points > 0:
            movements = account.lots.debit(points)
            self._legs(account, "MEMBER_AVAILABLE", "CLAWED_BACK", movements, points, "CLAWBACK")
            return
        lot_id = lot_id_of(source, 1)
        movements = self._credit(account, journal_id, lot_id, source, closed_on, -points)
        self._legs(account, "CLAWED_BACK", "MEMBER_AVAILABLE", movements, -points, None)

    def _inactive_on(self, account: Account) -> date | None:
        """The last day of points that lapse because nothing has happened."""
        if account.active_on is None or not account.lots.open:
            return None
        return lapses_on(account.active_on, terms_on(self.program, account.active_on).expiry)

    def _lapse(self, account: Account, day: date) -> None:
        """All points of an inactive account, lost or credited."""
        assert account.active_on is not None
        event_type, counter, kind = {
            "FORFEIT": ("EXPIRY", "EXPIRED", "EXPIRE"),
            "CREDIT": ("REDEMPTION", "REDEEMED", "REDEEM"),
        }[terms_on(self.program, account.active_on).expiry.action]
        source = f"{account.account_id}:{account.lots.open[0].lot_id}:{day}"
        total = account.lots.balance
        movements = account.lots.debit(total)
        self._entry(
            account, day, PHASE_EXPIRY, event_type, "INACTIVITY", source, source, day,
            f"inactivity:{self.program.program_id}:{source}",
        )  # fmt: skip
        self._legs(account, "MEMBER_AVAILABLE", counter, movements, total, kind)

    def _release(self, account: Account, day: date, ends_on: date) -> None:
        """Points of a statement period may be spent from its statement on."""
        lots = account.lots.release(ends_on)
        source = f"{account.account_id}:{ends_on}:{day}"
        self._release_entry(account, day, "STATEMENT", lots, ends_on, source)

    def _release_waited(self, account: Account, day: date, until: date) -> None:
        """Points that were to wait until a day, `until` at most, may be spent from it on."""
        lots = account.lots.release_on(until)
        due_on = max((lot.available_on for lot in lots if lot.available_on), default=day)
        source = f"{account.account_id}:waited:{due_on}:{day}"
        self._release_entry(account, day, "WAITING_TIME", lots, due_on, source)

    def _release_entry(
        self, account: Account, day: date, source_kind: str, lots: list[Lot], effective_on: date,
        source: str,
    ) -> None:  # fmt: skip
        if not lots:
            return
        self._entry(
            account, day, PHASE_RELEASE, "RELEASE", source_kind, source, source, effective_on,
            f"release:{self.program.program_id}:{source}",
        )  # fmt: skip
        legs = ((name, way, lot) for name, way in (("MEMBER_PENDING", "DEBIT"),
                ("MEMBER_AVAILABLE", "CREDIT")) for lot in lots)  # fmt: skip
        for leg_no, (name, way, lot) in enumerate(legs, start=1):
            self.out.postings.append(
                (self._journal_id, leg_no, name, account.account_id, lot.lot_id, way,
                 lot.points_open)
            )  # fmt: skip

    def _expire_before(self, account: Account, about: date, day: date) -> None:
        """Lots whose last day is before `about`, of what is known on `day` only."""
        while (expiry := account.lots.next_expiry()) is not None and expiry < about:
            self._expire(account, expiry, day)

    def _expire(self, account: Account, expiry: date, day: date) -> None:
        movements = account.lots.expire(expiry)
        total = sum(points for _, points in movements)
        source = f"{account.account_id}:{expiry}:{day}"
        self._entry(
            account, day, PHASE_EXPIRY, "EXPIRY", "LOT_EXPIRY", source, source, expiry,
            f"expiry:{self.program.program_id}:{source}",
        )  # fmt: skip
        self._legs(account, "MEMBER_AVAILABLE", "EXPIRED", movements, total, "EXPIRE")

    def _transfer_month(self, account: Account, day: date) -> None:
        points = account.lots.available
        if points <= 0 or account.lots.deficit:
            return
        source = f"{account.account_id}:{day:%Y-%m}"
        movements = account.lots.spend(points)
        self._entry(
            account, day, PHASE_TRANSFER, "TRANSFER", "PARTNER_CYCLE", source, source, day,
            f"transfer:{self.program.program_id}:{source}",
        )  # fmt: skip
        self._legs(
            account, "MEMBER_AVAILABLE", "PARTNER_TRANSFER_CLEARING", movements, points, "TRANSFER"
        )

    def _post_action(self, account: Account, day: date, action: dict[str, object]) -> None:
        points = int(action["points"])  # pyright: ignore[reportArgumentType]
        bonus = int(action["bonus"])  # pyright: ignore[reportArgumentType]
        account.bonus += -bonus if action["reverses"] else bonus
        event_id, revision = str(action["event_id"]), int(action["revision"])  # pyright: ignore
        name = "ACCRUAL" if action["event_class"] == "EARN" else "CLAWBACK"
        journal_id, reverses = str(action["journal_id"]), None
        if action["reverses"]:
            reverses, journal_id = journal_id, f"reversal:{event_id}:{revision}"
            points = -points
        counter = "ISSUANCE" if name == "ACCRUAL" else "CLAWED_BACK"
        effective_on = action["effective_on"]
        assert isinstance(effective_on, date)
        version = f"{action['version_no']}|{revision}" + ("|REVERSAL" if reverses else "")
        self._entry(
            account, day, PHASE_EVENT, name, "POSTED_EVENT", event_id, f"{event_id}|{version}",
            effective_on, journal_id, reverses, action["rule_hash"],
        )  # fmt: skip
        items: list[str] = action["item_event_ids"] or []  # pyright: ignore[reportAssignmentType]
        forborne = 0
        if name == "CLAWBACK":
            forborne = self._forbear(account, journal_id, reverses, items, points, effective_on)
        if points < 0:
            own = [event_id] if action["reverses"] else items
            policy = terms_on(self.program, effective_on).returns.policy
            is_pending = policy == "ONLY_PENDING" and not reverses
            movements = account.lots.debit(-points - forborne, own, is_pending)
            kind = "VOID" if reverses else "CLAWBACK"
            self._legs(account, "MEMBER_AVAILABLE", counter, movements, -points, kind, forborne)
            return
        if action["reverses"]:
            parts, source = [(0, points + forborne, 0)], f"{event_id}:reversal"
        else:
            parts = self._parts(action, points) if not forborne else [(0, points + forborne, 0)]
            source = event_id
        movements: list[Movement] = []
        for bps, part, wait_days in parts:
            lot_id = lot_id_of(source, revision, bps, wait_days)
            available_on = effective_on + timedelta(days=wait_days) if wait_days else None
            movements += self._credit(
                account, journal_id, lot_id, event_id, effective_on, part, bps,
                available_on=available_on,
            )  # fmt: skip
        self._legs(account, counter, "MEMBER_AVAILABLE", movements, points, None, -forborne)

    def _forbear(
        self, account: Account, journal_id: str, reverses: str | None, items: list[str],
        points: int, effective_on: date,
    ) -> int:  # fmt: skip
        """How many of the points to take back the policy leaves; below zero: how many of the
        points to give back had never been taken."""
        of = frozenset(items)
        if reverses:
            [*found] = [each for each in account.forborne if each.journal_id == reverses]
            kept = -sum(each.points for each in found)
            of = of.union(*(each.item_event_ids for each in found))
        elif points > 0:
            left = sum(each.points for each in account.forborne
                       if each.item_event_ids & of or not each.item_event_ids | of)  # fmt: skip
            kept = -min(points, max(0, left))
        else:
            match terms_on(self.program, effective_on).returns.policy:
                case "WITHIN_BALANCE":
                    kept = max(0, -points - max(0, account.lots.balance))
                case "ONLY_PENDING":
                    kept = max(0, -points - account.lots.pending)
                case _:
                    kept = 0
        if kept:
            account.forborne.append(Forborne(journal_id, of, kept))
        return kept

    @staticmethod
    def _parts(action: dict[str, object], points: int) -> list[tuple[int, int, int]]:
        """Points by who funds them, with the days that they wait; where a part is below zero, they
        are not told apart."""
        funders: list[int] = action["funding_partner_bps"]  # pyright: ignore
        waits = action["waits"] or [0] * len(funders)
        found = zip(funders, action["parts"], waits, strict=True)  # pyright: ignore
        parts = [(int(bps), int(part), int(days)) for bps, part, days in found if part]
        if any(part < 0 for _, part, _ in parts):
            return [(0, points, 0)]
        return parts

    def _credit(
        self, account: Account, journal_id: str, lot_id: str, source: str, issued_on: date,
        points: int, bps: int = 0, lapses: date | None = None, available_on: date | None = None,
    ) -> list[Movement]:  # fmt: skip
        """Points for the account: what its deficit leaves opens a lot."""
        ends = lapses or expiry_of(self.program, issued_on)
        waits = available_on is not None or (lapses is None and _waits(self.program, issued_on))
        lot = Lot(lot_id, source, issued_on, ends, bps, points, points, waits, available_on)
        movements = account.lots.credit(lot)
        if lot.points_issued:
            account.known_lots[lot_id] = lot
            self.out.lots.append(
                (lot_id, account.account_id, source, journal_id, issued_on, ends, bps,
                 lot.points_issued, available_on)
            )  # fmt: skip
        return movements

    def _post_instruction(self, account: Account, what: Instruction) -> None:
        match what.kind:
            case "REDEEM":
                self._spend(account, what, "REDEMPTION", "REDEEMED", "REDEEM")
            case "TRANSFER":
                self._spend(account, what, "TRANSFER", "PARTNER_TRANSFER_CLEARING", "TRANSFER")
            case "REDEEM_CANCEL":
                self._cancel(account, what)
            case "FORFEIT" | "CREDIT":
                self._close(account, what)
            case "WRITE_OFF":
                self._write_off(account, what)
            case _:
                self._adjust(account, what)

    def _spend(
        self, account: Account, what: Instruction, event_type: str, counter: str, kind: str
    ) -> None:
        if what.points is None or what.points <= 0:
            self._reject(what, "NO_POINTS")
            return
        if any(
            closed_on <= what.effective_on and known_on <= what.day < reopened_on
            for closed_on, known_on, reopened_on in account.closures
        ):
            self._reject(what, "ACCOUNT_CLOSED")
            return
        try:
            movements = account.lots.spend(what.points)
        except ValueError:
            self._reject(what, "DEFICIT" if account.lots.deficit else "NOT_ENOUGH_POINTS")
            return
        days = terms_on(self.program, what.effective_on).redemption.settle_after_days
        settles_on = None
        if event_type == "REDEMPTION" and days:
            event_type = "RESERVATION"
            settles_on = what.day + timedelta(days=days)
        journal_id = f"{event_type.lower()}:{what.reward_event_id}"
        self._instructed(account, what, event_type, journal_id)
        if settles_on:
            n = self._clearing_legs(account, movements, "CREDIT", 1)
            self._member_legs(account, movements, "DEBIT", kind, n)
        else:
            self._legs(account, "MEMBER_AVAILABLE", counter, movements, what.points, kind)
        if what.kind == "REDEEM":
            taken = sorted(movements, key=lambda each: each[0] or "")
            redemption = Redemption(what.reward_event_id, journal_id, taken, settles_on)
            account.add_redemption(what.reference, redemption)

    def _settle(self, account: Account, reserved: Redemption, day: date) -> None:
        """Reserved points are redeemed."""
        source, points = reserved.reward_event_id, reserved.points
        self._entry(
            account, day, PHASE_TRANSFER, "REDEMPTION", "SETTLEMENT", source, source, day,
            f"redemption:{source}",
        )  # fmt: skip
        self.out.postings.append((self._journal_id, 1, "REDEEMED", None, None, "CREDIT", points))
        self._clearing_legs(account, reserved.movements, "DEBIT", 2)
        reserved.settles_on = None

    def _cancel(self, account: Account, what: Instruction) -> None:
        redemption = account.redemptions.get(what.reference or "")
        if redemption is None:
            self._reject(what, "NO_REDEMPTION")
            return
        if redemption.is_cancelled:
            self._reject(what, "ALREADY_CANCELLED")
            return
        points = redemption.points
        if what.points is not None and what.points != points:
            self._reject(what, "OTHER_AMOUNT")
            return
        redemption.is_cancelled = True
        journal_id = f"redemption_cancel:{what.reward_event_id}"
        self._instructed(account, what, "REDEMPTION_CANCEL", journal_id, redemption.journal_id)
        movements: list[Movement] = []
        restored: list[Movement] = []
        lots = account.lots
        for lot_id, taken in redemption.movements:
            fills = min(lots.deficit, taken)
            if fills:
                lots.deficit -= fills
                movements.append((None, fills))
            part = taken - fills
            if not part:
                continue
            lot = account.known_lots[lot_id or ""]
            if lot.expires_on is not None and lot.expires_on < what.day:
                lapses = what.day + timedelta(days=RESTORED_DAYS)
                new_id = lot_id_of(f"{what.reward_event_id}:{lot_id}", 1)
                movements += self._credit(
                    account, journal_id, new_id, lot.source_id, what.effective_on, part,
                    lot.funding_partner_bps, lapses,
                )  # fmt: skip
                continue
            lots.restore(lot, part)
            movements.append((lot.lot_id, part))
            restored.append((lot.lot_id, part))
        if redemption.settles_on:
            n = self._clearing_legs(account, redemption.movements, "DEBIT", 1)
            self._member_legs(account, movements, "CREDIT", None, n)
        else:
            self._legs(account, "REDEEMED", "MEMBER_AVAILABLE", movements, points, None)
        redemption.settles_on = None
        for lot_id, part in restored:
            self.out.consumption.append(
                (journal_id, lot_id, account.account_id, "VOID_RESTORE", -part)
            )

    def _adjust(self, account: Account, what: Instruction) -> None:
        if not what.points:
            self._reject(what, "NO_POINTS")
            return
        journal_id = f"adjustment:{what.reward_event_id}"
        self._instructed(account, what, "ADJUSTMENT", journal_id)
        if what.points > 0:
            lot_id = lot_id_of(what.reward_event_id, 1)
            movements = self._credit(
                account, journal_id, lot_id, what.reward_event_id, what.effective_on, what.points
            )
            self._legs(account, "ADJUSTMENT", "MEMBER_AVAILABLE", movements, what.points, None)
        else:
            movements = account.lots.debit(-what.points)
            self._legs(account, "MEMBER_AVAILABLE", "ADJUSTMENT", movements, -what.points, "ADJUST")

    def _close(self, account: Account, what: Instruction) -> None:
        """What the closure of an account takes: all that is open."""
        event_type, counter, kind = {
            "FORFEIT": ("FORFEITURE", "FORFEITED", "FORFEIT"),
            "CREDIT": ("REDEMPTION", "REDEEMED", "REDEEM"),
        }[what.kind]
        lots = account.lots
        points = max(0, lots.balance)
        if points == 0:
            self._reject(what, NOTHING_OPEN)
            return
        self._instructed(account, what, event_type, what.reward_event_id)
        movements = lots.debit(points)
        self._legs(account, "MEMBER_AVAILABLE", counter, movements, points, kind)

    def _write_off(self, account: Account, what: Instruction) -> None:
        """What a closed account owes is no longer asked for."""
        points = account.lots.deficit
        if points == 0:
            self._reject(what, NOTHING_OPEN)
            return
        account.lots.deficit = 0
        self._instructed(account, what, "WRITE_OFF", what.reward_event_id)
        self._legs(account, "WRITTEN_OFF", "MEMBER_AVAILABLE", [(None, points)], points, None)

    def _reject(self, what: Instruction, reason: str) -> None:
        self.out.outcomes.append(Outcome(what.reward_event_id, "REJECTED", reason, None, what.day))

    def _instructed(
        self, account: Account, what: Instruction, event_type: str, journal_id: str,
        reverses: str | None = None,
    ) -> None:  # fmt: skip
        self._entry(
            account, what.day, PHASE_INSTRUCTION, event_type, "REWARD_EVENT", what.reward_event_id,
            what.reward_event_id, what.effective_on, journal_id, reverses,
        )  # fmt: skip
        self.out.outcomes.append(
            Outcome(what.reward_event_id, "POSTED", None, journal_id, what.day)
        )

    def _entry(
        self, account: Account, day: date, phase: int, event_type: str, source_kind: str,
        source_id: str, key: str, effective_on: date, journal_id: str,
        reverses: str | None = None, rule_hash: object = None,
    ) -> None:  # fmt: skip
        self._journal_id = journal_id
        program_id = self.program.program_id
        self.out.order.append((day, phase, account.account_id))
        self.out.journals.append(
            (program_id, day, journal_id, event_type, source_kind, source_id, account.account_id,
             f"{program_id}|{event_type}|{key}", effective_on, reverses, rule_hash)
        )  # fmt: skip

    def _legs(
        self, account: Account, debit: str, credit: str, movements: list[Movement], total: int,
        kind: str | None, forborne: int = 0,
    ) -> None:  # fmt: skip
        """The entry's legs: one of the counter account, one per lot of the member's; `kind` names
        what was done to the lots where points left them. What is `forborne` is the issuer's."""
        journal_id = self._journal_id
        is_debit = debit == "MEMBER_AVAILABLE"
        counter, direction = (credit, "CREDIT") if is_debit else (debit, "DEBIT")
        self.out.postings.append((journal_id, 1, counter, None, None, direction, total))
        direction = "DEBIT" if is_debit else "CREDIT"
        n = self._member_legs(account, movements, direction, kind, 2)
        if forborne:
            self.out.postings.append((journal_id, n, "ADJUSTMENT", None, None, direction, forborne))

    def _member_legs(
        self, account: Account, movements: list[Movement], direction: str, kind: str | None,
        first: int,
    ) -> int:  # fmt: skip
        """The member's legs, one per lot, from number `first` on; returns the next number."""
        journal_id, member = self._journal_id, account.account_id
        for leg_no, (lot_id, points) in enumerate(movements, start=first):
            lot = account.known_lots.get(lot_id or "")
            held = "MEMBER_PENDING" if lot and lot.is_pending else "MEMBER_AVAILABLE"
            self.out.postings.append((journal_id, leg_no, held, member, lot_id, direction, points))
            if kind and lot_id:
                self.out.consumption.append((journal_id, lot_id, member, kind, points))
        return first + len(movements)

    def _clearing_legs(
        self, account: Account, movements: list[Movement], direction: str, first: int
    ) -> int:
        """What is reserved of each lot, as `_member_legs`."""
        for leg_no, (lot_id, points) in enumerate(movements, start=first):
            self.out.postings.append(
                (self._journal_id, leg_no, "REDEMPTION_CLEARING", account.account_id, lot_id,
                 direction, points)
            )  # fmt: skip
        return first + len(movements)

    def finish(self) -> tuple[pl.DataFrame, Entries, list[Outcome]]:
        """The place of the entries, the entries and the outcomes of everything run so far."""
        order = pl.DataFrame(
            self.out.order,
            schema={"day": pl.Date, "phase": pl.Int64, "account_id": pl.String},
            orient="row",
        )
        entries = Entries(
            pl.DataFrame(self.out.journals, schema=JOURNAL_SCHEMA, orient="row"),
            pl.DataFrame(self.out.postings, schema=POSTING_SCHEMA, orient="row"),
            pl.DataFrame(self.out.lots, schema=LOT_SCHEMA, orient="row"),
            pl.DataFrame(self.out.consumption, schema=CONSUMPTION_SCHEMA, orient="row"),
        )
        return order, entries, self.out.outcomes
