"""Rows of the feed `transactions`: the messages of every attempt, and the issuer's own entries.

Authorizations come over the wire and are known within seconds. A stay that lasts longer is
authorized a second time, a pump gives back in part what it held, an advice tells of what the
network authorized in the issuer's place, and before some refunds their credit is authorized.
Everything that posts comes with the processor's file of the next morning, one in a hundred a day
later. Fees, interest, balance transfers and credits have no merchant: `CORRECTION_DEBIT` or
`CORRECTION_CREDIT` with their `transaction_class`.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.sources.world import lifecycle, servicing
from pipelines.sources.world.attempts import ENTRY_MODES
from pipelines.sources.world.clock import DAY, HOUR, SECOND, dates, instants
from pipelines.sources.world.draws import Draws, Ints
from pipelines.sources.world.identifiers import Identifiers, letters
from pipelines.sources.world.merchants import CATEGORY
from pipelines.sources.world.onboarding import account_ids, labels
from pipelines.sources.world.story import Story

_TAIL = "bcdfghjkmnpqrstvwxyz"
_ENTRY_TYPES = {
    servicing.LATE_FEE: ("FEE", "DEBIT"),
    servicing.RETURNED_FEE: ("FEE", "DEBIT"),
    servicing.ANNUAL_FEE: ("FEE", "DEBIT"),
    servicing.INTEREST: ("INTEREST", "DEBIT"),
    servicing.BALANCE_TRANSFER: ("BALANCE_TRANSFER", "DEBIT"),
    servicing.TRANSFER_FEE: ("FEE", "DEBIT"),
    servicing.REWARD_CREDIT: ("REWARD_CREDIT", "CREDIT"),
}
_POSTING_TYPES = {
    lifecycle.CLEARING: ("CLEARING", None, "DEBIT"),
    lifecycle.FX_FEE: ("CORRECTION_DEBIT", "FEE", "DEBIT"),
    lifecycle.CASH_FEE: ("CORRECTION_DEBIT", "FEE", "DEBIT"),
    lifecycle.REFUND: ("RETURN", "REFUND", "CREDIT"),
    lifecycle.REFUND_REVERSAL: ("RETURN_REVERSAL", "REFUND", "DEBIT"),
    lifecycle.PROVISIONAL: ("CORRECTION_CREDIT", "DISPUTE_PROVISIONAL_CREDIT", "CREDIT"),
    lifecycle.PROVISIONAL_REVERSAL: ("CORRECTION_DEBIT", "DISPUTE_PROVISIONAL_CREDIT", "DEBIT"),
}


@dataclass(frozen=True, slots=True)
class Messages:
    """`rows`: the feed with `received_at`, and `holder` and `kind` for settlement.

    `transaction_ids`: one per attempt, emitted or not.
    """

    rows: pl.DataFrame
    transaction_ids: pl.Series


def posted_at(seed: int, number: Ints, salt: Ints, day: Ints) -> tuple[Ints, Ints]:
    """When a posting of `day` happened and when it is known: the next morning, 1 % later."""
    draws = Draws(seed, "posting times")
    event = day * DAY + draws.integers(18 * 3_600, 24 * 3_600, number, salt, day, 1) * SECOND
    late = draws.happens(0.01, number, salt, day, 2).astype(np.int64)
    minute = draws.integers(0, 3_000, number, salt, day, 3) * SECOND
    return event, (day + 1 + late) * DAY + 3 * HOUR + minute


def build_messages(story: Story) -> Messages:
    """All messages of the chunk. A transaction is numbered within its account, in time order."""
    seed, holders, attempts = story.seed, story.holders, story.attempts
    holder = attempts["holder"].to_numpy()
    first = np.searchsorted(holder, np.arange(holders.count))
    sequence = np.arange(holder.size) - first[holder]
    names = Identifiers(seed).of("account", holders.number)
    ids = "tx_" + names[holder] + letters(sequence, 5)
    common = _common(story, ids)
    parts = [
        _authorizations(story, common),
        _increments(story, common),
        _inquiries(story, common),
        _endings(story, common),
        _postings(story, common),
        _entries(story),
    ]
    rows = pl.concat(parts, how="diagonal").with_columns(currency=pl.lit("USD"))
    return Messages(rows, ids)


def _common(story: Story, ids: pl.Series) -> pl.DataFrame:
    """What all messages of an attempt share, one row per attempt."""
    seed, holders, merchants = story.seed, story.holders, story.merchants
    attempts = story.attempts
    holder, at = attempts["holder"].to_numpy(), attempts["at"].to_numpy()
    merchant, device = attempts["merchant"].to_numpy(), attempts["device"].to_numpy()
    is_present = attempts["is_present"]
    category = attempts["category"].to_numpy()
    number = holders.number[holder]
    draws = Draws(seed, "networks")
    identifiers = Identifiers(seed)
    # A stranger's device is his own: it is not numbered by the holder.
    stranger = device >= 3
    owner = np.where(stranger, number * 7 + device, number)
    devices = identifiers.of("device", owner) + letters(np.where(stranger, 19, device), 1)
    network_at = np.where(
        stranger, device, draws.integers(0, 6, number, attempts["salt"].to_numpy(), 1)
    )
    addresses = identifiers.of("ip", owner) + letters(network_at % 400, 2)
    klass = np.where(
        category == CATEGORY["cash"],
        "CASH_ADVANCE",
        np.where(category == CATEGORY["quasi_cash"], "QUASI_CASH", "PURCHASE"),
    )
    # A network gives no number to one in twelve.
    numbered = pl.Series(draws.happens(11 / 12, number, attempts["salt"].to_numpy(), 2))
    return pl.DataFrame(
        {
            "transaction_id": ids,
            "account_id": account_ids(seed, holders.number)[holder],
            "card_id": story.cards.at(holder, at),
            "merchant_id": merchants.identifiers[merchant],
            "mcc": merchants.mcc[merchant],
            "merchant_country": merchants.country[merchant],
            "latitude": pl.Series(values=merchants.latitude[merchant]).set(~is_present, None),
            "longitude": pl.Series(values=merchants.longitude[merchant]).set(~is_present, None),
            "entry_mode": pl.Series(ENTRY_MODES)[attempts["entry"].to_numpy()],
            "is_card_present": is_present,
            "transaction_class": pl.Series(klass.tolist(), dtype=pl.String),
            "network_transaction_id": ("nt_" + ids.str.slice(3)).set(~numbered, None),
            "device_id": ("dev_" + devices).set(is_present, None),
            "ip_hash": ("ip_" + addresses).set(is_present, None),
            "holder": holder,
        }
    )


def _authorizations(story: Story, common: pl.DataFrame) -> pl.DataFrame:
    plans, serviced, attempts = story.plans, story.serviced, story.attempts
    rows = np.flatnonzero(serviced.emitted & ~plans.is_forced)
    approved = serviced.approved[rows]
    single = plans.is_single_message[rows] & approved
    kind = np.where(single, 1, np.where(plans.is_advice[rows] & approved, 2, 0))
    kinds = ("AUTHORIZATION", "FINANCIAL_AUTHORIZATION", "AUTHORIZATION_ADVICE")
    at = attempts["at"].to_numpy()[rows]
    return common[rows].with_columns(
        event_id=pl.col("transaction_id") + "a",
        event_type=labels(kinds, kind),
        event_at=instants(at),
        amount_minor=pl.Series(plans.auth_amount[rows]),
        direction=pl.lit("DEBIT"),
        posted_on=dates(np.where(single, at // DAY, -1)),
        auth_result=labels(("DECLINED", "APPROVED"), approved.astype(np.int64)),
        received_at=instants(at + SECOND),
        kind=pl.Series(np.where(single, lifecycle.CLEARING, -1)),
    )


def _increments(story: Story, common: pl.DataFrame) -> pl.DataFrame:
    """A second authorization some hours after the first, and what is given back of a hold."""
    plans, serviced, attempts = story.plans, story.serviced, story.attempts
    more = np.flatnonzero(serviced.approved & (plans.increment > 0))
    less = np.flatnonzero(serviced.approved & (plans.released > 0))
    rows = np.concatenate([more, less])
    is_more = np.arange(rows.size) < more.size
    authorized = attempts["at"].to_numpy()[rows]
    at = authorized + np.where(is_more, 90 * 60 * SECOND, 240 * SECOND)
    which = is_more.astype(np.int64)
    return common[rows].with_columns(
        event_id=pl.col("transaction_id") + labels(("r", "i"), which),
        event_type=labels(("AUTHORIZATION_REVERSAL", "AUTHORIZATION"), which),
        event_at=instants(at),
        amount_minor=pl.Series(np.where(is_more, plans.increment[rows], plans.released[rows])),
        direction=labels(("CREDIT", "DEBIT"), which),
        auth_result=labels(("APPROVED",), np.zeros_like(rows)).set(pl.Series(~is_more), None),
        received_at=instants(at + SECOND),
        kind=pl.lit(-1, pl.Int64),
    )


def _inquiries(story: Story, common: pl.DataFrame) -> pl.DataFrame:
    """One in eight looks at the balance before drawing cash."""
    plans, serviced, attempts = story.plans, story.serviced, story.attempts
    number = story.holders.number[attempts["holder"].to_numpy()]
    looks = Draws(story.seed, "inquiries at machines").happens(
        1 / 8, number, attempts["salt"].to_numpy()
    )
    rows = np.flatnonzero(serviced.emitted & plans.is_single_message & looks)
    at = attempts["at"].to_numpy()[rows] - 40 * SECOND
    return common[rows].with_columns(
        event_id=pl.col("transaction_id") + "zq",
        transaction_id=pl.col("transaction_id") + "z",
        network_transaction_id=pl.lit(None, pl.String),
        event_type=pl.lit("BALANCE_INQUIRY"),
        event_at=instants(at),
        amount_minor=pl.lit(0, pl.Int64),
        direction=pl.lit("DEBIT"),
        auth_result=pl.lit("APPROVED"),
        transaction_class=pl.lit(None, pl.String),
        received_at=instants(at + SECOND),
        kind=pl.lit(-1, pl.Int64),
    )


def _endings(story: Story, common: pl.DataFrame) -> pl.DataFrame:
    """Reversals within hours, expiries after a week."""
    plans, serviced, attempts = story.plans, story.serviced, story.attempts
    rows = np.flatnonzero(
        serviced.approved & ~plans.is_forced & (plans.ending != lifecycle.CLEARED)
    )
    authorized = attempts["at"].to_numpy()[rows]
    expires = plans.ending[rows] == lifecycle.EXPIRED
    expired = (authorized // DAY + lifecycle.AUTHORIZATION_DAYS) * DAY + HOUR // 6
    at = np.where(expires, expired, authorized + 2 * HOUR)
    return common[rows].with_columns(
        event_id=pl.col("transaction_id") + labels(("v", "x"), expires.astype(np.int64)),
        event_type=labels(
            ("AUTHORIZATION_REVERSAL", "AUTHORIZATION_EXPIRY"), expires.astype(np.int64)
        ),
        event_at=instants(at),
        amount_minor=pl.Series(plans.auth_amount[rows] + plans.increment[rows]),
        direction=pl.lit("CREDIT"),
        received_at=instants(at + 2 * SECOND),
        kind=pl.lit(-1, pl.Int64),
    )


def _postings(story: Story, common: pl.DataFrame) -> pl.DataFrame:
    seed, holders, merchants = story.seed, story.holders, story.merchants
    attempts, plans, serviced = story.attempts, story.plans, story.serviced
    postings = plans.postings
    single = plans.is_single_message[postings.attempt] & (postings.kind == lifecycle.CLEARING)
    chosen = np.flatnonzero(serviced.happened & ~single)
    attempt, kind = postings.attempt[chosen], postings.kind[chosen]
    part, day = postings.part[chosen], postings.day[chosen]
    number = holders.number[attempts["holder"].to_numpy()[attempt]]
    salt = attempts["salt"].to_numpy()[attempt] * 64 + kind * 8 + part
    event, received = posted_at(seed, number, salt, day)
    is_refund = np.isin(kind, (lifecycle.REFUND, lifecycle.REFUND_REVERSAL))
    has_merchant = is_refund | (kind == lifecycle.CLEARING)
    frame = common[attempt]
    own = kind != lifecycle.CLEARING
    # Refunds, fees and credits are transactions of their own; a reversal belongs to its refund.
    group = np.where(kind == lifecycle.REFUND_REVERSAL, lifecycle.REFUND, kind)
    group = np.where(group == lifecycle.PROVISIONAL_REVERSAL, lifecycle.PROVISIONAL, group)
    suffix = pl.Series(list(_TAIL))[group * 2 + np.minimum(part, 1)]
    event_suffix = pl.Series(list(_TAIL))[kind] + pl.Series(list(_TAIL))[part]
    purchase = frame["transaction_id"]
    transaction = (purchase + suffix).zip_with(pl.Series(own), purchase)
    link = plans.refund_link[attempt]
    by_original = pl.Series(is_refund & (link == lifecycle.LINK_ORIGINAL))
    by_network = pl.Series(is_refund & (link == lifecycle.LINK_NETWORK))
    numbered = pl.Series(kind == lifecycle.CLEARING) | by_network
    # What cannot be matched at all comes back through another merchant.
    unmatched = is_refund & (link == lifecycle.LINK_NONE)
    merchant = attempts["merchant"].to_numpy()[attempt]
    other = (merchant + 1 + number % 97) % len(merchants.mcc)
    merchant = np.where(unmatched, other, merchant)
    drifted = (kind == lifecycle.CLEARING) & (salt % 331 == 7)
    mcc = merchants.mcc[merchant].set(pl.Series(drifted), "5999")
    classes = pl.Series([_POSTING_TYPES[k][1] for k in range(len(_POSTING_TYPES))])[kind]
    keeps = pl.Series(has_merchant)
    form = plans.refund_form[attempt]
    types = labels(tuple(_POSTING_TYPES[k][0] for k in range(len(_POSTING_TYPES))), kind)
    comes_single = (kind == lifecycle.REFUND) & (form == lifecycle.RETURN_SINGLE)
    types = types.set(pl.Series(comes_single), "FINANCIAL_CREDIT_AUTHORIZATION")
    posted = frame.with_columns(
        event_id=purchase + event_suffix + "p",
        transaction_id=transaction,
        event_type=types,
        event_at=instants(event),
        amount_minor=pl.Series(postings.amount[chosen]),
        direction=pl.Series([_POSTING_TYPES[k][2] for k in range(len(_POSTING_TYPES))])[kind],
        posted_on=dates(day),
        merchant_id=merchants.identifiers[merchant].set(~keeps, None),
        mcc=mcc.set(~keeps, None),
        merchant_country=merchants.country[merchant].set(~keeps, None),
        latitude=frame["latitude"].set(~keeps | pl.Series(unmatched), None),
        longitude=frame["longitude"].set(~keeps | pl.Series(unmatched), None),
        entry_mode=frame["entry_mode"].set(pl.Series(own), None),
        is_card_present=frame["is_card_present"].set(pl.Series(own), None),
        device_id=frame["device_id"].set(pl.Series(own), None),
        ip_hash=frame["ip_hash"].set(pl.Series(own), None),
        transaction_class=classes.fill_null(frame["transaction_class"]),
        original_transaction_id=purchase.set(~by_original, None),
        network_transaction_id=frame["network_transaction_id"].set(~numbered, None),
        received_at=instants(received),
        kind=pl.Series(kind),
    )
    asked = np.flatnonzero(
        (kind == lifecycle.REFUND)
        & np.isin(form, (lifecycle.RETURN_AUTHORIZED, lifecycle.RETURN_ADVISED))
    )
    at = day[asked] * DAY + 10 * HOUR + part[asked] * SECOND
    advised = (form[asked] == lifecycle.RETURN_ADVISED).astype(np.int64)
    credits = posted[asked].with_columns(
        event_id=pl.col("event_id").str.head(-1) + "k",
        event_type=labels(("CREDIT_AUTHORIZATION", "CREDIT_AUTHORIZATION_ADVICE"), advised),
        event_at=instants(at),
        posted_on=pl.lit(None, pl.Date),
        auth_result=pl.lit("APPROVED"),
        received_at=instants(at + SECOND),
        kind=pl.lit(-1, pl.Int64),
    )
    return pl.concat([posted, credits], how="diagonal")


def _entries(story: Story) -> pl.DataFrame:
    """Fees, interest, balance transfers and reward credits that the issuer posts itself."""
    seed, holders, entries = story.seed, story.holders, story.serviced.entries
    holder, kind = entries["holder"].to_numpy(), entries["kind"].to_numpy()
    day, cycle = entries["day"].to_numpy(), entries["cycle"].to_numpy()
    number = holders.number[holder]
    event, received = posted_at(seed, number, cycle * 16 + kind, day)
    names = Identifiers(seed).of("account", number)
    ids = "en_" + names + letters(cycle, 2) + pl.Series(list(_TAIL))[kind]
    count = len(_ENTRY_TYPES)
    directions = pl.Series([_ENTRY_TYPES[k][1] for k in range(count)])[kind]
    return pl.DataFrame(
        {
            "event_id": ids + "p",
            "transaction_id": ids,
            "event_type": "CORRECTION_" + directions,
            "account_id": account_ids(seed, number),
            "card_id": story.cards.at(holder, event),
            "event_at": instants(event),
            "amount_minor": entries["amount"],
            "direction": directions,
            "posted_on": dates(day),
            "transaction_class": pl.Series([_ENTRY_TYPES[k][0] for k in range(count)])[kind],
            "received_at": instants(received),
            "holder": holder,
            "kind": np.full(holder.size, -1, np.int64),
        }
    )
