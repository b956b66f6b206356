"""The online store brought to what is known by a moment.

A window of known time, with an overlap for rows that arrived late, and besides every span that was
published anew since the last time, however old. The stores keep, per view, how far this has gone;
they turn away rows that are older than what they have, so any window can be run again. Keys of
which a published row was taken back are the one exception: they are written as they are now.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import polars as pl

from pipelines.errors import CardlineError
from pipelines.features.encoding import encode_frame, encode_keys
from pipelines.features.publish import (
    POLARS_TYPES,
    TIMES,
    Manifest,
    partition_files,
    read_manifest,
    retracted_keys,
)
from pipelines.features.registry import View, feature_store, load_definitions
from pipelines.progress import track
from pipelines.warehouse import scratch

if TYPE_CHECKING:
    from feast import FeatureStore

OVERLAP = timedelta(days=1)
_ROWS_PER_WRITE = 50_000


@dataclass(frozen=True)
class Mark:
    """How far a view is materialised: the publication and the moment, and with which columns."""

    publication: int
    known_through: datetime
    columns: dict[str, str]


@dataclass(frozen=True)
class Materialized:
    """The outcome for one view: latest rows looked at, and those that the store took."""

    view: str
    rows: int
    written: int
    known_through: datetime


def materialize(
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    overlap: timedelta = OVERLAP,
    views: Iterable[str] | None = None,
    is_full: bool = False,
) -> list[Materialized]:
    """Write to the online store what became known in (`start` - `overlap`, `end`], UTC.

    Per entity the row with the latest (event_timestamp, created_timestamp) among those visible by
    `end` counts. `start` defaults to where the last run ended and `end` to now; an `end` before
    that moves nothing back. `is_full` empties the views first and loads them whole. Raises
    `CardlineError` for a view that is unknown or not published.
    """
    store = feature_store()
    declared = load_definitions().views
    wanted = sorted(declared) if views is None else list(views)
    unknown = [name for name in wanted if name not in declared]
    if unknown:
        raise CardlineError(f"there is no feature view {unknown[0]}; there are {sorted(declared)}")
    moment = _naive(end) if end else datetime.now(UTC).replace(tzinfo=None)
    return [
        _materialize_view(
            store,
            declared[name],
            start=_naive(start),
            end=moment,
            overlap=overlap,
            is_full=is_full,
        )
        for name in track(wanted, "writing the online store")
    ]


def materialized_through(view: str) -> datetime | None:
    """The moment (UTC) that a view's online rows are as of; None before the first run."""
    mark = read_mark(feature_store(), view)
    return None if mark is None else mark.known_through


def require_materialized(views: Iterable[str]) -> dict[str, datetime]:
    """`materialized_through` of each; raises `CardlineError` for one that never was: an empty store
    would say that nobody is known."""
    through: dict[str, datetime] = {}
    for view in views:
        moment = materialized_through(view)
        if moment is None:
            raise CardlineError(
                f"features.{view} is not in the online store: run `cardline run` first"
            )
        through[view] = moment
    return through


def batches_alone() -> AbstractContextManager[None]:
    """Reads through Feast tell what was materialised, and nothing of what was pushed."""
    return _online(feature_store()).without_pushes()


