"""Daily seals: what a day's entries were, fixed in a line that the next seal builds on.

A seal covers a run of consecutive entries of one program that were recorded for one day. A
delivery that arrives late is recorded for the last sealed day at the earliest, which then gets a
further seal: seals are never rewritten.
"""

import hashlib

import duckdb
import numpy as np
import polars as pl

from pipelines.rewards.runs import following
from pipelines.rewards.stored import append

FIRST_HASH = "0" * 64

SEALED = (
    "program_id", "seal_no", "sealed_on", "first_seq", "last_seq", "n_journals", "sum_debit",
    "sum_credit", "root_hash", "last_hash",
)  # fmt: skip
"""The columns that a seal's hash covers, after the hash of the seal before it."""


def summarise(journals: pl.DataFrame, postings: pl.DataFrame) -> pl.DataFrame:
    """One row per day of `journals` (one program, ordered by seq) with a seal's figures.

    `root_hash` is SHA-256 over the day's entry hashes in order. Columns: sealed_on, first_seq,
    last_seq, n_journals, sum_debit, sum_credit, root_hash, last_hash.
    """
    day = pl.col("recorded_at").dt.date().alias("sealed_on")
    legs, ends = following(
        postings.select("journal_id", "leg_no", "direction", "amount"), "journal_id",
        journals["journal_id"], "leg_no",
    )  # fmt: skip
    days = journals.select(day).to_series()
    amount = pl.col("amount")
    sums = (
        legs.with_columns(days.gather(np.repeat(np.arange(len(days)), np.diff(ends))))
        .group_by("sealed_on")
        .agg(
            sum_debit=amount.filter(pl.col("direction") == "DEBIT").sum(),
            sum_credit=amount.filter(pl.col("direction") == "CREDIT").sum(),
        )
    )
    days = (
        journals.select("seq", "entry_hash", day)
        .sort("seq")
        .group_by("sealed_on", maintain_order=True)
        .agg(
            first_seq=pl.col("seq").min(),
            last_seq=pl.col("seq").max(),
            n_journals=pl.len().cast(pl.Int64),
            hashes=pl.col("entry_hash").str.join("\n"),
            last_hash=pl.col("entry_hash").last(),
        )
    )
    roots = [hashlib.sha256(each.encode()).hexdigest() for each in days["hashes"]]
    return (
        days.with_columns(pl.Series("root_hash", roots, dtype=pl.String))
        .drop("hashes")
        .join(sums, on="sealed_on", how="left", maintain_order="left")
        .with_columns(pl.col("sum_debit", "sum_credit").fill_null(0))
    )


def seal_hash(prev_seal_hash: str, seal: dict[str, object]) -> str:
    """SHA-256 over the seal before and the figures of this one."""
    text = "\n".join([prev_seal_hash, *(str(seal[name]) for name in SEALED)])
    return hashlib.sha256(text.encode()).hexdigest()


def seal_days(
    con: duckdb.DuckDBPyConnection,
    program_id: str,
    journals: pl.DataFrame,
    postings: pl.DataFrame,
) -> None:
    """Seal the days of newly recorded `journals` of one program."""
    row = con.execute(
        "select seal_no, seal_hash from rewards.seals where program_id = ? "
        "order by seal_no desc limit 1",
        [program_id],
    ).fetchone()
    seal_no, prev = (0, FIRST_HASH) if row is None else (int(row[0]), str(row[1]))
    seals = []
    for day in summarise(journals, postings).iter_rows(named=True):
        seal_no += 1
        seal = {**day, "program_id": program_id, "seal_no": seal_no, "prev_seal_hash": prev}
        prev = seal["seal_hash"] = seal_hash(prev, seal)
        seals.append(seal)
    if seals:
        append(con, "seals", pl.DataFrame(seals))
