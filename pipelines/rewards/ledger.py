"""The double-entry ledger: one writer, append only, chained by hash.

A journal entry moves units of one asset between ledger accounts; its legs sum to zero. Every
entry has an idempotency key: the same key with the same payload is skipped, with another payload
it is an exception (`CONFLICT`) and nothing is posted. Corrections are new entries that name what
they reverse. Each entry's hash covers the entry, its legs and the hash of the entry before it in
its program, so a change to any of them shows (`verification.py`).

`recorded_at` is known time, not the clock: the last microsecond of the day whose deliveries led
to the entry. The same deliveries therefore end in the same bytes.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import duckdb
import polars as pl

from pipelines.rewards.runs import Runs, following
from pipelines.rewards.seals import FIRST_HASH, seal_days
from pipelines.rewards.stored import append, given
from pipelines.warehouse import has_table

JOURNAL_SCHEMA = pl.Schema(
    {
        "program_id": pl.String,
        "day": pl.Date,
        "journal_id": pl.String,
        "event_type": pl.String,
        "source_kind": pl.String,
        "source_id": pl.String,
        "account_id": pl.String,
        "idempotency_key": pl.String,
        "effective_on": pl.Date,
        "reverses_journal_id": pl.String,
        "rule_hash": pl.String,
    }
)
"""Entries to record, in their order; `day` is the known day that `recorded_at` is the end of."""

POSTING_SCHEMA = pl.Schema(
    {
        "journal_id": pl.String,
        "leg_no": pl.Int64,
        "ledger_account": pl.String,
        "account_id": pl.String,
        "lot_id": pl.String,
        "direction": pl.String,
        "amount": pl.Int64,
    }
)
LOT_SCHEMA = pl.Schema(
    {
        "lot_id": pl.String,
        "account_id": pl.String,
        "source_id": pl.String,
        "issue_journal_id": pl.String,
        "issued_on": pl.Date,
        "expires_on": pl.Date,
        "funding_partner_bps": pl.Int64,
        "points_issued": pl.Int64,
        "available_on": pl.Date,
    }
)
CONSUMPTION_SCHEMA = pl.Schema(
    {
        "journal_id": pl.String,
        "lot_id": pl.String,
        "account_id": pl.String,
        "kind": pl.String,
        "points": pl.Int64,
    }
)


@dataclass(frozen=True)
class Entries:
    """Journal entries of one program with their legs, new lots and what they took from lots."""

    journals: pl.DataFrame
    postings: pl.DataFrame
    lots: pl.DataFrame
    consumption: pl.DataFrame


@dataclass(frozen=True)
class Recorded:
    """What `record` did: entries written, skipped as already there, and those in conflict."""

    written: int
    skipped: int
    conflicts: pl.DataFrame


def recorded_at(day: str = "day") -> pl.Expr:
    """The last microsecond of the date column `day`."""
    return pl.col(day).cast(pl.Datetime("us")).dt.offset_by("1d") - pl.duration(microseconds=1)


def record(con: duckdb.DuckDBPyConnection, program_id: str, entries: Entries) -> Recorded:
    """Append `entries` of one program in their order, within the caller's transaction.

    Raises `ValueError` where the legs of an entry do not sum to zero or two entries have one id.
    Days that got entries are sealed.
    """
    if entries.journals.is_empty():
        return Recorded(0, 0, pl.DataFrame(schema=JOURNAL_SCHEMA))
    _refuse_repeated(entries.journals)
    postings = entries.postings.select(
        "journal_id", "leg_no", pl.lit(program_id).alias("program_id"),
        pl.lit(f"PTS:{program_id}").alias("asset"),
        "ledger_account", "account_id", "lot_id", "direction", "amount",
    )  # fmt: skip
    _refuse_unbalanced(postings)
    journals = with_payload_hash(_with_periods(con, program_id, entries.journals), postings)
    journals, skipped, conflicts = _new_only(con, journals)
    if skipped or not conflicts.is_empty():
        postings = postings.join(journals.select("journal_id"), on="journal_id", how="semi")
    if journals.is_empty():
        return Recorded(0, skipped, conflicts)
    seq, prev = _tail(con, program_id)
    journals = chain(journals, seq + 1, prev)
    lots = entries.lots.join(
        journals.select(issue_journal_id="journal_id"), on="issue_journal_id", how="semi",
        maintain_order="left",
    )  # fmt: skip
    consumption = entries.consumption.join(
        journals.select("journal_id"), on="journal_id", how="semi", maintain_order="left"
    )
    append(con, "journal", journals)
    append(con, "postings", postings)
    append(con, "lots_issued", lots.with_columns(program_id=pl.lit(program_id)))
    append(con, "lot_consumption", consumption.with_columns(program_id=pl.lit(program_id)))
    seal_days(con, program_id, journals, postings)
    return Recorded(journals.height, skipped, conflicts)


def with_payload_hash(journals: pl.DataFrame, postings: pl.DataFrame) -> pl.DataFrame:
    """Adds `payload_hash`, SHA-256 over what an entry says and its legs in their order."""
    leg = pl.concat_str(
        pl.col("leg_no"), "asset", "ledger_account", pl.col("account_id").fill_null(""),
        pl.col("lot_id").fill_null(""), "direction", "amount", separator="|",
    )  # fmt: skip
    legs, ends = following(
        postings.select("journal_id", "leg_no", leg=leg), "journal_id", journals["journal_id"],
        "leg_no",
    )  # fmt: skip
    says = journals.select(
        pl.concat_str(
            "program_id", "event_type", "source_kind", "source_id",
            pl.col("account_id").fill_null(""), pl.col("effective_on").cast(pl.String),
            pl.col("reverses_journal_id").fill_null(""), pl.col("rule_hash").fill_null(""),
            separator="\n",
        )
    ).to_series()  # fmt: skip
    texts, sha256 = legs["leg"].to_list(), hashlib.sha256
    hashes = [
        sha256(f"{entry}\n{';'.join(texts[first:end])}".encode()).hexdigest()
        for entry, first, end in zip(says, ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    ]
    return journals.with_columns(pl.Series("payload_hash", hashes, dtype=pl.String))


def chain(journals: pl.DataFrame, first_seq: int, prev_hash: str) -> pl.DataFrame:
    """Adds `seq`, `prev_hash` and `entry_hash` in the frame's order."""
    journals = journals.with_columns(
        seq=pl.int_range(first_seq, first_seq + journals.height, dtype=pl.Int64)
    )
    hashes = list(entry_hashes(entry_texts(journals), prev_hash))
    return journals.with_columns(
        pl.Series("prev_hash", [prev_hash, *hashes[:-1]]), pl.Series("entry_hash", hashes)
    )


