"""What bureau reports tell, beside a reference that goes through each report as it was known."""

import json
import random
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.dbt.lake_builds import Row, build, deliver, home_of, rows_of

MODELS = ("--select", "+pull_bureau_features")
CHILDREN = {
    "bureau_tradelines": ("pull_id", "tradeline_id"),
    "bureau_trended": ("pull_id", "tradeline_id", "month_on"),
    "bureau_inquiries": ("pull_id", "inquiry_id"),
    "bureau_records": ("pull_id", "record_id"),
}
STATUS_LEVELS = {"71": 1, "78": 2} | dict.fromkeys(
    ["80", "82", "83", "84", "88", "89", "93", "94", "95", "96", "97"], 3
)
PAID_OR_MOVED = ["05", "13", "61", "62", "63", "64", "65"]
STATUSES = ["11", "11", "11", None, "DA", "DF", *STATUS_LEVELS, *PAID_OR_MOVED]
HISTORY_LEVELS = dict.fromkeys("0BDE", 0) | {"1": 1, "2": 2} | dict.fromkeys("3456GHJKL", 3)


def _years_before(day: date, years: int) -> date:
    leap = day.month == 2 and day.day == 29
    return day.replace(year=day.year - years, day=28 if leap and years % 4 else day.day)


def _near(draw: random.Random, edges: Sequence[date]) -> date:
    """A day at an edge or next to it, where rules begin and end."""
    return draw.choice(edges) + timedelta(days=draw.choice([-1, 0, 1, draw.randint(-200, 200)]))


