"""`cardline demo`: a synthetic portfolio through the whole pipeline, and what came out."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from pipelines.ahead import import_ahead
from pipelines.errors import CardlineError
from pipelines.progress import console, step
from pipelines.registry_view import in_words
from pipelines.rewards.wording import money_text
from pipelines.run import run_due
from pipelines.settings import PROJECT_DIR, get_settings
from pipelines.transform import ensure_manifest
from pipelines.warehouse import connect, files_waiting

if TYPE_CHECKING:
    from pipelines.sources.world.faults import Fault


def run_demo(
    accounts: int, days: int, seed: int, faults: bool = False, as_json: bool = False
) -> None:
    """Make the world in landing, run what is due, print headline figures and what to open next.

    With `faults` the deliveries are damaged first, in every way that there is, and what was found
    is printed beside what was done.
    """
    from pipelines.sources.world import generate

    settings = get_settings()
    if faults:
        _require_enough(accounts, days)
    if console.is_terminal:
        console.print(f"A portfolio of {accounts} accounts over {days} days, in {settings.home}")
    # dbt reads its project meanwhile: a process of its own, on the other core.
    with step("making the world"), ThreadPoolExecutor(1) as aside:
        manifest = aside.submit(ensure_manifest)
        world = generate(settings.landing_dir, accounts, days, seed)
        import_ahead("dagster", "dagster_dbt")
        manifest.result()
    damage = _damage(settings.landing_dir, world.truth, seed) if faults else []
    started = time.monotonic()
    run = run_due(settings.landing_dir)
    seconds = time.monotonic() - started
    figures = headline()
    figures["pipeline_seconds"] = round(seconds, 1)
    figures["stages_seconds"] = {name: round(took, 1) for name, took in run.stages.items()}
    figures["world"] = {"accounts": accounts, "days": days, "seed": seed,
                        "from": str(world.starts_on), "to": str(world.ends_on)}  # fmt: skip
    if faults:
        figures["faults"] = found_faults(damage, settings.landing_dir)
    if as_json:
        print(json.dumps(figures, default=str))
    else:
        _show(figures, str(settings.home))


def _require_enough(accounts: int, days: int) -> None:
    from pipelines.sources.world.faults import ENOUGH_ACCOUNTS, ENOUGH_DAYS

    if accounts < ENOUGH_ACCOUNTS or days < ENOUGH_DAYS:
        raise CardlineError(
            f"{accounts} accounts over {days} days are too few for every fault: ask for "
            f"--accounts {ENOUGH_ACCOUNTS} --days {ENOUGH_DAYS} or more"
        )


def _damage(landing: Path, truth: Path, seed: int) -> "list[Fault]":
    """Put faults into the files; what comes late comes after the rest was taken in."""
    from pipelines.ingestion.load import ingest
    from pipelines.sources.world.faults import inject, release

    with step("damaging deliveries"):
        damage = inject(landing, truth, seed)
        ingest(landing)
        release(landing)
    return damage


def found_faults(damage: "list[Fault]", landing: Path) -> dict[str, Any]:
    """Recall and false findings, by kind of fault, of what the warehouse has found."""
    from pipelines.sources.world.scorecard import compare

    with connect(read_only=True) as con:
        found = con.execute("from landing.findings").pl()
    score = compare(damage, found, landing)
    return {
        "kinds": [asdict(kind) for kind in score.kinds],
        "recall": score.recall,
        "false_findings": score.false_findings,
        "false_findings_by_kind": score.surplus,
    }


def headline() -> dict[str, Any]:
    """The figures that tell whether a home has what it should: rows, points, liability, models."""
    from pipelines.training import newest

    with connect(read_only=True) as con:
        rows = dict(
            con.execute(
                "select feed, sum(rows)::bigint from landing.files where state = 'LOADED' "
                "group by feed order by feed"
            ).fetchall()
        )
        quarantined = con.execute("select count(*) from quarantine.rows").fetchone()
        waiting = files_waiting(con)
        programs = con.execute(
            "select program_id, sum(accrued_points)::bigint as points_accrued, "
            "max_by(closing_points, period)::bigint as closing_points, "
            "max_by(closing_minor, period)::bigint as closing_minor, "
            "any_value(currency) as currency, max(period) as period, "
            "any_value(terms.asset_scale) as asset_scale "
            "from finance.liability_rollforward inner join "
            "(select program_id, max(asset_scale) as asset_scale from rewards.programs "
            "group by program_id) as terms using (program_id) "
            "group by program_id order by program_id"
        ).pl()
    models = {name: newest(name) for name in ("underwriting", "fraud")}
    return {
        "rows": rows,
        "rows_quarantined": quarantined[0] if quarantined else 0,
        "files_quarantined": waiting,
        "programs": programs.to_dicts(),
        "models": {
            name: {"version": model.version, "state": model.state, "metrics": model.metrics}
            for name, model in models.items()
            if model is not None
        },
    }


def _show(figures: dict[str, Any], home: str) -> None:
    out = Console()
    feeds = Table("feed", "rows", title="Taken in", title_justify="left")
    feeds.columns[1].justify = "right"
    for feed, rows in figures["rows"].items():
        feeds.add_row(feed, f"{rows:,}")
    feeds.add_row("quarantined rows", f"{figures['rows_quarantined']:,}")
    feeds.add_row("quarantined files", f"{figures['files_quarantined']:,}")
    out.print(feeds)
    programs = Table(
        "program", "points accrued", "open points", "liability", "as of",
        title="Rewards", title_justify="left",
    )  # fmt: skip
    for column in programs.columns[1:4]:
        column.justify = "right"
    for row in figures["programs"]:
        programs.add_row(
            row["program_id"],
            *(
                f"{row[name] / 10 ** row['asset_scale']:,.{row['asset_scale']}f}"
                for name in ("points_accrued", "closing_points")
            ),
            money_text(row["closing_minor"], row["currency"]),
            row["period"],
        )
    out.print(programs)
    if any(row["closing_points"] < 0 for row in figures["programs"]):
        out.print(
            "Below zero: of what went to the partner, more was taken back later, for refunds and\n"
            "closed accounts, than is open; what members earn next fills that first.\n",
            style="dim",
        )
    if "faults" in figures:
        _show_faults(out, figures["faults"])
    models = Table("model", "version", "state", "metrics", title="Models", title_justify="left")
    for name, model in figures["models"].items():
        models.add_row(name, model["version"], model["state"], in_words(model["metrics"]))
    if figures["models"]:
        out.print(models)
    else:
        out.print("No model: outcomes are known only after months, and too few are known here.")
    out.print(f"{figures['pipeline_seconds']:.0f} s in the pipeline; everything is in {home}\n")
    out.print("Next:", style="bold")
    is_default = home == str(PROJECT_DIR / ".cardline")
    latest = max(figures["programs"], key=lambda row: row["period"], default=None)
    period = latest["period"] if latest else "YYYY-MM"
    program = latest["program_id"] if latest else "PROGRAM"
    for command, why in (
        ("make ui", "the Dagster UI: assets, checks, runs, plots"),
        (f"cardline report rewards --program {program} --period {period}", "the finance pack"),
        ('cardline sql "from finance.liability_rollforward"', "any table"),
        ("cardline verify", "ledger, seals, reconciliations, feature parity"),
    ):
        at_home = "" if is_default else f"CARDLINE_HOME='{home}' "
        path = ".venv/bin/" if command.startswith("cardline") else ""
        out.print(f"  {at_home}{path}{command}", style="cyan", highlight=False, soft_wrap=True)
        out.print(f"      {why}", style="dim", highlight=False)


def _show_faults(out: Console, faults: dict[str, Any]) -> None:
    table = Table("fault", "must be found as", "rows or files", "found",
                  title="Faults and findings", title_justify="left")  # fmt: skip
    for column in table.columns[2:]:
        column.justify = "right"
    for kind in faults["kinds"]:
        table.add_row(kind["kind"], kind["finding"], str(kind["expected"]), str(kind["found"]))
    out.print(table)
    surplus = ", ".join(f"{n} {kind}" for kind, n in faults["false_findings_by_kind"].items())
    out.print(f"recall {faults['recall']:.3f}, false findings {faults['false_findings']}"
              + (f": {surplus}" if surplus else ""))  # fmt: skip
