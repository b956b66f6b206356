"""A small rewards ledger for tests: entries in words, tables as the rewards engine writes them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any

import duckdb
import polars as pl

from pipelines.rewards.lots import AccountLots, Lot
from pipelines.rewards.tables import ensure_tables

# What the finance models read of the marts.
FINANCE_MARTS = """
create table marts.fct_settlement_totals (
    total_id varchar, network varchar, report_on date, currency varchar, gross_minor bigint,
    interchange_minor bigint, charges_minor bigint, net_minor bigint, is_complete boolean
);
create table marts.fct_settlement_details (
    detail_id varchar, network varchar, report_on date, type varchar, amount_minor bigint,
    currency varchar, direction varchar, transaction_id varchar, event_id varchar,
    interchange_micros bigint
);
create table marts.fct_posted_transactions (
    transaction_id varchar, account_id varchar, program_id varchar, posted_on date,
    amount_minor bigint, direction varchar, transaction_class varchar, currency varchar
);
create table if not exists marts.dim_accounts (
    account_id varchar, program_id varchar, opened_on date, is_current boolean
);
"""
TABLES = ("programs", "decisions", "journal", "postings", "lots_issued", "lot_consumption", "seals")

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
    "WRITE_OFF": ("WRITTEN_OFF", "MEMBER_AVAILABLE"),
}


def rule_hash(program_id: str, version: int) -> str:
    """What stands for the hash of a version's terms."""
    return f"{program_id}-{version}".encode().hex()


