"""Closing a month, what comes late for it, restating it beside the first version, reopening."""

import csv
import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.errors import CardlineError
from pipelines.files import sha256_of
from pipelines.finance.known import Cut, open_books
from pipelines.finance.packs import build_pack, periods_due
from pipelines.finance.periods import (
    CLOSED,
    close_period,
    period_log,
    periods_of,
    reopen_period,
    verify_periods,
)
from pipelines.finance.reconciliation import reconcile
from pipelines.settings import Settings
from pipelines.transform import dbt
from pipelines.warehouse import connect, transaction
from tests.property.rewards_histories import START, event, program
from tests.rewards_lab import RewardsLab, end_of, instruction
from tests.rewards_ledger import FINANCE_MARTS

DAY = timedelta(days=1)
MARCH, APRIL, MAY = "2024-03", "2024-04", "2024-05"
ECONOMICS = {"point_value_micros": 1_000_000, "breakage_bps": 1_000, "presentation": "EXPENSE"}
TERMS = {
    "earn": {"base": {"id": "base", "rate_milli": 1000}}, "expiry": {"kind": "NONE"},
    "economics": ECONOMICS,
}  # fmt: skip
PROGRAM = "lab"


def bought(number: int, amount: int, on: date, known_on: date | None = None) -> dict:
    row = event(number, f"a{number % 3}", amount, (on - START).days)
    return row | {"known_on": known_on or on}


