"""Everything that is due: `cardline run`.

Each stage asks whether there is something new for it and runs its Dagster job only then, so a run
with nothing new changes nothing, and a run after a kill goes on with the stage that was cut off.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from pipelines.errors import CardlineError
from pipelines.instance import dagster_instance, instance_of_home, is_at_rest
from pipelines.job_runs import run_job
from pipelines.progress import console, step
from pipelines.registry_view import MODELS
from pipelines.second_process import second_process
from pipelines.settings import get_settings
from pipelines.transform import DBT_DIR, TEXT, text_of_models
from pipelines.warehouse import (
    connect,
    data_clock,
    files_waiting,
    latest_load_no,
    require_warehouse,
    set_watermark,
    transaction,
    watermark,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    import dagster as dg


@dataclass
class RunSummary:
    """What a run did: stages with their seconds, and new rows by feed.

    `files_waiting` counts every refused file that no later one has made good, of earlier runs too.
    """

    stages: dict[str, float] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    files_quarantined: int = 0
    rows_quarantined: int = 0
    files_waiting: int = 0

    def show(self, as_json: bool = False) -> None:
        """Print it, for a reader or for a program."""
        if as_json:
            print(json.dumps(self.__dict__))
            return
        if not self.stages:
            print("nothing new: nothing was changed")
            return
        for feed, rows in self.rows.items():
            print(f"{feed:<26}{rows:>12,} rows")
        print(f"{'quarantined':<26}{self.rows_quarantined:>12,} rows, "
              f"{self.files_quarantined} files")  # fmt: skip
        if self.files_waiting > self.files_quarantined:
            print(f"{'waiting in quarantine':<26}{self.files_waiting:>12,} files, "
                  "of earlier runs too")  # fmt: skip
        if self.rows_quarantined or self.files_waiting:
            print("what waits, and why: cardline sql 'from quarantine.files', "
                  "'from quarantine.rows'")  # fmt: skip
        for stage, seconds in self.stages.items():
            print(f"{stage:<26}{seconds:>12.1f} s")


@dataclass
class _Runner:
    instance: "dg.DagsterInstance"
    summary: RunSummary

    def job(self, name: str, **options: Any) -> None:
        """Run a job, telling a terminal what is going on."""
        started = time.monotonic()
        with step(name):
            run_job(self.instance, name, **options)
        self.took({name: time.monotonic() - started})

    def took(self, jobs: dict[str, float]) -> None:
        """Count in the seconds of jobs, and tell a terminal of them."""
        for name, seconds in jobs.items():
            self.summary.stages[name] = self.summary.stages.get(name, 0.0) + seconds
            if console.is_terminal:
                console.print(f"[green]✓[/green] {name} [dim]{seconds:.1f} s[/dim]")


def run_due(landing: Path | None = None, through: date | None = None) -> RunSummary:
    """Ingest, curated tables, features, rewards, finance, models and packs, where there is news.

    `through` is the last batch date to take in; later files stay for the next run.
    """
    folder = (landing or get_settings().landing_dir).absolute()
    if not folder.is_dir():
        raise CardlineError(
            f"there is no landing folder {folder}: make one with `cardline demo` or "
            "`cardline adapt`, or name yours with --landing"
        )
    summary = RunSummary()
    was_at_rest = is_at_rest()
    if was_at_rest and _is_all_done(folder, through):
        return summary
    with dagster_instance() as instance:
        runner = _Runner(instance, summary)
        # Completes a warehouse whose making was cut off: readers take it as it is.
        connect().close()
        if not was_at_rest and _is_all_done(folder, through):
            # What a kill had left was all that there was to do.
            return summary
        changed = _changed_stages()
        # Due until they are done, through a kill as well: what was half done is no news any more.
        with connect() as con, transaction(con):
            for name in changed:
                set_watermark(con, f"run:{name}", -1)
        with second_process("pipelines.definitions", "feast", "skops.io") as second:
            _ingest(runner, folder, through)
            for here, beside in _PLAN:
                _follow(runner, second, here, beside)
        with connect(read_only=True) as con:
            summary.files_waiting = files_waiting(con)
    return summary


def _follow(
    runner: _Runner, second: "Executor", here: tuple[str, ...], beside: tuple[str, ...]
) -> None:
    """Run what is due of the stages `here` and, in the `second` process, of those `beside` them.

    A stage that is done is done, though another one fails.
    """
    with connect() as con:
        load_no = latest_load_no(con)
        due = [name for name in (*here, *beside) if watermark(con, f"run:{name}") < load_no]
    elsewhere = [name for name in beside if name in due]
    waiting = second.submit(_stages_alone, elsewhere) if elsewhere else None
    done: list[str] = []
    failure: Exception | None = None
    try:
        for name in here:
            if name in due:
                _STAGES[name](runner)
                done.append(name)
    finally:
        if waiting is not None:
            with step(", ".join(elsewhere)):
                seconds, failure = _result(waiting, elsewhere)
            for jobs in seconds.values():
                runner.took(jobs)
            done += seconds
        # Only now: it may be the other process that writes the warehouse.
        with connect() as con:
            for name in done:
                set_watermark(con, f"run:{name}", load_no)
    if failure is not None:
        raise failure


_Outcome = tuple[dict[str, dict[str, float]], Exception | None]
"""Seconds of the jobs of each stage that came to its end, and why the next one did not."""


def _result(waiting: "Future[_Outcome]", names: list[str]) -> _Outcome:
    from concurrent.futures import BrokenExecutor

    try:
        return waiting.result()
    except BrokenExecutor:
        return {}, CardlineError(
            f"the process at work on {', '.join(names)} was killed, by the system if memory ran "
            "out: the next `cardline run` goes on from there"
        )


def _stages_alone(names: list[str]) -> _Outcome:
    """Run stages in this process, which serves one that has the home to itself."""
    done: dict[str, dict[str, float]] = {}
    with instance_of_home() as instance:
        for name in names:
            runner = _Runner(instance, RunSummary())
            try:
                _STAGES[name](runner)
            except Exception as failure:
                return done, failure
            done[name] = runner.summary.stages
    return done, None


def _is_all_done(landing: Path, through: date | None) -> bool:
    """Whether every stage has worked through all that landed and no file is new.

    Told from the warehouse alone, before Dagster, dbt and Feast are imported: most runs of a
    scheduler that looks often find nothing.
    """
    from pipelines.ingestion.load import pending

    settings = get_settings()
    if not settings.catalog_path.exists():
        return False
    with connect(read_only=True) as con:
        try:
            load_no = latest_load_no(con)
            if any(watermark(con, f"run:{name}") < load_no for name in _STAGES):
                return False
        except duckdb.CatalogException:
            # The making of the warehouse was cut off.
            return False
    return not _changed_stages() and not pending(landing=landing, through=through)


def _changed_stages() -> list[str]:
    """Stages that are due though nothing was delivered: a release has other models than this home
    was built by, or feature views that it never published; programs or partners' rate cards are not
    those of their folders; or the online store is not as it was filled last.

    Raises `CardlineError` where a program or a card is wrong.
    """
    from pipelines.features.filled import is_filled
    from pipelines.features.publish import is_published
    from pipelines.finance import rate_cards
    from pipelines.rewards import tables
    from pipelines.rewards.terms import load_programs
    from pipelines.training_frames import next_day

    settings = get_settings()
    due: set[str] = set()
    with connect(read_only=True) as con:
        clock = data_clock(con)
        if watermark(con, TEXT) != text_of_models():
            due |= {"dbt", "features", "finance", "packs"}
        if not tables.are_published(con, load_programs(settings.programs)):
            due |= {"rewards", "finance", "packs"}
        if not rate_cards.are_published(con, settings):
            due |= {"finance", "packs"}
    views = [model.stem for model in (DBT_DIR / "models" / "features").glob("*.sql")]
    if not all(map(is_published, views)):
        due |= {"dbt", "features"}
    if "features" not in due and not is_filled(views, clock and next_day(clock)):
        due.add("features")
    return [name for name in _STAGES if name in due]


def _ingest(runner: _Runner, landing: Path, through: date | None) -> None:
    from pipelines.defs.sensors import range_tags
    from pipelines.ingestion.load import ingest, pending
    from pipelines.partitions import ranges_of

    waiting = pending(landing=landing, through=through)
    if not waiting:
        return
    with connect() as con:
        before = latest_load_no(con)
    dated = [d.batch_date for d in waiting if d.problem is None]
    if len(dated) < len(waiting):
        # What has no place in landing has no partition either; it is recorded all the same.
        ingest(landing, through=through, misplaced_only=True)
    if dated:
        start = get_settings().partitions_start_on
        if min(dated) < start:
            raise CardlineError(
                f"{landing} has batch date {min(dated)}, before the first partition {start}: set "
                "CARDLINE_PARTITIONS_START_ON to that date or an earlier one"
            )
        for first, last in ranges_of(dated):
            runner.job(
                "landing_ingest",
                config={"landing__deliveries": {"config": {"landing": str(landing)}}},
                tags=range_tags(first, last),
            )
    with connect(read_only=True) as con:
        runner.summary.rows = dict(
            con.execute(
                "select feed, sum(rows)::bigint from landing.files "
                "where load_no > ? and state = 'LOADED' group by feed order by feed",
                [before],
            ).fetchall()
        )
        counted = con.execute(
            "select count(*) filter (state = 'QUARANTINED'), "
            "coalesce(sum(rows_quarantined), 0)::bigint from landing.files where load_no > ?",
            [before],
        ).fetchone()
        if counted is not None:
            runner.summary.files_quarantined, runner.summary.rows_quarantined = counted


def _curate(runner: _Runner) -> None:
    runner.job("curated_tables_build")


def _publish(runner: _Runner) -> None:
    runner.job("features_publish")


def _accrue(runner: _Runner) -> None:
    runner.job("rewards_accrual")


def _report(runner: _Runner) -> None:
    runner.job("finance_tables_build")


def _learn(runner: _Runner) -> None:
    from pipelines.training import is_due

    for name in MODELS:
        if is_due(name):
            runner.job(f"{name}_retrain")


def _score(runner: _Runner) -> None:
    runner.job("scores_refresh")


def _packs(runner: _Runner) -> None:
    from pipelines.finance.packs import periods_due

    for period in periods_due():
        runner.job("finance_packs_build", partition_key=f"{period}-01")


_STAGES: dict[str, Callable[[_Runner], None]] = {
    "dbt": _curate,
    "features": _publish,
    "models": _learn,
    "rewards": _accrue,
    "finance": _report,
    "packs": _packs,
    "scores": _score,
}
"""What follows ingest; each has a watermark of its own."""
_PLAN: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("dbt",), ()),
    (("rewards", "finance"), ("features", "models")),
    (("packs",), ("scores",)),
)
"""Stages of this process, and those beside them: of each two groups one writes the warehouse."""


def train_model(name: str, trainer: str) -> tuple[str, dict[str, Any]]:
    """Train one model now through its job; returns its version and metrics."""
    from pipelines.training import newest

    if name not in MODELS:
        raise CardlineError(f"there is no model {name!r}: it is one of {', '.join(MODELS)}")
    require_warehouse()
    before = newest(name)
    with dagster_instance() as instance, step(f"training {name}"):
        config = {f"models__{name}": {"config": {"trainer": trainer}}}
        run_job(instance, f"{name}_retrain", config=config)
    after = newest(name)
    if after is None:
        raise CardlineError(f"{name} was not trained: too few known outcomes yet")
    if before is not None and before.version == after.version:
        console.print("the data are those of the newest version: no new version was made")
    return after.version, after.metrics
