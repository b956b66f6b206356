"""A bureau feed whose earliest rows come last: reports made in between are counted anew."""

from datetime import datetime
from pathlib import Path

import pytest

from tests.dbt.lake_builds import Row, build, deliver, home_of, rows_of

FEATURES = ("--select", "+pull_bureau_features")


def _received(day: int, pull_id: str, **values: object) -> Row:
    return {"pull_id": pull_id, "received_at": datetime(2024, 3, day), **values}


def _pull(day: int, pull_id: str) -> Row:
    return _received(
        day, pull_id, person_id="u", requested_at=datetime(2024, 3, day), pull_type="HARD",
        file_hit="HIT",
    )  # fmt: skip


def _inquiry(day: int, pull_id: str) -> Row:
    return _received(day, pull_id, inquiry_id="1", inquired_on=datetime(2024, 2, 1).date())


def _inquiries() -> dict[str, int | None]:
    return {row["pull_id"]: row["bur_inq_3m_n"] for row in rows_of("features.pull_bureau_features")}


@pytest.mark.usefixtures("home")
def test_what_was_received_before_all_that_was_known_turns_nulls_into_counts(
    tmp_path: Path,
) -> None:
    home_of(tmp_path)
    pulls = [_pull(2, "before"), _pull(10, "between"), _pull(20, "after")]
    first = deliver({"bureau_pulls": pulls, "bureau_inquiries": [_inquiry(20, "after")]})
    build(*FEATURES)
    assert _inquiries() == {"before": None, "between": None, "after": 1}
    deliver({"bureau_inquiries": [_inquiry(5, "of another bureau")]})
    build(*FEATURES, from_load_no=first)
    assert _inquiries() == {"before": None, "between": 0, "after": 1}
