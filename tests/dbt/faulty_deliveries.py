"""A history as files that come in any order and with faults, and what must become of each."""

import csv
import io
import json
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipelines.contracts import FEEDS
from tests.dbt.random_history import Row

FAULTS = (
    "none", "again", "wrong total", "truncated", "bad row", "unknown column", "half-written",
    "empty",
)  # fmt: skip


@dataclass
class Deliveries:
    """Drops of files: each is a list of actions on a landing folder, done at once.

    `states` counts the files that must end in each state of the inventory.
    """

    drops: list[list[Callable[[Path], None]]]
    states: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    bad_rows: int = 0


def deliveries(history: dict[str, list[Row]], seed: int, drops: int) -> Deliveries:
    """`history` in files by feed and month of arrival, in random order, every fault some times."""
    rng = random.Random(seed)
    made = Deliveries([[] for _ in range(drops)])
    files: dict[tuple[str, date], list[Row]] = defaultdict(list)
    for feed, rows in history.items():
        for row in rows:
            files[feed, row["received_at"].date().replace(day=1)].append(row)
    order = list(files)
    rng.shuffle(order)
    for number, (feed, month) in enumerate(order):
        _deliver(made, rng, feed, month, files[feed, month], FAULTS[number % len(FAULTS)])
    for drop in made.drops:
        rng.shuffle(drop)
    return made


def _deliver(
    made: Deliveries, rng: random.Random, feed: str, month: date, rows: list[Row], fault: str
) -> None:
    first, second = sorted(rng.sample(range(len(made.drops)), 2))
    path = Path(feed) / month.isoformat() / "part-0.csv"
    content = _csv(feed, rows, "colour" if fault == "unknown column" else None)
    manifest: dict[str, Any] = {"rows": len(rows), "sha256": sha256(content).hexdigest()}
    whole = _writing(path, content, manifest)
    made.states["LOADED"] += 1
    if fault == "again":
        elsewhere = path.with_name("again.csv")
        made.drops[first].append(whole)
        made.drops[second].append(_writing(elsewhere, content, manifest))
        made.states["DUPLICATE"] += 1
    elif fault == "wrong total":
        wrong = manifest | {"rows": len(rows) + 1}
        made.drops[first].append(_writing(path, content, wrong))
        made.drops[second].append(whole)
        made.states["QUARANTINED"] += 1
    elif fault == "truncated":
        made.drops[first].append(_writing(path, content[: len(content) * 2 // 3], manifest))
        made.drops[second].append(whole)
        made.states["QUARANTINED"] += 1
    elif fault == "bad row":
        broken = content + b"," * (content.split(b"\n", 1)[0].count(b",")) + b"\n"
        made.drops[first].append(_writing(path, broken, {"rows": len(rows) + 1}))
        made.bad_rows += 1
    elif fault == "half-written":
        half = path.with_name("part-0.csv.tmp")
        made.drops[first].append(_writing(half, content[: len(content) // 2], None))
        made.drops[second].append(whole)
    elif fault == "empty":
        made.drops[first].append(_writing(path.with_name("empty.csv"), b"", None))
        made.drops[second].append(whole)
        made.states["QUARANTINED"] += 1
    else:
        made.drops[first].append(whole)


def _csv(feed: str, rows: list[Row], unknown: str | None) -> bytes:
    columns = [*FEEDS[feed].column_names, "received_at", *([unknown] if unknown else [])]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(dict.fromkeys(columns))
    for row in rows:
        values = row | ({unknown: "blue"} if unknown else {})
        writer.writerow([_text(values.get(name)) for name in dict.fromkeys(columns)])
    return text.getvalue().encode()


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep="T", timespec="microseconds")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _writing(path: Path, content: bytes, manifest: dict[str, Any] | None) -> Callable[[Path], None]:
    def write(landing: Path) -> None:
        target = landing / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        if manifest is not None:
            beside = target.with_name(f"{target.name}.manifest.json")
            beside.write_text(json.dumps(manifest))

    return write
