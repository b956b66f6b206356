"""Published Parquet: only what changed, only what is sound, and the same bytes however it came."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from pipelines.errors import CardlineError
from pipelines.features.publish import Published, is_published, publish, read_manifest
from tests.feature_store.tables import DAY, START, Fill, Publish, insert

CARD = "card_velocity_features"


def rows(days: int = 4, cards: int = 3) -> list[dict[str, Any]]:
    return [
        {
            "card_id": f"c{card}",
            "event_timestamp": START + day * DAY,
            "created_timestamp": START + day * DAY,
            "authorization_count_1d": 10 * day + card,
        }
        for day in range(days)
        for card in range(cards)
    ]


def files(home: Path) -> dict[str, str]:
    """Every published file and its digest."""
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((home / "features").glob("*/*/*.parquet"))
    }


def of_card(outcome: list[Published]) -> Published:
    return next(published for published in outcome if published.view == CARD)


def test_one_file_a_day_and_nothing_the_second_time(
    home: Path, fill: Fill, publish_all: Publish
) -> None:
    fill(card_velocity_features=rows())
    first = of_card(publish_all())
    assert first.rows == 12
    assert len(first.written) == 4
    before = files(home)
    assert f"features/{CARD}/event_date=2024-03-02/part-0.parquet" in before
    assert not any(published.written for published in publish_all())
    assert not any(published.written for published in publish_all(is_full=True))
    assert files(home) == before
    assert pl.read_parquet(home / "features" / CARD / "*" / "*.parquet").height == 12


def test_only_changed_days_are_written(
    home: Path, lake: duckdb.DuckDBPyConnection, fill: Fill, publish_all: Publish
) -> None:
    fill(card_velocity_features=rows())
    publish_all()
    before = files(home)
    lake.execute(f"delete from features.{CARD} where event_timestamp = ?", [START + DAY])
    lake.execute(
        f"update features.{CARD} set declined_count_1d = 9 where event_timestamp = ?",
        [START + 2 * DAY],
    )
    insert(lake, CARD, rows(days=6)[-3:])
    outcome = of_card(publish_all())
    assert outcome.written == ("2024-03-03", "2024-03-06")
    assert outcome.removed == ("2024-03-02",)
    after = files(home)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert len(changed) == 3

    # A replaced table, a lost manifest or another home: the same bytes.
    shutil.rmtree(home / "features")
    publish_all()
    assert files(home) == after


def test_rows_are_published_when_their_time_has_come(
    home: Path, lake: duckdb.DuckDBPyConnection, fill: Fill, publish_all: Publish
) -> None:
    at_noon = rows(days=1, cards=1)[0] | {"event_timestamp": START + 2.5 * DAY}
    fill(card_velocity_features=[*rows(days=6), at_noon])
    first = of_card(publish_all(through=START + 2 * DAY))
    assert (first.rows, len(first.written)) == (9, 3)

    lake.execute(f"delete from features.{CARD} where event_timestamp = ?", [START + 3 * DAY])
    assert not any(published.written for published in publish_all(through=START + 2 * DAY))

    second = of_card(publish_all(through=START + 4 * DAY))
    assert (second.rows, second.written) == (13, ("2024-03-03", "2024-03-05"))
    by_day = files(home)
    shutil.rmtree(home / "features")
    publish_all(through=START + 4 * DAY)
    assert files(home) == by_day
    assert of_card(publish_all()).written == ("2024-03-06",)


def test_days_become_a_month_when_they_are_old(
    home: Path, lake: duckdb.DuckDBPyConnection, fill: Fill, publish_all: Publish
) -> None:
    fill(card_velocity_features=rows(days=40))
    publish_all(views=[CARD])
    assert {len(span) for span in read_manifest(CARD).partitions} == {len("2024-03-01")}

    # 2024-05-01: March is the month before last; one of its rows changes and one is late besides.
    lake.execute(
        f"update features.{CARD} set declined_count_1d = 9 where event_timestamp = ?", [START]
    )
    late = {**rows()[0], "card_id": "late", "created_timestamp": START + 60 * DAY}
    insert(lake, CARD, [late, *rows(days=62)[-3:]])
    outcome = of_card(publish_all(views=[CARD]))
    assert outcome.written == ("2024-03", "2024-05-01")
    assert len(outcome.removed) == 31
    assert outcome.rows == 40 * 3 + 4
    names = [path.parent.name for path in (home / "features" / CARD).glob("*/*.parquet")]
    assert len(names) == 1 + 9 + 1
    after = files(home)
    shutil.rmtree(home / "features")
    publish_all(views=[CARD])
    assert files(home) == after

    # The newest rows are taken back: March is of the last two months again.
    lake.execute(f"delete from features.{CARD} where event_timestamp >= ?", [START + 40 * DAY])
    outcome = of_card(publish_all(views=[CARD]))
    assert outcome.removed == ("2024-03", "2024-05-01")
    assert len(outcome.written) == 31
    assert len(pl.read_parquet(home / "features" / CARD / "*" / "*.parquet")) == 40 * 3 + 1


def test_a_replaced_table_is_compared_as_a_whole(
    home: Path, lake: duckdb.DuckDBPyConnection, fill: Fill, publish_all: Publish
) -> None:
    fill(card_velocity_features=rows(days=5))
    publish_all()
    fill(card_velocity_features=rows(days=4))
    outcome = of_card(publish_all())
    assert outcome.written == ()
    assert outcome.removed == ("2024-03-05",)


def test_a_view_without_rows_is_a_typed_empty_file_until_it_has_some(
    home: Path, lake: duckdb.DuckDBPyConnection, fill: Fill, publish_all: Publish
) -> None:
    fill()
    assert not is_published(CARD)
    publish_all()
    assert is_published(CARD)
    empty = pl.read_parquet(home / "features" / CARD / "*" / "*.parquet")
    assert empty.is_empty()
    assert empty.schema["card_id"] == pl.String
    assert empty.schema["event_timestamp"] == pl.Datetime("us")
    insert(lake, CARD, rows(days=1))
    publish_all()
    assert [name for name in files(home) if CARD in name] == [
        f"features/{CARD}/event_date=2024-03-01/part-0.parquet"
    ]


@pytest.mark.parametrize(
    "bad",
    [
        {"card_id": None},
        {"card_id": ""},
        {"event_timestamp": None},
        {"created_timestamp": None},
    ],
)
def test_rows_without_key_or_time_stop_the_view(
    home: Path,
    lake: duckdb.DuckDBPyConnection,
    fill: Fill,
    publish_all: Publish,
    bad: dict[str, Any],
) -> None:
    fill(card_velocity_features=rows())
    publish_all()
    before = files(home)
    insert(lake, CARD, [{**rows()[0], **bad}, rows(days=9)[-1]])
    with pytest.raises(CardlineError, match="1 rows without card_id"):
        publish_all(views=[CARD])
    assert files(home) == before


def test_repeated_rows_stop_the_view(
    home: Path, lake: duckdb.DuckDBPyConnection, fill: Fill, publish_all: Publish
) -> None:
    fill(card_velocity_features=rows())
    publish_all()
    before = files(home)
    insert(lake, CARD, [{**rows()[0], "authorization_count_1d": 5}])
    with pytest.raises(CardlineError, match="same card_id"):
        publish_all(views=[CARD])
    assert files(home) == before


def test_a_killed_publication_is_completed(
    home: Path,
    lake: duckdb.DuckDBPyConnection,
    fill: Fill,
    publish_all: Publish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(card_velocity_features=rows())
    publish_all()
    lake.execute(f"update features.{CARD} set declined_count_7d = 1")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.features.publish._write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            publish_all(views=[CARD])
    number = read_manifest(CARD).publication
    outcome = of_card(publish_all(views=[CARD]))
    assert len(outcome.written) == 4
    assert read_manifest(CARD).publication == number + 1
    assert of_card(publish_all(views=[CARD])).written == ()


def test_missing_tables_and_columns_are_named(
    lake: duckdb.DuckDBPyConnection, fill: Fill, publish_all: Publish
) -> None:
    fill()
    lake.execute(f"alter table features.{CARD} drop column declined_count_1d")
    with pytest.raises(CardlineError, match=f"{CARD} has no column declined_count_1d"):
        publish_all(views=[CARD])
    lake.execute(f"alter table features.{CARD} add column declined_count_1d double")
    with pytest.raises(CardlineError, match="declares bigint"):
        publish_all(views=[CARD])
    lake.execute(f"drop table features.{CARD}")
    with pytest.raises(CardlineError, match=f"no table features.{CARD}"):
        publish_all(views=[CARD])
    with pytest.raises(CardlineError, match="no feature view nope"):
        publish(["nope"], con=lake)
