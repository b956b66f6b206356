"""What a month would have cost under a draft of a program's terms. Reads only."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import duckdb
import polars as pl

from pipelines.errors import CardlineError
from pipelines.progress import track
from pipelines.rewards import inputs, stored
from pipelines.rewards.engine import State, decide
from pipelines.rewards.facts import ACTIVATION_SCHEMA
from pipelines.rewards.rules import RuleBook, rounded
from pipelines.rewards.terms import FIXED_FIELDS, Program, TermsVersion, parse_terms
from pipelines.rewards.yaml_lines import read_documents

ACCOUNTS_AT_ONCE = 20_000
ALWAYS = date(1900, 1, 1)


@dataclass
class Cost:
    """Points in ledger units, and their value in minor units of the program's currency."""

    points: int = 0
    minor: int = 0


@dataclass
class Simulation:
    """What was decided for a month, and what the draft decides for the same events.

    `rules` has (decided, drafted) ledger units by rule id. Accounts are better or worse off by
    their points of the month.
    """

    program_id: str
    period: str
    currency: str
    asset_scale: int
    events: int = 0
    accounts: int = 0
    better: int = 0
    worse: int = 0
    decided: Cost = field(default_factory=Cost)
    drafted: Cost = field(default_factory=Cost)
    rules: dict[str, tuple[int, int]] = field(default_factory=dict)


def read_draft(path: Path) -> TermsVersion:
    """The one version of terms in the file at `path`; `CardlineError` where it is not that."""
    found = read_documents(path)
    if len(found) != 1:
        raise CardlineError(f"{path}: holds {len(found)} versions; a draft is one")
    document, lines = found[0]
    return parse_terms(document, str(path), lines)


def simulate(con: duckdb.DuckDBPyConnection, draft: TermsVersion, period: str) -> Simulation:
    """Decide the posted events of month `period` (`YYYY-MM`) by `draft` alone.

    The draft counts as if it had always been in force: the whole history of every account that
    has an event in the month is decided by it, so that caps of any window, lifetime ones too, and
    refunds of earlier purchases stand as they would then. Tiers, gates and bonuses are by all that
    is known now. Of the answer the decisions with an
    effective day in the month are compared with the current ones. Offers that members took up
    count, where the draft has them under the same id. Points are valued as the ledger's units are
    issued, at the draft's `point_value_micros` and, for what was decided, at that of the version
    used, each rounded once, half up.

    Raises `CardlineError` where the program has no decisions in the month, or the draft differs
    in what is fixed for the program's life.
    """
    program_id = draft.terms.program
    first, last = _month(period)
    _refuse_other_units(con, draft)
    through = stored.done_through(con)
    decided = _decided(con, program_id, first, last)
    if decided.is_empty() or through is None:
        raise CardlineError(f"{program_id} has no decisions in {period}")
    terms = draft.terms
    found = Simulation(program_id, period, terms.currency, terms.asset_scale)
    always = terms.model_copy(update={"valid_from": ALWAYS, "valid_to": None})
    version = TermsVersion(always, draft.rule_hash, draft.source)
    book = RuleBook(Program(program_id, (version,)))
    drafted = pl.concat(_drafted(con, book, decided["account_id"].unique(), first, last, through))
    _compare(found, decided, drafted)
    found.events = int(drafted["events"].sum())
    values = dict(
        con.execute(
            "select version, point_value_micros from rewards.programs where program_id = ?",
            [program_id],
        ).fetchall()
    )
    by_version = decided.group_by("rule_version").agg(pl.col("points").sum()).rows()
    found.decided = Cost(
        int(decided["points"].sum()),
        _minor(sum(points * values.get(number, 0) for number, points in by_version)),
    )
    total = int(drafted["points"].sum())
    found.drafted = Cost(total, _minor(total * terms.economics.point_value_micros))
    return found


