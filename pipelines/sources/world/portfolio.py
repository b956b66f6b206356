"""Rows of the feeds `accounts`, `payments`, `statements` and `reward_events`."""

import numpy as np
import polars as pl

from pipelines.sources.world import servicing
from pipelines.sources.world.clock import (
    DAY,
    DUE_AFTER_DAYS,
    HOUR,
    SECOND,
    Window,
    dates,
    instants,
    months_since_1970,
    weekly_delivery,
)
from pipelines.sources.world.draws import Draws
from pipelines.sources.world.holders import Holders
from pipelines.sources.world.identifiers import Identifiers, letters
from pipelines.sources.world.onboarding import account_ids, labels, person_suffix
from pipelines.sources.world.programs import PROGRAMS, apr_bps
from pipelines.sources.world.servicing import Serviced

_STATUS = ("OPEN", "SUSPENDED", "CLOSED", "CLOSED")
METHODS = ("ACH", "CHECK", "DEBIT_CARD")
STATEMENT_LINES = (
    "purchases", "cash_advances", "balance_transfers", "fees", "interest", "other_debits",
    "payments", "credits",
)  # fmt: skip
_PROGRAM_IDS = tuple(program.program_id for program in PROGRAMS)


def account_rows(seed: int, holders: Holders, serviced: Serviced) -> pl.DataFrame:
    """Every version of every account, by weekly files."""
    versions = serviced.versions
    holder, at = versions["holder"].to_numpy(), versions["at"].to_numpy()
    status, dpd = versions["status"].to_numpy(), versions["dpd"].to_numpy()
    number = holders.number[holder]
    is_closed = np.isin(status, (servicing.CHARGED_OFF, servicing.CLOSED))
    charged_off = status == servicing.CHARGED_OFF
    substatus = np.select(
        [charged_off, status == servicing.CLOSED, dpd >= 30],
        ["CHARGED_OFF_DELINQUENT", "END_USER_REQUEST", "DELINQUENT"],
        default="",
    )
    count = versions.height
    return pl.DataFrame(
        {
            "account_id": account_ids(seed, number),
            "customer_id": "cus_" + person_suffix(seed, number, holders.person[holder]),
            "program_id": labels(_PROGRAM_IDS, holders.program[holder]),
            "opened_on": dates(holders.opened_on[holder]),
            "credit_limit_minor": versions["limit"],
            "currency": pl.repeat("USD", count, eager=True),
            "updated_at": instants(at),
            "status": labels(_STATUS, status),
            "substatus": pl.Series(substatus.tolist(), dtype=pl.String).replace("", None),
            "apr_bps": pl.Series(apr_bps(holders.program[holder], at // DAY)),
            "cycle_day": pl.Series(holders.cycles.cycle_day[holder]),
            "closed_on": dates(np.where(is_closed, at // DAY, -1)),
            "close_reason": pl.Series(
                np.where(charged_off, "CHARGE_OFF", "CUSTOMER_REQUEST").tolist(), dtype=pl.String
            ).set(pl.Series(~is_closed), None),
            "charge_off_on": dates(np.where(charged_off, at // DAY, -1)),
            "tier": pl.repeat("STANDARD", count, eager=True),
            "received_at": instants(weekly_delivery(at)),
        }
    )


def payment_rows(seed: int, holders: Holders, serviced: Serviced) -> pl.DataFrame:
    """A version of each payment when it starts, settles and, for some, comes back."""
    payments = serviced.payments
    holder, cycle = payments["holder"].to_numpy(), payments["cycle"].to_numpy()
    number = holders.number[holder]
    names = Identifiers(seed).of("account", number)
    initiated, settled = payments["initiated"].to_numpy(), payments["settled"].to_numpy()
    returned = payments["returned"].to_numpy()
    never = np.full(payments.height, -1, np.int64)
    base = pl.DataFrame(
        {
            "payment_id": "pay_" + names + letters(cycle, 2),
            "account_id": account_ids(seed, number),
            "amount_minor": payments["amount"],
            "currency": pl.repeat("USD", payments.height, eager=True),
            "initiated_at": instants(initiated),
            "method": labels(METHODS, payments["method"].to_numpy()),
        }
    )

    def version(state: str, settled_at, returned_at, known) -> pl.DataFrame:
        return base.with_columns(
            state=pl.lit(state),
            settled_at=instants(settled_at),
            returned_at=instants(returned_at),
            return_reason=pl.lit("INSUFFICIENT_FUNDS" if state == "RETURNED" else None, pl.String),
            received_at=instants(known),
        )

    came_back = pl.Series(returned >= 0)
    return pl.concat(
        [
            version("INITIATED", never, never, initiated + 5 * SECOND),
            version("SETTLED", settled, never, settled + HOUR),
            version("RETURNED", settled, returned, returned + HOUR).filter(came_back),
        ]
    )


def statement_rows(seed: int, holders: Holders, serviced: Serviced) -> pl.DataFrame:
    """Statements, delivered two days after their period ends: then all that they sum is known."""
    frame = serviced.statements
    holder, cycle = frame["holder"].to_numpy(), frame["cycle"].to_numpy()
    number, end = holders.number[holder], frame["end"].to_numpy()
    return pl.DataFrame(
        {
            "statement_id": "stm_" + Identifiers(seed).of("account", number) + letters(cycle, 2),
            "account_id": account_ids(seed, number),
            "period_start_on": dates(frame["start"].to_numpy()),
            "period_end_on": dates(end),
            "opening_balance_minor": frame["opening"],
            "closing_balance_minor": frame["closing"],
            "currency": pl.repeat("USD", frame.height, eager=True),
            "due_on": dates(end + DUE_AFTER_DAYS),
            "credit_limit_minor": frame["limit"],
            "minimum_due_minor": frame["minimum"],
            **{f"{line}_minor": frame[line] for line in STATEMENT_LINES},
            "days_past_due": frame["dpd"],
            "received_at": instants((end + 2) * DAY + 6 * HOUR),
        }
    )


def reward_event_rows(
    seed: int, holders: Holders, serviced: Serviced, window: Window
) -> pl.DataFrame:
    """Enrolments, redemptions, few cancellations and transfers, activations, goodwill points.

    Members of the airline program redeem with the airline, so nothing of it shows here.
    """
    names = Identifiers(seed).of("account", holders.number)
    accounts = account_ids(seed, holders.number)
    programs = labels(_PROGRAM_IDS, holders.program)
    posted_to_partner = np.array(
        [p.network == "VISA" and p.partner_id is not None for p in PROGRAMS]
    )

    def rows(holder, kind, at, tag, points, *, reference=None, offer=None) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "reward_event_id": "rwe_" + names[holder] + tag,
                "account_id": accounts[holder],
                "program_id": programs[holder],
                "kind": kind,
                "event_at": instants(at),
                "points": pl.Series(points, dtype=pl.Int64)
                if points is not None
                else pl.repeat(None, holder.size, dtype=pl.Int64, eager=True),
                "reference": reference
                if reference is not None
                else pl.repeat(None, holder.size, dtype=pl.String, eager=True),
                "offer_id": offer
                if offer is not None
                else pl.repeat(None, holder.size, dtype=pl.String, eager=True),
                "received_at": instants(at + 2 * SECOND),
            }
        )

    everyone = np.arange(holders.count)
    draws = Draws(seed, "loyalty")
    parts = [
        rows(
            everyone,
            pl.repeat("ENROL", everyone.size, eager=True),
            holders.opened_at + 10 * SECOND,
            pl.repeat("nrl", everyone.size, eager=True),
            None,
        )
    ]
    redeemed = serviced.redemptions
    redeemed = redeemed.filter(
        ~pl.Series(posted_to_partner[holders.program[redeemed["holder"].to_numpy()]])
    )
    holder, cycle = redeemed["holder"].to_numpy(), redeemed["cycle"].to_numpy()
    at = redeemed["at"].to_numpy()
    is_transfer = draws.happens(0.06, holders.number[holder], cycle, 1)
    is_transfer &= ~(redeemed["is_cancelled"] | redeemed["is_robbery"]).to_numpy()
    is_transfer &= holders.program[holder] == 1
    kinds = pl.Series(np.where(is_transfer, "TRANSFER", "REDEEM").tolist(), dtype=pl.String)
    tags = letters(cycle, 2)
    parts.append(rows(holder, kinds, at, tags + "r", redeemed["points"].to_numpy()))
    gone = np.flatnonzero(redeemed["is_cancelled"].to_numpy())
    parts.append(
        rows(
            holder[gone],
            pl.repeat("REDEEM_CANCEL", gone.size, eager=True),
            at[gone] + 30 * HOUR,
            tags[gone] + "x",
            redeemed["points"].to_numpy()[gone],
            reference="rwe_" + names[holder[gone]] + tags[gone] + "r",
        )
    )
    parts.append(_activations(draws, holders, window, rows))
    parts.append(_promotion(draws, holders, window, rows))
    kind_hearted = np.flatnonzero(draws.happens(0.03, holders.number, 3))
    moment = holders.first_use[kind_hearted] + draws.integers(
        20, 200, holders.number[kind_hearted], 4
    )
    parts.append(
        rows(
            kind_hearted,
            pl.repeat("ADJUST", kind_hearted.size, eager=True),
            moment * DAY + 16 * HOUR,
            pl.repeat("dj", kind_hearted.size, eager=True),
            np.full(kind_hearted.size, 500),
            reference=pl.repeat("GOODWILL", kind_hearted.size, eager=True),
        )
    )
    return pl.concat(parts)


def _activations(draws: Draws, holders: Holders, window: Window, rows) -> pl.DataFrame:
    """A third of the retailer's members activate the offer of each quarter in its first weeks."""
    quarters = np.arange(
        months_since_1970(np.array([window.first]))[0] // 3,
        months_since_1970(np.array([window.last]))[0] // 3 + 1,
    )
    holder = np.repeat(np.arange(holders.count), quarters.size)
    quarter = np.tile(quarters, holders.count)
    number = holders.number[holder]
    start = (quarter * 3).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    at = (start + draws.integers(0, 21, number, quarter, 5)) * DAY + 17 * HOUR
    takes = draws.happens(0.33, number, quarter, 6) & (holders.program[holder] == 1)
    takes &= at > holders.opened_at[holder] + DAY
    holder, quarter, at = holder[takes], quarter[takes], at[takes]
    offers = [f"mercato_{1970 + q // 4}_q{q % 4 + 1}" for q in quarter.tolist()]
    return rows(
        holder,
        pl.repeat("ACTIVATE", holder.size, eager=True),
        at,
        letters(quarter % 400, 2) + "v",
        None,
        offer=pl.Series(offers, dtype=pl.String),
    )


def _promotion(draws: Draws, holders: Holders, window: Window, rows) -> pl.DataFrame:
    """A fifth of the airline's members sign up in May or June for its summer promotion."""
    years = np.unique(1970 + months_since_1970(np.arange(window.first, window.last + 1)) // 12)
    holder = np.repeat(np.arange(holders.count), years.size)
    year = np.tile(years, holders.count)
    number = holders.number[holder]
    may = ((year - 1970) * 12 + 4).astype("datetime64[M]").astype("datetime64[D]")
    at = (may.astype(np.int64) + draws.integers(0, 61, number, year, 7)) * DAY + 18 * HOUR
    takes = draws.happens(0.2, number, year, 8) & (holders.program[holder] == 0)
    takes &= at > holders.opened_at[holder] + DAY
    holder, year, at = holder[takes], year[takes], at[takes]
    return rows(
        holder,
        pl.repeat("ACTIVATE", holder.size, eager=True),
        at,
        letters(year % 400, 2) + "w",
        None,
        offer=pl.Series([f"skyline_{y}_summer" for y in year.tolist()], dtype=pl.String),
    )
