"""Entries of accounts that are never in deficit, in columns; and the order of all entries.

An accrual opens its lots whatever else happens, and a clawback takes from lots: from those of its
purchases, then from the oldest. So accruals are written in columns at once, and only clawbacks
look at the lots, one after the other.
"""

from collections.abc import Iterable

import numpy as np
import polars as pl

from pipelines.rewards.ledger import (
    CONSUMPTION_SCHEMA,
    JOURNAL_SCHEMA,
    LOT_SCHEMA,
    POSTING_SCHEMA,
    Entries,
)
from pipelines.rewards.lots import NEVER
from pipelines.rewards.posting import PHASE_EVENT, expiry_of, terms_on
from pipelines.rewards.terms import Program

Part = tuple[pl.DataFrame, Entries]
"""Entries and, for each of them, its place: day, phase, account_id and n. Their legs, lots and
consumption may name their entry by its number, in `entry`, instead of by the journal_id alone."""

NULL = pl.lit(None, dtype=pl.String)


def is_accrual() -> pl.Expr:
    """Which actions only open lots."""
    return (pl.col("event_class") == "EARN") & (pl.col("points") > 0) & ~pl.col("reverses")


def is_clawback() -> pl.Expr:
    """Which actions only take from lots."""
    return (pl.col("event_class") != "EARN") & (pl.col("points") < 0) & ~pl.col("reverses")


def in_deficit(actions: pl.DataFrame, states: pl.DataFrame) -> pl.Series:
    """Accounts that `actions`, in their order, bring below zero."""
    taken = actions.filter(pl.col("points") < 0)["account_id"].unique()
    return (
        actions.filter(pl.col("account_id").is_in(taken.implode()))
        .select("account_id", "day", "place", "points")
        .sort("account_id", "day", "place")
        .join(states.select("account_id", "balance"), on="account_id", how="left",
              maintain_order="left")
        .with_columns(balance=pl.col("points").cum_sum().over("account_id")
                      + pl.col("balance").fill_null(0))
        .filter(pl.col("balance") < 0)["account_id"].unique()
    )  # fmt: skip


def post_in_columns(program: Program, actions: pl.DataFrame, lots: pl.DataFrame) -> Part:
    """Entries of accruals and clawbacks, for accounts that these never bring below zero.

    Nor may the accounts have instructions, statements or lots that lapse in this pass, or a return
    policy that leaves something. `lots`: open lots, from before this pass, of accounts with
    clawbacks (`LOT_SCHEMA`, points_open, is_pending).
    """
    accruals = actions.filter(is_accrual()).with_columns(
        journal_id=pl.concat_str(pl.lit("accrual:"), "event_id", pl.lit(":"), "revision")
    )
    opened = (
        accruals.select("journal_id", "account_id", "event_id", "revision", "effective_on", "day",
                        "place", "funding_partner_bps", "parts",
                        entry=pl.int_range(pl.len(), dtype=pl.Int64))
        .explode("funding_partner_bps", "parts")
        .filter(pl.col("parts") > 0)
    )  # fmt: skip
    days = opened["effective_on"].unique().to_list()
    by_day = pl.DataFrame(
        {
            "effective_on": days,
            "expires_on": [expiry_of(program, day) for day in days],
            "is_pending": [terms_on(program, day).accrual.settlement == "STATEMENT"
                           for day in days],
        },
        schema={"effective_on": pl.Date, "expires_on": pl.Date, "is_pending": pl.Boolean},
    )  # fmt: skip
    opened = opened.join(
        by_day, on="effective_on", how="left", maintain_order="left"
    ).with_columns(lot_id=_lot_id())  # fmt: skip
    leg_no = pl.lit(2, dtype=pl.Int64)
    if opened.height > accruals.height:
        leg_no = pl.int_range(pl.len(), dtype=pl.Int64).over("entry") + 2
    held = opened.select(
        "entry", "journal_id", leg_no.alias("leg_no"), _held_in(), "account_id", "lot_id",
        direction=pl.lit("CREDIT"), amount="parts",
    )  # fmt: skip
    issued = _counter_legs(accruals, "ISSUANCE", "DEBIT", 0)
    new_lots = opened.select(
        "entry", "lot_id", "account_id", "expires_on", "funding_partner_bps", source_id="event_id",
        issue_journal_id="journal_id", issued_on="effective_on", points_issued="parts",
    ).select("entry", *LOT_SCHEMA.names())  # fmt: skip
    entries = Entries(
        _journals(program, accruals, "ACCRUAL"), pl.concat([issued, held]), new_lots,
        pl.DataFrame(schema={"entry": pl.Int64, **CONSUMPTION_SCHEMA}),
    )  # fmt: skip
    order = _order(accruals)
    clawbacks = actions.filter(is_clawback())
    if clawbacks.is_empty():
        return order, entries
    clawbacks = clawbacks.sort("account_id", "day", "place").with_columns(
        journal_id=pl.concat_str(pl.lit("clawback:"), "event_id", pl.lit(":"), "revision")
    )
    taken = _taken(clawbacks, _held(clawbacks, opened, lots), accruals.height)
    legs = taken.select(
        "entry", "journal_id", pl.col("leg_no"), _held_in(), "account_id", "lot_id",
        direction=pl.lit("DEBIT"), amount="points",
    )  # fmt: skip
    consumption = taken.select(
        "entry", "journal_id", "lot_id", "account_id", kind=pl.lit("CLAWBACK"), points="points"
    )
    journals = _journals(program, clawbacks, "CLAWBACK")
    counters = _counter_legs(clawbacks, "CLAWED_BACK", "CREDIT", accruals.height)
    return pl.concat([order, _order(clawbacks)]), Entries(
        pl.concat([entries.journals, journals]), pl.concat([entries.postings, counters, legs]),
        new_lots, consumption,
    )  # fmt: skip


