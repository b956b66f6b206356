"""Online = offline: the same entity gives the same vector from both, every feature of it.

What the batches have written to the online store is as of the moment that it was materialised
through, so the same entities are asked for point-in-time at that moment. What was pushed since is
left out.
"""

import json
import math
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from pipelines.errors import CardlineError
from pipelines.features.materialize import batches_alone, materialized_through
from pipelines.features.publish import partition_files, read_manifest
from pipelines.features.registry import load_definitions
from pipelines.features.requests import EVENT_AT, TIMES, parts_of, time_text
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
        "entity": pl.String,
        "feature": pl.String,
        "online": pl.String,
        "offline": pl.String,
    }
)
_PYTHON_TYPES = {"INT64": int, "DOUBLE": float, "STRING": str, "BOOL": bool}
_UNKNOWN_KEY = "no-such-entity"
_PLACES = 5


def parity(sample: int = 100, *, services: list[str] | None = None, seed: int = 0) -> pl.DataFrame:
    """Features whose online and point-in-time values differ; an empty frame is parity.

    Looks at up to `sample` entities of every view of `services` (default: all), at one that
    nothing is known about, one without keys, and request values with some missing. A value differs
    if it is another number, null on one side only, or not of its declared type. Columns:
    `service`, `entity` (JSON of keys and request values), `feature`, `online`, `offline` (with
    their types). Raises `CardlineError` before the first materialisation.
    """
    found = [
        _compare(service_definition(name), sample, seed) for name in services or service_names()
    ]
    return pl.concat(found) if found else pl.DataFrame(schema=MISMATCHES)


def _compare(service: Service, sample: int, seed: int) -> pl.DataFrame:
    moment = _materialized_through(service)
    rows = _sample_rows(service, sample, seed, moment)
    kinds = dict.fromkeys(service.keys, "STRING") | service.request
    given = pl.DataFrame(rows, schema={name: POLARS_TYPES[kind] for name, kind in kinds.items()})
    offline = historical(
        service.name, given.with_columns(pl.lit(moment, pl.Datetime("us")).alias(TIME))
    )
    with batches_alone():
        served = online(service.name, rows)
    mismatches: list[dict[str, Any]] = []
    pairs = zip(rows, served, offline.to_dicts(), strict=True)
    for row, live, stored in pairs:
        for feature, kind in service.features.items():
            if _is_same(live[feature], stored[feature], _PYTHON_TYPES[kind]):
                continue
            mismatches.append(
                {
                    "service": service.name,
                    "entity": json.dumps(row, sort_keys=True),
                    "feature": feature,
                    "online": _shown(live[feature]),
                    "offline": _shown(stored[feature]),
                }
            )
    return pl.DataFrame(mismatches, schema=MISMATCHES)


def _is_same(live: Any, stored: Any, kind: type) -> bool:
    if live is None or stored is None:
        return live is None and stored is None
    if type(live) is not kind or type(stored) is not kind:
        return False
    is_nan = kind is float and math.isnan(live) and math.isnan(stored)
    return live == stored or is_nan


def _shown(value: Any) -> str:
    return "null" if value is None else f"{type(value).__name__} {value!r}"


def _materialized_through(service: Service) -> Any:
    """The moment that the service's online rows are as of; one for all of its views."""
    moments = {view: materialized_through(view) for view in service.views}
    missing = [view for view, moment in moments.items() if moment is None]
    if missing:
        raise CardlineError(
            f"features.{missing[0]} is not in the online store: run `cardline run` first"
        )
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
        known[key] = sorted({*known[key], *_sample_keys(view, key, sample, seed)})
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


def _sample_keys(view: str, key: str, sample: int, seed: int) -> list[str]:
    """Up to `sample` keys of a view: neighbours in each of up to `_PLACES` of its spans.

    Files are sorted by key: where neighbours are, the rest of a file need not be read.
    """
    spans = sorted(read_manifest(view).partitions)
    choose = random.Random(seed)
    chosen = choose.sample(spans, min(len(spans), sample, _PLACES))
    found: set[str] = set()
    for path in partition_files(view, sorted(chosen)):
        with pq.ParquetFile(path) as file:
            group = file.read_row_group(choose.randrange(file.num_row_groups), [key])
        keys = sorted(group[key].unique().to_pylist())
        count = min(len(keys), math.ceil(sample / len(chosen)))
        first = choose.randint(0, len(keys) - count)
        found.update(keys[first : first + count])
    return sorted(found)[:sample]
