"""What would become of each attempt if the issuer said yes: clearings, refunds, disputes.

Plans are drawn before anything is decided; `servicing` then says which attempts are approved, and
only their plans come true. Postings are kept in one long table, because several of them can belong
to one attempt: split shipments, fees, refunds in parts, provisional credits.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from pipelines.sources.world.attempts import is_foreign
from pipelines.sources.world.clock import DAY, HOUR
from pipelines.sources.world.draws import Bools, Draws, Ints
from pipelines.sources.world.fraud import Incidents, known_times
from pipelines.sources.world.holders import Holders
from pipelines.sources.world.merchants import CATEGORIES, CATEGORY, Merchants

CLEARING, FX_FEE, CASH_FEE, REFUND, REFUND_REVERSAL, PROVISIONAL, PROVISIONAL_REVERSAL = range(7)
"""Kinds of posting."""
CLEARED, EXPIRED, REVERSED = range(3)
"""How an authorization ends."""
LINK_ORIGINAL, LINK_NETWORK, LINK_MERCHANT, LINK_NONE = range(4)
"""What a refund says about its purchase."""
NO_DISPUTE, DISPUTE_FRAUD, DISPUTE_GOODS, DISPUTE_FIRST_PARTY = range(4)
WON, PARTIALLY_WON, LOST, DENIED, WITHDRAWN = range(5)
RETURN_ALONE, RETURN_AUTHORIZED, RETURN_ADVISED, RETURN_SINGLE = range(4)
"""How a refund comes: as a return, after a credit authorization or the advice of one, or as a
single message that asks and posts."""
_PUMP_HOLD = 10_000
AUTHORIZATION_DAYS = 7
"""An authorization that nothing has cleared expires after so many days."""


@dataclass(frozen=True, slots=True)
class Postings:
    """One entry per planned posting; `part` counts within attempt and kind."""

    attempt: Ints
    kind: Ints
    part: Ints
    day: Ints
    amount: Ints

    def __len__(self) -> int:
        return self.attempt.size


@dataclass(frozen=True, slots=True)
class Plans:
    """One entry per attempt, but for `postings`."""

    auth_amount: Ints
    increment: Ints
    """What a second authorization adds, 0 for most."""
    released: Ints
    """What a partial reversal gives back before the clearing, 0 for most."""
    is_advice: Bools
    """The network said yes in the issuer's place."""
    is_single_message: Bools
    is_forced: Bools
    ending: Ints
    is_refused: Bools
    refund_link: Ints
    refund_form: Ints
    label_known_at: Ints
    """−1 where no label ever comes."""
    dispute: Ints
    dispute_outcome: Ints
    claimed_at: Ints
    disputed_amount: Ints
    chargeback_days: Ints
    decided_days: Ints
    postings: Postings


