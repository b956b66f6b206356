"""A small rewards ledger for tests: entries in words, tables as the rewards engine writes them."""

import random
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any

import duckdb
import polars as pl

DDL = """
create schema if not exists rewards;
create table if not exists rewards.programs (
    program_id varchar, version bigint, valid_from date, valid_to date, body varchar,
    rule_hash varchar, currency varchar, currency_kind varchar, asset_scale bigint,
    settlement_model varchar, timezone varchar, partner_id varchar, point_value_micros bigint,
    purchase_price_micros bigint, breakage_bps bigint
);
create table if not exists rewards.journal (
    journal_id varchar, program_id varchar, event_type varchar, effective_on date,
    recorded_at timestamp, accounting_period varchar, reverses_journal_id varchar
);
create table if not exists rewards.postings (
    journal_id varchar, leg_no bigint, asset varchar, ledger_account varchar, account_id varchar,
    lot_id varchar, direction varchar, amount bigint
);
create table if not exists rewards.lots (
    lot_id varchar, program_id varchar, account_id varchar, points_issued bigint,
    points_open bigint, expires_on date, funding_partner_bps bigint
);
"""
TABLES = ("programs", "journal", "postings", "lots")

# Event type, account debited, account credited.
ENTRIES = {
    "ACCRUAL": ("ISSUANCE", "MEMBER_AVAILABLE"),
    "CLAWBACK": ("MEMBER_AVAILABLE", "CLAWED_BACK"),
    "REDEMPTION": ("MEMBER_AVAILABLE", "REDEEMED"),
    "REDEMPTION_CANCEL": ("REDEEMED", "MEMBER_AVAILABLE"),
    "TRANSFER": ("MEMBER_AVAILABLE", "PARTNER_TRANSFER_CLEARING"),
    "EXPIRY": ("MEMBER_AVAILABLE", "EXPIRED"),
    "FORFEITURE": ("MEMBER_AVAILABLE", "FORFEITED"),
    "ADJUSTMENT": ("ADJUSTMENT", "MEMBER_AVAILABLE"),
}


