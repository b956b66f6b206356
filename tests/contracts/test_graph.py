"""The graph that the UI shows: a rename is a diff in review, every writer takes the pool."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SNAPSHOT = Path(__file__).with_name("graph.txt")
READS_ONLY = {"raw_tables", "finance__packs"}
LAYERS = {
    *("landing", "raw", "staging", "intermediate", "marts"),
    *("features", "rewards", "finance", "models"),
}

_DESCRIBE = """
from pipelines.definitions import defs
found = defs()
graph = found.get_repository_def().asset_graph
for key in sorted(graph.get_all_asset_keys(), key=lambda key: key.path):
    node = graph.get(key)
    print("asset", key.to_user_string(), node.group_name, bool(node.description), bool(node.owners))
for key in sorted(graph.asset_check_keys, key=lambda key: (key.asset_key.path, key.name)):
    print("check", key.asset_key.to_user_string(), key.name)
repository = found.get_repository_def()
for job in sorted(repository.get_all_jobs(), key=lambda job: job.name):
    print("job", job.name)
for schedule in sorted(repository.schedule_defs, key=lambda each: each.name):
    print("schedule", schedule.name, schedule.cron_schedule)
for sensor in sorted(repository.sensor_defs, key=lambda each: each.name):
    print("sensor", sensor.name)
for assets in repository.assets_defs_by_key.values():
    if assets.is_executable and not all(k.path[0] == "check" for k in assets.keys):
        print("pool", assets.op.name, assets.op.pool)
"""


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    home = tmp_path_factory.mktemp("graph") / "home"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _DESCRIBE],
        env=os.environ | {"CARDLINE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return sorted(set(done.stdout.splitlines()))


def _of(described: list[str], kind: str) -> list[list[str]]:
    return [line.split()[1:] for line in described if line.startswith(f"{kind} ")]


def test_assets_checks_jobs_schedules_and_sensors_are_the_reviewed_ones(
    described: list[str],
) -> None:
    """`CARDLINE_UPDATE_SNAPSHOT=1` writes the file anew, for review."""
    names = [
        " ".join(line.split()[:3] if line.startswith("check") else line.split()[:2])
        for line in described
        if not line.startswith("pool ")
    ]
    if os.environ.get("CARDLINE_UPDATE_SNAPSHOT"):
        SNAPSHOT.write_text("\n".join(names) + "\n")
    assert names == SNAPSHOT.read_text().splitlines()


def test_every_asset_has_a_layer_a_description_and_an_owner(described: list[str]) -> None:
    assets = _of(described, "asset")
    assert len(assets) > 80
    for key, group, has_description, has_owner in assets:
        assert key.split("/")[0] in LAYERS, key
        assert group == key.split("/")[0], key
        assert has_description == has_owner == "True", key


def test_whatever_writes_takes_a_pool(described: list[str]) -> None:
    without = {name for name, pool in _of(described, "pool") if pool == "None"}
    assert without <= READS_ONLY


def test_every_scheduled_job_exists(described: list[str]) -> None:
    jobs = {name for (name,) in _of(described, "job")}
    for name, *_ in _of(described, "schedule"):
        assert name.removesuffix("_schedule") in jobs
