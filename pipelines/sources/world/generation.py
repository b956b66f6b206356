"""Making the synthetic world: chunk by chunk of accounts, each written as soon as it is made."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.errors import CardlineError
from pipelines.files import written_aside
from pipelines.progress import track
from pipelines.sources.landing import LandingWriter
from pipelines.sources.world import applicants, settlement
from pipelines.sources.world.attempts import genuine_attempts
from pipelines.sources.world.bureau import bureau_frames
from pipelines.sources.world.cards import build_cards, card_rows
from pipelines.sources.world.claims import dispute_rows, label_rows
from pipelines.sources.world.clock import DAY, Window, dates, instants
from pipelines.sources.world.delivery import deliver
from pipelines.sources.world.fraud import SCENARIOS, card_blocks, fraud_attempts
from pipelines.sources.world.holders import Holders, build_holders
from pipelines.sources.world.lifecycle import plan
from pipelines.sources.world.merchants import Merchants, build_merchants, merchant_rows
from pipelines.sources.world.messages import build_messages
from pipelines.sources.world.onboarding import (
    account_ids,
    application_rows,
    customer_rows,
    person_suffix,
)
from pipelines.sources.world.portfolio import (
    account_rows,
    payment_rows,
    reward_event_rows,
    statement_rows,
)
from pipelines.sources.world.programs import PROGRAMS
from pipelines.sources.world.servicing import mature_bad_rate, service
from pipelines.sources.world.story import Story

DEFAULT_END = date(2026, 10, 31)
LEAST_DAYS = 28
CHUNK = 2_000
"""Accounts made at a time: with two threads about 3 GB of memory over a year and a half."""
THREADS = 2
"""Chunks made at the same time. Nearly all work is in NumPy and Polars, which let go of the GIL."""


@dataclass(frozen=True, slots=True)
class WorldSummary:
    """What was made. Rates are shares: bad ones (ever 90 days late in their first twelve months)
    of the accounts with a year on book, fraud of the transactions that were attempted."""

    starts_on: date
    ends_on: date
    accounts: int
    applications: int
    transactions: int
    fraud_transactions: int
    mature_accounts: int
    bad_rate: float
    fraud_rate: float
    rows: dict[str, int]
    files: int
    truth: Path


@dataclass(slots=True)
class _Chunk:
    rows: Counter[str]
    files: int
    settled: pl.DataFrame
    applications: int
    transactions: int
    frauds: int
    mature: int
    bad: int


def generate(
    landing: Path,
    accounts: int,
    days: int,
    seed: int,
    ends_on: date | None = None,
    *,
    truth: Path | None = None,
) -> WorldSummary:
    """Write the landing files of a world of `accounts` accounts over `days` days.

    The same arguments give the same bytes; more accounts add rows and change none of the others.
    `ends_on` is the last day (2026-10-31 if none is given). What the pipeline must not know,
    latent risk and what is fraud, goes to the folder `truth` (`truth` beside `landing`).
    A short world lacks what takes longer than it lasts: below 60 days statements past due, late
    fees and worn cards, below 120 days closed disputes and late refunds, below 210 days charge-offs
    and bust-outs, below 400 days accounts with a year on book. Raises `CardlineError` where the
    world would be empty.
    """
    if accounts < 1 or days < LEAST_DAYS:
        raise CardlineError(
            f"a world needs at least 1 account and {LEAST_DAYS} days, not {accounts} and {days}"
        )
    window = Window.ending(ends_on or DEFAULT_END, days)
    truth = truth or landing.parent / "truth"
    merchants = merchants_of(seed, window)
    common = LandingWriter(landing)
    files = deliver(common, {"merchants": merchant_rows(merchants, window)}, window, "part-0")

    def make(part: int) -> _Chunk:
        first = part * CHUNK
        count = min(CHUNK, accounts - first)
        return _make(LandingWriter(landing), truth, seed, first, count, merchants, window)

    parts = range(-(-accounts // CHUNK))
    with ThreadPoolExecutor(THREADS) as pool:
        done = list(track(pool.map(make, parts), "Making the world", len(parts)))
    fees, totals = settlement.closing_rows([chunk.settled for chunk in done], window)
    files += deliver(
        common, {"settlement_details": fees, "settlement_totals": totals}, window, "totals"
    )
    files += sum(chunk.files for chunk in done)
    rows = sum((chunk.rows for chunk in done), Counter(common.rows))
    transactions = sum(chunk.transactions for chunk in done)
    frauds, mature = sum(chunk.frauds for chunk in done), sum(chunk.mature for chunk in done)
    summary = WorldSummary(
        starts_on=window.starts_on,
        ends_on=window.ends_on,
        accounts=accounts,
        applications=sum(chunk.applications for chunk in done),
        transactions=transactions,
        fraud_transactions=frauds,
        mature_accounts=mature,
        bad_rate=sum(chunk.bad for chunk in done) / max(mature, 1),
        fraud_rate=frauds / max(transactions, 1),
        rows=dict(sorted(rows.items())),
        files=files,
        truth=truth,
    )
    with written_aside(truth / "summary.json") as aside:
        aside.write_text(json.dumps(asdict(summary), default=str, indent=1) + "\n")
    return summary


def _make(
    writer: LandingWriter,
    truth: Path,
    seed: int,
    first: int,
    count: int,
    merchants: Merchants,
    window: Window,
) -> _Chunk:
    """Make and write all rows of the accounts `first` … `first + count − 1`."""
    story = tell(seed, first, count, merchants, window)
    holders, serviced = story.holders, story.serviced
    messages = build_messages(story)
    ids = messages.transaction_ids
    details = settlement.settlement_detail_rows(holders, messages.rows)
    feeds = {
        "applications": application_rows(seed, story.applications),
        "customers": customer_rows(seed, story.applications, _taken_over(story)),
        **bureau_frames(seed, story.applications),
        "accounts": account_rows(seed, holders, serviced),
        "cards": card_rows(seed, holders, story.cards),
        "transactions": messages.rows,
        "payments": payment_rows(seed, holders, serviced),
        "statements": statement_rows(seed, holders, serviced),
        "fraud_labels": label_rows(story, ids),
        "disputes": dispute_rows(story, ids),
        "settlement_details": details,
        "reward_events": reward_event_rows(seed, holders, serviced, window),
    }
    part = first // CHUNK
    files = deliver(writer, feeds, window, f"part-{part}")
    for name, frame in {
        "risk": _risk_truth(seed, holders),
        "fraud": _fraud_truth(story, ids),
        "takeovers": _takeover_truth(story, feeds["reward_events"]),
    }.items():
        with written_aside(truth / f"{name}-{part}.parquet") as aside:
            frame.write_parquet(aside)
    mature, is_bad = mature_bad_rate(serviced, holders, window)
    is_fraud = story.attempts["incident"].to_numpy() >= 0
    return _Chunk(
        rows=Counter(writer.rows),
        files=files,
        settled=settlement.sums(details),
        applications=story.applications.height,
        transactions=int(serviced.emitted.sum()),
        frauds=int((serviced.emitted & is_fraud).sum()),
        mature=mature,
        bad=int(is_bad.sum()),
    )


def merchants_of(seed: int, window: Window) -> Merchants:
    """The world's merchants, those of the programs' partners among them."""
    partners = tuple(
        (p.partner_id, p.partner_category) if p.partner_id and p.partner_category else None
        for p in PROGRAMS
    )
    return build_merchants(seed, window, partners)


def tell(seed: int, first: int, count: int, merchants: Merchants, window: Window) -> Story:
    """What happens to the accounts `first` … `first + count − 1`."""
    applications = applicants.build_applications(seed, first, count, window)
    return live(seed, applications, merchants, window)


def live(seed: int, applications: pl.DataFrame, merchants: Merchants, window: Window) -> Story:
    """What happens to the accounts that `applications` booked; their numbers choose their fates."""
    holders = build_holders(seed, applications, window)
    genuine = genuine_attempts(seed, holders, merchants, window)
    frauds, incidents = fraud_attempts(seed, holders, merchants, genuine, window)
    blocks = card_blocks(seed, holders, incidents, window)
    attempts = pl.concat([genuine, frauds])
    blocked = blocks.covers(attempts["holder"].to_numpy(), attempts["at"].to_numpy())
    attempts = attempts.filter(~pl.Series(blocked)).sort("holder", "at", "salt")
    plans = plan(seed, holders, merchants, attempts, incidents)
    return Story(
        seed=seed,
        window=window,
        merchants=merchants,
        applications=applications,
        holders=holders,
        attempts=attempts,
        incidents=incidents,
        plans=plans,
        serviced=service(
            seed, holders, attempts, plans, window, incidents.takeovers(holders.count)
        ),
        cards=build_cards(seed, holders, blocks, window),
    )


def _risk_truth(seed: int, holders: Holders) -> pl.DataFrame:
    onset = np.where(holders.hardship.any(axis=1), np.argmax(holders.hardship, axis=1), -1)
    return pl.DataFrame(
        {
            "account_id": account_ids(seed, holders.number),
            "person_id": "per_" + person_suffix(seed, holders.number, holders.person),
            "latent_risk": holders.risk,
            "application_ring": holders.ring,
            "bust_out_on": dates(holders.bust_day),
            "hardship_from_cycle": onset,
        }
    )


def _fraud_truth(story: Story, ids: pl.Series) -> pl.DataFrame:
    incidents, serviced = story.incidents, story.serviced
    incident = story.attempts["incident"].to_numpy()
    rows = np.flatnonzero((incident >= 0) & serviced.emitted)
    return pl.DataFrame(
        {
            "transaction_id": ids[rows],
            "incident": incident[rows],
            "scenario": pl.Series(SCENARIOS)[incidents.scenario[incident[rows]]],
            "is_approved": serviced.approved[rows],
            "is_ever_known": incidents.known_at[incident[rows]] >= 0,
        }
    )


def _taken_over(story: Story) -> pl.DataFrame:
    """`account` and `at` of the takeovers within the window."""
    at = story.incidents.takeovers(story.holders.count)
    rows = np.flatnonzero((at >= 0) & (at < (story.window.last + 1) * DAY))
    return pl.DataFrame({"account": story.holders.number[rows], "at": at[rows]})


def _takeover_truth(story: Story, reward_events: pl.DataFrame) -> pl.DataFrame:
    """Accounts that were taken over, when, and the redemption with which it began."""
    taken = _taken_over(story)
    of_account = pl.DataFrame(
        {
            "account_id": account_ids(story.seed, taken["account"].to_numpy()),
            "taken_over_at": instants(taken["at"].to_numpy()),
        }
    )
    redeemed = reward_events.filter(pl.col("kind") == "REDEEM").select(
        "account_id", "reward_event_id", "event_at"
    )
    found = of_account.join(redeemed, on="account_id", how="left").filter(
        pl.col("event_at") == pl.col("taken_over_at") + pl.duration(minutes=30)
    )
    return of_account.join(
        found.select("account_id", "reward_event_id"), on="account_id", how="left"
    )
