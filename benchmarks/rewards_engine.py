"""How many posted events a second the rewards engine works on one core, beside plain DuckDB.

    python -m benchmarks.rewards_engine [--events N] [--chunk N] [--refunds SHARE]
        [--program ID] [--json]

Over the same made-up events, in the same process, held to one core and by its seconds of work (so
that what else the machine does counts for little):

- `decide`: decisions alone;
- `decide, post, lots`: the same, then journal entries, legs and lots, all in memory; hashing,
  seals and writing to the warehouse are left out;
- `duckdb`: one plain pass (filter, join the terms, window for the cap, group), as a measure of
  the machine. It knows no refunds, rounding rules, reasons or lots.

Events are made and worked by chunks of accounts, so memory is bounded by the chunk. Making them is
not counted.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from datetime import date

import duckdb
import numpy as np
import polars as pl

from benchmarks.memory import peak_bytes
from pipelines.rewards import due, inputs, stored
from pipelines.rewards.changes import find_changes
from pipelines.rewards.engine import EVENT_SCHEMA, decide
from pipelines.rewards.facts import Facts
from pipelines.rewards.rules import RuleBook
from pipelines.rewards.simulation import ALWAYS
from pipelines.rewards.tables import ensure_tables
from pipelines.rewards.terms import Program, load_programs
from pipelines.settings import PACKAGE_DIR
from pipelines.warehouse import memory

FIRST, DAYS = date(2024, 1, 1), 730
EVENTS_AN_ACCOUNT = 300
REFUNDS = 0.02
MCCS = ("5411", "5541", "5812", "5912", "4899", "5999", "5311", "6011", "7995")
_NO_ACCOUNTS = """
create schema marts;
create table marts.dim_accounts (
    account_id varchar, program_id varchar, opened_on date, closed_on date, status varchar,
    close_reason varchar, substatus varchar, updated_at timestamp, received_at timestamp
)
"""
"""Nothing is known of accounts: none is closed."""
NO_TEXT = pl.lit(None, dtype=pl.String)


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--chunk", type=int, default=300_000, help="events at once, about")
    parser.add_argument("--program", default="clear_cash", help="one of the shipped programs")
    parser.add_argument("--refunds", type=float, default=REFUNDS, help="share of refunds")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    # Before the first frame is made: the pool of threads is as large as the cores at hand.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    result = run(arguments.program, arguments.events, arguments.chunk, arguments.refunds)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{result['events']:,} events of {result['accounts']:,} accounts, one core")
    for name, rate in result["events_a_second"].items():
        ratio = result["events_a_second"]["duckdb"] / rate
        print(f"{name:<20}{rate:>12,.0f} events/s   {ratio:6.2f} times the time of plain DuckDB")
    print(f"peak memory {result['peak_mib']:,} MiB")


def run(program_id: str, events: int, chunk: int, refunds: float = REFUNDS) -> dict:
    """The figures: events, accounts, events_a_second by pass, counts to see that work was done."""
    program = load_programs(PACKAGE_DIR / "rewards" / "programs")[program_id]
    seconds = {"decide": 0.0, "decide, post, lots": 0.0, "duckdb": 0.0}
    counts = {"decisions": 0, "entries": 0, "legs": 0, "lots": 0, "duckdb_rows": 0}
    done = accounts = 0
    with memory() as con, memory() as plain:
        plain.execute("set threads = 1")
        ensure_tables(con)
        con.execute(_NO_ACCOUNTS)
        write_terms(plain, program)
        for frame in chunks(events, chunk, program.latest.currency, refunds):
            done += frame.height
            accounts += frame["account_id"].n_unique()
            start = time.process_time()
            decided = decide(frame, RuleBook(program))
            seconds["decide"] += time.process_time() - start
            counts["decisions"] += decided.decisions.height
            del decided
            start = time.process_time()
            posted = post(con, program, frame)
            seconds["decide, post, lots"] += time.process_time() - start
            counts["entries"] += posted.journals.height
            counts["legs"] += posted.postings.height
            counts["lots"] += posted.lots.height
            del posted
            plain.register("events", frame.to_arrow())
            start = time.process_time()
            counts["duckdb_rows"] += plain.execute(PLAIN).to_arrow_table().num_rows
            seconds["duckdb"] += time.process_time() - start
            plain.unregister("events")
    return {
        "program": program.program_id,
        "events": done,
        "accounts": accounts,
        "events_a_second": {name: round(done / spent) for name, spent in seconds.items()},
        "ratio_to_duckdb": {
            name: round(spent / seconds["duckdb"], 2) for name, spent in seconds.items()
        },
        **counts,
        "peak_mib": peak_bytes() >> 20,
    }


def post(con: duckdb.DuckDBPyConnection, program: Program, events: pl.DataFrame):
    """Entries, legs and lots of a whole history in one pass; `con` has an empty ledger."""
    states = stored.states_of(con, program.program_id)
    instructions = pl.DataFrame(
        schema={**dict.fromkeys(inputs.INSTRUCTION_COLUMNS, pl.String), "day": pl.Date}
    )
    dated = events.with_columns(day=pl.col("known_on"))
    facts = Facts()
    changes = find_changes(con, RuleBook(program), dated, states, facts, None)
    through = events["known_on"].max()
    assert isinstance(through, date)
    activity = dated.select("account_id", "day", active_on="posted_on").clear()
    entries, _, _ = due.post(
        con, program, changes.actions, instructions, states, facts.statements, activity, None,
        through,
    )  # fmt: skip
    return entries


def chunks(events: int, chunk: int, currency: str, refunds: float) -> Iterator[pl.DataFrame]:
    """Histories of whole accounts, `events` in all (`EVENT_SCHEMA`)."""
    made = 0
    while made < events:
        size = min(chunk, events - made)
        yield histories(made, size, currency, refunds)
        made += size


def histories(first: int, size: int, currency: str, refunds: float) -> pl.DataFrame:
    """`size` events from number `first` on; the same numbers always give the same events."""
    rng = np.random.default_rng(first + 1)
    number = np.arange(first, first + size)
    account = number // EVENTS_AN_ACCOUNT
    day = rng.integers(0, DAYS, size)
    # Numbers follow time within an account, so that a refund comes after what it refunds.
    day = day[np.lexsort((day, account))]
    second = rng.integers(0, 86_400, size)
    is_refund = rng.random(size) < refunds
    refunded = number - rng.integers(1, EVENTS_AN_ACCOUNT, size)
    # A refund of an event of another account is one that matches nothing.
    text = pl.col("number").cast(pl.String)
    return (
        pl.DataFrame(
            {
                "number": number, "account": account, "day": day, "second": second,
                "amount_minor": np.maximum(1, rng.lognormal(8, 1, size).astype(np.int64)),
                "mcc": np.array(MCCS)[rng.integers(0, len(MCCS), size)],
                "is_refund": is_refund, "refunded": refunded,
            }
        )
        .with_columns(posted_on=pl.lit(FIRST) + pl.duration(days="day"))
        .with_columns(
            event_id=pl.concat_str(pl.lit("e"), text),
            transaction_id=pl.concat_str(pl.lit("t"), text),
            account_id=pl.concat_str(pl.lit("a"), pl.col("account").cast(pl.String)),
            event_type=pl.when("is_refund").then(pl.lit("RETURN")).otherwise(pl.lit("CLEARING")),
            event_at=pl.col("posted_on").cast(pl.Datetime("us")) + pl.duration(seconds="second"),
            currency=pl.lit(currency),
            direction=pl.when("is_refund").then(pl.lit("CREDIT")).otherwise(pl.lit("DEBIT")),
            transaction_class=pl.when("is_refund").then(pl.lit("REFUND"))
            .otherwise(pl.lit("PURCHASE")),
            merchant_id=NO_TEXT, merchant_country=NO_TEXT, partner_id=NO_TEXT,
            refunds_transaction_id=pl.when("is_refund").then(
                pl.concat_str(pl.lit("t"), pl.col("refunded").cast(pl.String))
            ),
            version_no=pl.lit(1, dtype=pl.Int64), known_on=pl.col("posted_on"),
        )
        .select(pl.col(name).cast(kind) for name, kind in EVENT_SCHEMA.items())
    )  # fmt: skip


def write_terms(con: duckdb.DuckDBPyConnection, program: Program) -> None:
    """The program's rules as a table for the plain pass, one row a rule and category code."""
    book = RuleBook(program)
    terms = program.latest
    rows = []
    for rate in terms.earn.rules():
        rule = book.rule(0, rate.id)
        assert rule is not None
        named = getattr(rate, "match", None)
        codes = MCCS
        if named is not None:
            from pipelines.rewards.mcc import categories

            codes = tuple(
                code for code in MCCS
                if any(code in categories()[each] for each in named.mcc_category)
            )  # fmt: skip
        is_spend = rule.cap is not None and rule.cap.is_spend
        rows += [
            (rate.id, code, rule.numerator / rule.denominator,
             rule.cap.share_key if rule.cap else rate.id,
             rule.cap.amount if rule.cap and is_spend else 2**62)
            for code in codes
        ]  # fmt: skip
    con.execute(
        "create table terms (rule_id varchar, mcc varchar, rate double, share_key varchar, "
        "cap_minor bigint, valid_from date)"
    )
    con.executemany("insert into terms values (?, ?, ?, ?, ?, ?)", [(*row, ALWAYS) for row in rows])


PLAIN = """
with running as (
    select
        event.account_id, event.posted_on, terms.rule_id, terms.rate, terms.cap_minor,
        event.amount_minor,
        sum(event.amount_minor) over (
            partition by event.account_id, terms.share_key, date_trunc('year', event.posted_on)
            order by event.posted_on, event.event_at, event.transaction_id, event.event_id
        ) as spent
    from events as event
    inner join terms on event.mcc = terms.mcc and event.posted_on >= terms.valid_from
    where event.transaction_class = 'PURCHASE' and event.direction = 'DEBIT'
        and event.mcc not in ('6011', '7995')
)
select
    account_id, rule_id, date_trunc('month', posted_on) as period,
    sum(round(greatest(0, least(amount_minor, cap_minor - spent + amount_minor)) * rate)) as points
from running
group by account_id, rule_id, date_trunc('month', posted_on)
"""


if __name__ == "__main__":
    main()
