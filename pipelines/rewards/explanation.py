"""Why these points: what was decided of a transaction or an account, in words and numbers.

Everything is read from what was written: decisions, the terms of the version that they used, the
ledger, lots and exceptions. Nothing is decided again. Points are told in points; in the JSON
`units` are ledger units of `10 ** -asset_scale` points.
"""

import json
from collections.abc import Iterator
from datetime import date, datetime
from fractions import Fraction
from typing import Any

import duckdb

from pipelines.currencies import minor_digits
from pipelines.errors import CardlineError
from pipelines.rewards.wording import (
    cap_words,
    counted,
    find_rule,
    match_words,
    money_text,
    points_text,
    rate_words,
    reason_words,
    rounding_words,
    unit_name,
)

Facts = dict[str, Any]

RECENT = 10
"""Transactions of an account that are listed, the newest."""

_LOTS_TOUCHED = """
with opened as (
    select lot_id, issue_journal_id as journal_id, 'OPENED' as kind, points_issued as units
    from rewards.lots_issued where issue_journal_id in (select unnest(?::varchar[]))
),
used as (
    select lot_id, journal_id, kind, -points as units from rewards.lot_consumption
    where journal_id in (select unnest(?::varchar[]))
        or lot_id in (select lot_id from opened)
)
select
    touched.lot_id, touched.journal_id, touched.kind, touched.units, lots.issued_on,
    lots.expires_on, lots.points_issued, lots.points_open, lots.funding_partner_bps,
    issued.available_on
from (select * from opened union all by name select * from used) as touched
inner join rewards.lots as lots using (lot_id)
inner join rewards.lots_issued as issued using (lot_id)
inner join rewards.journal as journal on journal.journal_id = touched.journal_id
order by journal.seq, touched.lot_id, touched.kind desc
"""


def explain_transaction(con: duckdb.DuckDBPyConnection, transaction_id: str) -> Facts:
    """The decisions on every posted event of a transaction and what followed from them.

    Keys: transaction_id, program, currency, asset_scale, decisions, superseded, entries, lots,
    exceptions. Raises `CardlineError` where no decision is known of it.
    """
    decisions = _rows(
        con,
        "select * from rewards.decisions where transaction_id = ? "
        "order by effective_on, event_at, event_id, rule_id",
        transaction_id,
    )
    if not decisions:
        waiting = _rows(
            con,
            "select distinct waiting.* from rewards.waiting_accounts as waiting "
            "inner join marts.fct_earning_events as events using (account_id) "
            "where events.transaction_id = ?",
            transaction_id,
        )
        if waiting:
            raise CardlineError(
                f"transaction {transaction_id!r} is not decided yet: account "
                f"{waiting[0]['account_id']} waits ({waiting[0]['reason']})"
            )
        raise CardlineError(f"no decision on a transaction {transaction_id!r}")
    bodies = _bodies(con, decisions[0]["program_id"])
    superseded = _rows(
        con,
        "select * from rewards.superseded_decisions where transaction_id = ? "
        "order by superseded_at, event_id, rule_id",
        transaction_id,
    )
    events = sorted({row["event_id"] for row in [*decisions, *superseded]})
    entries = _rows(
        con,
        "select * exclude (payload_hash, prev_hash) from rewards.journal where "
        "source_kind = 'POSTED_EVENT' and source_id in (select unnest(?::varchar[])) order by seq",
        events,
    )
    journals = [entry["journal_id"] for entry in entries]
    for entry in entries:
        entry["legs"] = _rows(
            con,
            "select leg_no, ledger_account, account_id, lot_id, direction, amount as units "
            "from rewards.postings where journal_id = ? order by leg_no",
            entry["journal_id"],
        )
    body = _body(bodies, decisions[0]["rule_version"])
    bought: dict[str, list[str]] = {}
    for row in _rows(
        con,
        "select distinct event_id, item_event_id from rewards.refund_allocations "
        "where event_id in (select unnest(?::varchar[])) order by all",
        events,
    ):
        bought.setdefault(row["event_id"], []).append(row["item_event_id"])
    return {
        "transaction_id": transaction_id,
        "account_id": decisions[0]["account_id"],
        "program_id": decisions[0]["program_id"],
        "currency": body["currency"],
        "currency_kind": body["currency_kind"],
        "asset_scale": body["asset_scale"],
        "decisions": [
            _decision(row, bodies) | {"purchases": bought.get(row["event_id"], [])}
            for row in decisions
        ],
        "superseded": [_decision(row, bodies) for row in superseded],
        "entries": entries,
        "lots": _rows(con, _LOTS_TOUCHED, journals, journals),
        "exceptions": _rows(
            con,
            "select exception_id, type, state, opened_on, detail from finance.exceptions "
            "where left_ref in (select unnest(?::varchar[])) order by all",
            [transaction_id, *events],
        ),
    }


