"""Entries of posted events and month ends, in columns; and the order of all entries.

What an account owes before each of its entries follows from the points alone, so what fills a
deficit and what opens a lot is known for all entries at once. Only what is taken from lots (first
from those of the purchase, then from the oldest) is worked one entry after the other.
"""

from collections.abc import Iterable
from datetime import date
from itertools import chain

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
from pipelines.rewards.posting import PHASE_EVENT, PHASE_TRANSFER, expiry_of, terms_on
from pipelines.rewards.runs import Runs, ranks, sorted_by
from pipelines.rewards.terms import Program

Part = tuple[pl.DataFrame, Entries]
"""Entries, and the place of each: day, phase and account_id. They stand in the order of accounts
and, within an account, of time. Their legs, lots and consumption may name their entry by its
number, in `entry`, and their place within it, in `no`."""

_NULL = pl.lit(None, dtype=pl.String)

ENTRY_SCHEMA = pl.Schema(
    {
        "account_id": pl.String,
        "day": pl.Date,
        "phase": pl.Int64,
        "place": pl.Int64,
        "journal_id": pl.String,
        "event_type": pl.String,
        "counter": pl.String,
        "kind": pl.String,
        "source_kind": pl.String,
        "source_id": pl.String,
        "idempotency_key": pl.String,
        "effective_on": pl.Date,
        "rule_hash": pl.String,
        "revision": pl.Int64,
        "points": pl.Int64,
        "funding_partner_bps": pl.List(pl.Int64),
        "parts": pl.List(pl.Int64),
        "item_event_ids": pl.List(pl.String),
    }
)
"""Entries to be made: what they say in the journal; `points` for the member against the ledger
account `counter`, from lots as `kind`; and the `parts` that lots are opened with, by who funds
them. `phase` and `place` order the account's day."""


def is_plain() -> pl.Expr:
    """Which actions only open lots that do not wait for a day, or only take from lots."""
    opens = (pl.col("parts").list.min() >= 0) & pl.col("waits").is_null()
    return ~pl.col("reverses") & ((pl.col("points") < 0) | opens)


def post_in_columns(
    program: Program, entries: pl.DataFrame, states: pl.DataFrame, lots: pl.DataFrame
) -> Part:
    """The `entries` (`ENTRY_SCHEMA`) of accounts that have nothing else to do.

    That is: no instructions, statements or lots that lapse in this pass, and no return policy that
    leaves something. `states`: account_id and balance before this pass. `lots`: open lots, from
    before this pass, of accounts that lose points (`LOT_SCHEMA`, points_open, is_pending).
    """
    times = (entries[name].to_physical().to_numpy() for name in ("day", "phase", "place"))
    entries = sorted_by(entries, [ranks(entries["account_id"]), *times], [])
    accounts = Runs.of(entries["account_id"])
    entries = entries.with_columns(
        entry=pl.int_range(pl.len(), dtype=pl.Int64), account=accounts.number()
    )
    numbers = entries.select("account_id", "account")[accounts.start]
    opening = numbers.join(
        states.select("account_id", "balance"), on="account_id", how="left", maintain_order="left"
    )["balance"].fill_null(0)  # fmt: skip
    balance = accounts.spread(opening.to_numpy()) + accounts.before(entries["points"].to_numpy())
    parts = _parts(program, entries, np.maximum(-balance, 0))
    issued = parts.filter(pl.col("points_issued") > 0)
    losing = entries.with_columns(held=np.maximum(balance, 0)).filter(pl.col("points") < 0)
    losing = losing.with_columns(covered=pl.min_horizontal("held", -pl.col("points")))
    taken = _taken(losing, _held(losing, issued, lots.join(numbers, on="account_id")))
    journals = entries.with_columns(
        program_id=pl.lit(program.program_id), reverses_journal_id=_NULL
    ).select(JOURNAL_SCHEMA.names())
    return entries.select("day", "phase", "account_id"), Entries(
        journals,
        _legs(entries, parts, issued, losing, taken),
        _in_entries(issued, LOT_SCHEMA),
        _in_entries(taken, CONSUMPTION_SCHEMA),
    )


