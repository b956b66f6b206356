"""Messages about purchases, and the feature tables that the models make of them."""

from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any

import duckdb
import polars as pl

from benchmarks.rendered import rendered


@dataclass(frozen=True)
class Message:
    """One version of one message about a purchase."""

    transaction_id: str
    event_id: str
    version_no: int
    event_type: str
    card_id: str
    account_id: str
    merchant_id: str | None
    mcc: str | None
    merchant_country: str | None
    device_id: str | None
    ip_hash: str | None
    event_at: datetime
    amount_minor: int
    auth_result: str | None
    is_card_present: bool | None
    latitude: float | None
    longitude: float | None
    received_at: datetime
    superseded_at: datetime | None
    direction: str = "DEBIT"
    transaction_class: str | None = None
    entry_mode: str | None = None

    @property
    def is_declined(self) -> bool:
        return self.auth_result == "DECLINED"


@dataclass(frozen=True)
class Label:
    """From when to when a transaction was held to be fraud."""

    transaction_id: str
    known_from: date
    known_to: date | None
    is_fraud: bool = True


@dataclass(frozen=True)
class History:
    messages: tuple[Message, ...]
    labels: tuple[Label, ...]
    moments: tuple[datetime, ...]
    """Times to ask at; features are as of the one before."""


@cache
def _query(model: str) -> str:
    return rendered(model)


def built(history: History, *views: str) -> dict[str, list[dict[str, Any]]]:
    """Feature tables of a history."""
    strings = ["card_id", "merchant_id", "mcc", "merchant_country", "device_id", "ip_hash"]
    types: dict[str, Any] = {
        **dict.fromkeys(
            ["transaction_id", "event_id", "event_type", "account_id", *strings], pl.String
        ),
        **dict.fromkeys(["event_at", "received_at", "superseded_at"], pl.Datetime("us")),
        **dict.fromkeys(["latitude", "longitude"], pl.Float64),
        **dict.fromkeys(["auth_result", "direction", "transaction_class", "entry_mode"], pl.String),
        **{"version_no": pl.Int64, "amount_minor": pl.Int64, "is_card_present": pl.Boolean},
    }
    told = pl.DataFrame([vars(m) for m in history.messages], schema=types)
    held = pl.DataFrame(
        [vars(label) for label in history.labels],
        schema={
            "transaction_id": pl.String,
            "known_from": pl.Date,
            "known_to": pl.Date,
            "is_fraud": pl.Boolean,
        },
    )
    con = _connection()
    con.register("int_transaction_events__versioned", told)
    con.register("int_fraud_labels__known", held)
    for model in ("int_authorizations__known", "int_accounts__first_seen"):
        con.execute(f"create or replace table {model} as {_query(model)}")
    return {view: con.execute(_query(view)).pl().to_dicts() for view in views}


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("set threads = 1")
    return con
