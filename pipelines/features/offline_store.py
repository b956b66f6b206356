"""Feast's DuckDB offline store with a point-in-time join that does not multiply rows.

Stock Feast pairs every entity row with every earlier row of its key before it keeps one: a year of
daily rows is hundreds of pairs for each. With `filter_by_created_timestamp` this store joins keys
and times alone: each key's rows are reduced to the moments at which the visible row changes, and
one ASOF join takes the last before each entity row. Only the rows that were taken are then read in
full. The answer is the same; everything else is Feast's.
"""

from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast.data_format import ParquetFormat
from feast.feature_view import FeatureView
from feast.infra.offline_stores import offline_utils
from feast.infra.offline_stores.duckdb import (
    DuckDBOfflineStore,
    DuckDBOfflineStoreConfig,
    _write_data_source,
)
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.ibis import IbisRetrievalJob
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig

from pipelines.errors import CardlineError
from pipelines.warehouse import scratch

_ROW = "__row"
_KEYS_LOOKED_UP = 1_000
"""For up to so many keys DuckDB reads only the row groups that may have them; for more, all."""

# A row is visible from the later of its event time and its known time. Of the visible rows the one
# with the latest (event time, known time) counts, so a row that becomes visible behind a later
# event, or together with one, never counts; the rest change hands in the order of `visible_at`.
# Keys of one row, the most of many views, need no look at each other. The key is what sorts and
# joins are slow with, and rows are wide: both are left behind as early as can be.
_TAKEN = """
create or replace temp table taken as
with versions as materialized (
    select {keys}, {event} as event_at, {created} as created_at,
        greatest({event}, {created}) as visible_at, {file_row} as file_row
    from read_parquet(?, file_row_number = true)
    where {event} is not null and {created} is not null
        and {is_asked}
),
repeated as (
    select {keys} from versions group by all having count(*) > 1
),
hidden as (
    select file_row from versions
    where ({keys}) in (from repeated)
    window in_order as (partition by {keys} order by visible_at, event_at, created_at)
    qualify visible_at = lead(visible_at) over in_order
        or event_at < max(event_at) over (in_order rows unbounded preceding)
),
visible as (
    select * from versions where file_row not in (from hidden)
)
select e.{row} as row_no, {is_taken} as file_row
from entities as e
asof left join visible as v on {on} and e.{at} >= v.visible_at
"""
_READ = """
select taken.row_no, {columns}
from taken
left join (
    select *,
        (list_extract(?::bigint[], file_index::bigint + 1) << 40) + file_row_number as file_row
    from read_parquet(?, file_row_number = true)
    where {is_asked}
) as rows on taken.file_row = rows.file_row
"""
_FILE_ROW = "(file_index << 40) + file_row_number"
_FILES_TAKEN = "select distinct file_row >> 40 from taken where file_row is not null order by all"
_ATTEMPTS = 5


class AsofDuckDBOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """The options of Feast's DuckDB store."""

    type: str = "pipelines.features.offline_store.AsofDuckDBOfflineStore"


class AsofDuckDBOfflineStore(DuckDBOfflineStore):
    """DuckDB over published Parquet."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **options: Any,
    ) -> RetrievalJob:
        """As Feast's; the fast join where known time counts and the views are plain Parquet."""
        is_plain = all(_is_plain_parquet(view) for view in feature_views)
        if not filter_by_created_timestamp or not isinstance(entity_df, pd.DataFrame) or options:
            is_plain = False
        if not is_plain:
            return DuckDBOfflineStore.get_historical_features(
                config, feature_views, feature_refs, entity_df, registry, project,
                full_feature_names, filter_by_created_timestamp, **options,
            )  # fmt: skip
        joined, at = _join_all(feature_views, feature_refs, entity_df, full_feature_names)
        return _JoinedRows(
            joined,
            OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            full_feature_names,
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[column for column in entity_df.columns if column != at],
                min_event_timestamp=entity_df[at].min().to_pydatetime(),
                max_event_timestamp=entity_df[at].max().to_pydatetime(),
            ),
            data_source_writer=_write_data_source,
            staging_location=None,
            staging_location_endpoint_override=None,
            repo_path=str(config.repo_path),
        )


class _JoinedRows(IbisRetrievalJob):
    """What is joined already, and handed over as it is."""

    def __init__(self, joined: pa.Table, *arguments: Any, **options: Any) -> None:
        super().__init__(ibis.memtable(joined), *arguments, **options)
        self._joined = joined

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._joined


