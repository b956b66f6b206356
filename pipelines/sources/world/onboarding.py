"""Rows of the feeds `applications` and `customers`."""

import numpy as np
import polars as pl

from pipelines.sources.world import applicants
from pipelines.sources.world.clock import (
    DAY,
    SECOND,
    instants,
    months_since_1970,
    weekly_delivery,
)
from pipelines.sources.world.draws import Draws, Ints
from pipelines.sources.world.identifiers import Identifiers, letters
from pipelines.sources.world.merchants import CITIES
from pipelines.sources.world.programs import PROGRAMS

REVIEW_AFTER = 900 * SECOND
"""A decision that takes longer leaves a PENDING version of the application behind."""


def person_suffix(seed: int, account: Ints, person: Ints) -> pl.Series:
    """Letters that tell people apart."""
    return Identifiers(seed).of("person", account) + letters(person, 1)


def pull_ids(seed: int, account: Ints, slot: Ints) -> pl.Series:
    """The bureau pull of each application."""
    return "pul_" + Identifiers(seed).of("pull", account) + letters(slot, 2)


def application_ids(seed: int, account: Ints, slot: Ints) -> pl.Series:
    """Applications by their queue and place in it."""
    return "app_" + Identifiers(seed).of("application", account) + letters(slot, 2)


def account_ids(seed: int, account: Ints) -> pl.Series:
    """Accounts by their number."""
    return "acc_" + Identifiers(seed).of("account", account)


def labels(names: tuple[str, ...], codes: Ints) -> pl.Series:
    """Names of small codes."""
    return pl.Series(names)[codes]


