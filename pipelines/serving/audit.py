"""The audit log: who read what and when, one JSON line a request, without personal data.

A line holds the client, the route, the service or model, how many rows, the outcome and how long
it took; never a key, a value, a body or the path as it was typed.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from pydantic_core import to_json


class AuditLog:
    """Appends to one file a day, `<date>.jsonl`, readable by its owner only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._day = ""
        self._file: IO[bytes] | None = None

    def write(self, line: dict[str, Any]) -> None:
        """Append `line` with its time (UTC); it is handed to the system at once."""
        at = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
        if self._file is None or at[:10] != self._day:
            self._open(at[:10])
        assert self._file is not None
        self._file.write(to_json({"at": at, **line}) + b"\n")

    def close(self) -> None:
        """Close the file; writing again opens it anew."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, day: str) -> None:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{day}.jsonl"
        path.touch(mode=0o600)
        self._file = path.open("ab", buffering=0)
        self._day = day
