"""Why these points, what a draft would have cost, and the commands that tell it."""

import json
from datetime import date, timedelta

import pytest
import yaml
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.errors import CardlineError
from pipelines.rewards.explanation import (
    account_lines,
    as_json,
    example,
    explain_account,
    explain_transaction,
    transaction_lines,
)
from pipelines.rewards.simulation import read_draft, simulate
from pipelines.warehouse import connect
from tests.property.rewards_histories import START, event, program
from tests.property.rewards_histories import TERMS as COMMON
from tests.rewards_lab import RewardsLab, instruction

DAY = timedelta(days=1)
TERMS = {
    "program": "lab", "version": 1, "valid_from": "2024-01-01", "timezone": "UTC",
    "earn": {
        "base": {"id": "base", "rate_milli": 1000},
        "bonus": [
            {"id": "gas", "match": {"mcc_category": "gas"}, "rate_milli": 2000,
             "cap": {"unit": "SPEND_MINOR", "amount": 10_000, "window": "CALENDAR_MONTH"}},
        ],
    },
    "expiry": {"kind": "LOT", "months": 12},
    "economics": {"point_value_micros": 500_000},
}  # fmt: skip
GAS = {"mcc": "5541"}


def refund(number, of, amount, day):
    return event(number, "a1", amount, day, event_type="RETURN", direction="CREDIT",
                 transaction_class="REFUND", refunds_transaction_id=of, **GAS)  # fmt: skip


@pytest.fixture
def lab():
    lab = RewardsLab(program(**TERMS)).deliver(
        [
            event(1, "a1", 8050, 0, **GAS),
            event(2, "a1", 5000, 1, **GAS),
            event(3, "a1", 1000, 2, mcc="6011"),
            refund(4, "t1", 3000, 3),
            event(5, "a2", 20_000, 3),
        ],
        [instruction("r1", "a1", "REDEEM", START + 4 * DAY, 50)],
    )
    lab.accrue(START + 10 * DAY)
    return lab


def draft(tmp_path, **changes):
    path = tmp_path / "draft.yaml"
    terms = {**COMMON, **TERMS, "version": 2, "valid_from": "2030-01-01", **changes}
    path.write_text(yaml.safe_dump(terms))
    return read_draft(path)


def test_a_capped_purchase_is_explained_to_the_unit(lab):
    facts = explain_transaction(lab.con, "t2")
    gas = next(each for each in facts["decisions"] if each["rule_id"] == "gas")
    assert (gas["cap_before"], gas["cap_after"], gas["eligible_minor"]) == (8050, 10_000, 1950)
    assert (gas["exact_units"], gas["units"], gas["rate"]) == ("39", 39, "2 points per 1 USD")
    text = "\n".join(transaction_lines(facts))
    for told in (
        "89 points of lab", "used 80.50 USD before, 100.00 USD after", "before rounding 39",
        "entry accrual:e2:1", "lot lot:e2:1: opened 89", "expires 2025-",
    ):  # fmt: skip
        assert told in text
    assert json.loads(as_json(facts))["transaction_id"] == "t2"


def test_rounding_and_what_a_redemption_took_are_told(lab):
    facts = explain_transaction(lab.con, "t1")
    base = next(each for each in facts["decisions"] if each["rule_id"] == "base")
    assert (base["exact_units"], base["units"]) == ("161/2", 81)
    assert {(lot["kind"], lot["units"]) for lot in facts["lots"]} >= {("OPENED", 242),
                                                                      ("REDEEM", -50)}  # fmt: skip
    text = "\n".join(transaction_lines(facts))
    assert "before rounding 80.5" in text and "redeem -50 by redemption:r1" in text


def test_superseded_revisions_and_exceptions_are_told(lab):
    lab.deliver([event(9, "a1", 9000, 0, known_on=START + 11 * DAY, **GAS),
                 refund(10, "t9", 99_000, 12)]).accrue(START + 12 * DAY)  # fmt: skip
    facts = explain_transaction(lab.con, "t2")
    assert facts["superseded"] and any(each["reverses_journal_id"] for each in facts["entries"])
    text = "\n".join(transaction_lines(facts))
    assert "superseded" in text and "reverses accrual:e2:1" in text
    assert "OVER_REFUND" in "\n".join(transaction_lines(explain_transaction(lab.con, "t10")))


def test_what_earned_nothing_says_why(lab):
    text = "\n".join(transaction_lines(explain_transaction(lab.con, "t3")))
    assert "0 points" in text
    assert "because its merchant category does not earn (EXCLUDED_MCC)" in text


def test_a_limit_of_merchants_and_points_that_wait_are_told():
    gas = {**TERMS["earn"]["bonus"][0], "available_after_days": 30}
    limits = [{"id": "one_station", "match": {"mcc_category": ["gas"]}}]
    terms = {**TERMS, "earn": {**TERMS["earn"], "bonus": [gas]}, "eligibility": {"limits": limits}}
    lab = RewardsLab(program(**terms)).deliver(
        [event(1, "a1", 1000, 0, merchant_id="m1", **GAS),
         event(2, "a1", 1000, 1, merchant_id="m2", **GAS)]
    )  # fmt: skip
    lab.accrue()
    waits = "lot lot:e1:1:+30d: opened 20 by accrual:e1:1; 20 of 20 open, can be spent from 2024-"
    assert waits in "\n".join(transaction_lines(explain_transaction(lab.con, "t1")))
    assert "can be spent from" in "\n".join(account_lines(explain_account(lab.con, "a1")))
    refused = "\n".join(transaction_lines(explain_transaction(lab.con, "t2")))
    assert (
        "rule one_station, version 1 (terms of 2024-03-26), 0 points, because mcc_category gas "
        "earns at the first merchant of a calendar month only (CAP_EXHAUSTED)"
    ) in refused