def entry_texts(journals: pl.DataFrame) -> pl.Series:
    """What an entry's hash covers besides the hash before it."""
    # Entries of a day have one time: it is written out once.
    times = journals.select(pl.col("recorded_at").unique()).with_columns(
        at=pl.col("recorded_at").dt.to_string("%Y-%m-%dT%H:%M:%S%.6f")
    )
    journals = journals.join(times, on="recorded_at", how="left", maintain_order="left")
    return journals.select(
        pl.concat_str(
            "journal_id", "seq", "idempotency_key", "at", "accounting_period",
            pl.col("original_period").fill_null(""), "payload_hash", separator="\n",
        )
    ).to_series()  # fmt: skip


def entry_hashes(texts: Iterable[str], prev_hash: str) -> Iterable[str]:
    """The chain of SHA-256 hashes over `texts`, from `prev_hash` on."""
    sha256 = hashlib.sha256
    for text in texts:
        prev_hash = sha256(f"{prev_hash}\n{text}".encode()).hexdigest()
        yield prev_hash


def _refuse_repeated(journals: pl.DataFrame) -> None:
    for key in ("journal_id", "idempotency_key"):
        if journals[key].n_unique() < journals.height:
            [first, *_] = journals[key].filter(journals[key].is_duplicated())
            raise ValueError(f"two new entries have the {key} {first}")


