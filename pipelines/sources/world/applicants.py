"""Applicants, what they state, and how the issuer decides.

Account number n is what comes out of its own queue of applicants: they apply until one is booked,
and all of them are kept. Queues do not depend on each other, so that more accounts add rows and
change none; and the mix of declined and approved is that of the policy, not of a quota.

The latent risk of a person (standard normal, high is bad) drives what the bureau knows, what the
person earns and how the account later behaves. It is written to the truth folder only.

Applications have their seasons. In one month, the drift month, a campaign brings more people, by
post, who are worse risks, have thinner files and overstate their income. Some press the button
twice: the duplicate is withdrawn by rule. An application ring is three accounts that one hand
applies for within days, from one device and address.
"""

import numpy as np
import polars as pl

from pipelines.sources.world.clock import (
    DAY,
    SECOND,
    Window,
    months_since_1970,
)
from pipelines.sources.world.draws import Bools, Draws, Floats, Ints
from pipelines.sources.world.merchants import CITIES, HOME_CITIES
from pipelines.sources.world.programs import PROGRAMS

QUEUE = 10
"""Longest queue; its last applicant is approved by hand (about one account in ten thousand)."""
_MATURITY_DAYS = 385
_AGAIN = 100
"""Slots from here on are second applications of the person in slot − 100."""
_TWICE = 200
"""Slots from here on are duplicates of the application in slot − 200."""
_DRIFT_AT = 0.6
"""Share of the window that has gone by when the drift month begins."""
_SEASONS = np.array([0.82, 0.85, 0.95, 1.0, 1.05, 1.0, 0.95, 1.0, 1.05, 1.1, 1.2, 1.1])
"""Applications by calendar month, January first."""
_CAMPAIGN = 1.6
_RING_BLOCK = 250
_RING_SIZE = 3
_RING_SHARE = 0.8
"""Of every so many accounts, so many belong to a ring, in this share of the blocks."""

FILE_HITS = ("HIT", "THIN", "NO_HIT", "FROZEN", "FRAUD_ALERT")
CHANNELS = ("partner_web", "partner_app", "direct", "in_store", "prescreen")
EMPLOYMENT = ("EMPLOYED", "SELF_EMPLOYED", "RETIRED", "STUDENT", "UNEMPLOYED")
DECISIONS = ("APPROVED", "DECLINED", "COUNTER_OFFER", "WITHDRAWN", "INCOMPLETE")
APPROVED, DECLINED, COUNTER_OFFER, WITHDRAWN, INCOMPLETE = range(5)
SOURCES = ("model", "policy_rule", "manual", "applicant", "test_cell")
MODEL, POLICY_RULE, MANUAL, APPLICANT, TEST_CELL = range(5)


