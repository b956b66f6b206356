"""Program terms: what is accepted, what is refused and how the refusal reads."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest
import yaml

from pipelines.errors import CardlineError
from pipelines.rewards.engine import EVENT_SCHEMA, decide
from pipelines.rewards.lots import expires_on
from pipelines.rewards.mcc import MccSet, categories_of, in_category
from pipelines.rewards.rules import RuleBook
from pipelines.rewards.terms import Expiry, load_programs
from pipelines.settings import PACKAGE_DIR
from tests.property.rewards_histories import event

GOOD = """
program: test_card
version: {version}
valid_from: {valid_from}
timezone: America/New_York
earn:
  base: {{id: base, rate_milli: {rate}}}
"""


def write(folder: Path, name: str = "a.yaml", version=1, valid_from="2024-01-01", rate=1000,
          more="") -> Path:  # fmt: skip
    path = folder / name
    path.write_text(GOOD.format(version=version, valid_from=valid_from, rate=rate) + more)
    return path


def test_shipped_programs_are_valid():
    programs = load_programs(PACKAGE_DIR / "rewards" / "programs")
    assert set(programs) == {
        "skyline_miles", "mercato_points", "clear_cash", "sparkov_rewards", "birmingham_rebate",
    }  # fmt: skip
    assert programs["skyline_miles"].latest.settlement_model == "PARTNER_POSTED"
    assert programs["clear_cash"].latest.units_per_point == 100


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ("earns: {}", "earns"),
        ("rounding: {mode: NEAREST}", "rounding.mode"),
        ("timezone: Mars/Olympus", "timezone"),
        ("currency: ABC", "currency"),
        ("currency: XAU", "currency"),
        ("currency_kind: CASHBACK_KWD", "currency_kind"),
        ("asset_scale: true", "asset_scale"),
        ("rounding: {scope: TXN, mode: 1}", "rounding.mode"),
        ("closure: {grace_days: '2'}", "closure.grace_days"),
        ("eligibility: {txn_class: [PURCHAS]}", "eligibility.txn_class"),
        ("eligibility: {account: {id: good, status: [OPNE]}}", "eligibility.account.status"),
        ("tiers: [{id: top, at_least_minor: 1000000000001}]", "tiers.0.at_least_minor"),
        ("expiry: {kind: LOT}", "expiry"),
        ("eligibility: {exclude_mcc: [60a1]}", "eligibility.exclude_mcc"),
        ("eligibility: {exclude_mcc_category: [casino]}", "eligibility.exclude_mcc_category"),
        ("earn: {base: {id: base}}", "earn.base"),
        ("gates: [{id: five}]", "gates.0.n"),
        ("eligibility: {limits: [{id: one}]}", "eligibility.limits.0.match"),
    ],
)
def test_errors_name_file_and_field(tmp_path, more, field):
    path = write(tmp_path)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | yaml.safe_load(more)))
    with pytest.raises(CardlineError) as error:
        load_programs(tmp_path)
    assert str(path) in str(error.value) and f"{field}:" in str(error.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [("timezone: UTC", "'timezone' is there twice"), ("valid_to: 2025-02-30", "2025-02-30: day")],
)
def test_what_yaml_would_let_pass_is_refused_with_its_line(tmp_path, more, message):
    path = write(tmp_path, more=more)
    with pytest.raises(CardlineError) as error:
        load_programs(tmp_path)
    assert f"{path}:8: " in str(error.value) and message in str(error.value)


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ("rounding:\n  scope: TXN\n  mode: NEAREST", "10: rounding.mode:"),
        ("signup_bonuses: []", "8: signup_bonuses:"),
        ("eligibility:\n  exclude_mcc:\n    - 6011\n    - [1]", "11: eligibility.exclude_mcc.1"),
        ("returns:\n  policy: ONLY_PENDING", "9: returns.policy: ONLY_PENDING needs"),
        ("returns:\n  policy: half", "9: returns.policy:"),
        (
            "accrual:\n  settlement: LIVE\n  strategy: PAYMENT\nsignup_bonus:\n"
            "- {id: s, points: 1, threshold_minor: 1, within_days: 1}",
            "10: accrual.strategy:",
        ),
        ("rounding: {mode: UP}\nexpiry: {kind: INACTIVITY}", "9: expiry: kinds LOT and INACT"),
        ("returns: {rate_at: RETURN_DATE}\nrounding: {scope: STATEMENT}", "8: returns.rate_at:"),
        ("expiry: {kind: LOT, months: 3, action: CREDIT}", "8: expiry: action CREDIT needs"),
        ("---\nprogram: other\nversion: 1\nvalid_from: 2024-01-01\nearn: {}", "12: earn.base:"),
    ],
)
def test_errors_name_the_line(tmp_path, more, place):
    write(tmp_path, more=more)
    with pytest.raises(CardlineError) as error:
        load_programs(tmp_path)
    assert f"a.yaml:{place}" in str(error.value)


def test_not_yaml_names_the_file(tmp_path):
    (tmp_path / "bad.yaml").write_text("program: [")
    with pytest.raises(CardlineError, match=r"bad\.yaml:1"):
        load_programs(tmp_path)


def test_versions_follow_one_another(tmp_path):
    write(tmp_path, "a.yaml")
    write(tmp_path, "b.yaml", version=2, valid_from="2024-07-01", rate=2000)
    program = load_programs(tmp_path)["test_card"]
    assert program.valid_to(0) == date(2024, 6, 30) and program.valid_to(1) is None
    assert [program.index_on(date(2024, month, 1)) for month in (1, 7)] == [0, 1]
    assert program.index_on(date(2023, 12, 31)) is None
    assert program.versions[0].rule_hash != program.versions[1].rule_hash


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"version": 1, "valid_from": "2024-07-01"}, "version"),
        ({"version": 2, "valid_from": "2024-01-01"}, "valid_from"),
        ({"version": 2, "valid_from": "2024-07-01", "more": "asset_scale: 2"}, "asset_scale"),
    ],
)
def test_versions_that_contradict_one_another_are_refused(tmp_path, changes, field):
    write(tmp_path, "a.yaml")
    write(tmp_path, "b.yaml", **changes)
    with pytest.raises(CardlineError, match=rf"b\.yaml:2: {field}:"):
        load_programs(tmp_path)


def test_a_category_code_keeps_its_zero(tmp_path):
    write(tmp_path, more="eligibility: {exclude_mcc: [0742, 5411]}")
    excluded = load_programs(tmp_path)["test_card"].latest.eligibility.exclude_mcc
    assert [mcc in MccSet(excluded) for mcc in ("0742", "0482", "5411")] == [True, False, True]


def test_the_rule_hash_is_that_of_the_content(tmp_path):
    path = write(tmp_path)
    before = load_programs(tmp_path)["test_card"].versions[0].rule_hash
    path.write_text("# a comment\n" + path.read_text())
    assert load_programs(tmp_path)["test_card"].versions[0].rule_hash == before


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2024-07-01T03:59:59", 10),
        ("2024-07-01T04:00:00", 20),
        ("2024-06-30T12:00:00", 10),
    ],
)
def test_versions_switch_at_midnight_of_the_program(tmp_path, at, expected):
    write(tmp_path, "a.yaml")
    write(tmp_path, "b.yaml", version=2, valid_from="2024-07-01", rate=2000)
    rules = RuleBook(load_programs(tmp_path)["test_card"])
    events = pl.DataFrame([event(1, "a", 1000, 0)], schema=EVENT_SCHEMA).with_columns(
        event_at=pl.lit(at).str.to_datetime(time_unit="us")
    )
    assert decide(events, rules).decisions["points"].to_list() == [expected]


@pytest.mark.parametrize(
    ("currency", "amount", "expected"),
    [("USD", 10_00, 10), ("JPY", 10, 10), ("VND", 10, 10), ("XOF", 10, 10), ("LYD", 10_000, 10)],
)
def test_a_rate_is_of_the_whole_unit_of_the_currency(tmp_path, currency, amount, expected):
    write(tmp_path, more=f"currency: {currency}")
    rules = RuleBook(load_programs(tmp_path)["test_card"])
    bought = event(1, "a", amount, 200, currency=currency)
    events = pl.DataFrame([bought], schema=EVENT_SCHEMA)
    assert decide(events, rules).decisions["points"].to_list() == [expected]


@pytest.mark.parametrize(
    ("issued", "expiry", "expected"),
    [
        (date(2024, 2, 29), {"months": 12}, date(2025, 2, 28)),
        (date(2024, 1, 31), {"months": 1}, date(2024, 2, 29)),
        (date(2024, 1, 15), {"months": 60, "align": "END_OF_QUARTER"}, date(2029, 3, 31)),
        (date(2024, 11, 30), {"months": 3, "align": "END_OF_MONTH"}, date(2025, 2, 28)),
        (date(2024, 3, 31), {"months": 24, "align": "END_OF_YEAR"}, date(2026, 12, 31)),
    ],
)
def test_points_lapse_on_the_aligned_day(issued, expiry, expected):
    assert expires_on(issued, Expiry(kind="LOT", **expiry)) == expected


def test_merchant_categories():
    codes = MccSet([742, "7800-7802"])
    assert "0742" in codes and "7801" in codes and "7803" not in codes and None not in codes
    assert in_category("5812", "dining") and "travel" in categories_of("3005")
