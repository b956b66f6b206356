"""What comes late takes back what was told before: counts, links and rows."""

from datetime import date, datetime
from pathlib import Path

import pytest

from tests.dbt.lake_builds import Row, build, deliver, home_of, rows_of

FEATURES = ("--select", "+pull_bureau_features")


def _received(day: int, pull_id: str, **values: object) -> Row:
    return {"pull_id": pull_id, "received_at": datetime(2024, 3, day), **values}


def _pull(day: int, pull_id: str) -> Row:
    return _received(
        day, pull_id, person_id="u", requested_at=datetime(2024, 3, day), pull_type="HARD",
        file_hit="HIT",
    )  # fmt: skip


def _inquiry(day: int, pull_id: str) -> Row:
    return _received(day, pull_id, inquiry_id="1", inquired_on=datetime(2024, 2, 1).date())


def _inquiries() -> dict[str, int | None]:
    return {row["pull_id"]: row["bur_inq_3m_n"] for row in rows_of("features.pull_bureau_features")}


@pytest.mark.usefixtures("home")
def test_what_was_received_before_all_that_was_known_turns_nulls_into_counts(
    tmp_path: Path,
) -> None:
    home_of(tmp_path)
    pulls = [_pull(2, "before"), _pull(10, "between"), _pull(20, "after")]
    first = deliver({"bureau_pulls": pulls, "bureau_inquiries": [_inquiry(20, "after")]})
    build(*FEATURES)
    assert _inquiries() == {"before": None, "between": None, "after": 1}
    deliver({"bureau_inquiries": [_inquiry(5, "of another bureau")]})
    build(*FEATURES, from_load_no=first)
    assert _inquiries() == {"before": None, "between": 0, "after": 1}


def _message(day: int, transaction_id: str, kind: str, **values: object) -> Row:
    at = datetime(2024, 3, day, 10)
    return {
        "event_id": f"e-{transaction_id}", "transaction_id": transaction_id, "event_type": kind,
        "account_id": "a", "card_id": "c", "event_at": at, "amount_minor": 10_000,
        "currency": "USD", "direction": "DEBIT" if kind == "CLEARING" else "CREDIT",
        "received_at": at, **values,
    }  # fmt: skip


@pytest.mark.usefixtures("home")
def test_a_refund_that_finds_its_purchase_frees_the_one_it_was_linked_to(tmp_path: Path) -> None:
    home_of(tmp_path)
    models = ("--select", "+int_refunds__linked")
    bought = _message(5, "n", "CLEARING", merchant_id="m3", network_transaction_id="n1")
    named = _message(
        10, "named", "RETURN", merchant_id="m2", network_transaction_id="n1",
        original_transaction_id="p",
    )  # fmt: skip
    unnamed = _message(12, "unnamed", "RETURN", merchant_id="m3")
    reversal = _message(
        14, "reversal", "RETURN_REVERSAL", direction="DEBIT", merchant_id="m4",
        original_transaction_id="unnamed",
    )  # fmt: skip
    first = deliver({"transactions": [bought, named, unnamed, reversal]})
    build(*models)

    def links() -> dict[str, tuple[str | None, str]]:
        return {
            row["transaction_id"]: (row["refunds_transaction_id"], row["refund_link_method"])
            for row in rows_of("intermediate.int_refunds__linked")
        }

    assert links() == {
        "named": ("n", "NETWORK_ID"), "unnamed": (None, "UNMATCHED"),
        "reversal": ("unnamed", "ORIGINAL_ID"),
    }  # fmt: skip
    late = datetime(2024, 3, 15)
    deliver({"transactions": [_message(4, "p", "CLEARING", merchant_id="m1", received_at=late)]})
    build(*models, from_load_no=first)
    told = links()
    assert told == {
        "named": ("p", "ORIGINAL_ID"), "unnamed": ("n", "SAME_MERCHANT"),
        "reversal": ("n", "SAME_MERCHANT"),
    }  # fmt: skip
    build(*models, "--full-refresh")
    assert links() == told


@pytest.mark.usefixtures("home")
def test_a_late_reversal_of_a_named_refund_gives_its_purchase_back(tmp_path: Path) -> None:
    home_of(tmp_path)
    models = ("--select", "+int_refunds__linked")
    bought = _message(5, "p", "CLEARING", merchant_id="m")
    named = _message(6, "named", "RETURN", merchant_id="x", original_transaction_id="p")
    unnamed = _message(9, "unnamed", "RETURN", merchant_id="m")
    first = deliver({"transactions": [bought, named, unnamed]})
    build(*models)

    def links() -> dict[str, str | None]:
        return {
            row["transaction_id"]: row["refunds_transaction_id"]
            for row in rows_of("intermediate.int_refunds__linked")
        }

    assert links() == {"named": "p", "unnamed": None}
    reversal = _message(
        8, "reversal", "RETURN_REVERSAL", direction="DEBIT", merchant_id="x",
        original_transaction_id="named", received_at=datetime(2024, 3, 12),
    )  # fmt: skip
    deliver({"transactions": [reversal]})
    build(*models, from_load_no=first)
    told = links()
    assert told == {"named": "p", "unnamed": "p", "reversal": "p"}
    build(*models, "--full-refresh")
    assert links() == told


