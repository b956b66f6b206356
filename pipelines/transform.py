"""Calling dbt: where the project is, what it needs from the environment, and its manifest."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import yaml

from pipelines.errors import CardlineError
from pipelines.files import locked, written_aside
from pipelines.settings import PROJECT_DIR, Settings, get_settings
from pipelines.warehouse import threads

if TYPE_CHECKING:
    import duckdb

    from pipelines.rewards.terms import Program

DBT_DIR = PROJECT_DIR / "dbt"
DBT_EXECUTABLE = Path(sys.executable).with_name("dbt")
"""The dbt beside this Python: another one may come first on the path."""

WATERMARK = "dbt"
TESTED = "dbt:tested snapshot"
"""The snapshot of the lake on which all data tests of the curated tables passed."""
TEXT = "dbt:text of models"
"""The text that all curated tables were built by: see `text_of_models`."""


def dbt_environment(settings: Settings | None = None) -> dict[str, str]:
    """Variables that `dbt/profiles.yml` reads, and switches that keep dbt off the network."""
    settings = settings or get_settings()
    return {
        "CARDLINE_HOME": str(settings.home),
        "CARDLINE_THREADS": str(settings.threads or threads()),
        "DBT_TARGET_PATH": str(settings.dbt_target_dir),
        "DBT_LOG_PATH": str(settings.dbt_target_dir / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
    }


def text_of_models() -> int:
    """A digest of the SQL that the curated tables come of; 56 bits.

    Rows that were built by another text are not those that this one gives: where it has changed,
    with a release, everything is built anew.
    """
    digest = hashlib.sha256()
    paths = [*(DBT_DIR / "macros").rglob("*.sql"), *(DBT_DIR / "models").rglob("*.sql")]
    for path in sorted(paths):
        digest.update(f"{path.relative_to(DBT_DIR)}\0{path.read_text()}\0".encode())
    return int.from_bytes(digest.digest()[:7])


MOST_NAMED_FILES = 100
"""New files that dbt is told by name; of more, it is told the ingest commit."""


def news(load_no: int = -1, tested_snapshot: int = -1, files: Sequence[str] = ()) -> dict[str, str]:
    """Variables that tell dbt's macros what is new: rows of ingest commits after `load_no`, and for
    data tests what was written after the lake's `tested_snapshot`. -1: everything is.

    `files` are the ids of the files in these commits, or none where they are too many to name.
    """
    return {
        "CARDLINE_FROM_LOAD_NO": str(load_no),
        "CARDLINE_TESTED_SNAPSHOT": str(tested_snapshot),
        "CARDLINE_NEW_FILES": ",".join(files),
    }


def program_zones(programs: Mapping[str, "Program"]) -> dict[str, str]:
    """Variables that tell dbt's macros in which time zone a program's days are."""
    zones = {name: program.latest.timezone for name, program in programs.items()}
    return {
        "CARDLINE_PROGRAM_ZONES": json.dumps(
            {n: zone for n, zone in zones.items() if zone != "UTC"}
        )
    }


def news_since(
    con: "duckdb.DuckDBPyConnection", load_no: int, tested_snapshot: int
) -> dict[str, str]:
    """`news` of what the lake has after `load_no` and `tested_snapshot`."""
    loaded = con.execute(
        "select distinct file_id from landing.files where state = 'LOADED' and load_no > ? "
        "order by file_id limit ?",
        [load_no, MOST_NAMED_FILES + 1],
    ).fetchall()
    named = [] if load_no < 0 or len(loaded) > MOST_NAMED_FILES else [name for (name,) in loaded]
    return news(load_no, tested_snapshot, named)


def dbt_arguments(settings: Settings | None = None) -> list[str]:
    """Arguments of every dbt command: alike in each, or dbt parses the project anew."""
    settings = settings or get_settings()
    variables: dict[str, object] = {"performance_months": settings.performance_months}
    if settings.chart_of_accounts is not None:
        variables["chart_of_accounts"] = chart_of_accounts(settings.chart_of_accounts)
    return ["--vars", json.dumps(variables)]


def chart_of_accounts(path: Path | None = None) -> dict[str, dict[str, str]]:
    """Number and name by account of the posting matrix, as shipped or changed by the file `path`.

    Raises `CardlineError` for a file that is not there or is no chart, and for an account that the
    matrix does not have.
    """
    project = yaml.safe_load((DBT_DIR / "dbt_project.yml").read_text(encoding="utf-8"))
    chart = {str(code): dict(account) for code, account in
             project["vars"]["chart_of_accounts"].items()}  # fmt: skip
    if path is None:
        return chart
    try:
        changes = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise CardlineError(f"no chart of accounts can be read from {path}: {error}") from error
    if not isinstance(changes, dict):
        raise CardlineError(f"{path}: expected accounts, e.g. '2100: {{account: 210500, name: …}}'")
    for code, account in changes.items():
        if str(code) not in chart:
            raise CardlineError(f"{path}: {code}: the posting matrix has no such account; it has "
                                f"{', '.join(chart)}")  # fmt: skip
        if not isinstance(account, dict) or not {"account", "name"}.issuperset(account):
            raise CardlineError(f"{path}: {code}: expected `account` and `name`")
        chart[str(code)] |= {name: str(value) for name, value in account.items()}
    return chart


def dbt(
    arguments: Sequence[str], settings: Settings | None = None, target: Path | None = None
) -> None:
    """Run one dbt command in a process of its own, on everything that there is.

    What dbt leaves goes to `target`, default this home's. Raises `CardlineError` with dbt's last
    words.
    """
    settings = settings or get_settings()
    target = target or settings.dbt_target_dir
    target.mkdir(parents=True, exist_ok=True)
    folders = ["--project-dir", str(DBT_DIR), "--profiles-dir", str(DBT_DIR)]
    done = subprocess.run(
        [str(DBT_EXECUTABLE), *arguments, *dbt_arguments(settings), *folders],
        env=os.environ | dbt_environment(settings) | news() | {"DBT_TARGET_PATH": str(target)},
        cwd=DBT_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = " ".join((done.stdout + done.stderr).split()[-60:])
        raise CardlineError(f"dbt {arguments[0]} failed: {tail}")


def told_failures(target: Path) -> str | None:
    """What failed in the dbt run that left its results in `target`: the first model or test and
    dbt's word on it, and how many others; None where nothing tells."""
    path = target / "run_results.json"
    if not path.exists():
        return None
    failed = [
        result
        for result in json.loads(path.read_text())["results"]
        if result["status"] in ("error", "fail")
    ]
    if not failed:
        return None
    kind, _, name = failed[0]["unique_id"].split(".")[:3]
    others = f", and {len(failed) - 1} more failed" if len(failed) > 1 else ""
    return f"{kind} {name}: {' '.join((failed[0]['message'] or '').split())}{others}"


