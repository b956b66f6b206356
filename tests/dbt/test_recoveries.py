"""What disputes and fraud labels take out of purchases, and what is put back."""

from datetime import datetime
from pathlib import Path

import pytest

from tests.dbt.lake_builds import Row, build, deliver, home_of, rows_of

TOTAL = 10_000
Step = tuple[int, str, int]


def _clearing(
    purchase: str, day: int, amount: int = TOTAL, number: int = 0, kind: str = "CLEARING"
) -> Row:
    at = datetime(2024, 3, day, 10)
    return {
        "event_id": f"{kind}-{purchase}-{number}", "transaction_id": purchase, "event_type": kind,
        "account_id": "a", "card_id": "c", "event_at": at, "amount_minor": amount,
        "currency": "USD", "direction": "DEBIT" if kind == "CLEARING" else "CREDIT",
        "received_at": at,
    }  # fmt: skip


def _label(purchase: str, day: int, label: str) -> Row:
    at = datetime(2024, 3, day, 12)
    return {
        "label_id": f"l{day}-{purchase}", "transaction_id": purchase, "label": label,
        "fraud_type": "CNP", "occurred_at": at, "known_at": at, "received_at": at,
    }  # fmt: skip


def _dispute(purchase: str, day: int, **told: object) -> Row:
    at = datetime(2024, 3, day, 11)
    return {
        "dispute_event_id": f"d{day}-{purchase}", "dispute_id": f"d-{purchase}",
        "transaction_id": purchase, "event_type": "UPDATED", "event_at": at, "received_at": at,
    } | told  # fmt: skip


CASES: dict[str, tuple[list[Row], list[Step]]] = {
    "won, then presented again": (
        [_dispute("", 2, recovered_minor=6_000), _dispute("", 3, recovered_minor=0)],
        [(2, "CHARGEBACK", -6_000), (3, "RETURN_REVERSAL", 6_000)],
    ),
    "what an event leaves out stays": (
        [_dispute("", 2, recovered_minor=6_000), _dispute("", 3, disposition="WON"),
         _dispute("", 4, recovered_minor=7_000)],
        [(2, "CHARGEBACK", -6_000), (4, "CHARGEBACK", -1_000)],
    ),
    "written off as fraud, as the claim said": (
        [_dispute("", 2, reason="FRAUD_OTHER"), _dispute("", 5, written_off_minor=TOTAL)],
        [(5, "CHARGEBACK", -TOTAL)],
    ),
    "written off for another reason": (
        [_dispute("", 2, reason="DUPLICATED"), _dispute("", 5, written_off_minor=TOTAL)], [],
    ),
    "fraud and not": (
        [_label("", 3, "FRAUD"), _label("", 6, "LEGIT")],
        [(3, "FRAUD_CONFIRMED", -TOTAL), (6, "RETURN_REVERSAL", TOTAL)],
    ),
    "refunded before": (
        [_clearing("", 2, 4_000, kind="RETURN"), _label("", 3, "FRAUD"), _label("", 6, "LEGIT")],
        [(3, "FRAUD_CONFIRMED", -TOTAL), (6, "RETURN_REVERSAL", 6_000)],
    ),
    "refunded between": (
        [_label("", 3, "FRAUD"), _clearing("", 4, 4_000, kind="RETURN"), _label("", 6, "LEGIT")],
        [(3, "FRAUD_CONFIRMED", -TOTAL), (6, "RETURN_REVERSAL", 6_000)],
    ),
    "refunded after": (
        [_label("", 3, "FRAUD"), _label("", 6, "LEGIT"), _clearing("", 7, 4_000, kind="RETURN")],
        [(3, "FRAUD_CONFIRMED", -TOTAL), (6, "RETURN_REVERSAL", TOTAL)],
    ),
    "won between": (
        [_label("", 3, "FRAUD"), _dispute("", 4, recovered_minor=4_000), _label("", 6, "LEGIT")],
        [(3, "FRAUD_CONFIRMED", -TOTAL), (4, "CHARGEBACK", -4_000),
         (6, "RETURN_REVERSAL", 6_000)],
    ),
    "refunded whole between": (
        [_label("", 3, "FRAUD"), _clearing("", 4, kind="RETURN"), _label("", 6, "LEGIT")],
        [(3, "FRAUD_CONFIRMED", -TOTAL)],
    ),
    "cleared again after the label": (
        [_label("", 3, "FRAUD"), _clearing("", 5, 2_000, 1)],
        [(5, "FRAUD_CONFIRMED", -TOTAL - 2_000)],
    ),
}  # fmt: skip


@pytest.mark.usefixtures("home")
def test_recoveries_are_what_a_purchase_has_come_to(tmp_path: Path) -> None:
    home_of(tmp_path)
    feeds: dict[str, list[Row]] = {"transactions": [], "disputes": [], "fraud_labels": []}
    keys = {"event_id": "transactions", "dispute_event_id": "disputes", "label_id": "fraud_labels"}
    for name, (rows, _) in CASES.items():
        feeds["transactions"].append(_clearing(name, 1))
        for row in rows:
            feed = next(feed for key, feed in keys.items() if key in row)
            named = {
                key: f"{value}{name}" if key in ("dispute_id", "transaction_id", *keys) else value
                for key, value in row.items()
            }
            feeds[feed].append(named)
    deliver(feeds)
    build("--select", "+fct_earning_events")
    found: dict[str, list[Step]] = {name: [] for name in CASES}
    for row in sorted(rows_of("marts.fct_earning_events"), key=lambda row: row["event_at"]):
        if ":" not in row["event_id"]:
            continue
        amount = row["amount_minor"] * (1 if row["direction"] == "DEBIT" else -1)
        step = (row["event_at"].day, row["event_type"], amount)
        found[row["refunds_transaction_id"]].append(step)
    assert found == {name: steps for name, (_, steps) in CASES.items()}
