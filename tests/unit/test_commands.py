"""What commands say when they are called wrongly, and how they show tables."""

import json
import socket
import sqlite3
import subprocess
import sys
from calendar import monthrange
from datetime import date, timedelta
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.errors import CardlineError
from pipelines.features.retrieval import require_anything_published
from pipelines.finance.periods import close_period
from pipelines.network import require_free_port
from pipelines.partitions import ranges_of
from pipelines.query import print_query
from pipelines.registry_view import in_words
from pipelines.settings import get_settings
from pipelines.warehouse import connect


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PARTITIONS_START_ON", "never", "valid date"),
        ("MAX_BAD_ROW_SHARE", "5", "less than or equal to 1"),
        ("ONLINE_STORE", "mongo", "'sqlite' or 'redis'"),
        ("ALERT_BUDGET_PER_DAY", "0", "greater than or equal to 1"),
        ("HOME", "", "name one"),
        ("HOME", "/dev/null", "/dev/null is no folder"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_may_be(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(f"CARDLINE_{name}", value)
    get_settings.cache_clear()
    with pytest.raises(CardlineError, match=f"CARDLINE_{name}={value!r}") as error:
        get_settings()
    assert says in str(error.value)


def test_who_reads_a_few_lines_hears_of_no_error(home: Path) -> None:
    connect().close()
    ended = subprocess.run(
        f"{sys.executable} -W ignore -m pipelines sql 'select * from range(1000000)' --format csv "
        "| head -2",
        shell=True, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert ended.stdout.split() == ["range", "0"]
    assert ended.stderr == ""


@pytest.mark.parametrize("said", ["unable to open database file", "disk I/O error"])
def test_a_home_that_cannot_be_written_is_named(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    said: str,
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError(said)

    connect().close()
    monkeypatch.setattr("pipelines.query.print_query", failing)
    monkeypatch.setattr(sys, "argv", ["cardline", "sql", "select 1"])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().err
    assert str(home) in told
    assert said in told


def test_a_home_has_one_name(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect().close()
    (tmp_path / "link").symlink_to(home)
    for name in (tmp_path / "link", home / ".." / "home"):
        monkeypatch.setenv("CARDLINE_HOME", str(name))
        get_settings.cache_clear()
        connect(read_only=True).close()


def test_a_home_that_was_moved_says_so(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect().close()
    home.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("CARDLINE_HOME", str(tmp_path / "elsewhere"))
    get_settings.cache_clear()
    with pytest.raises(CardlineError, match="was made in another folder"):
        connect(read_only=True)


@pytest.mark.parametrize(
    "query",
    ["", "select 1; select 2", "copy (select 1) to 'x.csv'", "attach 'x.db'", "drop view v"],
)
def test_sql_takes_one_query_and_nothing_else(home: Path, query: str) -> None:
    connect().close()
    with pytest.raises(CardlineError, match="write one query"):
        print_query(query, "csv")


def test_sql_shows_values_as_they_are(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    connect().close()
    print_query("select '[/x] [bold]b' as \"[/a]\", ':x:' as e", "table")
    shown = capsys.readouterr().out
    assert "[/x] [bold]b" in shown and ":x:" in shown and "[/a]" in shown


def test_sql_tells_sums_of_integers_as_numbers_and_fractions_exactly(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connect().close()
    print_query("select sum(i) as total, 0.10 as share from range(5) as numbers(i)", "json")
    assert json.loads(capsys.readouterr().out) == [{"total": 10, "share": "0.10"}]


def test_sql_calls_nothing_that_removes_files(home: Path) -> None:
    connect().close()
    with pytest.raises(CardlineError, match="lake_maintenance"):
        print_query("from ducklake_cleanup_old_files('lake', cleanup_all => true)", "table")


def test_a_command_that_closes_makes_no_warehouse(home: Path) -> None:
    with pytest.raises(CardlineError, match="no warehouse in"):
        close_period("p", "2026-09", None)
    assert not get_settings().catalog_path.exists()


def test_batch_dates_that_lie_apart_are_ranges_of_their_own() -> None:
    near, far = date(2026, 11, 1), date(2030, 11, 1)
    days = [near + timedelta(n) for n in (9, 0, 30, 60)]
    assert ranges_of([far, *days]) == [(days[1], days[3]), (far, far)]
    assert ranges_of([]) == []


def test_a_year_of_month_ends_is_one_range() -> None:
    ends = [date(2026, month, monthrange(2026, month)[1]) for month in range(1, 13)]
    assert ranges_of(ends) == [(date(2026, 1, 31), date(2026, 12, 31))]


def test_a_list_in_csv_is_named(home: Path) -> None:
    connect().close()
    with pytest.raises(CardlineError, match="leave many out"):
        print_query("select 1 as one, [1] as many", "csv")


def test_a_table_that_is_too_wide_is_shown_value_by_value(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connect().close()
    print_query("select 7 as number, 'x' as text", "table")
    assert "number" in capsys.readouterr().out.splitlines()[1]
    print_query(f"select {', '.join(f'{i} as a_long_name_{i}' for i in range(30))}", "table")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["--- row 1", "a_long_name_0   0"]
    assert len(lines) == 31


def test_a_port_that_is_taken_is_told_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CardlineError, match="name another with --port"):
            require_free_port("127.0.0.1", taken.getsockname()[1])


def test_a_home_without_features_serves_none(home: Path) -> None:
    with pytest.raises(CardlineError, match="no features have been published"):
        require_anything_published()


def test_a_figure_of_few_bad_rows_says_so() -> None:
    metrics = {"sample": "out_of_time", "rows": 79, "positives": 4, "auc": 0.98}
    assert in_words(metrics) == "AUC 0.980 (out of time: 79 rows, 4 bad, too few to judge by)"
    assert "too few" not in in_words(metrics | {"positives": 40})


@pytest.mark.parametrize(
    ("url", "is_taken"),
    [
        ("localhost:6379", True),
        ("10.0.0.1:6379,db=1,ssl=true,password=se:c/r=et", True),
        ("redis://:secret@localhost:6379", False),
        ("localhost:6379/1,password=secret", False),
        ("localhost", False),
    ],
)
def test_what_a_redis_is_called_is_checked_before_anything_runs(
    url: str, is_taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARDLINE_REDIS_URL", url)
    get_settings.cache_clear()
    if is_taken:
        assert get_settings().redis_url == url
    else:
        with pytest.raises(CardlineError, match=r"CARDLINE_REDIS_URL: write host:port") as refused:
            get_settings()
        assert "secret" not in str(refused.value)
    monkeypatch.undo()
    get_settings.cache_clear()
