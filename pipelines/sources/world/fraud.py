"""Fraud, how it is found, and when: the truth and the labels.

Five scenarios. *Card not present*: a stolen number is tried with a small amount and then used at a
distance, many times within hours or days, from a stranger's device. *Terminal compromise*: cards
used at a compromised merchant during some weeks are cloned and swiped soon after, often at the
same merchant. *Account takeover*: a stranger changes phone and e-mail, redeems the points and buys
with the card on file. *Bust-out*: after months of good conduct a holder who never meant to pay
spends the whole limit within days. *Application ring*: accounts that one hand applied for do so at
once. A label becomes known after 3, 30 or 95 days at most, or never (40 : 35 : 20 : 5), per
incident. When it is known the card is blocked and replaced; lost cards are blocked too.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.sources.world.attempts import (
    CHIP,
    CONTACTLESS,
    ECOMMERCE,
    MAGSTRIPE,
    ON_FILE,
    SCHEMA,
    cents,
    price,
)
from pipelines.sources.world.clock import DAY, HOUR, SECOND, Window
from pipelines.sources.world.draws import Bools, Draws, Floats, Ints
from pipelines.sources.world.holders import Holders
from pipelines.sources.world.merchants import CATEGORY, ONLINE, Merchants
from pipelines.sources.world.programs import PROGRAMS

SCENARIOS = (
    "CNP_BURST", "TERMINAL_COMPROMISE", "ACCOUNT_TAKEOVER", "BUST_OUT", "APPLICATION_RING",
)  # fmt: skip
CNP_BURST, TERMINAL_COMPROMISE, ACCOUNT_TAKEOVER, BUST_OUT, APPLICATION_RING = range(5)
FRAUD_TYPES = ("CNP", "COUNTERFEIT", "ATO", "APPLICATION", "APPLICATION")
"""By scenario, as labels call it."""
BURST_PER_30_DAYS = 0.015
TAKEOVER_PER_30_DAYS = 0.004
"""Among members of programs whose points the issuer holds and gives out as goods."""
LOST_SHARE = 0.06
COMPROMISED_SHARE = 0.022
"""Share of merchants that are compromised in any block of 60 days."""
CLONED_SHARE = 0.38
REPLACED_AFTER_DAYS = 8
_BLOCK_DAYS = 30
_NEVER = 1 << 61


@dataclass(frozen=True, slots=True)
class Incidents:
    """One entry per incident, numbered within the chunk; `known_at` is −1 where it never is."""

    holder: Ints
    scenario: Ints
    first_at: Ints
    known_at: Ints

    @property
    def is_claimed(self) -> Bools:
        """Whether there is a cardholder who will dispute it."""
        return ~np.isin(self.scenario, (BUST_OUT, APPLICATION_RING))

    def takeovers(self, holders: int) -> Ints:
        """The moment at which each holder's account is first taken over, −1 where it never is."""
        at = np.full(holders, _NEVER)
        rows = np.flatnonzero(self.scenario == ACCOUNT_TAKEOVER)
        np.minimum.at(at, self.holder[rows], self.first_at[rows])
        return np.where(at == _NEVER, -1, at)


