"""Online = offline: the same entity gives the same vector from both, every feature of it.

What the batches have written to the online store is as of the moment that it was materialised
through, so the same entities are asked for point-in-time at that moment. What was pushed since is
left out.
"""

import json
import math
import random
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from pipelines.errors import CardlineError
from pipelines.features.materialize import (
    batches_alone,
    latest_rows,
    online_event_times,
    require_materialized,
)
from pipelines.features.publish import partition_files, read_manifest
from pipelines.features.registry import load_definitions
from pipelines.features.requests import EVENT_AT, TIMES, made_key, parts_of, time_text
from pipelines.features.retrieval import (
    POLARS_TYPES,
    TIME,
    Service,
    historical,
    online,
    service_definition,
    service_names,
)

MISMATCHES = pl.Schema(
    {
        "service": pl.String,
        "view": pl.String,
        "entity": pl.String,
        "feature": pl.String,
        "offline": pl.String,
        "online": pl.String,
        "reason": pl.String,
        "offline_event_time": pl.Datetime("us"),
        "online_event_time": pl.Datetime("us"),
    }
)
COMPARED = pl.Schema(
    {
        "service": pl.String,
        "entities": pl.Int64,
        "features": pl.Int64,
        "mismatches": pl.Int64,
        "known_through": pl.Datetime("us"),
    }
)
_PYTHON_TYPES = {"INT64": int, "DOUBLE": float, "STRING": str, "BOOL": bool}
_UNKNOWN_KEY = "no-such-entity"
_PLACES = 5


@dataclass(frozen=True)
class Comparison:
    """What was compared, a row per service (`COMPARED`), and what differs (`MISMATCHES`)."""

    compared: pl.DataFrame
    mismatches: pl.DataFrame


def parity(sample: int = 100, *, services: list[str] | None = None, seed: int = 0) -> pl.DataFrame:
    """The mismatches of `compare`; an empty frame is parity."""
    return compare(sample, services=services, seed=seed).mismatches


def compare(sample: int = 100, *, services: list[str] | None = None, seed: int = 0) -> Comparison:
    """Features whose online and point-in-time values differ, and why.

    Looks at up to `sample` entities of every view of `services` (default: all), at one that
    nothing is known about, one without keys, and request values with some missing. A value differs
    if it is another number, null on one side only, or not of its declared type. A mismatch has
    `entity` (JSON of keys and request values), both values with their types, and the event times
    (UTC) of the rows that they come from, null where there is none or the value is worked out at
    the request. Raises `CardlineError` before the first materialisation.
    """
    compared: list[dict[str, Any]] = []
    mismatches: list[dict[str, Any]] = []
    for name in services or service_names():
        service = service_definition(name)
        moment = _materialized_through(service)
        rows = _sample_rows(service, sample, seed, moment)
        found = _mismatches(service, rows, moment)
        mismatches += found
        compared.append(
            {
                "service": name,
                "entities": len(rows),
                "features": len(service.features),
                "mismatches": len(found),
                "known_through": moment,
            }
        )
    return Comparison(
        pl.DataFrame(compared, schema=COMPARED), pl.DataFrame(mismatches, schema=MISMATCHES)
    )


def _mismatches(
    service: Service, rows: list[dict[str, Any]], moment: datetime
) -> list[dict[str, Any]]:
    kinds = dict.fromkeys(service.keys, "STRING") | service.request
    given = pl.DataFrame(rows, schema={name: POLARS_TYPES[kind] for name, kind in kinds.items()})
    offline = historical(
        service.name, given.with_columns(pl.lit(moment, pl.Datetime("us")).alias(TIME))
    )
    with batches_alone():
        served = online(service.name, rows)
    differing = [
        (row, feature, live[feature], stored[feature])
        for row, live, stored in zip(rows, served, offline.to_dicts(), strict=True)
        for feature, kind in service.features.items()
        if not _is_same(live[feature], stored[feature], _PYTHON_TYPES[kind])
    ]
    if not differing:
        return []
    origins = _origins(service)
    times = _event_times(
        {
            (origins[feature], key)
            for row, feature, *_ in differing
            if (key := _key_of(service, origins[feature], row))
        },
        moment,
    )
    found: list[dict[str, Any]] = []
    for row, feature, live, stored in differing:
        view = origins[feature]
        offline_at, online_at = times.get((view, _key_of(service, view, row)), (None, None))
        found.append(
            {
                "service": service.name,
                "view": view,
                "entity": json.dumps(row, sort_keys=True),
                "feature": feature,
                "offline": _shown(stored),
                "online": _shown(live),
                "reason": _reason(service, view, offline_at, online_at),
                "offline_event_time": offline_at,
                "online_event_time": online_at,
            }
        )
    return found


def _origins(service: Service) -> dict[str, str]:
    """The view, stored or on demand, of each feature of a service."""
    stored = {
        feature: view for view, _, feature in (name.partition(":") for name in service.stored)
    }
    return stored | {name: item.name for item in service.on_demand for name in item.outputs}


def _key_of(service: Service, view: str, row: Mapping[str, Any]) -> str | None:
    """The key under which a stored view has `row`; None of an on-demand view or without a key."""
    stored = load_definitions().views.get(view)
    if stored is None:
        return None
    return made_key([row.get(part) for part in service.made_of.get(stored.key, (stored.key,))])


