"""Feature tables of the warehouse as date-partitioned Parquet, for Feast and whoever else reads.

One folder per view; in it one file per day of `event_timestamp` for the newest month of it and the
one before (`<features>/<view>/event_date=2024-05-01/part-0.parquet`) and one per month for what is
older (`…/event_date=2024-03/…`), since thousands of small files are slow to write and to open. Rows
are sorted by key and time. Only spans whose rows changed are written, each aside and then renamed;
`manifest.json` beside them says what is there and is written last, so a run that was killed is
completed by the next one. While days become a month both may be there for a moment: the same rows,
of which retrieval takes one.

A window that nothing enters any more still loses what leaves it: tables have rows of days to come.
A row is published when its time has come, so that a day's news about some entities does not write
three months ahead of all the others anew.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl

from pipelines.errors import CardlineError
from pipelines.features.registry import View, load_definitions
from pipelines.progress import track
from pipelines.settings import get_settings
from pipelines.threads import on_all_cores
from pipelines.warehouse import CATALOG, connect, snapshots

TIMES = ("event_timestamp", "created_timestamp")
_MANIFEST = "manifest.json"
_RETRACTED = "retracted.json"
_FILE = "part-0.parquet"
# A view without rows keeps one empty typed file, since Feast cannot read an empty folder.
_NO_ROWS = "no_rows"
_SQL_TYPES = {"INT64": "bigint", "DOUBLE": "double", "STRING": "varchar", "BOOL": "boolean"}
POLARS_TYPES = {
    "INT64": pl.Int64(), "DOUBLE": pl.Float64(), "STRING": pl.String(), "BOOL": pl.Boolean(),
}  # fmt: skip
_ROWS_PER_READ = 1_000_000
_ROWS_PER_GROUP = 32_768
"""Rows are sorted by key: of a file, whoever asks for some keys reads only where these are."""


@dataclass(frozen=True)
class Partition:
    """One published day or month: its rows, a digest of them, the publication that last changed it,
    and the first and last moment (`known_*`, ISO) at which a row of it became visible."""

    rows: int
    digest: str
    publication: int
    known_from: str
    known_to: str


@dataclass
class Manifest:
    """What is published of a view, from which state of the warehouse table, and through which event
    time (ISO; None: all of it)."""

    view: str
    columns: dict[str, str]
    publication: int = 0
    table_id: int = -1
    snapshot: int = -1
    through: str | None = None
    partitions: dict[str, Partition] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """The outcome for one view: its rows now, and the spans (a day or a month, ISO) that were
    written or removed."""

    view: str
    rows: int
    written: tuple[str, ...]
    removed: tuple[str, ...]


def publish(
    views: Iterable[str] | None = None,
    *,
    con: duckdb.DuckDBPyConnection | None = None,
    through: datetime | None = None,
    is_full: bool = False,
) -> list[Published]:
    """Bring the published Parquet of `views` (default: all) to the state of the warehouse.

    Rows with an `event_timestamp` after `through` (UTC, inclusive; None: none) are left for later.
    Looks at the days that the lake reports as changed since the last publication, and at those that
    have come since; at every row on the first one, after the table was replaced, and with
    `is_full`. Twice in a row, the second writes nothing. Raises `CardlineError` for a table that is
    missing, lacks a declared column or has another type in it, and for rows without a key or a time
    or with a repeated (key, event_timestamp, created_timestamp): then nothing of that view is
    changed.
    """
    declared = load_definitions().views
    wanted = sorted(declared) if views is None else list(views)
    unknown = [name for name in wanted if name not in declared]
    if unknown:
        raise CardlineError(f"there is no feature view {unknown[0]}; there are {sorted(declared)}")
    if con is None:
        with connect(read_only=True) as own:
            return publish(wanted, con=own, through=through, is_full=is_full)
    con.execute("begin transaction")  # One snapshot for looking, checking and reading.
    try:
        lake = _read_lake(con)
        return [
            _publish_view(con, lake, declared[name], through or datetime.max, is_full)
            for name in track(wanted, "publishing features")
        ]
    finally:
        con.execute("rollback")


def is_published(view: str) -> bool:
    """Whether a view has been published in this home, be it without rows."""
    return _manifest_path(view).exists()


def read_manifest(view: str) -> Manifest:
    """What is published of `view`. Raises `CardlineError` before the first publication."""
    path = _manifest_path(view)
    if not path.exists():
        raise CardlineError(
            f"features.{view} has not been published in this home: run `cardline run` first"
        )
    raw = json.loads(path.read_text())
    raw["partitions"] = {day: Partition(**part) for day, part in raw["partitions"].items()}
    return Manifest(**raw)


def partition_files(view: str, spans: Iterable[str]) -> list[Path]:
    """The published files of `spans`, as the manifest names them."""
    return [_partition_dir(view, span) / _FILE for span in spans]


def retracted_keys(view: str, since: int) -> list[str]:
    """Keys of which a published row was taken back after publication `since`.

    A late delivery can make a row disappear; the online store would hold on to it, since whatever
    replaces it is older.
    """
    path = _view_dir(view) / _RETRACTED
    if not path.exists():
        return []
    return sorted(key for key, number in json.loads(path.read_text()).items() if number > since)


def _remember_retracted(
    con: duckdb.DuckDBPyConnection,
    view: View,
    publication: int,
    spans: list[str],
    extent: "_Extent",
) -> None:
    """Note the keys with a published row (by key and times) that the warehouse no longer has."""
    files = [path for path in partition_files(view.name, spans) if path.exists()]
    if not files:
        return
    key = _quote(view.key)
    where, parameters = _in_spans(spans, extent)
    rows = con.execute(
        f"select distinct {key} from (select {key}, event_timestamp, created_timestamp "  # noqa: S608
        f"from read_parquet(?, hive_partitioning = false) "
        f"except select {key}, event_timestamp, created_timestamp "
        f"from {_table(view)} where true {where})",
        [[str(path) for path in files], *parameters],
    ).fetchall()
    if not rows:
        return
    path = _view_dir(view.name) / _RETRACTED
    known = json.loads(path.read_text()) if path.exists() else {}
    known |= {key: publication for (key,) in rows}
    _write_text(path, json.dumps(known, indent=0, sort_keys=True) + "\n")


def _publish_view(
    con: duckdb.DuckDBPyConnection, lake: "_Lake", view: View, through: datetime, is_full: bool
) -> Published:
    table_id = _checked_table(lake, view)
    manifest = _known_manifest(view)
    extent = _Extent(_days_since(con, view, through), through)
    spans = None if is_full else _changed_spans(con, lake, view, manifest, extent)
    current = _span_digests(con, view, spans, extent)
    gone = [span for span in manifest.partitions if (spans is None or span in spans)]
    gone = [span for span in gone if span not in current]
    changed = sorted(span for span in current if _differs(view, manifest, span, current[span]))
    _require_sound(con, view, changed, extent, is_everywhere=spans is None)
    if changed or gone or not is_published(view.name):
        manifest.publication += 1
    # Before anything is replaced: a run that is killed then only names keys that need no repair.
    _remember_retracted(con, view, manifest.publication, [*changed, *gone], extent)
    for batch in _batches({span: current[span][0] for span in changed}):
        _write_spans(con, view, batch, extent)
    for span in changed:
        rows, digest, known_from, known_to = current[span]
        manifest.partitions[span] = Partition(
            rows, digest, manifest.publication, known_from, known_to
        )
    for span in gone:
        shutil.rmtree(_partition_dir(view.name, span), ignore_errors=True)
        del manifest.partitions[span]
    manifest.partitions = dict(sorted(manifest.partitions.items()))
    manifest.table_id, manifest.snapshot = table_id, lake.snapshot
    manifest.through = None if through == datetime.max else through.isoformat()
    _write_or_drop_schema_only(view, is_empty=not manifest.partitions)
    _write_manifest(manifest)
    return Published(
        view.name,
        sum(part.rows for part in manifest.partitions.values()),
        tuple(changed),
        tuple(gone),
    )


@dataclass(frozen=True)
class _Extent:
    """What is to be published: rows through an event time, from the day `since` on by days."""

    since: date
    through: datetime


def _days_since(con: duckdb.DuckDBPyConnection, view: View, through: datetime) -> date:
    """The first day of the month before that of the newest row: what is older goes by months."""
    # Nearly always there is one of the last month, and what is older need not be read.
    for after in (through - timedelta(days=31), datetime.min):
        row = con.execute(
            f"select (date_trunc('month', max(event_timestamp)) - interval 1 month)::date "  # noqa: S608
            f"from {_table(view)} where event_timestamp > ? and event_timestamp <= ?",
            [after, through],
        ).fetchone()
        if row and row[0]:
            return row[0]
    return date.min


def _span(day: str, since: date) -> str:
    """The span of a day: itself, or its month."""
    return day if day >= since.isoformat() else day[: len("2024-05")]


_SPAN = (
    "case when event_timestamp < ?::timestamp then strftime(event_timestamp, '%Y-%m') "
    "else strftime(event_timestamp, '%Y-%m-%d') end"
)
"""The same in SQL."""


def _regrouped(manifest: Manifest, since: date) -> set[str]:
    """Spans that what is published goes by no more or not yet, and those that take their rows."""
    found: set[str] = set()
    for span in manifest.partitions:
        month, is_month = span[:7], len(span) == len("2024-05")
        if is_month == (month >= since.isoformat()[:7]):
            others = [f"{month}-{day:02}" for day in range(1, 32)] if is_month else [month]
            found |= {span, *others}
    return found


def _known_manifest(view: View) -> Manifest:
    """The last manifest, or a blank one where the view's columns have changed since.

    A blank one continues the count of publications: materialisation goes by it.
    """
    blank = Manifest(view.name, {view.key: "STRING", **view.features})
    if not is_published(view.name):
        return blank
    known = read_manifest(view.name)
    if known.columns == blank.columns:
        return known
    blank.publication = known.publication
    blank.partitions = {
        span: Partition(part.rows, "", part.publication, part.known_from, part.known_to)
        for span, part in known.partitions.items()
    }
    return blank


def _differs(view: View, manifest: Manifest, span: str, current: tuple[int, str, str, str]) -> bool:
    known = manifest.partitions.get(span)
    is_there = (_partition_dir(view.name, span) / _FILE).exists()
    return known is None or known.digest != current[1] or not is_there


@dataclass(frozen=True)
class _Lake:
    """The lake at one moment: its snapshots, and the feature tables' ids and columns.

    A table that was replaced has another id.
    """

    oldest_snapshot: int
    snapshot: int
    table_ids: dict[str, int]
    columns: dict[str, dict[str, str]]


def _read_lake(con: duckdb.DuckDBPyConnection) -> _Lake:
    """Read once for all views: these look-ups cost more than most of the rest."""
    oldest, newest = snapshots(con)
    columns: dict[str, dict[str, str]] = {}
    for table, column, kind in con.execute(
        "select table_name, column_name, lower(data_type) from duckdb_columns() "
        "where database_name = ? and schema_name = 'features' order by column_index",
        [CATALOG],
    ).fetchall():
        columns.setdefault(table, {})[column] = kind
    # Names repeat between schemas; the id is only compared for equality, so all of a name count.
    ids = con.execute(
        "select table_name, max(table_id) from ducklake_table_info(?) group by table_name",
        [CATALOG],
    ).fetchall()
    return _Lake(oldest, newest, {name: int(id) for name, id in ids}, columns)


def _changed_spans(
    con: duckdb.DuckDBPyConnection, lake: _Lake, view: View, manifest: Manifest, extent: _Extent
) -> list[str] | None:
    """Spans with inserted or deleted rows since the manifest, whose time has come since, or to be
    grouped anew; None where that cannot be told."""
    if manifest.snapshot < 0 or manifest.table_id != lake.table_ids.get(view.name):
        return None
    if lake.oldest_snapshot > manifest.snapshot + 1:
        return None  # The snapshots in between have expired.
    before = datetime.max if manifest.through is None else datetime.fromisoformat(manifest.through)
    if before > extent.through:
        return None
    queries: list[tuple[str, list[object]]] = []
    if before < extent.through:
        queries.append(
            (
                f"select event_timestamp from {_table(view)} "  # noqa: S608
                "where event_timestamp > ? and event_timestamp <= ?",
                [before, extent.through],
            )
        )
    if manifest.snapshot < lake.snapshot:
        queries.extend(
            (
                "select event_timestamp "  # noqa: S608
                f"from ducklake_table_{kind}(?, 'features', ?, ?::bigint, ?::bigint) "
                "where event_timestamp is null or event_timestamp <= ?",
                [CATALOG, view.name, manifest.snapshot + 1, lake.snapshot, extent.through],
            )
            # Both at once, as `ducklake_table_changes`, takes twice as long.
            for kind in ("insertions", "deletions")
        )
    days = {
        day
        for query, parameters in queries
        for (day,) in con.execute(
            f"select distinct event_timestamp::date::varchar from ({query})",  # noqa: S608
            parameters,
        ).fetchall()
    }
    if None in days:
        return None
    return sorted(_regrouped(manifest, extent.since) | {_span(day, extent.since) for day in days})


def _span_digests(
    con: duckdb.DuckDBPyConnection, view: View, spans: list[str] | None, extent: _Extent
) -> dict[str, tuple[int, str, str, str]]:
    """Rows, digest and known range of each span, of all spans or of those asked for."""
    columns = ", ".join(_quote(name) for name in _columns(view))
    known = "greatest(event_timestamp, created_timestamp)"
    where, parameters = _in_spans(spans, extent)
    rows = con.execute(
        f"select {_SPAN}, count(*), "  # noqa: S608
        f"(sum(hash({columns})::hugeint)::varchar || '-' || bit_xor(hash({columns}))::varchar), "
        f"strftime(min({known}), '%Y-%m-%dT%H:%M:%S.%f'), "
        f"strftime(max({known}), '%Y-%m-%dT%H:%M:%S.%f') "
        f"from {_table(view)} where event_timestamp is not null {where} group by 1",
        [extent.since, *parameters],
    ).fetchall()
    return {span: (count, digest, first, last) for span, count, digest, first, last in rows}


def _in_spans(spans: list[str] | None, extent: _Extent) -> tuple[str, list[object]]:
    """A filter on spans; the range lets the engine skip files that have none of them."""
    if spans is None:
        return (
            "and (event_timestamp is null or event_timestamp <= ?::timestamp)",
            [extent.through],
        )
    if not spans:
        return "and false", []
    first = date.fromisoformat(f"{min(spans)[:7]}-01")
    last = date.fromisoformat(f"{max(spans)[:7]}-01")
    return (
        "and event_timestamp >= ?::timestamp and event_timestamp < ?::timestamp + interval 1 month "
        f"and event_timestamp <= ?::timestamp and {_SPAN} in (select unnest(?::varchar[]))",
        [first, last, extent.through, extent.since, spans],
    )


def _checked_table(lake: _Lake, view: View) -> int:
    """The id of a view's table, which has every declared column in its declared type."""
    found = lake.columns.get(view.name, {})
    if not found:
        raise CardlineError(
            f"the warehouse has no table features.{view.name}: build the dbt models first "
            "(`cardline run`)"
        )
    for name, kind in _columns(view).items():
        if name not in found:
            raise CardlineError(
                f"features.{view.name} has no column {name}, which feature_repo/ declares"
            )
        if found[name] != kind:
            raise CardlineError(
                f"features.{view.name}.{name} is {found[name]}; feature_repo/ declares {kind}"
            )
    return lake.table_ids.get(view.name, -1)


