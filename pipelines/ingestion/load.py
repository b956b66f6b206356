"""Ingest: new deliveries become rows of `raw`, or wait in quarantine with the reason.

Every accepted file becomes Parquet under its feed and batch date; one commit of the lake then
registers all of them together with the inventory and the quarantine. A process that is killed
before the commit leaves files that nothing refers to, and the next run clears them away.
"""

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa

from pipelines.contracts import FEEDS, Feed
from pipelines.errors import CardlineError
from pipelines.files import written_aside
from pipelines.ingestion.deliveries import BrokenManifest, Delivery, Manifest, list_deliveries
from pipelines.ingestion.readers import FILE, LINE, BadLine, Chunk, UnreadableFile, read_chunks
from pipelines.ingestion.sensitive import find_sensitive, masked
from pipelines.ingestion.validation import (
    judge,
    missing_columns,
    not_over_yet,
    payloads,
    unknown_columns,
)
from pipelines.progress import track
from pipelines.settings import Settings, get_settings
from pipelines.threads import on_all_cores, one_ahead
from pipelines.warehouse import CATALOG, connect, latest_load_no, scratch, transaction

GROUP_ROWS = 250_000
"""Small files are judged together, up to about this many rows at once."""

HASHED_ROWS = 65_536

_FAULT = "\0fault"
"""What is wrong with a row, beside its columns: feeds have a `reason` of their own."""

LOADED, QUARANTINED, DUPLICATE = "LOADED", "QUARANTINED", "DUPLICATE"


@dataclass
class IngestSummary:
    """What one ingest did; `load_no` is None where there was nothing new."""

    load_no: int | None = None
    files_loaded: int = 0
    files_quarantined: int = 0
    files_duplicate: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    rows_quarantined: dict[str, int] = field(default_factory=dict)


@dataclass
class _Intake:
    """A file on its way in."""

    delivery: Delivery
    manifest: Manifest
    received_at: datetime
    rows: int = 0
    bad_rows: list[pl.DataFrame] = field(default_factory=list)
    totals: dict[tuple[str, str | None], int] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    parts: list[Path] = field(default_factory=list)
    rejection: str | None = None

    @property
    def bad_count(self) -> int:
        return sum(frame.height for frame in self.bad_rows)


def pending(
    settings: Settings | None = None,
    landing: Path | None = None,
    through: date | None = None,
    since: date | None = None,
) -> list[Delivery]:
    """Deliveries that are new or changed since they were last looked at, batch dates inclusive."""
    settings = settings or get_settings()
    deliveries = [
        delivery
        for delivery in list_deliveries(landing or settings.landing_dir, list(FEEDS))
        if (through is None or delivery.batch_date <= through)
        and (since is None or delivery.batch_date >= since)
    ]
    if not deliveries or not settings.catalog_path.exists():
        return deliveries
    with connect(read_only=True, settings=settings) as con:
        seen = set(con.execute("select path, fingerprint from landing.files").fetchall())
    return [d for d in deliveries if (d.shown_path, _checked_as(d, settings)) not in seen]


def _checked_as(delivery: Delivery, settings: Settings) -> str:
    """What a verdict depends on: the file, its manifest and the threshold."""
    return f"{delivery.fingerprint()}|{settings.max_bad_row_share}"


