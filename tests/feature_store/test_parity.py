"""The comparison of online and offline values: what it finds, why, and the page that tells it."""

import shutil
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from pipelines.features.encoding import OnlineRows, encode_keys, layout_of, version
from pipelines.features.materialize import materialize
from pipelines.features.parity import compare
from pipelines.features.parity_page import MAX_ROWS, write_page
from pipelines.features.registry import feature_store, load_definitions
from pipelines.settings import get_settings
from tests.feature_store.tables import DAY, START, Fill, Publish

VIEW = "account_amount_features"
SERVICE = "account_behaviour_v1"
FEATURE = "amount_count_30d"


def row(account: str, day: int, value: int) -> dict[str, Any]:
    at = START + day * DAY
    return {"account_id": account, FEATURE: value, "event_timestamp": at, "created_timestamp": at}


def overwrite(account: str, event: datetime, value: int) -> None:
    """Put another value into the store, whatever is there, as nothing of ours would."""
    store = feature_store()
    table = store.get_feature_view(VIEW)
    at = round((event - datetime(1970, 1, 1)) / timedelta(microseconds=1))
    values = dict.fromkeys(load_definitions().views[VIEW].features) | {FEATURE: value}
    packed = layout_of(table).pack(version(at, at), values)
    rows = OnlineRows(encode_keys("account_id", [account]), [packed])
    store._get_provider().online_store.write_rows(store.config, table, rows, is_forced=True)


@pytest.fixture
def damaged(online_store: str, fill: Fill, publish_all: Publish) -> None:
    """Five accounts, of which the store has one rightly."""
    accounts = ["right", "altered", "lost", "stale", "ahead"]
    fill(**{VIEW: [row(a, day, 10 * day) for a in accounts for day in (1, 5)]})
    publish_all()
    materialize(end=START + 7 * DAY)
    overwrite("altered", START + 5 * DAY, 51)
    overwrite("stale", START + 1 * DAY, 10)
    overwrite("ahead", START + 6 * DAY, 60)
    store = feature_store()
    store._get_provider().online_store.delete_keys(
        store.config, store.get_feature_view(VIEW), encode_keys("account_id", ["lost"])
    )


def test_what_differs_is_told_with_its_reason_and_its_rows(damaged: None) -> None:
    comparison = compare(services=[SERVICE])
    found = {
        account: tuple(values)
        for account, *values in comparison.mismatches.filter(pl.col("feature") == FEATURE)
        .with_columns(pl.col("entity").str.json_path_match("$.account_id"))
        .select("entity", "view", "offline", "online", "reason", "offline_event_time",
                "online_event_time")
        .iter_rows()
    }  # fmt: skip
    newest = START + 5 * DAY
    assert found == {
        "altered": (VIEW, "int 50", "int 51", "another value of the same row", newest, newest),
        "lost": (VIEW, "int 50", "null", "no row online", newest, None),
        "stale": (VIEW, "int 50", "int 10", "the online row is older: the newest was not written",
                  newest, START + 1 * DAY),
        "ahead": (VIEW, "int 50", "int 60", "the online row is newer than what was published",
                  newest, START + 6 * DAY),
    }  # fmt: skip
    (told,) = comparison.compared.to_dicts()
    assert told["service"] == SERVICE
    assert told["known_through"] == START + 7 * DAY
    assert told["mismatches"] == comparison.mismatches.height
    # Five accounts, one that is not known and one without a key.
    assert told["entities"] == 7


def test_the_page_shows_every_mismatch_and_nothing_from_elsewhere(damaged: None) -> None:
    comparison = compare(services=[SERVICE])
    page = write_page(get_settings(), comparison, START + 8 * DAY).read_text()
    for account in ("altered", "lost", "stale", "ahead"):
        assert f"account_id&nbsp;{account}<" in page
    assert "account_id&nbsp;right<" not in page
    assert "int 51" in page
    assert f"{START + 5 * DAY}, 2 d 0 h old" in page
    assert "is equal online and offline" not in page
    assert "http" not in page
    assert "<script" not in page
    many = pl.concat([comparison.mismatches] * MAX_ROWS)
    page = write_page(get_settings(), type(comparison)(comparison.compared, many), START)
    assert f"The first {MAX_ROWS} of {many.height}." in page.read_text()


def test_the_asset_tells_of_equality_and_of_a_value_that_was_altered(
    home: Path, fill: Fill, publish_all: Publish
) -> None:
    from pipelines.defs.features import PARITY, parity_page

    fill(**{VIEW: [row("a", 1, 7)]})
    publish_all()
    materialize(end=START + 7 * DAY)

    def outcome() -> tuple[bool, dict[str, Any], str]:
        result = dg.materialize([parity_page])
        (check,) = result.get_asset_check_evaluations()
        (event,) = result.asset_materializations_for_node("features__parity")
        path = str(event.metadata["page"].value)
        assert event.asset_key == PARITY
        return check.passed, dict(event.metadata), Path(path).read_text()

    passed, metadata, page = outcome()
    assert passed
    assert metadata["mismatches"].value == 0
    assert "Every value of the sample is equal online and offline." in page
    overwrite("a", START + DAY, 8)
    passed, metadata, page = outcome()
    assert not passed
    assert metadata["mismatches"].value == page.count("another value of the same row") - 1
    assert "int 8" in page
    assert "is equal online and offline" not in page


def test_features_follow_their_tables_by_themselves(home: Path) -> None:
    """What the sensor asks for when dbt has written a feature table."""
    from pipelines.defs import features

    table = dg.AssetKey(["features", features.VIEWS[0]])
    tables = [dg.AssetSpec(dg.AssetKey(["features", view])) for view in features.VIEWS]
    assets = [features.offline_store, features.online_store, features.parity_page]
    defs = dg.Definitions(assets=[*tables, *assets])
    instance = dg.DagsterInstance.ephemeral()
    for key in [*(spec.key for spec in tables), features.OFFLINE, features.ONLINE, features.PARITY]:
        instance.report_runless_asset_event(dg.AssetMaterialization(key))
    quiet = dg.evaluate_automation_conditions(defs=defs, instance=instance)
    assert quiet.total_requested == 0
    instance.report_runless_asset_event(dg.AssetMaterialization(table))
    due = dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=quiet.cursor)
    requested = {k for k in (features.OFFLINE, features.ONLINE, features.PARITY)
                 if due.get_requested_partitions(k)}  # fmt: skip
    assert requested == {features.OFFLINE, features.ONLINE, features.PARITY}


@pytest.mark.browser
def test_the_page_opens_in_a_browser(damaged: None, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium on this machine")
    page = write_page(get_settings(), compare(services=[SERVICE]), START + 8 * DAY)
    dom = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()],
        check=True, capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip
    assert "altered" in dom
    assert "the newest was not written" in dom