def build_applications(seed: int, first: int, count: int, window: Window) -> pl.DataFrame:
    """One row per application in the queues of accounts `first` … `first + count − 1`.

    Columns are numbers (amounts in cents, times in microseconds); `account` is the queue, `slot`
    the application in it and `person` the slot of the person's first application.
    """
    account = np.repeat(np.arange(first, first + count, dtype=np.int64), QUEUE)
    slot = np.tile(np.arange(QUEUE, dtype=np.int64), count)
    ring = _rings(seed, account, slot)
    submitted = _submitted(seed, account, slot, window)
    submitted = np.where(ring >= 0, _ring_submitted(seed, account, ring, window), submitted)
    is_drifted = (months_since_1970(submitted // DAY) == drift_month(window)) & (ring < 0)
    people = _people(seed, account, slot, is_drifted)
    frame = people.with_columns(submitted=pl.Series(submitted), ring=pl.Series(ring))
    frame = _decided(seed, _presentable(frame))
    frame = frame.filter(pl.col("slot") <= pl.col("slot").filter("is_booked").min().over("account"))
    return pl.concat(
        [frame, _second_applications(seed, frame), _duplicates(seed, frame)], how="vertical"
    ).sort("account", "slot")


def drift_month(window: Window) -> int:
    """The drift month, counted from January 1970: the one in which 60 % of the window is over."""
    day = window.first + int(window.days * _DRIFT_AT)
    return int(months_since_1970(np.array([day]))[0])


def _rings(seed: int, account: Ints, slot: Ints) -> Ints:
    """The ring of each application: its block of accounts, −1 for nearly all."""
    draws = Draws(seed, "rings")
    block = account // _RING_BLOCK
    first = draws.integers(0, _RING_BLOCK - _RING_SIZE, block, 1)
    place = account % _RING_BLOCK
    belongs = (place >= first) & (place < first + _RING_SIZE) & (slot == 0)
    belongs &= draws.happens(_RING_SHARE, block, 2)
    return np.where(belongs, block, -1)


def _ring_submitted(seed: int, account: Ints, ring: Ints, window: Window) -> Ints:
    """Within three days of each other, early enough to use the cards."""
    draws = Draws(seed, "rings/time")
    start = draws.integers(0, max(window.days - 45, 1), np.maximum(ring, 0), 1)
    moment = draws.integers(9 * 3_600, 3 * 86_400, account, 2)
    return (window.first + start) * DAY + moment * SECOND


def _presentable(frame: pl.DataFrame) -> pl.DataFrame:
    """Members of rings have papers that pass: a good score, a good income, no bankruptcy."""
    is_ring = pl.col("ring") >= 0
    passing = {
        "hit": pl.lit(0, pl.Int64),
        "score": pl.col("score").clip(690, 850),
        "has_bankruptcy": pl.lit(False),
        "income": pl.col("income").clip(7_500_000),
        "stated_income": pl.col("stated_income").clip(8_500_000),
    }
    return frame.with_columns(
        pl.when(is_ring).then(value).otherwise(pl.col(name)).alias(name)
        for name, value in passing.items()
    )


def _submitted(seed: int, account: Ints, slot: Ints, window: Window) -> Ints:
    """Most apply early enough for a year on book within the window; the rest come after."""
    draws = Draws(seed, "applications/time")
    early_days = max(window.days - _MATURITY_DAYS, int(window.days * 0.35))
    last = max(window.days - 10, early_days + 1)
    is_early = draws.happens(0.7, account, slot, 1)
    u = draws.uniform(account, slot, 2)
    by_day = np.concatenate([[0.0], np.cumsum(_demand(window))])
    low, middle, high = by_day[[0, early_days, last]]
    wanted = np.where(is_early, low + u * (middle - low), middle + u * (high - middle))
    hour = np.clip(18 + 3.5 * draws.normal(account, slot, 3), 0.1, 23.6)
    offset = np.searchsorted(by_day, wanted, side="right") - 1
    day = window.first + np.clip(offset, 0, last - 1)
    return day * DAY + (hour * 3_600).astype(np.int64) * SECOND


def _demand(window: Window) -> Floats:
    """Relative number of applications on each day of the window."""
    month = months_since_1970(np.arange(window.first, window.last + 1))
    return _SEASONS[month % 12] * np.where(month == drift_month(window), _CAMPAIGN, 1.0)


def _people(seed: int, account: Ints, slot: Ints, is_drifted: Bools) -> pl.DataFrame:
    draws = Draws(seed, "people")
    keys = (account, slot)
    risk = draws.normal(*keys, 1) + np.where(is_drifted, 0.4, 0.0)
    age = 21 + np.floor(50 * draws.uniform(*keys, 2) ** 1.4).astype(np.int64)
    income = 62_000 * np.exp(0.48 * draws.normal(*keys, 3) - 0.16 * risk)
    overstated = income * np.exp(0.10 * draws.normal(*keys, 4) + np.where(is_drifted, 0.12, 0.0))
    stated = np.round(overstated / 500) * 500
    housing = income / 12 * draws.between(0.16, 0.38, *keys, 5)
    hit = np.where(
        is_drifted,
        draws.choice([0.78, 0.16, 0.045, 0.008, 0.007], *keys, 6),
        draws.choice([0.88, 0.08, 0.025, 0.008, 0.007], *keys, 6),
    )
    score = 672 - 66 * (0.90 * risk + 0.44 * draws.normal(*keys, 7))
    has_bankruptcy = draws.happens(1 / (1 + np.exp(4.2 - 0.9 * risk)), *keys, 8) & (hit <= 1)
    history = np.clip((age - 19) * 12 * draws.between(0.25, 1.0, *keys, 9), 14, 420)
    history = np.where(hit == 1, draws.between(3, 20, *keys, 9), history)
    city = HOME_CITIES[draws.choice([CITIES[n].weight for n in HOME_CITIES], *keys, 10)]
    program = draws.choice([program.share for program in PROGRAMS], *keys, 11)
    channel = np.where(
        is_drifted,
        draws.choice([0.14, 0.10, 0.16, 0.10, 0.50], *keys, 12),
        draws.choice([0.34, 0.24, 0.16, 0.16, 0.10], *keys, 12),
    )
    employed = draws.choice([0.72, 0.12, 0.08, 0.05, 0.03], *keys, 13)
    asked = np.clip(np.round(income * draws.between(0.05, 0.30, *keys, 14) / 500), 2, 60) * 500
    return pl.DataFrame(
        {
            "account": account,
            "slot": slot,
            "person": slot,
            "risk": risk,
            "age": age,
            "income": (income * 100).astype(np.int64),
            "stated_income": (stated * 100).astype(np.int64),
            "housing": (np.round(housing / 10) * 1_000).astype(np.int64),
            "hit": hit,
            "score": np.clip(np.round(score), 300, 850).astype(np.int64),
            "has_bankruptcy": has_bankruptcy,
            "history_months": history.astype(np.int64),
            "city": city,
            "program": program,
            "channel": channel,
            "employment": employed,
            "asked_limit": (asked * 100).astype(np.int64),
        }
    )


def _decided(seed: int, frame: pl.DataFrame) -> pl.DataFrame:
    """Adds the decision, its time and source, the limit, and whether an account is booked."""
    draws = Draws(seed, "decisions")
    keys = (frame["account"].to_numpy(), frame["slot"].to_numpy())
    score, hit = frame["score"].to_numpy(), frame["hit"].to_numpy()
    income = frame["stated_income"].to_numpy()
    u = draws.uniform(*keys, 1)
    decision = np.select(
        [
            score >= 652,
            score >= 622,
            draws.happens(0.10, *keys, 2) & (score >= 570),
        ],
        [
            np.where(u < 0.95, APPROVED, DECLINED),
            np.where(u < 0.62, COUNTER_OFFER, np.where(u < 0.75, APPROVED, DECLINED)),
            np.full(len(u), APPROVED),
        ],
        default=DECLINED,
    )
    source = np.where((decision == APPROVED) & (score < 622), TEST_CELL, MODEL)
    by_rule = frame["has_bankruptcy"].to_numpy() | (income < 1_400_000) | (hit == 2) | (hit == 4)
    thick = np.where(by_rule, DECLINED, decision)
    source = np.where(by_rule, POLICY_RULE, source)
    lucky = by_rule & (hit == 2) & draws.happens(0.3, *keys, 3)
    decision = np.where(lucky, APPROVED, thick)
    source = np.where(lucky, MANUAL, source)
    leaving = draws.uniform(*keys, 4)
    decision = np.where(leaving < 0.03, WITHDRAWN, decision)
    decision = np.where((leaving >= 0.03) & (leaving < 0.05) | (hit == 3), INCOMPLETE, decision)
    source = np.where(np.isin(decision, (WITHDRAWN, INCOMPLETE)), APPLICANT, source)
    by_hand = draws.happens(0.07, *keys, 5) & (source == MODEL)
    source = np.where(by_hand, MANUAL, source)
    is_last = keys[1] == QUEUE - 1
    is_ring = frame["ring"].to_numpy() >= 0
    decision = np.where(is_last | is_ring, APPROVED, decision)
    source = np.where(is_last, MANUAL, np.where(is_ring, MODEL, source))
    accepted = np.where(decision == APPROVED, 0.95, np.where(decision == COUNTER_OFFER, 0.62, 0.0))
    booked = draws.happens(accepted, *keys, 6) | is_last | is_ring
    takes = np.where(
        source == MANUAL,
        draws.between(0.4 * 86_400, 4 * 86_400, *keys, 7),
        np.where(
            decision == COUNTER_OFFER,
            draws.between(60, 1_500, *keys, 7),
            draws.between(8, 90, *keys, 7),
        ),
    )
    takes = np.where(source == APPLICANT, draws.between(2 * 86_400, 20 * 86_400, *keys, 7), takes)
    strength = np.clip((score - 560) / 200, 0.15, 1.3)
    limit = income / 100 * 0.16 * strength * np.exp(0.15 * draws.normal(*keys, 8))
    limit = np.where(decision == COUNTER_OFFER, limit * 0.5, limit)
    limit = np.clip(np.round(limit / 500), 2, 50) * 50_000
    offered = np.isin(decision, (APPROVED, COUNTER_OFFER))
    return frame.with_columns(
        decision=pl.Series(decision),
        source=pl.Series(source),
        is_booked=pl.Series(booked),
        decided=pl.Series(frame["submitted"].to_numpy() + (takes * SECOND).astype(np.int64)),
        limit=pl.Series(np.where(offered, limit, -1).astype(np.int64)),
        pull_offset_days=pl.Series(np.zeros(len(u), np.int64)),
    )


def _second_applications(seed: int, frame: pl.DataFrame) -> pl.DataFrame:
    """Some who were declined try again one to five months later, and are declined again."""
    draws = Draws(seed, "second applications")
    keys = (frame["account"].to_numpy(), frame["slot"].to_numpy())
    again = draws.happens(0.12, *keys, 1) & (frame["decision"].to_numpy() == DECLINED)
    again &= frame["hit"].to_numpy() <= 2
    chosen = frame.filter(pl.Series(again))
    account, slot = chosen["account"].to_numpy(), chosen["slot"].to_numpy()
    wait = draws.integers(32, 150, account, slot, 2)
    submitted = chosen["submitted"].to_numpy() + wait * DAY
    submitted += draws.integers(-7_200, 7_200, account, slot, 4) * SECOND
    takes = draws.integers(8, 90, account, slot, 3) * SECOND
    return chosen.with_columns(
        slot=pl.col("slot") + _AGAIN,
        program=pl.Series(draws.choice([p.share for p in PROGRAMS], account, slot, 5)),
        submitted=pl.Series(submitted),
        decided=pl.Series(submitted + takes),
        source=pl.lit(MODEL, pl.Int64),
        decision=pl.lit(DECLINED, pl.Int64),
        is_booked=pl.lit(False),
        limit=pl.lit(-1, pl.Int64),
        pull_offset_days=pl.Series(wait),
        ring=pl.lit(-1, pl.Int64),
    ).select(frame.columns)


def _duplicates(seed: int, frame: pl.DataFrame) -> pl.DataFrame:
    """One applicant in fifty sends the same application again within the hour."""
    draws = Draws(seed, "duplicate applications")
    keys = (frame["account"].to_numpy(), frame["slot"].to_numpy())
    chosen = frame.filter(pl.Series(draws.happens(0.02, *keys, 1)) & (pl.col("hit") <= 2))
    account, slot = chosen["account"].to_numpy(), chosen["slot"].to_numpy()
    submitted = chosen["submitted"].to_numpy()
    submitted = submitted + draws.integers(60, 3_600, account, slot, 2) * SECOND
    return chosen.with_columns(
        slot=pl.col("slot") + _TWICE,
        submitted=pl.Series(submitted),
        decided=pl.Series(submitted + draws.integers(5, 20, account, slot, 3) * SECOND),
        source=pl.lit(POLICY_RULE, pl.Int64),
        decision=pl.lit(WITHDRAWN, pl.Int64),
        is_booked=pl.lit(False),
        limit=pl.lit(-1, pl.Int64),
        ring=pl.lit(-1, pl.Int64),
    ).select(frame.columns)