def ingest(
    landing: Path | None = None,
    through: date | None = None,
    since: date | None = None,
    misplaced_only: bool = False,
    settings: Settings | None = None,
) -> IngestSummary:
    """Take in every pending delivery of `landing` with a batch date in `since`…`through`.

    `misplaced_only` records just the files that have no place in landing, which belong to no batch
    date. One commit for all; running it again changes nothing.
    """
    settings = settings or get_settings()
    deliveries = pending(settings, landing, through, since)
    if misplaced_only:
        deliveries = [delivery for delivery in deliveries if delivery.problem is not None]
    summary = IngestSummary()
    with connect(settings=settings) as con:
        load_no = latest_load_no(con) + 1
        _clear_leftovers(settings.raw_dir, load_no)
        if not deliveries:
            return summary
        loaded = {
            (feed, file_id): path
            for feed, file_id, path in con.execute(
                "select feed, file_id, path from landing.files where state = ?", [LOADED]
            ).fetchall()
        }
        intakes, duplicates, touched = _take_in_each_once(deliveries, loaded, load_no, settings)
        with transaction(con):
            _register(con, intakes, load_no, settings)
            _record(con, intakes, duplicates, load_no, settings)
            for delivery in touched:
                con.execute(
                    "update landing.files set fingerprint = ? where path = ? and state = ?",
                    [_checked_as(delivery, settings), str(delivery.path), LOADED],
                )
    if not intakes and not duplicates:
        return summary
    summary.load_no = load_no
    summary.files_duplicate = len(duplicates)
    for intake in intakes:
        name = intake.delivery.feed
        if intake.rejection is None:
            summary.files_loaded += 1
            summary.rows[name] = summary.rows.get(name, 0) + intake.rows - intake.bad_count
        else:
            summary.files_quarantined += 1
        if intake.bad_count:
            counted = summary.rows_quarantined.get(name, 0)
            summary.rows_quarantined[name] = counted + intake.bad_count
    return summary


def _take_in_each_once(
    deliveries: list[Delivery],
    loaded: dict[tuple[str, str], str],
    load_no: int,
    settings: Settings,
) -> tuple[list[_Intake], list[Delivery], list[Delivery]]:
    """Take in what is not `loaded` (path by feed and content) yet; what is taken in is added.

    Returns what was looked into, what is there under another path, and what is there as it is.
    """
    intakes: list[_Intake] = []
    duplicates: list[Delivery] = []
    touched: list[Delivery] = []
    waiting = deliveries
    while waiting:
        waiting, again = [], waiting
        now: dict[tuple[str, str], _Intake] = {}
        misplaced = [_intake(d) for d in again if d.problem is not None]
        for delivery in (d for d in again if d.problem is None):
            identity = (delivery.feed, delivery.file_id)
            if identity in now:
                # The same content twice: what the second is, the first one's verdict tells.
                waiting.append(delivery)
            elif identity not in loaded:
                now[identity] = _intake(delivery)
            elif loaded[identity] == str(delivery.path):
                touched.append(delivery)
            else:
                duplicates.append(delivery)
        for feed_name, of_feed in _by_feed(list(now.values())):
            feed = FEEDS.get(feed_name)
            if feed is not None:
                _take_in(feed, of_feed, load_no, settings)
        for identity, intake in now.items():
            if intake.rejection is None:
                loaded[identity] = str(intake.delivery.path)
        intakes += [*misplaced, *now.values()]
    return intakes, duplicates, touched


def _part_name(load_no: int, file_id: str, number: int) -> str:
    return f"{_load_prefix(load_no)}{file_id}-{number}.parquet"


def _load_prefix(load_no: int) -> str:
    return f"load{load_no:06d}-"


def _clear_leftovers(raw_dir: Path, load_no: int) -> None:
    """Remove files of an ingest that was killed before its commit: they bear the next number."""
    for path in raw_dir.glob(f"*/*/{_load_prefix(load_no)}*.parquet"):
        path.unlink()


def _intake(delivery: Delivery) -> _Intake:
    received_at = delivery.default_received_at()
    if delivery.problem is not None:
        return _Intake(delivery, Manifest(), received_at, rejection=delivery.problem)
    try:
        manifest = Manifest.read(delivery.manifest_path)
    except BrokenManifest as error:
        return _Intake(delivery, Manifest(), received_at, rejection=str(error))
    intake = _Intake(delivery, manifest, manifest.received_at or received_at)
    if manifest.sha256 is not None and str(manifest.sha256).lower() != delivery.sha256:
        intake.rejection = "the file is not the one of its manifest: sha256 differs"
    return intake


