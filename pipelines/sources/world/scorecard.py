"""Faults beside findings: what was found of what was done, and what was found that was not."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from pipelines.sources.world.faults import NOTHING, Fault


@dataclass(frozen=True, slots=True)
class KindScore:
    """One kind of fault: `expected` findings, how many of them were `found`."""

    kind: str
    finding: str
    expected: int
    found: int


@dataclass(frozen=True, slots=True)
class Scorecard:
    """`kinds` in their order; `surplus`, findings that no fault explains, by their kind."""

    kinds: tuple[KindScore, ...]
    surplus: dict[str, int] = field(default_factory=dict)
    unexplained: pl.DataFrame = field(default_factory=pl.DataFrame)

    @property
    def recall(self) -> float:
        """Share of the faults that were found as they must be."""
        expected = sum(score.expected for score in self.kinds)
        return sum(score.found for score in self.kinds) / expected if expected else 1.0

    @property
    def false_findings(self) -> int:
        """How many findings no fault explains."""
        return sum(self.surplus.values())


def compare(faults: list[Fault], findings: pl.DataFrame, landing: Path) -> Scorecard:
    """Match `findings` (the rows of `landing.findings`) with `faults`, one with one.

    A fault that must be absorbed counts as found where no finding names its file.
    """
    rows = findings.with_row_index("row").to_dicts()
    free = {row["row"]: row for row in rows}
    expected, found = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for fault in faults:
        kind = (fault.kind, fault.finding)
        expected[kind] += 1
        path = str((landing / fault.path).absolute())
        if fault.finding == NOTHING:
            found[kind] += not any(row["path"] == path for row in rows)
            continue
        match = next((n for n, row in free.items() if _tells(row, fault, path)), None)
        if match is not None:
            del free[match]
            found[kind] += 1
    kinds = tuple(KindScore(*kind, expected[kind], found[kind]) for kind in expected)
    surplus = Counter(row["kind"] for row in free.values())
    unexplained = findings[sorted(free)] if free else findings.clear()
    return Scorecard(kinds, dict(surplus), unexplained)


def _tells(row: dict, fault: Fault, path: str) -> bool:
    if row["kind"] != fault.finding or row["feed"] != fault.feed:
        return False
    # A file that never came has no path.
    if row["path"] is not None and str(Path(row["path"]).absolute()) != path:
        return False
    if fault.record_key is not None and row["record_key"] != fault.record_key:
        return False
    if fault.line_no is not None and row["line_no"] != fault.line_no:
        return False
    return fault.says in (row["detail"] or "")
