"""Typing rows by their feed's declaration and saying what is wrong with those that break it.

Vectorised: a clean column costs one cast. Reasons are worded only where there is something to
word.
"""

import json
from dataclasses import dataclass

import polars as pl

from pipelines.contracts.contract import POLARS_TYPES, Column, Feed
from pipelines.ingestion.readers import FILE, LINE
from pipelines.threads import on_all_cores

KNOWN_TIME = "received_at"
# Those without a fraction are parsed in half the time.
_TIMESTAMP_FORMATS = (
    "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d",
)  # fmt: skip
_OFFSET = r"(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})$"
_SHORT_MOMENT = (
    r"^([0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2})(:[0-9]{2}(?:\.[0-9]+)?)?"
    r" ?([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?$"
)
SHOWN_CHARACTERS = 40
FUTURE_DAYS = 1


@dataclass(frozen=True, slots=True)
class Judged:
    """`typed`: every row, the feed's columns, `received_at` where the row has one, `extra`.

    `reason`: what is wrong with each row, null where nothing is; in the order of `typed`.
    """

    typed: pl.DataFrame
    reason: pl.Series


def unknown_columns(feed: Feed, columns: list[str]) -> list[str]:
    """Columns that the declaration does not have."""
    known = {*feed.column_names, KNOWN_TIME, LINE, FILE}
    return [name for name in columns if name not in known]


def missing_columns(feed: Feed, columns: list[str]) -> list[str]:
    """Required columns that the file does not have."""
    return [name for name in feed.required_columns if name not in columns]


def judge(feed: Feed, frame: pl.DataFrame) -> Judged:
    """`frame` (what a reader gave, with no required column missing) typed, its bad rows told.

    A row with several faults has all of them in its reason, in the order of the columns.
    """

    def judged(column: Column) -> tuple[pl.Series, list[pl.Series]]:
        if column.name not in frame.columns:
            nothing = pl.Series(column.name, [None], dtype=POLARS_TYPES[column.type])
            return nothing.new_from_index(0, frame.height), []
        source = _blank_to_null(frame[column.name])
        values = _cast(source, column)
        return values, _faults(source, values, column)

    columns = [*feed.columns, *_known_time(feed)]
    found = on_all_cores(judged, columns)
    typed = {column.name: values for column, (values, _) in zip(columns, found, strict=True)}
    faults = [fault for _, told in found for fault in told]
    if feed.require_one_of:
        given = pl.DataFrame([typed[name] for name in feed.require_one_of])
        none = given.select(pl.all_horizontal(pl.all().is_null())).to_series()
        if none.any():
            faults.append(_fault(none, f"none of {', '.join(feed.require_one_of)} is given"))
    whole = pl.DataFrame([*typed.values(), _extra(feed, frame)])
    if not faults:
        nothing = pl.Series("reason", [None], dtype=pl.String).new_from_index(0, frame.height)
        return Judged(whole, nothing)
    reasons = pl.DataFrame([fault.alias(str(number)) for number, fault in enumerate(faults)])
    joined = pl.concat_str(pl.all(), separator="; ", ignore_nulls=True).replace("", None)
    return Judged(whole, reasons.select(joined).to_series().alias("reason"))


def not_over_yet(feed: Feed, judged: pl.DataFrame) -> pl.Series:
    """A reason for each row that tells of what had not happened yet when it was delivered.

    `judged` has `batch_date` and the known time. One day is granted: batch dates are business days
    of some zone and moments are UTC.
    """
    delivered = pl.max_horizontal(
        pl.col("batch_date").cast(pl.Datetime("us")) + pl.duration(days=1), KNOWN_TIME
    )
    last = delivered + pl.duration(days=FUTURE_DAYS)
    names = [name for name in feed.past_columns if name != KNOWN_TIME]
    if not names:
        return pl.Series("reason", [None], dtype=pl.String).new_from_index(0, judged.height)
    told = [
        pl.when(pl.col(name) >= last).then(
            pl.concat_str(
                pl.lit(f"{name} is after the delivery: "), pl.col(name).dt.strftime("%Y-%m-%d")
            )
        )
        for name in names
    ]
    reason = pl.concat_str(told, separator="; ", ignore_nulls=True)
    late = pl.any_horizontal(pl.col(name) >= last for name in names)
    return judged.select(pl.when(late).then(reason).alias("reason")).to_series()