def _by_feed(intakes: list[_Intake]) -> list[tuple[str, list[_Intake]]]:
    grouped: dict[str, list[_Intake]] = {}
    for intake in intakes:
        if intake.rejection is None:
            grouped.setdefault(intake.delivery.feed, []).append(intake)
    return list(grouped.items())


def _take_in(feed: Feed, intakes: list[_Intake], load_no: int, settings: Settings) -> None:
    """Read, judge and write the files of one feed; each ends with `parts` or a `rejection`."""
    judged = partial(_judge, feed)
    for _, verdicts in one_ahead(judged, _groups(feed, intakes)):
        for group, verdict in verdicts:
            if isinstance(verdict, str):
                group[0][0].rejection = verdict
            else:
                _settle_group(feed, group, verdict, load_no, settings)
    for intake in intakes:
        if intake.rejection is None:
            intake.rejection = _verdict(intake, settings)
        if intake.rejection is not None:
            for part in intake.parts:
                part.unlink(missing_ok=True)
            intake.parts = []


_Group = list[tuple[_Intake, Chunk]]


def _groups(feed: Feed, intakes: list[_Intake]) -> Iterator[_Group]:
    """Chunks of files with the same columns, together up to `GROUP_ROWS` rows."""
    group: _Group = []
    rows = 0
    for intake in track(intakes, f"reading {feed.name}"):
        try:
            for chunk in read_chunks(intake.delivery.path):
                missing = missing_columns(feed, chunk.frame.columns)
                if missing and (chunk.frame.height or not chunk.bad_lines):
                    intake.rejection = f"required column missing: {', '.join(missing)}"
                    break
                same = not group or group[0][1].frame.schema == chunk.frame.schema
                if group and (not same or rows + chunk.frame.height > GROUP_ROWS):
                    yield group
                    group, rows = [], 0
                group.append((intake, chunk))
                rows += chunk.frame.height
        except UnreadableFile as error:
            intake.rejection = str(error)
        except OSError as error:
            if error.errno in _NO_FAULT_OF_A_FILE:
                raise
            intake.rejection = _unforeseen("read", error)
        except _UNFORESEEN as error:
            if isinstance(error, _NEVER_OF_A_FILE):
                raise
            intake.rejection = _unforeseen("read", error)
    if group:
        yield group


@dataclass(frozen=True, slots=True)
class _JudgedGroup:
    """Rows of a group as they came and as they are typed, and by file why it is refused."""

    given: pl.DataFrame
    whole: pl.DataFrame
    refusals: dict[int, str]


_UNFORESEEN = (Exception, pl.exceptions.PanicException)
_NEVER_OF_A_FILE = (MemoryError, duckdb.Error, CardlineError)
_NO_FAULT_OF_A_FILE = (
    errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE
)  # fmt: skip


def _unforeseen(what: str, error: BaseException) -> str:
    # Its text may hold what stands in the file.
    return f"the file cannot be {what}: {type(error).__name__}"


def _judge(feed: Feed, group: _Group) -> list[tuple[_Group, _JudgedGroup | str]]:
    """The group judged; where that fails, in ever smaller ones until the files at fault stand
    alone, each with the reason why it cannot be judged."""
    try:
        return [(group, _judge_group(feed, group))]
    except _UNFORESEEN as error:
        if isinstance(error, (*_NEVER_OF_A_FILE, OSError)):
            raise
        if len(group) == 1:
            return [(group, _unforeseen("judged", error))]
    middle = len(group) // 2
    return [*_judge(feed, group[:middle]), *_judge(feed, group[middle:])]