def fraud_attempts(
    seed: int, holders: Holders, merchants: Merchants, genuine: pl.DataFrame, window: Window
) -> tuple[pl.DataFrame, Incidents]:
    """Fraudulent attempts with `SCHEMA`, and the incidents that they belong to."""
    numbered: list[pl.DataFrame] = []
    scenarios: list[Ints] = []
    count = 0
    for scenario, made in (
        (CNP_BURST, _bursts(seed, holders, merchants, window)),
        (TERMINAL_COMPROMISE, _clones(seed, holders, merchants, genuine, window)),
        (ACCOUNT_TAKEOVER, _takeovers(seed, holders, merchants, window)),
        (BUST_OUT, _bust_outs(seed, holders, merchants, window)),
    ):
        numbered.append(made.with_columns(pl.col("incident") + count))
        found = made["incident"].n_unique()
        scenarios.append(np.full(found, scenario))
        count += found
    attempts = pl.concat(numbered)
    per_incident = attempts.group_by("incident").agg(
        pl.col("holder").first(),
        pl.col("at").min().alias("first"),
        pl.col("at").max().alias("last"),
    ).sort("incident")  # fmt: skip
    holder = per_incident["holder"].to_numpy()
    scenario = np.concatenate(scenarios)
    in_ring = (scenario == BUST_OUT) & (holders.ring[holder] >= 0)
    scenario = np.where(in_ring, APPLICATION_RING, scenario)
    first = per_incident["first"].to_numpy()
    known = first + discovery_delay(seed, holders.number[holder], first // SECOND)
    last = per_incident["last"].to_numpy()
    # Few are found while they still run.
    known = np.where(known < _NEVER, np.maximum(known, first + (last - first) // 2), -1)
    incidents = Incidents(holder, scenario, first, known)
    return attempts.filter(pl.col("at") < (window.last + 1) * DAY), incidents


def discovery_delay(seed: int, *keys: Ints) -> Ints:
    """Microseconds until fraud is known: 40 % ≤ 3 days, 35 % ≤ 30, 20 % ≤ 95, 5 % never."""
    draws = Draws(seed, "discovery")
    part = draws.choice([0.40, 0.35, 0.20, 0.05], *keys, 1)
    low, high = np.array([0.1, 3.0, 30.0, 0.0])[part], np.array([3.0, 30.0, 95.0, 0.0])[part]
    delay = (draws.between(low, high, *keys, 2) * DAY).astype(np.int64)
    return np.where(part == 3, _NEVER, delay)


def _bursts(seed: int, holders: Holders, merchants: Merchants, window: Window) -> pl.DataFrame:
    draws = Draws(seed, "fraud/bursts")
    blocks = np.arange(window.first // _BLOCK_DAYS, window.last // _BLOCK_DAYS + 1)
    holder = np.repeat(np.arange(holders.count), blocks.size)
    block = np.tile(blocks, holders.count)
    number = holders.number[holder]
    start = (
        block * _BLOCK_DAYS * DAY
        + draws.integers(0, _BLOCK_DAYS * 86_400, number, block, 1) * SECOND
    )
    hit = draws.happens(BURST_PER_30_DAYS, number, block, 2)
    hit &= start > (holders.first_use[holder] + 5) * DAY
    hit &= start < window.last * DAY
    hit &= holders.daily_spending[holder] > 0
    holder, block, number, start = holder[hit], block[hit], number[hit], start[hit]
    size = 3 + draws.poisson(3.5, number, block, 3)
    incident = np.repeat(np.arange(holder.size), size)
    step = np.arange(incident.size) - np.repeat(np.cumsum(size) - size, size)
    keys = (number[incident], block[incident], step)
    span = draws.between(1, 50, number, block, 4) * HOUR
    after = np.where(step == 0, 0, draws.uniform(*keys, 5) * span[incident])
    is_stealthy = draws.happens(0.25, number, block, 6)[incident]
    kinds = np.array([CATEGORY[n] for n in ("marketplace", "digital", "electronics", "clothing")])
    category = kinds[draws.choice([0.42, 0.18, 0.28, 0.12], *keys, 7)]
    place = np.full(incident.size, ONLINE)
    merchant = merchants.choose(
        category, place, draws.uniform(*keys, 8), draws.integers(0, 40, *keys[:2], 9)
    )
    ordinary = price(draws, keys, category)
    large = 11_000 * np.exp(0.75 * draws.normal(*keys, 10))
    amount = np.where(is_stealthy, ordinary * 1.2, large)
    amount = np.where((step == 0) & ~is_stealthy, draws.between(100, 500, *keys, 11), amount)
    device = np.where(is_stealthy & draws.happens(0.3, *keys, 12), 0, 3 + block[incident] % 400)
    return pl.DataFrame(
        {
            "holder": holder[incident],
            "at": start[incident] + after.astype(np.int64),
            "category": category,
            "merchant": merchant,
            "amount": cents(amount, category),
            "is_present": np.zeros(incident.size, np.bool_),
            "entry": np.full(incident.size, ECOMMERCE),
            "device": device,
            "incident": incident,
            "salt": (block[incident] * 64 + step) + (1 << 40),
        },
        schema=SCHEMA,
    )


def _takeovers(seed: int, holders: Holders, merchants: Merchants, window: Window) -> pl.DataFrame:
    draws = Draws(seed, "fraud/takeovers")
    gives_goods = np.array([p.partner_id is not None and p.network != "VISA" for p in PROGRAMS])
    blocks = np.arange(window.first // _BLOCK_DAYS, window.last // _BLOCK_DAYS + 1)
    holder = np.repeat(np.arange(holders.count), blocks.size)
    block = np.tile(blocks, holders.count)
    number = holders.number[holder]
    start = block * _BLOCK_DAYS * DAY
    start += draws.integers(0, _BLOCK_DAYS * 86_400, number, block, 1) * SECOND
    hit = draws.happens(TAKEOVER_PER_30_DAYS, number, block, 2)
    hit &= gives_goods[holders.program[holder]] & (holders.bust_day[holder] < 0)
    hit &= (start > (holders.first_use[holder] + 40) * DAY) & (start < window.last * DAY)
    holder, block, number, start = holder[hit], block[hit], number[hit], start[hit]
    size = 2 + draws.poisson(1.5, number, block, 3)
    incident = np.repeat(np.arange(holder.size), size)
    step = np.arange(incident.size) - np.repeat(np.cumsum(size) - size, size)
    keys = (number[incident], block[incident], step)
    kinds = np.array([CATEGORY[n] for n in ("electronics", "digital", "department")])
    category = kinds[draws.choice([0.5, 0.2, 0.3], *keys, 4)]
    place = np.full(incident.size, ONLINE)
    merchant = merchants.choose(
        category, place, draws.uniform(*keys, 5), draws.integers(0, 40, *keys[:2], 6)
    )
    amount = 14_000 * np.exp(0.6 * draws.normal(*keys, 7))
    return pl.DataFrame(
        {
            "holder": holder[incident],
            "at": start[incident] + (draws.between(1, 30, *keys, 8) * HOUR).astype(np.int64),
            "category": category,
            "merchant": merchant,
            "amount": cents(amount, category),
            "is_present": np.zeros(incident.size, np.bool_),
            "entry": np.full(incident.size, ON_FILE),
            "device": 3 + (block[incident] + 7) % 400,
            "incident": incident,
            "salt": (block[incident] * 64 + step) + (1 << 42),
        },
        schema=SCHEMA,
    )


def _bust_outs(seed: int, holders: Holders, merchants: Merchants, window: Window) -> pl.DataFrame:
    """The whole limit and a little more within eight days, on what is easily sold again."""
    draws = Draws(seed, "fraud/bust-outs")
    chosen = np.flatnonzero((holders.bust_day >= 0) & (holders.bust_day < window.last))
    number, day = holders.number[chosen], holders.bust_day[chosen]
    size = draws.integers(12, 24, number, 1)
    incident = np.repeat(np.arange(chosen.size), size)
    step = np.arange(incident.size) - np.repeat(np.cumsum(size) - size, size)
    keys = (number[incident], step)
    kinds = np.array([CATEGORY[n] for n in ("electronics", "department", "marketplace")])
    category = kinds[draws.choice([0.45, 0.25, 0.30], *keys, 2)]
    city = holders.city[chosen][incident]
    sold_here = merchants.exists(category, city) & draws.happens(0.6, *keys, 3)
    place = np.where(sold_here, city, ONLINE)
    merchant = merchants.choose(
        category, place, draws.uniform(*keys, 4), draws.integers(0, 40, *keys, 5)
    )
    share = draws.between(0.6, 1.4, *keys, 6) * 1.05 / size[incident]
    after = draws.between(9, 8 * 24, *keys, 7) * HOUR
    return pl.DataFrame(
        {
            "holder": chosen[incident],
            "at": day[incident] * DAY + after.astype(np.int64),
            "category": category,
            "merchant": merchant,
            "amount": cents(holders.limit[chosen][incident] * share, category),
            "is_present": place != ONLINE,
            "entry": np.where(place != ONLINE, CONTACTLESS, ECOMMERCE),
            "device": np.zeros(incident.size, np.int64),
            "incident": incident,
            "salt": step + (1 << 43),
        },
        schema=SCHEMA,
    )


def compromises(seed: int, merchants: Merchants, window: Window) -> tuple[Ints, Ints]:
    """First and last moment of compromise, merchants × blocks of 60 days (0, 0 where there is
    none). Fixed by the seed; one never reaches past the next block.
    """
    draws = Draws(seed, "fraud/terminals")
    merchant = np.arange(len(merchants.mcc), dtype=np.int64)[:, None]
    block = np.arange(window.first // 60, window.last // 60 + 1)[None, :]
    hit = draws.happens(COMPROMISED_SHARE, merchant, block, 1)
    hit &= (merchants.city != ONLINE)[:, None]
    hit &= (merchants.category != CATEGORY["cash"])[:, None]
    start = (block * 60 + draws.integers(0, 60, merchant, block, 2)) * DAY
    end = start + draws.integers(10, 29, merchant, block, 3) * DAY
    return np.where(hit, start, 0), np.where(hit, end, 0)


def _clones(
    seed: int, holders: Holders, merchants: Merchants, genuine: pl.DataFrame, window: Window
) -> pl.DataFrame:
    draws = Draws(seed, "fraud/clones")
    at = genuine["at"].to_numpy()
    used_at = genuine["merchant"].to_numpy()
    start, end = compromises(seed, merchants, window)
    block = at // DAY // 60 - window.first // 60
    exposed = (at >= start[used_at, block]) & (at < end[used_at, block])
    earlier = np.maximum(block - 1, 0)
    exposed |= (at >= start[used_at, earlier]) & (at < end[used_at, earlier])
    exposed &= genuine["is_present"].to_numpy()
    source = np.flatnonzero(exposed)
    source = source[
        draws.happens(
            CLONED_SHARE,
            holders.number[genuine["holder"].to_numpy()[source]],
            genuine["salt"].to_numpy()[source],
            1,
        )
    ]
    holder = genuine["holder"].to_numpy()[source]
    number, salt = holders.number[holder], genuine["salt"].to_numpy()[source]
    size = 1 + draws.poisson(1.3, number, salt, 2)
    incident = np.repeat(np.arange(source.size), size)
    step = np.arange(incident.size) - np.repeat(np.cumsum(size) - size, size)
    keys = (number[incident], salt[incident], step)
    after = draws.between(0.5, 72, *keys, 3) * HOUR
    same = draws.happens(0.65, *keys, 4)
    origin = used_at[source][incident]
    place = merchants.city[origin]
    kinds = np.array([CATEGORY[n] for n in ("grocery", "department", "clothing", "electronics")])
    other = kinds[draws.integers(0, kinds.size, *keys, 5)]
    category = np.where(same, merchants.category[origin], other)
    exists = merchants.exists(category, place)
    category = np.where(exists, category, merchants.category[origin])
    elsewhere = merchants.choose(
        category, place, draws.uniform(*keys, 6), draws.integers(0, 40, *keys, 7)
    )
    merchant = np.where(same | ~exists, origin, elsewhere)
    factor = draws.between(1.2, 3.2, *keys, 8)
    return pl.DataFrame(
        {
            "holder": holder[incident],
            "at": at[source][incident] + after.astype(np.int64),
            "category": category,
            "merchant": merchant,
            "amount": cents(price(draws, keys, category) * factor, category),
            "is_present": np.ones(incident.size, np.bool_),
            "entry": np.where(draws.happens(0.7, *keys, 9), MAGSTRIPE, CHIP),
            "device": np.zeros(incident.size, np.int64),
            "incident": incident,
            "salt": (salt[incident] * 16 + step) + (1 << 41),
        },
        schema=SCHEMA,
    )


@dataclass(frozen=True, slots=True)
class Blocks:
    """Times during which an account has no usable card, in the order of holder and time."""

    holder: Ints
    start: Ints
    is_lost: Bools
    """Whether the card was lost; the others were compromised."""

    @property
    def end(self) -> Ints:
        """When the new card is in use."""
        return self.start + REPLACED_AFTER_DAYS * DAY

    def covers(self, holder: Ints, at: Ints):
        """Whether each moment falls into a block of its holder."""
        inside = np.zeros(at.size, np.bool_)
        starts: dict[int, list[int]] = {}
        for owner, start in zip(self.holder.tolist(), self.start.tolist(), strict=True):
            starts.setdefault(owner, []).append(start)
        if not starts:
            return inside
        order = np.argsort(holder, kind="stable")
        owners = np.fromiter(starts, np.int64, len(starts))
        left = np.searchsorted(holder[order], owners, "left")
        right = np.searchsorted(holder[order], owners, "right")
        for owner, low, high in zip(owners.tolist(), left, right, strict=True):
            rows = order[low:high]
            for start in starts[owner]:
                inside[rows] |= (at[rows] >= start) & (at[rows] < start + REPLACED_AFTER_DAYS * DAY)
        return inside


def card_blocks(seed: int, holders: Holders, incidents: Incidents, window: Window) -> Blocks:
    """Blocks that known incidents and lost cards lead to; one that begins within another is the
    same."""
    known = (incidents.known_at >= 0) & (incidents.known_at < (window.last + 1) * DAY)
    loser, lost_at = _losses(seed, holders, window)
    holder = np.concatenate([incidents.holder[known], loser])
    start = np.concatenate([incidents.known_at[known], lost_at])
    is_lost = np.arange(holder.size) >= holder.size - loser.size
    order = np.lexsort((start, holder))
    holder, start, is_lost = holder[order], start[order], is_lost[order]
    keep = np.ones(holder.size, np.bool_)
    last_holder, last_start = -1, np.int64(0)
    for row in range(holder.size):
        same = holder[row] == last_holder
        if same and start[row] < last_start + REPLACED_AFTER_DAYS * DAY:
            keep[row] = False
        else:
            last_holder, last_start = holder[row], start[row]
    return Blocks(holder[keep], start[keep], is_lost[keep])


def _losses(seed: int, holders: Holders, window: Window) -> tuple[Ints, Ints]:
    """Who loses a card within the window, and when they tell the issuer."""
    draws = Draws(seed, "lost cards")
    day = holders.first_use + draws.integers(5, 500, holders.number, 1)
    lost = draws.happens(LOST_SHARE, holders.number, 2) & (day < window.last)
    moment = day * DAY + draws.integers(8 * 3_600, 22 * 3_600, holders.number, 3) * SECOND
    return np.flatnonzero(lost), moment[lost]


def known_times(incidents: Incidents, incident: Ints, at: Ints, noise: Floats) -> Ints:
    """When the label of each fraudulent attempt is known (−1 never): not before the attempt."""
    known = incidents.known_at[incident]
    return np.where(known < 0, -1, np.maximum(known, at + HOUR) + (noise * HOUR).astype(np.int64))
