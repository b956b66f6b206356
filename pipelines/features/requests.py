"""What a request brings to features: keys made of its columns, times, and functions of columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.errors import CardlineError

EVENT_AT = "event_at"
"""Request column: when that happens which features are asked for; by default now."""
KNOWN_AT = "known_at"
"""Request column: what the stored features are as of; by default the last materialisation."""
TIMES = (EVENT_AT, KNOWN_AT)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class OnDemand:
    """A function of columns: what it takes, and what it gives by Feast type name.

    `sources` are the stored columns among `inputs`, as (view, feature); `request` the others, by
    Feast type name.
    """

    name: str
    function: Callable[[dict[str, list[Any]]], dict[str, list[Any]]]
    sources: tuple[tuple[str, str], ...]
    request: dict[str, str]
    outputs: dict[str, str]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every column that the function takes."""
        return (*self.request, *(feature for _, feature in self.sources))


def on_demand(view: Any) -> OnDemand:
    """A Feast on-demand view as a function."""
    return OnDemand(
        view.name,
        view.feature_transformation.udf,
        tuple(
            (projection.name, column.name)
            for projection in view.source_feature_view_projections.values()
            for column in projection.features
        ),
        {name: kind.name for name, kind in view.get_request_data_schema().items()},
        {column.name: column.dtype.to_value_type().name for column in view.features},
    )


def made_keys(
    keys: Sequence[str], request: Mapping[str, str], made_of: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Those of `keys` that need not be given, since all that they are made of is."""
    own = {*request, *(key for key in keys if key not in made_of)}
    return {key: made_of[key] for key in keys if key in made_of and own.issuperset(made_of[key])}


def made_key(parts: Sequence[str | None]) -> str | None:
    """One key of one part or two, as dbt's macro `pair_key` makes it; None where one is missing."""
    if None in parts or "" in parts:
        return None
    if len(parts) == 1:
        return parts[0]
    first, second = parts
    return f"{len(first or '')}:{first}{second}"


def parts_of(key: str, count: int) -> list[str]:
    """What `made_key` made a key of."""
    if count == 1:
        return [key]
    length, _, both = key.partition(":")
    return [both[: int(length)], both[int(length) :]]


def as_time(name: str, kind: str, value: Any) -> Any:
    """A request value; a time in one form of text. Raises `CardlineError` for text that is none."""
    if name not in TIMES or kind != "STRING":
        return value
    return time_text(parsed_time(name, value))


def is_amount(name: str) -> bool:
    """Whether a request column holds money, in minor units."""
    return name.endswith("_minor")


def refuse_negative(name: str, smallest: float | None) -> None:
    """Raise `CardlineError` if the smallest value of an amount is negative."""
    if smallest is not None and smallest < 0:
        raise CardlineError(f"{name} is below zero: amounts are in minor units, 0 or more")


def parsed_time(name: str, text: str) -> datetime:
    """Text as a time without zone (UTC). Raises `CardlineError` for text that is none."""
    try:
        at = datetime.fromisoformat(text)
        return at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        raise CardlineError(f"{name} is not a time (ISO 8601) throughout") from error


def time_text(at: datetime) -> str:
    """A time without zone (UTC) as requests bring it."""
    return at.isoformat(timespec="microseconds")


def microseconds(text: str | None) -> int | None:
    """A time as requests bring it (ISO; UTC where it has no zone) in microseconds since 1970."""
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def now() -> datetime:
    """This moment, without zone (UTC)."""
    return datetime.now(UTC).replace(tzinfo=None)