def _held(clawbacks: pl.DataFrame, opened: pl.DataFrame, lots: pl.DataFrame) -> pl.DataFrame:
    """Lots of the accounts of `clawbacks` in the order of consumption, with the day and place of
    their opening; the accounts stand together."""
    accounts = clawbacks["account_id"].unique().implode()
    first = pl.lit(None, dtype=pl.Date)
    columns = ("account_id", "lot_id", "expires_on", "is_pending")
    return (
        pl.concat(
            [
                opened.filter(pl.col("account_id").is_in(accounts)).select(
                    *columns, "day", "place", source_id="event_id", issued_on="effective_on",
                    points="parts",
                ),
                lots.select(
                    *columns, first.alias("day"), pl.lit(0, dtype=pl.Int64).alias("place"),
                    "source_id", "issued_on", points="points_open",
                ),
            ]
        )
        .with_columns(pl.col("expires_on").fill_null(NEVER))
        .sort("account_id", "expires_on", "issued_on", "lot_id")
    )  # fmt: skip


def _taken(clawbacks: pl.DataFrame, held: pl.DataFrame, first_entry: int) -> pl.DataFrame:
    """What each clawback takes from which lots: entry, journal_id, leg_no, points, account_id,
    lot_id, is_pending."""
    wanted = clawbacks["item_event_ids"].explode().drop_nulls().unique().implode()
    numbered = held.with_row_index("at")
    own: dict[str, list[int]] = {}
    for at, source in (
        numbered.filter(pl.col("source_id").is_in(wanted)).select("at", "source_id").iter_rows()
    ):
        own.setdefault(source, []).append(at)
    spans = numbered.group_by("account_id").agg(first=pl.col("at").min(), last=pl.col("at").max())
    firsts = dict(spans.select("account_id", "first").iter_rows())
    lasts = dict(spans.select("account_id", "last").iter_rows())
    opens, days, places = held["points"].to_list(), held["day"].to_list(), held["place"].to_list()
    taken: list[tuple[int, str, int, int, int]] = []
    asked = clawbacks.select(
        "journal_id", "account_id", "day", "place", "points", "item_event_ids"
    ).iter_rows()
    for entry, (journal_id, account_id, day, place, points, items) in enumerate(asked, first_entry):
        left, leg_no = -points, 2
        first = firsts[account_id]
        while not opens[first] and first < lasts[account_id]:
            first += 1
        firsts[account_id] = first
        mine = sorted(at for item in set(items or ()) for at in own.get(item, ()))
        for at in (*mine, *range(first, lasts[account_id] + 1)):
            if not left:
                break
            if not opens[at] or (days[at] is not None and (days[at], places[at]) > (day, place)):
                continue
            part = min(left, opens[at])
            opens[at] -= part
            left -= part
            taken.append((entry, journal_id, leg_no, at, part))
            leg_no += 1
        if left:
            raise AssertionError(f"{journal_id}: the lots of {account_id} do not cover it")
    found = pl.DataFrame(
        taken, orient="row",
        schema={"entry": pl.Int64, "journal_id": pl.String, "leg_no": pl.Int64, "at": pl.UInt32,
                "points": pl.Int64},
    )  # fmt: skip
    lots = held.select("account_id", "lot_id", "is_pending")[found["at"]]
    return pl.concat([found.drop("at"), lots], how="horizontal")


