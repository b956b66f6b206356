"""Faults with a known truth: each is found as it must be, and nothing else is."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import CardlineError
from pipelines.ingestion.load import ingest
from pipelines.settings import Settings
from pipelines.sources.world import generate
from pipelines.sources.world.faults import (
    CARD_NUMBER,
    ENOUGH_ACCOUNTS,
    ENOUGH_DAYS,
    KINDS,
    inject,
    release,
)
from pipelines.sources.world.scorecard import Scorecard, compare
from pipelines.warehouse import connect

SEED = 3


def _findings(settings: Settings) -> pl.DataFrame:
    with connect(read_only=True, settings=settings) as con:
        return con.execute("from landing.findings").pl()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Settings]:
    """Homes with the landing files of one world, each a copy."""
    folder = tmp_path_factory.mktemp("faults")
    generate(folder / "made", ENOUGH_ACCOUNTS, ENOUGH_DAYS, SEED, truth=folder / "truth")

    def copy(name: str) -> Settings:
        settings = Settings(home=folder / name)  # pyright: ignore
        settings.landing_dir.parent.mkdir(parents=True)
        for path in (folder / "made").rglob("*"):
            target = settings.landing_dir / path.relative_to(folder / "made")
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                target.write_bytes(path.read_bytes())
        return settings

    return copy


@pytest.fixture(scope="module")
def damaged(world: Callable[[str], Settings]) -> tuple[Settings, Scorecard]:
    settings = world("damaged")
    faults = inject(settings.landing_dir, settings.home / "truth", SEED)
    ingest(settings=settings)
    assert release(settings.landing_dir) == 3
    ingest(settings=settings)
    return settings, compare(faults, _findings(settings), settings.landing_dir)


def test_a_clean_world_gives_no_finding(world: Callable[[str], Settings]) -> None:
    settings = world("clean")
    summary = ingest(settings=settings)
    assert summary.files_quarantined == 0
    assert not summary.rows_quarantined
    found = _findings(settings)
    assert found.is_empty(), found.head(5).to_dicts()


def test_every_fault_is_found_as_it_must_be_and_nothing_else_is(
    damaged: tuple[Settings, Scorecard],
) -> None:
    _, score = damaged
    assert {kind.kind for kind in score.kinds} == set(KINDS)
    assert [kind for kind in score.kinds if kind.found < kind.expected] == []
    assert score.recall == 1.0
    assert score.surplus == {}, score.unexplained.head(5).to_dicts()


def test_taking_the_damaged_folder_in_again_changes_nothing(
    damaged: tuple[Settings, Scorecard],
) -> None:
    settings, _ = damaged
    before = _findings(settings).sort(pl.all())
    assert ingest(settings=settings).load_no is None
    assert _findings(settings).sort(pl.all()).equals(before)


def test_a_card_number_in_text_gets_no_further_than_landing(
    damaged: tuple[Settings, Scorecard],
) -> None:
    settings, _ = damaged
    kept = [
        path
        for path in settings.home.rglob("*")
        if path.is_file() and settings.landing_dir not in path.parents
    ]
    assert kept
    assert not [path for path in kept if CARD_NUMBER.encode() in path.read_bytes()]


def test_a_finding_that_no_fault_explains_counts_as_false(
    damaged: tuple[Settings, Scorecard],
) -> None:
    settings, _ = damaged
    score = compare([], _findings(settings), settings.landing_dir)
    assert score.false_findings == _findings(settings).height > 0


def test_a_fault_that_was_not_found_lowers_recall(
    world: Callable[[str], Settings],
) -> None:
    settings = world("unseen")
    faults = inject(
        settings.landing_dir, settings.home / "truth", 1, kinds=["negative_amount", "missing_file"]
    )
    told = json.loads((settings.home / "truth" / "faults.json").read_text())
    assert [fault["kind"] for fault in told] == [fault.kind for fault in faults]
    nothing = pl.DataFrame(
        schema=["kind", "feed", "batch_date", "path", "line_no", "record_key", "detail"]
    )
    assert compare(faults, nothing, settings.landing_dir).recall == 0.0


def test_an_unknown_fault_and_a_world_too_small_are_told(tmp_path: Path) -> None:
    with pytest.raises(CardlineError, match="no fault 'flood'"):
        inject(tmp_path / "landing", tmp_path / "truth", 1, kinds=["flood"])
    with pytest.raises(CardlineError, match="too small for the fault empty_file"):
        inject(tmp_path / "landing", tmp_path / "truth", 1, kinds=["empty_file"])
