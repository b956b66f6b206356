"""Sealed days as files: written once, read-only, and held against the table."""

from datetime import timedelta

import pyarrow.parquet as pq
import pytest

from pipelines.files import sha256_of
from pipelines.rewards import archive
from pipelines.rewards.archive import archive_into, archive_seals
from pipelines.rewards.tables import are_published, ensure_tables, publish_programs
from pipelines.rewards.terms import Program
from pipelines.rewards.verification import verify_ledger, verify_new_seals
from pipelines.warehouse import connect
from tests.property.rewards_histories import START, event, program
from tests.rewards_lab import RewardsLab, end_of

PLAIN = {"earn": {"base": {"id": "base", "rate_milli": 1000}}, "expiry": {"kind": "NONE"}}
DAY = timedelta(days=1)


def buys(first, last):
    return [event(n, f"a{n % 3}", 1000 + n, n // 4) for n in range(4 * first, 4 * last)]


@pytest.fixture
def lab(tmp_path):
    lab = RewardsLab(program(**PLAIN)).deliver(buys(0, 5))
    lab.accrue()
    archive_into(lab.con, tmp_path)
    return lab


def files(folder):
    return {path.name: sha256_of(path) for path in sorted(folder.rglob("*.parquet"))}


def broken(lab, folder):
    return {r.name: r.detail for r in verify_ledger(lab.con, folder) if not r.ok}


def test_each_run_adds_a_file_of_its_days(lab, tmp_path):
    assert list(files(tmp_path)) == [f"{START}-000001.parquet"]
    before = files(tmp_path)
    assert archive_into(lab.con, tmp_path) == 0
    lab.deliver(buys(5, 6)).accrue()
    assert "have no file yet" in broken(lab, tmp_path)["sealed files"]
    assert archive_into(lab.con, tmp_path) == 1
    after = files(tmp_path)
    assert list(after) == [f"{START}-000001.parquet", f"{START + 5 * DAY}-000006.parquet"]
    assert before.items() <= after.items() and broken(lab, tmp_path) == {}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.parquet")} == {0o444}


def test_the_same_entries_give_the_same_bytes(lab, tmp_path):
    again = RewardsLab(program(**PLAIN)).deliver(buys(0, 5))
    again.accrue()
    archive_into(again.con, tmp_path / "again")
    assert files(tmp_path / "lab") == files(tmp_path / "again" / "lab")


def test_a_full_file_ends_with_a_seal(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "ENTRIES_A_FILE", 8)
    lab = RewardsLab(program(**PLAIN)).deliver(buys(0, 5))
    lab.accrue()
    assert archive_into(lab.con, tmp_path) == 3 == len(files(tmp_path))
    assert broken(lab, tmp_path) == {}


def test_any_flipped_byte_of_an_entry_in_a_file_is_found_with_its_day(lab, tmp_path):
    (path,) = tmp_path.rglob("*.parquet")
    content = path.read_bytes()
    path.chmod(0o644)
    with pq.ParquetFile(path) as file:
        for day in range(5):
            group = file.metadata.row_group(day)
            for column in range(0, group.num_columns, 3):
                chunk = group.column(column)
                start = chunk.dictionary_page_offset or chunk.data_page_offset
                at = start + chunk.total_compressed_size - 1
                path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
                assert str(START + day * DAY) in broken(lab, tmp_path)["sealed files"]
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    assert f"{START} to {START + 4 * DAY}" in broken(lab, tmp_path)["sealed files"]
    path.write_bytes(content)
    assert broken(lab, tmp_path) == {}


def test_a_flipped_byte_in_the_table_is_found_with_its_day(lab, tmp_path):
    lab.con.execute(
        "update rewards.postings set lot_id = replace(lot_id, 'lot', 'lou') "
        "where journal_id like '%e13:1'"
    )
    found = broken(lab, tmp_path)
    for name in ("sealed files", "ledger hash chain"):
        assert str(START + 3 * DAY) in found[name]


def test_a_missing_file_is_found(lab, tmp_path):
    for path in tmp_path.rglob("*.parquet"):
        path.unlink()
    assert "is missing" in broken(lab, tmp_path)["sealed files"]
    lab.deliver(buys(5, 6)).accrue()
    archive_into(lab.con, tmp_path)
    assert "is missing" in broken(lab, tmp_path)["sealed files"]


def test_a_home_is_verified_with_its_files(home):
    with connect() as con:
        RewardsLab(program(**PLAIN), con=con).deliver(buys(0, 3)).accrue()
    assert not all(result.ok for result in verify_ledger())
    assert archive_seals() == 1 and archive_seals() == 0
    assert [result for result in verify_ledger() if not result.ok] == []
    (path,) = (home / "ledger").rglob("*.parquet")
    path.chmod(0o644)
    content = path.read_bytes()
    # The second day's entries stand in the second row group.
    with pq.ParquetFile(path) as file:
        at = file.metadata.row_group(1).column(0).data_page_offset
    path.write_bytes(content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :])
    (wrong,) = [result for result in verify_ledger() if not result.ok]
    assert wrong.name == "sealed files" and str(START + DAY) in wrong.detail


def test_the_daily_check_looks_at_what_was_sealed_since_it_last_held(home):
    def broken_since() -> set[str]:
        return {result.name for result in verify_new_seals() if not result.ok}

    lab = RewardsLab(program(**PLAIN), con=connect())

    def change(entry: str) -> None:
        lab.con.execute(
            f"update rewards.journal set payload_hash = repeat('0', 64) where seq = ({entry})"
        )

    def deliver(first: int, last: int) -> None:
        lab.deliver(buys(first, last)).accrue()
        archive_seals()

    found = {"ledger hash chain", "sealed files"}
    deliver(0, 3)
    assert broken_since() == set()
    change("select min(seq) from rewards.journal")
    assert broken_since() == set()
    assert {result.name for result in verify_ledger() if not result.ok} == found
    deliver(3, 5)
    change("select max(seq) from rewards.journal")
    assert broken_since() == found
    assert broken_since() == found


def test_versions_of_terms_have_the_known_time_of_the_warehouse(home):
    def recorded(con):
        return con.execute(
            "select version, recorded_at from rewards.programs order by version"
        ).fetchall()

    def arrive(con, day):
        con.execute(
            "insert into landing.files (file_id, state, received_at) values (?, 'LOADED', ?)",
            [str(day), end_of(day)],
        )

    first = program(**PLAIN)
    second = program(**PLAIN, version=2, valid_from="2025-01-01")
    both = Program(first.program_id, (*first.versions, *second.versions))
    with connect() as con:
        assert not are_published(con, {"lab": first})
        ensure_tables(con)
        arrive(con, START)
        assert publish_programs(con, {"lab": first}) == 1
        arrive(con, START + DAY)
        # The first version only gets an end: it was published before.
        assert are_published(con, {"lab": first})
        assert not are_published(con, {"lab": both})
        assert publish_programs(con, {"lab": both}) == 2
        assert recorded(con) == [(1, end_of(START)), (2, end_of(START + DAY))]
        assert publish_programs(con, {"lab": both}) == 0
        assert are_published(con, {"lab": both})