def _sources_stamp() -> str:
    """Newest change and number of the project's files: a manifest of another stamp is stale."""
    stamps = [
        path.stat().st_mtime_ns
        for pattern in ("**/*.sql", "**/*.yml")
        for path in DBT_DIR.glob(pattern)
    ]
    return f"{max(stamps, default=0)}:{len(stamps)}"


_PARSED = "partial_parse.msgpack"
"""What dbt keeps of a parse, so that the next one looks at changed files only."""


def ensure_manifest(settings: Settings | None = None) -> Path:
    """dbt's manifest in this home, parsed anew where the project's files have changed."""
    settings = settings or get_settings()
    return _ensure(["parse", "--quiet"], "manifest.json", "sources.stamp", settings)


def compiled_models(folder: str, settings: Settings | None = None) -> dict[str, str]:
    """The models of `dbt/models/<folder>` as SQL for the warehouse, in the order to run them."""
    settings = settings or get_settings()
    command = ["compile", "--quiet", "--select", f"{folder},resource_type:model"]
    made = _ensure(command, f"compiled_{folder}.json", f"compiled_{folder}.stamp", settings)
    nodes = {
        name: node
        for name, node in json.loads(made.read_text())["nodes"].items()
        if node["resource_type"] == "model" and node["fqn"][1] == folder
    }
    needs = {name: set(node["depends_on"]["nodes"]) & set(nodes) for name, node in nodes.items()}
    return {
        nodes[name]["name"]: nodes[name]["compiled_code"]
        for name in TopologicalSorter(needs).static_order()
    }


def _ensure(command: list[str], made: str, stamp: str, settings: Settings) -> Path:
    """The manifest that a dbt `command` leaves, kept as `made` until the project changes.

    Of several processes that ask for it at once, one makes it and the others wait.
    """
    folder = settings.dbt_target_dir
    path, stamp_path = folder / made, folder / stamp
    now = f"{_sources_stamp()} {dbt_arguments(settings)}"
    with locked(folder / ".manifest.lock"):
        if path.exists() and stamp_path.exists() and stamp_path.read_text() == now:
            return path
        # dbt writes its files in place, and others read them meanwhile.
        with TemporaryDirectory(dir=folder, prefix=".dbt-") as aside:
            parsed = Path(aside, _PARSED)
            if (folder / _PARSED).exists():
                shutil.copyfile(folder / _PARSED, parsed)
            dbt(command, settings, Path(aside))
            parsed.replace(folder / _PARSED)
            Path(aside, "manifest.json").replace(path)
        with written_aside(stamp_path) as mark:
            mark.write_text(now)
    return path
