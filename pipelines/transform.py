"""Calling dbt: where the project is, what it needs from the environment, and its manifest."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import CardlineError
from pipelines.files import written_aside
from pipelines.settings import PROJECT_DIR, Settings, get_settings

DBT_DIR = PROJECT_DIR / "dbt"
DBT_EXECUTABLE = Path(sys.executable).with_name("dbt")
"""The dbt beside this Python: another one may come first on the path."""

WATERMARK = "dbt"
TESTED = "dbt:tested snapshot"
"""The snapshot of the lake on which all data tests of the curated tables passed."""


def dbt_environment(settings: Settings | None = None) -> dict[str, str]:
    """Variables that `dbt/profiles.yml` reads, and switches that keep dbt off the network."""
    settings = settings or get_settings()
    return {
        "CARDLINE_HOME": str(settings.home),
        "DBT_TARGET_PATH": str(settings.dbt_target_dir),
        "DBT_LOG_PATH": str(settings.dbt_target_dir / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
    }


def news(load_no: int = -1, tested_snapshot: int = -1) -> dict[str, str]:
    """Variables that tell dbt's macros what is new: rows of ingest commits after `load_no`, and for
    data tests what was written after the lake's `tested_snapshot`. -1: everything is."""
    return {
        "CARDLINE_FROM_LOAD_NO": str(load_no),
        "CARDLINE_TESTED_SNAPSHOT": str(tested_snapshot),
    }


def dbt_arguments(settings: Settings | None = None) -> list[str]:
    """Arguments of every dbt command: alike in each, or dbt parses the project anew."""
    settings = settings or get_settings()
    variables = {"performance_months": settings.performance_months}
    return ["--vars", json.dumps(variables)]


def dbt(arguments: Sequence[str], settings: Settings | None = None) -> None:
    """Run one dbt command in a process of its own, on everything that there is.

    Raises `CardlineError` with dbt's last words.
    """
    settings = settings or get_settings()
    settings.dbt_target_dir.mkdir(parents=True, exist_ok=True)
    folders = ["--project-dir", str(DBT_DIR), "--profiles-dir", str(DBT_DIR)]
    done = subprocess.run(
        [str(DBT_EXECUTABLE), *arguments, *dbt_arguments(settings), *folders],
        env=os.environ | dbt_environment(settings) | news(),
        cwd=DBT_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = " ".join((done.stdout + done.stderr).split()[-60:])
        raise CardlineError(f"dbt {arguments[0]} failed: {tail}")


def _sources_stamp() -> str:
    """Newest change and number of the project's files: a manifest of another stamp is stale."""
    stamps = [
        path.stat().st_mtime_ns
        for pattern in ("**/*.sql", "**/*.yml")
        for path in DBT_DIR.glob(pattern)
    ]
    return f"{max(stamps, default=0)}:{len(stamps)}"


def ensure_manifest(settings: Settings | None = None) -> Path:
    """dbt's manifest in this home, parsed anew where the project's files have changed."""
    settings = settings or get_settings()
    manifest = settings.dbt_target_dir / "manifest.json"
    stamp_path = settings.dbt_target_dir / "sources.stamp"
    stamp = _sources_stamp()
    is_fresh = manifest.exists() and stamp_path.exists() and stamp_path.read_text() == stamp
    if not is_fresh:
        dbt(["parse", "--quiet"], settings)
        with written_aside(stamp_path) as aside:
            aside.write_text(stamp)
    return manifest
