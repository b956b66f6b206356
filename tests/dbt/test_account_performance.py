"""How accounts turned out, and of which of them that is not known."""

from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from tests.dbt.lake_builds import Row, build, deliver, home_of, rows_of

OPENED_ON = date(2023, 1, 10)
WINDOW_ENDS_ON = date(2024, 1, 10)


def _account(name: str, **more: object) -> Row:
    return {
        "account_id": name, "customer_id": f"c-{name}", "program_id": "p", "opened_on": OPENED_ON,
        "credit_limit_minor": 100_000, "currency": "USD", "status": "OPEN",
        "updated_at": datetime(2023, 1, 10), "received_at": datetime(2023, 1, 10),
    } | more  # fmt: skip


def _closed(on: date, **more: object) -> Row:
    at = datetime.combine(on, datetime.min.time())
    return {"status": "CLOSED", "closed_on": on, "updated_at": at, "received_at": at} | more


def _statements(name: str, late: list[int | None], balance: int = 5_000) -> list[Row]:
    """A statement a month from the opening on, with its days past due."""
    rows: list[Row] = []
    for number, days in enumerate(late, start=1):
        month = OPENED_ON.month - 1 + number
        on = date(OPENED_ON.year + month // 12, month % 12 + 1, 8)
        rows.append(
            {
                "statement_id": f"{name}-{number}", "account_id": name,
                "period_start_on": on - timedelta(days=27), "period_end_on": on,
                "opening_balance_minor": balance, "closing_balance_minor": balance,
                "currency": "USD", "days_past_due": days,
                "received_at": datetime.combine(on, datetime.min.time()),
            }
        )  # fmt: skip
    return rows


GOOD = [0] * 12
CASES: dict[str, tuple[list[Row], list[int | None], str | None, str | None]] = {
    "never late": ([], GOOD, "GOOD", None),
    "29 days": ([], [*GOOD[:5], 29, *GOOD[:6]], "GOOD", None),
    "30 days": ([], [*GOOD[:5], 30, *GOOD[:6]], "INDETERMINATE", None),
    "89 days": ([], [*GOOD[:5], 89, *GOOD[:6]], "INDETERMINATE", None),
    "90 days": ([], [*GOOD[:5], 90, *GOOD[:6]], "BAD", None),
    "90 days later": ([], [*GOOD, 90], "GOOD", None),
    "charged off": ([_closed(WINDOW_ENDS_ON, charge_off_on=WINDOW_ENDS_ON)], GOOD, "BAD", None),
    "charged off later": (
        [_closed(WINDOW_ENDS_ON + timedelta(days=1), charge_off_on=date(2024, 1, 11))],
        GOOD, "GOOD", None,
    ),
    "no day told": (
        [{"substatus": "CHARGED_OFF_DELINQUENT", "updated_at": datetime(2023, 9, 1),
          "received_at": datetime(2023, 9, 1)}],
        GOOD, "BAD", None,
    ),
    "no day told, later": (
        [{"substatus": "CHARGED_OFF_DELINQUENT", "updated_at": datetime(2024, 2, 1),
          "received_at": datetime(2024, 2, 1)}],
        GOOD, "GOOD", None,
    ),
    "bankrupt": ([_closed(date(2023, 8, 1), substatus="BANKRUPTCY")], GOOD[:7], "BAD", None),
    "settled": (
        [_closed(date(2023, 8, 1), close_reason="SETTLED_FOR_LESS")], GOOD[:7], "BAD", None
    ),
    "fraud": (
        [_closed(date(2023, 8, 1), substatus="CHARGED_OFF_FRAUD", charge_off_on=date(2023, 8, 1))],
        GOOD[:7], "BAD", "FRAUD",
    ),
    "deceased": (
        [_closed(date(2023, 8, 1), close_reason="DECEASED")], GOOD[:7], "GOOD", "DECEASED"
    ),
    "closed soon": (
        [_closed(date(2023, 4, 9))], GOOD[:2], "GOOD", "CLOSED_WITHIN_3_MONTHS"
    ),
    "closed": ([_closed(date(2023, 8, 1))], GOOD[:7], "GOOD", None),
    "no statements": ([], [], None, "NO_STATEMENTS"),
    "nothing told": ([], [None] * 12, None, "DAYS_PAST_DUE_UNKNOWN"),
    "broken off": ([], GOOD[:3], None, "STATEMENTS_BREAK_OFF"),
    "broken off, bad": ([], [0, 0, 90], "BAD", None),
}  # fmt: skip


@pytest.mark.usefixtures("home")
def test_outcomes_are_those_of_the_window_where_they_are_known(tmp_path: Path) -> None:
    home_of(tmp_path)
    accounts = [_account("idle"), _account("rests"), _account("young", opened_on=date(2023, 9, 1))]
    statements = _statements("idle", GOOD, balance=0) + _statements("young", GOOD[:4])
    statements += _statements("rests", GOOD[:3]) + _statements("rests", GOOD[:4], balance=0)[3:]
    for name, (changes, late, _, _) in CASES.items():
        accounts += [_account(name), *(_account(name, **change) for change in changes)]
        statements += _statements(name, late)
    deliver({"accounts": accounts, "statements": statements})
    build("--select", "+account_performance")
    found = {
        row["account_id"]: (row["outcome"], row["exclusion"])
        for row in rows_of("risk.account_performance")
    }
    assert found.pop("idle") == ("GOOD", "NEVER_ACTIVE")
    assert found.pop("rests") == ("GOOD", None)
    assert found.pop("young") == (None, None)
    assert found == {name: case[2:] for name, case in CASES.items()}
    known = {
        row["account_id"]: row["outcome_known_at"] for row in rows_of("risk.account_performance")
    }
    assert known["never late"] == datetime(2024, 1, 11)
    assert known["nothing told"] is None