def explain_account(con: duckdb.DuckDBPyConnection, account_id: str) -> Facts:
    """An account's points by program: what it has, from which rules, in which lots and why.

    Keys: account_id, programs (each with balance, rules, zero_reasons, caps, entries, lots,
    instructions, superseded, transactions), exceptions. Raises `CardlineError` where the ledger
    does not know the account.
    """
    programs = _rows(
        con,
        "select program_id from rewards.account_state where account_id = ? union "
        "select program_id from rewards.decisions where account_id = ? union "
        "select program_id from rewards.reward_event_outcomes where account_id = ? order by 1",
        *[account_id] * 3,
    )
    exceptions = _rows(
        con,
        "select exception_id, type, state, opened_on, detail from finance.exceptions "
        "where right_ref = ? or left_ref = ? order by opened_on, exception_id",
        *[account_id] * 2,
    )
    known = [_account_program(con, account_id, row["program_id"]) for row in programs]
    known = [each for each in known if each]
    if not known and not exceptions:
        raise CardlineError(f"the rewards ledger has no account {account_id!r}")
    return {"account_id": account_id, "programs": known, "exceptions": exceptions}


def _account_program(
    con: duckdb.DuckDBPyConnection, account_id: str, program_id: str
) -> Facts | None:
    bodies = _bodies(con, program_id)
    if not bodies:
        return None
    body = bodies[max(bodies)]
    keys = [program_id, account_id]
    held = _rows(
        con,
        "select pending, available, reserved, deficit from rewards.balances "
        "where program_id = ? and account_id = ?",
        *keys,
    )
    rules = _rows(
        con,
        "select rule_id, rule_version, event_class, count(distinct event_id) as events, "
        "cast(sum(eligible_minor) as bigint) as eligible_minor, "
        "cast(sum(points) as bigint) as units, min(effective_on) as first_on, "
        "max(effective_on) as last_on from rewards.decisions "
        "where program_id = ? and account_id = ? and points <> 0 group by all "
        "order by rule_version, rule_id, event_class desc",
        *keys,
    )
    for row in rules:
        row["rate"] = _rate(_body(bodies, row["rule_version"]), row["rule_id"])
    caps = _rows(
        con,
        "select share_key, window_on, used, max(rule_version) as rule_version, "
        "arg_max(rule_id, rule_version) as rule_id from rewards.cap_usage as usage "
        "inner join rewards.decisions as decisions on usage.program_id = decisions.program_id "
        "and usage.account_id = decisions.account_id and share_key = cap_share_key "
        "and window_on = cap_window_on where usage.program_id = ? and usage.account_id = ? "
        "group by share_key, window_on, used order by window_on desc, share_key",
        *keys,
    )
    for row in caps:
        rule = find_rule(_body(bodies, row["rule_version"]), row["rule_id"])
        row["cap_is_spend"] = rule is not None and rule["cap"]["unit"] == "SPEND_MINOR"
    return {
        "program_id": program_id,
        "currency": body["currency"],
        "currency_kind": body["currency_kind"],
        "asset_scale": body["asset_scale"],
        "balance": held[0] if held else dict.fromkeys(
            ("pending", "available", "reserved", "deficit"), 0
        ),
        "rules": rules,
        "zero_reasons": _rows(
            con,
            "select zero_reason, count(*) as decisions from rewards.decisions where "
            "program_id = ? and account_id = ? and zero_reason is not null group by all order by 1",
            *keys,
        ),
        "caps": caps,
        "entries": _rows(
            con,
            "select event_type, count(distinct journal.journal_id) as entries, cast(sum("
            "case direction when 'CREDIT' then amount else -amount end) as bigint) as units "
            "from rewards.journal as journal inner join rewards.postings as postings "
            "using (journal_id) where journal.program_id = ? and postings.account_id = ? "
            "group by all order by 1",
            *keys,
        ),
        "lots": _rows(
            con,
            "select lots.lot_id, lots.source_id, lots.issued_on, lots.expires_on, "
            "lots.points_issued, points_open, available_on "
            "from rewards.lots inner join rewards.lots_issued as issued using (lot_id) "
            "where lots.program_id = ? and lots.account_id = ? and points_open > 0 "
            "order by lots.expires_on nulls last, lots.issued_on, lots.lot_id",
            *keys,
        ),
        "instructions": _rows(
            con,
            "select reward_event_id, kind, event_at, points as units, outcome, reason, journal_id "
            "from rewards.reward_event_outcomes where program_id = ? and account_id = ? "
            "order by event_at, reward_event_id",
            *keys,
        ),
        "superseded": _rows(
            con,
            "select count(*) as decisions from rewards.superseded_decisions "
            "where program_id = ? and account_id = ?",
            *keys,
        )[0]["decisions"],
        "transactions": _rows(
            con,
            "select transaction_id, max(effective_on) as effective_on, "
            "cast(sum(points) as bigint) as units, "
            "string_agg(distinct coalesce(zero_reason, rule_id), ', ') as why "
            "from rewards.decisions where program_id = ? and account_id = ? "
            "group by transaction_id order by effective_on desc, transaction_id limit ?",
            *keys,
            RECENT,
        ),
    }  # fmt: skip


