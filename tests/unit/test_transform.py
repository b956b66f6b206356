"""What dbt is told of its surroundings."""

import json
from pathlib import Path

from pipelines.rewards.terms import load_programs
from pipelines.settings import Settings
from pipelines.transform import dbt_environment, program_zones, told_failures
from pipelines.warehouse import connect


def test_dbt_is_told_the_zones_of_programs_that_are_not_in_utc() -> None:
    told = program_zones(load_programs(Settings().programs))  # pyright: ignore[reportCallIssue]
    zones = json.loads(told["CARDLINE_PROGRAM_ZONES"])
    assert zones["skyline_miles"] == "America/New_York"
    assert "sparkov_rewards" not in zones


def test_a_failed_build_names_the_model_and_dbts_word_on_it(tmp_path: Path) -> None:
    assert told_failures(tmp_path) is None
    results = [
        {"unique_id": "model.cardline.good", "status": "success", "message": "OK"},
        {"unique_id": "model.cardline.bad", "status": "error", "message": "Overflow\n  in it"},
        {"unique_id": "test.cardline.worse.1a", "status": "fail", "message": None},
    ]
    (tmp_path / "run_results.json").write_text(json.dumps({"results": results}))
    assert told_failures(tmp_path) == "model bad: Overflow in it, and 1 more failed"


def test_cores_are_limited_in_the_warehouse_and_in_dbt(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, threads=1)  # pyright: ignore[reportCallIssue]
    with connect(settings=settings, alone=True) as con:
        assert con.execute("select current_setting('threads')").fetchone() == (1,)
    assert dbt_environment(settings)["CARDLINE_THREADS"] == "1"