def _event_times(
    asked: set[tuple[str, str]], moment: datetime
) -> dict[tuple[str, str | None], tuple[datetime | None, datetime | None]]:
    """Event times of the offline and the online row of each (view, key); None where there is none.

    Only of what differs: parity itself needs none of them.
    """
    views = load_definitions().views
    times: dict[tuple[str, str | None], tuple[datetime | None, datetime | None]] = {}
    for view in {view for view, _ in asked}:
        keys = sorted(key for name, key in asked if name == view)
        spans = list(read_manifest(view).partitions)
        offline = latest_rows(views[view], spans, moment, keys)
        known = dict(zip(offline[views[view].key], offline[TIME], strict=True))
        for key, at in zip(keys, online_event_times(view, keys), strict=True):
            times[view, key] = (known.get(key), at)
    return times


def _reason(
    service: Service, view: str, offline_at: datetime | None, online_at: datetime | None
) -> str:
    for item in service.on_demand:
        if item.name == view:
            sources = dict.fromkeys(source for source, _ in item.sources)
            return f"worked out at the request from {', '.join(sources)}"
    if online_at is None:
        return "no row online" if offline_at else "no row on either side"
    if offline_at is None:
        return "no row offline"
    if online_at > offline_at:
        return "the online row is newer than what was published"
    if online_at < offline_at:
        return "the online row is older: the newest was not written"
    return "another value of the same row"


def _is_same(live: Any, stored: Any, kind: type) -> bool:
    if live is None or stored is None:
        return live is None and stored is None
    if type(live) is not kind or type(stored) is not kind:
        return False
    is_nan = kind is float and math.isnan(live) and math.isnan(stored)
    return live == stored or is_nan


def _shown(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__} {value!r}"


def _materialized_through(service: Service) -> datetime:
    """The moment that the service's online rows are as of; one for all of its views."""
    moments = require_materialized(service.views)
    if len(set(moments.values())) > 1:
        shown = ", ".join(f"{view} {moment}" for view, moment in moments.items())
        raise CardlineError(
            f"{service.name}: its views are materialised through different moments ({shown}); "
            "materialise them together"
        )
    return next(iter(moments.values()))


def _sample_rows(
    service: Service, sample: int, seed: int, moment: datetime
) -> list[dict[str, Any]]:
    """Combinations of keys that exist, one that does not, and one without any."""
    choose = random.Random(seed)
    views = load_definitions().views
    known: dict[str, list[str]] = {key: [] for key in [*service.keys, *service.made_of]}
    for view in service.views:
        key = views[view].key
        sampled = _sample_keys(view, key, sample, seed, known[key])
        known[key] = sorted({*known[key], *sampled})
    rows: list[dict[str, Any]] = []
    for number in range(max((len(keys) for keys in known.values()), default=0)):
        row = _request_values(service, choose, moment)
        for key, keys in known.items():
            parts = service.made_of.get(key, (key,))
            if not keys:
                row |= dict.fromkeys(parts)
            # Of pairs every other row: the keys of their own that they are made of get a turn, too.
            elif len(parts) == 1 or number % 2:
                row |= zip(parts, parts_of(keys[number % len(keys)], len(parts)), strict=True)
        rows.append(row)
    unknown = dict.fromkeys(service.keys, _UNKNOWN_KEY)
    rows.append(_request_values(service, choose, moment) | unknown)
    rows.append(dict.fromkeys([*service.keys, *service.request]) | _when(service, moment))
    return rows


def _when(service: Service, at: datetime) -> dict[str, Any]:
    return {EVENT_AT: time_text(at)} if EVENT_AT in service.request else {}


def _request_values(service: Service, choose: random.Random, moment: datetime) -> dict[str, Any]:
    """Request values within what each means; one in ten is missing, but for the time."""
    bounds = {"event_hour": (0, 23), "event_weekday": (1, 7)}
    makers: dict[str, Callable[[str], Any]] = {
        "INT64": lambda name: choose.randint(*bounds.get(name, (0, 10_000_000))),
        "DOUBLE": lambda name: choose.uniform(-90, 90),
        "BOOL": lambda name: choose.random() < 0.5,
        "STRING": lambda name: _UNKNOWN_KEY,
    }
    values = {
        name: None if choose.random() < 0.1 else makers[kind](name)
        for name, kind in service.request.items()
        if name not in TIMES
    }
    return values | _when(service, moment + timedelta(seconds=choose.randint(0, 100_000)))


def _sample_keys(view: str, key: str, sample: int, seed: int, near: list[str]) -> list[str]:
    """Up to `sample` keys of a view: neighbours in each of up to `_PLACES` of its spans, near those
    of other views (`near`) where there are any.

    Files are sorted by key: where neighbours are, the rest of a file need not be read.
    """
    spans = sorted(read_manifest(view).partitions)
    choose = random.Random(seed)
    chosen = choose.sample(spans, min(len(spans), sample, _PLACES))
    found: set[str] = set()
    for path in partition_files(view, sorted(chosen)):
        with pq.ParquetFile(path) as file:
            number = choose.randrange(file.num_row_groups)
            anchor = choose.choice(near) if near else ""
            if near:
                column = file.schema_arrow.get_field_index(key)
                groups = [file.metadata.row_group(n) for n in range(file.num_row_groups)]
                maxima = [group.column(column).statistics.max for group in groups]
                number = min(bisect_left(maxima, anchor), len(maxima) - 1)
            group = file.read_row_group(number, [key])
        keys = sorted(group[key].unique().to_pylist())
        count = min(len(keys), math.ceil(sample / len(chosen)))
        last = len(keys) - count
        first = min(bisect_left(keys, anchor), last) if near else choose.randint(0, last)
        found.update(keys[first : first + count])
    return sorted(found)[:sample]