def plan(
    seed: int,
    holders: Holders,
    merchants: Merchants,
    attempts: pl.DataFrame,
    incidents: Incidents,
) -> Plans:
    """Plans for `attempts` (with the columns of `attempts.SCHEMA`)."""
    draws = Draws(seed, "lifecycle")
    holder = attempts["holder"].to_numpy()
    keys = (holders.number[holder], attempts["salt"].to_numpy())
    category = attempts["category"].to_numpy()
    at = attempts["at"].to_numpy()
    is_present = attempts["is_present"].to_numpy()
    is_fraud = attempts["incident"].to_numpy() >= 0
    day = at // DAY

    is_single = category == CATEGORY["cash"]
    is_forced = draws.happens(0.004, *keys, 1) & ~is_single & ~is_fraud
    fate = draws.uniform(*keys, 2)
    ending = np.where(fate < 0.012, EXPIRED, np.where(fate < 0.020, REVERSED, CLEARED))
    ending = np.where(is_single | is_forced, CLEARED, ending)
    comes_late = (ending == EXPIRED) & draws.happens(0.15, *keys, 3)

    amounts = _amounts(
        draws,
        keys,
        attempts,
        is_abroad=is_foreign(merchants)[attempts["merchant"].to_numpy()] & ~is_single,
        is_forced=is_forced,
        is_cleared=ending == CLEARED,
    )
    cleared = amounts.cleared
    is_advice = draws.happens(0.003, *keys, 17) & ~is_single & ~is_forced & ~is_fraud

    splits = np.isin(category, [CATEGORY["marketplace"], CATEGORY["department"]])
    splits &= draws.happens(0.06, *keys, 9) & ~is_forced & (cleared >= 1_000)
    pieces = np.where(splits, np.where(draws.happens(0.3, *keys, 10), 3, 2), 1)
    lag = 1 + draws.choice([0.58, 0.30, 0.12], *keys, 11)
    lag = np.where(comes_late, AUTHORIZATION_DAYS + 1 + lag, lag)
    lag = np.where(is_single, 0, lag)
    clears = (ending == CLEARED) | comes_late
    parts = _clearings(draws, keys, day + lag, cleared, np.where(clears, pieces, 0))
    last_day = day + lag + 2 * (pieces - 1)

    tables = [
        parts,
        *_fees(category, merchants, attempts, day=day + lag, amount=cleared, clears=clears),
    ]
    refunds, link = _refunds(
        draws, keys, category, last_day=last_day, amount=cleared, can=clears & ~is_fraud
    )
    tables += refunds

    noise = draws.uniform(*keys, 12)
    known = np.full(at.size, -1, np.int64)
    frauds = np.flatnonzero(is_fraud)
    incident = attempts["incident"].to_numpy()[frauds]
    known[frauds] = known_times(incidents, incident, at[frauds], noise[frauds])
    is_claimed = np.ones(at.size, np.bool_)
    is_claimed[frauds] = incidents.is_claimed[incident]
    disputes = _disputes(
        draws,
        keys,
        is_fraud=is_fraud,
        is_claimed=is_claimed,
        is_present=is_present,
        clears=clears,
        known=known,
        last_day=last_day,
    )
    kind, outcome, claimed, chargeback_days, decided_days = disputes
    kind = np.where(np.isin(np.arange(at.size), refunds[0].attempt), NO_DISPUTE, kind)
    credited = claimed // DAY + 2
    chosen = kind != NO_DISPUTE
    denied = chosen & np.isin(outcome, (DENIED, WITHDRAWN))
    tables += [
        _single(PROVISIONAL, chosen, credited, cleared),
        _single(PROVISIONAL_REVERSAL, denied, claimed // DAY + decided_days, cleared),
    ]
    return Plans(
        auth_amount=amounts.authorized,
        increment=amounts.increment,
        released=amounts.released,
        is_advice=is_advice,
        is_single_message=is_single,
        is_forced=is_forced,
        ending=ending,
        is_refused=draws.happens(np.where(is_fraud, 0.10, 0.007), *keys, 13) & ~is_forced,
        refund_link=link,
        refund_form=_refund_forms(draws, keys, refunds),
        label_known_at=known,
        dispute=kind,
        dispute_outcome=outcome,
        claimed_at=claimed,
        disputed_amount=cleared,
        chargeback_days=chargeback_days,
        decided_days=decided_days,
        postings=_joined(tables),
    )


@dataclass(frozen=True, slots=True)
class _Amounts:
    """What is authorized at first, added to it, given back of it, and in the end cleared."""

    authorized: Ints
    increment: Ints
    released: Ints
    cleared: Ints


def _amounts(
    draws: Draws,
    keys: tuple[Ints, Ints],
    attempts: pl.DataFrame,
    *,
    is_abroad: Bools,
    is_forced: Bools,
    is_cleared: Bools,
) -> _Amounts:
    """Tips, longer stays, rates of exchange and pumps."""
    category, amount = attempts["category"].to_numpy(), attempts["amount"].to_numpy()
    is_fraud = attempts["incident"].to_numpy() >= 0
    tip = np.where(draws.happens(0.8, *keys, 4), draws.between(0.12, 0.24, *keys, 5), 0.0)
    has_tip = (category == CATEGORY["restaurant"]) & attempts["is_present"].to_numpy()
    has_tip &= ~is_fraud & ~is_forced
    cleared = np.where(has_tip, amount * (1 + tip), amount).astype(np.int64)
    extra = (category == CATEGORY["lodging"]) & draws.happens(0.4, *keys, 6)
    cleared = np.where(extra, amount * draws.between(1.02, 1.5, *keys, 7), cleared)
    cleared = cleared.astype(np.int64)
    # Between authorization and clearing the rate of exchange moves.
    moved = (cleared * draws.between(0.985, 1.015, *keys, 14)).astype(np.int64)
    cleared = np.where(is_abroad, np.maximum(moved, 1), cleared)
    stays_on = extra & (cleared > amount) & ~is_forced & draws.happens(0.7, *keys, 15)
    # A pump asks for a round hold before it knows the price; half give back the rest at once.
    is_pump = (category == CATEGORY["gas"]) & draws.happens(0.5, *keys, 8) & ~is_forced
    gives_back = is_pump & (cleared < _PUMP_HOLD) & is_cleared & draws.happens(0.5, *keys, 16)
    return _Amounts(
        authorized=np.where(is_pump, _PUMP_HOLD, amount),
        increment=np.where(stays_on, cleared - amount, 0),
        released=np.where(gives_back, _PUMP_HOLD - cleared, 0),
        cleared=cleared,
    )


def _joined(tables: list[Postings]) -> Postings:
    """All tables in one, in the order of attempt, day and kind."""
    whole = [
        np.concatenate([getattr(table, name) for table in tables])
        for name in ("attempt", "kind", "part", "day", "amount")
    ]
    order = np.lexsort((whole[2], whole[1], whole[3], whole[0]))
    return Postings(*(column[order] for column in whole))


def _single(kind: int, chosen: Bools, day: Ints, amount: Ints) -> Postings:
    rows = np.flatnonzero(chosen & (amount > 0))
    return Postings(
        rows, np.full(rows.size, kind), np.zeros(rows.size, np.int64), day[rows], amount[rows]
    )


def _clearings(
    draws: Draws, keys: tuple[Ints, Ints], day: Ints, amount: Ints, pieces: Ints
) -> Postings:
    """`pieces` clearings of each attempt, two days apart, that add up to `amount`."""
    attempt = np.repeat(np.arange(amount.size), pieces)
    part = np.arange(attempt.size) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    total, count = amount[attempt], pieces[attempt]
    share = draws.between(0.25, 0.40, keys[0][attempt], keys[1][attempt], 30)
    first = np.where(count == 1, total, (total * share).astype(np.int64))
    middle = np.where(count == 3, total // 3, 0)
    last = total - first - middle
    value = np.where(part == 0, first, np.where((part == 1) & (count == 3), middle, last))
    kind = np.full(attempt.size, CLEARING)
    return Postings(attempt, kind, part, day[attempt] + 2 * part, value)


def _fees(
    category: Ints,
    merchants: Merchants,
    attempts: pl.DataFrame,
    *,
    day: Ints,
    amount: Ints,
    clears: Bools,
) -> list[Postings]:
    """3 % of what is bought abroad; 5 % of cash, at least 10 dollars."""
    abroad = is_foreign(merchants)[attempts["merchant"].to_numpy()] & clears
    cash = np.isin(category, [CATEGORY["cash"], CATEGORY["quasi_cash"]]) & clears
    return [
        _single(FX_FEE, abroad, day, (amount * 3 + 50) // 100),
        _single(CASH_FEE, cash, day, np.maximum((amount * 5 + 50) // 100, 1_000)),
    ]


def _refunds(
    draws: Draws,
    keys: tuple[Ints, Ints],
    category: Ints,
    *,
    last_day: Ints,
    amount: Ints,
    can: Bools,
) -> tuple[list[Postings], Ints]:
    """Full and partial refunds, some in two parts, few of more than was paid, few taken back; and
    how they are linked."""
    share = np.array([c.refunds for c in CATEGORIES])[category]
    chosen = draws.happens(share, *keys, 40) & can
    is_full = draws.happens(0.62, *keys, 41)
    in_two = draws.happens(0.15, *keys, 42) & (amount >= 1_000)
    part = (amount * draws.between(0.15, 0.85, *keys, 43)).astype(np.int64)
    first = np.where(is_full & ~in_two, amount, np.maximum(part, 1))
    # The shop gives back the postage too, which was paid to somebody else.
    is_over = is_full & ~in_two & draws.happens(0.04, *keys, 50)
    postage = draws.integers(400, 2_000, *keys, 51)
    first = np.where(is_over, amount + postage, first)
    second = np.where(is_full, amount - first, (amount - first) // 2)
    # Half come back within a week or two, some after months.
    wait = np.where(
        draws.happens(0.9, *keys, 44),
        draws.integers(2, 30, *keys, 45),
        draws.integers(30, 110, *keys, 45),
    )
    day = last_day + wait
    taken_back = chosen & draws.happens(0.015, *keys, 46)
    tables = [
        _single(REFUND, chosen, day, first),
        _single(REFUND, chosen & in_two, day + draws.integers(1, 20, *keys, 47), second),
        _single(REFUND_REVERSAL, taken_back, day + draws.integers(2, 9, *keys, 48), first),
    ]
    second_refund = tables[1]
    tables[1] = Postings(
        second_refund.attempt,
        second_refund.kind,
        second_refund.part + 1,
        second_refund.day,
        second_refund.amount,
    )
    link = draws.choice([0.55, 0.25, 0.15, 0.05], *keys, 49)
    return tables, link


def _refund_forms(draws: Draws, keys: tuple[Ints, Ints], refunds: list[Postings]) -> Ints:
    """How the refunds of each attempt come; what is taken back came as a return."""
    form = draws.choice([0.64, 0.30, 0.03, 0.03], *keys, 52)
    taken_back = np.isin(np.arange(form.size), refunds[2].attempt)
    return np.where(taken_back & (form == RETURN_SINGLE), RETURN_ALONE, form)


def _disputes(
    draws: Draws,
    keys: tuple[Ints, Ints],
    *,
    is_fraud: Bools,
    is_claimed: Bools,
    is_present: Bools,
    clears: Bools,
    known: Ints,
    last_day: Ints,
) -> tuple[npt.NDArray[np.int64], Ints, Ints, Ints, Ints]:
    """Kind, outcome, time of the claim, days to the chargeback, days to the decision."""
    u = draws.uniform(*keys, 60)
    honest = ~is_fraud & ~is_present & clears
    kind = np.select(
        [
            is_fraud & is_claimed & (known >= 0) & clears,
            honest & (u < 0.0022),
            honest & (u < 0.0034),
        ],
        [DISPUTE_FRAUD, DISPUTE_GOODS, DISPUTE_FIRST_PARTY],
        default=NO_DISPUTE,
    )
    outcome = draws.choice([0.55, 0.10, 0.35], *keys, 61)
    goods = np.array([WON, PARTIALLY_WON, LOST, DENIED, WITHDRAWN])[
        draws.choice([0.45, 0.08, 0.10, 0.25, 0.12], *keys, 62)
    ]
    outcome = np.where(kind == DISPUTE_GOODS, goods, outcome)
    outcome = np.where(kind == DISPUTE_FIRST_PARTY, DENIED, outcome)
    later = last_day * DAY + draws.integers(3, 50, *keys, 63) * DAY + 15 * HOUR
    posted = (last_day + 1) * DAY + 15 * HOUR
    claimed = np.where(kind == DISPUTE_FRAUD, np.maximum(known, posted), later)
    return (
        kind,
        outcome,
        claimed,
        draws.integers(3, 10, *keys, 64),
        draws.integers(28, 65, *keys, 65),
    )
