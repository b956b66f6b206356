"""The main job by its own commands: a portfolio, a second run, a kill, clear errors."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.files import sha256_of
from pipelines.settings import Settings
from pipelines.transform import TEXT
from pipelines.warehouse import CATALOG, connect, set_watermark, watermark

COMMAND = [sys.executable, "-W", "ignore", "-m", "pipelines"]
COMPARED = (
    "marts.fct_posted_events", "marts.fct_transaction_events", "marts.fct_statements",
    "marts.dim_accounts", "features.card_velocity_features", "features.merchant_risk_features",
    "features.account_payment_features", "features.pull_bureau_features", "rewards.decisions",
    "rewards.journal", "rewards.postings", "finance.liability_rollforward", "finance.gl_entries",
)  # fmt: skip


class Cardline:
    """The program, as a user calls it, on one home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = os.environ | {"CARDLINE_HOME": str(home)}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *arguments: str) -> str:
        process = self.start(*arguments)
        out, err = process.communicate()
        assert process.returncode == 0, f"{arguments}: {err[-2000:]}"
        return out

    def run_and_kill(self, seconds: float, landing: str) -> bool:
        """Run and kill after `seconds`; returns whether it was still at work.

        What the command has started is left as it is.
        """
        process = self.start("run", "--landing", landing)
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return True
        return False

    def rows(self, query: str) -> list[dict[str, Any]]:
        return json.loads(self("sql", query, "--format", "json"))

    def digests(self) -> dict[str, Any]:
        """Per table an order-free digest of its rows."""
        selects = " union all ".join(
            f"select '{name}' as name, count(*) as n, "
            f"cast(bit_xor(hash(cast(t as varchar))) as varchar) as digest from {name} as t"
            for name in COMPARED
        )
        return {row["name"]: (row["n"], row["digest"]) for row in self.rows(selects)}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Cardline:
    cardline = Cardline(tmp_path_factory.mktemp("demo") / "home")
    figures = json.loads(cardline("demo", "--accounts", "60", "--days", "90", "--json"))
    assert figures["rows"]["transactions"] > 1000
    assert figures["rows_quarantined"] == figures["files_quarantined"] == 0
    assert {row["program_id"] for row in figures["programs"]} >= {"skyline_miles", "clear_cash"}
    return cardline


def test_everything_that_is_promised_holds_after_a_run(demo: Cardline) -> None:
    results = json.loads(demo("verify", "--json"))
    assert len(results) >= 7
    assert [result for result in results if not result["ok"]] == []


def test_the_first_command_of_the_readme_comes_to_its_end(tmp_path: Path) -> None:
    cardline = Cardline(tmp_path / "home")
    # All cores and the default size: what waits for good does so with enough rows only.
    cardline.environment.pop("CARDLINE_THREADS", None)
    process = cardline.start("demo", "--json")
    try:
        out, err = process.communicate(timeout=900)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, err[-2000:]
    assert json.loads(out)["rows"]["transactions"] > 100_000
    assert all(result["ok"] for result in json.loads(cardline("verify", "--json")))


def test_a_second_run_changes_nothing(demo: Cardline) -> None:
    before = demo.digests()
    assert "nothing new" in demo("run")
    assert demo.digests() == before


