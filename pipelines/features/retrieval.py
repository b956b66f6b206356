"""The one way to read features: point-in-time for training, online for decisions.

Both give the same features under the same names and types; `pipelines.features.parity` holds them
to it. A key that is missing, or that nothing is known about, gives nulls; so does an on-demand
feature whose request value is missing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import polars as pl

from pipelines.errors import CardlineError
from pipelines.features.materialize import materialized_through
from pipelines.features.publish import POLARS_TYPES, is_published
from pipelines.features.registry import feature_store, load_definitions
from pipelines.features.requests import (
    EVENT_AT,
    KNOWN_AT,
    TIMES,
    OnDemand,
    is_amount,
    made_key,
    made_keys,
    now,
    on_demand,
    parsed_time,
    refuse_negative,
)
from pipelines.settings import get_settings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from feast.online_response import OnlineResponse

TIME = "event_timestamp"
_ROW = "__row_no"
# Each join reads the whole history of the views that it asks.
_ROWS_PER_JOIN = 2_000_000
# On-demand functions get every column as Python objects: this many rows take about a gigabyte.
_ROWS_PER_FUNCTION = 250_000
# No entity has an empty id (publishing refuses it), so this key finds nothing.
_NO_KEY = ""


@dataclass(frozen=True)
class Service:
    """A feature service: what it takes and what it gives, in order.

    `keys` are join keys (strings), `made_of` those besides that are made of keys and request
    values; `request` and `features` map names to Feast value type names. `stored` are the columns
    to be read, as `view:feature`, and `on_demand` the functions of them and of the request.
    """

    name: str
    keys: tuple[str, ...]
    made_of: dict[str, tuple[str, ...]]
    request: dict[str, str]
    features: dict[str, str]
    views: tuple[str, ...]
    stored: tuple[str, ...]
    on_demand: tuple[OnDemand, ...]


def service_definition(service: str) -> Service:
    """What `service` takes and gives. Raises `CardlineError` for an unknown one."""
    return _services()[service] if service in _services() else _unknown(service)


def service_names() -> list[str]:
    """Every declared feature service."""
    return sorted(_services())


def feature_names(service: str) -> list[str]:
    """The features of `service` in the order in which they are returned."""
    return list(service_definition(service).features)


def historical(service: str, entities: "pl.DataFrame | pa.Table") -> pl.DataFrame:
    """`entities` with the features of `service` as they were known at each row's time.

    `entities` has `event_timestamp` (UTC, never null), any of the service's keys and request
    columns, and whatever else should be kept; absent ones count as null. Rows stay in order, one
    for one, and features follow in `feature_names` order with their declared types. A row sees
    what had happened and was known at its `event_timestamp`, to the microsecond, both inclusive;
    with a column `known_at`, what an online store materialised through then would have answered at
    `event_timestamp`. Raises `CardlineError` where a column is missing, has a feature's name or
    cannot be converted.
    """
    wanted = service_definition(service)
    frame = entities if isinstance(entities, pl.DataFrame) else _from_arrow(entities)
    times = _times(frame)
    clashes = sorted(set(frame.columns) & set(wanted.features))
    if clashes:
        raise CardlineError(
            f"historical({service}): the entity rows already have {', '.join(clashes)}; "
            "drop or rename these columns"
        )
    if frame.is_empty():
        empty = {name: POLARS_TYPES[kind] for name, kind in wanted.features.items()}
        return frame.hstack(pl.DataFrame(schema=empty))
    request_times = {
        name: _request_times(frame, name, times) for name in TIMES if name in wanted.request
    }
    given = _inputs(wanted, frame, request_times)
    known_times = request_times.get(KNOWN_AT, times)
    store = feature_store()
    _require_published(wanted)
    asked = given.select(*wanted.keys, *wanted.made_of).with_columns(
        known_times.alias(TIME), pl.Series(_ROW, range(frame.height))
    )
    parts = []
    for part, inputs in zip(
        asked.iter_slices(_ROWS_PER_JOIN), given.iter_slices(_ROWS_PER_JOIN), strict=True
    ):
        job = store.get_historical_features(
            entity_df=_to_pandas(part),
            features=list(wanted.stored),
            filter_by_created_timestamp=True,
        )
        stored = _from_arrow(job.to_arrow())
        if not stored[_ROW].is_sorted():
            stored = stored.sort(_ROW)
        parts += [
            _with_on_demand(wanted, some, its).select(list(wanted.features))
            for some, its in zip(
                stored.iter_slices(_ROWS_PER_FUNCTION),
                inputs.iter_slices(_ROWS_PER_FUNCTION),
                strict=True,
            )
        ]
    found = pl.concat(parts, how="vertical_relaxed")
    return frame.hstack([_typed(found[name], kind) for name, kind in wanted.features.items()])


def _with_on_demand(wanted: Service, stored: pl.DataFrame, given: pl.DataFrame) -> pl.DataFrame:
    """`stored` with what the service's functions make of it and of the request."""
    columns: dict[str, list[Any]] = {}
    for item in wanted.on_demand:
        for name in item.inputs:
            if name not in columns:
                columns[name] = (given if name in item.request else stored)[name].to_list()
        answer = item.function({name: columns[name] for name in item.inputs})
        stored = stored.with_columns(
            pl.Series(name, answer[name], POLARS_TYPES[kind]) for name, kind in item.outputs.items()
        )
    return stored


