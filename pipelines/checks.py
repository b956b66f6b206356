"""The outcome of one check, as `cardline verify` prints it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`detail` says what was checked and how much of it; if not `ok`, what is wrong and where."""

    name: str
    ok: bool
    detail: str
