"""The issuer's side, cycle by cycle: approvals, payments, fees, interest, statements, delinquency.

All accounts of a chunk go through their n-th billing cycle together. Inside a cycle everything is
arithmetic on whole arrays. Amounts are integer cents; what a statement says is added up from the
very postings and payments that are delivered, so its identity holds by construction:

    closing = opening + purchases + cash advances + balance transfers + fees + interest
              + other debits − payments − credits

`payments` counts payments on the day they settle, `other_debits` their returns on the day they come
back; purchases that are quasi-cash count as cash advances; a refund that is taken back and a
provisional credit that is withdrawn are other debits. Each due minimum is tracked on its own: days
past due count from the due date of the oldest one that payments have not covered.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.sources.world import lifecycle
from pipelines.sources.world.clock import DAY, DUE_AFTER_DAYS, HOUR, SECOND, Window
from pipelines.sources.world.draws import Bools, Draws, Floats, Ints
from pipelines.sources.world.holders import Holders
from pipelines.sources.world.lifecycle import Plans
from pipelines.sources.world.merchants import CATEGORY
from pipelines.sources.world.programs import PROGRAMS, apr_bps

PURCHASES, CASH_ADVANCES, OTHER_DEBITS, FEES, CREDITS = range(5)
_CLASSES = 5
OPEN, SUSPENDED, CHARGED_OFF, CLOSED = range(4)
SUSPENDED_AT_DPD = 60
CHARGED_OFF_AT_DPD = 180
_LEAST_MINIMUM = 3_500
LATE_FEE, RETURNED_FEE, ANNUAL_FEE, INTEREST, BALANCE_TRANSFER, TRANSFER_FEE, REWARD_CREDIT = range(
    7
)
"""Kinds of entry that the issuer itself posts."""


@dataclass(frozen=True, slots=True)
class Serviced:
    """What happened. `approved` and `emitted` per attempt, `happened` per planned posting.

    `statements`, `payments`, `entries`, `versions` and `redemptions` are frames of numbers.
    """

    approved: Bools
    emitted: Bools
    happened: Bools
    statements: pl.DataFrame
    payments: pl.DataFrame
    entries: pl.DataFrame
    versions: pl.DataFrame
    redemptions: pl.DataFrame


def posting_class(kind: Ints, category: Ints) -> Ints:
    """The statement line that each posting counts to."""
    is_cash = np.isin(category, [CATEGORY["cash"], CATEGORY["quasi_cash"]])
    return np.select(
        [
            kind == lifecycle.CLEARING,
            np.isin(kind, [lifecycle.FX_FEE, lifecycle.CASH_FEE]),
            np.isin(kind, [lifecycle.REFUND, lifecycle.PROVISIONAL]),
        ],
        [np.where(is_cash, CASH_ADVANCES, PURCHASES), FEES, CREDITS],
        default=OTHER_DEBITS,
    )


class _Book:
    """State of all accounts of the chunk between two cycles."""

    def __init__(self, holders: Holders) -> None:
        count, cycles = holders.count, holders.cycles.count
        self.limit = holders.limit.copy()
        self.balance = np.zeros(count, np.int64)
        self.status = np.full(count, OPEN)
        self.due = np.zeros((count, cycles), np.int64)
        """Minimums billed up to and with each statement."""
        self.covered = np.zeros(count, np.int64)
        self.minimum = np.zeros(count, np.int64)
        self.last_purchases = np.zeros(count, np.int64)
        self.worst_dpd = np.zeros(count, np.int64)
        self.last_late_fee = np.full(count, -99)
        self.earned = np.zeros(count, np.int64)
        self.earned_before = np.zeros(count, np.int64)
        self.redeemed = np.zeros(count, np.int64)
        self.dpd = np.zeros(count, np.int64)


def service(
    seed: int,
    holders: Holders,
    attempts: pl.DataFrame,
    plans: Plans,
    window: Window,
    taken_over_at: Ints,
) -> Serviced:
    """Run every billing cycle that begins within the window.

    `taken_over_at`: when a stranger gets into each holder's account, −1 where none does.
    """
    return _Servicing(seed, holders, attempts, plans, window, taken_over_at).run()


class _Servicing:
    def __init__(
        self,
        seed: int,
        holders: Holders,
        attempts: pl.DataFrame,
        plans: Plans,
        window: Window,
        taken_over_at: Ints,
    ) -> None:
        self.seed, self.holders, self.plans, self.window = seed, holders, plans, window
        self.taken_over_at = taken_over_at
        self.holder = attempts["holder"].to_numpy()
        self.salt = attempts["salt"].to_numpy()
        postings = plans.postings
        owner = self.holder[postings.attempt]
        attempt_cycle = holders.cycles.of_day(self.holder, attempts["at"].to_numpy() // DAY)
        posting_cycle = holders.cycles.of_day(owner, postings.day)
        self.posting_class = posting_class(
            postings.kind, attempts["category"].to_numpy()[postings.attempt]
        )
        # Attempts lie in the order of holder and time; a stable sort keeps it within a cycle.
        self.attempts_of = _groups(attempt_cycle, holders.cycles.count)
        self.postings_of = _groups(posting_cycle, holders.cycles.count)
        self.approved = np.zeros(self.holder.size, np.bool_)
        self.emitted = np.zeros(self.holder.size, np.bool_)
        self.happened = np.zeros(len(postings), np.bool_)
        self.book = _Book(holders)
        self.statements: list[pl.DataFrame] = []
        self.payments: list[pl.DataFrame] = []
        self.entries: list[pl.DataFrame] = []
        self.versions: list[pl.DataFrame] = [self._first_versions()]
        self.redemptions: list[pl.DataFrame] = []

    def run(self) -> Serviced:
        starts = self.holders.cycles.starts
        for cycle in range(self.holders.cycles.count):
            begun = starts[:, cycle] <= self.window.last
            if begun.any():
                self._cycle(cycle, begun)
        return Serviced(
            self.approved,
            self.emitted,
            self.happened,
            *(
                pl.concat(frames) if frames else pl.DataFrame()
                for frames in (
                    self.statements,
                    self.payments,
                    self.entries,
                    self.versions,
                    self.redemptions,
                )
            ),
        )

    def _cycle(self, cycle: int, begun: Bools) -> None:
        book, holders = self.book, self.holders
        end = holders.cycles.ends[:, cycle]
        start = holders.cycles.starts[:, cycle]
        days = end - start + 1
        opening = book.balance.copy()
        lives = begun & (book.status != CHARGED_OFF)

        paid, offset, returned = self._payment(cycle, lives, opening)
        net_paid = np.where(returned > 0, 0, paid)
        self._approve(cycle, book.limit - opening + net_paid)
        totals = self._post(cycle, lives)
        redeemed_credit = self._redeem(cycle, lives, start, days)
        totals[:, CREDITS] += redeemed_credit

        late = self._late_fee(cycle, lives, paid=net_paid, offset=offset, opening=opening)
        returned_fee = np.where(returned > 0, 2_900, 0)
        annual = self._annual_fee(cycle, lives)
        apr = apr_bps(holders.program, start)
        interest = _interest(lives, opening, net_paid, offset, days, apr)
        transfer, transfer_fee = self._balance_transfer(cycle, lives)
        own_fees = late + returned_fee + annual + transfer_fee
        fees = totals[:, FEES] + own_fees
        debits = totals[:, OTHER_DEBITS] + returned
        closing = (
            opening
            + totals[:, PURCHASES]
            + totals[:, CASH_ADVANCES]
            + transfer
            + fees
            + interest
            + debits
            - paid
            - totals[:, CREDITS]
        )
        due_day = start - 1 + DUE_AFTER_DAYS
        self._enter(cycle, LATE_FEE, late, due_day + 1)
        self._enter(cycle, RETURNED_FEE, returned_fee, start - 1 + offset + 5)
        self._enter(cycle, ANNUAL_FEE, annual, end)
        self._enter(cycle, INTEREST, interest, end)
        self._enter(cycle, BALANCE_TRANSFER, transfer, start + 12)
        self._enter(cycle, TRANSFER_FEE, transfer_fee, start + 12)

        self._age(cycle, lives, closing=closing, paid=net_paid, charges=interest + own_fees)
        moved = totals.any(axis=1) | (paid > 0) | (fees + interest + transfer > 0)
        shown = lives & ((book.status != CLOSED) | (opening != 0) | moved)
        self._state(
            cycle,
            shown,
            opening,
            closing,
            {
                "purchases": totals[:, PURCHASES],
                "cash_advances": totals[:, CASH_ADVANCES],
                "balance_transfers": transfer,
                "fees": fees,
                "interest": interest,
                "other_debits": debits,
                "payments": paid,
                "credits": totals[:, CREDITS],
            },
        )
        book.balance = np.where(lives, closing, book.balance)
        book.last_purchases = totals[:, PURCHASES]
        net = np.maximum(totals[:, PURCHASES] - totals[:, CREDITS] + redeemed_credit, 0)
        book.earned_before = book.earned.copy()
        rate = np.array([program.points_per_dollar for program in PROGRAMS])[holders.program]
        book.earned += (net * rate / 100).astype(np.int64)
        self._decide(cycle, lives, end)

    def _payment(self, cycle: int, lives: Bools, opening: Ints) -> tuple[Ints, Ints, Ints]:
        """Amount paid in the cycle, days after the last statement, amount that comes back."""
        book, holders = self.book, self.holders
        draws = Draws(self.seed, "payments")
        keys = (holders.number, np.full(holders.count, cycle))
        hard = holders.hardship[:, cycle]
        owes = lives & (opening > 0) & (book.minimum > 0)
        forgets = draws.happens(0.011 + 0.008 * np.clip(holders.risk, 0, 2), *keys, 1)
        misses = np.where(hard, draws.happens(0.94, *keys, 2), forgets)
        pays_all = draws.happens(holders.full_payer, *keys, 3) & ~hard & (book.dpd == 0)
        pays_least = draws.happens(0.25, *keys, 4) | hard
        share = draws.between(0.55, 1.05, *keys, 5)
        partly = book.minimum + share * book.last_purchases
        partly += draws.between(0.0, 0.06, *keys, 6) * opening
        partly = np.ceil(partly / 100) * 100
        amount = np.where(pays_all, opening, np.where(pays_least, book.minimum, partly))
        # Who is behind and back on their feet pays what is past due.
        amount = np.clip(amount.astype(np.int64), np.minimum(book.minimum, opening), opening)
        amount = np.where(owes & ~misses, amount, 0)
        is_tardy = draws.happens(0.025 + 0.02 * np.clip(holders.risk, 0, 2), *keys, 7)
        offset = np.where(is_tardy, 26, draws.integers(3, 24, *keys, 8))
        bounces = draws.happens(np.where(hard | (book.dpd > 0), 0.10, 0.004), *keys, 9) & (
            amount > 0
        )
        offset = np.where(bounces, np.minimum(offset, 18), offset)
        returned = np.where(bounces, amount, 0)
        started = (holders.cycles.starts[:, cycle] - 1 + offset) * DAY
        started += draws.integers(11 * 3_600, 23 * 3_600, *keys, 10) * SECOND
        settled = (started // DAY + 1) * DAY + draws.integers(
            6 * 3_600, 9 * 3_600, *keys, 11
        ) * SECOND
        back = (settled // DAY + draws.integers(2, 5, *keys, 12)) * DAY + 7 * HOUR
        rows = np.flatnonzero(amount > 0)
        self.payments.append(
            pl.DataFrame(
                {
                    "holder": rows,
                    "cycle": np.full(rows.size, cycle),
                    "amount": amount[rows],
                    "initiated": started[rows],
                    "settled": settled[rows],
                    "returned": np.where(bounces, back, -1)[rows],
                    "method": draws.choice([0.82, 0.05, 0.13], *keys, 13)[rows],
                }
            )
        )
        return amount, offset, returned

    def _approve(self, cycle: int, available: Ints) -> None:
        """Say yes to what is within the credit available, in the order of time."""
        rows = self.attempts_of[cycle]
        if not rows.size:
            return
        book, plans = self.book, self.plans
        holder = self.holder[rows]
        status = book.status[holder]
        amount = plans.auth_amount[rows]
        asks = (status == OPEN) & ~plans.is_refused[rows]
        running = _running_sum(np.where(asks, amount, 0), holder)
        has_room = running <= available[holder]
        draws = Draws(self.seed, "declines")
        keys = (self.holders.number[holder], self.salt[rows])
        forced = plans.is_forced[rows] & np.isin(status, (OPEN, SUSPENDED))
        self.approved[rows] = (asks & has_room) | forced
        # Most give up after the first refusals of a cycle.
        tries = (status == OPEN) & (~asks | has_room | draws.happens(0.35, *keys, 1))
        tries |= (status == SUSPENDED) & draws.happens(0.25, *keys, 2)
        self.emitted[rows] = tries | self.approved[rows]

    def _post(self, cycle: int, lives: Bools) -> Ints:
        """Sums of what posts in the cycle, accounts × classes."""
        postings = self.plans.postings
        rows = self.postings_of[cycle]
        holder = self.holder[postings.attempt[rows]]
        happens = self.approved[postings.attempt[rows]] & lives[holder]
        self.happened[rows] = happens
        rows, holder = rows[happens], holder[happens]
        slot = holder * _CLASSES + self.posting_class[rows]
        sums = np.bincount(
            slot, weights=postings.amount[rows], minlength=self.holders.count * _CLASSES
        )
        return np.rint(sums).astype(np.int64).reshape(self.holders.count, _CLASSES)

    def _late_fee(
        self, cycle: int, lives: Bools, *, paid: Ints, offset: Ints, opening: Ints
    ) -> Ints:
        book = self.book
        in_time = (paid >= book.minimum) & (offset + 1 <= DUE_AFTER_DAYS)
        owed = lives & (book.minimum > 0) & (opening > 0) & ~in_time
        owed &= book.dpd < CHARGED_OFF_AT_DPD - 30
        fee = np.where(cycle - book.last_late_fee <= 6, 4_000, 2_900)
        fee = np.where(owed, np.minimum(fee, book.minimum), 0)
        book.last_late_fee = np.where(fee > 0, cycle, book.last_late_fee)
        return fee

    def _annual_fee(self, cycle: int, lives: Bools) -> Ints:
        if cycle % 12:
            return np.zeros(self.holders.count, np.int64)
        fee = np.array([program.annual_fee_minor for program in PROGRAMS])[self.holders.program]
        return np.where(lives & (self.book.status == OPEN), fee, 0)

    def _balance_transfer(self, cycle: int, lives: Bools) -> tuple[Ints, Ints]:
        """One account in thirty brings a balance from another card, for 3 %."""
        none = np.zeros(self.holders.count, np.int64)
        if cycle:
            return none, none
        draws = Draws(self.seed, "balance transfers")
        chosen = draws.happens(1 / 30, self.holders.number, 1) & lives
        share = draws.between(0.15, 0.4, self.holders.number, 2)
        amount = np.where(chosen, (self.holders.limit * share).astype(np.int64) // 100 * 100, 0)
        return amount, (amount * 3 + 50) // 100

    def _redeem(self, cycle: int, lives: Bools, start: Ints, days: Ints) -> Ints:
        """Members redeem a part of what is safely theirs; cash comes as a statement credit."""
        book, holders = self.book, self.holders
        draws = Draws(self.seed, "redemptions")
        keys = (holders.number, np.full(holders.count, cycle))
        least = np.array([program.least_redemption for program in PROGRAMS])[holders.program]
        free = book.earned_before - book.redeemed
        wants = lives & (book.status == OPEN) & (book.dpd == 0) & (free >= least)
        wants &= draws.happens(0.16, *keys, 1)
        points = (free * draws.between(0.5, 1.0, *keys, 2)).astype(np.int64) // 100 * 100
        points = np.where(wants, np.maximum(points, np.minimum(least, free)), 0)
        # A stranger takes all that there is.
        at = self.taken_over_at
        robbed = lives & (book.status == OPEN) & (free >= 100) & (at // DAY >= start)
        robbed &= at // DAY < start + days
        points = np.where(robbed, free // 100 * 100, points)
        is_cash = np.array([program.partner_id is None for program in PROGRAMS])[holders.program]
        cancels = draws.happens(0.05, *keys, 3) & ~is_cash & ~robbed
        day = start + draws.integers(2, 26, *keys, 4)
        moment = day * DAY + draws.integers(9 * 3_600, 23 * 3_600, *keys, 5) * SECOND
        moment = np.where(robbed, at + HOUR // 2, moment)
        rows = np.flatnonzero(points > 0)
        self.redemptions.append(
            pl.DataFrame(
                {
                    "holder": rows,
                    "cycle": np.full(rows.size, cycle),
                    "points": points[rows],
                    "at": moment[rows],
                    "is_cancelled": cancels[rows],
                    "is_robbery": robbed[rows],
                }
            )
        )
        book.redeemed += np.where(cancels, 0, points)
        credit = np.where(is_cash, points, 0)
        self._enter(cycle, REWARD_CREDIT, credit, day)
        return credit

    def _enter(self, cycle: int, kind: int, amount: Ints, day: Ints) -> None:
        rows = np.flatnonzero(amount > 0)
        self.entries.append(
            pl.DataFrame(
                {
                    "holder": rows,
                    "cycle": np.full(rows.size, cycle),
                    "kind": np.full(rows.size, kind),
                    "day": np.broadcast_to(day, amount.shape)[rows],
                    "amount": amount[rows],
                }
            )
        )

    def _age(self, cycle: int, lives: Bools, *, closing: Ints, paid: Ints, charges: Ints) -> None:
        """Cover minimums with the payment, count days past due, bill the next minimum."""
        book, end = self.book, self.holders.cycles.ends[:, cycle]
        billed = book.due[:, cycle - 1] if cycle else np.zeros_like(closing)
        book.covered = np.minimum(book.covered + paid, billed)
        # Nothing is past due beyond what is owed at all.
        book.covered = np.maximum(book.covered, billed - np.maximum(closing, 0))
        open_dues = book.due[:, :cycle] > book.covered[:, None]
        oldest = np.argmax(open_dues, axis=1) if cycle else np.zeros_like(closing)
        oldest_due = self.holders.cycles.ends[np.arange(closing.size), oldest] + DUE_AFTER_DAYS
        is_behind = open_dues.any(axis=1) if cycle else np.zeros(closing.size, np.bool_)
        dpd = np.where(is_behind & lives, np.maximum(end - oldest_due, 0), 0)
        past_due = billed - book.covered
        fresh = np.maximum(_LEAST_MINIMUM, np.maximum(closing, 0) // 100 + charges)
        fresh = np.clip(fresh, 0, np.maximum(closing - past_due, 0))
        fresh = np.where(lives, fresh, 0)
        book.due[:, cycle] = billed + fresh
        book.minimum = np.where(lives, past_due + fresh, 0)
        book.dpd = np.where(lives, dpd, book.dpd)
        book.worst_dpd = np.maximum(book.worst_dpd, dpd)

    def _state(
        self, cycle: int, shown: Bools, opening: Ints, closing: Ints, lines: dict[str, Ints]
    ) -> None:
        rows = np.flatnonzero(shown)
        cycles = self.holders.cycles
        self.statements.append(
            pl.DataFrame(
                {
                    "holder": rows,
                    "cycle": np.full(rows.size, cycle),
                    "start": cycles.starts[rows, cycle],
                    "end": cycles.ends[rows, cycle],
                    "opening": opening[rows],
                    "closing": closing[rows],
                    "limit": self.book.limit[rows],
                    "minimum": self.book.minimum[rows],
                    "dpd": self.book.dpd[rows],
                    **{name: values[rows] for name, values in lines.items()},
                }
            )
        )

    def _first_versions(self) -> pl.DataFrame:
        return _version_rows(
            np.arange(self.holders.count),
            self.holders.opened_at,
            np.full(self.holders.count, OPEN),
            self.holders.limit,
            np.zeros(self.holders.count, np.int64),
        )

    def _decide(self, cycle: int, lives: Bools, end: Ints) -> None:
        """What the issuer does the day after a period ends: status, limit, closure."""
        book, holders = self.book, self.holders
        draws = Draws(self.seed, "account management")
        keys = (holders.number, np.full(holders.count, cycle))
        before, limit_before = book.status.copy(), book.limit.copy()
        status = np.where(book.dpd >= SUSPENDED_AT_DPD, SUSPENDED, OPEN)
        status = np.where(book.dpd >= CHARGED_OFF_AT_DPD, CHARGED_OFF, status)
        leaves = draws.happens(0.003, *keys, 1) & (book.dpd == 0) & (cycle >= 4)
        status = np.where(leaves & (before == OPEN), CLOSED, status)
        status = np.where((before == CLOSED) & (status != CHARGED_OFF), CLOSED, status)
        book.status = np.where(lives, status, before)
        good = lives & (book.worst_dpd < 5) & (book.status == OPEN) & (cycle >= 5)
        raised = good & (cycle % 3 == 2) & draws.happens(0.10, *keys, 2)
        cut = lives & (book.dpd >= 30) & (book.status == OPEN) & draws.happens(0.15, *keys, 3)
        limit = np.where(
            raised, book.limit * 5 // 4, np.where(cut, book.limit * 3 // 4, book.limit)
        )
        book.limit = np.maximum(limit // 10_000 * 10_000, 10_000)
        program = holders.program
        repriced = apr_bps(program, end + 1) != apr_bps(program, holders.cycles.starts[:, cycle])
        repriced &= lives & (book.status != CHARGED_OFF)
        differs = (book.status != before) | (book.limit != limit_before) | repriced
        changed = np.flatnonzero(differs)
        if changed.size:
            self.versions.append(
                _version_rows(
                    changed,
                    (end[changed] + 1) * DAY + 2 * HOUR,
                    book.status[changed],
                    book.limit[changed],
                    book.dpd[changed],
                )
            )


def _interest(lives: Bools, opening: Ints, paid: Ints, offset: Ints, days: Ints, apr: Ints) -> Ints:
    """On what was carried over: before the payment all of it, after it the rest."""
    carried = lives & (opening > 0) & (paid < opening)
    cent_days = opening * days - paid * np.maximum(days - offset - 1, 0)
    year = 365 * 10_000
    return np.where(carried, (cent_days * apr + year // 2) // year, 0)


def _version_rows(holder: Ints, at: Ints, status: Ints, limit: Ints, dpd: Ints) -> pl.DataFrame:
    return pl.DataFrame({"holder": holder, "at": at, "status": status, "limit": limit, "dpd": dpd})


def _groups(group: Ints, count: int) -> list[Ints]:
    """Row numbers of each group 0 … count − 1, in their order."""
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(count + 1))
    return [order[bounds[n] : bounds[n + 1]] for n in range(count)]


def _running_sum(values: Ints, owner: Ints) -> Ints:
    """Running sum within each run of equal owners."""
    total = np.cumsum(values)
    is_first = np.ones(owner.size, np.bool_)
    is_first[1:] = owner[1:] != owner[:-1]
    base = np.where(is_first, total - values, 0)
    return total - np.maximum.accumulate(base)


def mature_bad_rate(serviced: Serviced, holders: Holders, window: Window) -> tuple[int, Floats]:
    """Accounts with twelve months on book, and whether each was ever 90 days late in them."""
    limit = holders.opened_on + 365
    mature = np.flatnonzero(limit <= window.last)
    late = serviced.statements.filter(pl.col("dpd") >= 90)
    holder, end = late["holder"].to_numpy(), late["end"].to_numpy()
    is_bad = np.zeros(holders.count, np.float64)
    is_bad[holder[end <= limit[holder]]] = 1.0
    return mature.size, is_bad[mature]
