"""Charts of a finance pack as inline SVG: no scripts, no fonts to load, always the same bytes."""

import re
from typing import Any

INK = "#22303c"
MUTED = "#66727f"
GRID = "#e3e7ea"
BALANCE = "#27496d"
GROWTH = "#3f8f7b"
DECLINE = "#c0694e"
FONT = "Helvetica, Arial, sans-serif"

# Vega numbers the ids of clip paths through the life of the process.
_NUMBERED_ID = re.compile(r"\b(clip|gradient|pattern)_?(\d+)\b")


def waterfall(steps: list[tuple[str, float, bool]], unit: str, name: str) -> str:
    """SVG of how an opening balance became the closing one.

    `steps` are (label, amount, is_balance): a balance stands on zero, a flow (signed) floats.
    `unit` titles the axis; `name` keeps the ids of charts on one page apart.
    """
    digits = 0 if max((abs(amount) for _, amount, _ in steps), default=0) >= 1000 else 2
    rows = []
    level = 0.0
    for label, amount, is_balance in steps:
        start, end = (0.0, amount) if is_balance else (level, level + amount)
        level = end
        kind = "balance" if is_balance else ("growth" if amount >= 0 else "decline")
        rows.append(
            {
                "label": label,
                "start": start,
                "end": end,
                "top": max(start, end),
                "kind": kind,
                "text": f"{amount:{'' if is_balance else '+'},.{digits}f}".replace("-", "−"),
            }
        )
    return _svg(_waterfall_spec(rows, unit), name)


def _waterfall_spec(rows: list[dict[str, Any]], unit: str) -> Any:
    import altair as alt

    x = alt.X("label:N", sort=None, title=None, axis=alt.Axis(labelAngle=0, labelLimit=110))
    color = alt.Color("kind:N", legend=None).scale(
        domain=["balance", "growth", "decline"], range=[BALANCE, GROWTH, DECLINE]
    )
    base = alt.Chart(alt.Data(values=rows))
    bars = base.mark_bar(size=44, cornerRadius=1.5).encode(
        x=x,
        y=alt.Y("start:Q", title=unit, axis=alt.Axis(format=",.0f", tickCount=5)),
        y2="end:Q",
        color=color,
    )
    labels = base.mark_text(dy=-7, fontSize=11, color=INK).encode(x=x, y="top:Q", text="text:N")
    return (bars + labels).properties(width=780, height=230)


def trend(months: list[dict[str, Any]], unit: str, name: str) -> str:
    """SVG of the closing liability by month, with what was added and taken below it.

    `months` rows: period, closing, added, taken (whole units, taken negative).
    """
    import altair as alt

    x = alt.X("period:N", title=None, axis=alt.Axis(labelAngle=0), sort=None)
    flows = [
        {"period": row["period"], "kind": kind, "amount": row[kind]}
        for row in months
        for kind in ("added", "taken")
    ]
    bars = (
        alt.Chart(alt.Data(values=flows))
        .mark_bar(size=18)
        .encode(
            x=x,
            y=alt.Y("amount:Q", title=unit, axis=alt.Axis(format=",.0f", tickCount=6)),
            color=alt.Color("kind:N", title=None).scale(
                domain=["added", "taken"], range=[GROWTH, DECLINE]
            ),
        )
    )
    line = (
        alt.Chart(alt.Data(values=months))
        .mark_line(
            color=BALANCE, strokeWidth=2.5, point={"filled": True, "size": 45, "color": BALANCE}
        )
        .encode(x=x, y="closing:Q")
    )
    return _svg((bars + line).properties(width=780, height=210), name)


def heat_map(cells: list[dict[str, Any]], name: str) -> str:
    """SVG of which share of each month's points was redeemed by each age.

    `cells` rows: cohort, age (months), share (0 to 1).
    """
    import altair as alt

    cohorts = len({cell["cohort"] for cell in cells})
    # Where nothing has been redeemed, nothing is dark.
    darkest = max(0.1, *(cell["share"] for cell in cells))
    base = alt.Chart(alt.Data(values=cells)).encode(
        x=alt.X("age:O", title="Months after issue", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("cohort:O", title=None),
    )
    squares = base.mark_rect(stroke="white", strokeWidth=1).encode(
        color=alt.Color("share:Q", legend=None).scale(
            range=["#eef3f1", GROWTH], domain=[0, darkest]
        )
    )
    labels = base.mark_text(fontSize=9.5, color=INK).encode(
        text=alt.Text("share:Q", format=".0%"),
    )
    chart = (squares + labels).properties(width=780, height=max(60, 21 * cohorts))
    return _svg(chart, name)


def _svg(chart: Any, name: str) -> str:
    import vl_convert

    chart = (
        chart.configure(font=FONT, background="transparent", padding=4)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=INK, titleColor=MUTED, titleFontWeight="normal", gridColor=GRID,
            domainColor=GRID, tickColor=GRID, labelFontSize=11, titleFontSize=11,
        )
        .configure_axisX(grid=False)
        .configure_legend(orient="top", labelFontSize=11, labelColor=INK)
    )  # fmt: skip
    svg = vl_convert.vegalite_to_svg(chart.to_dict())
    ids: dict[str, str] = {}
    svg = _NUMBERED_ID.sub(lambda found: ids.setdefault(found.group(0), f"{name}-{len(ids)}"), svg)
    # The page scales the chart to its width: only the view box states a size.
    return re.sub(r'(<svg [^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
