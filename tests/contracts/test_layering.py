"""The way through the house goes one way: who may import what, read from the source itself."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = [path for path in (ROOT / "pipelines").rglob("*.py") if "defs" not in path.parts]


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _offenders(paths: list[Path], *forbidden: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in _imports(path)
        if any(name == module or name.startswith(f"{module}.") for module in forbidden)
    ]


def test_models_are_pure() -> None:
    paths = list((ROOT / "models").rglob("*.py"))
    assert paths
    assert not _offenders(paths, "pipelines", "dagster", "duckdb", "feast", "dbt")


def test_dagster_stays_in_its_skin() -> None:
    allowed = {
        "definitions.py",
        "partitions.py",
        "instance.py",
        "job_runs.py",
        "event_log.py",
        "run.py",
    }
    paths = [path for path in LIBRARY if path.name not in allowed]
    assert not _offenders(paths, "dagster", "dagster_dbt")


def test_only_the_warehouse_opens_duckdb() -> None:
    calls = re.compile(r"duckdb\.connect\(")
    found = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "pipelines").rglob("*.py")
        if calls.search(path.read_text(encoding="utf-8"))
    ]
    assert found == ["pipelines/warehouse.py"]


def test_ingest_knows_nothing_of_what_comes_after_it() -> None:
    paths = list((ROOT / "pipelines" / "ingestion").rglob("*.py"))
    later = [f"pipelines.{room}" for room in ("features", "rewards", "finance", "training", "run")]
    assert not _offenders(paths, *later)


def test_nothing_but_the_truth_writer_knows_the_truth() -> None:
    """The synthetic world's ground truth is for tests: no code that serves a user reads it."""
    readers = [
        str(path.relative_to(ROOT))
        for folder in ("pipelines", "models", "feature_repo", "dbt")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".sql", ".yml"}
        and "world" not in path.parts
        and re.search(r"truth_|/truth|\"truth\"", path.read_text(encoding="utf-8"))
    ]
    assert readers == []


def test_nothing_but_the_demo_knows_the_synthetic_world() -> None:
    """A row of a world is a row like any other: no room of the pipeline can tell it apart."""
    allowed = {"demo.py"}
    paths = [
        path
        for path in (ROOT / "pipelines").rglob("*.py")
        if "world" not in path.parts and path.name not in allowed
    ]
    paths += [*(ROOT / "models").rglob("*.py"), *(ROOT / "feature_repo").rglob("*.py")]
    assert not _offenders(paths, "pipelines.sources.world")


def test_nothing_that_trains_or_scores_knows_protected_groups() -> None:
    """No path leads from the models to protected data: not by import, nor by the setting."""
    allowed = {"cli.py", "settings.py"}
    paths = [
        path
        for folder in ("pipelines", "models", "feature_repo")
        for path in (ROOT / folder).rglob("*.py")
        if "fair_lending" not in path.parts and path.name not in allowed
    ]
    assert len(paths) > 100
    assert not [path for path in paths if "fair_lending" in path.read_text(encoding="utf-8")]
    assert not _offenders([ROOT / "pipelines" / "cli.py"], "pipelines.fair_lending.measures")


def test_the_root_only_assembles() -> None:
    lines = (ROOT / "pipelines" / "definitions.py").read_text().splitlines()
    assert len(lines) < 60


@pytest.mark.parametrize("folder", ["dbt", "feature_repo"])
def test_folders_that_must_not_be_packages(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()


def test_secrets_and_machines_are_not_in_the_source() -> None:
    pattern = re.compile(r"/(?:home|root|Users)/\w+/")
    found = [
        str(path.relative_to(ROOT))
        for folder in ("pipelines", "models", "feature_repo", "dbt", "tests", "docs")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".sql", ".yml", ".yaml", ".md"}
        and pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []
