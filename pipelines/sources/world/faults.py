"""Faults put into the landing files of a world, each with the finding that it must cause.

Where a fault keeps money from reconciling, the truth names the exceptions of the chain too: what is
found about a delivery (`landing.findings`) and what no longer agrees because of it
(`finance.exceptions`) are two things.

`inject` damages a landing folder and writes the truth, `faults.json`, beside the other truths. A
fault touches a file that no other fault touches, and damages rows that no other row refers to, so
that it causes its own finding and no second one. Files that come late are held back in
`.held/` until `release`: take in the landing folder before and after it.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipelines.contracts import FEEDS
from pipelines.errors import CardlineError
from pipelines.files import sha256_of, written_aside
from pipelines.ingestion.deliveries import MANIFEST_SUFFIX
from pipelines.sources.world.draws import Draws

NOTHING = "NOTHING"
"""The finding of a fault that must be absorbed."""
ENOUGH_ACCOUNTS, ENOUGH_DAYS = 320, 240
"""A world of this size has a file for every kind of fault."""
LEAST_ROWS = 110
"""A file with fewer rows waits whole for a single bad one."""
_HELD = ".held"
CARD_NUMBER = "4111 1111 1111 1111"
"""A test number that the card networks publish."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to `path` (relative to landing), and the finding that tells of it.

    `finding` is a kind of `landing.findings` or `NOTHING`; `record_key` and `line_no` are given
    where it names a row, `says` is a part of its detail. `exceptions` are what the chain must find,
    as `R1/AMOUNT/<what it is about>`; of files only the type is known.
    """

    fault_id: str
    kind: str
    feed: str
    batch_date: str
    path: str
    finding: str
    record_key: str | None = None
    line_no: int | None = None
    says: str = ""
    exceptions: tuple[str, ...] = ()


@dataclass(slots=True)
class _Case:
    """One fault in the making: the file that it befalls, and what may be drawn for it."""

    fault_id: str
    kind: str
    landing: Path
    feed: str
    path: Path
    draw: Callable[[int], int]

    @property
    def batch_date(self) -> date:
        return date.fromisoformat(self.path.parent.name)

    @property
    def rows(self) -> pl.DataFrame:
        return pl.read_parquet(self.path)

    def told(self, finding: str, **more: Any) -> Fault:
        path = self.path.relative_to(self.landing).as_posix()
        day = self.path.parent.name
        return Fault(self.fault_id, self.kind, self.feed, day, path, finding, **more)

    def key_of(self, row: dict[str, Any]) -> str:
        return "/".join(str(row[name]) for name in FEEDS[self.feed].key)

    def write(self, rows: pl.DataFrame, path: Path | None = None, **manifest: Any) -> None:
        """Write `rows` as Parquet or, by the name, as CSV, with a manifest that agrees."""
        target = path or self.path
        with written_aside(target) as aside:
            if target.name.endswith(".csv"):
                rows.write_csv(aside, datetime_format="%Y-%m-%dT%H:%M:%S%.6f")
            else:
                rows.write_parquet(aside, compression="zstd", compression_level=1)
        self.describe(target, {"rows": rows.height, **manifest})

    def describe(self, target: Path, manifest: dict[str, Any]) -> None:
        """Write the manifest of `target`; its sequence number is that of the file before."""
        own = {"sha256": sha256_of(target), **self._sequence(), **manifest}
        text = json.dumps(own, indent=1) + "\n"
        _manifest_of(target).write_text(text, encoding="utf-8")

    def _sequence(self) -> dict[str, Any]:
        known = json.loads(_manifest_of(self.path).read_text(encoding="utf-8"))
        return {"sequence_no": known["sequence_no"]}

    def as_csv(self, rows: pl.DataFrame) -> "Path":
        """Deliver `rows` as CSV in place of the Parquet file; the sequence goes on."""
        sequence = self._sequence()
        _manifest_of(self.path).unlink()
        self.path.unlink()
        self.path = self.path.with_suffix(".csv")
        with written_aside(self.path) as aside:
            rows.write_csv(aside, datetime_format="%Y-%m-%dT%H:%M:%S%.6f")
        _manifest_of(self.path).write_text(json.dumps(sequence), encoding="utf-8")
        return self.path


def _manifest_of(path: Path) -> Path:
    return path.with_name(path.name + MANIFEST_SUFFIX)


def _redelivered(case: _Case) -> list[Fault]:
    day = case.batch_date + timedelta(days=1)
    again = case.landing / case.feed / day.isoformat() / f"again-{case.path.name}"
    again.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(case.path, again)
    case.path = again
    return [case.told("FILE_AGAIN", says="loaded before")]


def _changed(case: _Case) -> list[Fault]:
    rows = case.rows
    chosen = rows[sorted({case.draw(rows.height) for _ in range(3)})]
    later = pl.col("received_at") + pl.duration(hours=20)
    changed = chosen.with_columns(pl.col("amount_minor") + 137, received_at=later)
    day = case.batch_date + timedelta(days=1)
    target = case.landing / case.feed / day.isoformat() / f"corrections-{case.path.name}"
    case.write(changed, target, sequence_no=1)
    case.path = target
    return [
        case.told(
            "CORRECTION", record_key=case.key_of(row), says="version 2",
            exceptions=tuple(_restated(case.landing, row)),
        )
        for row in changed.iter_rows(named=True)
    ]  # fmt: skip


_STATED = (
    "PURCHASE", "CASH_ADVANCE", "QUASI_CASH", "CONVENIENCE_CHECK", "BALANCE_TRANSFER", "FEE",
    "INTEREST",
)  # fmt: skip
"""Classes that a statement totals whichever way they go; credits it totals as they are given."""


def _restated(landing: Path, row: dict[str, Any]) -> Iterator[str]:
    """What no longer agrees with a message of another amount: its settlement, its statement."""
    if row["posted_on"] is None:
        return
    # A fault may have made a report a CSV file before.
    for path in sorted((landing / "settlement_details").glob("*/part-*")):
        if path.suffix in (".parquet", ".csv"):
            is_parquet = path.suffix == ".parquet"
            read = pl.read_parquet(path) if is_parquet else pl.read_csv(path, infer_schema=False)
            settled = read.filter(pl.col("event_id") == row["event_id"])
            yield from (f"R2/AMOUNT/{detail}" for detail in settled["detail_id"])
    if row["transaction_class"] not in _STATED and row["direction"] == "DEBIT":
        return
    statements = pl.scan_parquet(landing / "statements" / "*" / "part-*.parquet")
    stated = statements.filter(
        pl.col("account_id") == row["account_id"],
        pl.col("period_start_on") <= row["posted_on"],
        pl.col("period_end_on") >= row["posted_on"],
    ).collect()
    yield from (f"R3/WRONG_PERIOD/{statement}" for statement in stated["statement_id"].unique())


def _truncated(case: _Case) -> list[Fault]:
    content = case.path.read_bytes()
    case.path.write_bytes(content[: len(content) * 3 // 5])
    return [case.told("FILE_REFUSED", says="sha256 differs", exceptions=("R0/CONTENT",))]


def _wrong_total(case: _Case) -> list[Fault]:
    path = _manifest_of(case.path)
    manifest = json.loads(path.read_text(encoding="utf-8"))
    rows = case.rows
    if "direction" in rows.columns:
        of = rows.filter(pl.col("direction") == "DEBIT")["amount_minor"]
        manifest["control_totals"] = {"amount_minor": {"DEBIT": int(of.sum()) + 1}}
    else:
        manifest["control_totals"] = {"amount_minor": int(rows["amount_minor"].sum()) - 1}
    path.write_text(json.dumps(manifest), encoding="utf-8")
    says = "control total amount_minor"
    return [case.told("FILE_REFUSED", says=says, exceptions=("R0/TOTAL",))]


def _missing_file(case: _Case) -> list[Fault]:
    number = case._sequence()["sequence_no"]
    _manifest_of(case.path).unlink()
    case.path.unlink()
    return [
        case.told(
            "FILE_MISSING", record_key=str(number), says=case.path.stem,
            exceptions=(f"R0/SEQ_GAP/{case.feed}/{case.path.stem}/{number}",),
        )
    ]  # fmt: skip


def _held(case: _Case, days: int) -> list[Fault]:
    """Hold the file back; where `days` are given its rows become known so much later."""
    place = case.landing / _HELD / case.path.relative_to(case.landing)
    if days:
        known = datetime.combine(case.batch_date + timedelta(days=days), time(9))
        rows = case.rows.with_columns(received_at=pl.lit(known).cast(pl.Datetime("us")))
        # Rows of the future are another fault: a late row is not known on the day of its file.
        case.write(rows.drop("received_at"), received_at=known.isoformat())
    place.parent.mkdir(parents=True, exist_ok=True)
    _manifest_of(case.path).replace(_manifest_of(place))
    case.path.replace(place)
    return [case.told("FILE_LATE", says="received")]


def _late_by_days(case: _Case) -> list[Fault]:
    return _held(case, 2 + case.draw(4))


def _late_by_weeks(case: _Case) -> list[Fault]:
    return _held(case, 14 + case.draw(10))


def _out_of_order(case: _Case) -> list[Fault]:
    return _held(case, 0)


def _unknown_column(case: _Case) -> list[Fault]:
    case.write(case.rows.with_columns(loyalty_colour=pl.lit("blue")))
    return [case.told("UNKNOWN_COLUMN", says="loyalty_colour")]


def _missing_column(case: _Case) -> list[Fault]:
    names = [name for name in FEEDS[case.feed].required_columns if name not in FEEDS[case.feed].key]
    name = names[case.draw(len(names))]
    case.write(case.rows.drop(name))
    says = f"required column missing: {name}"
    return [case.told("FILE_REFUSED", says=says, exceptions=("R0/SCHEMA",))]


def _wrong_type(case: _Case) -> list[Fault]:
    rows = case.rows
    row = case.draw(rows.height)
    written = rows.with_columns(pl.col("amount_minor").cast(pl.String))
    cells = written["amount_minor"].to_list()
    cells[row] = "12,50 USD"
    case.as_csv(written.with_columns(amount_minor=pl.Series(cells)))
    says = "amount_minor is no integer"
    kept = ("R0/ROWS_REFUSED", *_unsettled(rows.row(row, named=True)))
    return [case.told("ROW_REFUSED", line_no=row + 2, says=says, exceptions=kept)]


def _wrong_encoding(case: _Case) -> list[Fault]:
    text = case.as_csv(case.rows.with_columns(pl.lit("café").alias("note"))).read_bytes()
    case.path.write_bytes(text.decode("utf-8").encode("latin-1"))
    return [case.told("FILE_REFUSED", says="not UTF-8", exceptions=("R0/QUARANTINED",))]


def _duplicated_rows(case: _Case) -> list[Fault]:
    rows = case.rows
    again = rows[sorted({case.draw(rows.height) for _ in range(4)})]
    case.write(pl.concat([rows, again]))
    return [
        case.told("ROW_AGAIN", record_key=case.key_of(row)) for row in again.iter_rows(named=True)
    ]


def _unsettled(row: dict[str, Any]) -> list[str]:
    """What the chain misses where the row of a settlement report is refused."""
    if row.get("event_id") is None:
        return []
    report = f"{row['network']}/{row['report_on']}/{row['currency']}"
    broken = [f"R1/AMOUNT/{report}", f"R2/UNMATCHED_CLEARING/{row['event_id']}"]
    if row["interchange_micros"]:
        broken.append(f"R1/INTERCHANGE/{report}")
    return broken


def _one_cell(case: _Case, name: str, value: Any, finding: str, says: str) -> list[Fault]:
    """Replace one cell of one row."""
    rows = case.rows
    row = case.draw(rows.height)
    column = rows[name].to_list()
    column[row] = value
    case.write(rows.with_columns(pl.Series(name, column, dtype=rows.schema[name])))
    if finding != "ROW_REFUSED":
        return [case.told(finding, says=says, exceptions=("R0/QUARANTINED",))]
    kept = ("R0/ROWS_REFUSED", *_unsettled(rows.row(row, named=True)))
    return [case.told(finding, line_no=row + 1, says=says, exceptions=kept)]


def _negative(case: _Case) -> list[Fault]:
    return _one_cell(case, "amount_minor", -4_200, "ROW_REFUSED", "amount_minor is below 0")


def _unknown_enum(case: _Case) -> list[Fault]:
    says = "direction is none of the allowed"
    return _one_cell(case, "direction", "SIDEWAYS", "ROW_REFUSED", says)


def _future(case: _Case) -> list[Fault]:
    moment = datetime.combine(case.batch_date + timedelta(days=700), time(12))
    says = "initiated_at is after the delivery"
    return _one_cell(case, "initiated_at", moment, "ROW_REFUSED", says)


def _orphan(case: _Case) -> list[Fault]:
    rows = case.rows
    stray = rows[[case.draw(rows.height)]].with_columns(
        pl.col(FEEDS[case.feed].key[0]) + "x", transaction_id=pl.lit("tx_of_nobody")
    )
    case.write(pl.concat([rows, stray]))
    key = case.key_of(stray.row(0, named=True))
    return [case.told("ORPHAN_KEY", record_key=key, says="tx_of_nobody")]


def _card_number(case: _Case) -> list[Fault]:
    says = "a card number in column return_reason"
    return _one_cell(case, "return_reason", f"card {CARD_NUMBER} void", "FILE_REFUSED", says)


def _empty(case: _Case) -> list[Fault]:
    case.path.write_bytes(b"")
    number = json.dumps(case._sequence())
    _manifest_of(case.path).write_text(number, encoding="utf-8")
    return [case.told("FILE_REFUSED", says="the file is empty", exceptions=("R0/QUARANTINED",))]


def _half_written(case: _Case) -> list[Fault]:
    target = case.path.with_name("part-99.parquet.tmp")
    target.write_bytes(case.path.read_bytes()[:700])
    case.path = target
    return [case.told(NOTHING)]


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a fault is made, to which feed, and how many rows its file needs."""

    make: Callable[[_Case], list[Fault]]
    feed: str
    least_rows: int = 1