@dataclass
class Ledger:
    """Entries of one or more programs; `write` puts them into a database."""

    programs: list[dict[str, Any]] = field(default_factory=list)
    journal: list[dict[str, Any]] = field(default_factory=list)
    postings: list[dict[str, Any]] = field(default_factory=list)
    lots: dict[str, dict[str, Any]] = field(default_factory=dict)

    def program(self, program_id: str, **terms: Any) -> "Ledger":
        """Add a version of a program's terms."""
        version = 1 + sum(row["program_id"] == program_id for row in self.programs)
        row = {
            "program_id": program_id,
            "version": version,
            "valid_from": date(2025, 1, 1),
            "valid_to": None,
            "body": "{}",
            "rule_hash": f"hash-{program_id}-{version}",
            "currency": "USD",
            "currency_kind": "POINTS",
            "asset_scale": 0,
            "settlement_model": "ISSUER_HELD",
            "timezone": "UTC",
            "partner_id": "partner",
            "point_value_micros": 1_000_000,
            "purchase_price_micros": 0,
            "breakage_bps": 0,
        }
        self.programs.append(row | terms)
        return self

    def post(
        self,
        event_type: str,
        points: int,
        on: date,
        program_id: str = "points",
        account_id: str = "a1",
        period: str | None = None,
        funding_bps: int = 0,
    ) -> str:
        """One balanced entry of `points` (negative: the other way round); returns its id."""
        debit, credit = ENTRIES[event_type]
        if points < 0:
            debit, credit = credit, debit
        journal_id = f"j{len(self.journal):06d}"
        lot_id = f"{program_id}-{account_id}-{funding_bps}"
        lot = self.lots.setdefault(
            lot_id,
            {
                "lot_id": lot_id,
                "program_id": program_id,
                "account_id": account_id,
                "points_issued": 0,
                "points_open": 0,
                "expires_on": None,
                "funding_partner_bps": funding_bps,
            },
        )
        lot["points_issued"] += points if event_type == "ACCRUAL" else 0
        lot["points_open"] += points if credit.startswith("MEMBER") else -abs(points)
        self.journal.append(
            {
                "journal_id": journal_id,
                "program_id": program_id,
                "event_type": event_type,
                "effective_on": on,
                "recorded_at": datetime.combine(on + timedelta(days=1), time(6)),
                "accounting_period": period or f"{on:%Y-%m}",
                "reverses_journal_id": None,
            }
        )
        legs = ((debit, "DEBIT"), (credit, "CREDIT"))
        for leg_no, (ledger_account, direction) in enumerate(legs, start=1):
            is_member = ledger_account.startswith("MEMBER")
            self.postings.append(
                {
                    "journal_id": journal_id,
                    "leg_no": leg_no,
                    "asset": f"PTS:{program_id}",
                    "ledger_account": ledger_account,
                    "account_id": account_id if is_member else None,
                    "lot_id": lot_id if is_member else None,
                    "direction": direction,
                    "amount": abs(points),
                }
            )
        return journal_id

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Replace the rewards tables of `con` by these entries."""
        con.execute(DDL)
        rows = {
            "programs": self.programs,
            "journal": self.journal,
            "postings": self.postings,
            "lots": list(self.lots.values()),
        }
        for table in TABLES:
            con.execute(f"delete from rewards.{table}")
            if rows[table]:
                frame = pl.DataFrame(rows[table], infer_schema_length=None)
                con.register("incoming", frame)
                con.execute(f"insert into rewards.{table} by name select * from incoming")
                con.unregister("incoming")


def busy_ledger(seed: int = 7, months: int = 8, accounts: int = 12) -> Ledger:
    """Three programs with every kind of entry over `months`, one month of the third left out."""
    rng = random.Random(seed)
    ledger = Ledger()
    ledger.program(
        "miles", settlement_model="PARTNER_POSTED", partner_id="skyline",
        point_value_micros=1_234_567, purchase_price_micros=1_210_500, breakage_bps=250,
    )  # fmt: skip
    ledger.program("points", point_value_micros=487_300, breakage_bps=1200, partner_id="mercato")
    ledger.program(
        "points", point_value_micros=491_150, breakage_bps=1150, partner_id="mercato",
        valid_from=date(2025, 4, 1),
    )  # fmt: skip
    ledger.program("cash", settlement_model="STATEMENT_CREDIT", partner_id=None)
    for month in range(1, months + 1):
        for account in range(accounts):
            for program_id, factor in (("miles", 900), ("points", 700), ("cash", 120)):
                if program_id == "cash" and month == 3:
                    continue
                common = {"program_id": program_id, "account_id": f"a{account}"}

                def on(day: int, month: int = month) -> date:
                    return date(2025, month, day)

                def some(share: float, factor: int = factor) -> int:
                    return 1 + int(factor * share * rng.random())

                ledger.post("ACCRUAL", some(4), on(3), **common)
                ledger.post(
                    "ACCRUAL", some(1), on(9), funding_bps=3333 if account % 2 else 0, **common
                )
                if rng.random() < 0.4:
                    ledger.post("CLAWBACK", some(1.5), on(14), **common)
                if rng.random() < 0.3 and program_id != "miles":
                    ledger.post("REDEMPTION", some(3), on(18), **common)
                if rng.random() < 0.1 and program_id != "miles":
                    ledger.post("REDEMPTION_CANCEL", some(0.4), on(20), **common)
                if program_id == "miles" and month > 1:
                    ledger.post("TRANSFER", some(3), on(25), **common)
                if rng.random() < 0.1 and program_id == "points":
                    ledger.post("EXPIRY", some(1), on(28), **common)
                if rng.random() < 0.05:
                    ledger.post("FORFEITURE", some(1), on(28), **common)
                if rng.random() < 0.1:
                    ledger.post("ADJUSTMENT", rng.choice((-1, 1)) * some(0.5), on(27), **common)
                if rng.random() < 0.1 and month > 1:
                    late = on(26, month - 1)
                    ledger.post("ACCRUAL", some(1), late, period=f"2025-{month:02d}", **common)
    return ledger