def online_event_times(view: str, keys: list[str]) -> list[datetime | None]:
    """The event time (UTC) of what the batches wrote online of each key; None where nothing is."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    store, key = feature_store(), load_definitions().views[view].key
    messages = [EntityKey(join_keys=[key], entity_values=[Value(string_val=k)]) for k in keys]
    with batches_alone():
        found = _online(store).online_read(store.config, store.get_feature_view(view), messages, [])
    return [_naive(at) for at, _ in found]


def read_mark(store: "FeatureStore", view: str) -> Mark | None:
    """How far `view` is materialised in the online store of this home."""
    text = _online(store).read_mark(store.config, store.get_feature_view(view))
    return None if text is None else parse_mark(text)


@lru_cache(maxsize=64)
def parse_mark(text: str) -> Mark:
    """A mark as the stores keep it."""
    raw = json.loads(text)
    through = datetime.fromisoformat(raw["known_through"])
    return Mark(raw["publication"], through, raw["columns"])


def _materialize_view(
    store: "FeatureStore",
    view: View,
    *,
    start: datetime | None,
    end: datetime,
    overlap: timedelta,
    is_full: bool,
) -> Materialized:
    online, table = _online(store), store.get_feature_view(view.name)
    manifest = read_manifest(view.name)
    mark = None if is_full else read_mark(store, view.name)
    if mark is None or mark.columns != view.features:
        # Rows that are packed otherwise cannot be read, nor compared with: load everything.
        online.clear(store.config, table)
        mark = None
    if mark is None:
        since, through = datetime.min, end
    else:
        since = mark.known_through if start is None else min(start, mark.known_through)
        since = since - overlap if since - datetime.min > overlap else datetime.min
        through = max(end, mark.known_through)
    spans = _due_spans(manifest, mark, since, through)
    rows = written = 0
    for part in _latest_parts(view, spans, through):
        rows += part.height
        written += online.write_rows(store.config, table, encode_frame(view, part))
    if mark is not None:
        written += _repair(store, view, manifest, mark, through)
    done = {
        "publication": manifest.publication,
        "known_through": through.isoformat(),
        "columns": view.features,
    }
    online.write_mark(store.config, table, json.dumps(done))
    return Materialized(view.name, rows, written, through)


def _repair(
    store: "FeatureStore", view: View, manifest: Manifest, mark: Mark, through: datetime
) -> int:
    """Bring back keys of which a row was taken back: the guard would keep that row for good."""
    keys = retracted_keys(view.name, mark.publication)
    if not keys:
        return 0
    online, table = _online(store), store.get_feature_view(view.name)
    frame = latest_rows(view, list(manifest.partitions), through, keys)
    online.write_rows(store.config, table, encode_frame(view, frame), is_forced=True)
    left = set(frame[view.key].to_list())
    lost = pl.Series(view.key, [key for key in keys if key not in left], pl.String)
    online.delete_keys(store.config, table, encode_keys(view.key, lost))
    return frame.height


def _due_spans(
    manifest: Manifest, mark: Mark | None, since: datetime, through: datetime
) -> list[str]:
    """Spans with rows that became visible in the window, or that were published since the mark."""
    publication = -1 if mark is None else mark.publication
    return [
        span
        for span, part in manifest.partitions.items()
        if datetime.fromisoformat(part.known_from) <= through
        and (part.publication > publication or datetime.fromisoformat(part.known_to) > since)
    ]


def latest_rows(
    view: View, spans: list[str], through: datetime, keys: list[str] | None = None
) -> pl.DataFrame:
    """The latest row per key, by (event_timestamp, created_timestamp), visible by `through`.

    From the published files of `spans`; `keys` limits it to these.
    """
    kinds = {view.key: "STRING", **view.features}
    schema = {name: POLARS_TYPES[kind] for name, kind in kinds.items()}
    empty = pl.DataFrame(schema=schema | dict.fromkeys(TIMES, pl.Datetime("us")))
    return pl.concat([empty, *_latest_parts(view, spans, through, keys)])


def _latest_parts(
    view: View, spans: list[str], through: datetime, keys: list[str] | None = None
) -> Iterator[pl.DataFrame]:
    """`latest_rows` a part at a time, in order of their keys: never all of them in memory."""
    if not spans:
        return
    key = '"' + view.key + '"'
    columns = ", ".join(f'"{name}"' for name in (view.key, *view.features, *TIMES))
    files = [str(path) for path in partition_files(view.name, spans)]
    with scratch() as con:
        con.execute("set streaming_buffer_size = '1MB'")
        found = con.execute(
            f"select {columns} from read_parquet(?, hive_partitioning = false) "  # noqa: S608
            f"where greatest(event_timestamp, created_timestamp) <= ?::timestamp "
            f"and (?::varchar[] is null or {key} in (select unnest(?::varchar[]))) "
            f"qualify row_number() over (partition by {key} "
            f"order by event_timestamp desc, created_timestamp desc) = 1 order by {key}",
            [files, through, keys, keys],
        )
        for batch in found.to_arrow_reader(_ROWS_PER_WRITE):
            part = pl.from_arrow(batch)
            assert isinstance(part, pl.DataFrame)
            yield part


def _online(store: "FeatureStore") -> Any:
    """The guarded store (`sqlite_store`, `redis_store`) behind Feast's provider."""
    return store._get_provider().online_store


def _naive(at: datetime | None) -> Any:
    """A time as UTC without zone, which is how it is stored everywhere."""
    if at is None or at.tzinfo is None:
        return at
    return at.astimezone(UTC).replace(tzinfo=None)
