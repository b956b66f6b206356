"""Sealed days as read-only files beside the warehouse: a second copy of the ledger to hold it to.

A file has the entries of consecutive seals of one program, a row an entry with its legs nested,
a row group a seal. It is written once, aside and renamed, may be read by all and written by none,
and is named by the first day and seal that it holds. The same entries give the same bytes.
`rewards.archives` lists what was written; each run adds the seals that are not listed, so a run
that is killed between the ledger and its files is made up for by the next.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.files import sha256_of, written_aside
from pipelines.settings import get_settings
from pipelines.warehouse import connect, transaction

ENTRIES_A_FILE = 100_000
"""A file ends with the seal that brings it to so many entries, so that it is read in memory."""

READ_ONLY = 0o444

_ENTRIES = """
with entries as (
    select * from rewards.journal where program_id = ? and seq between ? and ?
),
legs as (
    select
        journal_id,
        list_sort(list(
            struct_pack(
                leg_no := leg_no, asset := asset, ledger_account := ledger_account,
                account_id := account_id, lot_id := lot_id, direction := direction,
                amount := amount
            )
        )) as legs
    from rewards.postings
    where program_id = ? and journal_id in (select journal_id from entries)
    group by journal_id
)
select
    seq, journal_id, program_id, event_type, source_kind, source_id, account_id, idempotency_key,
    payload_hash, effective_on, recorded_at, accounting_period, original_period,
    reverses_journal_id, rule_hash, prev_hash, entry_hash, legs
from entries left join legs using (journal_id) order by seq
"""


@dataclass(frozen=True, slots=True)
class Seal:
    """What of a seal its file needs: number, day and the entries from and to which it covers."""

    seal_no: int
    sealed_on: date
    first_seq: int
    last_seq: int

    @property
    def size(self) -> int:
        """How many entries it covers."""
        return self.last_seq - self.first_seq + 1


def archive_seals() -> int:
    """Write files for this home's seals that have none yet; returns how many files."""
    with connect() as con, transaction(con):
        return archive_into(con, get_settings().ledger_dir)


def archive_into(con: duckdb.DuckDBPyConnection, directory: Path) -> int:
    """`archive_seals` within the caller's transaction, into `directory`."""
    written = 0
    for program_id, seals in _unarchived(con):
        for part in _parts(seals):
            file = f"{program_id}/{part[0].sealed_on}-{part[0].seal_no:06d}.parquet"
            path = directory / file
            _write(path, _entries(con, program_id, part), part)
            con.execute(
                "insert into rewards.archives values (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    program_id, file, part[0].seal_no, part[-1].seal_no,
                    min(seal.sealed_on for seal in part), max(seal.sealed_on for seal in part),
                    path.stat().st_size, sha256_of(path),
                ],
            )  # fmt: skip
            written += 1
    return written


def first_difference(
    con: duckdb.DuckDBPyConnection, directory: Path, after: Mapping[str, int] | None = None
) -> str | None:
    """The first sealed day whose file and table differ, in words; None where all agree.

    Files whose seals all stand in `after`, by program the last that needs no look, are left out.

    A file must have the bytes that were written, and its entries must be those of the table. A
    change outside the entries of a day (the file's footer) names all days of the file.
    """
    seals = _seals(con)
    listed = con.execute("select * from rewards.archives order by program_id, first_seal_no").pl()
    expected: dict[str, int] = dict.fromkeys(seals, 1)
    for row in listed.iter_rows(named=True):
        program_id, path = row["program_id"], directory / row["file"]
        if row["first_seal_no"] != expected.get(program_id):
            return f"{program_id}: the list of archives lacks seal {expected.get(program_id)}"
        expected[program_id] = row["last_seal_no"] + 1
        if row["last_seal_no"] <= (after or {}).get(program_id, 0):
            continue
        part = seals[program_id][row["first_seal_no"] - 1 : row["last_seal_no"]]
        if len(part) != row["last_seal_no"] - row["first_seal_no"] + 1:
            return f"{program_id}: {row['file']} has seals that the ledger has not"
        if not path.exists():
            return f"{program_id}: {row['file']} of {_days(row)} is missing"
        is_intact = sha256_of(path) == row["sha256"]
        entries = _entries(con, program_id, part)
        day = None if is_intact else _day_of_changed_byte(path, entries, part, row["sha256"])
        day = day or _differing_day(path, entries, part)
        if day is not None:
            what = "differ in table and file" if is_intact else "were changed in"
            return f"{program_id}: entries of {day} {what} {row['file']}"
        if not is_intact:
            return f"{program_id}: {row['file']} of {_days(row)} was changed beside its entries"
    for program_id, number in expected.items():
        if number <= len(seals[program_id]):
            day = seals[program_id][number - 1].sealed_on
            return f"{program_id}: entries of {day} have no file yet"
    return None