def _decision(row: Facts, bodies: dict[int, Facts]) -> Facts:
    """A decision with the rule as the version used states it."""
    body = _body(bodies, row["rule_version"])
    rule = find_rule(body, row["rule_id"])
    told = {
        name: row.get(name)
        for name in (
            "decision_id", "event_id", "version_no", "event_class", "rule_id", "rule_version",
            "rule_hash", "zero_reason", "is_eligible", "amount_minor", "eligible_minor",
            "cap_share_key", "cap_window_on", "cap_before", "cap_used", "funding_partner_bps",
            "multiplier_milli",
            "basis_on", "effective_on", "recorded_at", "superseded_at", "revision", "journal_id",
        )
        if name in row
    }  # fmt: skip
    told |= {
        "units": row["points"],
        "rate": _rate(body, row["rule_id"]),
        "for": match_words(rule.get("match")) if rule else None,
        "why": reason_words(row["zero_reason"], rule) if row["zero_reason"] else None,
        "rounding": rounding_words(body),
        "exact_units": None,
        "cap": None,
        "cap_after": None,
    }
    if row["cap_share_key"] is not None and row["cap_before"] is not None:
        told["cap_after"] = row["cap_before"] + (row["cap_used"] or 0)
    if rule and rule.get("cap"):
        told["cap"] = cap_words(rule["cap"], body)
        told["cap_is_spend"] = rule["cap"]["unit"] == "SPEND_MINOR"
    if rule and row["event_class"] == "EARN" and row["is_eligible"]:
        exact = _exact_units(rule, row["eligible_minor"], body)
        times = Fraction(row["multiplier_milli"] or 1000, 1000)
        told["exact_units"] = None if exact is None else str(exact * times)
    return told


