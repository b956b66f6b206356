"""`cardline demo`: a synthetic portfolio through the whole pipeline, and what came out."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.progress import console, step
from pipelines.registry_view import in_words
from pipelines.run import run_due
from pipelines.settings import get_settings
from pipelines.warehouse import connect


def run_demo(accounts: int, days: int, seed: int, as_json: bool = False) -> None:
    """Make the world in landing, run what is due, print headline figures and what to open next."""
    from pipelines.sources.world import generate

    settings = get_settings()
    if console.is_terminal:
        console.print(f"A portfolio of {accounts} accounts over {days} days, in {settings.home}")
    with step("making the world"):
        world = generate(settings.landing_dir, accounts, days, seed)
    run = run_due(settings.landing_dir)
    figures = headline()
    figures["stages_seconds"] = {name: round(took, 1) for name, took in run.stages.items()}
    figures["world"] = {"accounts": accounts, "days": days, "seed": seed,
                        "from": str(world.starts_on), "to": str(world.ends_on)}  # fmt: skip
    if as_json:
        print(json.dumps(figures, default=str))
    else:
        _show(figures, str(settings.home))


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
        waiting = con.execute(
            "select count(*) from landing.files where state = 'QUARANTINED'"
        ).fetchone()
        programs = con.execute(
            "select program_id, sum(accrued_points)::bigint as points_accrued, "
            "max_by(closing_points, period)::bigint as closing_points, "
            "max_by(closing_minor, period)::bigint as closing_minor, "
            "any_value(currency) as currency, max(period) as period "
            "from finance.liability_rollforward group by program_id order by program_id"
        ).pl()
    models = {name: newest(name) for name in ("underwriting", "fraud")}
    return {
        "rows": rows,
        "rows_quarantined": quarantined[0] if quarantined else 0,
        "files_quarantined": waiting[0] if waiting else 0,
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
            f"{row['points_accrued']:,}",
            f"{row['closing_points']:,}",
            f"{row['closing_minor'] / 100:,.2f} {row['currency']}",
            row["period"],
        )
    out.print(programs)
    models = Table("model", "version", "state", "metrics", title="Models", title_justify="left")
    for name, model in figures["models"].items():
        models.add_row(name, model["version"], model["state"], in_words(model["metrics"]))
    out.print(models)
    seconds = sum(figures["stages_seconds"].values())
    out.print(f"{seconds:.0f} s in the pipeline; everything is in {home}\n")
    out.print("Next:", style="bold")
    latest = max(figures["programs"], key=lambda row: row["period"], default=None)
    period = latest["period"] if latest else "YYYY-MM"
    program = latest["program_id"] if latest else "PROGRAM"
    for command, why in (
        ("make ui", "the Dagster UI: assets, checks, runs, plots"),
        (f"cardline report rewards --program {program} --period {period}", "the finance pack"),
        ('cardline sql "from finance.liability_rollforward"', "any table"),
        ("cardline verify", "ledger, seals, reconciliations, feature parity"),
    ):
        out.print(f"  .venv/bin/{command}" if command.startswith("cardline") else f"  {command}",
                  style="cyan", highlight=False)  # fmt: skip
        out.print(f"      {why}", style="dim", highlight=False)
