"""What disputes and fraud labels take out of purchases, and what is put back."""

from datetime import date, datetime
from pathlib import Path

import pytest

from pipelines.rewards.accrual import accrue
from pipelines.rewards.verification import verify_ledger
from pipelines.warehouse import connect
from tests.dbt.lake_builds import Row, build, deliver, home_of, rows_of

TERMS = """
program: p
version: 1
name: P
valid_from: 2020-01-01
currency: USD
currency_kind: POINTS
settlement_model: ISSUER_HELD
timezone: UTC
eligibility: {txn_class: [PURCHASE]}
earn: {base: {id: base, rate_milli: 1000}}
economics: {point_value_micros: 10000}
"""
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


def _given_back(day: int) -> Row:
    """A refund of the whole purchase is taken back."""
    return _clearing("", day, kind="RETURN_REVERSAL") | {"direction": "DEBIT"}


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
        [(3, "FRAUD_CONFIRMED", -TOTAL), (6, "RETURN_REVERSAL", 0)],
    ),
    "given back while it is a fraud": (
        [_clearing("", 2, kind="RETURN"), _label("", 3, "FRAUD"), _given_back(5),
         _label("", 7, "LEGIT")],
        [(3, "FRAUD_CONFIRMED", -TOTAL), (5, "FRAUD_CONFIRMED", -TOTAL),
         (7, "RETURN_REVERSAL", TOTAL)],
    ),
    "cleared again after the label": (
        [_label("", 3, "FRAUD"), _clearing("", 5, 2_000, 1)],
        [(5, "FRAUD_CONFIRMED", -TOTAL - 2_000)],
    ),
}  # fmt: skip


def _feeds(name: str, rows: list[Row]) -> dict[str, list[Row]]:
    """`rows` of a purchase of that name, by feed."""
    keys = {"dispute_event_id": "disputes", "label_id": "fraud_labels", "event_id": "transactions"}
    feeds: dict[str, list[Row]] = {}
    for row in rows:
        feed = next(feed for key, feed in keys.items() if key in row)
        named = {
            key: f"{value}{name}" if key in ("dispute_id", "transaction_id", *keys) else value
            for key, value in row.items()
        }
        feeds.setdefault(feed, []).append(named)
    return feeds


@pytest.mark.usefixtures("home")
def test_recoveries_are_what_a_purchase_has_come_to(tmp_path: Path) -> None:
    home_of(tmp_path)
    feeds: dict[str, list[Row]] = {}
    for name, (rows, _) in CASES.items():
        for feed, named in _feeds(name, [_clearing("", 1), *rows]).items():
            feeds.setdefault(feed, []).extend(named)
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


def _corrected(row: Row, day: int, **told: object) -> Row:
    return row | {"received_at": datetime(2024, 3, day, 20)} | told


CORRECTIONS: dict[str, tuple[list[Row], int]] = {
    "a label that was none": (
        [_label("", 3, "FRAUD"), _corrected(_label("", 3, "FRAUD"), 9, label="LEGIT")], 100
    ),
    "a dispute that brought nothing": (
        [_dispute("", 2, recovered_minor=6_000),
         _corrected(_dispute("", 2), 9, recovered_minor=0)], 100,
    ),
    "a dispute that brought less, then more": (
        [_dispute("", 2, recovered_minor=6_000), _dispute("", 4, recovered_minor=7_000),
         _corrected(_dispute("", 2), 9, recovered_minor=1_000)], 30,
    ),
    "the second label stands alone": (
        [_label("", 3, "FRAUD"), _label("", 5, "FRAUD"),
         _corrected(_label("", 3, "FRAUD"), 9, label="LEGIT")], 0,
    ),
    "a refund heard of late": (
        [_label("", 3, "FRAUD"), _label("", 6, "LEGIT"),
         _corrected(_clearing("", 4, 4_000, kind="RETURN"), 9)], 60,
    ),
    "won while it was a fraud": (
        [_label("", 3, "FRAUD"), _dispute("", 4, recovered_minor=4_000), _label("", 6, "LEGIT")],
        60,
    ),
    "presented again": (
        [_dispute("", 2, recovered_minor=6_000), _dispute("", 4, recovered_minor=0)], 100
    ),
    "cleared again after the label": (
        [_label("", 3, "FRAUD"), _clearing("", 5, 5_000, 1)], 0
    ),
    "given back while it is a fraud": (
        [_clearing("", 2, kind="RETURN"), _label("", 3, "FRAUD"), _given_back(5)], 0
    ),
    "given back, and no fraud": (
        [_clearing("", 2, kind="RETURN"), _label("", 3, "FRAUD"), _given_back(5),
         _label("", 7, "LEGIT")], 100
    ),
}  # fmt: skip


def _points(home: Path, deliveries: list[dict[str, list[Row]]]) -> dict[str, int]:
    """Points by purchase after each delivery has been built and accrued."""
    home_of(home)
    for feeds in deliveries:
        deliver(feeds)
        build("--select", "+path:models/marts")
        accrue()
        with connect(read_only=True) as con:
            assert [each.detail for each in verify_ledger(con) if not each.ok] == []
    with connect(read_only=True) as con:
        found = con.execute(
            "select coalesce(refunds_transaction_id, transaction_id), sum(points)::bigint "
            "from rewards.decisions group by 1"
        ).fetchall()
    return dict(found)


@pytest.mark.usefixtures("home")
def test_corrections_of_recoveries_count_whenever_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "p.yaml").write_text(TERMS)
    monkeypatch.setenv("CARDLINE_PROGRAMS", str(programs))
    account = {
        "account_id": "a", "customer_id": "c", "program_id": "p", "opened_on": date(2024, 1, 1),
        "credit_limit_minor": 100_000, "currency": "USD", "status": "OPEN",
        "updated_at": datetime(2024, 1, 1), "received_at": datetime(2024, 1, 1),
    }  # fmt: skip
    days: dict[date, dict[str, list[Row]]] = {date(2024, 1, 1): {"accounts": [account]}}
    for name, (rows, _) in CORRECTIONS.items():
        for feed, named in _feeds(name, [_clearing("", 1), *rows]).items():
            for row in named:
                days.setdefault(row["received_at"].date(), {}).setdefault(feed, []).append(row)
    in_time = [days[day] for day in sorted(days)]
    at_once: dict[str, list[Row]] = {}
    for feeds in in_time:
        for feed, rows in feeds.items():
            at_once.setdefault(feed, []).extend(rows)
    expected = {name: points for name, (_, points) in CORRECTIONS.items()}
    assert _points(tmp_path / "at once", [at_once]) == expected
    assert _points(tmp_path / "day by day", in_time) == expected
