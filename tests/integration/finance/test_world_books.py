"""Two years of three programs: a clean world reconciles, a damaged one breaks where it must.

Everything that money goes through is built from the landing files; features and models are not.
The control totals are added up a second time from the files alone.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from pipelines.finance.packs import build_pack
from pipelines.finance.reconciliation import verify_reconciliations
from pipelines.finance.reconciliations import CHAIN
from pipelines.ingestion.deliveries import MANIFEST_SUFFIX
from pipelines.ingestion.load import ingest
from pipelines.settings import Settings
from pipelines.sources.world import generate
from pipelines.sources.world.faults import KINDS, Fault, inject, release
from tests.books import Books

pytestmark = pytest.mark.slow

ACCOUNTS, DAYS, SEED = 30, 730, 3
FAULTS_SEED = 7
"""Of a draw that changes amounts which statements had already told of."""
# A file of payments has too few rows here for one bad row to be refused alone.
INJECTED = tuple(kind for kind in KINDS if kind != "future_date")
PROGRAMS = ("clear_cash", "mercato_points", "skyline_miles")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The landing files of the world."""
    folder = tmp_path_factory.mktemp("world")
    generate(folder / "made", ACCOUNTS, DAYS, SEED, truth=folder / "truth")
    return folder / "made"


def home_of(folder: Path, made: Path) -> Books:
    books = Books(Settings(home=folder))  # pyright: ignore[reportCallIssue]
    shutil.copytree(made, books.settings.landing_dir)
    return books


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Books:
    books = home_of(tmp_path_factory.mktemp("clean") / "home", made)
    books.build()
    return books


@pytest.fixture(scope="module")
def raw(clean: Books) -> Iterator[duckdb.DuckDBPyConnection]:
    """The landing files as views `<feed>` of their latest versions, without the warehouse."""
    with duckdb.connect() as con:
        for feed, key in (
            ("transactions", "event_id"), ("accounts", "account_id"),
            ("settlement_details", "detail_id"), ("settlement_totals", "total_id"),
            ("reward_events", "reward_event_id"),
        ):  # fmt: skip
            files = (clean.settings.landing_dir / feed / "*" / "*.parquet").as_posix()
            con.execute(
                f"create table {feed} as from read_parquet('{files}', union_by_name = true) "
                f"qualify row_number() over (partition by {key} order by received_at desc) = 1"
            )
        yield con


def test_a_clean_world_reconciles_without_a_break(clean: Books) -> None:
    runs = clean.frame(
        "select recon_id, count(*) as days, sum(breaks)::bigint as breaks, "
        "sum(left_count)::bigint as compared from finance.reconciliations group by all"
    )
    compared = {row["recon_id"]: row["compared"] for row in runs.iter_rows(named=True)}
    # No partner acknowledges anything in this world.
    assert {link for link, rows in compared.items() if rows} == {
        link.recon_id for link in CHAIN if link.recon_id != "R7"
    }
    assert runs["breaks"].sum() == 0
    assert clean.exceptions().is_empty()
    assert all(result.ok for result in verify_reconciliations(clean.settings))
    months = clean.frame("select distinct program_id, period from finance.liability_rollforward")
    assert set(months["program_id"]) == set(PROGRAMS)
    # The first applications of the two years take their time.
    assert months["period"].n_unique() >= 23


def test_clearing_is_zero_for_each_settlement_date_and_every_journal_balances(clean: Books) -> None:
    [stuck] = clean.frame(
        "select count(*) as n from (select network, report_on from finance.settlement_entries "
        "where account_code = '1010' and report_on < (select max(report_on) - 7 "
        "from marts.fct_settlement_totals) group by all having sum(debit_minor) "
        "<> sum(credit_minor))"
    )["n"]
    assert stuck == 0
    unbalanced = clean.frame(
        "select program_id, period, source from finance.gl_entries group by all "
        "having sum(debit_minor) <> sum(credit_minor)"
    )
    assert unbalanced.is_empty()


def test_settlement_of_a_month_is_that_of_the_files(
    clean: Books, raw: duckdb.DuckDBPyConnection
) -> None:
    worked = raw.execute(
        """
        with days as (
            select
                network, report_on,
                sum(case direction when 'DEBIT' then 1 else -1 end * amount_minor)
                    filter (where type <> 'FEE') as gross,
                floor(
                    (sum(case direction when 'DEBIT' then 1 else -1 end * interchange_micros)
                        filter (where type <> 'FEE') + 500000) / 1000000
                ) as interchange,
                sum(amount_minor) filter (where type = 'FEE') as charges
            from settlement_details group by all
        )
        select network, strftime(report_on, '%Y-%m'), sum(gross)::bigint,
            sum(interchange)::bigint, sum(charges)::bigint
        from days group by all order by all
        """
    ).fetchall()
    told = clean.frame(
        "select network, period, gross_minor, interchange_minor, charges_minor "
        "from finance.interchange_summary order by all"
    )
    assert told.rows() == worked
    assert len(worked) > 40


def test_points_moved_are_those_that_the_files_ask_for(
    clean: Books, raw: duckdb.DuckDBPyConnection
) -> None:
    """Redemptions net of what was cancelled, over all months."""
    asked = raw.execute(
        """
        select redeemed.program_id, sum(redeemed.points)::bigint
        from reward_events as redeemed
        where
            redeemed.kind = 'REDEEM' and redeemed.reward_event_id not in (
                select reference from reward_events where kind = 'REDEEM_CANCEL'
            )
        group by all order by all
        """
    ).fetchall()
    told = clean.frame(
        "select program_id, sum(redeemed_points)::bigint from finance.liability_rollforward "
        "group by all having sum(redeemed_points) <> 0 order by all"
    )
    assert told.rows() == asked
    assert asked


