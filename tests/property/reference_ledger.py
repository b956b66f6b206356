"""A second, plain reading of the rewards ledger: one account, one calendar day after the other.

Written from the rules alone. On each day on which anything becomes known the whole history that is
known by then is decided anew (`reference_rewards.py`); what has changed is taken back and entered
again. Lots are dictionaries in a list.
"""

from calendar import monthrange
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatchcase
from typing import Any
from zoneinfo import ZoneInfo

from tests.property.reference_rewards import Event, Known, Reference, Terms, months_after

NEVER = date.max
ALIGNED = {"END_OF_MONTH": 1, "END_OF_QUARTER": 3, "END_OF_YEAR": 12}
Lot = dict[str, Any]
Row = dict[str, Any]


def last_usable(issued_on: date, expiry: Terms) -> date:
    """The last day of points issued on a day."""
    if expiry.get("kind", "NONE") != "LOT":
        return NEVER
    day = months_after(issued_on, expiry["months"])
    if span := ALIGNED.get(expiry.get("align", "NONE")):
        month = day.month + (span - day.month % span) % span
        return date(day.year, month, monthrange(day.year, month)[1])
    return day


@dataclass
class Entry:
    """What stands in the ledger for an event: who funds how much, which waits how many days, and
    the purchases meant."""

    kind: str
    parts: list[tuple[tuple[int, int], int]]
    on: date
    items: frozenset[str]
    revision: int
    bonus: int = 0

    @property
    def points(self) -> int:
        """In all."""
        return sum(points for _, points in self.parts)


