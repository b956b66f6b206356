"""How accounts are used and paid, beside a reference that goes through all that was told."""

import random
from datetime import date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.dbt.lake_builds import Row, build, deliver, home_of, rows_of

MODELS = ("--select", "+account_payment_features")
START = date(2023, 11, 5)
ACCOUNTS = [f"a{number}" for number in range(12)]


def _month_end(number: int) -> date:
    months = START.month - 1 + number
    return date(START.year + months // 12, months % 12 + 1, min(31, START.day))


def _statement(draw: random.Random, name: str, account: str, number: int) -> Row:
    def maybe(value: Any, chance: float = 0.85) -> Any:
        return value if draw.random() < chance else None

    limit = draw.choice([0, 100_000, 250_000])
    opening, minimum = draw.randint(-5_000, 120_000), draw.choice([0, 1_000, 2_500])
    paid = draw.choice([0, minimum, minimum * 21 // 20, 2_750, 2_751, 500, max(opening, 0)])
    return {
        "statement_id": name,
        "account_id": account,
        "period_start_on": _month_end(number) - timedelta(days=29),
        "period_end_on": _month_end(number),
        "opening_balance_minor": opening,
        "closing_balance_minor": draw.randint(-5_000, 150_000),
        "credit_limit_minor": maybe(limit, 0.95),
        "minimum_due_minor": maybe(minimum),
        "purchases_minor": maybe(draw.choice([0, draw.randint(0, 90_000)])),
        "cash_advances_minor": maybe(draw.choice([0, 0, 20_000])),
        "payments_minor": maybe(paid),
        "credits_minor": maybe(draw.choice([0, 700])),
        "days_past_due": maybe(draw.choice([0, 0, 0, 12, 45])),
        "received_at": datetime.combine(_month_end(number), datetime.min.time())
        + timedelta(hours=draw.randint(3, 24 * 40)),
    }


def _payment(draw: random.Random, name: str, account: str, at: datetime) -> Row:
    state = draw.choice(["INITIATED", "SETTLED", "RETURNED", "RETURNED"])
    returned_at = at + timedelta(hours=draw.randint(-48, 90))
    return {
        "payment_id": name,
        "account_id": account,
        "amount_minor": 1_000,
        "initiated_at": at,
        "state": state,
        "returned_at": returned_at if state == "RETURNED" and draw.random() < 0.8 else None,
        "received_at": at,
    }


def _history(draw: random.Random) -> dict[str, list[Row]]:
    """Versions of statements and payments; a correction may be of another account, and late."""
    statements, payments = [], []
    for account in ACCOUNTS:
        for number in range(draw.randint(1, 16)):
            name = f"s-{account}-{number}"
            statements.append(_statement(draw, name, account, number))
            while draw.random() < 0.25:
                owner = draw.choice(ACCOUNTS) if draw.random() < 0.4 else account
                again = _statement(draw, name, owner, number)
                again["received_at"] += timedelta(hours=draw.randint(1, 3_000))
                statements.append(again)
        for number in range(draw.randint(0, 8)):
            at = datetime(2023, 12, 1) + timedelta(hours=draw.randint(0, 9_000))
            versions = [_payment(draw, f"p-{account}-{number}", account, at)]
            while draw.random() < 0.5:
                at += timedelta(hours=draw.randint(1, 2_000))
                owner = draw.choice(ACCOUNTS) if draw.random() < 0.2 else account
                versions.append(_payment(draw, f"p-{account}-{number}", owner, at))
            payments += versions
    return {"statements": statements, "payments": payments}


def _held(rows: list[Row], key: str, at: datetime) -> list[Row]:
    """The version of each key that was the latest at a time."""
    latest: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row["received_at"]):
        if row["received_at"] <= at:
            latest[row[key]] = row
    return list(latest.values())


def _known_from(statement: Row) -> datetime:
    midnight = datetime.combine(statement["period_end_on"] + timedelta(days=1), datetime.min.time())
    return max(statement["received_at"], midnight)


def _months_before(at: datetime, months: int) -> datetime:
    number = at.year * 12 + at.month - 1 - months
    year, month = divmod(number, 12)
    next_year, next_month = divmod(number + 1, 12)
    days = (date(next_year, next_month + 1, 1) - date(year, month + 1, 1)).days
    return at.replace(year=year, month=month + 1, day=min(at.day, days))


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _ratio(over: int | None, under: int | None) -> float | None:
    return None if over is None or not under else over / under


def _slope(values: list[int | None]) -> float | None:
    """Of a line through the values, newest first, over their mean."""
    points = [(-place, value) for place, value in enumerate(values) if value is not None]
    if len(points) < 2 or not sum(y for _, y in points):
        return None
    x_mean, y_mean = (Fraction(sum(each), len(points)) for each in zip(*points, strict=True))
    rise = sum((x - x_mean) * (y - y_mean) for x, y in points)
    return float(rise / sum((x - x_mean) ** 2 for x, _ in points) / y_mean)


def _cut(over: int, under: int) -> int:
    return abs(over) // under * (1 if over >= 0 else -1)


def _features(history: dict[str, list[Row]], account: str, at: datetime) -> Row | None:
    """What was known of an account at a time."""
    told = [
        row
        for row in _held(history["statements"], "statement_id", at)
        if row["account_id"] == account
        and _known_from(row) <= at
        and datetime.combine(row["period_end_on"], datetime.min.time()) > _months_before(at, 18)
    ]
    told.sort(key=lambda row: (row["period_end_on"], row["statement_id"]), reverse=True)
    if not told:
        return None
    minimum_before = [row["minimum_due_minor"] for row in told[1:]] + [None]
    told = [
        row | {"due": due or 0, "billed": max(row["opening_balance_minor"], 0)}
        for row, due in zip(told[:12], minimum_before, strict=False)
    ]
    last6 = told[:6]

    def each(rows: list[Row], name: str, beside: str | None = None) -> list[int | None]:
        return [row[name] if beside is None or row[beside] is not None else None for row in rows]

    def paid(row: Row) -> int | None:
        return row["payments_minor"]

    def is_missed(row: Row) -> bool:
        if row["due"] > 0 and paid(row) is not None:
            return row["payments_minor"] < row["due"]
        return (row["days_past_due"] or 0) > 0

    def used(rows: list[Row]) -> float | None:
        if None in each(rows, "credit_limit_minor"):
            return None
        return _ratio(
            _sum(each(rows, "closing_balance_minor")), _sum(each(rows, "credit_limit_minor"))
        )

    def most_late(rows: list[Row]) -> int | None:
        return max((days for days in each(rows, "days_past_due") if days is not None), default=None)

    limited = [row for row in told if row["credit_limit_minor"]]
    cash = each(last6, "cash_advances_minor")
    returned = [
        row
        for row in _held(history["payments"], "payment_id", at)
        if row["account_id"] == account and row["state"] == "RETURNED"
        and _months_before(at, 6) < (row["returned_at"] or row["received_at"]) <= at
    ]  # fmt: skip
    found: Row = {
        "beh_balance_cur_minor": told[0]["closing_balance_minor"],
        "beh_util_cur": _ratio(told[0]["closing_balance_minor"], told[0]["credit_limit_minor"]),
        "beh_util_avg3": used(told[:3]),
        "beh_util_avg6": used(last6),
        "beh_util_max12": max(
            (row["closing_balance_minor"] / row["credit_limit_minor"] for row in limited),
            default=None,
        ),
        "beh_util_slope_6m": _slope(
            [
                _cut(row["closing_balance_minor"] * 1_000_000, row["credit_limit_minor"])
                if row["credit_limit_minor"]
                else None
                for row in last6
            ]
        ),
        "beh_dpd_cur": told[0]["days_past_due"],
        "beh_missed_6m_n": sum(map(is_missed, last6)),
        "beh_minpay_only_6m_n": sum(
            row["due"] > 0
            and paid(row) is not None
            and row["due"] <= row["payments_minor"] <= row["due"] * 11 // 10
            and row["payments_minor"] < row["opening_balance_minor"]
            for row in last6
        ),
        "beh_revolver_6m_n": sum(
            paid(row) is not None and row["payments_minor"] < row["billed"] for row in last6
        ),
        "beh_cash_adv_6m_n": None if _sum(cash) is None else sum(bool(minor) for minor in cash),
        "beh_cash_adv_6m_minor": _sum(cash),
        "beh_overlimit_6m_n": sum(
            row["credit_limit_minor"] is not None
            and row["closing_balance_minor"] > row["credit_limit_minor"]
            for row in last6
        ),
        "beh_returned_pay_6m_n": len(returned),
        "beh_spend_slope_6m": _slope(each(last6, "purchases_minor")),
        "beh_refund_ratio_6m": _ratio(
            _sum(each(last6, "credits_minor", "purchases_minor")),
            _sum(each(last6, "purchases_minor", "credits_minor")),
        ),
    }
    for months in (1, 3, 6):
        billed = [row for row in told[:months] if row["billed"] > 0]
        found[f"beh_pay_ratio_{months}m"] = _ratio(
            _sum(each(billed, "payments_minor")),
            _sum(each(told[:months], "billed", "payments_minor")),
        )
    for months in (3, 6, 12):
        found[f"beh_dpd_max_{months}m"] = most_late(told[:months])
    return found


@pytest.mark.usefixtures("home")
def test_accounts_are_told_as_a_reference_tells_them(tmp_path: Path) -> None:
    home_of(tmp_path)
    draw = random.Random(5)
    history = _history(draw)
    first: dict[str, list[Row]] = {}
    later: dict[str, list[Row]] = {}
    for feed, rows in history.items():
        for row in rows:
            (first if draw.random() < 0.6 else later).setdefault(feed, []).append(row)
    load_no = deliver(first)
    build(*MODELS)
    deliver(later)
    build(*MODELS, from_load_no=load_no)
    rows = rows_of("features.account_payment_features")
    moments = {(row["account_id"], row["event_timestamp"]) for row in rows}
    assert len(moments) == len(rows) > 150
    for row in rows:
        at, account = row.pop("event_timestamp"), row.pop("account_id")
        assert row.pop("created_timestamp") == at
        assert row.pop("beh_mob") is None
        assert row == pytest.approx(_features(history, account, at)), (account, at)

    # There is a row wherever something came to be known, or was corrected away.
    times = {_known_from(row) for row in history["statements"]}
    times |= {row["received_at"] for told in history.values() for row in told}
    instant = timedelta(microseconds=1)
    for account in ACCOUNTS:
        for at in times:
            now = _features(history, account, at)
            if now is not None and now != _features(history, account, at - instant):
                assert (account, at) in moments
