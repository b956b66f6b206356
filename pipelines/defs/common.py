"""What assets of every layer share: owner, pool, retries, freshness and what the UI shows."""

import base64
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from pipelines.errors import CardlineError
from pipelines.warehouse import CATALOG

if TYPE_CHECKING:
    import duckdb
    import polars as pl

OWNERS = ["team:data-platform"]
POOL = "warehouse"
"""One writer at a time: every step that writes the lake takes this pool."""

RETRIES = dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL)
DAILY_FRESHNESS = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=36), warn_window=timedelta(hours=26)
)
MONTHLY_FRESHNESS = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(days=35), warn_window=timedelta(days=32)
)
PREVIEW_ROWS = 5
PREVIEW_COLUMNS = 12


def require_partition(context: dg.AssetExecutionContext, unit: str) -> None:
    """Raise `CardlineError` in a run that was started for no partition."""
    if not context.has_partition_key and not context.has_partition_key_range:
        name = context.asset_key.to_user_string()
        raise CardlineError(f"{name} is made by {unit}: start the run with a partition")


def markdown_table(frame: "pl.DataFrame") -> dg.MarkdownMetadataValue:
    """`frame` as a table in the asset's metadata, wide ones cut at `PREVIEW_COLUMNS`."""
    shown = frame.select(frame.columns[:PREVIEW_COLUMNS])
    lines = [" | ".join(shown.columns), " | ".join("---" for _ in shown.columns)]
    for row in shown.iter_rows():
        cells = ("" if value is None else str(value).replace("|", "\\|") for value in row)
        lines.append(" | ".join(cells))
    return dg.MetadataValue.md("\n".join(f"| {line} |" for line in lines))


def picture(chart: Any) -> dg.MarkdownMetadataValue:
    """An Altair chart as an image in the asset's metadata."""
    import altair as alt
    import vl_convert as vlc

    # The specification is ours; checking it against Altair's schema takes as long as drawing it.
    with alt.data_transformers.enable(max_rows=None):
        png = vlc.vegalite_to_png(chart.to_json(validate=False), scale=1.5)
    return dg.MetadataValue.md(f"![chart](data:image/png;base64,{base64.b64encode(png).decode()})")


def daily_bars(frame: "pl.DataFrame", x: str, y: str, title: str) -> dg.MarkdownMetadataValue:
    """A chart of `y` by day `x`, a step a day; a day that `frame` lacks is zero."""
    import altair as alt
    import polars as pl

    days = frame.select(x, y).sort(x).upsample(x, every="1d").with_columns(pl.col(y).fill_null(0))
    # The last step ends with its day. One outline is drawn in half the time of hundreds of bars.
    days = pl.concat([days, days.tail(1).with_columns(pl.col(x) + pl.duration(days=1))])
    chart = (
        alt.Chart(days, title=title)
        .mark_area(color="#3b6ea5", interpolate="step-after")
        .encode(alt.X(f"{x}:T", title=None), alt.Y(f"{y}:Q", title=y))
        .properties(width=560, height=180)
    )
    return picture(chart)


def daily_findings(frame: "pl.DataFrame", title: str) -> dg.MarkdownMetadataValue:
    """Bars by day, coloured by feed, a row for each kind of finding.

    `frame` has feed, batch_date, finding and found.
    """
    import altair as alt

    chart = (
        alt.Chart(frame)
        .mark_bar()
        .encode(
            alt.X("batch_date:T", title=None),
            alt.Y("found:Q", title=None),
            alt.Color("feed:N", title=None),
        )
        .properties(width=560, height=90)
        .facet(row=alt.Row("finding:N", title=None), title=title)
        .resolve_scale(y="independent")
    )
    return picture(chart)


def table_metadata(
    con: "duckdb.DuckDBPyConnection",
    table: str,
    is_personal: bool = False,
    is_counted: bool = True,
) -> dict[str, Any]:
    """Row count, column count and a preview of `table` (`schema.name`, one of our own)."""
    relation = con.sql(f"from {CATALOG}.{table}")
    metadata: dict[str, Any] = {"columns": len(relation.columns)}
    if is_counted:
        count = relation.aggregate("count(*)").fetchone()
        metadata["dagster/row_count"] = int(count[0]) if count else 0
    if not is_personal:
        metadata["preview"] = markdown_table(relation.limit(PREVIEW_ROWS).pl())
    return metadata