def _known_time(feed: Feed) -> list[Column]:
    if KNOWN_TIME in feed.column_names:
        return []
    return [Column(KNOWN_TIME, "timestamp", "When the row was known")]


def _blank_to_null(source: pl.Series) -> pl.Series:
    if source.dtype != pl.String:
        return source
    # A blank text begins with white space: nothing that sorts among the other ASCII characters.
    if not ((source < "!") | (source > "~")).any():
        return source
    blank = source.str.strip_chars() == ""
    return source.set(blank, None) if blank.any() else source


def _cast(source: pl.Series, column: Column) -> pl.Series:
    """`source` in the declared type; null where it cannot be had exactly."""
    target = POLARS_TYPES[column.type]
    kind = source.dtype
    if kind == target:
        return source
    if kind in (pl.Categorical, pl.Enum):
        return _cast(source.cast(pl.String), column)
    if column.type == "string":
        return source.cast(pl.String, strict=False)
    if kind == pl.String:
        return _parse(source, column)
    # A number of a moment does not tell of which unit and since when it counts.
    is_day = isinstance(kind, pl.Date | pl.Datetime)
    fits = is_day if column.type in ("timestamp", "date") else not kind.is_temporal()
    if not fits:
        return pl.Series(source.name, [None], dtype=target).new_from_index(0, len(source))
    if column.type == "integer" and kind.is_decimal():
        whole = source == source.round(0)
        return source.set(~whole.fill_null(True), None).cast(target, strict=False)
    if column.type == "integer" and kind.is_float():
        whole = source.is_finite() & (source == source.round()) & (source.abs() < 2**53)
        return source.set(~whole.fill_null(True), None).cast(target, strict=False)
    if column.type == "timestamp" and isinstance(kind, pl.Datetime):
        if kind.time_zone is not None:
            source = source.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return source.dt.cast_time_unit("us")
    if column.type == "date" and isinstance(kind, pl.Datetime):
        midnight = source.dt.truncate("1d") == source
        return source.set(~midnight.fill_null(True), None).dt.date()
    if column.type == "boolean" and kind.is_numeric():
        told = (source == 0) | (source == 1)
        return source.set(~told.fill_null(True), None) == 1
    return source.cast(target, strict=False)


def _parse(source: pl.Series, column: Column) -> pl.Series:
    text = source.str.strip_chars()
    if column.type == "integer":
        return text.cast(pl.Int64, strict=False)
    if column.type == "number":
        values = text.cast(pl.Float64, strict=False)
        return values.set(~values.is_finite().fill_null(True), None)
    if column.type == "boolean":
        return text.str.to_lowercase().replace_strict(
            {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False},
            default=None,
            return_dtype=pl.Boolean,
        )
    if column.type == "date":
        days = text.str.to_date("%Y-%m-%d", strict=False)
        if days.null_count() > text.null_count():
            moments = _parse_moments(text)
            midnight = (moments.dt.truncate("1d") == moments).fill_null(False)
            days = days.zip_with(days.is_not_null(), moments.set(~midnight, None).dt.date())
        return days
    return _parse_moments(text)