def of_events(program: Program, actions: pl.DataFrame) -> pl.DataFrame:
    """The entries (`ENTRY_SCHEMA`) of plain `actions` (`ACTION_SCHEMA`)."""
    earns = pl.col("event_class") == "EARN"
    event_type = pl.when(earns).then(pl.lit("ACCRUAL")).otherwise(pl.lit("CLAWBACK"))
    return actions.with_columns(
        phase=pl.lit(PHASE_EVENT, dtype=pl.Int64),
        event_type=event_type,
        counter=pl.when(earns).then(pl.lit("ISSUANCE")).otherwise(pl.lit("CLAWED_BACK")),
        kind=pl.lit("CLAWBACK"),
        source_kind=pl.lit("POSTED_EVENT"),
        source_id="event_id",
        idempotency_key=pl.concat_str(
            pl.lit(program.program_id), event_type, "event_id", "version_no", "revision",
            separator="|",
        ),
    ).select(ENTRY_SCHEMA.names())  # fmt: skip


def month_end_transfers(
    program: Program, actions: pl.DataFrame, states: pl.DataFrame, ends: list[date]
) -> pl.DataFrame:
    """The entries (`ENTRY_SCHEMA`) by which all that accounts hold at `ends` goes to the partner.

    What has been transferred by an end is the most that `actions` had brought the balance to at any
    end so far.
    """
    day = actions["day"].to_numpy()
    moves = pl.concat(
        [
            states.select("account_id", points="balance", end=pl.lit(0, dtype=pl.Int64)),
            actions.select(
                "account_id", "points", end=pl.Series(np.searchsorted(np.array(ends, "M8[D]"), day))
            ),
        ]
    ).filter(pl.col("end") < len(ends))
    highest = pl.col("points").cum_sum().cum_max().clip(lower_bound=0)
    source = pl.format("{}:{}", "account_id", pl.col("day").dt.strftime("%Y-%m"))
    return (
        moves.group_by("account_id", "end")
        .agg(pl.col("points").sum())
        .sort("account_id", "end")
        .with_columns(-highest.diff().fill_null(highest).over("account_id").alias("points"))
        .filter(pl.col("points") < 0)
        .with_columns(day=pl.lit(pl.Series(ends, dtype=pl.Date)).gather("end"))
        .with_columns(
            phase=pl.lit(PHASE_TRANSFER, dtype=pl.Int64), place=pl.lit(0, dtype=pl.Int64),
            revision=pl.lit(1, dtype=pl.Int64), effective_on="day",
            event_type=pl.lit("TRANSFER"), counter=pl.lit("PARTNER_TRANSFER_CLEARING"),
            kind=pl.lit("TRANSFER"), source_kind=pl.lit("PARTNER_CYCLE"), source_id=source,
            journal_id=pl.format("transfer:{}:{}", pl.lit(program.program_id), source),
            idempotency_key=pl.format("{}|TRANSFER|{}", pl.lit(program.program_id), source),
            **{name: pl.lit(None, dtype=ENTRY_SCHEMA[name])
               for name in ("rule_hash", "funding_partner_bps", "parts", "item_event_ids")},
        )
        .select(ENTRY_SCHEMA.names())
    )  # fmt: skip


