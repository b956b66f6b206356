"""Finance packs: a month of a rewards program on paper, reproducible byte for byte.

A pack is a folder `<reports>/rewards/<program>/<period>/v<n>/` with `report.html`, `report.xlsx`,
one CSV per table and `manifest.json`. Nothing in it depends on when or where it was built: the
same warehouse gives the same bytes. A rebuild that says something else becomes the next version;
no version is ever changed. What a closed month says is fixed by its close.
"""

import hashlib
import io
import json
import re
import shutil
from dataclasses import replace
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from pipelines.errors import CardlineError
from pipelines.files import sha256_of
from pipelines.finance.known import Cut, open_books
from pipelines.finance.pack_data import (
    AS_CLOSED,
    AS_IT_STANDS,
    AS_KNOWN,
    RESTATED,
    PackData,
    read_pack_data,
)
from pipelines.finance.pack_html import render_charts, render_html
from pipelines.finance.pack_index import write_index
from pipelines.finance.pack_xlsx import write_xlsx
from pipelines.finance.periods import close_cut
from pipelines.finance.restatement import difference, late_entries, restated_cut
from pipelines.settings import Settings, get_settings
from pipelines.warehouse import connect, transaction

REPORT_ID = "rewards"
MANIFEST = "manifest.json"
_PERIOD = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_PROGRAM = re.compile(r"[A-Za-z0-9_.-]+")


def build_pack(
    program: str,
    period: str,
    settings: Settings | None = None,
    recorded: datetime | None = None,
) -> Path:
    """Build the pack of `program` for `period` (YYYY-MM) and return its folder.

    An open month is told as it stands, a closed one as of its seal. Where what came late for a
    closed month is material, its restatement is a further version, which is returned then. With
    `recorded` the month is told as it was known at that time. A version that says the same is
    returned as it is. Raises `CardlineError` for a period that is not a month, a program that the
    warehouse does not know, and a month without figures.
    """
    settings = settings or get_settings()
    folder = _build(program, period, settings, recorded)
    write_index(settings)
    return folder


def _build(program: str, period: str, settings: Settings, recorded: datetime | None) -> Path:
    if not _PERIOD.fullmatch(period):
        raise CardlineError(f"{period!r} is no accounting period: expected YYYY-MM, e.g. 2026-03")
    if recorded is not None:
        data = _read(settings, program, period, AS_KNOWN, Cut(program, recorded))
        return write_pack(data, pack_folder(settings, program, period))
    with connect(read_only=True, settings=settings) as con, transaction(con):
        if not _is_closed(con, program, period):
            data = read_pack_data(con, program, period, settings)
            return write_pack(data, pack_folder(settings, program, period))
        cut = close_cut(con, program, period)
        late = late_entries(con, program, period, settings)
    data = _read(settings, program, period, AS_CLOSED, cut)
    folder = pack_folder(settings, program, period)
    built = write_pack(data, folder)
    if not late.is_material:
        return built
    restated = _read(settings, program, period, RESTATED, restated_cut(program))
    changed = difference(data.month, restated.month)
    told = replace(restated, restatement=changed, late_entries=late.entries)
    return write_pack(told, folder)


def _is_closed(con: duckdb.DuckDBPyConnection, program: str, period: str) -> bool:
    found = con.execute(
        "select 1 from finance.period_log where program_id = ? and period = ? "
        "qualify row_number() over (order by log_no desc) = 1 and state = 'CLOSED'",
        [program, period],
    ).fetchone()
    return found is not None


def _read(settings: Settings, program: str, period: str, basis: str, cut: Cut) -> PackData:
    """A month from the books at `cut`; one transaction, although somebody may be writing."""
    with connect(read_only=True, settings=settings, alone=True) as con, transaction(con):
        open_books(con, cut, settings)
        return read_pack_data(con, program, period, settings, basis, cut.known_at)


def pack_folder(settings: Settings, program: str, period: str) -> Path:
    """Where the versions of a program's month are."""
    if not _PROGRAM.fullmatch(program) or set(program) == {"."}:
        raise CardlineError(f"{program!r} cannot name a folder of reports")
    return settings.reports_dir / "rewards" / program / period