def _exact_units(rule: Facts, eligible_minor: int, body: Facts) -> Fraction | None:
    """Ledger units before rounding; None where the rule has no rate of its own."""
    scale = 10 ** body["asset_scale"]
    if rule.get("rate_milli") is not None:
        minor = 10 ** minor_digits(body["currency"])
        return Fraction(eligible_minor * rule["rate_milli"] * scale, 1000 * minor)
    if rule.get("per_minor") is None:
        return None
    if rule.get("partial") == "FLOOR":
        return Fraction(eligible_minor // rule["per_minor"] * rule["points"] * scale)
    return Fraction(eligible_minor * rule["points"] * scale, rule["per_minor"])


def _rate(body: Facts, rule_id: str) -> str | None:
    rule = find_rule(body, rule_id)
    return rate_words(rule, body) if rule else None


def _bodies(con: duckdb.DuckDBPyConnection, program_id: str) -> dict[int, Facts]:
    """The terms of each version of a program."""
    found = con.execute(
        "select version, body from rewards.programs where program_id = ?", [program_id]
    ).fetchall()
    return {version: json.loads(body) for version, body in found}


def _body(bodies: dict[int, Facts], version: int | None) -> Facts:
    """The terms of a version; of an event that none was in force for, the first."""
    return bodies[version if version in bodies else min(bodies)]


def _rows(con: duckdb.DuckDBPyConnection, query: str, *parameters: object) -> list[Facts]:
    return list(con.execute(query, list(parameters)).pl().iter_rows(named=True))


def as_json(facts: Facts) -> str:
    """The facts for a program to read; days and times as ISO text."""

    def text(value: object) -> str:
        return value.isoformat() if isinstance(value, date | datetime) else str(value)

    return json.dumps(facts, default=text)


def transaction_lines(facts: Facts) -> Iterator[str]:
    """`explain_transaction` in words."""
    name = unit_name(facts)
    total = sum(each["units"] for each in facts["decisions"])
    yield (
        f"transaction {facts['transaction_id']} of account {facts['account_id']}: "
        f"{points_text(total, facts)} {name} of {facts['program_id']}"
    )
    for each in facts["decisions"]:
        yield from _decision_lines(each, facts)
    for each in facts["superseded"]:
        yield (
            f"  superseded {each['superseded_at']}: {each['event_id']} by {each['rule_id']} "
            f"gave {points_text(each['units'], facts)} (revision {each['revision']})"
        )
    for entry in facts["entries"]:
        reverses = entry["reverses_journal_id"]
        yield (
            f"  entry {entry['journal_id']}: {entry['event_type']}, effective "
            f"{entry['effective_on']}, recorded {entry['recorded_at']:%Y-%m-%d}, books of "
            f"{entry['accounting_period']}" + (f", reverses {reverses}" if reverses else "")
        )
        for leg in entry["legs"]:
            yield (
                f"    {leg['direction']:<6} {leg['ledger_account']:<26}"
                f"{points_text(leg['units'], facts):>14}  {leg['lot_id'] or _owed(leg)}".rstrip()
            )
    for lot in facts["lots"]:
        yield (
            f"  lot {lot['lot_id']}: {lot['kind'].lower()} {points_text(lot['units'], facts)} by "
            f"{lot['journal_id']}; {points_text(lot['points_open'], facts)} of "
            f"{points_text(lot['points_issued'], facts)} open, {_usable(lot)}"
        )
    yield from _exception_lines(facts)


def _decision_lines(each: Facts, facts: Facts) -> Iterator[str]:
    version = "no version in force" if each["rule_version"] is None else (
        f"version {each['rule_version']}"
    )  # fmt: skip
    yield (
        f"  {each['effective_on']} {each['event_id']} {each['event_class']}: "
        f"rule {each['rule_id']}, {version} (terms of {each['basis_on']}), "
        f"{points_text(each['units'], facts)} {unit_name(facts)}"
        + (f", because {each['why']}" if each["why"] else "")
    )
    amount = money_text(each["amount_minor"], facts["currency"])
    eligible = money_text(each["eligible_minor"], facts["currency"])
    of_it = f", of it eligible {eligible}" if each["exact_units"] or each["why"] else ""
    yield f"    amount {amount}{of_it}; {each['rate'] or 'no rate'}"
    if each["cap_after"] is not None and each["cap"]:
        before, after = (
            _cap_text(value, each["cap_is_spend"], facts)
            for value in (each["cap_before"], each["cap_after"])
        )
        yield (
            f"    cap {each['cap']}: used {before} before, {after} after, "
            f"window from {each['cap_window_on']}"
        )
    if each["exact_units"] is not None:
        exact = Fraction(each["exact_units"]) / 10 ** facts["asset_scale"]
        times = (each["multiplier_milli"] or 1000) / 1000
        by_tier = f"times {times:g} by the tier, " if times != 1 else ""
        yield f"    {by_tier}before rounding {float(exact):.6g}; rounded {each['rounding']}"
    elif each["purchases"]:
        names = ", ".join(each["purchases"])
        yield f"    the difference of what the purchase {names} gives before and after"
    elif each["event_class"] == "CLAWBACK":
        yield "    no purchase is known that it refunds: what one like it would give is taken"
    if each["funding_partner_bps"]:
        yield f"    {each['funding_partner_bps'] / 100:g} % paid by the partner"


def account_lines(facts: Facts) -> Iterator[str]:
    """`explain_account` in words."""
    for each in facts["programs"]:
        name = unit_name(each)
        held = ", ".join(
            f"{points_text(units, each)} {state}" for state, units in each["balance"].items()
        )
        yield f"account {facts['account_id']} in {each['program_id']} ({name}): {held}"
        for row in each["rules"]:
            yield (
                f"  {points_text(row['units'], each):>14}  {row['event_class'].lower()} by "
                f"{row['rule_id']} (version {row['rule_version']}, {row['rate'] or 'no rate'}): "
                f"{counted(row['events'], 'event')} of "
                f"{money_text(row['eligible_minor'], each['currency'])}, "
                f"{row['first_on']} to {row['last_on']}"
            )
        for row in each["zero_reasons"]:
            yield (
                f"  {'0':>14}  {counted(row['decisions'], 'decision')} because "
                f"{reason_words(row['zero_reason'])}"
            )
        for row in each["entries"]:
            yield (
                f"  {points_text(row['units'], each):>14}  {row['event_type'].lower()}: "
                f"{counted(row['entries'], 'entry')}"
            )
        for row in each["caps"]:
            used = _cap_text(row["used"], row["cap_is_spend"], each)
            yield f"  cap {row['share_key']} from {row['window_on']}: {used} used"
        for row in each["lots"]:
            yield (
                f"  lot {row['lot_id']}: {points_text(row['points_open'], each)} of "
                f"{points_text(row['points_issued'], each)} open, {_usable(row)}"
            )
        for row in each["instructions"]:
            yield (
                f"  {row['kind'].lower()} {row['reward_event_id']} of {row['event_at']}: "
                f"{row['outcome'].lower()}" + (f", {row['reason']}" if row["reason"] else "")
            )
        if each["superseded"]:
            yield f"  superseded: {counted(each['superseded'], 'earlier decision')}"
        for row in each["transactions"]:
            yield (
                f"  {row['effective_on']} {row['transaction_id']}: "
                f"{points_text(row['units'], each)} ({row['why']})"
            )
    yield from _exception_lines(facts)


def _exception_lines(facts: Facts) -> Iterator[str]:
    for each in facts["exceptions"]:
        yield f"  exception {each['type']} ({each['state'].lower()}): {each['detail']}"


def _owed(leg: Facts) -> str:
    """What a member's leg without a lot says."""
    if leg["ledger_account"] != "MEMBER_AVAILABLE":
        return ""
    return "owed: no lot covers it" if leg["direction"] == "DEBIT" else "settles what was owed"


def _cap_text(used: int, is_spend: bool, facts: Facts) -> str:
    return money_text(used, facts["currency"]) if is_spend else points_text(used, facts)


def _usable(lot: Facts) -> str:
    since = f"can be spent from {lot['available_on']} on, " if lot["available_on"] else ""
    return since + (f"expires {lot['expires_on']}" if lot["expires_on"] else "never expires")


def example(con: duckdb.DuckDBPyConnection) -> str | None:
    """The explanation of one transaction, as text: the newest that most was decided about."""
    row = con.execute(
        "select transaction_id from rewards.decisions group by transaction_id "
        "order by count(*) desc, max(effective_on) desc, transaction_id limit 1"
    ).fetchone()
    return None if row is None else "\n".join(transaction_lines(explain_transaction(con, row[0])))