def application_rows(seed: int, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of the `applications` feed, with `received_at`.

    The decision engine is an API: a row is known when it is written. Where a person looks at it,
    a PENDING version is known at once and the decided one at `decision_at`; never after that.
    """
    account, slot, person = (frame[name].to_numpy() for name in ("account", "slot", "person"))
    draws = Draws(seed, "applications/devices")
    device = Identifiers(seed).of("applicant device", account) + letters(person, 2)
    # One device in fifty has been seen with another applicant of the queue.
    shared = pl.Series(draws.happens(0.02, account, person, 1))
    device = device.set(shared, None).fill_null(
        Identifiers(seed).of("applicant device", account) + letters(np.zeros_like(person), 2)
    )
    ip = Identifiers(seed).of("applicant ip", account) + letters(person, 2)
    # A ring has one device and one address.
    ring = frame["ring"].to_numpy()
    in_ring = pl.Series(ring >= 0)
    hideout = Identifiers(seed).of("ring", np.maximum(ring, 0)) + "rg"
    device, ip = hideout.zip_with(in_ring, device), hideout.zip_with(in_ring, ip)
    person_id = person_suffix(seed, account, person)
    decided = frame["decided"].to_numpy()
    submitted = frame["submitted"].to_numpy()
    final = pl.DataFrame(
        {
            "application_id": application_ids(seed, account, slot),
            "person_id": "per_" + person_id,
            "program_id": labels(
                tuple(p.program_id for p in PROGRAMS), frame["program"].to_numpy()
            ),
            "submitted_at": instants(submitted),
            "customer_id": "cus_" + person_id,
            "channel": labels(applicants.CHANNELS, frame["channel"].to_numpy()),
            "stated_income_minor": frame["stated_income"],
            "currency": pl.repeat("USD", len(account), eager=True),
            "housing_payment_minor": frame["housing"],
            "employment_status": labels(applicants.EMPLOYMENT, frame["employment"].to_numpy()),
            "requested_limit_minor": frame["asked_limit"],
            "device_id": "dev_" + device,
            "ip_hash": "ip_" + ip,
            "decision": labels(applicants.DECISIONS, frame["decision"].to_numpy()),
            "decision_at": instants(decided),
            "decision_source": labels(applicants.SOURCES, frame["source"].to_numpy()),
            "approved_limit_minor": frame["limit"].set(frame["limit"] < 0, None),
            "account_id": account_ids(seed, account).set(~frame["is_booked"], None),
            "pull_id": pull_ids(seed, account, slot),
            "received_at": instants(decided),
        }
    )
    waits = pl.Series(decided - submitted > REVIEW_AFTER)
    pending = final.filter(waits).with_columns(
        decision=pl.lit("PENDING"),
        decision_at=pl.lit(None, pl.Datetime("us")),
        decision_source=pl.lit(None, pl.String),
        approved_limit_minor=pl.lit(None, pl.Int64),
        account_id=pl.lit(None, pl.String),
        received_at=pl.col("submitted_at") + pl.duration(seconds=5),
    )
    return pl.concat([pending, final])


def customer_rows(seed: int, frame: pl.DataFrame, taken_over: pl.DataFrame) -> pl.DataFrame:
    """Rows of the `customers` feed: every applicant, and those who moved, by weekly files.

    `taken_over` has `account` and `at`: a stranger gives another phone and e-mail.
    """
    people = frame.filter(pl.col("slot") == pl.col("person"))
    account, person = people["account"].to_numpy(), people["person"].to_numpy()
    draws = Draws(seed, "customers")
    suffix = person_suffix(seed, account, person)
    decided = people["decided"].to_numpy()
    years = 1970 + months_since_1970(decided // DAY) // 12
    first = _addressed(
        pl.DataFrame(
            {
                "customer_id": "cus_" + suffix,
                "updated_at": instants(decided),
                "person_id": "per_" + suffix,
                "birth_year": years - people["age"].to_numpy(),
                "email_hash": "eml_" + Identifiers(seed).of("email", account) + letters(person, 1),
                "phone_hash": "tel_" + Identifiers(seed).of("phone", account) + letters(person, 1),
                "received_at": instants(weekly_delivery(decided)),
            }
        ),
        draws,
        account,
        person,
        city=people["city"].to_numpy(),
        version=1,
    )
    moves = np.flatnonzero(draws.happens(0.06, account, person, 9) & people["is_booked"].to_numpy())
    moment = (
        decided[moves]
        + draws.integers(40 * 86_400, 500 * 86_400, account, person, 10)[moves] * SECOND
    )
    moved = _addressed(
        first[moves]
        .select("customer_id", "person_id", "birth_year", "email_hash", "phone_hash")
        .with_columns(updated_at=instants(moment), received_at=instants(weekly_delivery(moment))),
        draws,
        account[moves],
        person[moves],
        city=people["city"].to_numpy()[moves],
        version=2,
    )
    place = pl.DataFrame({"account": account, "row": np.arange(account.size)})
    place = place.filter(people["is_booked"]).join(taken_over, on="account").sort("account")
    row, at = place["row"].to_numpy(), place["at"].to_numpy() + 60 * SECOND
    strange = Identifiers(seed).of("stranger", account[row])
    usurped = first[row].with_columns(
        email_hash="eml_" + strange + "z",
        phone_hash="tel_" + strange + "z",
        updated_at=instants(at),
        received_at=instants(weekly_delivery(at)),
    )
    return pl.concat([first, moved.select(first.columns), usurped])


def _addressed(
    frame: pl.DataFrame, draws: Draws, account: Ints, person: Ints, *, city: Ints, version: int
) -> pl.DataFrame:
    """`frame` with an address in each customer's home city."""
    suffix = draws.integers(1, 99, account, person, 20 + version)
    prefix = pl.Series([place.postal_prefix for place in CITIES])[city]
    return frame.with_columns(
        state=pl.Series([place.state for place in CITIES])[city],
        postal_code=prefix + pl.Series(suffix).cast(pl.String).str.zfill(2),
        latitude=pl.Series(
            np.array([place.latitude for place in CITIES])[city]
            + 0.08 * draws.normal(account, person, 30 + version)
        ),
        longitude=pl.Series(
            np.array([place.longitude for place in CITIES])[city]
            + 0.08 * draws.normal(account, person, 40 + version)
        ),
    )