def _is_plain_parquet(view: FeatureView) -> bool:
    source = view.batch_source
    return (
        isinstance(source, FileSource)
        and isinstance(source.file_format, ParquetFormat)
        and "://" not in source.path
        and bool(source.created_timestamp_column)
        and not source.field_mapping
    )


def _join_all(
    views: list[FeatureView], refs: list[str], entity_df: pd.DataFrame, full_names: bool
) -> tuple[pa.Table, str]:
    """`entity_df` with the requested features of every view, and its time column's name."""
    at = offline_utils.infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
    joined = pa.Table.from_pandas(entity_df, preserve_index=False)
    entities = joined.append_column(_ROW, pa.array(range(joined.num_rows), pa.int64()))
    with scratch() as con:
        con.execute(f"set dynamic_or_filter_threshold = {_KEYS_LOOKED_UP}")
        con.register("given", entities)
        con.execute(
            f"create temp table entities as select * replace ("  # noqa: S608
            f'cast("{at}" as timestamp) as "{at}") from given'
        )
        for view in views:
            name = view.projection.name_to_use()
            features = [ref.split(":")[1] for ref in refs if ref.startswith(f"{name}:")]
            if not features:
                continue
            source = view.batch_source
            assert isinstance(source, FileSource)
            is_asked = _is_asked(view)
            taken = _taken(view, source, at, is_asked)
            if entities.num_rows > _KEYS_LOOKED_UP:
                is_asked = "true"  # No file would be read less, and the keys are slow to compare.
            table = _read(con, taken, features, source.path, is_asked)
            for feature in features:
                column = f"{name}__{feature}" if full_names else feature
                joined = joined.append_column(column, table[feature])
    return joined, at


def _read(con: Any, taken: str, features: list[str], path: str, is_asked: str) -> pa.Table:
    """The features of the rows that `taken` chooses among those that the filter `is_asked` lets by,
    in the order of the entities.

    Rows are found again by their place in their file: files that are published meanwhile are read
    anew. Raises `CardlineError` where that does not end.
    """
    columns = ", ".join(f"rows.{_quote(feature)}" for feature in features)
    for _ in range(_ATTEMPTS):
        files = _files(path)
        con.execute(taken, [list(files)])
        read = _READ.format(columns=columns, is_asked=is_asked)
        # Files of which nothing was taken are left out; one stays, for its columns.
        places = [place for (place,) in con.execute(_FILES_TAKEN).fetchall()] or [0]
        some = [list(files)[place] for place in places]
        table = con.execute(read, [places, some]).to_arrow_table()
        if _files(path) == files:
            return table.take(pc.sort_indices(table["row_no"]))  # pyright: ignore
    raise CardlineError(f"{path} is being published all the time: try again")


def _files(path: str) -> dict[str, tuple[int, int]]:
    """The files of a glob, and what changes when one is replaced."""
    anchor = Path(path).anchor
    states = {str(f): f.stat() for f in sorted(Path(anchor).glob(path.removeprefix(anchor)))}
    return {file: (state.st_ino, state.st_mtime_ns) for file, state in states.items()}


def _keys(view: FeatureView) -> dict[str, str]:
    """A view's key columns, and what the entities call them."""
    return view.projection.join_key_map or {c.name: c.name for c in view.entity_columns}


def _is_asked(view: FeatureView) -> str:
    """A filter on a view's rows: their keys are among those of the entities."""
    keys = _keys(view)
    theirs, ours = (", ".join(map(_quote, names)) for names in (keys, keys.values()))
    return f"({theirs}) in (select {ours} from entities)"  # noqa: S608


def _taken(view: FeatureView, source: FileSource, at: str, is_asked: str) -> str:
    """The join of one view's keys and times. Names come from the declarations and are quoted: no
    parameter can stand for a name."""
    keys = _keys(view)
    is_taken = "v.file_row"
    if view.ttl:
        milliseconds = round(view.ttl.total_seconds() * 1000)
        is_young = f"v.event_at + to_milliseconds({milliseconds}) >= e.{_quote(at)}"
        is_taken = f"case when {is_young} then v.file_row end"
    return _TAKEN.format(
        keys=", ".join(_quote(key) for key in keys),
        is_asked=is_asked,
        event=_quote(source.timestamp_field),
        created=_quote(source.created_timestamp_column),
        file_row=_FILE_ROW,
        is_taken=is_taken,
        on=" and ".join(f"e.{_quote(mine)} = v.{_quote(key)}" for key, mine in keys.items()),
        at=_quote(at),
        row=_quote(_ROW),
    )


def _quote(name: str | None) -> str:
    return '"' + str(name).replace('"', '""') + '"'