def _held_in() -> pl.Expr:
    return (
        pl.when("is_pending")
        .then(pl.lit("MEMBER_PENDING"))
        .otherwise(pl.lit("MEMBER_AVAILABLE"))
        .alias("ledger_account")
    )


def _counter_legs(
    actions: pl.DataFrame, ledger_account: str, direction: str, first_entry: int
) -> pl.DataFrame:
    return actions.select(
        pl.int_range(first_entry, first_entry + pl.len(), dtype=pl.Int64).alias("entry"),
        "journal_id", leg_no=pl.lit(1, dtype=pl.Int64), ledger_account=pl.lit(ledger_account),
        account_id=NULL, lot_id=NULL, direction=pl.lit(direction), amount=pl.col("points").abs(),
    )  # fmt: skip


def _journals(program: Program, actions: pl.DataFrame, event_type: str) -> pl.DataFrame:
    return actions.select(
        pl.lit(program.program_id).alias("program_id"), "day", "journal_id",
        pl.lit(event_type).alias("event_type"), pl.lit("POSTED_EVENT").alias("source_kind"),
        pl.col("event_id").alias("source_id"), "account_id",
        pl.concat_str(
            pl.lit(f"{program.program_id}|{event_type}|"), "event_id", pl.lit("|"), "version_no",
            pl.lit("|"), "revision",
        ).alias("idempotency_key"),
        "effective_on", NULL.alias("reverses_journal_id"), "rule_hash",
    ).select(JOURNAL_SCHEMA.names())  # fmt: skip


def _order(actions: pl.DataFrame) -> pl.DataFrame:
    return actions.select(
        "day", pl.lit(PHASE_EVENT, dtype=pl.Int64).alias("phase"), "account_id",
        pl.col("place").alias("n"),
    )  # fmt: skip


def _lot_id() -> pl.Expr:
    funded = pl.col("funding_partner_bps") > 0
    suffix = pl.when(funded).then(pl.concat_str(pl.lit(":"), "funding_partner_bps"))
    return pl.concat_str(
        pl.lit("lot:"), "event_id", pl.lit(":"), "revision", suffix.otherwise(pl.lit(""))
    )


def merged(parts: Iterable[Part]) -> Entries:
    """All entries in the order of days, phases and accounts; legs and lots follow theirs."""
    found = [part for part in parts if not part[1].journals.is_empty()]
    if not found:
        return Entries(*(pl.DataFrame(schema=schema) for schema in (
            JOURNAL_SCHEMA, POSTING_SCHEMA, LOT_SCHEMA, CONSUMPTION_SCHEMA
        )))  # fmt: skip
    place = (
        pl.concat([order for order, _ in found])
        .with_row_index("entry")
        .sort("day", "phase", "account_id", "n")["entry"]
        .to_numpy()
    )
    at = np.empty(len(place), dtype=np.int64)
    at[place] = np.arange(len(place))
    parts, offset = [], 0
    for _, entries in found:
        parts.append([
            _with_entry(frame, key, entries.journals).with_columns(pl.col("entry") + offset)
            for frame, key in ((entries.postings, "journal_id"), (entries.lots, "issue_journal_id"),
                               (entries.consumption, "journal_id"))
        ])  # fmt: skip
        offset += entries.journals.height

    def follow(frames: list[pl.DataFrame], then: str) -> pl.DataFrame:
        frame = pl.concat(frames)
        by = pl.DataFrame({"at": at[frame["entry"].to_numpy()], "then": frame[then]})
        return frame.drop("entry")[by.select(pl.arg_sort_by("at", "then")).to_series()]

    postings, lots, consumption = zip(*parts, strict=True)
    return Entries(
        pl.concat([each.journals for _, each in found])[place],
        follow(list(postings), "leg_no"),
        follow(list(lots), "lot_id"),
        follow(list(consumption), "lot_id"),
    )


def _with_entry(frame: pl.DataFrame, key: str, journals: pl.DataFrame) -> pl.DataFrame:
    if "entry" in frame.columns:
        return frame
    numbers = journals.select(
        pl.col("journal_id").alias(key), entry=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    return frame.join(numbers, on=key, how="left", maintain_order="left").select(
        "entry", *frame.columns
    )