# What is refused lies in feeds that no other feed refers to: an orphan would be a second finding.
_KINDS: dict[str, _Kind] = {
    "redelivered_file": _Kind(_redelivered, "transactions"),
    "changed_content": _Kind(_changed, "transactions", 10),
    "truncated_file": _Kind(_truncated, "payments"),
    "wrong_control_total": _Kind(_wrong_total, "payments"),
    "missing_file": _Kind(_missing_file, "payments"),
    "late_by_days": _Kind(_late_by_days, "payments"),
    "late_by_weeks": _Kind(_late_by_weeks, "transactions"),
    "out_of_order_days": _Kind(_out_of_order, "transactions"),
    "unknown_column": _Kind(_unknown_column, "transactions"),
    "missing_required_column": _Kind(_missing_column, "statements"),
    "wrong_type_in_row": _Kind(_wrong_type, "settlement_details", LEAST_ROWS),
    "wrong_encoding": _Kind(_wrong_encoding, "statements"),
    "duplicated_rows": _Kind(_duplicated_rows, "transactions", 10),
    "negative_amount": _Kind(_negative, "settlement_details", LEAST_ROWS),
    "unknown_enum": _Kind(_unknown_enum, "settlement_details", LEAST_ROWS),
    "future_date": _Kind(_future, "payments", LEAST_ROWS),
    "orphan_key": _Kind(_orphan, "disputes"),
    "card_number_in_text": _Kind(_card_number, "payments"),
    "empty_file": _Kind(_empty, "reward_events"),
    "half_written_file": _Kind(_half_written, "transactions"),
}
KINDS = tuple(_KINDS)