def _require_sound(
    con: duckdb.DuckDBPyConnection,
    view: View,
    spans: list[str],
    extent: _Extent,
    *,
    is_everywhere: bool,
) -> None:
    """In `spans`: no row without key or time, one row per key and times.

    A row without event time is of no day, so that is looked for where the whole table is looked at.
    """
    if not spans and not is_everywhere:
        return
    key = _quote(view.key)
    where, parameters = _in_spans(None if is_everywhere else spans, extent)
    blank, repeated = con.execute(
        f"with looked_at as (select {key}, event_timestamp, created_timestamp "  # noqa: S608
        f"from {_table(view)} where true {where}) "
        f"select (select count(*) from looked_at where {key} is null or {key} = '' "
        f"or event_timestamp is null or created_timestamp is null), "
        f"(select count(*) from (select 1 from looked_at "
        f"group by {key}, event_timestamp, created_timestamp having count(*) > 1))",
        parameters,
    ).fetchall()[0]
    if blank:
        raise CardlineError(
            f"features.{view.name} has {blank} rows without {view.key}, event_timestamp or "
            "created_timestamp: nothing was published"
        )
    if repeated:
        raise CardlineError(
            f"features.{view.name} has {repeated} groups of rows with the same {view.key}, "
            "event_timestamp and created_timestamp: nothing was published"
        )