def _judge_group(feed: Feed, group: _Group) -> _JudgedGroup:
    """What becomes of each row; it changes nothing, for the group before may still be at work."""
    frame = pl.concat(
        chunk.frame.with_columns(pl.lit(number, dtype=pl.UInt32).alias(FILE))
        for number, (_, chunk) in enumerate(group)
    )
    refusals = _sensitive_files(feed, frame, len(group))
    judged = judge(feed, frame)
    whole = judged.typed.with_columns(frame[FILE], frame[LINE], judged.reason.alias(_FAULT))
    whole = _with_lineage(feed, whole, group)
    future = not_over_yet(feed, whole)
    if future.null_count() < len(future):
        both = pl.DataFrame([whole[_FAULT], future])
        reasons = both.select(pl.concat_str(pl.all(), separator="; ", ignore_nulls=True))
        whole = whole.with_columns(reasons.to_series().replace("", None).alias(_FAULT))
    return _JudgedGroup(frame, whole, refusals)


def _settle_group(
    feed: Feed, group: _Group, judged: _JudgedGroup, load_no: int, settings: Settings
) -> None:
    """Count, set aside and write the rows of each file."""
    frame, whole = judged.given, judged.whole
    for number, why in judged.refusals.items():
        group[number][0].rejection = why
    _add_totals(whole, group)
    unknown = unknown_columns(feed, frame.columns)
    ends = 0
    for intake, chunk in group:
        start, ends = ends, ends + chunk.frame.height
        part = whole.slice(start, ends - start)
        intake.rows += part.height + len(chunk.bad_lines)
        intake.unknown.update(unknown)
        if intake.rejection is not None:
            continue
        is_bad = part[_FAULT].is_not_null()
        if is_bad.any() or chunk.bad_lines:
            rows = frame.slice(start, ends - start).filter(is_bad)
            _set_aside(feed, intake, rows, part[_FAULT].filter(is_bad), chunk.bad_lines)
            if intake.rejection is not None:
                continue
            part = part.filter(~is_bad)
        if part.is_empty():
            continue
        batch = f"batch_date={intake.delivery.batch_date.isoformat()}"
        name = _part_name(load_no, intake.delivery.file_id, len(intake.parts))
        path = settings.raw_dir / feed.name / batch / name
        with written_aside(path) as aside:
            part.select(*feed.raw_schema()).write_parquet(aside, compression_level=1)
        intake.parts.append(path)


def _sensitive_files(feed: Feed, frame: pl.DataFrame, files: int) -> dict[int, str]:
    """Why files are refused that hold a card or social security number where text is let in."""
    declared = {column.name: column.type for column in feed.columns}
    texts = [
        frame[name].cast(pl.String, strict=False)
        for name in frame.columns
        if name not in (FILE, LINE) and declared.get(name, "string") == "string"
    ]
    named = find_sensitive(pl.Series("names", unknown_columns(feed, frame.columns), pl.String))
    if named is not None:
        # Files of a group have the same columns.
        return dict.fromkeys(range(files), _refusal(named, "the name of a column"))
    refusals: dict[int, str] = {}
    for values, what in zip(texts, on_all_cores(find_sensitive, texts), strict=True):
        if what is None:
            continue
        for number in range(files):
            found = find_sensitive(values.filter(frame[FILE] == number))
            if found is not None:
                refusals[number] = _refusal(found, f"column {values.name}")
    return refusals


def _refusal(found: str, where: str) -> str:
    return f"{found} in {where}: it must be tokenised before it is delivered"