def _month(period: str) -> tuple[date, date]:
    """First day of the month and of the next."""
    try:
        first = date.fromisoformat(f"{period}-01")
    except ValueError:
        raise CardlineError(f"--period {period!r} is no month: write YYYY-MM") from None
    return first, date(first.year + first.month // 12, first.month % 12 + 1, 1)


def _refuse_other_units(con: duckdb.DuckDBPyConnection, draft: TermsVersion) -> None:
    stored = con.execute(
        "select * from rewards.programs where program_id = ? order by version desc limit 1",
        [draft.terms.program],
    ).pl()
    if stored.is_empty():
        raise CardlineError(f"{draft.source}: program: the warehouse has no {draft.terms.program}")
    for name in (each for each in FIXED_FIELDS if each in stored.columns):
        if stored[name][0] != getattr(draft.terms, name):
            raise CardlineError(
                f"{draft.source}: {name}: is fixed for the life of {draft.terms.program} "
                f"({stored[name][0]!r})"
            )


def _decided(
    con: duckdb.DuckDBPyConnection, program_id: str, first: date, last: date
) -> pl.DataFrame:
    """Current points of the month by account, rule and version."""
    return con.execute(
        "select account_id, rule_id, rule_version, cast(sum(points) as bigint) as points "
        "from rewards.decisions where program_id = ? and effective_on >= ? and effective_on < ? "
        "group by all",
        [program_id, first, last],
    ).pl()


def _drafted(
    con: duckdb.DuckDBPyConnection, book: RuleBook, accounts: pl.Series, first: date, last: date,
    through: date,
) -> Iterator[pl.DataFrame]:  # fmt: skip
    """The draft's points of the month by account and rule, some accounts at a time."""
    program_id, zone = book.program.program_id, book.program.latest.timezone
    local_day = pl.col("event_at").dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.date()
    offers = (
        stored.activations(con, program_id)
        .with_columns(
            activated_on=local_day,
            activated_at="event_at",
            day=pl.lit(through),
            is_new=pl.lit(False),
        )
        .select(ACTIVATION_SCHEMA.names())
    )
    ids = accounts.sort()
    for start in track(range(0, ids.len(), ACCOUNTS_AT_ONCE), "Deciding"):
        some = ids.slice(start, ACCOUNTS_AT_ONCE)
        events = (
            inputs.events_of(con, some, through, book.pays)
            .filter(pl.col("program_id") == program_id)
            .drop("program_id")
        )
        # All of the accounts' events are at hand, so every statement period can be judged.
        state = State(facts=inputs.facts_of(con, book, some, offers, through, through))
        yield (
            decide(events, book, state)
            .decisions.filter(pl.col("effective_on") >= first, pl.col("effective_on") < last)
            .with_columns(is_first=pl.col("event_id").is_first_distinct())
            .group_by("account_id", "rule_id")
            .agg(pl.col("points").sum(), events=pl.col("is_first").sum())
        )


def _compare(found: Simulation, decided: pl.DataFrame, drafted: pl.DataFrame) -> None:
    """Differences by rule, and how many accounts gain and lose."""

    def beside(key: str) -> pl.DataFrame:
        sums = [
            each.group_by(key).agg(pl.col("points").sum().alias(name))
            for each, name in ((decided, "decided"), (drafted, "drafted"))
        ]
        return (
            sums[0].join(sums[1], on=key, how="full", coalesce=True)
            .with_columns(pl.col("decided", "drafted").fill_null(0)).sort(key)
        )  # fmt: skip

    accounts = beside("account_id")
    found.accounts = accounts.height
    found.better = accounts.filter(pl.col("drafted") > pl.col("decided")).height
    found.worse = accounts.filter(pl.col("drafted") < pl.col("decided")).height
    found.rules = {rule: (before, after) for rule, before, after in beside("rule_id").rows()}


def _minor(micros: int) -> int:
    """Millionths of a minor unit as minor units, half away from zero."""
    whole = rounded(abs(micros), 1_000_000, "HALF_UP")
    return -whole if micros < 0 else whole
