"""Line and bar charts as inline SVG: no scripts, no fonts to load, always the same bytes."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 26, 36
COLOURS = ("#27496d", "#c0694e", "#3f8f7b", "#8a6d3b")
Point = tuple[float, float]


def line_chart(
    series: Mapping[str, Sequence[Point]], x_title: str, y_title: str, *, unit_square: bool = False
) -> str:
    """SVG of named lines; with `unit_square` both axes run from 0 to 1, with the diagonal."""
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    frame = _Frame(points, unit_square)
    parts = [frame.axes(x_title, y_title)]
    if unit_square:
        parts.append(frame.path([(0, 0), (1, 1)], "#b9c2ca", dashed=True))
    for colour, (name, line) in zip(_colours(series), series.items(), strict=True):
        parts.append(frame.path(line, colour))
        parts.extend(frame.dot(point, colour, name) for point in line if len(line) <= 36)
    return _svg([*parts, _legend(series)])


def bar_chart(series: Mapping[str, Sequence[float]], labels: Sequence[str], y_title: str) -> str:
    """SVG of grouped bars, one group per label."""
    highest = max((v for values in series.values() for v in values), default=0.0)
    if not labels or highest <= 0:
        return ""
    frame = _Frame([(0.0, 0.0), (float(len(labels)), highest)], unit_square=False)
    parts = [frame.axes("", y_title, x_ticks=False)]
    width = 0.8 / len(series)
    for k, (colour, (name, values)) in enumerate(
        zip(_colours(series), series.items(), strict=True)
    ):
        for i, value in enumerate(values):
            x, y = frame.at((i + 0.1 + k * width, value))
            right, zero = frame.at((i + 0.1 + (k + 1) * width, 0.0))
            told = escape(f"{name}, {labels[i]}: {value:,.4g}")
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{right - x:.1f}" '
                f'height="{zero - y:.1f}" fill="{colour}"><title>{told}</title></rect>'
            )
    step = -(-len(labels) // 8)
    for i in range(0, len(labels), step):
        x, y = frame.at((i + 0.5, 0.0))
        parts.append(_text(x, y + 14, labels[i], "middle"))
    return _svg([*parts, _legend(series)])


class _Frame:
    """Where a value lies on the picture."""

    def __init__(self, points: Sequence[Point], unit_square: bool) -> None:
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        self.x0, self.x1 = (0.0, 1.0) if unit_square else (min(xs), max(xs))
        self.y0, self.y1 = (0.0, 1.0) if unit_square else (min(0.0, *ys), max(ys))

    def at(self, point: Point) -> Point:
        x = (point[0] - self.x0) / ((self.x1 - self.x0) or 1.0)
        y = (point[1] - self.y0) / ((self.y1 - self.y0) or 1.0)
        return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)

    def axes(self, x_title: str, y_title: str, *, x_ticks: bool = True) -> str:
        parts = []
        for y_value in _ticks(self.y0, self.y1):
            left, y = self.at((self.x0, y_value))
            right, _ = self.at((self.x1, y_value))
            parts.append(f'<path d="M{left:.1f} {y:.1f}H{right:.1f}" stroke="#e3e7ea"/>')
            parts.append(_text(LEFT - 6, y + 3.5, f"{y_value:,.6g}", "end"))
        for x_value in _ticks(self.x0, self.x1) if x_ticks else []:
            x, _ = self.at((x_value, self.y0))
            parts.append(_text(x, HEIGHT - BOTTOM + 14, f"{x_value:,.6g}", "middle"))
        parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, x_title, "middle"))
        parts.append(_text(LEFT - 44, 12, y_title, "start"))
        return "".join(parts)

    def path(self, line: Sequence[Point], colour: str, *, dashed: bool = False) -> str:
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self.at, line))
        dash = ' stroke-dasharray="4 4"' if dashed else ""
        return (
            f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>'
        )

    def dot(self, point: Point, colour: str, name: str) -> str:
        x, y = self.at(point)
        told = escape(f"{name}: {point[0]:,.4g}, {point[1]:,.4g}")
        return (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}">'
            f"<title>{told}</title></circle>"
        )


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round values from `low` to `high`."""
    span = high - low
    if span <= 0:
        return [low]
    unit = 10.0 ** floor(log10(span))
    step = next(unit * part for part in (0.2, 0.5, 1.0, 2.0) if span / (unit * part) <= 6)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _colours(series: Mapping[str, object]) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(len(series))]


def _legend(series: Mapping[str, object]) -> str:
    parts, x = [], WIDTH - RIGHT
    for colour, name in reversed(list(zip(_colours(series), series, strict=True))):
        x -= 6.2 * len(name)
        parts.append(_text(x, 12, name, "start"))
        parts.append(f'<rect x="{x - 13:.1f}" y="4" width="9" height="9" fill="{colour}"/>')
        x -= 26
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11" '
        f'font-family="Helvetica, Arial, sans-serif" fill="#66727f">{escape(text)}</text>'
    )


def _svg(parts: list[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"{''.join(parts)}</svg>"
    )
