"""The read path of the server: columns of values, statuses and event times from packed rows.

What a request asks for is resolved once and kept as a plan, and no message of Feast is built on the
way out. The answer equals Feast's, except that Redis, too, tells a key that it does not have
(`NOT_FOUND`) from a null (`PRESENT`), and that a row older than its view's TTL, which stock Feast
answers all the same, has no values (`OUTSIDE_MAX_AGE`).
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, Protocol

from pipelines.errors import CardlineError
from pipelines.features.encoding import (
    VERSION_BYTES,
    Layout,
    LayoutChanged,
    encode_keys,
    event_time,
    is_expired,
    layout_of,
)
from pipelines.features.materialize import parse_mark
from pipelines.features.registry import feature_store, load_definitions
from pipelines.features.requests import (
    EVENT_AT,
    KNOWN_AT,
    OnDemand,
    as_time,
    is_amount,
    made_key,
    made_keys,
    now,
    on_demand,
    refuse_negative,
    time_text,
)

PRESENT = "PRESENT"
NOT_FOUND = "NOT_FOUND"
OUTSIDE_MAX_AGE = "OUTSIDE_MAX_AGE"
NO_TIME = "1970-01-01T00:00:00Z"
"""How Feast writes the event time of what has none."""
_INT64 = range(-(2**63), 2**63)


class StoreUnavailable(CardlineError):
    """The online store cannot answer now; asking again later may help."""


class UnknownName(CardlineError):
    """A service or feature that is not declared."""


@dataclass(frozen=True, eq=False)
class ViewRead:
    """A view as it is read: its Feast object, its key and how its rows are packed."""

    table: Any
    name: str
    key: str
    layout: Layout


@dataclass(frozen=True, eq=False)
class Plan:
    """What one request needs: `keys` and `request` go in, `columns` (view, feature) come out.

    `made_of` are the keys besides, which are made of what goes in; `services` those that give all
    of `columns`. `objects` are what Feast's permissions speak of: the service, or the views of
    single features. `places` tells of every feature read or computed its table among those of
    `views` and `on_demand`, and its column there.
    """

    label: str
    services: frozenset[str]
    objects: tuple[str, ...]
    keys: tuple[str, ...]
    made_of: dict[str, tuple[str, ...]]
    request: dict[str, str]
    views: tuple[ViewRead, ...]
    on_demand: tuple[OnDemand, ...]
    columns: tuple[tuple[str, str], ...]
    places: dict[tuple[str, str], tuple[int, int]]

    @cached_property
    def column_places(self) -> list[tuple[int, int]]:
        """The places of `columns`."""
        return [self.places[column] for column in self.columns]


@dataclass(frozen=True)
class StoredRows:
    """What a store holds of one view: its mark, and packed rows by serialised key, if there."""

    mark: str | None
    rows: Mapping[bytes, bytes]


class Column(NamedTuple):
    """One feature of every row asked for."""

    view: str
    name: str
    values: Sequence[Any]
    statuses: Sequence[str]
    event_times: Sequence[str]


class Table(NamedTuple):
    """Values of one view by column; the state and the event time of its rows."""

    values: Sequence[Sequence[Any]]
    statuses: Sequence[str]
    event_times: Sequence[str]


@dataclass(frozen=True)
class Vectors:
    """The answer: a table per view of `plan`, how many values of its columns are not there, and
    through when what is known of each view is in it."""

    plan: Plan
    tables: list[Table]
    missing: int
    known_through: dict[str, datetime]

    @cached_property
    def columns(self) -> list[Column]:
        """A column per feature asked for."""
        placed = zip(self.plan.columns, self.plan.column_places, strict=True)
        return [
            Column(view, name, self.tables[at].values[column], *self.tables[at][1:])
            for (view, name), (at, column) in placed
        ]


class Reader(Protocol):
    """A store as the server reads it; it raises `StoreUnavailable`."""

    def __call__(
        self, asked: Sequence[tuple[ViewRead, Sequence[bytes]]], seconds: float
    ) -> Awaitable[list[StoredRows]]: ...


class Plans:
    """Everything that can be asked for in this home, resolved from `feature_repo/` once."""

    def __init__(self) -> None:
        from feast import FeatureService, OnDemandFeatureView

        definitions = load_definitions()
        self.views = definitions.views
        store = feature_store()
        self._tables = {name: store.get_feature_view(name) for name in self.views}
        self._reads = {
            name: ViewRead(table, name, self.views[name].key, layout_of(table))
            for name, table in self._tables.items()
        }
        self._made_of = definitions.made_of
        self._on_demand = {
            item.name: on_demand(item)
            for item in definitions.objects
            if isinstance(item, OnDemandFeatureView)
        }
        self._references = {
            item.name: tuple(
                (projection.name, column.name)
                for projection in item.feature_view_projections
                for column in projection.features
            )
            for item in definitions.objects
            if isinstance(item, FeatureService)
        }
        self._services = {name: self._plan(name, refs) for name, refs in self._references.items()}
        declared = [
            *((name, feature) for name, view in self.views.items() for feature in view.features),
            *((name, made) for name, view in self._on_demand.items() for made in view.outputs),
        ]
        self._declared = dict.fromkeys(declared)
        self._of_features = lru_cache(maxsize=256)(self._plan_features)

    @property
    def names(self) -> list[str]:
        """Every feature service."""
        return sorted(self._services)

    @property
    def references(self) -> list[str]:
        """Every single feature, as `view:feature`."""
        return [":".join(pair) for pair in self._declared]

    def service(self, name: str) -> Plan:
        """The plan of a feature service."""
        if name not in self._services:
            there_are = ", ".join(self.names)
            raise UnknownName(f"no such feature service; there are {there_are}")
        return self._services[name]

    def features(self, references: Iterable[str]) -> Plan:
        """The plan of single features, each as `view:feature`."""
        return self._of_features(tuple(references))

    def _plan_features(self, references: tuple[str, ...]) -> Plan:
        split = [tuple(reference.partition(":")[::2]) for reference in references]
        if unknown := [":".join(pair) for pair in split if pair not in self._declared]:
            raise CardlineError(f"there is no feature {', '.join(unknown)}: write view:feature")
        return self._plan("features", tuple(dict.fromkeys((v, f) for v, f in split)))

    def _plan(self, label: str, columns: tuple[tuple[str, str], ...]) -> Plan:
        reads = dict.fromkeys(view for view, _ in columns if view in self.views)
        functions: list[OnDemand] = []
        request: dict[str, str] = {}
        for name in dict.fromkeys(view for view, _ in columns if view in self._on_demand):
            functions.append(self._on_demand[name])
            request |= functions[-1].request
            reads |= dict.fromkeys(view for view, _ in functions[-1].sources)
        views = tuple(self._reads[name] for name in reads)
        given = [(view.name, view.layout.names) for view in views]
        given += [(item.name, tuple(item.outputs)) for item in functions]
        places = {
            (name, feature): (table, column)
            for table, (name, features) in enumerate(given)
            for column, feature in enumerate(features)
        }
        keys = tuple(dict.fromkeys(view.key for view in views))
        made = made_keys(keys, request, self._made_of)
        own = tuple(key for key in keys if key not in made)
        services = frozenset(
            name for name, gives in self._references.items() if set(columns) <= set(gives)
        )
        named = [view for view, _ in columns] + list(reads)
        objects = (label,) if label in self._references else tuple(dict.fromkeys(named))
        return Plan(
            label, services, objects, own, made, request, views, tuple(functions), columns, places
        )

    def table(self, view: str) -> Any:
        """Feast's object of a view."""
        return self._tables[view]


