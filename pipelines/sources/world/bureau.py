"""What the credit bureau returns for each application: Metro 2 shaped, driven by latent risk.

A person's file is generated on a fixed grid of months around the first application, so that a
second pull some months later shows the same tradelines, older, with a longer history.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.sources.world.applicants import FILE_HITS
from pipelines.sources.world.clock import (
    DAY,
    SECOND,
    dates,
    first_of_month,
    instants,
    months_since_1970,
)
from pipelines.sources.world.draws import Draws, Floats, Ints
from pipelines.sources.world.identifiers import letters
from pipelines.sources.world.onboarding import (
    application_ids,
    labels,
    person_suffix,
    pull_ids,
)

HISTORY_MONTHS = 24
_MONTHS_AFTER = 6
_CHARGED_OFF, _NOT_YET_OPEN = 7, 8
_HISTORY_CODES = np.frombuffer(b"0123456LB", np.uint8)
"""By state: 0 current, 1–6 so many months late, 7 charged off, 8 no history yet."""
_STATUS_CODES = ("11", "71", "78", "80", "82", "83", "84", "97")
_CLOSED_STATUS = "13"


@dataclass(frozen=True, slots=True)
class _Kind:
    """A sort of tradeline; `term_months` 0 is revolving."""

    portfolio_type: str
    account_type: str
    share: float
    median_minor: int
    term_months: int


_KINDS = (
    _Kind("R", "18", 0.52, 600_000, 0),
    _Kind("R", "07", 0.14, 150_000, 0),
    _Kind("I", "00", 0.18, 2_200_000, 66),
    _Kind("I", "12", 0.08, 1_800_000, 120),
    _Kind("M", "26", 0.08, 24_000_000, 360),
)
_INQUIRERS = ("BANK", "RETAIL", "AUTO", "MORTGAGE")
_PURPOSES = ("CREDIT_CARD", "CREDIT_CARD", "AUTO_LOAN", "MORTGAGE")


def bureau_frames(seed: int, applications: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Rows of the six bureau feeds for `applications`, with `received_at` (the pull's answer)."""
    pulls = _pulls(seed, applications)
    base = applications.with_columns(
        pull_id=pulls["pull_id"], answered=pulls["received_at"].cast(pl.Int64)
    )
    seen = base.filter(pl.col("hit").is_in([0, 1, 4]))
    lines = _lines(seed, seen)
    frames = {
        "bureau_pulls": pulls,
        "bureau_tradelines": _tradeline_rows(lines),
        "bureau_trended": _trended_rows(seed, lines),
        "bureau_inquiries": _inquiry_rows(seed, seen),
        "bureau_records": _record_rows(seed, seen),
        "bureau_attributes": _attribute_rows(seen, lines),
    }
    return {
        feed: frame
        if feed == "bureau_pulls"
        else frame.join(pulls.select("pull_id", "received_at"), on="pull_id", how="left")
        for feed, frame in frames.items()
    }


def _pulls(seed: int, applications: pl.DataFrame) -> pl.DataFrame:
    account, slot, person = (applications[n].to_numpy() for n in ("account", "slot", "person"))
    draws = Draws(seed, "bureau pulls")
    requested = applications["submitted"].to_numpy() + SECOND * 2
    received = requested + draws.integers(400_000, 3_500_000, account, slot, 1)
    hit = applications["hit"].to_numpy()
    scored = pl.Series(np.isin(hit, (0, 1, 4)))
    # A second pull of the same person shows a score a little off the first.
    drift = np.where(slot == person, 0, np.round(6 * draws.normal(account, slot, 2)))
    score = np.clip(applications["score"].to_numpy() + drift, 300, 850).astype(np.int64)
    return pl.DataFrame(
        {
            "pull_id": pull_ids(seed, account, slot),
            "person_id": "per_" + person_suffix(seed, account, person),
            "requested_at": instants(requested),
            "received_at": instants(received),
            "application_id": application_ids(seed, account, slot),
            "bureau": labels(("TRANSUNION", "EXPERIAN", "EQUIFAX"), account % 3),
            "pull_type": pl.repeat("HARD", len(account), eager=True),
            "file_hit": labels(FILE_HITS, hit),
            "score_name": pl.repeat("VANTAGESCORE_4", len(account), eager=True),
            "score": pl.Series(score).set(~scored, None),
        }
    )


@dataclass(frozen=True, slots=True)
class _Lines:
    """Tradelines of pulls: numbers in `frame`, `states` tradelines × 24 months, newest first."""

    frame: pl.DataFrame
    states: Ints


