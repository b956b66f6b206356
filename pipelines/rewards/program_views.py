"""Programs and simulations as lines for people, and programs as data for other programs."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.rewards.simulation import Cost, Simulation
from pipelines.rewards.terms import Program
from pipelines.rewards.wording import limit_words, money_text, points_text, rule_words, rules_of


def checked(programs: Mapping[str, Program]) -> list[dict[str, Any]]:
    """Every version: program_id, version, valid_from, valid_to, source, rule_hash and rules."""
    found = []
    for program in programs.values():
        for index, version in enumerate(program.versions):
            body = version.terms.model_dump(mode="json")
            rules = {rule["id"]: rule_words(rule, body) for _, rule in rules_of(body)}
            limits = {each["id"]: limit_words(each) for each in body["eligibility"]["limits"]}
            valid_to = program.valid_to(index)
            found.append(
                {
                    "program_id": program.program_id,
                    "version": version.terms.version,
                    "valid_from": str(version.terms.valid_from),
                    "valid_to": str(valid_to) if valid_to else None,
                    "source": version.source,
                    "rule_hash": version.rule_hash,
                    "rules": rules | limits,
                }
            )
    return found


def check_lines(programs: Mapping[str, Program]) -> Iterator[str]:
    """`checked` in words."""
    for each in checked(programs):
        yield (
            f"{each['program_id']} version {each['version']}: {each['valid_from']} to "
            f"{each['valid_to'] or 'further notice'}  ({each['source']})"
        )
        for rule_id, words in each["rules"].items():
            yield f"  {rule_id}: {words}"


def simulation_lines(found: Simulation) -> Iterator[str]:
    """A simulation as a small table of decided, draft and difference."""
    body = {"asset_scale": found.asset_scale}

    def line(name: str, decided: str, drafted: str, difference: str) -> str:
        return f"{name:<28}{decided:>20}{drafted:>20}{difference:>20}"

    def money(cost: Cost) -> str:
        return money_text(cost.minor, found.currency)

    yield (
        f"{found.program_id} in {found.period}: {found.events:,} posted events, as if the draft "
        "had always been in force"
    )
    yield line("", "decided", "draft", "difference")
    total = (found.decided.points, found.drafted.points)
    for name, (before, after) in {**found.rules, "points": total}.items():
        units = (before, after, after - before)
        yield line(name, *(points_text(each, body) for each in units))
    difference = Cost(minor=found.drafted.minor - found.decided.minor)
    yield line("value", money(found.decided), money(found.drafted), money(difference))
    same = found.accounts - found.better - found.worse
    yield f"accounts: {found.better:,} better, {found.worse:,} worse, {same:,} the same"