def checked_inputs(plan: Plan, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """The keys and request values that `plan` takes, typed; all of one length.

    A column may be left out: a key then finds nothing, a request value is null, the event is now.
    Columns that the plan does not take are passed over, unless a key is left out: then one was
    meant for it. Raises `CardlineError` on that, on a null key and on a value that is not of its
    column's type.
    """
    strangers = columns.keys() - {*plan.keys, *plan.request}
    if strangers and not set(plan.keys) <= columns.keys():
        takes = ", ".join([*plan.keys, *plan.request])
        raise CardlineError(
            f"{plan.label} does not take {', '.join(sorted(strangers))}; it takes {takes}"
        )
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise CardlineError(f"the columns of a request differ in length: {sorted(lengths)}")
    if not lengths or lengths == {0}:
        raise CardlineError("the request has no rows")
    given: dict[str, list[Any]] = {
        key: [_as_key(key, value) for value in columns[key]] for key in plan.keys if key in columns
    }
    size = next(iter(lengths))
    for name, kind in plan.request.items():
        values = columns.get(name, [None] * size)
        given[name] = [_as_kind(name, kind, value) for value in values]
        if is_amount(name):
            known = (value for value in given[name] if value is not None)
            refuse_negative(name, min(known, default=None))
    if EVENT_AT in given:
        this_moment = time_text(now())
        given[EVENT_AT] = [at or this_moment for at in given[EVENT_AT]]
    for key, parts in plan.made_of.items():
        if all(part in given for part in parts):
            rows = zip(*(given[part] for part in parts), strict=True)
            given[key] = [made_key(row) or "" for row in rows]
    return given


def _as_key(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None:
        raise CardlineError(f"{name} is null: give a key, or leave {name} out where none is known")
    raise CardlineError(f"{name} is not string throughout")


def _as_kind(name: str, kind: str, value: Any) -> Any:
    """A request value as the declared type; a number may come as text."""
    if value is None:
        return None
    is_number = isinstance(value, int | float | str) and not isinstance(value, bool)
    try:
        if kind == "INT64" and is_number:
            number = int(value)
            if number in _INT64 and (isinstance(value, str) or number == value):
                return number
        elif kind == "DOUBLE" and is_number:
            return float(value)
        elif isinstance(value, {"STRING": str, "BOOL": bool}.get(kind, ())):
            return as_time(name, kind, value)
    except (ValueError, OverflowError) as error:
        raise CardlineError(f"{name} is not {kind.lower()} throughout") from error
    raise CardlineError(f"{name} is not {kind.lower()} throughout")


async def read_vectors(
    plan: Plan, given: Mapping[str, Sequence[Any]], read: Reader, seconds: float
) -> Vectors:
    """The features of `plan` for `given` (as `checked_inputs` made it).

    Raises `StoreUnavailable` where the store does not answer within `seconds`, and where it was
    never filled: nothing of an emptied store passes for a value that is not there.
    """
    size = len(next(iter(given.values())))
    asked, positions = [], []
    for view in plan.views:
        keys = encode_keys(view.key, given[view.key]) if view.key in given else []
        asked.append((view, list(dict.fromkeys(keys))))
        positions.append(keys or [b""] * size)
    stored = await read(asked, seconds)
    known_through: dict[str, datetime] = {}
    missing: dict[str, int] = {}
    tables: list[Table] = []
    for view, keys, found in zip(plan.views, positions, stored, strict=True):
        if found.mark is None:
            raise StoreUnavailable(
                f"features.{view.name} is not in the online store: run `cardline run`"
            )
        known_through[view.name] = parse_mark(found.mark).known_through
        try:
            rows = {key: _row(view, data) for key, data in found.rows.items()}
        except LayoutChanged as error:
            raise StoreUnavailable(f"features.{view.name}: {error}") from error
        nothing = ((None,) * len(view.layout.names), NOT_FOUND, NO_TIME)
        values, statuses, times = zip(*(rows.get(key, nothing) for key in keys), strict=True)
        if absent := size - statuses.count(PRESENT):
            missing[view.name] = absent
        tables.append(Table(list(zip(*values, strict=True)), statuses, times))
    request = dict(given)
    if KNOWN_AT in request and known_through:
        oldest = time_text(min(known_through.values()))
        request[KNOWN_AT] = [at or oldest for at in request[KNOWN_AT]]
    for item in plan.on_demand:
        tables.append(_computed(plan, item, tables, request, size))
    not_there = sum(missing.get(view, 0) for view, _ in plan.columns) if missing else 0
    return Vectors(plan, tables, not_there, known_through)


def _row(view: ViewRead, data: bytes) -> tuple[Sequence[Any], str, str]:
    """Values, state and event time. A row that is too old keeps its time, not its values."""
    time = _time_text(data[: VERSION_BYTES // 2])
    if is_expired(view.table, data):
        return (None,) * len(view.layout.names), OUTSIDE_MAX_AGE, time
    return view.layout.unpack(data), PRESENT, time


def _computed(
    plan: Plan,
    item: OnDemand,
    tables: Sequence[Table],
    given: Mapping[str, Sequence[Any]],
    size: int,
) -> Table:
    inputs = {name: list(given[name]) for name in item.request}
    for source in item.sources:
        table, column = plan.places[source]
        inputs[source[1]] = list(tables[table].values[column])
    answer = item.function(inputs)
    values = [
        [None if value is None else _PYTHON[kind](value) for value in answer[name]]
        for name, kind in item.outputs.items()
    ]
    return Table(values, [PRESENT] * size, [NO_TIME] * size)


_PYTHON: dict[str, Callable[[Any], Any]] = {
    "INT64": int,
    "DOUBLE": float,
    "STRING": str,
    "BOOL": bool,
}


@lru_cache(maxsize=4_096)
def _time_text(version: bytes) -> str:
    """The event time of a row, by the first half of its version, as Feast writes it."""
    at = event_time(version)
    kind = "seconds" if not at.microsecond else "microseconds"
    if at.microsecond and at.microsecond % 1_000 == 0:
        kind = "milliseconds"
    return at.replace(tzinfo=None).isoformat(timespec=kind) + "Z"