@dataclass
class ReferenceLedger:
    """One account under `versions` of the terms and everything that is delivered of it.

    `days` has (pending, available, reserved, deficit) at the end of each day, `counters` what came
    from and went to the other accounts of the ledger, `outcomes` what became of instructions.
    """

    versions: list[Terms]
    events: list[Event]
    instructions: list[Row]
    records: list[Row]
    statements: list[Row]
    lots: list[Lot] = field(default_factory=list)
    deficit: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)
    said: dict[str, list[Any]] = field(default_factory=dict)
    left: list[tuple[Any, frozenset[str], int]] = field(default_factory=list)
    spent: dict[str, Row] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    days: dict[date, tuple[int, int, int, int]] = field(default_factory=dict)
    active_on: date | None = None
    bonus: int = 0

    def run(self, first: date, last: date) -> "ReferenceLedger":
        """Work the days from `first` to `last`; returns itself."""
        day = first
        while day <= last:
            self._work(day)
            self.days[day] = (
                self._held(True), self._held(False), self._reserved(), self.deficit
            )  # fmt: skip
            day += timedelta(days=1)
        return self

    def _on(self, day: date) -> Terms:
        started = [each for each in self.versions if each["valid_from"] <= day]
        return started[-1] if started else self.versions[0]

    def _held(self, is_pending: bool) -> int:
        return sum(lot["open"] for lot in self.lots if lot["pending"] is is_pending)

    def _reserved(self) -> int:
        found = {id(each): each for each in self.spent.values() if each["settles_on"]}
        return sum(points for each in found.values() for _, points in each["taken"])

    @property
    def _balance(self) -> int:
        return self._held(True) + self._held(False) - self.deficit

    def _work(self, day: date) -> None:
        """What becomes known on a day, in the order of the days that it is about."""
        feeds = (self.events, self.instructions, self.records, self.statements)
        todo: list[tuple[date, int, Any, Any]] = []
        if any(row["known_on"] == day for rows in feeds for row in rows):
            todo = self._decide(day)
        for row in self.events:
            if row["known_on"] == day:
                self.active_on = max(self.active_on or row["posted_on"], row["posted_on"])
        for row in self.instructions:
            if row["known_on"] == day:
                made_on = self._local(row["event_at"])
                self.active_on = max(self.active_on or made_on, made_on)
        if any(v.get("accrual", {}).get("settlement") == "STATEMENT" for v in self.versions):
            for row in self.statements:
                if row["known_on"] == day:
                    until = row["period_end_on"]
                    todo.append((until, 1, (), lambda until=until: self._release(until)))
        for on, at, name, act in self._asked(day):
            todo.append((on, 2, (at, name), lambda on=on, act=act: self._act(day, on, act)))
        for on, _, _, act in sorted(todo, key=lambda each: each[:3]):
            self._expire(min(on, day) - timedelta(days=1))
            act()
        self._stop_waiting(day)
        self._take_bonus(day, day)
        self._end(day)

    def _act(self, day: date, on: date, act: Any) -> None:
        self._stop_waiting(min(on, day))
        self._take_bonus(day, min(on, day))
        act()

    def _stop_waiting(self, day: date) -> None:
        for lot in self.lots:
            if lot["waits_until"] and lot["waits_until"] <= day:
                lot["pending"] = False

    def _local(self, at: datetime) -> date:
        return Reference(self.versions)._local(at)

    # What events give and take

    def _decide(self, day: date) -> list[tuple[date, int, Any, Any]]:
        """What is entered anew, with the day that it is about."""
        todo: list[tuple[date, int, Any, Any]] = []
        events = [event for event in self.events if event["known_on"] <= day]
        found = Reference(self.versions, self._known(day)).run(events)
        kinds = {
            rule["id"]: (
                rule.get("funding", {}).get("partner_bps", 0), rule.get("available_after_days", 0)
            )
            for version in self.versions
            for rule in [*version["earn"].get("bonus", []), *version.get("signup_bonus", [])]
        }  # fmt: skip
        order = ("posted_on", "event_at", "transaction_id", "event_id")
        for event in sorted(events, key=lambda each: tuple(each[name] for name in order)):
            name = event["event_id"]
            rules = [(rule, p) for (of, rule), p in found.decided.items() if of == name and p]
            earns = event["direction"] == "DEBIT" and not (
                event["event_type"] == "RETURN_REVERSAL" or event["transaction_class"] == "REFUND"
            )
            parts: dict[tuple[int, int], int] = {}
            for rule, points in rules:
                kind = kinds.get(rule, (0, 0))
                parts[kind] = parts.get(kind, 0) + points
            now = Entry(
                "ACCRUAL" if earns else "CLAWBACK", list(parts.items()), event["posted_on"],
                frozenset(found.touched.get(name, [])), 1,
                sum(points for rule, points in rules if rule == "welcome"),
            )  # fmt: skip
            content = sorted((p, kinds.get(rule, (0, 0))) for rule, p in rules)
            for on, act in self._replaced(name, now, content):
                todo.append((on, 0, len(todo), act))
        # What an event gave before is taken back where the order of events has it now.
        for n in range(len(todo) - 1, 0, -1):
            todo[n - 1] = (min(todo[n - 1][0], todo[n][0]), *todo[n - 1][1:])
        return todo

    def _replaced(self, name: str, now: Entry, content: list[Any]) -> Iterator[tuple[date, Any]]:
        """What an event gave is taken back and given anew, if it is not the same."""
        before = self.entries.get(name)
        if before is not None and self.said[name] == content:
            return
        if before is not None:
            now.revision = before.revision + 1
            if before.points:
                yield before.on, lambda: self._enter(name, before, is_reversal=True)
        self.entries[name], self.said[name] = now, content
        if now.points:
            yield now.on, lambda: self._enter(name, now, is_reversal=False)

    def _known(self, day: date) -> Known:
        at: dict[datetime, Row] = {}
        for row in sorted(self.records, key=lambda row: row["known_on"]):
            from_at = row["updated_at"]
            if row["status"] == "CLOSED":
                zone = ZoneInfo(self.versions[0].get("timezone", "UTC"))
                closing = datetime.combine(row["closed_on"], time(), zone).astimezone(UTC)
                from_at = min(from_at, closing.replace(tzinfo=None))
            if row["known_on"] <= day:
                at[from_at] = row
        return Known(
            [(from_at, row["status"], row.get("substatus"), row.get("tier"), row.get("cycle_day"))
             for from_at, row in sorted(at.items())],
            [(row["period_start_on"], row["period_end_on"]) for row in self.statements
             if row["known_on"] <= day],
            min((row["opened_on"] for row in self.records), default=None),
            sorted((row["event_at"], row["offer_id"]) for row in self.instructions
                   if row["kind"] == "ACTIVATE" and row["known_on"] <= day),
        )  # fmt: skip

    def _enter(self, name: str, entry: Entry, is_reversal: bool) -> None:
        points = -entry.points if is_reversal else entry.points
        self.bonus += -entry.bonus if is_reversal else entry.bonus
        counter = "ISSUANCE" if entry.kind == "ACCRUAL" else "CLAWED_BACK"
        kept = 0
        if entry.kind == "CLAWBACK":
            kept = self._kept((name, entry.revision), entry, points, is_reversal)
        self.counters[counter] -= points
        self.counters["ADJUSTMENT"] -= kept
        policy = self._on(entry.on).get("returns", {}).get("policy", "UNLIMITED")
        if points < 0:
            own = {name} if is_reversal else entry.items
            self._take(-points - kept, own, policy == "ONLY_PENDING" and not is_reversal)
            return
        source, parts = name, [(kind, part) for kind, part in entry.parts if part]
        if is_reversal:
            source = f"{name}:reversal"
        if is_reversal or kept or any(part < 0 for _, part in parts):
            parts = [((0, 0), points + kept)]
        for (bps, days), part in parts:
            lot = self._lot(f"{source}:{entry.revision}", name, entry.on, part, bps)
            if days:
                lot["id"] += f":+{days}d"
                lot |= {"pending": True, "waits_until": entry.on + timedelta(days=days)}
            self._give(lot)

    def _kept(self, key: Any, entry: Entry, points: int, is_reversal: bool) -> int:
        """What the policy leaves of points to take; below zero: what was left is not given."""
        policy = self._on(entry.on).get("returns", {}).get("policy", "UNLIMITED")
        if is_reversal:
            kept = -sum(amount for of, _, amount in self.left if of == key)
            key = (*key, "reversal")
        elif points > 0:
            of_these = sum(
                amount for _, items, amount in self.left
                if items & entry.items or not items | entry.items
            )  # fmt: skip
            kept = -min(points, max(0, of_these))
        elif policy == "WITHIN_BALANCE":
            kept = max(0, -points - max(0, self._balance))
        elif policy == "ONLY_PENDING":
            kept = max(0, -points - self._held(True))
        else:
            kept = 0
        if kept:
            self.left.append((key, entry.items, kept))
        return kept

    # Lots

    def _lot(
        self, name: str, source: str, on: date, points: int, bps: int = 0,
        expires_on: date | None = None,
    ) -> Lot:  # fmt: skip
        terms = self._on(on)
        waits = terms.get("accrual", {}).get("settlement") == "STATEMENT"
        return {
            "id": f"lot:{name}" + (f":{bps}" if bps else ""), "source": source, "issued_on": on,
            "expires_on": expires_on or last_usable(on, terms.get("expiry", {})),
            "open": points, "pending": waits and expires_on is None, "waits_until": None,
        }  # fmt: skip

    def _give(self, lot: Lot) -> None:
        fills = min(self.deficit, lot["open"])
        self.deficit -= fills
        lot["open"] -= fills
        self.lots.append(lot)

    def _in_order(self) -> list[Lot]:
        found = [lot for lot in self.lots if lot["open"]]
        return sorted(found, key=lambda lot: (lot["expires_on"], lot["issued_on"], lot["id"]))

    def _take(self, points: int, own: Any = (), pending_first: bool = False) -> None:
        """From pending ones first where that is asked, its own ones first, else the oldest."""
        lots = self._in_order()
        mine = [lot for lot in lots if lot["source"] in own]
        if pending_first:
            lots = [
                *(lot for lot in mine if lot["pending"]), *(lot for lot in lots if lot["pending"]),
                *mine, *lots,
            ]  # fmt: skip
        for lot in [*mine, *lots] if not pending_first else lots:
            part = min(points, lot["open"])
            lot["open"] -= part
            points -= part
        self.deficit += points

    def _release(self, until: date) -> None:
        for lot in self.lots:
            if lot["issued_on"] <= until and not lot["waits_until"]:
                lot["pending"] = False

    # What is asked of the account, and what its closure asks

    def _asked(self, day: date) -> list[tuple[date, datetime, str, Any]]:
        todo = [
            (self._local(row["event_at"]), row["event_at"], row["reward_event_id"],
             lambda row=row: self._instruct(row, day))
            for row in self.instructions
            if row["known_on"] == day and row["kind"] != "ACTIVATE"
        ]  # fmt: skip
        row = self._closure()
        closure = self._on(row["closed_on"]).get("closure") if row else None
        if row and closure and self._covers(closure, row):
            action = closure["action"]
            steps = [
                (action, closure["grace_days"], lambda: self._close(action)),
                ("WRITE_OFF", closure["write_off_days"], self._write_off),
            ]
            for name, days, act in steps:
                if days is None:
                    continue
                due_on = row["closed_on"] + timedelta(days=days)
                if day == max(due_on, row["known_on"]):
                    at = datetime.combine(due_on, time())
                    todo.append((due_on, at, f"closure:{name.lower()}", act))
        return todo

    def _closure(self) -> Row | None:
        """The record that first told that the account is closed."""
        closed = [row for row in self.records if row["status"] == "CLOSED"]
        return min(closed, key=lambda row: (row["known_on"], row["updated_at"]), default=None)

    def _take_bonus(self, day: date, on: date) -> None:
        """A closure within the agreed days takes the bonus, or gives back what no longer is one."""
        row = self._closure()
        if row is None or on < row["closed_on"] or day < row["known_on"]:
            return
        limits = [
            bonus.get("clawback", {}).get("if_closed_within_days")
            for bonus in self._on(row["opened_on"]).get("signup_bonus", [])
        ]
        open_days = (row["closed_on"] - row["opened_on"]).days
        if not self.bonus or not any(each is not None and open_days <= each for each in limits):
            return
        self.counters["CLAWED_BACK"] += self.bonus
        if self.bonus > 0:
            self._take(self.bonus)
        else:
            source = f"{row['account_id']}:{day}"
            self._give(self._lot(f"{source}:1", source, row["closed_on"], -self.bonus))
        self.bonus = 0

    @staticmethod
    def _covers(closure: Terms, row: Row) -> bool:
        told = [row.get(name) for name in ("close_reason", "substatus") if row.get(name)] or [""]
        return any(fnmatchcase(each, pattern) for each in told for pattern in closure["on"])

    def _close(self, action: str) -> None:
        points = max(0, self._balance)
        self.counters["FORFEITED" if action == "FORFEIT" else "REDEEMED"] += points
        self._take(points)

    def _write_off(self) -> None:
        self.counters["WRITTEN_OFF"] -= self.deficit
        self.deficit = 0

    def _is_closed(self, day: date, on: date) -> bool:
        row = self._closure()
        closure = self._on(row["closed_on"]).get("closure") if row else None
        return bool(
            row and closure and closure["blocks_redemption"] and self._covers(closure, row)
            and row["closed_on"] <= on and row["known_on"] <= day
        )  # fmt: skip

    def _instruct(self, row: Row, day: date) -> None:
        on, points = self._local(row["event_at"]), row["points"]
        act = {"REDEEM": self._redeem, "TRANSFER": self._redeem,
               "REDEEM_CANCEL": self._cancel, "ADJUST": self._adjust}[row["kind"]]  # fmt: skip
        reason = act(row, day, on, points)
        self.outcomes[row["reward_event_id"]] = ("REJECTED" if reason else "POSTED", reason)

    def _redeem(self, row: Row, day: date, on: date, points: int | None) -> str | None:
        if points is None or points <= 0:
            return "NO_POINTS"
        if self._is_closed(day, on):
            return "ACCOUNT_CLOSED"
        if self.deficit:
            return "DEFICIT"
        if points > self._held(False):
            return "NOT_ENOUGH_POINTS"
        taken, wanted = [], points
        for lot in self._in_order():
            part = 0 if lot["pending"] else min(wanted, lot["open"])
            if part:
                lot["open"] -= part
                wanted -= part
                taken.append((lot, part))
        if row["kind"] == "TRANSFER":
            self.counters["PARTNER_TRANSFER_CLEARING"] += points
            return None
        wait = self._on(on).get("redemption", {}).get("settle_after_days", 0)
        settles_on = day + timedelta(days=wait) if wait else None
        if not wait:
            self.counters["REDEEMED"] += points
        made = {"taken": taken, "settles_on": settles_on, "is_cancelled": False}
        self.spent[row["reward_event_id"]] = made
        before = self.spent.get(row["reference"] or "")
        if row["reference"] and (before is None or before["is_cancelled"]):
            self.spent[row["reference"]] = made
        return None

    def _cancel(self, row: Row, day: date, on: date, points: int | None) -> str | None:
        made = self.spent.get(row["reference"] or "")
        if made is None:
            return "NO_REDEMPTION"
        if made["is_cancelled"]:
            return "ALREADY_CANCELLED"
        total = sum(part for _, part in made["taken"])
        if points is not None and points != total:
            return "OTHER_AMOUNT"
        if not made["settles_on"]:
            self.counters["REDEEMED"] -= total
        made["is_cancelled"], made["settles_on"] = True, None
        for lot, taken in sorted(made["taken"], key=lambda each: each[0]["id"]):
            fills = min(self.deficit, taken)
            self.deficit -= fills
            if lot["expires_on"] >= day:
                lot["open"] += taken - fills
                continue
            name = f"{row['reward_event_id']}:{lot['id']}:1"
            until = day + timedelta(days=30)
            self._give(self._lot(name, lot["source"], on, taken - fills, 0, until))
        return None

    def _adjust(self, row: Row, day: date, on: date, points: int | None) -> str | None:
        if not points:
            return "NO_POINTS"
        self.counters["ADJUSTMENT"] -= points
        if points > 0:
            self._give(self._lot(f"{row['reward_event_id']}:1", row["reward_event_id"], on, points))
        else:
            self._take(-points)
        return None

    # What the end of a day brings

    def _expire(self, day: date) -> None:
        for lot in self.lots:
            if lot["open"] and lot["expires_on"] <= day:
                self.counters["EXPIRED"] += lot["open"]
                lot["open"] = 0

    def _end(self, day: date) -> None:
        self._expire(day)
        self._lapse(day)
        is_last = (day + timedelta(days=1)).day == 1
        if is_last and self.versions[0].get("settlement_model") == "PARTNER_POSTED":
            for lot in self.lots:
                if not lot["pending"] and not self.deficit:
                    self.counters["PARTNER_TRANSFER_CLEARING"] += lot["open"]
                    lot["open"] = 0
        for made in self.spent.values():
            if made["settles_on"] and made["settles_on"] <= day:
                made["settles_on"] = None
                self.counters["REDEEMED"] += sum(part for _, part in made["taken"])

    def _lapse(self, day: date) -> None:
        if self.active_on is None:
            return
        expiry = self._on(self.active_on).get("expiry", {})
        if expiry.get("kind") != "INACTIVITY":
            return
        if months_after(self.active_on, expiry["months"]) <= day:
            lost = sum(lot["open"] for lot in self.lots)
            is_credit = expiry.get("action") == "CREDIT"
            self.counters["REDEEMED" if is_credit else "EXPIRED"] += lost
            for lot in self.lots:
                lot["open"] = 0