def _parts(program: Program, entries: pl.DataFrame, owed: np.ndarray) -> pl.DataFrame:
    """What is credited, one row by who funds it: `fills` go to what is owed before the action,
    `points_issued` open a lot (`LOT_SCHEMA`, is_pending)."""
    parts = (
        entries.select("entry", "points", "funding_partner_bps", "parts")
        .filter(pl.col("points") > 0)
        .drop("points")
        .explode("funding_partner_bps", "parts")
        .filter(pl.col("parts") > 0)
    )
    entry, points = parts["entry"].to_numpy(), parts["parts"].to_numpy()
    together = Runs.of(entry)
    fills = np.clip(owed[entry] - together.before(points), 0, points)
    legs = (fills > 0).astype(np.int64) + (fills < points)
    days = entries["effective_on"].unique().to_list()
    by_day = pl.DataFrame(
        {
            "issued_on": days,
            "expires_on": [expiry_of(program, day) for day in days],
            "is_pending": [terms_on(program, day).accrual.settlement == "STATEMENT"
                           for day in days],
        },
        schema={"issued_on": pl.Date, "expires_on": pl.Date, "is_pending": pl.Boolean},
    )  # fmt: skip
    bps = pl.col("funding_partner_bps")
    told = entries.select(
        "account_id", "account", "revision", "source_id", issue_journal_id="journal_id",
        issued_on="effective_on",
    )[entry]  # fmt: skip
    return (
        pl.concat([parts.drop("parts"), told], how="horizontal")
        .with_columns(
            fills=fills, points_issued=points - fills, no=1 + together.before(legs),
            available_on=pl.lit(None, dtype=pl.Date),
            lot_id=pl.concat_str(
                pl.lit("lot"), "source_id", "revision", pl.when(bps > 0).then(bps),
                separator=":", ignore_nulls=True,
            ),
        )
        .join(by_day, on="issued_on", how="left", maintain_order="left")
    )  # fmt: skip


def _held(losing: pl.DataFrame, issued: pl.DataFrame, lots: pl.DataFrame) -> pl.DataFrame:
    """Lots of the accounts of `losing` in the order of consumption, the accounts together; in
    `entry` the one that opens it, -1 for lots from before."""
    columns = ("account", "lot_id", "source_id", "issued_on", "expires_on", "is_pending")
    loses = pl.col("account").is_in(losing["account"].unique().implode())
    new = issued.select(*columns, "entry", points="points_issued").filter(loses)
    old = lots.select(*columns, entry=pl.lit(-1, dtype=pl.Int64), points="points_open")
    held = pl.concat([new, old])
    days = held.select(pl.col("expires_on").fill_null(NEVER), "issued_on")
    numbers = [held["account"], *(day.to_physical() for day in days)]
    return sorted_by(held, [number.to_numpy() for number in numbers], ["lot_id"])


