"""What lies in the landing folder, and which of it is new."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path

from pipelines.files import sha256_of
from pipelines.ingestion.readers import is_readable
from pipelines.ingestion.sensitive import find_in_name, masked

MANIFEST_SUFFIX = ".manifest.json"
FILE_ID_CHARACTERS = 32
FARTHEST_AHEAD = timedelta(days=5 * 366)
"""A batch date further ahead of today is mistyped: it would move what counts as known by now."""
_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload")
END_OF_DAY = time(23, 59, 59, 999999)


class BrokenManifest(Exception):
    """The manifest cannot be read; the message says why."""


@dataclass(frozen=True)
class Manifest:
    """What the sender says of a file; None where it says nothing."""

    rows: int | None = None
    sha256: str | None = None
    received_at: datetime | None = None
    control_totals: dict[str, dict[str, int] | int] | None = None
    sequence_no: int | None = None

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """The manifest at `path`, an empty one where there is none; raises `BrokenManifest`."""
        if not path.exists():
            return cls()
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise BrokenManifest("the manifest is not JSON") from error
        if not isinstance(content, dict):
            raise BrokenManifest("the manifest is not a JSON object")
        received_at = content.get("received_at")
        try:
            moment = None if received_at is None else datetime.fromisoformat(received_at)
        except (TypeError, ValueError) as error:
            raise BrokenManifest("received_at of the manifest is no timestamp") from error
        if moment is not None and moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
        totals = content.get("control_totals")
        if totals is not None and not isinstance(totals, dict):
            raise BrokenManifest("control_totals of the manifest is not an object")
        number = content.get("sequence_no")
        if number is not None and not (type(number) is int and number >= 0):
            raise BrokenManifest("sequence_no of the manifest is no whole number from 0 on")
        if find_in_name(str(number)) is not None:
            raise BrokenManifest("sequence_no of the manifest is a card number")
        return cls(content.get("rows"), content.get("sha256"), moment, totals, number)


@dataclass(frozen=True)
class Delivery:
    """One data file in landing. `problem` is set where its place alone disqualifies it.

    `path` is where it lies; what is kept and told of it is `shown_path`.
    """

    feed: str
    batch_date: date
    path: Path
    problem: str | None = None
    masked_path: str | None = None

    @property
    def shown_path(self) -> str:
        """The path, without the card and social security numbers that it may be made of."""
        return self.masked_path or str(self.path)

    @property
    def manifest_path(self) -> Path:
        """Where its manifest would be."""
        return self.path.with_name(self.path.name + MANIFEST_SUFFIX)

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the content."""
        return sha256_of(self.path)

    @property
    def file_id(self) -> str:
        """Identity by content: the same bytes have the same id under any name and date."""
        return self.sha256[:FILE_ID_CHARACTERS]

    def fingerprint(self) -> str:
        """Changes when the file or its manifest is written anew; costs no read of the content."""
        parts = []
        for path in (self.path, self.manifest_path):
            if path.exists():
                stat = path.stat()
                parts.append(f"{stat.st_size}:{stat.st_mtime_ns}")
        return "|".join(parts)

    def default_received_at(self) -> datetime:
        """The end of the batch date, for files whose manifest does not tell."""
        return datetime.combine(self.batch_date, END_OF_DAY)


def list_deliveries(landing: Path, feeds: list[str]) -> list[Delivery]:
    """Every data file under `landing`, by feed in the order of `feeds`, then batch date and name.

    Files being written (`*.tmp`, `*.part`, hidden) and manifests are passed over; whatever else
    has no place here is a delivery with a `problem`, so that it is reported and not lost.
    """
    found: list[Delivery] = []
    if not landing.is_dir():
        return found
    order = {name: position for position, name in enumerate(feeds)}
    astray = "a file belongs into <feed>/<batch date>/"
    found += [Delivery("", date.min, path, astray) for path in _files_in(landing)]
    for feed_dir in sorted(landing.iterdir(), key=lambda p: (order.get(p.name, 1000), p.name)):
        if not feed_dir.is_dir() or feed_dir.name.startswith((".", "_")):
            continue
        known = feed_dir.name in order
        found += [Delivery(feed_dir.name, date.min, path, astray) for path in _files_in(feed_dir)]
        for batch_dir in sorted(feed_dir.iterdir()):
            if not batch_dir.is_dir() or batch_dir.name.startswith("."):
                continue
            batch_date, problem = _batch_date(batch_dir.name)
            if not known:
                problem = f"there is no feed {feed_dir.name!r}"
            for path in _files_in(batch_dir):
                unreadable = None if is_readable(path) else "the file is of no known format"
                found.append(Delivery(feed_dir.name, batch_date, path, problem or unreadable))
            found += [
                Delivery(feed_dir.name, date.min, path, astray)
                for folder in sorted(batch_dir.rglob("*/"))
                if not folder.name.startswith(".")
                for path in _files_in(folder)
            ]
    return [_without_numbers(delivery, landing) for delivery in found]


def _without_numbers(delivery: Delivery, landing: Path) -> Delivery:
    """`delivery`, with a problem and without the number where its place is named by one."""
    place = str(delivery.path.relative_to(landing))
    what = find_in_name(place)
    if what is None:
        return delivery
    return replace(
        delivery,
        feed=masked(delivery.feed),
        problem=f"{what} in the name of the file or of its folder: it must be named otherwise",
        masked_path=str(landing / masked(place)),
    )


def _batch_date(name: str) -> tuple[date, str | None]:
    """The batch date that a folder's name is, and what is wrong with it."""
    try:
        found = datetime.strptime(name, "%Y-%m-%d").date()
    except ValueError:
        return date.min, f"the folder {name!r} is no batch date (YYYY-MM-DD)"
    if found - datetime.now(UTC).date() > FARTHEST_AHEAD:
        return date.min, f"the batch date {name} lies more than five years ahead"
    return found, None


def _files_in(folder: Path) -> list[Path]:
    """The data files of a folder, in order."""
    return [path for path in sorted(folder.iterdir()) if not _is_passed_over(path)]


def _is_passed_over(path: Path) -> bool:
    return (
        path.name.startswith(".")
        or path.name.endswith((MANIFEST_SUFFIX, *_UNFINISHED))
        or not path.is_file()
    )