def write_pack(data: PackData, folder: Path) -> Path:
    """Write `data` as the next version in `folder`, or return the one that is the same."""
    existing = versions(folder)
    newest = max(existing, default=0)
    tables = {f"{name}.csv": _csv(frame) for name, frame in data.csv_tables().items()}
    content_sha256 = _content_hash(data, tables)
    # Books that have ended are told once; those of an open month may come back to what they were.
    for number in existing[-1:] if data.basis == AS_IT_STANDS else existing:
        current = folder / f"v{number}"
        if _says(current, content_sha256):
            return current
    number = newest + 1
    partial = folder / f".v{number}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name, content in tables.items():
            (partial / name).write_bytes(content)
        page = render_html(data, render_charts(data), number, content_sha256)
        (partial / "report.html").write_text(page, encoding="utf-8", newline="\n")
        write_xlsx(data, partial / "report.xlsx", number)
        manifest = _manifest(data, partial, number, content_sha256)
        text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (partial / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
        final = folder / f"v{number}"
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def versions(folder: Path) -> list[int]:
    """The version numbers in a program's month, oldest first."""
    if not folder.is_dir():
        return []
    names = (re.fullmatch(r"v([1-9][0-9]*)", path.name) for path in folder.iterdir())
    return sorted(int(name.group(1)) for name in names if name)


def _says(pack: Path, content_sha256: str) -> bool:
    """Whether `pack` is whole and has this content; a damaged one is never taken for the truth."""
    try:
        manifest = json.loads((pack / MANIFEST).read_text(encoding="utf-8"))
        outputs = manifest["outputs"]
        return manifest["content_sha256"] == content_sha256 and all(
            sha256_of(pack / name) == entry["sha256"] for name, entry in outputs.items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _csv(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_csv(buffer, datetime_format="%Y-%m-%dT%H:%M:%S%.6f")
    return buffer.getvalue()


def _parameters(data: PackData) -> dict[str, Any]:
    return {
        "program_id": data.program_id,
        "period": data.period,
        "state": data.state,
        "basis": data.basis,
        "period_version": data.period_version,
        "as_of": {
            "effective_on": data.ends_on.isoformat(),
            "recorded_at": data.known_at.isoformat(),
        },
        "ledger_entries": data.ledger_entries,
        "code": code_version(),
    }


def _content_hash(data: PackData, tables: dict[str, bytes]) -> str:
    """SHA-256 over what the pack says: parameters and tables, not its version number.

    A day more without news of an open month is no other content.
    """
    parameters = _parameters(data)
    if data.basis in (AS_IT_STANDS, RESTATED):
        del parameters["as_of"]["recorded_at"]
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    digest.update(json.dumps(data.terms, sort_keys=True, default=str).encode())
    for name, content in sorted(tables.items()):
        digest.update(f"\n{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


@cache
def code_version() -> dict[str, str]:
    """The package's version and a hash over the code that makes the figures and the pack."""
    here = Path(__file__).parent
    sources = [*here.rglob("*.py"), *here.rglob("*.html"), *here.rglob("*.css")]
    sources += (here.parent.parent / "dbt" / "models" / "finance").rglob("*.sql")
    digest = hashlib.sha256()
    for path in sorted(sources, key=lambda path: (path.name, str(path))):
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    try:
        package = version("cardline")
    except PackageNotFoundError:
        package = "0"
    return {"package": package, "finance_sha256": digest.hexdigest()}


def _manifest(data: PackData, folder: Path, number: int, content_sha256: str) -> dict[str, Any]:
    tables = {f"{name}.csv": frame for name, frame in data.csv_tables().items()}
    outputs = {}
    for path in sorted(folder.iterdir()):
        entry: dict[str, Any] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        if path.name in tables:
            frame = tables[path.name]
            entry["rows"] = frame.height
            entry["control_totals"] = {
                name: int(frame[name].sum() or 0)
                for name in frame.columns
                if name.endswith(("_minor", "_points")) or name in ("points", "decisions")
            }
        outputs[path.name] = entry
    parameters = _parameters(data)
    files = data.input_files
    return {
        "report_id": REPORT_ID,
        "version": number,
        "supersedes": number - 1 or None,
        "content_sha256": content_sha256,
        "as_of": parameters.pop("as_of"),
        "ledger_entries": parameters.pop("ledger_entries"),
        "basis": parameters.pop("basis"),
        "late_entries": data.late_entries,
        "headline": {
            name: data.month[name] for name in ("currency", "closing_minor", "closing_points")
        },
        "code": parameters.pop("code"),
        "parameters": parameters,
        "rules": [
            {"version": rule["version"], "rule_hash": rule["rule_hash"]}
            for rule in data.rules.iter_rows(named=True)
        ],
        "inputs": {
            "files": files.height,
            "rows": int(files["rows"].sum() or 0),
            # A file's id is its SHA-256, shortened: input_files.csv lists them.
            "sha256": hashlib.sha256("\n".join(files["file_id"]).encode()).hexdigest(),
        },
        "period_steps": json.loads(data.steps.write_json()),
        "seals": json.loads(data.seals.write_json()),
        "outputs": outputs,
    }


def programs_in(period: str, settings: Settings | None = None) -> list[str]:
    """Programs that have figures for `period`, sorted."""
    with connect(read_only=True, settings=settings) as con:
        found = con.execute(
            "select program_id from finance.periods where period = ? order by program_id", [period]
        ).fetchall()
    return [program for (program,) in found]


def periods_due(settings: Settings | None = None) -> list[str]:
    """The last ended month, until every program has a pack of it; months whose pack is outdated.

    A month has ended when the deliveries have passed its last day. A pack is outdated when its
    ledger has grown since or the partner's invoice says something else, or when what came late for
    its closed month is material and is not restated yet. Earlier months without a pack are built on
    request: years of history that arrive at once ask for one month, not for all.
    """
    settings = settings or get_settings()
    due = set()
    with connect(read_only=True, settings=settings) as con:
        rows = con.execute(_LEDGER_BY_PERIOD).fetchall()
        last = max((period for _, period, *_ in rows), default=None)
        invoiced = {
            (program, period): {"amount_minor": minor, "points": points}
            for program, period, minor, points in con.execute(_INVOICED).fetchall()
        }
        for program, period, state, entries in rows:
            packed = _newest_manifest(pack_folder(settings, program, period))
            if packed is None:
                outdated = period == last
            elif state == "CLOSED":
                late = late_entries(con, program, period, settings)
                outdated = late.is_material and not (
                    packed.get("basis") == RESTATED and packed.get("late_entries") == late.entries
                )
            else:
                told = packed["outputs"]["partner_invoice_lines.csv"]["control_totals"]
                invoice = invoiced.get((program, period), {"amount_minor": 0, "points": 0})
                outdated = packed["ledger_entries"] != entries or told != invoice
            if outdated:
                due.add(period)
    return sorted(due)


_INVOICED = """
select program_id, period, sum(amount_minor)::bigint, coalesce(sum(points), 0)::bigint
from finance.partner_invoice_lines
group by all
"""
_LEDGER_BY_PERIOD = """
with entries as (
    select program_id, accounting_period as period, count(*) as entries
    from rewards.journal
    group by all
)
select
    periods.program_id,
    periods.period,
    periods.state,
    cast(sum(coalesce(entries.entries, 0)) over (
        partition by periods.program_id order by periods.period
    ) as bigint) as entries
from finance.periods as periods
left join entries
    on periods.program_id = entries.program_id and periods.period = entries.period
where periods.ends_on <= (select max(batch_date) from landing.files where state = 'LOADED')
order by periods.program_id, periods.period
"""


def _newest_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of the newest pack in `folder`, none where there is no whole one."""
    newest = max(versions(folder), default=0)
    try:
        manifest = json.loads((folder / f"v{newest}" / MANIFEST).read_text(encoding="utf-8"))
        return manifest if "ledger_entries" in manifest else None
    except (OSError, ValueError, TypeError):
        return None