def _parse_moments(text: pl.Series) -> pl.Series:
    values = pl.Series(text.name, [None], dtype=pl.Datetime("us")).new_from_index(0, len(text))
    # A file mostly keeps to the form of its first value: the others are tried on what is left.
    first = text.drop_nulls().head(1)
    forms = sorted(
        _TIMESTAMP_FORMATS, key=lambda form: first.str.to_datetime(form, strict=False).null_count()
    )
    for form in forms:
        if values.null_count() == text.null_count():
            return values
        parsed = text.str.to_datetime(form, strict=False, time_unit="us")
        values = values.zip_with(values.is_not_null(), parsed)
    if values.null_count() > text.null_count():
        has_offset = text.str.contains(_OFFSET).fill_null(False) & values.is_null()
        normal = (
            text.set(~has_offset, None)
            .str.replace(r"[Zz]$", "+0000")
            .str.replace(" ", "T")
            .str.replace(r"([+-][0-9]{2}):([0-9]{2})$", "${1}${2}")
        )
        parsed = normal.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", strict=False, time_unit="us")
        parsed = parsed.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        values = values.zip_with(values.is_not_null(), parsed)
    left = (values.is_null() & text.is_not_null()).arg_true()
    return values.scatter(left, _parse_short_moments(text.gather(left))) if len(left) else values


def _parse_short_moments(text: pl.Series) -> pl.Series:
    """Moments without seconds, and with whole hours as their offset."""
    moment, seconds, offset = (text.str.extract(_SHORT_MOMENT, group) for group in (1, 2, 3))
    offset = offset.fill_null("Z").str.replace(r"^[Zz]$", "+00").str.replace(":", "")
    offset = offset.str.pad_end(len("+0000"), "0")
    whole = moment.str.replace(" ", "T") + seconds.fill_null(":00") + offset
    parsed = whole.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", strict=False, time_unit="us")
    return parsed.dt.convert_time_zone("UTC").dt.replace_time_zone(None)


def _faults(source: pl.Series, values: pl.Series, column: Column) -> list[pl.Series]:
    """Reason texts of this column's faults, null where there is none."""
    found: list[pl.Series] = []
    unreadable = source.is_not_null() & values.is_null()
    if unreadable.any():
        found.append(_fault(unreadable, f"{column.name} is no {column.type}: ", source))
    if column.required and source.null_count():
        found.append(_fault(source.is_null(), f"{column.name} is missing"))
    if column.allowed is not None:
        other = ~values.is_in(list(column.allowed)).fill_null(True)
        if other.any():
            found.append(_fault(other, f"{column.name} is none of the allowed values: ", source))
    if column.minimum is not None:
        below = (values < column.minimum).fill_null(False)
        if below.any():
            found.append(_fault(below, f"{column.name} is below {column.minimum}: ", source))
    if column.maximum is not None:
        above = (values > column.maximum).fill_null(False)
        if above.any():
            found.append(_fault(above, f"{column.name} is above {column.maximum}: ", source))
    if column.pattern is not None:
        unlike = ~values.str.contains(f"^(?:{column.pattern})$").fill_null(True)
        if unlike.any():
            found.append(_fault(unlike, f"{column.name} is not like {column.pattern}: ", source))
    return found


def _fault(where: pl.Series, text: str, source: pl.Series | None = None) -> pl.Series:
    frame = pl.DataFrame({"where": where})
    message = pl.lit(text)
    if source is not None:
        frame = frame.with_columns(shown=source.cast(pl.String).str.slice(0, SHOWN_CHARACTERS))
        message = pl.concat_str(message, pl.col("shown"))
    return frame.select(pl.when("where").then(message)).to_series()


def _extra(feed: Feed, frame: pl.DataFrame) -> pl.Series:
    """The unknown columns of each row as a JSON object, null where the file has none."""
    unknown = unknown_columns(feed, frame.columns)
    if not unknown:
        return pl.Series("extra", [None], dtype=pl.String).new_from_index(0, frame.height)
    return payloads(frame.select(unknown)).replace("{}", None).alias("extra")


def payloads(frame: pl.DataFrame) -> pl.Series:
    """Each row as it came: a JSON object of texts, without its nulls."""
    texts = frame.select(pl.all().cast(pl.String, strict=False))
    rows = [
        json.dumps({name: value for name, value in row.items() if value is not None})
        for row in texts.iter_rows(named=True)
    ]
    return pl.Series("payload", rows, dtype=pl.String)
