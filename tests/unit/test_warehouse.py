"""What the warehouse answers, whatever DuckLake keeps of its columns."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from pipelines.settings import Settings
from pipelines.warehouse import connect, memory, scratch, transaction


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
