"""What the terms ask about accounts beside their transactions, as it was known day by day.

Each frame carries `day`, when its rows became known to the accrual, and `is_new`. A fact that
changes what was decided before makes the account be decided again (`changes.py`).
"""

from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from typing import Any

import polars as pl

from pipelines.rewards.rules import RuleBook

ACTIVATION_SCHEMA = pl.Schema(
    {
        "account_id": pl.String,
        "offer_id": pl.String,
        "activated_on": pl.Date,
        "activated_at": pl.Datetime("us"),
        "day": pl.Date,
        "is_new": pl.Boolean,
    }
)
"""Offers taken up."""

STATUS_SCHEMA = pl.Schema(
    {
        "account_id": pl.String,
        "from_at": pl.Datetime("us"),
        "status": pl.String,
        "substatus": pl.String,
        "tier": pl.String,
        "cycle_day": pl.Int64,
        "day": pl.Date,
        "is_new": pl.Boolean,
    }
)
"""Versions of an account's record, each in effect from `from_at` to the next one."""

STATEMENT_SCHEMA = pl.Schema(
    {
        "account_id": pl.String,
        "starts_on": pl.Date,
        "ends_on": pl.Date,
        "is_short": pl.Boolean,
        "day": pl.Date,
        "is_new": pl.Boolean,
    }
)
"""Statement periods; `is_short` where, when it became known, a gate did not hold."""

_REACHES_BACK = pl.col("from_at").dt.date() < pl.col("day")
"""Whether a version tells of a time before the day on which it became known."""

OPENING_SCHEMA = pl.Schema({"account_id": pl.String, "opened_on": pl.Date, "is_first": pl.Boolean})
"""Days of opening; `is_first` marks a customer's first account in the program."""


def _empty(schema: pl.Schema) -> Callable[[], pl.DataFrame]:
    return lambda: pl.DataFrame(schema=schema)


@dataclass(frozen=True)
class Facts:
    """Frames of the schemas above, of the accounts at hand; empty where no term asks."""

    activations: pl.DataFrame = field(default_factory=_empty(ACTIVATION_SCHEMA))
    statuses: pl.DataFrame = field(default_factory=_empty(STATUS_SCHEMA))
    statements: pl.DataFrame = field(default_factory=_empty(STATEMENT_SCHEMA))
    openings: pl.DataFrame = field(default_factory=_empty(OPENING_SCHEMA))

    def known_by(self, turn: pl.DataFrame, day: str) -> "Facts":
        """What was known of the accounts of `turn` (account_id and the column `day`) by then."""
        wanted = turn.select("account_id", _by=day)

        def known(frame: pl.DataFrame) -> pl.DataFrame:
            return frame.join(wanted, on="account_id").filter(pl.col("day") <= pl.col("_by")).drop(
                "_by"
            )  # fmt: skip

        return replace(
            self,
            activations=known(self.activations),
            statuses=pl.concat(
                [known(self.statuses), self.statuses.filter(_REACHES_BACK.not_())]
            ).unique(maintain_order=True),
            statements=known(self.statements),
        )

    def without_news(self) -> "Facts":
        """What is known before any news; statement periods are judged only in hindsight."""
        return replace(
            self,
            statuses=self.statuses.filter(~(pl.col("is_new") & _REACHES_BACK)),
            activations=self.activations.filter(~pl.col("is_new")),
            statements=self.statements.clear(),
        )

    def turns(self, events: pl.DataFrame) -> pl.DataFrame:
        """Days on which news about an account reach back: account_id and day.

        `events` (account_id, event_at, posted_on, day) are those at hand. News reach back where an
        offer was taken up, a statement shows too little, a record changed from a time before its
        day on; and so do events of a period that was found short before they came.
        """
        short = self.statements.filter("is_short")
        late = (
            events.select("account_id", "posted_on", "day")
            .join(short.select("account_id", "starts_on", "ends_on", told="day"), on="account_id")
            .filter(
                pl.col("posted_on").is_between("starts_on", "ends_on"),
                pl.col("told") < pl.col("day"),
            )
        )
        return pl.concat(
            [
                self.activations.filter("is_new").select("account_id", "day"),
                short.filter("is_new").select("account_id", "day"),
                self._changed().filter("is_new", _REACHES_BACK).select("account_id", "day"),
                late.select("account_id", "day"),
            ]
        ).unique()  # fmt: skip

    def _changed(self) -> pl.DataFrame:
        """Versions that say something else than the one before them; before all, it is open."""
        said = pl.concat_str(
            pl.col("status").fill_null("OPEN"), pl.col("substatus").fill_null(""),
            pl.col("tier").fill_null(""), pl.col("cycle_day").cast(pl.String).fill_null(""),
            separator="|",
        )  # fmt: skip
        return (
            self.statuses.sort("account_id", "from_at", "day")
            .with_columns(said=said)
            .filter(
                pl.col("said") != pl.col("said").shift(1).over("account_id").fill_null("OPEN|||")
            )
            .drop("said")
        )


