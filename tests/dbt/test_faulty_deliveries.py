"""A history that comes in any order and with faults: day by day equals one build of all of it."""

import os
from pathlib import Path

import duckdb
import pytest

from pipelines.features.publish import publish
from pipelines.ingestion.load import ingest
from pipelines.settings import Settings, get_settings
from pipelines.warehouse import connect, latest_load_no
from tests.dbt.faulty_deliveries import deliveries
from tests.dbt.lake_builds import build, home_of, rows_of, tables
from tests.dbt.random_history import history

LAYERS = ("intermediate", "marts", "features", "risk")
WHOLE = ("--exclude", "path:models/finance")
SEEDS = [int(seed) for seed in os.environ.get("CARDLINE_TEST_SEEDS", "11,12").split(",")]
DROPS = 5


@pytest.mark.slow
@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("seed", SEEDS)
def test_deliveries_in_any_order_and_with_faults_give_what_one_build_gives(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARDLINE_MAX_BAD_ROW_SHARE", "0.6")
    home_of(tmp_path)
    settings = get_settings()
    rows = history(seed, transactions=120)
    made = deliveries(rows, seed, DROPS)
    worked_through = -1
    for drop in made.drops:
        for write in drop:
            write(settings.landing_dir)
        ingest()
        build(*WHOLE, from_load_no=worked_through)
        publish()
        with connect(read_only=True) as con:
            worked_through = latest_load_no(con)

    _require_every_row_once(rows)
    states = {
        row["state"]: row["n"]
        for row in rows_of("(select state, count(*) as n from landing.files group by state)")
    }
    assert states == made.states
    assert len(rows_of("quarantine.rows")) == made.bad_rows

    by_day = tables(*LAYERS)
    published = _published(settings)
    build(*WHOLE, "--full-refresh")
    whole = tables(*LAYERS)
    differing = [
        name
        for name, expected in whole.items()
        if name != "intermediate.int_entities__touched" and by_day[name] != expected
    ]
    assert not differing
    for view, found in published.items():
        assert found == whole[f"features.{view}"], view


def _require_every_row_once(rows: dict[str, list[dict]]) -> None:
    for feed, delivered in rows.items():
        [counted] = rows_of(f"(select count(*) as n from raw.{feed})")
        assert counted["n"] == len(delivered), feed


def _published(settings: Settings) -> dict[str, list[tuple]]:
    """The rows of every published view, with the columns of its table, sorted."""
    found = {}
    for folder in settings.features_dir.iterdir():
        if folder.name.startswith("."):
            continue
        with connect(read_only=True) as con:
            columns = ", ".join(con.table(f"lake.features.{folder.name}").columns)
        files = f"{folder}/event_date=*/*.parquet"
        found[folder.name] = duckdb.sql(
            f"select {columns} from read_parquet('{files}', hive_partitioning = false) order by all"
        ).fetchall()
    return found