def inject(
    landing: Path,
    truth: Path,
    seed: int,
    kinds: Iterable[str] = KINDS,
    rounds: int = 1,
) -> list[Fault]:
    """Put one fault of each of `kinds` into `landing`, `rounds` times; returns what was done.

    `landing` holds a world's files and is changed. A fault that damages several rows has an entry
    for each. Raises `CardlineError` where a kind is unknown or the world too small for it.
    """
    chosen = list(kinds)
    unknown = [kind for kind in chosen if kind not in _KINDS]
    if unknown:
        raise CardlineError(f"there is no fault {unknown[0]!r}: it is one of {', '.join(KINDS)}")
    # What needs many rows chooses first.
    ordered = sorted(chosen, key=lambda kind: (-_KINDS[kind].least_rows, KINDS.index(kind)))
    touched: set[Path] = set()
    faults: list[Fault] = []
    for number in range(rounds):
        for kind in ordered:
            draws = Draws(seed, f"faults/{kind}/{number}")
            path = _choose(landing, kind, touched, draws)
            touched.add(path)
            drawn = iter(range(1 << 30))

            def draw(high: int, draws: Draws = draws, drawn: Any = drawn) -> int:
                return int(draws.integers(0, high, np.array([next(drawn) + 1]))[0])

            name = _KINDS[kind].feed
            case = _Case(f"{kind}-{number}", kind, landing, name, path, draw)
            faults += _KINDS[kind].make(case)
    with written_aside(truth / "faults.json") as aside:
        aside.write_text(json.dumps([asdict(fault) for fault in faults], indent=1) + "\n")
    return faults