def status_at(events: pl.DataFrame, statuses: pl.DataFrame) -> pl.DataFrame:
    """status, substatus and tier of each event's account when it happened; null before any."""
    versions = (
        statuses.sort("from_at", "day")
        .unique(["account_id", "from_at"], keep="last", maintain_order=True)
        .select("account_id", "from_at", "status", "substatus", "tier", "cycle_day")
    )
    return (
        events.select("account_id", "event_at")
        .with_row_index("row")
        .sort("event_at")
        .join_asof(
            versions.sort("from_at"), left_on="event_at", right_on="from_at", by="account_id",
            check_sortedness=False,
        )
        .sort("row")
        .select("status", "substatus", "tier", "cycle_day")
    )  # fmt: skip


def period_of(events: pl.DataFrame, statuses: pl.DataFrame) -> pl.Series:
    """The last day of the statement period that each event (account_id, event_at, posted_on) is
    posted in: the account's next cycle day, without one the end of the month."""
    cycle_day = status_at(events, statuses)["cycle_day"]
    ends = map(_period_end, events["posted_on"].to_list(), cycle_day.to_list())
    return pl.Series("period", list(ends), dtype=pl.Date)


def _period_end(on: date, cycle_day: int | None) -> date:
    day = cycle_day or 31
    last = monthrange(on.year, on.month)[1]
    if on.day > day:
        on = date(on.year, on.month, last) + timedelta(days=1)
        last = monthrange(on.year, on.month)[1]
    return on.replace(day=min(day, last))


def cures_delayed(statuses: pl.DataFrame, book: RuleBook) -> pl.DataFrame:
    """`statuses` (`STATUS_SCHEMA`) with every return to good standing put off to the day after the
    statement period that it falls into, by the terms of the day of the return.

    What the record said before stands until then, but for its tier.
    """
    ordered = statuses.sort("account_id", "from_at", "day").unique(
        ["account_id", "from_at"], keep="last", maintain_order=True
    )
    rows: list[dict[str, Any]] = []
    for own in ordered.partition_by("account_id", maintain_order=True):
        lapse: dict[str, Any] | None = None
        cure: dict[str, Any] | None = None
        for row in own.iter_rows(named=True):
            if cure and cure["from_at"] <= row["from_at"]:
                rows += [cure] if cure["from_at"] < row["from_at"] else []
                lapse = cure = None
            standing = book.terms_on(row["from_at"].date()).eligibility.account
            if standing and not standing.holds(row["status"], row["substatus"]):
                lapse, cure = row, None
            elif lapse and standing and standing.resume == "NEXT_CYCLE":
                ends = _period_end(row["from_at"].date(), row["cycle_day"])
                again_at = datetime.combine(ends + timedelta(days=1), time())
                cure = {**row, "from_at": cure["from_at"] if cure else again_at}
                row |= {"status": lapse["status"], "substatus": lapse["substatus"]}
            else:
                lapse = cure = None
            rows.append(row)
        rows += [cure] if cure else []
    return pl.DataFrame(rows, schema=STATUS_SCHEMA)


def statement_of(events: pl.DataFrame, statements: pl.DataFrame) -> pl.DataFrame:
    """starts_on and ends_on of the statement period that each event was posted in, or null."""
    periods = statements.sort("ends_on", "day").unique(
        ["account_id", "ends_on"], keep="last", maintain_order=True
    )
    found = (
        events.select("account_id", "posted_on")
        .with_row_index("row")
        .sort("posted_on")
        .join_asof(
            periods.select("account_id", "starts_on", "ends_on", until="ends_on").sort("until"),
            left_on="posted_on", right_on="until", by="account_id", strategy="forward",
            check_sortedness=False,
        )
        .sort("row")
    )  # fmt: skip
    inside = pl.col("starts_on") <= pl.col("posted_on")
    return found.select(
        pl.when(inside).then("starts_on").alias("starts_on"),
        pl.when(inside).then("ends_on").alias("ends_on"),
    )