def _lines(seed: int, seen: pl.DataFrame) -> _Lines:
    draws = Draws(seed, "tradelines")
    person_keys = (seen["account"].to_numpy(), seen["person"].to_numpy())
    is_thin = seen["hit"].to_numpy() == 1
    history = seen["history_months"].to_numpy()
    extra = draws.poisson(np.clip(history / 40, 0.5, 7.0), *person_keys, 1)
    thin = draws.integers(1, 3, *person_keys, 2)
    count = np.where(is_thin, thin, np.minimum(3 + extra, 18))
    of = np.repeat(np.arange(seen.height), count)
    number = np.arange(of.size) - np.repeat(np.cumsum(count) - count, count)
    account, person = person_keys[0][of], person_keys[1][of]
    keys = (account, person, number)
    risk = seen["risk"].to_numpy()[of]
    kind = draws.choice([k.share for k in _KINDS], *keys, 3)
    kind = np.where(number == 0, 0, kind)
    term = np.array([k.term_months for k in _KINDS])[kind]
    is_revolving = term == 0
    pulled = seen["answered"].to_numpy()[of] // DAY
    anchor = pulled - seen["pull_offset_days"].to_numpy()[of]
    age = 1 + np.floor(draws.uniform(*keys, 4) ** 1.3 * history[of]).astype(np.int64)
    age = np.where(number == 0, history[of], age)
    opened = anchor - (age * 30.4).astype(np.int64) - draws.integers(0, 20, *keys, 5)
    limit = np.array([k.median_minor for k in _KINDS])[kind] * np.exp(
        0.6 * draws.normal(*keys, 6) - np.where(is_revolving, 0.30 * risk, 0.10 * risk)
    )
    limit = np.maximum(np.round(limit / 10_000), 3).astype(np.int64) * 10_000
    wear = 0.95 * risk + 0.60 * Draws(seed, "usage").normal(account, person, 1)
    usage = 1 / (1 + np.exp(-(-1.25 + wear + 0.8 * draws.normal(*keys, 7))))
    usage = np.where(draws.happens(0.12, *keys, 8), 0.0, usage)
    elapsed = (pulled - opened) / 30.4
    remaining = np.clip(1 - elapsed / np.maximum(term, 1), 0, 1)
    is_paid_off = ~is_revolving & (remaining <= 0)
    closed_share = draws.happens(0.16, *keys, 9) & (age > 14) & (number > 0)
    is_open = ~(closed_share | is_paid_off)
    states = _histories(seed, keys, risk=risk, opened=opened, anchor=anchor, seen=seen, of=of)
    late = states[:, 0]
    is_bad = (late >= 1) & (late < _NOT_YET_OPEN)
    is_open |= is_bad & (late < _CHARGED_OFF)
    is_open &= late != _CHARGED_OFF
    balance = np.where(is_revolving, limit * usage, limit * remaining)
    balance = np.where(is_open | (late == _CHARGED_OFF), balance, 0)
    balance = (np.round(balance / 100) * 100).astype(np.int64)
    balance = np.where(is_bad & (balance == 0), limit // 2 // 100 * 100, balance)
    scheduled = np.where(
        is_revolving,
        np.minimum(balance, np.maximum(2_500, balance * 25 // 1_000)),
        np.where(is_open, limit * 1.25 / np.maximum(term, 1), 0),
    )
    scheduled = (np.round(scheduled / 100) * 100).astype(np.int64)
    transactor = Draws(seed, "usage").uniform(account, person, 2) < 1 / (1 + np.exp(0.2 + risk))
    paid = np.where(
        is_bad,
        0,
        np.where(
            is_revolving & transactor,
            balance,
            (scheduled * draws.between(1.0, 1.8, *keys, 10)).astype(np.int64) // 100 * 100,
        ),
    )
    closed = anchor - draws.integers(5, 400, *keys, 11)
    closed = np.where(is_open, -1, np.clip(closed, opened + 30, pulled - 1))
    newest = first_of_month(months_since_1970(pulled) - 1)
    run = _months_in_trouble(states)
    first_bad = first_of_month(months_since_1970(newest) - run + 1) + 14
    frame = pl.DataFrame(
        {
            "pull": of,
            "pull_id": seen["pull_id"][of],
            "account": account,
            "person": person,
            "number": number,
            "kind": kind,
            "risk": risk,
            "pulled": pulled,
            "opened": opened,
            "age_months": np.floor(elapsed).astype(np.int64),
            "limit": limit,
            "balance": balance,
            "usage": np.where(is_revolving, usage, 0.0),
            "scheduled": scheduled,
            "paid": paid,
            "past_due": np.where(is_bad, np.minimum(balance, scheduled * late), 0),
            "late": np.where(late == _NOT_YET_OPEN, 0, late),
            "is_open": is_open,
            "is_revolving": is_revolving,
            "is_transactor": transactor,
            "closed": closed,
            "first_bad": np.where(is_bad, first_bad, -1),
            "ecoa": draws.choice([0.86, 0.08, 0.06], *keys, 12),
        }
    )
    return _Lines(frame, states)


def _histories(
    seed: int,
    keys: tuple[Ints, Ints, Ints],
    *,
    risk: Floats,
    opened: Ints,
    anchor: Ints,
    seen: pl.DataFrame,
    of: Ints,
) -> Ints:
    """Monthly states of each tradeline, newest first, as the pull sees them."""
    draws = Draws(seed, "payment history")
    months = HISTORY_MONTHS + _MONTHS_AFTER
    own = 0.35 * draws.normal(*keys, 999)
    hazard = np.clip(0.0045 * np.exp(1.35 * risk + own), 0, 0.3)
    grid = np.empty((of.size, months), np.int64)
    state = np.zeros(of.size, np.int64)
    for month in range(months):
        u = draws.uniform(*keys, month)
        worse = np.minimum(state + 1, 6)
        cures = np.clip(0.42 - 0.07 * state, 0.08, 1)
        later = np.where(u < cures, 0, np.where(u < 0.62, state, worse))
        written_off = (state == 6) & (u > 0.85)
        moved = np.where(state == 0, (u < hazard).astype(np.int64), later)
        moved = np.where(written_off, _CHARGED_OFF, moved)
        state = np.where(state == _CHARGED_OFF, _CHARGED_OFF, moved)
        grid[:, month] = state
    anchor_month = months_since_1970(anchor)
    before = months_since_1970(opened)[:, None] > (
        anchor_month[:, None] - HISTORY_MONTHS + np.arange(months)[None, :]
    )
    grid[before] = _NOT_YET_OPEN
    pulled_month = months_since_1970(seen["answered"].to_numpy() // DAY)[of]
    newest = HISTORY_MONTHS - 1 + np.clip(pulled_month - anchor_month, 0, _MONTHS_AFTER)
    columns = newest[:, None] - np.arange(HISTORY_MONTHS)[None, :]
    return np.take_along_axis(grid, columns, axis=1)


def _months_in_trouble(states: Ints) -> Ints:
    """How many months the newest delinquency has lasted; 0 where there is none."""
    is_bad = (states >= 1) & (states < _NOT_YET_OPEN)
    return np.where(is_bad.all(axis=1), states.shape[1], np.argmin(is_bad, axis=1))


def _tradeline_rows(lines: _Lines) -> pl.DataFrame:
    frame = lines.frame
    kind, late = frame["kind"].to_numpy(), frame["late"].to_numpy()
    status = pl.Series(_STATUS_CODES)[late]
    is_closed = ~frame["is_open"] & pl.Series(late == 0)
    # The newest month is the status; the history is of those before it.
    before = np.pad(lines.states[:, 1:], ((0, 0), (0, 1)), constant_values=_NOT_YET_OPEN)
    codes = np.ascontiguousarray(_HISTORY_CODES[before])
    history = pl.Series(values=codes.view(f"S{HISTORY_MONTHS}").ravel().astype(str))
    is_revolving = frame["is_revolving"]
    return pl.DataFrame(
        {
            "pull_id": frame["pull_id"],
            "tradeline_id": "trd_" + letters(frame["number"].to_numpy(), 2),
            "portfolio_type": labels(tuple(k.portfolio_type for k in _KINDS), kind),
            "opened_on": dates(frame["opened"].to_numpy()),
            "account_type": labels(tuple(k.account_type for k in _KINDS), kind),
            "ecoa_code": labels(("1", "2", "3"), frame["ecoa"].to_numpy()),
            "credit_limit_minor": frame["limit"].set(~is_revolving, None),
            "highest_credit_minor": pl.Series(
                np.where(
                    is_revolving.to_numpy(),
                    np.maximum(frame["balance"].to_numpy(), frame["limit"].to_numpy() * 6 // 10),
                    frame["limit"].to_numpy(),
                )
            ),
            "balance_minor": frame["balance"],
            "past_due_minor": frame["past_due"],
            "scheduled_payment_minor": frame["scheduled"],
            "actual_payment_minor": frame["paid"],
            "currency": pl.repeat("USD", frame.height, eager=True),
            "account_status": status.set(is_closed, _CLOSED_STATUS),
            "payment_history": history,
            "first_delinquency_on": dates(frame["first_bad"].to_numpy()),
            "closed_on": dates(frame["closed"].to_numpy()),
            "is_open": frame["is_open"],
        }
    )


def _trended_rows(seed: int, lines: _Lines) -> pl.DataFrame:
    """24 months of every open revolving tradeline, back to its opening."""
    chosen = np.flatnonzero((lines.frame["is_open"] & lines.frame["is_revolving"]).to_numpy())
    frame = lines.frame[chosen]
    states = lines.states[chosen]
    draws = Draws(seed, "trended")
    account, person, number = (frame[n].to_numpy() for n in ("account", "person", "number"))
    month_of_pull = months_since_1970(frame["pulled"].to_numpy())
    ago = np.arange(HISTORY_MONTHS)[None, :]
    month = month_of_pull[:, None] - 1 - ago
    wave = 0.35 * draws.normal(account[:, None], person[:, None], number[:, None], month)
    slope = 0.02 * frame["risk"].to_numpy() + 0.02 * draws.normal(account, person, number, 1 << 20)
    usage = frame["usage"].to_numpy()[:, None] * np.exp(wave * (ago > 0) - slope[:, None] * ago)
    limit = frame["limit"].to_numpy()
    balance = (np.clip(usage, 0, 1.05) * limit[:, None] // 100).astype(np.int64) * 100
    scheduled = np.minimum(balance, np.maximum(2_500, balance * 25 // 100_000 * 100))
    share = draws.uniform(account[:, None], person[:, None], number[:, None], month + (1 << 21))
    partly = np.minimum(balance, (scheduled * (1 + 1.5 * share) // 100).astype(np.int64) * 100)
    paid = np.where(frame["is_transactor"].to_numpy()[:, None], balance, partly)
    days_late = np.where((states >= 1) & (states < _NOT_YET_OPEN), states * 30, 0)
    paid = np.where(days_late > 0, 0, paid)
    exists = states != _NOT_YET_OPEN
    row, column = np.nonzero(exists)
    return pl.DataFrame(
        {
            "pull_id": frame["pull_id"][row],
            "tradeline_id": "trd_" + letters(number[row], 2),
            "month_on": dates(first_of_month(month[row, column])),
            "balance_minor": balance[row, column],
            "credit_limit_minor": limit[row],
            "scheduled_payment_minor": scheduled[row, column],
            "actual_payment_minor": paid[row, column],
            "days_past_due": days_late[row, column],
            "currency": pl.repeat("USD", row.size, eager=True),
        }
    )


def _inquiry_rows(seed: int, seen: pl.DataFrame) -> pl.DataFrame:
    draws = Draws(seed, "inquiries")
    account, person = seen["account"].to_numpy(), seen["person"].to_numpy()
    risk = seen["risk"].to_numpy()
    count = np.minimum(draws.poisson(1.6 * np.exp(0.55 * risk), account, person, 1), 18)
    of = np.repeat(np.arange(seen.height), count)
    number = np.arange(of.size) - np.repeat(np.cumsum(count) - count, count)
    keys = (account[of], person[of], number)
    pulled = seen["answered"].to_numpy() // DAY
    anchor = pulled - seen["pull_offset_days"].to_numpy()
    # People under pressure ask in bursts just before they apply.
    ago = 1 + 729 * draws.uniform(*keys, 2) ** (1.4 + 0.4 * np.clip(risk[of], -1, 2))
    kind = draws.choice([0.52, 0.20, 0.19, 0.09], *keys, 3)
    rows = pl.DataFrame(
        {
            "pull_id": seen["pull_id"][of],
            "inquiry_id": "inq_" + letters(number, 2),
            "inquired_on": dates(anchor[of] - ago.astype(np.int64)),
            "subscriber_kind": labels(_INQUIRERS, kind),
            "purpose": labels(_PURPOSES, kind),
        }
    )
    # A second pull shows the inquiry that the first one left.
    again = np.flatnonzero(seen["pull_offset_days"].to_numpy() > 0)
    own = pl.DataFrame(
        {
            "pull_id": seen["pull_id"][again],
            "inquiry_id": "inq_" + letters(np.full(again.size, 399), 2),
            "inquired_on": dates(anchor[again]),
            "subscriber_kind": pl.repeat("BANK", again.size, eager=True),
            "purpose": pl.repeat("CREDIT_CARD", again.size, eager=True),
        }
    )
    return pl.concat([rows, own.select(rows.columns)])


def _record_rows(seed: int, seen: pl.DataFrame) -> pl.DataFrame:
    draws = Draws(seed, "public records")
    account, person = seen["account"].to_numpy(), seen["person"].to_numpy()
    risk = seen["risk"].to_numpy()
    pulled = seen["answered"].to_numpy() // DAY
    anchor = pulled - seen["pull_offset_days"].to_numpy()
    collections = np.minimum(draws.poisson(0.10 * np.exp(1.1 * risk), account, person, 1), 6)
    counts = {
        "COLLECTION": collections,
        "BANKRUPTCY": seen["has_bankruptcy"].to_numpy().astype(np.int64),
        "JUDGMENT": draws.happens(0.006, account, person, 2).astype(np.int64),
        "LIEN": draws.happens(0.006, account, person, 3).astype(np.int64),
    }
    parts: list[pl.DataFrame] = []
    for code, (kind, count) in enumerate(counts.items()):
        of = np.repeat(np.arange(seen.height), count)
        number = np.arange(of.size) - np.repeat(np.cumsum(count) - count, count)
        keys = (account[of], person[of], number, code)
        oldest = 1_900 if kind == "BANKRUPTCY" else 1_400
        filed = anchor[of] - draws.integers(40, oldest, *keys, 1)
        resolved = filed + draws.integers(60, 500, *keys, 2)
        is_open = draws.happens(0.45, *keys, 3) | (resolved >= pulled[of])
        is_medical = draws.happens(0.35, *keys, 4) & (kind == "COLLECTION")
        amount = np.round(60_000 * np.exp(0.9 * draws.normal(*keys, 5)) / 100) * 100
        parts.append(
            pl.DataFrame(
                {
                    "pull_id": seen["pull_id"][of],
                    "record_id": "rec_" + letters(code * 20 + number, 2),
                    "kind": pl.repeat(kind, of.size, eager=True),
                    "filed_on": dates(filed),
                    "resolved_on": dates(np.where(is_open, -1, resolved)),
                    "amount_minor": pl.Series(amount.astype(np.int64)),
                    "currency": pl.repeat("USD", of.size, eager=True),
                    "is_medical": pl.Series(is_medical),
                }
            )
        )
    return pl.concat(parts)


def _attribute_rows(seen: pl.DataFrame, lines: _Lines) -> pl.DataFrame:
    """Vendor attributes from the same tradelines; a special code where there is nothing to count.

    AT20S months since the oldest trade, BC20S since the oldest bankcard, AT36S since the last
    delinquency, AT103S percent of open trades that are satisfactory, RVLR01 revolving
    utilisation in percent, BALMAG01 magnitude of revolving balances.
    """
    bad = (lines.states >= 1) & (lines.states < _NOT_YET_OPEN)
    since_bad = np.where(bad.any(axis=1), np.argmax(bad, axis=1), 999)
    counted = lines.frame.with_columns(since_bad=pl.Series(since_bad)).with_columns(
        is_bankcard=pl.col("kind") == 0,
        is_open_revolving=pl.col("is_open") & pl.col("is_revolving"),
    )
    revolving = pl.col("is_open_revolving")
    per_pull = counted.group_by("pull", maintain_order=True).agg(
        AT20S=pl.col("age_months").max(),
        BC20S=pl.col("age_months").filter("is_bankcard").max(),
        AT36S=pl.col("since_bad").min().replace(999, None),
        AT103S=(pl.col("late") == 0).filter("is_open").mean() * 100,
        RVLR01=pl.col("balance").filter(revolving).sum()
        / pl.col("limit").filter(revolving).sum()
        * 100,
        BALMAG01=(1 + pl.col("balance").filter(revolving).sum().clip(100).cast(float).log10()),
    )
    names = ["AT20S", "BC20S", "AT36S", "AT103S", "RVLR01", "BALMAG01"]
    codes = {"AT36S": "NO_DELINQUENCY", "BC20S": "NO_BANKCARD"}
    return (
        per_pull.with_columns(
            pl.col(name).cast(pl.Float64).fill_nan(None).round(2) for name in names
        )
        .with_columns(pull_id=seen["pull_id"][per_pull["pull"].to_numpy()])
        .unpivot(names, index="pull_id", variable_name="attribute_name", value_name="value")
        .with_columns(
            special_code=pl.when(pl.col("value").is_null()).then(
                pl.col("attribute_name").replace_strict(codes, default="NO_TRADES")
            )
        )
    )