def online(service: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The features of `service` as last materialised, one dictionary for each of `rows`.

    A row maps the service's keys and request names to values; others are ignored and absent ones
    count as null. Values are `int`, `float`, `str`, `bool` or `None`.
    """
    wanted = service_definition(service)
    given = list(rows)
    if not given:
        return []
    answer = _ask(wanted, given).to_dict()
    columns = [answer[name] for name in wanted.features]
    return [
        dict(zip(wanted.features, values, strict=True)) for values in zip(*columns, strict=True)
    ]


def feature_vector(
    service: str, entity: Mapping[str, Any], at: datetime | None = None
) -> dict[str, Any]:
    """One vector with where it comes from, ready for JSON.

    `entity` maps keys and request names to values, which may be text. Without `at` it is read
    online; with it, point-in-time (a time without zone is UTC). Returns `service`, `at`,
    `features`, `statuses` (`PRESENT`, `NULL`, `NOT_FOUND`: the online store has no such entity) and
    `event_timestamps` (ISO, online only; null where not known and for on-demand features).
    Raises `CardlineError` for a name that the service does not take.
    """
    wanted = service_definition(service)
    strangers = entity.keys() - {*wanted.keys, *wanted.request}
    if strangers:
        raise _not_taken(wanted, strangers)
    _require_published(wanted)
    if at is not None:
        moment = at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)
        frame = pl.DataFrame(
            [
                pl.Series(TIME, [moment], pl.Datetime("us")),
                *(
                    pl.Series(name, [None if value is None else str(value)], pl.String)
                    for name, value in entity.items()
                ),
            ]
        )
        values = historical(service, frame).select(list(wanted.features)).row(0, named=True)
        statuses = {name: "NULL" if v is None else "PRESENT" for name, v in values.items()}
        times = dict.fromkeys(values)
        return _vector(service, moment.isoformat() + "Z", values, statuses, times)
    from pipelines.features.materialize import require_materialized

    require_materialized(wanted.views)
    return _vector(service, None, *_with_statuses(wanted, _ask(wanted, [entity])))


def _vector(service: str, at: str | None, values: Any, statuses: Any, times: Any) -> dict[str, Any]:
    return {
        "service": service,
        "at": at,
        "features": values,
        "statuses": statuses,
        "event_timestamps": times,
    }


def _with_statuses(
    wanted: Service, response: "OnlineResponse"
) -> tuple[dict[str, Any], dict[str, str], dict[str, str | None]]:
    """Values, statuses and event times of a response of one row."""
    from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

    values = {name: column[0] for name, column in response.to_dict().items()}
    statuses: dict[str, str] = {}
    times: dict[str, str | None] = {}
    for name, vector in zip(
        response.proto.metadata.feature_names.val, response.proto.results, strict=True
    ):
        is_found = vector.statuses[0] != FieldStatus.NOT_FOUND
        present = "NULL" if values[name] is None else "PRESENT"
        statuses[name] = present if is_found else "NOT_FOUND"
        stamp = vector.event_timestamps[0]
        times[name] = stamp.ToJsonString() if stamp.seconds else None
    order = list(wanted.features)
    return (
        {name: values[name] for name in order},
        {name: statuses[name] for name in order},
        {name: times[name] for name in order},
    )


def complete_columns(service: str, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """What Feast needs for an online request: every key and request column of `service`, typed.

    `columns` are of equal length; absent ones and nulls become what finds nothing, times now and
    what the store is as of. Columns that the service does not take are dropped, unless a key is
    absent: then it was meant. Raises
    `CardlineError` on that, on unequal lengths and on a value that is not of its column's type.
    """
    wanted = service_definition(service)
    strangers = columns.keys() - {*wanted.keys, *wanted.request}
    if strangers and not set(wanted.keys) <= columns.keys():
        raise _not_taken(wanted, strangers)
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise CardlineError(f"{service}: the columns of a request differ in length: {lengths}")
    size = lengths.pop() if lengths else 0
    if not size:
        raise CardlineError(f"{service}: the request has no rows")
    frame = pl.DataFrame(
        [
            pl.Series(name, list(columns.get(name, [None] * size)), strict=False)
            for name in [*wanted.keys, *wanted.request]
        ]
    )
    defaults = {EVENT_AT: now, KNOWN_AT: lambda: _known_through(wanted)}
    times = {
        name: _request_times(frame, name, pl.Series([at()] * size, dtype=pl.Datetime("us")))
        for name, at in defaults.items()
        if name in wanted.request
    }
    given = _inputs(wanted, frame, times)
    keys = [*wanted.keys, *wanted.made_of]
    completed = {key: given[key].fill_null(_NO_KEY).to_list() for key in keys}
    return completed | {name: given[name].to_list() for name in wanted.request}


def _known_through(wanted: Service) -> datetime | None:
    """What the online store is as of for a service; None before its first load."""
    moments = [materialized_through(view) for view in wanted.views]
    known = [moment for moment in moments if moment is not None]
    return min(known) if len(known) == len(moments) else None


def _ask(wanted: Service, rows: list[Mapping[str, Any]]) -> "OnlineResponse":
    store = feature_store()
    names = [*wanted.keys, *wanted.request]
    columns = {name: [row.get(name) for row in rows] for name in names}
    return store.get_online_features(
        features=store.get_feature_service(wanted.name, allow_cache=True),
        entity_rows=complete_columns(wanted.name, columns),
    )


def _services() -> dict[str, Service]:
    return _describe_services(load_definitions())


@lru_cache(maxsize=4)
def _describe_services(definitions: Any) -> dict[str, Service]:
    from feast import FeatureService, OnDemandFeatureView

    functions = {
        item.name: on_demand(item)
        for item in definitions.objects
        if isinstance(item, OnDemandFeatureView)
    }
    described: dict[str, Service] = {}
    for item in definitions.objects:
        if not isinstance(item, FeatureService):
            continue
        columns = [
            (projection.name, field.name, field.dtype.to_value_type().name)
            for projection in item.feature_view_projections
            for field in projection.features
        ]
        asked = [
            functions[name] for name in dict.fromkeys(v for v, *_ in columns) if name in functions
        ]
        stored = [(view, feature) for view, feature, _ in columns if view not in functions]
        stored += [source for function in asked for source in function.sources]
        request = {name: kind for function in asked for name, kind in function.request.items()}
        views = dict.fromkeys(view for view, _ in stored)
        keys = tuple(dict.fromkeys(definitions.views[view].key for view in views))
        made = made_keys(keys, request, definitions.made_of)
        described[item.name] = Service(
            name=item.name,
            keys=tuple(key for key in keys if key not in made),
            made_of=made,
            request=request,
            features={feature: kind for _, feature, kind in columns},
            views=tuple(views),
            stored=tuple(dict.fromkeys(f"{view}:{feature}" for view, feature in stored)),
            on_demand=tuple(asked),
        )
    return described


def _unknown(service: str) -> Service:
    raise CardlineError(
        f"there is no feature service {service}; there are {', '.join(service_names())}"
    )


def _not_taken(wanted: Service, names: Iterable[str]) -> CardlineError:
    return CardlineError(
        f"{wanted.name} does not take {', '.join(sorted(names))}; it takes "
        f"{', '.join([*wanted.keys, *wanted.request])}"
    )


def require_anything_published() -> None:
    """Raise `CardlineError` where no feature table of this home has been published yet."""
    if not any(is_published(view) for view in load_definitions().views):
        raise CardlineError(
            f"no features have been published in {get_settings().home}: run `cardline run` first, "
            "or set CARDLINE_HOME to a home that has them"
        )


def _require_published(wanted: Service) -> None:
    missing = [view for view in wanted.views if not is_published(view)]
    if missing:
        raise CardlineError(
            f"features.{missing[0]} has not been published in this home: run `cardline run` first"
        )


def _times(frame: pl.DataFrame) -> pl.Series:
    if TIME not in frame.columns:
        raise CardlineError(f"entity rows need a column {TIME} (UTC)")
    times = frame[TIME]
    if not times.dtype.is_temporal():
        raise CardlineError(f"{TIME} is {times.dtype}, not a timestamp")
    if times.null_count():
        raise CardlineError(f"{TIME} is null in {times.null_count()} entity rows")
    return _as_utc(times)


def _as_utc(times: pl.Series) -> pl.Series:
    if isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone is not None:
        times = times.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return times.cast(pl.Datetime("us"))


def _request_times(frame: pl.DataFrame, name: str, default: pl.Series) -> pl.Series:
    """A time of the request, which may be text; `default` where it is absent or null."""
    if name not in frame.columns or frame[name].dtype == pl.Null:
        return default.alias(name)
    times = frame[name]
    if times.dtype == pl.String:
        parsed = [None if text is None else parsed_time(name, text) for text in times]
        times = pl.Series(name, parsed, pl.Datetime("us"))
    elif not times.dtype.is_temporal():
        raise CardlineError(f"{name} is {times.dtype}, not a time")
    return _as_utc(times).zip_with(times.is_not_null(), default)


def _inputs(
    wanted: Service, frame: pl.DataFrame, times: Mapping[str, pl.Series] | None = None
) -> pl.DataFrame:
    """The keys and request columns of `wanted`, typed, those in `times` from there; absent ones are
    null."""
    kinds = dict.fromkeys(wanted.keys, "STRING") | wanted.request
    columns: dict[str, pl.Series] = {}
    for name, kind in kinds.items():
        if times and name in times:
            columns[name] = times[name].dt.strftime("%Y-%m-%dT%H:%M:%S%.6f").alias(name)
        elif name not in frame.columns:
            columns[name] = pl.Series(name, [None] * frame.height, dtype=POLARS_TYPES[kind])
        else:
            try:
                columns[name] = _typed(frame[name], kind)
            except pl.exceptions.PolarsError as error:
                raise CardlineError(
                    f"{wanted.name}: {name} is not {kind.lower()} throughout"
                ) from error
        if is_amount(name):
            refuse_negative(name, columns[name].min())  # pyright: ignore[reportArgumentType]
    for key, parts in wanted.made_of.items():
        rows = zip(*(columns[part] for part in parts), strict=True)
        columns[key] = pl.Series(key, [made_key(row) for row in rows], pl.String)
    return pl.DataFrame(list(columns.values()))


def _typed(values: pl.Series, kind: str) -> pl.Series:
    if kind == "BOOL" and values.dtype == pl.String:
        return values.str.to_lowercase().replace_strict(
            {"true": True, "false": False}, return_dtype=pl.Boolean
        )
    return values.cast(POLARS_TYPES[kind], strict=True)


def _to_pandas(frame: pl.DataFrame) -> "pd.DataFrame":
    """For Feast: Arrow's types, since plain pandas turns integers with nulls into floats; but its
    own for times, which Feast looks for."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for series in frame:
        if isinstance(series.dtype, pl.Datetime):
            columns[series.name] = pd.Series(series.to_numpy()).dt.tz_localize("UTC")
        else:
            columns[series.name] = pd.Series(pd.arrays.ArrowExtensionArray(series.to_arrow()))
    return pd.DataFrame(columns)


def _from_arrow(table: "pa.Table") -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