def _details(draw: random.Random, pull_id: str, on: date, count: int) -> dict[str, list[Row]]:
    def maybe(value: Any, chance: float = 0.8) -> Any:
        return value if draw.random() < chance else None

    def months_back(number: int) -> date:
        months = on.year * 12 + on.month - 1 - number
        return date(months // 12, months % 12 + 1, 1)

    past = [_years_before(on, years) for years in (1, 2, 7, 10)]
    details: dict[str, list[Row]] = {feed: [] for feed in CHILDREN}
    for number in range(count):
        tradeline = {"pull_id": pull_id, "tradeline_id": str(number)}
        length = draw.choice([0, 3, 12, 24, 84, 90])
        delinquent_on = _near(draw, [_years_before(on, 7), on - timedelta(days=60)])
        details["bureau_tradelines"].append(
            tradeline
            | {
                "portfolio_type": draw.choice("RRIM"),
                "opened_on": _near(draw, [*past, on, on - timedelta(days=92)]),
                "account_type": draw.choice(["18", "18", "00", None]),
                "ecoa_code": draw.choice(["1", "2", "3", None]),
                "credit_limit_minor": draw.choice([None, 0, 100_000, 500_000]),
                "highest_credit_minor": maybe(draw.choice([0, 90_000]), 0.6),
                "balance_minor": maybe(draw.choice([0, 12_345, 90_000, 90_001, 450_001])),
                "past_due_minor": maybe(draw.choice([0, 0, 4_000]), 0.5),
                "scheduled_payment_minor": maybe(draw.choice([0, 3_000]), 0.6),
                "account_status": draw.choice(STATUSES),
                "payment_history": maybe(
                    "".join(draw.choices("000000000000BDE123456GHJKL", k=length)), 0.9
                ),
                "first_delinquency_on": maybe(delinquent_on, 0.5),
                "closed_on": maybe(on - timedelta(days=30), 0.2),
                "is_open": draw.choice([True, False, None, None]),
            }
        )
        for month in draw.sample(range(15), k=draw.randint(0, 15)):
            details["bureau_trended"].append(
                tradeline
                | {
                    "month_on": months_back(month),
                    "balance_minor": maybe(draw.choice([0, draw.randint(0, 90_000)]), 0.9),
                    "credit_limit_minor": draw.choice([None, 0, 100_000, 100_000]),
                    "scheduled_payment_minor": maybe(draw.choice([0, 2_000])),
                    "actual_payment_minor": maybe(draw.choice([0, 2_000, 90_000])),
                }
            )
    days_ago = [months_back(1).replace(day=min(on.day, 28)), on, *past[:2]]
    for number in range(draw.randint(0, 8)):
        details["bureau_inquiries"].append(
            {
                "pull_id": pull_id,
                "inquiry_id": str(number),
                "inquired_on": _near(draw, days_ago) - timedelta(days=draw.choice([0, 14, 15])),
                "subscriber_kind": draw.choice(["AUTO", "auto", "MORTGAGE", "BANK", None]),
            }
        )
    for number in range(draw.randint(0, 5)):
        details["bureau_records"].append(
            {
                "pull_id": pull_id,
                "record_id": str(number),
                "kind": draw.choice(["COLLECTION", "COLLECTION", "BANKRUPTCY", "JUDGMENT", "LIEN"]),
                "filed_on": maybe(_near(draw, [*past, on]), 0.9),
                "resolved_on": maybe(on, 0.3),
                "amount_minor": maybe(draw.randint(0, 50_000)),
                "is_medical": draw.choice([True, False, None]),
            }
        )
    return details


def _history(draw: random.Random, pulls: int) -> dict[str, list[Row]]:
    history: dict[str, list[Row]] = {"bureau_pulls": [], **{feed: [] for feed in CHILDREN}}
    for number in range(pulls):
        pull_id = f"p{number}"
        at = datetime(2024, draw.choice([2, 3, 8]), draw.choice([1, 28, 29]), 12)
        at += timedelta(hours=draw.randint(0, 60))
        for version in range(draw.choice([1, 1, 2])):
            history["bureau_pulls"].append(
                {
                    "pull_id": pull_id,
                    "person_id": "u",
                    "requested_at": at,
                    "file_hit": draw.choice(
                        ["HIT", "NO_HIT", "THIN", "FROZEN", "DECEASED", "FRAUD_ALERT", None]
                    ),
                    "score": draw.choice([None, 640]),
                    "received_at": at + timedelta(days=draw.choice([0, 3]), minutes=version),
                }
            )
        for again in range(draw.choice([0, 1, 1, 2])):
            told_at = at + timedelta(hours=draw.choice([-5, 0, 1, 700]), minutes=again)
            for feed, rows in _details(draw, pull_id, at.date(), draw.randint(0, 5)).items():
                history[feed] += [row | {"received_at": told_at} for row in rows]
    return history


def _held(rows: list[Row], keys: tuple[str, ...], at: datetime) -> list[Row]:
    """The version of each key that was the latest at a time; the first of what is the same."""
    latest: dict[tuple[Any, ...], Row] = {}
    seen: set[str] = set()
    for row in sorted(rows, key=lambda row: row["received_at"]):
        content = repr({name: row[name] for name in sorted(row) if name != "received_at"})
        if row["received_at"] <= at and content not in seen:
            seen.add(content)
            latest[tuple(row[key] for key in keys)] = row
    return list(latest.values())


def _months(start: date, end: date) -> int:
    """Whole months from one day to a later one; the last day of a month ends any."""
    months = (end.year - start.year) * 12 + end.month - start.month
    ends_month = (end + timedelta(days=1)).month != end.month
    return months - (end.day < start.day and not ends_month)


def _months_before(day: date, months: int) -> date:
    number = day.year * 12 + day.month - 1 - months
    first = date(number // 12, number % 12 + 1, 1)
    last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    return first.replace(day=min(day.day, last.day))


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _ratio(over: int | None, under: int | None) -> float | None:
    return None if over is None or not under else over / under


def _slope(points: list[tuple[int, int | None]]) -> float | None:
    known = [(x, y) for x, y in points if y is not None]
    if len(known) < 2 or not sum(y for _, y in known):
        return None
    x_mean, y_mean = (Fraction(sum(each), len(known)) for each in zip(*known, strict=True))
    rise = sum((x - x_mean) * (y - y_mean) for x, y in known)
    return float(rise / sum((x - x_mean) ** 2 for x, _ in known) / y_mean)


def _of_tradelines(rows: list[Row], on: date) -> Row:
    rows = [row for row in rows if row["account_status"] not in ("DA", "DF")]
    for row in rows:
        ended = row["closed_on"] is not None or row["account_status"] in PAID_OR_MOVED
        row["open"] = row["is_open"] if row["is_open"] is not None else not ended
        row["own"] = row["ecoa_code"] != "3"
        row["limit"] = row["credit_limit_minor"] or row["highest_credit_minor"] or 0
        row["past"] = [HISTORY_LEVELS[each] for each in (row["payment_history"] or "")][:84]
        since = row["first_delinquency_on"]
        row["aged"] = since is not None and since < _years_before(on, 7)
        row["now"] = 0 if row["aged"] else STATUS_LEVELS.get(row["account_status"], 0)
        row["age"] = max(_months(row["opened_on"], on), 0)
    opened = [row for row in rows if row["open"]]
    cards = [row for row in opened if row["account_type"] == "18"]
    limited = [row for row in opened if row["portfolio_type"] == "R" and row["limit"] > 0]
    told = [row for row in limited if row["balance_minor"] is not None]
    used = [row for row in cards if row["limit"] > 0 and row["balance_minor"] is not None]
    ages = [row["age"] for row in rows]

    def debt(row: Row) -> int:
        if row["scheduled_payment_minor"]:
            return row["scheduled_payment_minor"]
        if row["portfolio_type"] != "R":
            return 0
        return ((row["balance_minor"] or 0) * 5 + 50) // 100

    found: Row = {
        "bur_thin_file": len(rows) < 3 or max(ages) < 12,
        "bur_trades_n": len(rows),
        "bur_trades_own_n": sum(row["own"] for row in rows),
        "bur_trades_open_n": len(opened),
        "bur_trades_open_own_n": sum(row["own"] for row in opened),
        "bur_bc_open_n": len(cards),
        "bur_bc_open_own_n": sum(row["own"] for row in cards),
        "bur_age_oldest_m": max(ages, default=None),
        "bur_age_newest_m": min(ages, default=None),
        "bur_age_avg_m": _ratio(sum(ages), len(ages)),
        "bur_util_rev": _ratio(
            _sum([row["balance_minor"] for row in told]), sum(row["limit"] for row in told)
        ),
        "bur_util_bc_max": max((row["balance_minor"] / row["limit"] for row in used), default=None),
        "bur_bc_over90_n": sum(row["balance_minor"] * 10 > row["limit"] * 9 for row in used),
        "bur_worst_status_24m": max(
            (max([row["now"], *row["past"][:24]]) for row in rows), default=0
        ),
        "bur_past_due_minor": sum(row["past_due_minor"] or 0 for row in rows),
        "bur_chargeoff_n": sum(row["account_status"] == "97" and not row["aged"] for row in rows),
        "bur_sat_pct": _ratio(
            sum(row["account_status"] in ("11", None) and not row["past_due_minor"]
                for row in opened),
            len(opened),
        ),
        "bur_monthly_debt_minor": sum(map(debt, opened)),
    }  # fmt: skip
    for months in (3, 6, 12, 24):
        found[f"bur_opened_{months}m_n"] = sum(age < months for age in ages)
    for level, days in enumerate((30, 60, 90), start=1):
        late = [[now >= level for now in (row["now"], *row["past"])] for row in rows]
        for months in (6, 12, 24):
            found[f"bur_dq{days}_{months}m_n"] = sum(sum(each[1 : months + 1]) for each in late)
        found[f"bur_dq{days}_ever_n"] = sum(map(sum, late))
        found[f"bur_mths_since_dq{days}"] = min(
            (each.index(True) for each in late if any(each)), default=None
        )
    return found


def _of_trended(rows: list[Row], on: date) -> Row:
    rows = [row for row in rows if row["month_on"] <= on]
    newest = max((row["month_on"] for row in rows), default=on)
    by_age: dict[int, list[Row]] = {}
    balances = {(row["tradeline_id"], row["month_on"]): row["balance_minor"] for row in rows}
    rows = [row for row in rows if _months(row["month_on"], newest) < 12]
    for row in rows:
        row["age"] = _months(row["month_on"], newest)
        by_age.setdefault(row["age"], []).append(row)
    before = [
        balances.get((row["tradeline_id"], _months_before(row["month_on"], 1))) for row in rows
    ]
    billed = [
        (owed, row["actual_payment_minor"])
        for owed, row in zip(before, rows, strict=True)
        if owed and row["actual_payment_minor"] is not None
    ]

    def utilisation(months: list[Row]) -> int | None:
        told = [
            row for row in months if row["balance_minor"] is not None and row["credit_limit_minor"]
        ]
        limit = sum(row["credit_limit_minor"] for row in told)
        return sum(row["balance_minor"] for row in told) * 1_000_000 // limit if limit else None

    found: Row = {
        "bur_transactor_tr_12m": _ratio(sum(paid >= owed for owed, paid in billed), len(billed)),
        "bur_bal_slope_tr_12m": _slope(
            [(-age, _sum([row["balance_minor"] for row in each])) for age, each in by_age.items()]
        ),
        "bur_util_slope_tr_12m": _slope(
            [(-age, utilisation(each)) for age, each in by_age.items()]
        ),
    }
    for months in (3, 6, 12):
        due = [
            row for row in rows
            if row["age"] < months
            and None not in (row["actual_payment_minor"], row["scheduled_payment_minor"])
        ]  # fmt: skip
        found[f"bur_pay_ratio_tr_{months}m"] = _ratio(
            sum(row["actual_payment_minor"] for row in due),
            sum(row["scheduled_payment_minor"] for row in due),
        )
    return found


def _of_inquiries(rows: list[Row], on: date) -> Row:
    def counted(since: date) -> int:
        last: dict[str, date] = {}
        count = 0
        for row in sorted(rows, key=lambda row: (row["inquired_on"], row["inquiry_id"])):
            day, kind = row["inquired_on"], (row["subscriber_kind"] or "").upper()
            if since < day <= on:
                again = kind in last and day - last[kind] <= timedelta(days=14)
                count += not (again and kind in ("AUTO", "MORTGAGE"))
                last[kind] = day
        return count

    return {
        f"bur_inq_{months}m_n": counted(_months_before(on, months)) for months in (1, 3, 6, 12, 24)
    }


def _of_records(rows: list[Row], on: date) -> Row:
    def still_told(row: Row) -> bool:
        years = 10 if row["kind"] == "BANKRUPTCY" else 7
        return row["filed_on"] is None or row["filed_on"] >= _years_before(on, years)

    rows = [row for row in rows if still_told(row)]
    collections = [row for row in rows if row["kind"] == "COLLECTION"]
    return {
        "bur_collections_n": len(collections),
        "bur_collections_bal_minor": sum(
            row["amount_minor"] or 0 for row in collections if row["resolved_on"] is None
        ),
        "bur_collections_nonmed_n": sum(not row["is_medical"] for row in collections),
        "bur_public_records_n": len(rows) - len(collections),
        "bur_mths_since_bk": min(
            (_months(row["filed_on"], on) for row in rows
             if row["kind"] == "BANKRUPTCY" and row["filed_on"] and row["filed_on"] <= on),
            default=None,
        ),
    }  # fmt: skip


def _features(history: dict[str, list[Row]], pull_id: str, at: datetime) -> Row:
    """What a report told at a time at which it had been answered."""
    pulls = [row for row in history["bureau_pulls"] if row["pull_id"] == pull_id]
    on = min(row["received_at"] for row in pulls).date()
    [pull] = _held(pulls, ("pull_id",), at)
    file_hit = pull["file_hit"]
    found: Row = {
        "bur_file_hit": None if file_hit is None else file_hit not in ("NO_HIT", "FROZEN"),
        "bur_score": pull["score"],
    }
    parts = {
        "bureau_tradelines": _of_tradelines,
        "bureau_trended": _of_trended,
        "bureau_inquiries": _of_inquiries,
        "bureau_records": _of_records,
    }
    for feed, part in parts.items():
        rows = [row for row in history[feed] if row["pull_id"] == pull_id]
        told = part([dict(row) for row in _held(rows, CHILDREN[feed], at)], on)
        arrived = min((row["received_at"] for row in history[feed]), default=datetime.max)
        found |= told if at >= arrived else dict.fromkeys(told)
    return found


@pytest.mark.usefixtures("home")
def test_reports_are_told_as_a_reference_tells_them(tmp_path: Path) -> None:
    home_of(tmp_path)
    draw = random.Random(11)
    history = _history(draw, pulls=120)
    first: dict[str, list[Row]] = {}
    later: dict[str, list[Row]] = {}
    for feed, rows in history.items():
        for row in rows:
            (first if draw.random() < 0.6 else later).setdefault(feed, []).append(row)
    load_no = deliver(first)
    build(*MODELS)
    deliver(later)
    build(*MODELS, from_load_no=load_no)
    rows = rows_of("features.pull_bureau_features")
    assert {row["pull_id"] for row in rows} == {row["pull_id"] for row in history["bureau_pulls"]}
    for row in rows:
        at, pull_id = row.pop("event_timestamp"), row.pop("pull_id")
        assert row.pop("created_timestamp") == at
        assert row.pop("bur_attributes") is None
        assert row == pytest.approx(_features(history, pull_id, at)), (pull_id, at)


@pytest.mark.usefixtures("home")
def test_attributes_are_json_whatever_a_vendor_calls_them(tmp_path: Path) -> None:
    home_of(tmp_path)
    at = datetime(2024, 3, 1)
    pull = {"pull_id": "p", "person_id": "u", "requested_at": at, "received_at": at}
    told = [
        ("plain", 1.5, None), ("a code stands before a value", 999.0, "NO_TRADES"),
        ('a "quote" and a \\ sign', 2.0, None), ("a\ttab", None, "NO\n\x1fTRADES"),
        ("no number", float("inf"), None), ("nothing", None, None),
    ]  # fmt: skip
    attributes = [
        {"pull_id": "p", "attribute_name": name, "value": value, "special_code": code,
         "received_at": at}
        for name, value, code in told
    ]  # fmt: skip
    deliver({"bureau_pulls": [pull], "bureau_attributes": attributes})
    build(*MODELS)
    [row] = rows_of("features.pull_bureau_features")
    assert json.loads(row["bur_attributes"]) == {
        "plain": 1.5, "a code stands before a value": "NO_TRADES", "a quote and a  sign": 2.0,
        "atab": "NOTRADES", "no number": None, "nothing": None,
    }  # fmt: skip