def _refuse_unbalanced(postings: pl.DataFrame) -> None:
    signed = pl.when(pl.col("direction") == "DEBIT").then("amount").otherwise(-pl.col("amount"))
    if postings["amount"].min() is not None and int(postings["amount"].min()) <= 0:  # pyright: ignore
        raise ValueError("a leg's amount must be above zero")
    # All legs are of the program's one asset, and those of an entry mostly stand together.
    signed = postings.select("journal_id", signed=signed)
    if not Runs.of(signed["journal_id"]).sums(signed["signed"].to_numpy()).any():
        return
    sums = signed.group_by("journal_id").agg(sum=pl.col("signed").sum())
    wrong = sums.filter(pl.col("sum") != 0)
    if not wrong.is_empty():
        first = wrong.sort("journal_id").row(0, named=True)
        raise ValueError(f"legs of {first['journal_id']} sum to {first['sum']}, not zero")


def _with_periods(
    con: duckdb.DuckDBPyConnection, program_id: str, journals: pl.DataFrame
) -> pl.DataFrame:
    """Adds `recorded_at` and the accounting period: the effective month, or the next open one."""
    closed = closed_periods(con, program_id)
    month = pl.col("effective_on").dt.strftime("%Y-%m")
    journals = journals.with_columns(recorded_at=recorded_at(), accounting_period=month)
    moved = {period: next_open(period, closed) for period in closed}
    if not moved:
        return journals.with_columns(original_period=pl.lit(None, dtype=pl.String))
    return journals.with_columns(
        original_period=pl.when(month.is_in(list(moved))).then(month),
        accounting_period=month.replace(moved),
    )


def closed_periods(con: duckdb.DuckDBPyConnection, program_id: str) -> set[str]:
    """Months (`YYYY-MM`) of the program's books that take no more entries."""
    if not has_table(con, "finance", "periods"):
        return set()
    found = con.execute(
        "select period from finance.periods where program_id = ? and state = 'CLOSED'",
        [program_id],
    ).fetchall()
    return {period for (period,) in found}


def next_open(period: str, closed: set[str]) -> str:
    """The first month from `period` on that is not closed."""
    while period in closed:
        year, month = int(period[:4]), int(period[5:])
        period = f"{year + month // 12:04d}-{month % 12 + 1:02d}"
    return period


def _new_only(
    con: duckdb.DuckDBPyConnection, journals: pl.DataFrame
) -> tuple[pl.DataFrame, int, pl.DataFrame]:
    """The entries that are not there yet, how many are, and those whose key has other content."""
    with given(con, keys=journals.select("idempotency_key")):
        known = con.execute(
            "select idempotency_key, payload_hash as known_hash from rewards.journal "
            "where idempotency_key in (select idempotency_key from keys)"
        ).pl()
    if known.is_empty():
        return journals, 0, journals.clear()
    matched = journals.join(known, on="idempotency_key", how="inner", maintain_order="left")
    conflicts = matched.filter(pl.col("payload_hash") != pl.col("known_hash")).drop("known_hash")
    new = journals.join(known, on="idempotency_key", how="anti", maintain_order="left")
    return new, matched.height - conflicts.height, conflicts


def _tail(con: duckdb.DuckDBPyConnection, program_id: str) -> tuple[int, str]:
    """Number and hash of the program's last entry; 0 and the first hash before any."""
    row = con.execute(
        "select last_seq, last_hash from rewards.seals where program_id = ? "
        "order by seal_no desc limit 1",
        [program_id],
    ).fetchone()
    return (0, FIRST_HASH) if row is None else (int(row[0]), str(row[1]))