def release(landing: Path) -> int:
    """Let the held files arrive; returns how many there were."""
    held = landing / _HELD
    files = [path for path in sorted(held.rglob("*")) if path.is_file()]
    for path in files:
        path.replace(landing / path.relative_to(held))
    if held.exists():
        shutil.rmtree(held)
    return sum(not path.name.endswith(MANIFEST_SUFFIX) for path in files)


def _choose(landing: Path, kind: str, touched: set[Path], draws: Draws) -> Path:
    """A file of the kind's feed that is whole, large enough, and neither first nor last."""
    wanted = _KINDS[kind]
    paths = sorted((landing / wanted.feed).glob("*/part-*.parquet"))
    days = sorted({path.parent.name for path in paths})
    inner = [p for p in paths if p.parent.name in days[2:-4] and p not in touched]
    if kind in ("late_by_weeks", "late_by_days"):
        # It must arrive before the world ends.
        latest = date.fromisoformat(days[-1]) - timedelta(days=26) if days else date.min
        inner = [p for p in inner if date.fromisoformat(p.parent.name) <= latest]
    large = [p for p in inner if pl.scan_parquet(p).select(pl.len()).collect().item()
             >= wanted.least_rows]  # fmt: skip
    if not large:
        raise CardlineError(
            f"the world is too small for the fault {kind}: no file of {wanted.feed} has "
            f"{wanted.least_rows} rows and is not taken yet"
        )
    return large[int(draws.integers(0, len(large), np.array([0]))[0])]