def _write_spans(
    con: duckdb.DuckDBPyConnection, view: View, spans: list[str], extent: _Extent
) -> None:
    """Write each of `spans` aside and rename it into place."""
    columns = ", ".join(_quote(name) for name in _columns(view))
    where, parameters = _in_spans(spans, extent)
    frame = con.execute(
        f"select {columns}, {_SPAN} as __span from {_table(view)} where true {where} "  # noqa: S608
        f"order by {_quote(view.key)}, event_timestamp, created_timestamp",
        [extent.since, *parameters],
    ).pl()
    parts = frame.partition_by("__span", as_dict=True, include_key=False, maintain_order=True)
    lost = [span for span in spans if (span,) not in parts]
    if lost:
        raise CardlineError(f"features.{view.name} lost its rows of {lost[0]} while being read")

    def write(span: str) -> None:
        _write_file(parts[span,], _partition_dir(view.name, span) / _FILE)

    on_all_cores(write, spans)


def _write_file(frame: pl.DataFrame, path: Path) -> None:
    aside = get_settings().features_dir / ".aside" / f"{path.parts[-3]}-{path.parts[-2]}.parquet"
    aside.parent.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(aside, compression="zstd", statistics=True, row_group_size=_ROWS_PER_GROUP)
    aside.replace(path)