def _taken(losing: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """What each of `losing` takes from which of the lots `held`, as far as these cover it
    (`CONSUMPTION_SCHEMA`, entry, no, is_pending).

    What takes all that there is need not be worked in turn: it takes what the others leave of the
    lots opened since the last such entry.
    """
    covered = losing.filter(pl.col("covered") > 0)
    is_last = (covered["covered"] == covered["held"]) & (
        covered["item_event_ids"].list.len().fill_null(0) == 0
    )
    last, others = covered.filter(is_last), covered.filter(~is_last)
    ends, end_account = last["entry"].to_numpy(), last["account"].to_numpy()

    place = np.searchsorted(ends, others["entry"].to_numpy()) - 1
    is_own = (place >= 0) & (np.append(end_account, -1)[place] == others["account"].to_numpy())
    since = np.where(is_own, np.append(ends, -1)[place], -1)
    in_turn, opens = _taken_in_turn(others, since, held)

    account = held["account"].to_numpy()
    place = np.maximum(
        np.searchsorted(ends, held["entry"].to_numpy()), np.searchsorted(end_account, account)
    )
    at = np.flatnonzero((opens > 0) & (np.append(end_account, -1)[place] == account))
    by = ends[place[at]]
    order = np.argsort(by, kind="stable")
    at, by = at[order], by[order]
    rest = pl.DataFrame({"entry": by, "no": Runs.of(by).place() + 1, "at": at, "points": opens[at]})

    found = pl.concat([in_turn, rest])
    told = covered.select("journal_id", "account_id", "kind")[
        np.searchsorted(covered["entry"].to_numpy(), found["entry"].to_numpy())
    ]
    lots = held.select("lot_id", "is_pending")[found["at"]]
    return pl.concat([found.drop("at"), told, lots], how="horizontal")


def _taken_in_turn(
    losing: pl.DataFrame, since: np.ndarray, held: pl.DataFrame
) -> tuple[pl.DataFrame, np.ndarray]:
    """What each of `losing` takes of the lots `held` that are opened after the entry `since` and
    before it: entry, no, the place `at` of the lot, points; and what is left of the lots."""
    wanted = losing["item_event_ids"].explode().drop_nulls().unique().implode()
    own: dict[str, list[int]] = {}
    for at, source in (
        held.select("source_id").with_row_index("at")
        .filter(pl.col("source_id").is_in(wanted)).iter_rows()
    ):  # fmt: skip
        own.setdefault(source, []).append(at)
    spans = Runs.of(held["account"])
    accounts = held["account"].to_numpy()[spans.start].tolist()
    begins = dict(zip(accounts, spans.start.tolist(), strict=True))
    ends = dict(zip(accounts, (spans.start + spans.length).tolist(), strict=True))
    left_in = held["points"].to_numpy().copy()
    # Views, as elements of arrays would cost more one by one.
    opens, opened_by = left_in.data, held["entry"].to_numpy().data
    taken: list[tuple[int, int, int, int]] = []
    asked = losing.select("entry", "account", "covered", "item_event_ids").iter_rows()
    for (entry, account, points, items), after in zip(asked, since.tolist(), strict=True):
        begin, end = begins[account], ends[account]
        while begin < end - 1 and (not opens[begin] or opened_by[begin] < after):
            begin += 1
        begins[account] = begin
        mine = sorted(at for item in set(items or ()) for at in own.get(item, ()))
        left, no = points, 1
        for at in chain(mine, range(begin, end)):
            if not opens[at] or not after <= opened_by[at] < entry:
                continue
            part = min(left, opens[at])
            opens[at] -= part
            taken.append((entry, no, at, part))
            left -= part
            no += 1
            if not left:
                break
        else:
            raise AssertionError(f"the lots of entry {entry} do not cover it")
    found = pl.DataFrame(
        taken, orient="row",
        schema={"entry": pl.Int64, "no": pl.Int64, "at": pl.Int64, "points": pl.Int64},
    )  # fmt: skip
    return found, left_in


def _legs(
    entries: pl.DataFrame,
    parts: pl.DataFrame,
    issued: pl.DataFrame,
    losing: pl.DataFrame,
    taken: pl.DataFrame,
) -> pl.DataFrame:
    """The legs (`POSTING_SCHEMA`, entry, no): first that of the counter account, then those of the
    member, with lots and without."""
    gains = pl.col("points") > 0
    held_in = pl.when("is_pending").then(pl.lit("MEMBER_PENDING")).otherwise(
        pl.lit("MEMBER_AVAILABLE")
    )  # fmt: skip
    lots_taken = np.bincount(taken["entry"].to_numpy(), minlength=entries.height)
    owing = losing.with_columns(no=1 + lots_taken[losing["entry"].to_numpy()]).filter(
        pl.col("covered") < -pl.col("points")
    )
    available = pl.lit("MEMBER_AVAILABLE").alias("ledger_account")
    credit, debit = (pl.lit(way).alias("direction") for way in ("CREDIT", "DEBIT"))
    legs = pl.concat(
        [
            entries.select(
                "entry", pl.col("counter").alias("ledger_account"),
                pl.when(gains).then(debit).otherwise(credit).alias("direction"),
                no=pl.lit(0, dtype=pl.Int64), account_id=_NULL, lot_id=_NULL,
                amount=pl.col("points").abs(),
            ),
            issued.select(
                "entry", held_in.alias("ledger_account"), credit,
                (pl.col("no") + (pl.col("fills") > 0)).alias("no"), "account_id", "lot_id",
                amount="points_issued",
            ),
            parts.filter(pl.col("fills") > 0).select(
                "entry", available, credit, "no", "account_id", lot_id=_NULL, amount="fills"
            ),
            taken.select(
                "entry", held_in.alias("ledger_account"), debit, "no", "account_id", "lot_id",
                amount="points",
            ),
            owing.select(
                "entry", available, debit, "no", "account_id", lot_id=_NULL,
                amount=-pl.col("points") - pl.col("covered"),
            ),
        ],
        rechunk=True,
    )  # fmt: skip
    journal_ids = entries["journal_id"].gather(legs["entry"])
    return legs.with_columns(journal_ids, leg_no=pl.col("no") + 1).select(
        "entry", "no", *POSTING_SCHEMA.names()
    )


def _in_entries(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """`frame` with each row's place in its entry, which is by lots; entries stand together."""
    no = Runs.of(frame["entry"].to_numpy()).place()
    if no.any():
        frame = frame.sort("entry", "lot_id")
        no = Runs.of(frame["entry"].to_numpy()).place()
    return frame.with_columns(no=no).select("entry", "no", *schema.names())


def merged(parts: Iterable[Part]) -> Entries:
    """All entries in the order of days, phases and accounts; legs and lots follow theirs."""
    found = [part for part in parts if not part[1].journals.is_empty()]
    if not found:
        return Entries(*(pl.DataFrame(schema=schema) for schema in (
            JOURNAL_SCHEMA, POSTING_SCHEMA, LOT_SCHEMA, CONSUMPTION_SCHEMA
        )))  # fmt: skip
    place = _order(pl.concat([order for order, _ in found]))
    at = np.empty(len(place), dtype=np.int64)
    at[place] = np.arange(len(place))
    offsets = np.cumsum([0, *(entries.journals.height for _, entries in found)])

    def follow(name: str, key: str, then: str) -> pl.DataFrame:
        frame = pl.concat(
            [
                _with_entry(getattr(entries, name), key, then, entries.journals).with_columns(
                    pl.col("entry") + int(offset)
                )
                for offset, (_, entries) in zip(offsets, found, strict=False)
            ]
        )
        rank = at[frame["entry"].to_numpy()]
        count = np.bincount(rank, minlength=len(place))
        index = np.empty(frame.height, dtype=np.int64)
        index[(np.cumsum(count) - count)[rank] + frame["no"].to_numpy()] = np.arange(frame.height)
        return frame.drop("entry", "no")[index]

    return Entries(
        pl.concat([entries.journals for _, entries in found])[place],
        follow("postings", "journal_id", "leg_no"),
        follow("lots", "issue_journal_id", "lot_id"),
        follow("consumption", "journal_id", "lot_id"),
    )


def _order(places: pl.DataFrame) -> np.ndarray:
    """The numbers of entries (day, phase, account_id) in the order of all; those of an account
    stand together and in theirs."""
    order = np.argsort(_narrow(ranks(places["account_id"])), kind="stable")
    phase = places.select(
        pl.col("day").to_physical().cast(pl.Int64) * (pl.col("phase").max() + 1) + pl.col("phase")
    ).to_series()
    return order[np.argsort(_narrow(phase.to_numpy())[order], kind="stable")]


def _narrow(numbers: np.ndarray) -> np.ndarray:
    """`numbers` from zero on, in the smallest type: up to 16 bits are sorted in linear time."""
    numbers = numbers - numbers.min()
    return numbers.astype(np.min_scalar_type(int(numbers.max())))


def _with_entry(frame: pl.DataFrame, key: str, then: str, journals: pl.DataFrame) -> pl.DataFrame:
    """`frame` with the number of each row's entry, and the row's place in it by `then`."""
    if "entry" in frame.columns:
        return frame
    numbers = journals.select(
        pl.col("journal_id").alias(key), entry=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    placed = frame.join(numbers, on=key, how="left").sort("entry", then)
    no = Runs.of(placed["entry"].to_numpy()).place()
    return placed.select("entry", pl.Series("no", no), *frame.columns)
