"""Housekeeping frees files and snapshots, and nobody who reads notices."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.maintenance import maintain
from pipelines.settings import Settings
from pipelines.warehouse import connect

LOADS = 30

# Reads in transactions of its own until it is told to end; each read must see whole loads only.
READER = """
import sys, time
from pathlib import Path
from pipelines.settings import Settings
from pipelines.warehouse import connect

settings = Settings(home=Path(sys.argv[1]))
with connect(read_only=True, settings=settings) as con:
    con.execute("begin transaction")
    first = con.execute("select count(*), sum(n) from marts.counted").fetchone()
    print("reading", flush=True)
    reads = 0
    while not (Path(sys.argv[1]) / "end").exists() or reads < 3:
        assert con.execute("select count(*), sum(n) from marts.counted").fetchone() == first
        with connect(read_only=True, settings=settings) as other:
            assert other.execute("select count(*), sum(n) from marts.counted").fetchone() == first
        reads += 1
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path, snapshot_retention_days=0)  # pyright: ignore
    with connect(settings=settings) as con:
        con.execute("create table marts.counted (load_no integer, n integer)")
        for load_no in range(LOADS):
            con.execute(
                "insert into marts.counted select ?, n from range(1000) as numbers(n)", [load_no]
            )
        con.execute("delete from marts.counted where load_no % 2 = 1")
    return settings


def _rows(settings: Settings, version: int | None = None) -> tuple[int, int]:
    at = "" if version is None else f"at (version => {version})"
    with connect(read_only=True, settings=settings) as con:
        row = con.execute(f"select count(*), sum(n) from marts.counted {at}").fetchone()
    assert row is not None
    return row


def _snapshots(settings: Settings) -> list[int]:
    with connect(read_only=True, settings=settings) as con:
        rows = con.execute("select snapshot_id from ducklake_snapshots('lake')").fetchall()
    return [version for (version,) in rows]


def test_files_become_few_and_rows_stay(settings: Settings) -> None:
    before = _rows(settings)
    done = maintain(settings, grace=timedelta(0))
    assert done.files_after < done.files_before / 5
    assert done.files_removed >= LOADS
    assert done.snapshots_expired > LOADS
    assert _rows(settings) == before
    again = maintain(settings, grace=timedelta(0))
    assert again.files_after == done.files_after


def test_a_reader_in_another_process_sees_nothing_of_it(settings: Settings) -> None:
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(settings.home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "reading\n"
    maintain(settings)
    (settings.home / "end").touch()
    _, errors = reader.communicate()
    assert reader.returncode == 0, errors[-2000:]


def test_snapshots_that_are_referred_to_stay(settings: Settings) -> None:
    kept = _snapshots(settings)[10]
    before = _rows(settings, kept)
    published = _snapshots(settings)[-3]
    model = settings.models_dir / "fraud" / "v1" / "manifest.json"
    model.parent.mkdir(parents=True)
    model.write_text(json.dumps({"snapshot": kept}))
    view = settings.features_dir / "card_velocity_features" / "manifest.json"
    view.parent.mkdir(parents=True)
    view.write_text(json.dumps({"snapshot": published}))
    maintain(settings, grace=timedelta(0))
    left = _snapshots(settings)
    assert left[0] == kept
    assert {version for version in range(published, left[-1])} <= set(left)
    assert _rows(settings, kept) == before


def test_recent_states_are_kept(settings: Settings) -> None:
    weekly = settings.model_copy(update={"snapshot_retention_days": 7})
    assert maintain(weekly, grace=timedelta(0)).snapshots_expired == 0
    assert 0 in _snapshots(settings)
