"""What came late for a closed month, whether that is material, and what the month would have said.

A closed month is not changed: late entries are posted in the next open one. Where they are worth
more than the materiality, its pack gets a further version in which they count for the month that
they take effect in, with the difference from what was closed; the earlier version stays.
"""

from dataclasses import dataclass
from typing import Any

import duckdb
import polars as pl

from pipelines.finance.known import Cut
from pipelines.finance.pack_data import FLOWS
from pipelines.settings import Settings

_LATE = """
with entries as (
    select
        journal.journal_id,
        sum(case postings.direction when 'CREDIT' then amount else -amount end) as points
    from rewards.journal as journal
    inner join rewards.postings as postings on journal.journal_id = postings.journal_id
    where
        journal.program_id = ? and journal.original_period = ?
        and postings.ledger_account in
        ('MEMBER_PENDING', 'MEMBER_AVAILABLE', 'REDEMPTION_CLEARING')
    group by all
)
select
    count(*),
    cast(coalesce(sum(points), 0) as bigint),
    cast(coalesce(sum(abs(points)), 0) as bigint)
from entries
where points <> 0
"""


@dataclass(frozen=True)
class Late:
    """Entries that came for a closed month: how many, their effect and its absolute sum."""

    entries: int
    points: int
    absolute_points: int
    absolute_minor: int
    is_material: bool


def late_entries(
    con: duckdb.DuckDBPyConnection, program: str, period: str, settings: Settings
) -> Late:
    """What was posted elsewhere because `period` was closed, at the month's value of a point."""
    row = con.execute(_LATE, [program, period]).fetchone()
    month = con.execute(
        "select point_value_micros, closing_minor from finance.liability_rollforward "
        "where program_id = ? and period = ?",
        [program, period],
    ).fetchone()
    entries, points, absolute = row or (0, 0, 0)
    value, closing = month or (0, 0)
    minor = (2 * absolute * value + 1_000_000) // 2_000_000
    share = minor * 10_000 > abs(closing) * settings.materiality_bps
    is_material = entries > 0 and (share or minor > settings.materiality_minor)
    return Late(entries, points, absolute, minor, is_material)


def restated_cut(program: str) -> Cut:
    """The books with every entry in the month that it takes effect in."""
    return Cut(program, as_effective=True)


def difference(closed: dict[str, Any], restated: dict[str, Any]) -> pl.DataFrame:
    """Line by line, what a closed month said and what it would have said: points and money.

    Both are rows of the roll-forward; lines without points have none.
    """
    lines = [
        ("opening", "Opening balance", 1), *FLOWS, ("closing", "Closing balance", 1),
        ("closing_allowance", "Breakage allowance", 1), ("closing_net", "Net liability", 1),
    ]  # fmt: skip
    rows = []
    for column, label, sign in lines:
        row: dict[str, Any] = {"line": label}
        for unit in ("points", "minor"):
            name = f"{column}_{unit}"
            told = name in closed
            row[f"closed_{unit}"] = sign * closed[name] if told else None
            row[f"restated_{unit}"] = sign * restated[name] if told else None
            row[f"difference_{unit}"] = sign * (restated[name] - closed[name]) if told else None
        rows.append(row)
    kinds = {name: pl.Int64 for name in rows[0] if name != "line"}
    return pl.DataFrame(rows, schema={"line": pl.String} | kinds)