def _write_or_drop_schema_only(view: View, is_empty: bool) -> None:
    path = _view_dir(view.name) / _NO_ROWS / _FILE
    if not is_empty:
        shutil.rmtree(path.parent, ignore_errors=True)
        return
    kinds = {view.key: "STRING", **view.features}
    schema = {name: POLARS_TYPES[kind] for name, kind in kinds.items()}
    schema |= {name: pl.Datetime("us") for name in TIMES}
    if not path.exists() or dict(pl.read_parquet_schema(path)) != schema:
        _write_file(pl.DataFrame(schema=schema), path)


def _write_manifest(manifest: Manifest) -> None:
    _write_text(_manifest_path(manifest.view), json.dumps(asdict(manifest), indent=0) + "\n")


def _write_text(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    aside = path.with_suffix(".part")
    aside.write_text(text)
    aside.replace(path)


def _columns(view: View) -> dict[str, str]:
    """Published columns and their SQL types, in order."""
    features = {name: _SQL_TYPES[kind] for name, kind in view.features.items()}
    return {view.key: "varchar", **features, **dict.fromkeys(TIMES, "timestamp")}


def _batches(rows: dict[str, int]) -> Iterator[list[str]]:
    """Spans with these `rows` in groups of about `_ROWS_PER_READ`, at least one in each."""
    batch: list[str] = []
    total = 0
    for span, count in rows.items():
        if batch and total + count > _ROWS_PER_READ:
            yield batch
            batch, total = [], 0
        batch.append(span)
        total += count
    if batch:
        yield batch


def _table(view: View) -> str:
    return f"{CATALOG}.features.{_quote(view.name)}"


def _view_dir(view: str) -> Path:
    return get_settings().features_dir / view


def _partition_dir(view: str, span: str) -> Path:
    return _view_dir(view) / f"event_date={span}"


def _manifest_path(view: str) -> Path:
    return _view_dir(view) / _MANIFEST


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
