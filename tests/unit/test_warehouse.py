"""What the warehouse answers, whatever DuckLake keeps of its columns."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from pipelines.settings import Settings
from pipelines.warehouse import connect, held_open, memory, scratch, transaction


def test_no_row_is_lost_where_a_first_commit_began_without_values(tmp_path: Path) -> None:
    """The first file has no value of `a`: DuckLake's bounds of it are then those of later files."""
    settings = Settings(home=tmp_path)  # pyright: ignore[reportCallIssue]
    with connect(settings=settings) as con:
        con.execute("create table ops.bounded (a bigint)")
        with transaction(con):
            con.execute("insert into ops.bounded values (null)")
            con.execute("insert into ops.bounded values (1)")
    with connect(settings=settings) as con:
        con.execute("insert into ops.bounded values (5)")
        found = con.execute("select a from ops.bounded where a <= 1").fetchall()
        grouped = con.execute("select a from ops.bounded group by a order by a").fetchall()
    assert found == [(1,)]
    assert grouped == [(1,), (5,), (None,)]


@pytest.mark.parametrize(
    "opened", [memory, scratch, connect, lambda: connect(alone=True)],
    ids=["memory", "scratch", "warehouse", "alone"],
)  # fmt: skip
def test_no_progress_goes_between_the_lines_of_an_answer(
    home: Path, opened: Callable[[], duckdb.DuckDBPyConnection]
) -> None:
    with opened() as con:
        assert con.execute("select current_setting('enable_progress_bar')").fetchone() == (False,)


def test_columns_that_came_later_come_to_an_older_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)  # pyright: ignore[reportCallIssue]
    with connect(settings=settings, alone=True) as con:
        con.execute("alter table quarantine.files drop column line_no")
        con.execute("alter table finance.partner_rate_cards drop column fee_amounts")
    with connect(settings=settings, alone=True) as con:
        con.execute("select line_no from quarantine.files")
        con.execute("select fee_amounts from finance.partner_rate_cards")


def test_who_closes_a_catalog_that_is_held_open_is_not_the_last(tmp_path: Path) -> None:
    """The last one writes the log back and removes it, under a lock that others wait for."""
    settings = Settings(home=tmp_path)  # pyright: ignore[reportCallIssue]

    def write() -> int:
        """Another process writes a row and closes; the size of the log that it leaves."""
        command = "from pipelines.warehouse import connect\nwith connect() as con: "
        command += "con.execute(\"insert into ops.watermarks values ('step', 1)\")"
        environment = os.environ | {"CARDLINE_HOME": str(tmp_path)}
        subprocess.run([sys.executable, "-c", command], env=environment, check=True)
        log = settings.catalog_path.with_name(settings.catalog_path.name + "-wal")
        return log.stat().st_size if log.exists() else 0

    assert write() == 0
    with held_open(settings):
        assert write() > 0
    assert write() == 0
    with connect(read_only=True, settings=settings) as con:
        assert con.execute("select count(*) from ops.watermarks").fetchone() == (3,)


def test_a_long_result_of_several_pipelines_comes_whole() -> None:
    query = "select i from a join b using (i) union all select i from b join a using (i)"
    program = f"""
from pipelines.warehouse import memory
with memory() as con:
    for table in ("a", "b"):
        con.execute(f"create table {{table}} as select range as i from range(1000000)")
    print(con.execute({query!r}).pl().height)
"""
    # In a process of its own: a query that hangs cannot be interrupted.
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert ended.stdout.split() == ["2000000"]