@dataclass
class Ledger:
    """Entries of one or more programs; `write` puts them into a warehouse."""

    tables: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {name: [] for name in TABLES}
    )
    holdings: dict[tuple[str, str], AccountLots] = field(default_factory=dict)

    def program(self, program_id: str, **terms: Any) -> "Ledger":
        """Add a version of a program's terms."""
        programs = self.tables["programs"]
        version = 1 + sum(row["program_id"] == program_id for row in programs)
        row = {
            "program_id": program_id,
            "version": version,
            "valid_from": date(2025, 1, 1),
            "name": program_id.replace("_", " ").title(),
            "partner_id": None,
            "currency": "USD",
            "currency_kind": "POINTS",
            "asset_scale": 0,
            "settlement_model": "ISSUER_HELD",
            "timezone": "UTC",
            "point_value_micros": 1_000_000,
            "purchase_price_micros": None,
            "breakage_bps": 0,
            "presentation": "CONTRA_REVENUE",
            "rule_hash": rule_hash(program_id, version),
            "body": "{}",
        }
        programs.append(row | terms)
        return self

    def post(
        self,
        event_type: str,
        points: int,
        on: date,
        *,
        program_id: str = "points",
        account_id: str = "a1",
        period: str | None = None,
        funding_bps: int = 0,
        reverses: str | None = None,
    ) -> str:
        """One balanced entry of `points` (negative: the other way round); returns its id."""
        debit, credit = ENTRIES[event_type]
        if points < 0:
            debit, credit = credit, debit
        seq = len(self.tables["journal"]) + 1
        journal_id = f"j{seq:06d}"
        recorded_at = datetime.combine(on, time.max)
        entry = {
            "journal_id": journal_id,
            "program_id": program_id,
            "seq": seq,
            "event_type": event_type,
            "account_id": account_id,
            "idempotency_key": journal_id,
            "effective_on": on,
            "recorded_at": recorded_at,
            "accounting_period": period or f"{on:%Y-%m}",
            "original_period": f"{on:%Y-%m}" if period else None,
            "reverses_journal_id": reverses,
        }
        self.tables["journal"].append(entry)
        is_gain = credit == "MEMBER_AVAILABLE"
        other = (debit, "DEBIT") if is_gain else (credit, "CREDIT")
        legs: list[tuple[str, str | None, str | None, str, int]] = [
            (other[0], None, None, other[1], abs(points))
        ]
        for lot_id, part in self._move(entry, points, is_gain, funding_bps):
            direction = "CREDIT" if is_gain else "DEBIT"
            legs.append(("MEMBER_AVAILABLE", account_id, lot_id, direction, part))
        for leg_no, (ledger_account, member, lot_id, direction, amount) in enumerate(legs, 1):
            self.tables["postings"].append(
                {
                    "journal_id": journal_id,
                    "leg_no": leg_no,
                    "program_id": program_id,
                    "asset": f"PTS:{program_id}",
                    "ledger_account": ledger_account,
                    "account_id": member,
                    "lot_id": lot_id,
                    "direction": direction,
                    "amount": amount,
                }
            )
        if event_type in ("ACCRUAL", "CLAWBACK") and reverses is None:
            self._decide(entry, points if event_type == "ACCRUAL" else -points, funding_bps)
        return journal_id

    def _move(
        self, entry: dict[str, Any], points: int, gain: bool, funding_bps: int
    ) -> Iterator[tuple[str | None, int]]:
        """What the entry does to the account's lots."""
        common = {name: entry[name] for name in ("program_id", "account_id")}
        lots = self.holdings.setdefault((entry["program_id"], entry["account_id"]), AccountLots())
        journal_id, on = entry["journal_id"], entry["effective_on"]
        if gain:
            size = abs(points)
            lot = Lot(f"lot-{journal_id}", journal_id, on, None, funding_bps, size, size)
            yield from lots.credit(lot)
            if lot.points_issued:
                self.tables["lots_issued"].append(
                    common
                    | {
                        "lot_id": lot.lot_id,
                        "source_id": journal_id,
                        "issue_journal_id": journal_id,
                        "issued_on": on,
                        "funding_partner_bps": funding_bps,
                        "points_issued": lot.points_issued,
                    }
                )
            return
        for lot_id, part in lots.debit(abs(points)):
            yield lot_id, part
            if lot_id is not None:
                self.tables["lot_consumption"].append(
                    common | {"journal_id": journal_id, "lot_id": lot_id, "points": part}
                )

    def _decide(self, entry: dict[str, Any], points: int, funding_bps: int) -> None:
        """The decision that the entry follows from."""
        journal_id, on = entry["journal_id"], entry["effective_on"]
        self.tables["decisions"].append(
            {
                "decision_id": f"d-{journal_id}",
                "program_id": entry["program_id"],
                "account_id": entry["account_id"],
                "transaction_id": f"t-{journal_id}",
                "event_id": f"e-{journal_id}",
                "rule_id": "partner" if funding_bps else "base",
                "rule_version": 1,
                "rule_hash": rule_hash(entry["program_id"], 1),
                "basis_on": on,
                "event_class": "EARN" if points > 0 else "CLAWBACK",
                "is_eligible": True,
                "eligible_minor": 137 * abs(points),
                "points": points,
                "funding_partner_bps": funding_bps,
                "effective_on": on,
                "recorded_at": datetime.combine(on, time.max),
                "journal_id": journal_id,
            }
        )

    def refuse(self, reason: str, on: date, program_id: str = "points") -> None:
        """A decision that earned nothing."""
        number = len(self.tables["decisions"])
        self.tables["decisions"].append(
            {
                "decision_id": f"d-{number}",
                "program_id": program_id,
                "event_id": f"e-zero-{number}",
                "transaction_id": f"t-zero-{number}",
                "rule_id": "base",
                "rule_version": 1,
                "is_eligible": False,
                "zero_reason": reason,
                "eligible_minor": 0,
                "points": 0,
                "effective_on": on,
            }
        )

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Replace the rewards tables of `con` by these entries."""
        ensure_tables(con)
        for name, rows in self.tables.items():
            con.execute(f"delete from rewards.{name}")
            if not rows:
                continue
            con.register("incoming", pl.DataFrame(rows, infer_schema_length=None).to_arrow())
            con.execute(f"insert into rewards.{name} by name select * from incoming")
            con.unregister("incoming")


def busy_ledger(seed: int = 7, months: int = 8, accounts: int = 12, scale: int = 1) -> Ledger:
    """Three programs with every kind of entry over `months`, one month of the third left out."""
    rng = random.Random(seed)
    ledger = Ledger()
    ledger.program(
        "miles", settlement_model="PARTNER_POSTED", partner_id="skyline", currency_kind="MILES",
        point_value_micros=1_234_567, purchase_price_micros=1_210_500, breakage_bps=250,
    )  # fmt: skip
    ledger.program(
        "points", point_value_micros=487_300, breakage_bps=1200, partner_id="mercato",
        presentation="EXPENSE",
    )  # fmt: skip
    ledger.program(
        "points", point_value_micros=491_150, breakage_bps=1150, partner_id="mercato",
        presentation="EXPENSE", valid_from=date(2025, 4, 1),
    )  # fmt: skip
    ledger.program(
        "cash", settlement_model="STATEMENT_CREDIT", currency_kind="CASHBACK_USD", asset_scale=2
    )
    reasons = ("EXCLUDED_MCC", "CAP_EXHAUSTED", "ROUNDED_TO_ZERO")
    for month in range(1, months + 1):
        for account in range(accounts):
            for program_id, factor in (("miles", 900), ("points", 700), ("cash", 120)):
                if program_id == "cash" and month == 3:
                    continue
                common = {"program_id": program_id, "account_id": f"a{account}"}

                def on(day: int, month: int = month) -> date:
                    return date(2025, month, day)

                def some(share: float, factor: int = factor * scale) -> int:
                    return 1 + int(factor * share * rng.random())

                bps = 3333 if account % 2 and program_id != "cash" else 0
                ledger.post("ACCRUAL", some(4), on(3), **common)
                ledger.post("ACCRUAL", some(1), on(9), funding_bps=bps, **common)
                if rng.random() < 0.4:
                    ledger.post("CLAWBACK", some(1.5), on(14), funding_bps=bps, **common)
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
                if rng.random() < 0.5:
                    ledger.refuse(rng.choice(reasons), on(5), program_id)
    return ledger