@pytest.mark.usefixtures("home")
def test_an_account_loses_the_redemption_that_was_another_ones_before(tmp_path: Path) -> None:
    home_of(tmp_path)
    models = ("--select", "+account_redemption_features")

    def redemption(day: int, account: str) -> Row:
        return {
            "reward_event_id": "r", "account_id": account, "program_id": "p", "kind": "REDEEM",
            "event_at": datetime(2024, 3, 1), "points": 7, "received_at": datetime(2024, 3, day),
        }  # fmt: skip

    def redeemers() -> list[str]:
        return [row["account_id"] for row in rows_of("features.account_redemption_features")]

    first = deliver({"reward_events": [redemption(13, "q")]})
    build(*models)
    assert redeemers() == ["q"]
    deliver({"reward_events": [redemption(11, "b")]})
    build(*models, from_load_no=first)
    assert redeemers() == ["b"]


@pytest.mark.usefixtures("home")
def test_an_account_loses_the_statement_that_was_another_ones_before(tmp_path: Path) -> None:
    home_of(tmp_path)
    models = ("--select", "+account_payment_features")

    def statement(day: int, name: str, account: str, balance: int) -> Row:
        return {
            "statement_id": name, "account_id": account, "period_start_on": date(2024, 1, 6),
            "period_end_on": date(2024, 2, 5), "opening_balance_minor": 100,
            "closing_balance_minor": balance, "received_at": datetime(2024, 3, day),
        }  # fmt: skip

    def balances() -> list[tuple[str, int, int]]:
        rows = rows_of("features.account_payment_features")
        return sorted(
            (row["account_id"], row["event_timestamp"].day, row["beh_balance_cur_minor"])
            for row in rows
        )

    first = deliver({"statements": [statement(1, "s", "q", 300), statement(1, "t", "q", 200)]})
    build(*models)
    assert balances() == [("q", 1, 200)]
    second = deliver({"statements": [statement(3, "t", "b", 250)]})
    build(*models, from_load_no=first)
    assert balances() == [("b", 3, 250), ("q", 1, 200), ("q", 3, 300)]
    deliver({"statements": [statement(7, "s", "q", 310)]})
    build(*models, from_load_no=second)
    told = [("b", 3, 250), ("q", 1, 200), ("q", 3, 300), ("q", 7, 310)]
    assert balances() == told
    build(*models, "--full-refresh")
    assert balances() == told


@pytest.mark.usefixtures("home")
def test_a_payment_that_turns_out_not_to_have_come_back_is_counted_no_more(tmp_path: Path) -> None:
    home_of(tmp_path)
    models = ("--select", "+account_payment_features")
    statement = {
        "statement_id": "s", "account_id": "q", "period_start_on": date(2024, 1, 6),
        "period_end_on": date(2024, 2, 5), "opening_balance_minor": 100,
        "closing_balance_minor": 100, "received_at": datetime(2024, 2, 6),
    }  # fmt: skip

    def payment(day: int, state: str, account: str = "q") -> Row:
        return {
            "payment_id": "p", "account_id": account, "state": state, "amount_minor": 100,
            "initiated_at": datetime(2024, 2, 20), "received_at": datetime(2024, 3, day),
        }  # fmt: skip

    def returned() -> list[tuple[datetime, int]]:
        rows = rows_of("features.account_payment_features")
        return sorted((row["event_timestamp"], row["beh_returned_pay_6m_n"]) for row in rows)

    first = deliver({"statements": [statement], "payments": [payment(1, "RETURNED")]})
    build(*models)
    told = [(datetime(2024, 2, 6), 0), (datetime(2024, 3, 1), 1)]
    assert returned() == told
    second = deliver({"payments": [payment(4, "SETTLED")]})
    build(*models, from_load_no=first)
    told.append((datetime(2024, 3, 4), 0))
    assert returned() == told
    deliver({"payments": [payment(8, "RETURNED", "another one's")]})
    build(*models, from_load_no=second)
    assert returned() == told
    build(*models, "--full-refresh")
    assert returned() == told