def test_control_totals_of_packs_are_those_of_the_files(
    clean: Books, raw: duckdb.DuckDBPyConnection
) -> None:
    """Every message that earns or takes back is decided once by the base rule: none is lost."""
    for program in PROGRAMS:
        [(events, amount)] = raw.execute(
            """
            select count(*), sum(amount_minor)::bigint
            from transactions
            where
                account_id in (select account_id from accounts where program_id = ?)
                and event_type in (
                    'CLEARING', 'FINANCIAL_AUTHORIZATION', 'FINANCIAL_CREDIT_AUTHORIZATION',
                    'RETURN', 'RETURN_REVERSAL', 'CORRECTION_CREDIT', 'CORRECTION_DEBIT'
                )
                and auth_result is distinct from 'DECLINED'
            """,
            [program],
        ).fetchall()
        compared = clean.frame(
            "select count(distinct decisions.event_id) as events, "
            "(select sum(amount_minor)::bigint from marts.fct_posted_events "
            "where program_id = ?) as amount from rewards.decisions as decisions "
            "inner join marts.fct_posted_events as posted using (event_id) "
            "where decisions.program_id = ?",
            (program, program),
        )
        assert compared.row(0) == (events, amount)
        pack = build_pack(program, "2026-06", settings=clean.settings)
        outputs = json.loads((pack / "manifest.json").read_text())["outputs"]
        totals = {
            row["control"]: int(row["amount"])
            for row in pl.read_csv(pack / "control_totals.csv").iter_rows(named=True)
        }
        assert totals["points credited"] == totals["points debited"]
        month = pl.read_csv(pack / "liability_rollforward.csv").row(-1, named=True)
        assert totals["points decided"] == month["accrued_points"] - month["clawed_back_points"]
        assert (
            outputs["gl_entries.csv"]["control_totals"]["debit_minor"]
            == (outputs["gl_entries.csv"]["control_totals"]["credit_minor"])
        )


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory, made: Path) -> tuple[Books, list[Fault]]:
    books = home_of(tmp_path_factory.mktemp("damaged") / "home", made)
    truth = books.settings.home / "truth"
    faults = inject(books.settings.landing_dir, truth, FAULTS_SEED, kinds=INJECTED)
    ingest(settings=books.settings)
    release(books.settings.landing_dir)
    books.build()
    return books, faults


def expected_of(faults: list[Fault]) -> Counter[str]:
    """What the truth names; of one report, message or statement there is one exception."""
    named = {each for fault in faults for each in fault.exceptions if each.count("/") > 1}
    files = Counter(each for fault in faults for each in fault.exceptions if each.count("/") == 1)
    return files + Counter("/".join(each.split("/")[:2]) for each in named)


def test_every_fault_is_the_exception_that_the_truth_names_and_nothing_else_is(
    damaged: tuple[Books, list[Fault]],
) -> None:
    books, faults = damaged
    found = books.exceptions()
    assert Counter(found["kind"]) == expected_of(faults)
    assert set(found["state"]) == {"OPEN"}
    told = {
        f"{row['kind']}/{ref}"
        for row in found.iter_rows(named=True)
        for ref in (row["left_ref"], row["right_ref"])
    }
    named = {each for fault in faults for each in fault.exceptions if each.count("/") > 1}
    assert named <= told
    assert {name.split("/")[0] for name in named} == {"R0", "R1", "R2", "R3"}


def test_mending_the_deliveries_closes_the_same_exceptions(
    damaged: tuple[Books, list[Fault]], clean: Books, made: Path
) -> None:
    books, faults = damaged
    before = books.exceptions()
    mend(books, faults, made)
    books.build()
    after = books.exceptions()
    assert after["exception_id"].to_list() == before["exception_id"].to_list()
    assert set(after["state"]) == {"RESOLVED"}
    assert set(after["resolution_code"]) == {"INPUT_MENDED"}
    assert all(result.ok for result in verify_reconciliations(books.settings))
    # What was late, refused or changed has left no trace in the books.
    query = (
        "select program_id, closing_points, closing_minor from finance.liability_rollforward "
        "qualify row_number() over (partition by program_id order by period desc) = 1 order by 1"
    )
    assert books.frame(query).equals(clean.frame(query))


def mend(books: Books, faults: list[Fault], made: Path) -> None:
    """Deliver again what was refused or never came, and correct what was changed."""
    for fault in faults:
        if not fault.exceptions:
            continue
        damaged = books.settings.landing_dir / fault.path
        whole = (made / fault.path).with_suffix(".parquet")
        if fault.finding == "CORRECTION":
            _correct_back(books, fault)
        elif damaged.suffix == ".csv":
            pl.read_parquet(whole).write_csv(damaged, datetime_format="%Y-%m-%dT%H:%M:%S%.6f")
        else:
            damaged.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(whole, damaged)
            shutil.copyfile(f"{whole}{MANIFEST_SUFFIX}", f"{damaged}{MANIFEST_SUFFIX}")


def _correct_back(books: Books, fault: Fault) -> None:
    """A further version with the amount as it was; exactly the first one would be a repetition."""
    changed = pl.read_parquet(books.settings.landing_dir / fault.path)
    row = changed.filter(pl.col("event_id") == fault.record_key)
    day = date.fromisoformat(fault.batch_date) + timedelta(days=2)
    target = (
        books.settings.landing_dir
        / "transactions"
        / day.isoformat()
        / f"back-{fault.record_key}.parquet"
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    row.with_columns(
        pl.col("amount_minor") - 137,
        device_id=pl.lit("corrected"),
        received_at=pl.lit(datetime.combine(day, time(12))),
    ).write_parquet(target)
