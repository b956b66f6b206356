"""The program `cardline`: one command an intent. Heavy imports happen inside the commands."""

import errno
import json
import logging
import os
import shutil
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from pipelines.errors import INTERRUPTED, CardlineError

app = typer.Typer(
    name="cardline",
    help="The batch data platform behind a co-branded credit card. Any command takes --debug, "
    "which shows the trace of an error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models_app = typer.Typer(
    help="The model registry: list, promote, retire, reproduce.", invoke_without_command=True
)
app.add_typer(models_app, name="models")
features_app = typer.Typer(help="Feature vectors, online and as of a time.", no_args_is_help=True)
app.add_typer(features_app, name="features")
report_app = typer.Typer(help="Report packs for finance.", no_args_is_help=True)
app.add_typer(report_app, name="report")
programs_app = typer.Typer(
    help="Program terms: check them, compare versions, try a draft.", no_args_is_help=True
)
app.add_typer(programs_app, name="programs")
rewards_app = typer.Typer(help="The rewards ledger: why and how many.", no_args_is_help=True)
app.add_typer(rewards_app, name="rewards")

tokens_app = typer.Typer(help="Tokens of the feature server.", no_args_is_help=True)
app.add_typer(tokens_app, name="tokens")

exceptions_app = typer.Typer(help="The exception queue of finance.", no_args_is_help=True)
app.add_typer(exceptions_app, name="exceptions")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def _as_date(text: str | None, option: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CardlineError(f"{option} {text!r} is no date: write YYYY-MM-DD") from None


_MANY_ACCOUNT_DAYS = 1_000_000


@app.command()
def demo(
    accounts: Annotated[int, typer.Option(min=1, help="Accounts to open.")] = 400,
    days: Annotated[int, typer.Option(min=1, help="Days of history.")] = 540,
    seed: Annotated[int, typer.Option(help="The same seed gives the same world.")] = 7,
    faults: Annotated[
        bool,
        typer.Option("--faults", help="Damage the deliveries, and print what was found of it."),
    ] = False,
    json_output: JsonFlag = False,
) -> None:
    """Build a synthetic portfolio in landing, run everything, and print what was made."""
    from pipelines.demo import run_demo
    from pipelines.job_runs import ended_by_signals
    from pipelines.threads import one_thread_an_engine

    if accounts * days < _MANY_ACCOUNT_DAYS:
        one_thread_an_engine()
    with ended_by_signals():
        run_demo(accounts, days, seed, faults=faults, as_json=json_output)


@app.command()
def adapt(
    dataset: Annotated[
        str,
        typer.Argument(help="sparkov, handbook, uci-taiwan, credit-card-approval or birmingham."),
    ],
    source: Annotated[Path, typer.Option(help="Folder with the data set's files.")],
    landing: Annotated[Path | None, typer.Option(help="Where landing files go.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Turn a public data set into landing files."""
    from pipelines.settings import get_settings
    from pipelines.sources.adapters import ADAPTERS

    if dataset not in ADAPTERS:
        raise CardlineError(f"there is no adapter {dataset!r}: it is one of {', '.join(ADAPTERS)}")
    target = (landing or get_settings().landing_dir).absolute()
    summary = ADAPTERS[dataset](source, target)
    if json_output:
        print(json.dumps({"rows": summary.rows, "notes": list(summary.notes)}))
        return
    for feed, rows in summary.rows.items():
        print(f"{feed:<26}{rows:>12,}")
    for note in summary.notes:
        print(f"note: {note}")


@app.command()
def run(
    landing: Annotated[Path | None, typer.Option(help="The landing folder to take in.")] = None,
    through: Annotated[str | None, typer.Option(help="Last batch date, YYYY-MM-DD.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Do everything that is due; with nothing new it changes nothing."""
    from pipelines.job_runs import ended_by_signals
    from pipelines.run import run_due

    last = _as_date(through, "--through")
    with ended_by_signals():
        summary = run_due(landing, last)
    summary.show(as_json=json_output)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the warehouse.")],
    format: Annotated[str, typer.Option(help="table, csv, json or parquet.")] = "table",
) -> None:
    """Read the warehouse, also while the pipeline writes."""
    from pipelines.query import print_query

    print_query(query, format)


@features_app.command("catalogue")
def features_catalogue(json_output: JsonFlag = False) -> None:
    """Features of every model: meaning, null meaning, direction, reason and owner (Markdown)."""
    from dataclasses import asdict

    from pipelines.feature_catalogue import as_markdown, feature_catalogue, fraud_catalogue

    rows, fraud = feature_catalogue(), fraud_catalogue()
    if json_output:
        print(json.dumps([asdict(row) for row in [*rows, *fraud]]), end="")
    else:
        print(as_markdown(rows, fraud), end="")


@features_app.command("get")
def features_get(
    service: Annotated[str, typer.Argument(help="Feature service, e.g. fraud_authorization_v1.")],
    entity: Annotated[list[str], typer.Option(help="Key or request value, as name=value.")],
    at: Annotated[str | None, typer.Option(help="Point in time (UTC); without it, online.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """One feature vector, online or as it was known at a time."""
    from pipelines.features.retrieval import feature_vector

    given: dict[str, Any] = {}
    for pair in entity:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise CardlineError(f"--entity {pair!r} is not name=value")
        given[name] = value
    vector = feature_vector(service, given, _as_moment(at))
    if json_output:
        print(json.dumps(vector, default=str))
        return
    for name, value in vector["features"].items():
        print(f"{name:<44}{'' if value is None else value}")


def _as_moment(text: str | None, option: str = "--at") -> datetime | None:
    if text is None:
        return None
    from datetime import UTC

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CardlineError(
            f"{option} {text!r} is no time: write e.g. 2026-01-31T12:00:00"
        ) from None
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def _as_known(text: str | None) -> datetime | None:
    """`--recorded`: a day means its end."""
    from datetime import time

    known = _as_moment(text, "--recorded")
    if known is not None and text is not None and len(text) == len("YYYY-MM-DD"):
        known = datetime.combine(known, time.max)
    return known


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to bind.")] = 6566,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="Certificate chain (PEM); with it, TLS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
) -> None:
    """Serve online features and scores over HTTP, on loopback unless there is a token."""
    from pipelines.serving.server import serve as serve_features

    serve_features(host, port, tls_certificate, tls_key)


@tokens_app.command("create")
def tokens_create(
    name: Annotated[str, typer.Argument(help="Who it is for; stands in the audit log.")],
    scope: Annotated[
        list[str],
        typer.Option(help="features:<service>, score:<model>, push, metrics or *; repeatable."),
    ],
    days: Annotated[int | None, typer.Option(min=1, help="Valid for; default for good.")] = None,
) -> None:
    """Make a token and print it: it is shown this once, only its hash is kept."""
    from pipelines.serving.tokens import create_token

    print(create_token(name, scope, days))


@tokens_app.command("revoke")
def tokens_revoke(name: Annotated[str, typer.Argument(help="Whose token.")]) -> None:
    """Close a token for good, also in a server that runs."""
    from pipelines.serving.tokens import revoke_token

    revoke_token(name)


@tokens_app.command("list")
def tokens_list(json_output: JsonFlag = False) -> None:
    """Every token of this home: owner, scopes, and whether it is still valid."""
    from pipelines.serving.tokens import list_tokens
    from pipelines.settings import get_settings

    kept = list_tokens(get_settings())
    if json_output:
        shown = ("name", "scopes", "created_at", "expires_at", "revoked_at")
        print(json.dumps([{field: getattr(token, field) for field in shown} for token in kept]))
        return
    for token in kept:
        until = f"revoked {token.revoked_at}" if token.revoked_at else token.expires_at or "valid"
        print(f"{token.name:<24}{until:<36}{' '.join(token.scopes)}")


@app.command()
def ui(
    host: Annotated[str, typer.Option(help="Address to bind, loopback only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to bind.")] = 3000,
) -> None:
    """The Dagster UI of this home, with its schedules and sensors."""
    from pipelines.ui import serve_ui

    serve_ui(host, port)


@report_app.command("rewards")
def report_rewards(
    program: Annotated[str, typer.Option(help="The program.")],
    period: Annotated[str, typer.Option(help="Accounting period, YYYY-MM.")],
    recorded: Annotated[
        str | None, typer.Option(help="As it was known at this day or time (UTC).")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """(Re)build the rewards pack of a program and period."""
    from pipelines.finance.packs import build_pack

    folder = build_pack(program, period, recorded=_as_known(recorded))
    if json_output:
        print((folder / "manifest.json").read_text())
        return
    print(folder)
    for path in sorted(folder.iterdir()):
        print(f"  {path.name}")


@report_app.command("tables")
def report_tables() -> None:
    """Finance tables as Parquet files beside the packs, without anything personal."""
    from pipelines.finance.publication import publish_tables

    for path in publish_tables().values():
        print(path)


@report_app.command("gl")
def report_gl(
    period: Annotated[str, typer.Option(help="Accounting period, YYYY-MM.")],
    program: Annotated[
        str | None, typer.Option(help="Only this program; without it settlement journals too.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; without it, print.")] = None,
) -> None:
    """The month's journals as CSV for the general ledger."""
    from pipelines.files import written_aside
    from pipelines.finance.gl_export import gl_journals

    journals = gl_journals(period, program)
    if out is None:
        print(journals.write_csv(), end="")
        return
    with written_aside(out) as aside:
        journals.write_csv(aside)
    print(f"{out}: {journals.height:,} lines, {journals['journal'].n_unique():,} journals")


@app.command()
def close(
    program: Annotated[str, typer.Option(help="The program.")],
    period: Annotated[str, typer.Option(help="Accounting period, YYYY-MM.")],
    approver: Annotated[str | None, typer.Option(help="Who approves; not the preparer.")] = None,
    preparer: Annotated[
        str | None, typer.Option(help="Who prepared it; default the user of this process.")
    ] = None,
    soft: Annotated[
        bool, typer.Option("--soft", help="Only soft-close: run the checks, approve later.")
    ] = False,
    json_output: JsonFlag = False,
) -> None:
    """Close a period, and the open ones before it; its pack is built as of the seal."""
    from pipelines.finance.packs import build_pack
    from pipelines.finance.periods import CLOSED, close_period

    if soft == (approver is not None):
        raise CardlineError("name who approves with --approver, or soft-close with --soft")
    done = close_period(program, period, approver, preparer)
    pack = None if soft else build_pack(program, period)
    if json_output:
        told = [
            {
                "program_id": each.program_id,
                "period": each.period,
                "state": each.state,
                "version": each.version,
                "known_at": str(each.known_at),
            }
            for each in done
        ]
        print(json.dumps({"closed": told, "pack": pack and str(pack)}))
        return
    for each in done:
        verb = "closed" if each.state == CLOSED else "soft-closed"
        print(
            f"{each.program_id} {each.period} {verb}, version {each.version}, prepared by "
            f"{each.preparer}" + (f", approved by {each.approver}" if each.approver else "")
        )
    if not done:
        print(f"{program} {period} is closed already: nothing was changed")
    if pack:
        print(pack)


@app.command()
def reopen(
    program: Annotated[str, typer.Option(help="The program.")],
    period: Annotated[str, typer.Option(help="Accounting period, YYYY-MM.")],
    approver: Annotated[list[str], typer.Option(help="Who approves: given twice.")],
    reason: Annotated[str, typer.Option(help="Why.")],
) -> None:
    """Reopen a closed period: two approvers and a reason; its next close is a new version."""
    from pipelines.finance.periods import reopen_period

    if len(approver) != 2:
        raise CardlineError("reopening takes two approvers: give --approver twice")
    done = reopen_period(program, period, (approver[0], approver[1]), reason)
    print(f"{done.program_id} {done.period} is open again as version {done.version}")


@app.command()
def periods(
    program: Annotated[str | None, typer.Option(help="Only this program.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Accounting periods and what was done to them."""
    from pipelines.finance.periods import period_log, periods_of
    from pipelines.warehouse import connect

    with connect(read_only=True) as con:
        found = periods_of(con, program)
    if json_output:
        rows = [vars(each) for each in found]
        log = period_log(program=program).to_dicts()
        print(json.dumps({"periods": rows, "log": log}, default=str))
        return
    for each in found:
        print(
            f"{each.program_id:<24}{each.period:<10}{each.state:<13}v{each.version:<4}"
            + (f"{each.preparer} / {each.approver or '–'}" if each.preparer else "")
        )


ExceptionId = Annotated[str, typer.Argument(help="The exception's id.")]
By = Annotated[str, typer.Option(help="Who does it.")]


@exceptions_app.command("list")
def exceptions_list(
    state: Annotated[
        str | None, typer.Option(help="One state, or `all`; without it, what is not settled.")
    ] = None,
    recon: Annotated[str | None, typer.Option(help="Only this reconciliation, e.g. R2.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only this type.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only what this person has.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Exceptions, the oldest first, and how old they are by kind."""
    from pipelines.finance.exceptions import UNSETTLED, ageing, list_exceptions

    states = UNSETTLED if state is None else None if state == "all" else (state,)
    found = list_exceptions(states, recon, type_, owner)
    if json_output:
        print(json.dumps(found.to_dicts(), default=str))
        return
    widths = {
        name: max((len(each) for each in found[name]), default=0)
        for name in ("exception_id", "type")
    }
    for row in found.iter_rows(named=True):
        amount = "" if row["amount_minor"] is None else f"{row['amount_minor']:,}"
        exception_id, kind = (row[name].ljust(width) for name, width in widths.items())
        print(
            f"{exception_id}  {row['recon_id']:<4}{kind}  {row['state']:<12}"
            f"{amount:>12} {row['age_days']:>5} d  {row['owner'] or '':<12}{row['detail'] or ''}"
        )
    for row in ageing(found).iter_rows(named=True):
        aged = ", ".join(f"{row[name]} {name} d" for name in ("0-1", "2-5", "6-30", "31+"))
        print(f"{row['recon_id']} {row['type']}: {row['all']} ({aged})")
    if found.is_empty():
        print("nothing is in the queue")


@exceptions_app.command("show")
def exceptions_show(exception_id: ExceptionId) -> None:
    """What was done to an exception, as JSON."""
    from pipelines.finance.exceptions import history, list_exceptions

    found = [row for row in list_exceptions(None).to_dicts() if row["exception_id"] == exception_id]
    if not found:
        raise CardlineError(f"there is no exception {exception_id!r}")
    told = found[0] | {"history": history(exception_id).to_dicts()}
    print(json.dumps(told, default=str, indent=2))


@exceptions_app.command("assign")
def exceptions_assign(
    exception_id: ExceptionId,
    to: Annotated[str, typer.Option(help="Who looks at it.")],
    by: By,
) -> None:
    """Make somebody responsible for an exception."""
    from pipelines.finance.exceptions import assign

    print(f"{exception_id} {assign(exception_id, to, by)}")


@exceptions_app.command("explain")
def exceptions_explain(
    exception_id: ExceptionId,
    note: Annotated[str, typer.Option(help="What it is.")],
    by: By,
) -> None:
    """Say what an exception is; it no longer stands in the way of a close."""
    from pipelines.finance.exceptions import explain

    print(f"{exception_id} {explain(exception_id, note, by)}")


@exceptions_app.command("resolve")
def exceptions_resolve(
    exception_id: ExceptionId,
    by: By,
    code: Annotated[str | None, typer.Option(help="Resolution code, e.g. TIMING.")] = None,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
    evidence: Annotated[str | None, typer.Option(help="Where the evidence is.")] = None,
    journal: Annotated[str | None, typer.Option(help="The journal entry that settled it.")] = None,
    write_off: Annotated[bool, typer.Option("--write-off", help="It is written off.")] = False,
    adjust: Annotated[
        int | None, typer.Option(help="Points to give (or take) by an adjustment, ledger units.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="The adjustment's account.")] = None,
) -> None:
    """Settle an exception: by a code, or by an adjustment that the next run posts."""
    from pipelines.finance.exceptions import Adjustment, request_adjustment, resolve

    if adjust is not None:
        if account is None or note is None or code or journal or write_off:
            raise CardlineError("an adjustment takes --account and --note, and no code of its own")
        event = request_adjustment(exception_id, Adjustment(account, adjust), by, note)
        print(f"{event} is in landing: the next `cardline run` posts it and resolves the exception")
        return
    if code is None:
        raise CardlineError("name a resolution code with --code, or an adjustment with --adjust")
    print(f"{exception_id} {resolve(exception_id, code, by, note, evidence, journal, write_off)}")


@programs_app.command("check")
def programs_check(
    directory: Annotated[
        Path | None, typer.Argument(help="Folder of terms; without it, CARDLINE_PROGRAMS.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Validate a folder of program terms and tell what each version says."""
    from pipelines.rewards.program_views import check_lines, checked
    from pipelines.rewards.terms import load_programs
    from pipelines.settings import get_settings

    folder = directory or get_settings().programs
    if directory is not None and not directory.is_dir():
        raise CardlineError(f"{directory} is no folder: name one with terms (*.yaml)")
    programs = load_programs(folder)
    if not programs:
        raise CardlineError(f"{folder}: there are no terms (*.yaml)")
    if json_output:
        print(json.dumps(checked(programs)))
        return
    for line in check_lines(programs):
        print(line)


@programs_app.command("diff")
def programs_diff(
    program: Annotated[str, typer.Argument(help="The program.")],
    before: Annotated[int, typer.Argument(metavar="V1", help="The version to compare from.")],
    after: Annotated[int, typer.Argument(metavar="V2", help="The version to compare to.")],
    json_output: JsonFlag = False,
) -> None:
    """What changes, and for whom, from one version of a program to another."""
    from dataclasses import asdict

    from pipelines.rewards.program_diff import diff_versions
    from pipelines.rewards.terms import load_programs
    from pipelines.settings import get_settings

    programs = load_programs(get_settings().programs)
    if program not in programs:
        raise CardlineError(
            f"there is no program {program!r} in {get_settings().programs}: "
            f"it has {', '.join(programs)}"
        )
    changes = diff_versions(programs[program], before, after)
    if json_output:
        print(json.dumps([asdict(change) for change in changes], default=str))
        return
    for change in changes or ():
        print(f"{change.whom}: {change.words}")
    if not changes:
        print("the terms are the same")


@programs_app.command("simulate")
def programs_simulate(
    draft: Annotated[Path, typer.Argument(help="One version of a program's terms (YAML).")],
    period: Annotated[str, typer.Option(help="The month to decide again, YYYY-MM.")],
    json_output: JsonFlag = False,
) -> None:
    """What a month would have cost, had the draft always been in force; writes nothing."""
    from dataclasses import asdict

    from pipelines.rewards.program_views import simulation_lines
    from pipelines.rewards.simulation import read_draft, simulate
    from pipelines.warehouse import connect

    terms = read_draft(draft)
    with connect(read_only=True) as con:
        found = simulate(con, terms, period)
    if json_output:
        print(json.dumps(asdict(found)))
        return
    for line in simulation_lines(found):
        print(line)


@rewards_app.command("explain")
def rewards_explain(
    transaction: Annotated[str | None, typer.Option(help="A transaction's id.")] = None,
    account: Annotated[str | None, typer.Option(help="An account's id.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Why these points: rules, rates, caps, rounding, entries and lots."""
    from pipelines.rewards import explanation
    from pipelines.warehouse import connect

    if (transaction is None) == (account is None):
        raise CardlineError("name one: --transaction ID or --account ID")
    with connect(read_only=True) as con:
        if transaction is not None:
            facts = explanation.explain_transaction(con, transaction)
            lines = explanation.transaction_lines(facts)
        else:
            facts = explanation.explain_account(con, account or "")
            lines = explanation.account_lines(facts)
    for line in [explanation.as_json(facts)] if json_output else lines:
        print(line)


@rewards_app.command("balances")
def rewards_balances(
    program: Annotated[str | None, typer.Option(help="Only this program.")] = None,
    account: Annotated[str | None, typer.Option(help="Only this account.")] = None,
    effective: Annotated[str | None, typer.Option(help="Effective by this day.")] = None,
    recorded: Annotated[
        str | None, typer.Option(help="Recorded by this day or time (UTC).")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Balances in ledger units, now or as of a day and as known at a time."""
    from pipelines.rewards.balances import balances_as_of
    from pipelines.warehouse import connect

    known = _as_known(recorded)
    with connect(read_only=True) as con:
        found = balances_as_of(con, _as_date(effective, "--effective"), known, program, account)
        if found.is_empty() and balances_as_of(con, None, None, program, account).is_empty():
            asked = [
                f"program {program}" if program else "",
                f"account {account}" if account else "",
            ]
            whose = " and ".join(filter(None, asked)) or "anybody"
            raise CardlineError(f"the rewards ledger has no balance of {whose}")
    if json_output:
        print(found.write_json())
        return
    print(f"{'program':<24}{'account':<24}" + "".join(f"{n:>14}" for n in found.columns[2:]))
    for row in found.iter_rows():
        print(f"{row[0]:<24}{row[1]:<24}" + "".join(f"{units:>14,}" for units in row[2:]))


@app.command()
def verify(json_output: JsonFlag = False) -> None:
    """Check the ledger, its seals and lots, the reconciliations and feature parity."""
    from pipelines.verification import verify_all

    results = []
    for result in verify_all():
        results.append(result)
        if not json_output:
            state = "ok  " if result.ok else "FAIL"
            print(f"{state} {result.name:<28} {result.detail}", flush=True)
    if json_output:
        print(json.dumps([{"name": r.name, "ok": r.ok, "detail": r.detail} for r in results]))
    if not all(result.ok for result in results):
        raise typer.Exit(1)


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="underwriting or fraud.")],
    trainer: Annotated[
        str | None, typer.Option(help="Who trains; by default the user of the process.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Train a model on what is known now and put it into the registry."""
    from getpass import getuser

    from pipelines.run import train_model

    version, metrics = train_model(model, trainer or getuser())
    if json_output:
        print(json.dumps({"model": model, "version": version, "metrics": metrics}))
        return
    print(f"{model} {version}")
    for name, value in metrics.items():
        print(f"  {name:<40} {value}")


@app.command()
def explain(
    application: Annotated[str | None, typer.Option(help="The application.")] = None,
    account: Annotated[str | None, typer.Option(help="The account, where there are none.")] = None,
    method: Annotated[
        str | None, typer.Option(help="average, cutoff or maximum; default as it was logged.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Why an application or account has its score: reasons and key factors in words."""
    from dataclasses import asdict

    from pipelines.explanation import explain as explained
    from pipelines.explanation import in_words

    if (application is None) == (account is None):
        raise CardlineError("ask for one --application or one --account")
    found = explained(application or account or "", method)
    print(json.dumps(asdict(found)) if json_output else in_words(found))


@app.command("fair-lending")
def fair_lending(
    reference: Annotated[str, typer.Option(help="The group that others are compared with.")],
    json_output: JsonFlag = False,
) -> None:
    """Approvals and scores by group; off until CARDLINE_FAIR_LENDING names a folder."""
    from pipelines.fair_lending.report import compare_groups

    found = compare_groups(reference)
    if json_output:
        print(found.write_json())
        return
    for row in found.iter_rows(named=True):
        told = ", ".join(
            f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}"
            for k, v in row.items()
            if k != "group" and v not in (None, "")
        )
        print(f"{row['group']:<24}{told}")


@models_app.callback()
def models_list(context: typer.Context, json_output: JsonFlag = False) -> None:
    """Versions in the registry, newest first."""
    if context.invoked_subcommand is not None:
        return
    from pipelines.registry_view import list_models

    rows = list_models()
    if json_output:
        print(json.dumps(rows, default=str))
        return
    if not rows:
        print("no model has been trained yet: run `cardline train underwriting`")
    for row in rows:
        print(f"{row['name']:<14}{row['version']:<22}{row['state']:<12}{row['headline']}")


@models_app.command("promote")
def models_promote(
    name: Annotated[str, typer.Argument(help="underwriting or fraud.")],
    version: Annotated[str, typer.Argument(help="Version to make the champion.")],
    approver: Annotated[str, typer.Option(help="Who approves; not the trainer.")],
    reason: Annotated[str, typer.Option(help="Why.")],
) -> None:
    """Make a version the champion."""
    from pipelines.registry_view import promote

    print(promote(name, version, approver, reason))


@models_app.command("retire")
def models_retire(
    name: Annotated[str, typer.Argument(help="underwriting or fraud.")],
    version: Annotated[str, typer.Argument(help="Version to take out of use.")],
    approver: Annotated[str, typer.Option(help="Who decides it.")],
    reason: Annotated[str, typer.Option(help="Why.")],
) -> None:
    """Take a version out of use; it stays readable."""
    from pipelines.registry_view import retire

    print(retire(name, version, approver, reason))


@models_app.command("reproduce")
def models_reproduce(
    version: Annotated[str, typer.Argument(help="Version of the underwriting model.")],
) -> None:
    """Train an underwriting version again from its manifest and pinned data set, and compare."""
    from pipelines.registry_view import LARGEST_DIFFERENCE
    from pipelines.training import reproduction_error

    error = reproduction_error("underwriting", version)
    print(f"underwriting {version}: probabilities differ by at most {error:.3g}")
    if error > LARGEST_DIFFERENCE:
        raise typer.Exit(1)


@app.command()
def benchmark(
    name: Annotated[str, typer.Argument(help="handbook or uci-taiwan.")],
    source: Annotated[Path, typer.Option(help="Folder with the data set's files.")],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json and features.parquet.")],
) -> None:
    """Run a published benchmark and write our figures beside the published ones."""
    from pipelines.benchmark_runs import BENCHMARKS

    if name not in BENCHMARKS:
        raise CardlineError(f"there is no benchmark {name!r}: it is one of {', '.join(BENCHMARKS)}")
    BENCHMARKS[name](source, out)


def _usage_error(error: Any) -> NoReturn:
    """The parser's own complaint in one line; a group without a command shows its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.ctx.get_help())
    else:
        command = error.ctx.command_path if getattr(error, "ctx", None) else "cardline"
        print(f"error: {error.format_message()} (see `{command} --help`)", file=sys.stderr)
    sys.exit(2)


_INTERRUPTED = 130
_PIPE_CLOSED = 141


def _is_broken_pipe(error: Exception) -> bool:
    return isinstance(error, BrokenPipeError) or str(error).startswith("Broken pipe (os error")


def _of_the_disk(error: Exception) -> CardlineError | None:
    """What SQLite, DuckDB and the system say of files, or a home, that cannot be written."""
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return CardlineError(f"{error.filename or 'a file'} cannot be written or read: "
                             f"{error.strerror}; what is asked needs it")  # fmt: skip
    text = str(error).lower()
    said = ("unable to open database file", "disk i/o error", "disk is full", "no space left",
            "readonly database", "read-only file system")  # fmt: skip
    if not any(words in text for words in said):
        return None
    from pipelines.settings import get_settings

    home = get_settings().home
    if not os.access(home, os.W_OK):
        return CardlineError(f"{home} cannot be written: what is asked needs it ({error})")
    free = shutil.disk_usage(home).free // 2**20
    return CardlineError(f"{home} cannot be used, {free} MiB are free there ({error})")


def main() -> None:
    """Entry point: an error is one line on standard error; `--debug` anywhere shows the trace."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    # What libraries warn of (what they will do differently one day) is no news for who runs this.
    logging.captureWarnings(not debug)
    try:
        code = app(args=arguments, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except Exception as error:
        if _is_broken_pipe(error):
            # Who reads the output has had enough of it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(_PIPE_CLOSED)
        if debug:
            raise
        if hasattr(error, "format_message"):
            _usage_error(error)
        error = _of_the_disk(error) or error
        text = str(error).strip().splitlines() or [type(error).__name__]
        hint = "" if isinstance(error, CardlineError) else " (--debug shows the trace)"
        if type(error).__name__ == "CatalogException":
            hint = ": this home lacks what is asked for, `cardline run` builds it"
        print(f"error: {text[0]}{hint}", file=sys.stderr)
        sys.exit(1)
    if code == _INTERRUPTED:
        print(INTERRUPTED, file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