def test_an_account_adds_up(lab):
    facts = explain_account(lab.con, "a1")
    (held,) = facts["programs"]
    assert held["balance"]["available"] == sum(row["units"] for row in held["entries"])
    assert sum(row["units"] for row in held["rules"]) - 50 == held["balance"]["available"]
    assert sum(lot["points_open"] for lot in held["lots"]) == held["balance"]["available"]
    text = "\n".join(account_lines(facts))
    assert "redeem r1" in text and "EXCLUDED_MCC" in text
    # 80.50 and 19.50, less the refund of 30.00.
    assert "cap gas from 2024-03-01: 70.00 USD used" in text


def test_what_is_not_known_is_said(lab):
    for explain in (explain_transaction, explain_account):
        with pytest.raises(CardlineError, match="'nothing'"):
            explain(lab.con, "nothing")
    assert example(lab.con) is not None


def test_the_same_terms_as_a_draft_cost_the_same(lab, tmp_path):
    found = simulate(lab.con, draft(tmp_path), f"{START:%Y-%m}")
    assert found.decided == found.drafted and found.better == found.worse == 0
    assert (found.events, found.accounts) == (5, 2)
    assert found.decided.minor == (found.decided.points + 1) // 2


def test_a_draft_is_priced_by_rule_and_account(lab, tmp_path):
    before = lab.contents()
    fuel = {"id": "fuel", "match": {"mcc_category": "gas"}, "rate_milli": 5000}
    earn = {"base": {"id": "base", "rate_milli": 500}, "bonus": [fuel]}
    found = simulate(
        lab.con, draft(tmp_path, earn=earn, economics={"point_value_micros": 1_000_000}),
        f"{START:%Y-%m}",
    )  # fmt: skip
    # 100.50 USD of gas is kept: 0.5 and 5 points a dollar; 200 USD elsewhere by the other account.
    assert found.rules["fuel"] == (0, 503) and found.rules["gas"][1] == 0
    assert found.drafted.minor == found.drafted.points
    assert (found.better, found.worse) == (1, 1)
    assert lab.contents() == before


def test_caps_of_earlier_months_are_the_drafts_own(tmp_path):
    lab = RewardsLab(program(**TERMS)).deliver(
        [event(1, "a1", 8000, 0, **GAS), event(2, "a1", 8000, 40, **GAS)]
    )
    lab.accrue(START + 50 * DAY)
    lifetime = json.loads(json.dumps(TERMS["earn"]))
    lifetime["bonus"][0]["cap"]["window"] = "LIFETIME"
    found = simulate(lab.con, draft(tmp_path, earn=lifetime), f"{START + 40 * DAY:%Y-%m}")
    assert found.rules["gas"] == (160, 40) and found.rules["base"] == (80, 80)


@pytest.mark.parametrize(
    ("changes", "period", "said"),
    [
        ({"asset_scale": 2}, f"{START:%Y-%m}", "asset_scale: is fixed"),
        ({"program": "other"}, f"{START:%Y-%m}", "the warehouse has no other"),
        ({}, "2031-01", "no decisions in 2031-01"),
        ({}, "March", "write YYYY-MM"),
    ],
)
def test_what_cannot_be_simulated_is_refused(lab, tmp_path, changes, period, said):
    with pytest.raises(CardlineError, match=said):
        simulate(lab.con, draft(tmp_path, **changes), period)


def test_the_commands_tell_the_same(home, tmp_path):
    with connect() as con:
        RewardsLab(program(**TERMS), con=con).deliver([event(1, "a1", 5000, 0, **GAS)]).accrue()
        recorded = con.execute("select recorded_at from rewards.programs").fetchall()
    assert len(recorded) == 1
    draft(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == 0, result.exception
        return json.loads(result.stdout)

    assert run("rewards", "explain", "--transaction", "t1")["account_id"] == "a1"
    assert (
        run("rewards", "explain", "--account", "a1")["programs"][0]["balance"]["available"] == 150
    )
    day = str(START - DAY)
    assert [row["available"] for row in run("rewards", "balances", "--account", "a1")] == [150]
    assert run("rewards", "balances", "--recorded", str(START)) != []
    assert run("rewards", "balances", "--effective", day) == []
    assert run("rewards", "balances", "--recorded", day) == []
    nobodys = CliRunner().invoke(app, ["rewards", "balances", "--account", "nobody"])
    assert str(nobodys.exception) == "the rewards ledger has no balance of account nobody"
    simulated = run("programs", "simulate", str(tmp_path / "draft.yaml"), "--period", "2024-03")
    assert simulated["decided"] == simulated["drafted"]
    for arguments in (["--transaction", "t1"], ["--account", "a1"]):
        result = CliRunner().invoke(app, ["rewards", "explain", *arguments])
        assert result.exit_code == 0 and "150 points" in result.stdout.replace(
            "available", "points"
        )
    assert date.fromisoformat(day) < START