def test_every_posted_event_has_a_decision_and_the_liability_closes(demo: Cardline) -> None:
    [undecided] = demo.rows(
        "select count(*) as n from marts.fct_posted_events "
        "where event_id not in (select event_id from rewards.decisions)"
    )
    assert undecided["n"] == 0
    open_ends = demo.rows(
        "select * from finance.liability_rollforward where "
        "opening_minor + accrued_minor - clawed_back_minor - redeemed_minor - transferred_minor "
        "- expired_minor - forfeited_minor + adjusted_minor <> closing_minor"
    )
    assert open_ends == []


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_tables(
    demo: Cardline, tmp_path_factory: pytest.TempPathFactory
) -> None:
    again = Cardline(tmp_path_factory.mktemp("killed") / "home")
    landing = str(demo.home / "landing")
    for seconds in (6, 14, 22):
        again.run_and_kill(seconds, landing)
    again("run", "--landing", landing)
    assert again.digests() == demo.digests()


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_an_interrupt_ends_the_command_and_what_it_started(
    demo: Cardline, tmp_path: Path, number: signal.Signals
) -> None:
    again = Cardline(tmp_path / "home")
    landing = demo.home / "landing"
    first_day = min(folder.name for folder in landing.glob("*/*"))
    process = again.start("run", "--landing", str(landing), "--through", first_day)
    deadline = time.monotonic() + 300
    while not (children := _dbt_of(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert children
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert err.strip() == "error: interrupted; run the command again to go on"
    assert psutil.wait_procs(children, timeout=10)[1] == []


def _dbt_of(pid: int) -> list[psutil.Process]:
    """The dbt builds that a process has started; others may end while they are looked at."""
    found = []
    for child in psutil.Process(pid).children():
        with suppress(psutil.Error):
            if "build" in child.cmdline():
                found.append(child)
    return found


@pytest.mark.slow
def test_twenty_kills_at_random_moments_end_in_the_same_tables(
    demo: Cardline, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A run that ends before it is killed leaves the rest of the kills to another home."""
    rng = random.Random(int(os.environ.get("CARDLINE_TEST_SEED", "7")))
    landing, expected = str(demo.home / "landing"), demo.digests()
    before = _contents(demo.home / "landing")
    kills = 0
    while kills < 20:
        again = Cardline(tmp_path_factory.mktemp("killed") / "home")
        while kills < 20 and again.run_and_kill(rng.uniform(0.5, 70), landing):
            kills += 1
        again("run", "--landing", landing)
        assert again.digests() == expected
        assert [line for line in json.loads(again("verify", "--json")) if not line["ok"]] == []
    assert _contents(demo.home / "landing") == before


def _contents(folder: Path) -> dict[Path, str]:
    return {path: sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_after_a_killed_one_does_not_take_it_for_done(demo: Cardline) -> None:
    """What a kill leaves at work or in Dagster's records is ended, though nothing is new."""
    lock = demo.home / ".run.lock"
    assert lock.read_text() == ""
    lock.write_text("1234 killed\n")
    left = subprocess.Popen(
        ["sleep", "600"], env=demo.environment | {"CARDLINE_COMMAND_ID": "1234 killed"}
    )
    assert "nothing new" in demo("run")
    assert left.wait(timeout=10) == -signal.SIGKILL
    assert lock.read_text() == ""


@pytest.mark.slow
def test_a_view_that_a_release_brought_is_published_without_a_delivery(demo: Cardline) -> None:
    """The state of a home that was made before there was the view."""
    view = "features.pull_application_features"
    published = demo.home / "features" / view.partition(".")[2]
    rows, files = demo.rows(f"select count(*) as n from {view}"), _contents(published)
    with connect(settings=Settings(home=demo.home)) as con:  # pyright: ignore[reportCallIssue]
        con.execute(f"drop table {CATALOG}.{view}")
    shutil.rmtree(published)
    assert "nothing new" not in demo("run")
    assert demo.rows(f"select count(*) as n from {view}") == rows
    assert _contents(published).keys() == files.keys()
    assert "nothing new" in demo("run")
    assert "ok" in demo("verify")


_ONE_TABLE = """
import dagster as dg
from pipelines.definitions import defs
from pipelines.instance import dagster_instance
with dagster_instance() as instance:
    assert defs().resolve_job_def("curated_tables_build").execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey(["marts", "dim_cards"])]
    ).success
"""


def test_a_release_with_other_models_builds_all_tables_anew(demo: Cardline) -> None:
    view = "features.account_contact_features"
    rows = demo.rows(f"select * from {view} order by all")

    def text_of_models() -> int:
        with connect(settings=settings, read_only=True) as con:
            return watermark(con, TEXT)

    settings = Settings(home=demo.home)  # pyright: ignore[reportCallIssue]
    text = text_of_models()
    with connect(settings=settings) as con:
        set_watermark(con, TEXT, 7)
        con.execute(f"alter table {CATALOG}.{view} drop column email_changed_us")
    # One table that somebody builds says nothing of the others.
    subprocess.run([sys.executable, "-c", _ONE_TABLE], env=demo.environment, check=True)
    assert text_of_models() == 7
    assert "nothing new" not in demo("run")
    assert text_of_models() == text
    assert demo.rows(f"select * from {view} order by all") == rows
    assert "nothing new" in demo("run")


def test_an_online_store_that_was_lost_is_filled_without_a_delivery(demo: Cardline) -> None:
    [row] = demo.rows("select min(account_id) as id from features.account_amount_features")
    ask = (
        "features",
        "get",
        "account_behaviour_v1",
        "--entity",
        f"account_id={row['id']}",
        "--json",
    )
    before = json.loads(demo(*ask))
    shutil.rmtree(demo.home / "feast")
    assert "nothing new" not in demo("run")
    assert json.loads(demo(*ask))["features"] == before["features"]
    assert "nothing new" in demo("run")


def test_a_run_with_nothing_new_needs_no_orchestrator(demo: Cardline) -> None:
    modules = "dagster", "dbt", "feast"
    script = (
        "import sys; from pipelines.cli import app; app(['run'], standalone_mode=False); "
        f"print(sorted(set({modules}) & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=demo.environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert out.splitlines() == ["nothing new: nothing was changed", "[]"]


def test_a_pack_is_rebuilt_to_the_same_bytes(demo: Cardline) -> None:
    [row] = demo.rows(
        "select program_id, min(period) as period from finance.liability_rollforward "
        "where program_id = 'clear_cash' and accrued_points > 0 group by program_id"
    )
    arguments = ("report", "rewards", "--program", row["program_id"], "--period", row["period"])
    folder = Path(demo(*arguments).splitlines()[0])
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"report.html", "report.xlsx", "manifest.json"} <= set(files)
    assert Path(demo(*arguments).splitlines()[0]) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_features_answer_online_and_as_of_a_time(demo: Cardline) -> None:
    [row] = demo.rows(
        "select card_id, account_id from marts.fct_posted_events where account_id in "
        "(select account_id from features.account_amount_features) order by event_id limit 1"
    )
    entity = [
        "--entity",
        f"card_id={row['card_id']}",
        "--entity",
        f"account_id={row['account_id']}",
    ]
    online = json.loads(demo("features", "get", "fraud_authorization_v1", *entity, "--json"))
    past = json.loads(
        demo("features", "get", "fraud_authorization_v1", *entity, "--at", "2020-01-01", "--json")
    )
    assert online["features"]["amount_count_90d"] is not None
    assert past["features"]["amount_count_90d"] is None
    assert set(online["features"]) == set(past["features"])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("sql", "select * from nowhere"), 1),
        (("report", "rewards", "--program", "none", "--period", "2026-09"), 1),
        (("report", "rewards", "--program", "clear_cash", "--period", "September"), 1),
        (("features", "get", "no_service", "--entity", "a=b"), 1),
        (("adapt", "nothing", "--source", "."), 1),
        (("serve", "--host", "0.0.0.0"), 1),
        (("ui", "--host", "0.0.0.0"), 1),
        (("train", "everything"), 1),
        (("run", "--through", "soon"), 1),
        (("unknown",), 2),
    ],
)
def test_an_error_is_one_clear_line(demo: Cardline, arguments: tuple[str, ...], code: int) -> None:
    process = demo.start(*arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "Traceback" not in err


@pytest.mark.slow
def test_terms_that_come_later_reach_the_accounts_that_waited(tmp_path: Path) -> None:
    new = Cardline(tmp_path / "home")
    programs = tmp_path / "programs"
    programs.mkdir()
    new.environment["CARDLINE_PROGRAMS"] = str(programs)
    for feed, lines in {
        "accounts": "account_id,customer_id,program_id,opened_on,credit_limit_minor,currency,"
        "updated_at\na1,c1,dong,2024-01-02,100000000,VND,2024-01-02T00:00:00Z\n",
        "transactions": "event_id,transaction_id,event_type,account_id,card_id,event_at,"
        "amount_minor,currency,direction,posted_on\n"
        "e1,t1,CLEARING,a1,k1,2024-03-05T10:00:00Z,250000,VND,DEBIT,2024-03-06\n",
    }.items():
        path = new.home / "landing" / feed / "2024-03-31" / "rows.csv"
        path.parent.mkdir(parents=True)
        path.write_text(lines)
    new("run")
    [waiting] = new.rows("select type, state, right_ref from finance.exceptions")
    assert waiting == {"type": "UNKNOWN_PROGRAM", "state": "OPEN", "right_ref": "dong"}
    (programs / "dong.yaml").write_text(
        "program: dong\nversion: 1\nvalid_from: 2024-01-01\ncurrency: VND\n"
        "earn: {base: {id: base, rate_milli: 1000}}\n"
    )
    assert "rewards_accrual" in new("run")
    assert new.rows("select state from finance.exceptions") == [{"state": "RESOLVED"}]
    # The dong has no minor unit: a point for each.
    query = "select accrued_points, closing_minor from finance.liability_rollforward"
    assert new.rows(query) == [{"accrued_points": 250_000, "closing_minor": 250_000}]
    assert "nothing new" in new("run")


@pytest.mark.slow
def test_a_rate_card_reaches_the_packs_without_a_delivery(demo: Cardline, tmp_path: Path) -> None:
    query = (
        "select program_id, period, amount_minor from finance.partner_invoice_lines "
        "where component = 'MARKETING_FUND'"
    )
    assert demo.rows(query) == []
    [newest] = demo.rows("select max(period) as period from finance.periods")
    (tmp_path / "card.yaml").write_text(
        f"program: clear_cash\nversion: 1\nvalid_from: {newest['period']}-01\n"
        "components:\n  MARKETING_FUND: {rate: 250000, direction: RECEIVABLE}\n"
    )
    demo.environment["CARDLINE_RATE_CARDS"] = str(tmp_path)
    try:
        assert "finance_tables_build" in demo("run")
        [line] = demo.rows(query)
        assert line == {**newest, "program_id": "clear_cash", "amount_minor": 250_000}
        folder = demo.home / "reports" / "rewards" / "clear_cash" / newest["period"]
        [pack] = sorted(folder.iterdir())[-1:]
        assert "MARKETING_FUND" in (pack / "partner_invoice_lines.csv").read_text()
        assert "nothing new" in demo("run")
        card = tmp_path / "card.yaml"
        card.write_text(card.read_text().replace("250000", "300000"))
        for seconds in (5, 9):
            demo.run_and_kill(seconds, str(demo.home / "landing"))
        demo("run")
        assert demo.rows(query) == [{**line, "amount_minor": 300_000}]
        card.unlink()
        demo("run")
        assert demo.rows(query) == []
        [pack] = sorted(folder.iterdir())[-1:]
        assert "MARKETING_FUND" not in (pack / "partner_invoice_lines.csv").read_text()
    finally:
        del demo.environment["CARDLINE_RATE_CARDS"]
        demo("run")