def _without_coordinates(feed: Feed, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` without decimal fractions of number columns: their digits can be anything."""
    numbers = [c.name for c in feed.columns if c.type == "number" and c.name in rows.columns]
    texts = rows.select(pl.col(name).cast(pl.String, strict=False) for name in numbers)
    fraction = r"^\s*-?[0-9]{1,3}\.[0-9]+(?:[eE]-?[0-9]+)?\s*$"
    return rows.with_columns(
        texts[name].set(texts[name].str.contains(fraction).fill_null(False), None)
        for name in numbers
    )


def _set_aside(
    feed: Feed, intake: _Intake, rows: pl.DataFrame, reasons: pl.Series, bad_lines: list[BadLine]
) -> None:
    """Keep bad rows for quarantine, unless what they hold must not be kept anywhere."""
    bad = pl.DataFrame(
        [
            rows[LINE].cast(pl.Int64).alias("line_no"),
            reasons.alias("reason"),
            payloads(rows.drop(LINE, FILE)),
        ]
    )
    if bad_lines:
        unsplit = pl.DataFrame(
            [(line.line_no, line.reason, line.payload) for line in bad_lines],
            schema=bad.schema,
            orient="row",
        )
        bad = pl.concat([bad, unsplit]).sort("line_no")
    found = find_sensitive(payloads(_without_coordinates(feed, rows.drop(LINE, FILE))))
    found = found or find_sensitive(
        pl.Series([line.payload for line in bad_lines], dtype=pl.String)
    )
    if found is not None:
        intake.rejection = _refusal(found, "a row that breaks its contract")
        intake.bad_rows = []
    else:
        intake.bad_rows.append(bad)


def _with_lineage(feed: Feed, whole: pl.DataFrame, group: _Group) -> pl.DataFrame:
    """Add file_id, line_no, record_hash, batch_date and the known time."""
    files = pl.DataFrame(
        {
            "file_id": [intake.delivery.file_id for intake, _ in group],
            "batch_date": [intake.delivery.batch_date for intake, _ in group],
            "_file_received_at": pl.Series(
                [intake.received_at for intake, _ in group], dtype=pl.Datetime("us")
            ),
        }
    )
    of_rows = files.select(pl.all().gather(whole[FILE]))
    return whole.with_columns(
        of_rows["file_id"],
        of_rows["batch_date"],
        whole["received_at"].zip_with(
            whole["received_at"].is_not_null(), of_rows["_file_received_at"]
        ),
        pl.col(LINE).cast(pl.Int64).alias("line_no"),
        record_hashes(whole.select(*feed.column_names, "extra")),
    )


def record_hashes(rows: pl.DataFrame) -> pl.Series:
    """MD5 of each row's content: equal where every column is, null apart from empty text."""
    separator, null = "chr(31)", "chr(0)"
    parts: list[str] = []
    for name in rows.columns:
        nulls = rows[name].null_count()
        # Columns are the contract's own names, not input. What is null throughout, and what never
        # is, needs no look at each row.
        value = null if nulls == rows.height else f'cast("{name}" as varchar)'
        parts.append(value if nulls in (0, rows.height) else f"coalesce({value}, {null})")
    content = f", {separator}, ".join(parts)
    # In pieces, for DuckDB gives each to a thread of its own; texts as they lie, without a copy.
    whole = rows.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    table = pa.Table.from_batches(whole.to_batches(max_chunksize=HASHED_ROWS), whole.schema)
    with scratch() as con:
        con.register("content", table)
        query = f"select md5(concat({content})) as record_hash from content"  # noqa: S608
        # A relation, for what `execute` gives is computed by one thread.
        return pl.DataFrame(con.sql(query).pl())["record_hash"]


def _add_totals(whole: pl.DataFrame, group: _Group) -> None:
    """Sum what the manifests of this group give control totals for, bad rows included."""
    for name in {name for intake, _ in group for name in intake.manifest.control_totals or {}}:
        if name not in whole.columns or not whole[name].dtype.is_integer():
            continue
        by_direction = "direction" if "direction" in whole.columns else pl.lit(None, pl.String)
        sums = whole.group_by(FILE, by_direction).agg(pl.col(name).sum())
        for number, direction, total in sums.iter_rows():
            totals = group[number][0].totals
            for key in {(name, direction), (name, None)}:
                totals[key] = totals.get(key, 0) + total


def _verdict(intake: _Intake, settings: Settings) -> str | None:
    """Why the file as a whole cannot be taken, or None."""
    manifest = intake.manifest
    if manifest.rows is not None and manifest.rows != intake.rows:
        return f"the manifest says {manifest.rows} rows and the file has {intake.rows}"
    for name, expected in (manifest.control_totals or {}).items():
        pairs = expected.items() if isinstance(expected, dict) else [(None, expected)]
        for direction, total in pairs:
            actual = intake.totals.get((name, direction), 0)
            if actual != total:
                label = name if direction is None else f"{name} of {direction}"
                return f"control total {label}: the manifest says {total}, the file has {actual}"
    if intake.bad_count > settings.max_bad_row_share * intake.rows:
        return (
            f"{intake.bad_count} of {intake.rows} rows break the contract, over the share of "
            f"{settings.max_bad_row_share:g}: the file waits whole"
        )
    return None


def _register(
    con: duckdb.DuckDBPyConnection, intakes: list[_Intake], load_no: int, settings: Settings
) -> None:
    """Make the written Parquet files part of their raw tables."""
    for name in sorted({i.delivery.feed for i in intakes if i.parts}):
        pattern = settings.raw_dir / name / "*" / f"{_load_prefix(load_no)}*.parquet"
        con.execute(
            "call ducklake_add_data_files(?, ?, ?, schema => 'raw')", [CATALOG, name, str(pattern)]
        )


def _record(
    con: duckdb.DuckDBPyConnection,
    intakes: list[_Intake],
    duplicates: list[Delivery],
    load_no: int,
    settings: Settings,
) -> None:
    """Write the inventory and the quarantine of this load."""
    if not intakes and not duplicates:
        return
    now = datetime.now(UTC).replace(tzinfo=None)
    files = [
        {
            "file_id": i.delivery.file_id,
            "feed": i.delivery.feed,
            "batch_date": i.delivery.batch_date,
            "path": i.delivery.shown_path,
            "bytes": i.delivery.path.stat().st_size,
            "rows": i.rows - i.bad_count if i.rejection is None else 0,
            "rows_quarantined": i.bad_count,
            "state": LOADED if i.rejection is None else QUARANTINED,
            # Names and what a manifest says come from the sender: they may hold anything.
            "reason": None if i.rejection is None else masked(i.rejection),
            "unknown_columns": ", ".join(sorted(map(masked, i.unknown))) or None,
            "received_at": i.received_at,
            "sequence_no": i.manifest.sequence_no,
            "fingerprint": _checked_as(i.delivery, settings),
        }
        for i in intakes
    ] + [
        {
            "file_id": d.file_id,
            "feed": d.feed,
            "batch_date": d.batch_date,
            "path": d.shown_path,
            "bytes": d.path.stat().st_size,
            "rows": 0,
            "rows_quarantined": 0,
            "state": DUPLICATE,
            "reason": "the same file was loaded before",
            "unknown_columns": None,
            "received_at": d.default_received_at(),
            "sequence_no": None,
            "fingerprint": _checked_as(d, settings),
        }
        for d in duplicates
    ]
    inventory = pl.DataFrame(files, infer_schema_length=None).with_columns(
        pl.lit(load_no, pl.Int64).alias("load_no"),
        pl.lit(now).alias("loaded_at"),
        pl.col("sequence_no").cast(pl.Int64),
    )
    con.register("new_files", inventory.to_arrow())
    con.execute("insert into landing.files by name from new_files")
    con.unregister("new_files")
    rejected = inventory.filter(pl.col("state") == QUARANTINED).select(
        "feed", "file_id", "batch_date", "path", "reason", "received_at", "load_no"
    )
    if rejected.height:
        con.register("new_files", rejected.to_arrow())
        con.execute("insert into quarantine.files by name from new_files")
        con.unregister("new_files")
    bad = [
        frame.with_columns(
            pl.lit(i.delivery.feed).alias("feed"),
            pl.lit(i.delivery.file_id).alias("file_id"),
            pl.lit(i.received_at).alias("received_at"),
            pl.lit(load_no, pl.Int64).alias("load_no"),
        )
        for i in intakes
        for frame in i.bad_rows
    ]
    if bad:
        con.register("new_rows", pl.concat(bad).to_arrow())
        con.execute("insert into quarantine.rows by name from new_rows")
        con.unregister("new_rows")
