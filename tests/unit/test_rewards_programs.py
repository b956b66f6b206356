"""Checking a folder of terms and comparing versions, by the commands and by what they say."""

import pytest
import yaml
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.errors import CardlineError
from pipelines.rewards.program_diff import diff_versions
from pipelines.rewards.program_views import check_lines
from pipelines.rewards.terms import load_programs
from pipelines.settings import get_settings

FIRST = {
    "program": "card", "version": 1, "valid_from": "2024-01-01",
    "eligibility": {"exclude_mcc": [6011, 7995]},
    "earn": {
        "base": {"id": "base", "rate_milli": 1000},
        "bonus": [
            {"id": "gas", "match": {"mcc_category": "gas"}, "rate_milli": 3000,
             "cap": {"unit": "SPEND_MINOR", "amount": 150_000, "window": "CALENDAR_QUARTER"}},
            {"id": "shop", "match": {"partner_id": "mercato"}, "per_minor": 1000, "points": 1},
        ],
    },
    "economics": {"point_value_micros": 800_000},
}  # fmt: skip
SECOND = {
    "program": "card", "version": 2, "valid_from": "2025-01-01",
    "eligibility": {"exclude_mcc": [6011, 4829],
                    "limits": [{"id": "one_home", "match": {"mcc": [6513]}}]},
    "earn": {
        "base": {"id": "base", "rate_milli": 1500},
        "bonus": [
            {"id": "gas", "match": {"mcc_category": "gas"}, "rate_milli": 2000},
            {"id": "drugstore", "match": {"mcc_category": "drugstore"}, "rate_milli": 1000,
             "valid": ["2025-01-01", "2025-06-30"], "activation": "required",
             "available_after_days": 45},
        ],
    },
    "economics": {"point_value_micros": 900_000},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "card.yaml").write_text(yaml.safe_dump_all([FIRST, SECOND]))
    monkeypatch.setenv("CARDLINE_PROGRAMS", str(tmp_path))
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


def test_the_diff_says_what_changes_for_whom(folder):
    changes = diff_versions(load_programs(folder)["card"], 1, 2)
    told = {change.term: (change.whom, change.words) for change in changes}
    assert told == {
        "valid_from": ("members", "in force from 2025-01-01 (before: 2024-01-01)"),
        "valid_to": ("members", "in force until further notice (before: 2024-12-31)"),
        "earn.base.base.rate": (
            "every eligible purchase",
            "base: up from 1 points per 1 USD to 1.5 points per 1 USD",
        ),
        "earn.bonus.gas.rate": (
            "mcc_category gas", "gas: down from 3 points per 1 USD to 2 points per 1 USD",
        ),
        "earn.bonus.gas.cap": (
            "mcc_category gas",
            "gas: without a cap (before: up to 1,500.00 USD of spend per calendar quarter)",
        ),
        "earn.bonus.shop": (
            "partner_id mercato",
            "shop ends (was: 1 points per full 10.00 USD, for partner_id mercato)",
        ),
        "earn.bonus.drugstore": (
            "mcc_category drugstore",
            "new rule drugstore: 1 points per 1 USD, for mcc_category drugstore, "
            "from 2025-01-01 to 2025-06-30, after activation, available after 45 days",
        ),
        "eligibility.limits.one_home": (
            "mcc 6513",
            "one_home: mcc 6513 earns at the first merchant of a calendar month only",
        ),
        "eligibility.exclude_mcc": (
            "members", "eligibility.exclude_mcc: 4829 no longer earn; 7995 earn now",
        ),
        "economics.point_value_micros": (
            "finance", "economics.point_value_micros: 800,000 → 900,000 (up)",
        ),
    }  # fmt: skip
    back = {
        change.term: change.words for change in diff_versions(load_programs(folder)["card"], 2, 1)
    }
    assert "down from 1.5" in back["earn.base.base.rate"]
    assert back["eligibility.limits.one_home"].startswith("one_home ends (before: mcc 6513 earns")
    assert diff_versions(load_programs(folder)["card"], 1, 1) == []


def test_an_unknown_version_is_refused(folder):
    with pytest.raises(CardlineError, match="no version 7: it has 1, 2"):
        diff_versions(load_programs(folder)["card"], 1, 7)


def test_check_tells_versions_and_rules(folder):
    text = "\n".join(check_lines(load_programs(folder)))
    assert "card version 1: 2024-01-01 to 2024-12-31" in text
    assert "card version 2: 2025-01-01 to further notice" in text
    assert "shop: 1 points per full 10.00 USD" in text
    assert "one_home: mcc 6513 earns at the first merchant of a calendar month only" in text


def test_the_commands_read_the_folder(folder, tmp_path):
    runner = CliRunner()
    assert runner.invoke(app, ["programs", "check"]).stdout.count("version") == 2
    assert "base: up" in runner.invoke(app, ["programs", "diff", "card", "1", "2"]).stdout
    other = tmp_path / "other"
    other.mkdir()
    (other / "bad.yaml").write_text(yaml.safe_dump({**FIRST, "roundings": {}}))
    result = runner.invoke(app, ["programs", "check", str(other)])
    assert result.exit_code == 1 and isinstance(result.exception, CardlineError)
    assert "bad.yaml:" in str(result.exception) and "roundings:" in str(result.exception)