class Home:
    """A warehouse with one program's ledger, finance tables and reconciliations."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(home=folder)  # pyright: ignore[reportCallIssue]
        with connect(settings=self.settings) as con:
            RewardsLab(program(**TERMS), con=con)
            con.execute(FINANCE_MARTS)
        self.load_no = 0

    def deliver(self, events=(), instructions=(), through: date | None = None) -> "Home":
        with connect(settings=self.settings) as con:
            lab = object.__new__(RewardsLab)
            terms = program(**TERMS)
            lab.programs, lab.con, lab.load_no = {terms.program_id: terms}, con, self.load_no
            lab.deliver(events, instructions).accrue(through)
            self.load_no = lab.load_no
        dbt(["run", "--select", "finance"], self.settings)
        reconcile(settings=self.settings)
        return self

    def close(self, period: str, approver: str = "controller") -> list[str]:
        done = close_period(PROGRAM, period, approver, "preparer", self.settings)
        return [f"{each.period} {each.state} {each.version}" for each in done]

    def frame(self, query: str):
        with connect(read_only=True, settings=self.settings) as con:
            return con.execute(query).pl()

    def pack(self, period: str, recorded: datetime | None = None) -> Path:
        return build_pack(PROGRAM, period, self.settings, recorded)

    def broken(self) -> dict[str, str]:
        return {r.name: r.detail for r in verify_periods(self.settings) if not r.ok}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """March and April with purchases, March closed; not to be written to."""
    home = Home(tmp_path_factory.mktemp("closing"))
    home.deliver(
        [bought(n, 10_000 + 137 * n, date(2024, 3, 5) + n * 6 * DAY) for n in range(8)],
        [instruction("r1", "a0", "REDEEM", date(2024, 3, 20), 50)],
        through=date(2024, 4, 25),
    )
    yield home


def contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


def rows(pack: Path, name: str) -> list[dict[str, str]]:
    with (pack / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_month_is_closed_by_two_people_when_its_checks_are_green(closed: Home) -> None:
    with pytest.raises(CardlineError, match="prepared by 'preparer', who cannot approve"):
        closed.close(MARCH, " Preparer")
    with pytest.raises(CardlineError, match="ledger is worked through 2024-04-25"):
        closed.close(APRIL)
    with pytest.raises(CardlineError, match="no books of '2031-01'"):
        closed.close("2031-01")
    with connect(settings=closed.settings) as con:
        con.execute(
            "insert into finance.exceptions (exception_id, recon_id, type, severity, opened_on, "
            "state) values ('x', 'R2', 'AMOUNT', 'HIGH', date '2024-03-03', 'OPEN')"
        )
    with pytest.raises(CardlineError, match="1 R2 AMOUNT: resolve or explain"):
        closed.close(MARCH)
    assert period_log(closed.settings).is_empty()
    with connect(settings=closed.settings) as con:
        con.execute("update finance.exceptions set state = 'EXPLAINED'")
    assert close_period(PROGRAM, MARCH, None, "alice", closed.settings)[0].state == "SOFT_CLOSED"
    with pytest.raises(CardlineError, match="prepared by 'alice'"):
        close_period(PROGRAM, MARCH, "Alice", "bob", closed.settings)
    assert closed.close(MARCH) == [f"{MARCH} CLOSED 1"]
    assert closed.close(MARCH) == []
    steps = period_log(closed.settings).select("state", "preparer", "approver").rows()
    assert steps == [("SOFT_CLOSED", "alice", None), ("CLOSED", "alice", "controller")]
    assert closed.broken() == {}

    before = closed.pack(MARCH)
    first = contents(before)
    assert json.loads((before / "manifest.json").read_text())["basis"] == "AS_CLOSED"
    assert "AMOUNT".lower() in (before / "report.html").read_text()

    # Late for March: 260.00 on a closing liability of some 400.
    late = [bought(50, 26_000, date(2024, 3, 12), known_on=date(2024, 4, 26))]
    closed.deliver(late, through=date(2024, 5, 2))
    moved = closed.frame("select * from rewards.journal where original_period is not null")
    assert moved.select("accounting_period", "original_period").rows() == [(APRIL, MARCH)]
    assert closed.broken() == {}

    again = closed.pack(MARCH)
    assert again.name == "v2" and contents(before) == first
    assert closed.pack(MARCH) == again
    told = json.loads((again / "manifest.json").read_text())
    assert (told["basis"], told["late_entries"], told["supersedes"]) == ("RESTATED", 1, 1)
    lines = {row["line"]: row for row in rows(again, "restatement")}
    assert int(lines["Accrued"]["difference_points"]) == 260
    assert int(lines["Closing balance"]["difference_minor"]) == 260
    assert int(lines["Redeemed"]["difference_points"]) == 0
    closing = {
        row["period"]: int(row["closing_points"]) for row in rows(before, "liability_rollforward")
    }
    assert int(lines["Closing balance"]["closed_points"]) == closing[MARCH]

    april = closed.pack(APRIL)
    assert rows(april, "prior_period_lines") == [
        {"program_id": PROGRAM, "period": APRIL, "original_period": MARCH, "event_type": "ACCRUAL",
         "entries": "1", "points": "260", "amount_minor": "260", "currency": "USD"}
    ]  # fmt: skip
    assert "For earlier, closed months" in (april / "report.html").read_text()

    big = Settings(home=closed.settings.home, materiality_bps=10_000, materiality_minor=10**9)  # pyright: ignore
    assert build_pack(PROGRAM, MARCH, big) == before


def test_books_of_any_time_are_those_of_the_entries_by_then(closed: Home) -> None:
    """FIN: as of (E, K), against a sum over the entries that were recorded by K."""
    entries = closed.frame(
        "select recorded_at, accounting_period, sum(case direction when 'CREDIT' then amount else "
        "-amount end)::bigint as points from rewards.journal inner join rewards.postings using "
        "(journal_id) where ledger_account in ('MEMBER_PENDING', 'MEMBER_AVAILABLE') group by all"
    ).to_dicts()
    for known in (date(2024, 3, 12), date(2024, 4, 1), date(2024, 4, 25), date(2024, 4, 30)):
        books = connect(read_only=True, settings=closed.settings, alone=True)
        with books as con, transaction(con):
            open_books(con, Cut(PROGRAM, end_of(known)), closed.settings)
            found = dict(
                con.execute(
                    "select period, closing_points from finance.liability_rollforward"
                ).fetchall()
            )
        for period, closing in found.items():
            assert closing == sum(
                entry["points"]
                for entry in entries
                if entry["recorded_at"] <= end_of(known) and entry["accounting_period"] <= period
            ), (known, period)
        assert set(found) == {
            entry["accounting_period"] for entry in entries if entry["recorded_at"] <= end_of(known)
        }
    early = closed.pack(MARCH, recorded=end_of(date(2024, 3, 12)))
    manifest = json.loads((early / "manifest.json").read_text())
    assert (manifest["basis"], manifest["as_of"]["recorded_at"][:10]) == ("AS_KNOWN", "2024-03-12")


def test_a_close_that_was_tampered_with_is_found(closed: Home) -> None:
    tampering = {
        "log of closes": "update finance.period_log set approver = 'mallory' "
        "where state = 'CLOSED'",
        "closed months": f"update rewards.journal set accounting_period = '{MARCH}' "
        "where original_period is not null",
        "closed figures": "update finance.gl_entries set debit_minor = debit_minor + 1 "
        f"where period = '{MARCH}' and debit_minor > 0",
    }
    for name, statement in tampering.items():
        with connect(settings=closed.settings) as con:
            con.execute("begin")
            con.execute(statement)
            con.execute("commit")
        assert name in closed.broken()
        undo = {
            "log of closes": "update finance.period_log set approver = 'controller' "
            "where state = 'CLOSED'",
            "closed months": f"update rewards.journal set accounting_period = '{APRIL}' "
            "where original_period is not null",
            "closed figures": "update finance.gl_entries set debit_minor = debit_minor - 1 "
            f"where period = '{MARCH}' and debit_minor > 0",
        }[name]
        with connect(settings=closed.settings) as con:
            con.execute(undo)
        assert closed.broken() == {}


def test_reopening_takes_two_people_and_a_reason_and_makes_the_next_version(closed: Home) -> None:
    settings = closed.settings
    assert closed.close(APRIL) == [f"{APRIL} CLOSED 1"]
    for approvers, reason, message in (
        (("ann", "Ann "), "wrong rate", "two approvers"),
        (("ann", "ben"), " ", "a reason"),
    ):
        with pytest.raises(CardlineError, match=message):
            reopen_period(PROGRAM, APRIL, approvers, reason, settings)
    with pytest.raises(CardlineError, match="closed on top of 2024-03"):
        reopen_period(PROGRAM, MARCH, ("ann", "ben"), "wrong rate", settings)
    with pytest.raises(CardlineError, match="has no books of '2024-05'"):
        reopen_period(PROGRAM, MAY, ("ann", "ben"), "wrong rate", settings)
    assert reopen_period(PROGRAM, APRIL, ("ann", "ben"), "wrong rate", settings).version == 2
    closed.deliver(
        [bought(60, 5_000, date(2024, 4, 29), known_on=date(2024, 5, 3))], through=date(2024, 5, 4)
    )
    landed = closed.frame(
        "select accounting_period, original_period from rewards.journal where source_id = 'e60'"
    )
    assert landed.rows() == [(APRIL, None)]
    assert closed.close(APRIL) == [f"{APRIL} CLOSED 2"]
    assert closed.frame(
        f"select version from finance.liability_rollforward where period = '{APRIL}'"
    ).rows() == [(2,)]
    states = {each.period: each.state for each in periods_of_home(closed)}
    assert states[MARCH] == states[APRIL] == CLOSED
    assert closed.broken() == {}
    assert periods_due(settings) == []


@pytest.mark.parametrize(
    ("taken_on", "bought_on", "expected"),
    [
        # A purchase that is told of late makes good a debt of a later month, ...
        (date(2024, 4, 5), date(2024, 3, 10), [(MARCH, 100), (APRIL, 50)]),
        # ... and a return takes from what was bought in one.
        (date(2024, 3, 20), date(2024, 4, 5), [(MARCH, -50), (APRIL, 50)]),
    ],
)
def test_what_is_told_late_across_a_debt_holds(
    tmp_path: Path, taken_on: date, bought_on: date, expected: list[tuple[str, int]]
) -> None:
    home = Home(tmp_path)
    back = {"event_type": "RETURN", "direction": "CREDIT", "transaction_class": "REFUND"}
    late, first = date(2024, 4, 20), date(2024, 4, 10)
    taken = bought(1, 5_000, taken_on, late if taken_on < bought_on else first) | back
    purchase = bought(4, 10_000, bought_on, first if taken_on < bought_on else late)
    for row in sorted([taken, purchase], key=lambda row: row["known_on"]):
        home.deliver([row], through=row["known_on"])
    dbt(["build", "--select", "finance"], home.settings)
    closing = home.frame(
        "select period, closing_points from finance.liability_rollforward order by period"
    )
    assert closing.rows() == expected


def periods_of_home(home: Home):
    with connect(read_only=True, settings=home.settings) as con:
        return periods_of(con, PROGRAM)
