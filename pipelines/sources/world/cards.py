"""Cards: the first one of each account, and those that replace a compromised, lost or worn one."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.sources.world.clock import DAY, HOUR, Window, instants, weekly_delivery
from pipelines.sources.world.draws import Draws, Ints
from pipelines.sources.world.fraud import REPLACED_AFTER_DAYS, Blocks
from pipelines.sources.world.holders import Holders
from pipelines.sources.world.identifiers import Identifiers, letters
from pipelines.sources.world.onboarding import account_ids, labels

_WORN_SHARE = 0.06
_WORN, _COMPROMISED, _LOST = range(3)
_ENDED_AS = ("CLOSED", "COMPROMISED", "LOST")


@dataclass(frozen=True, slots=True)
class CardBook:
    """Cards of a chunk in the order of holder and issue.

    `used_from` is the moment from which a card takes over, `issued` and `closed` (−1: never)
    frame its life.
    """

    identifiers: pl.Series
    holder: Ints
    position: Ints
    issued: Ints
    used_from: Ints
    closed: Ints
    ended_as: Ints
    """Why a closed card was closed: an index of the states that end a card."""

    def at(self, holder: Ints, at: Ints) -> pl.Series:
        """The card that each holder uses at each moment."""
        keys = _key(self.holder, self.used_from)
        found = np.searchsorted(keys, _key(holder, at), side="right") - 1
        return self.identifiers[found]


def _key(holder: Ints, at: Ints) -> Ints:
    """Holder first, then seconds since 1970 (below 2**32)."""
    return holder * (1 << 33) + np.maximum(at, 0) // 1_000_000


def build_cards(seed: int, holders: Holders, blocks: Blocks, window: Window) -> CardBook:
    """Cards of all holders; each block brings a new card, some wear out."""
    draws = Draws(seed, "cards")
    everyone = np.arange(holders.count)
    worn = draws.happens(_WORN_SHARE, holders.number, 1)
    low = holders.first_use + 60
    high = max(window.last, window.first + 61)
    worn_at = draws.integers(low, np.maximum(high, low + 1), holders.number, 2) * DAY + 12 * HOUR
    worn &= (worn_at // DAY > low) & (worn_at < window.last * DAY)
    worn &= ~np.isin(everyone, blocks.holder)
    holder = np.concatenate([everyone, blocks.holder, everyone[worn]])
    issued = np.concatenate(
        [holders.opened_at + HOUR, blocks.start + HOUR, worn_at[worn] - REPLACED_AFTER_DAYS * DAY]
    )
    used_from = np.concatenate([np.zeros(holders.count, np.int64), blocks.end, worn_at[worn]])
    reason = np.full(holder.size, _WORN)
    # The old card dies when the fraud is known, or when the new one takes over.
    dies = np.concatenate([np.zeros(holders.count, np.int64), blocks.start, worn_at[worn]])
    blocked = np.where(blocks.is_lost, _LOST, _COMPROMISED)
    reason[holders.count : holders.count + blocks.holder.size] = blocked
    order = np.lexsort((used_from, holder))
    holder, issued, used_from = holder[order], issued[order], used_from[order]
    dies, reason = dies[order], reason[order]
    position = np.arange(holder.size) - np.searchsorted(holder, holder, side="left")
    has_next = np.zeros(holder.size, np.bool_)
    has_next[:-1] = holder[1:] == holder[:-1]
    closed = np.full(holder.size, -1, np.int64)
    closed[:-1] = np.where(has_next[:-1], dies[1:], -1)
    ended_as = np.append(reason[1:], _WORN)
    names = Identifiers(seed).of("card", holders.number)[holder] + letters(position, 2)
    return CardBook("crd_" + names, holder, position, issued, used_from, closed, ended_as)


def card_rows(seed: int, holders: Holders, cards: CardBook) -> pl.DataFrame:
    """Rows of the `cards` feed, by weekly files: issued, activated, closed."""
    holder = cards.holder
    activated = np.where(
        cards.position == 0, holders.first_use[holder] * DAY - 6 * HOUR, cards.used_from - 6 * HOUR
    )
    replaced_by = pl.Series(np.append(np.arange(1, holder.size), 0))
    successor = cards.identifiers[replaced_by.to_numpy()].set(pl.Series(cards.closed < 0), None)
    base = pl.DataFrame(
        {
            "card_id": cards.identifiers,
            "account_id": account_ids(seed, holders.number)[holder],
            "issued_at": instants(cards.issued),
        }
    )
    none = pl.lit(None, pl.Datetime("us"))
    issued = base.with_columns(
        updated_at=instants(cards.issued),
        state=pl.lit("PENDING_ACTIVATION"),
        activated_at=none,
        replaced_by=pl.lit(None, pl.String),
        received_at=instants(weekly_delivery(cards.issued)),
    )
    active = base.with_columns(
        updated_at=instants(activated),
        state=pl.lit("ACTIVE"),
        activated_at=instants(activated),
        replaced_by=pl.lit(None, pl.String),
        received_at=instants(weekly_delivery(activated)),
    )
    closed = np.flatnonzero(cards.closed >= 0)
    ended = base[closed].with_columns(
        updated_at=instants(cards.closed[closed]),
        state=labels(_ENDED_AS, cards.ended_as[closed]),
        activated_at=instants(activated[closed]),
        replaced_by=successor[closed],
        received_at=instants(weekly_delivery(cards.closed[closed])),
    )
    # A card that is blocked before it was used is never activated.
    unused = pl.Series((cards.closed >= 0) & (cards.closed <= activated))
    ended = ended.with_columns(activated_at=ended["activated_at"].set(unused[closed], None))
    return pl.concat([issued, active.filter(~unused), ended])
