"""What changes, and for whom, between two versions of a program: term by term, in words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.errors import CardlineError
from pipelines.rewards.terms import Program, TermsVersion
from pipelines.rewards.wording import (
    cap_words,
    limit_words,
    match_words,
    rate_words,
    rule_words,
    rules_of,
)

_WHOM = {
    "economics": "finance", "partner_id": "partner", "issuer_bank": "issuer", "network": "issuer",
    "funding": "partner", "approved_by": "audit", "source_document_sha256": "audit",
}  # fmt: skip
_SKIPPED = ("program", "version", "valid_from", "valid_to", "earn", "eligibility.limits")


@dataclass(frozen=True)
class Change:
    """One term that differs: where it stands, whom it is for, and what it means in words."""

    term: str
    whom: str
    before: Any
    after: Any
    words: str


def diff_versions(program: Program, before: int, after: int) -> list[Change]:
    """Every term in which version `after` of `program` differs from version `before`.

    Dates of validity come first, then what purchases earn, then the other terms. Raises
    `CardlineError` where the program has no such version.
    """
    old, new = _version(program, before), _version(program, after)
    return [
        *_validity(program, old, new),
        *_rules(old.terms.model_dump(mode="json"), new.terms.model_dump(mode="json")),
        *_limits(old.terms.eligibility.model_dump(), new.terms.eligibility.model_dump()),
        *_others(old.terms.model_dump(mode="json"), new.terms.model_dump(mode="json")),
    ]


def _version(program: Program, number: int) -> TermsVersion:
    for version in program.versions:
        if version.terms.version == number:
            return version
    known = ", ".join(str(version.terms.version) for version in program.versions)
    raise CardlineError(f"{program.program_id} has no version {number}: it has {known}")


def _validity(program: Program, old: TermsVersion, new: TermsVersion) -> Iterator[Change]:
    for name in ("valid_from", "valid_to"):
        values = [
            getattr(each.terms, name) if name == "valid_from"
            else program.valid_to(program.versions.index(each))
            for each in (old, new)
        ]  # fmt: skip
        if values[0] != values[1]:
            before, after = (str(value) if value else None for value in values)
            yield Change(
                name, "members", before, after,
                f"{'in force from' if name == 'valid_from' else 'in force until'} "
                f"{after or 'further notice'} (before: {before or 'further notice'})",
            )  # fmt: skip


def _rules(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Rules by their ids: those that come, those that go, and what differs in those that stay."""
    before = {rule["id"]: (place, rule) for place, rule in rules_of(old)}
    after = {rule["id"]: (place, rule) for place, rule in rules_of(new)}
    for rule_id in [*before, *(each for each in after if each not in before)]:
        if rule_id not in after:
            place, rule = before[rule_id]
            yield Change(
                f"earn.{place}.{rule_id}", match_words(rule.get("match")), rule, None,
                f"{rule_id} ends (was: {rule_words(rule, old)})",
            )  # fmt: skip
        elif rule_id not in before:
            place, rule = after[rule_id]
            yield Change(
                f"earn.{place}.{rule_id}", match_words(rule.get("match")), None, rule,
                f"new rule {rule_id}: {rule_words(rule, new)}",
            )  # fmt: skip
        else:
            place, rule = after[rule_id]
            yield from _rule(f"earn.{place}.{rule_id}", before[rule_id][1], rule, old, new)
    places = {place for body in (old, new) for place, _ in rules_of(body)}
    for name in sorted({*old["earn"], *new["earn"]} - places):
        yield from _compared(f"earn.{name}", old["earn"].get(name), new["earn"].get(name))


def _rule(
    term: str, before: dict[str, Any], after: dict[str, Any], old: Mapping[str, Any],
    new: Mapping[str, Any],
) -> Iterator[Change]:  # fmt: skip
    rule_id = after["id"]
    whom = match_words(after.get("match"))
    rate = ("rate_milli", "per_minor", "points", "partial", "min_points")
    if any(before.get(name) != after.get(name) for name in rate):
        moved = _direction(_steepness(before), _steepness(after))
        yield Change(
            f"{term}.rate", whom, rate_words(before, old), rate_words(after, new),
            f"{rule_id}: {moved} from {rate_words(before, old)} to {rate_words(after, new)}",
        )  # fmt: skip
    if before.get("cap") != after.get("cap"):
        yield Change(
            f"{term}.cap", whom, before.get("cap"), after.get("cap"),
            f"{rule_id}: {cap_words(after.get('cap'), new)} "
            f"(before: {cap_words(before.get('cap'), old)})",
        )  # fmt: skip
    if before.get("match") != after.get("match"):
        yield Change(
            f"{term}.match", whom, before.get("match"), after.get("match"),
            f"{rule_id}: for {whom} (before: {match_words(before.get('match'))})",
        )  # fmt: skip
    rest = sorted((set(before) | set(after)) - {*rate, "cap", "match", "id"})
    for name in rest:
        yield from _compared(f"{term}.{name}", before.get(name), after.get(name), whom)


def _steepness(rule: Mapping[str, Any]) -> float:
    """Points per minor unit, or the fewest points of a floor, to compare two rules by."""
    if rule.get("rate_milli") is not None:
        return rule["rate_milli"] / 100_000
    if rule.get("per_minor"):
        return rule["points"] / rule["per_minor"]
    return rule.get("min_points") or 0


def _limits(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Limits of merchants by their ids."""
    before, after = ({limit["id"]: limit for limit in each["limits"]} for each in (old, new))
    for name in [*before, *(each for each in after if each not in before)]:
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        words = f"{name} ends" if now is None else f"{name}: {limit_words(now)}"
        yield Change(
            f"eligibility.limits.{name}", match_words((now or was or {})["match"]), was, now,
            words + (f" (before: {limit_words(was)})" if was else ""),
        )  # fmt: skip


def _others(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in [*old, *(each for each in new if each not in old)]:
        yield from _compared(name, old.get(name), new.get(name))


def _compared(term: str, before: Any, after: Any, whom: str | None = None) -> Iterator[Change]:
    """Differences of any two terms; mappings field by field, lists by what came and went."""
    if before == after or term in _SKIPPED:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(each for each in after if each not in before)]:
            yield from _compared(f"{term}.{name}", before.get(name), after.get(name), whom)
        return
    whom = next((_WHOM[part] for part in term.split(".") if part in _WHOM), whom or "members")
    if term.startswith("eligibility.") and isinstance(before, list) and isinstance(after, list):
        gone = ", ".join(str(each) for each in before if each not in after)
        come = ", ".join(str(each) for each in after if each not in before)
        excludes = term.startswith("eligibility.exclude")
        words = [
            f"{each} {'no longer earn' if is_loss else 'earn now'}"
            for each, is_loss in ((come, excludes), (gone, not excludes))
            if each
        ]
        if words:
            yield Change(term, whom, before, after, f"{term}: {'; '.join(words)}")
        return
    moved = ""
    if isinstance(before, int | float) and isinstance(after, int | float):
        moved = f" ({_direction(before, after)})"
    yield Change(term, whom, before, after, f"{term}: {_said(before)} → {_said(after)}{moved}")


def _direction(before: float, after: float) -> str:
    return "changes" if before == after else "up" if after > before else "down"


def _said(value: Any) -> str:
    if value is None or value in ([], ()):
        return "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