def _days(row: dict[str, Any]) -> str:
    first, last = row["first_on"], row["last_on"]
    return str(first) if first == last else f"{first} to {last}"


def _seals(
    con: duckdb.DuckDBPyConnection, after: dict[str, int] | None = None
) -> dict[str, list[Seal]]:
    """Seals by program in their order, those later than the numbers in `after`."""
    found: dict[str, list[Seal]] = {}
    for program_id, *seal in con.execute(
        "select program_id, seal_no, sealed_on, first_seq, last_seq from rewards.seals "
        "order by program_id, seal_no"
    ).fetchall():
        if seal[0] > (after or {}).get(program_id, 0):
            found.setdefault(program_id, []).append(Seal(*seal))
    return found


def _unarchived(con: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, list[Seal]]]:
    done = con.execute(
        "select program_id, max(last_seal_no) from rewards.archives group by program_id"
    ).fetchall()
    yield from _seals(con, dict(done)).items()


def _parts(seals: list[Seal]) -> Iterator[list[Seal]]:
    """Consecutive seals, cut where a file is full."""
    part: list[Seal] = []
    for seal in seals:
        part.append(seal)
        if sum(each.size for each in part) >= ENTRIES_A_FILE:
            yield part
            part = []
    if part:
        yield part


def _entries(con: duckdb.DuckDBPyConnection, program_id: str, part: list[Seal]) -> pa.Table:
    parameters = [program_id, part[0].first_seq, part[-1].last_seq, program_id]
    return con.execute(_ENTRIES, parameters).to_arrow_table()


def _write(path: Path, entries: pa.Table, part: list[Seal]) -> None:
    with written_aside(path) as aside:
        aside.write_bytes(_encoded(entries, part))
        aside.chmod(READ_ONLY)


def _encoded(entries: pa.Table, part: list[Seal]) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    # Row groups of a day are small and read whole: dictionaries and statistics only cost there.
    with pq.ParquetWriter(
        sink,
        entries.schema,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        for seal, rows in zip(part, _slices(entries, part), strict=True):
            writer.write_table(rows, row_group_size=seal.size)
    return sink.getvalue()


def _slices(entries: pa.Table, part: list[Seal]) -> Iterator[pa.Table]:
    """The entries of each seal; fewer where the table lacks some."""
    numbers = entries["seq"].to_numpy()
    for seal in part:
        start, end = numbers.searchsorted([seal.first_seq, seal.last_seq + 1])
        yield entries.slice(start, end - start)


def _day_of_changed_byte(
    path: Path, entries: pa.Table, part: list[Seal], sha256: str
) -> date | None:
    """The sealed day that the first changed byte of a file belongs to.

    None where it belongs to none, or where `entries` do not give the file of hash `sha256` again:
    they were changed themselves, or another version of Arrow wrote them.
    """
    wanted = _encoded(entries, part)
    if hashlib.sha256(wanted).hexdigest() != sha256:
        return None
    ours = np.frombuffer(wanted, dtype=np.uint8)
    theirs = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    size = min(ours.size, theirs.size)
    differs = np.flatnonzero(ours[:size] != theirs[:size])
    at = int(differs[0]) if differs.size else size
    with pq.ParquetFile(pa.BufferReader(wanted)) as file:
        for index, seal in enumerate(part):
            group = file.metadata.row_group(index)
            last = group.column(group.num_columns - 1)
            start = last.data_page_offset
            if last.dictionary_page_offset is not None:
                start = min(start, last.dictionary_page_offset)
            if at < start + last.total_compressed_size:
                return seal.sealed_on
    return None


def _differing_day(path: Path, entries: pa.Table, part: list[Seal]) -> date | None:
    """The first sealed day whose entries in the file are not `entries`, or cannot be read."""
    unreadable = (OSError, pa.ArrowException, ValueError, MemoryError)
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except unreadable:
        return part[0].sealed_on if len(part) == 1 else None
    with file:
        if file.num_row_groups != len(part):
            return part[min(file.num_row_groups, len(part) - 1)].sealed_on
        # All at once tells in a tenth of the time that nothing differs.
        with suppress(*unreadable):
            if file.read().equals(entries):
                return None
        for index, (seal, rows) in enumerate(zip(part, _slices(entries, part), strict=True)):
            try:
                kept = file.read_row_group(index, use_threads=False)
            except unreadable:
                return seal.sealed_on
            if not kept.equals(rows):
                return seal.sealed_on
    return None
