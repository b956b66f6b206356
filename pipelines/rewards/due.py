"""What is due in one pass of a program, and the entries that it leads to.

Accounts whose points only posted events and month ends move are posted in columns; the others entry
by entry (`posting.py`).
"""

from collections.abc import Mapping
from datetime import date, timedelta

import duckdb
import polars as pl

from pipelines.rewards import inputs, stored
from pipelines.rewards.ledger import Entries
from pipelines.rewards.lots import AccountLots, Lot
from pipelines.rewards.posting import (
    Account,
    AccountPosting,
    Forborne,
    Instruction,
    Outcome,
    Redemption,
    expiry_of,
    month_ends,
    terms_on,
)
from pipelines.rewards.posting_columns import (
    is_plain,
    merged,
    month_end_transfers,
    of_events,
    post_in_columns,
)
from pipelines.rewards.rules import RuleBook
from pipelines.rewards.terms import Program

SPENDING = ("REDEEM", "REDEEM_CANCEL", "TRANSFER", "ADJUST", "FORFEIT", "CREDIT", "WRITE_OFF")


def closures(
    con: duckdb.DuckDBPyConnection, book: RuleBook, after: date | None, through: date
) -> pl.DataFrame:
    """What closed accounts are due to lose or to be paid, as instructions of this pass."""
    if not any(version.terms.closure for version in book.program.versions):
        return pl.DataFrame()
    program_id = book.program.program_id
    closed = inputs.closures_of(con, program_id, through)
    if closed.is_empty():
        return closed
    done = stored.settled(con, program_id)
    rows = []
    meant: set[tuple[str, int]] = set()
    for each in closed.iter_rows(named=True):
        account, closing, closed_on = each["account_id"], each["closing"], each["closed_on"]
        closure = book.terms_on(closed_on).closure
        if closure is None or not closure.covers(each["close_reason"], each["substatus"]):
            continue
        if (account, closing) in meant:
            continue
        meant.add((account, closing))
        for kind, days in ((closure.action, closure.grace_days),
                           ("WRITE_OFF", closure.write_off_days)):  # fmt: skip
            if days is None:
                continue
            effective_on = closed_on + timedelta(days=days)
            name = f"closure:{kind.lower()}:{program_id}:{account}"
            if closing > 1:
                name += f":{closing}"
            day = max(effective_on, each["known_on"], after or date.min)
            is_open_again = each["reopened_on"] is not None and each["reopened_on"] <= day
            if name not in done and day <= through and not is_open_again:
                rows.append((name, account, program_id, kind, effective_on, None, day))
    frame = pl.DataFrame(
        rows, orient="row",
        schema={"reward_event_id": pl.String, "account_id": pl.String, "program_id": pl.String,
                "kind": pl.String, "effective_on": pl.Date, "points": pl.Int64, "day": pl.Date},
    )  # fmt: skip
    return frame.with_columns(
        event_at=pl.col("effective_on").cast(pl.Datetime("us")),
        payload_hash=pl.lit(""),
        known_on="day",
    )


_EARLY_SCHEMA = pl.Schema(
    {"account_id": pl.String, "bonus": pl.Int64, "closed_on": pl.Date, "known_on": pl.Date}
)


def _closed_early(
    con: duckdb.DuckDBPyConnection, program: Program, actions: pl.DataFrame, through: date
) -> pl.DataFrame:
    """Accounts whose closure takes their sign-up bonus back: the points of it that stood before
    `actions`, less what the closure took already (`_EARLY_SCHEMA`)."""
    offers = {bonus.id for version in program.versions for bonus in version.terms.signup_bonus}
    if not offers:
        return pl.DataFrame(schema=_EARLY_SCHEMA)
    closed = inputs.closures_of(con, program.program_id, through).unique(
        "account_id", keep="first", maintain_order=True
    )
    if closed.is_empty():
        return pl.DataFrame(schema=_EARLY_SCHEMA)
    stands = stored.bonus_points(con, program.program_id, closed["account_id"], sorted(offers))
    sign = pl.when("reverses").then(-1).otherwise(1)
    moves = actions.filter(pl.col("bonus") != 0)
    moved = dict(moves.group_by("account_id").agg((sign * pl.col("bonus")).sum()).iter_rows())
    rows = []
    for each in closed.iter_rows(named=True):
        account, closed_on = each["account_id"], each["closed_on"]
        opened_on = each["opened_on"] or closed_on
        limits = [
            bonus.clawback.if_closed_within_days
            for bonus in terms_on(program, opened_on).signup_bonus
        ]
        is_early = any(
            limit is not None and (closed_on - opened_on).days <= limit for limit in limits
        )
        if is_early and (stands.get(account) or account in moved):
            bonus = stands.get(account, 0) - moved.get(account, 0)
            rows.append((account, bonus, closed_on, each["known_on"]))
    return pl.DataFrame(rows, schema=_EARLY_SCHEMA, orient="row")


def post(
    con: duckdb.DuckDBPyConnection,
    program: Program,
    actions: pl.DataFrame,
    instructions: pl.DataFrame,
    states: pl.DataFrame,
    statements: pl.DataFrame,
    activity: pl.DataFrame,
    after: date | None,
    through: date,
) -> tuple[Entries, list[Outcome], dict[str, int]]:
    """Entries of everything that is due, outcomes of instructions, balances that changed.

    `actions` (`ACTION_SCHEMA`): what posted events do to points; `instructions` with `day`,
    `effective_on` and the columns of `inputs.INSTRUCTION_COLUMNS`; `states`: balances that the
    last pass, which went through `after`, left. `activity`: account_id, `day` and the day
    `active_on` that became known on it, where points lapse by inactivity.
    """
    instructions = instructions.filter(pl.col("kind").is_in(SPENDING))
    first_day = after if after is not None else _first_day(actions, instructions)
    ends = month_ends(first_day, through)
    if after is None and first_day is not None:
        ends = month_ends(first_day.replace(day=1), through)
    early = _closed_early(con, program, actions, through)
    single = _one_by_one(
        con, program, actions, instructions, states, statements, activity, ends, after, through
    )
    single = pl.concat([single, early["account_id"]]).unique().sort()
    of_single = pl.col("account_id").is_in(single.implode())
    entries = of_events(program, actions.filter(~of_single))
    if ends and program.latest.settlement_model == "PARTNER_POSTED":
        transfers = month_end_transfers(
            program, actions.filter(~of_single), states.filter(~of_single), ends
        )
        entries = pl.concat([entries, transfers])
    losing = entries.filter(pl.col("points") < 0)["account_id"].unique()
    lots = stored.lots_of(con, program.program_id, losing, _may_wait(program))
    parts = [post_in_columns(program, entries, states, lots)]
    balances = _plain_balances(entries, states)
    posting = AccountPosting(program, after, through, ends)
    accounts = _accounts(
        con, program, single, actions.filter(of_single), instructions, states, statements, activity,
        early,
    )  # fmt: skip
    for account in accounts:
        balances[account.account_id] = posting.run(account)
    order, entries, outcomes = posting.finish()
    return merged([*parts, (order, entries)]), outcomes, balances


def _first_day(actions: pl.DataFrame, instructions: pl.DataFrame) -> date | None:
    days = [
        day for day in (actions["day"].min(), instructions["day"].min()) if isinstance(day, date)
    ]
    return min(days) if days else None


def _plain_balances(entries: pl.DataFrame, states: pl.DataFrame) -> dict[str, int]:
    added = entries.group_by("account_id").agg(pl.col("points").sum())
    total = added.join(states.select("account_id", "balance"), on="account_id", how="left").select(
        "account_id", pl.col("points") + pl.col("balance").fill_null(0)
    )
    return dict(total.iter_rows())


def _one_by_one(
    con: duckdb.DuckDBPyConnection,
    program: Program,
    actions: pl.DataFrame,
    instructions: pl.DataFrame,
    states: pl.DataFrame,
    statements: pl.DataFrame,
    activity: pl.DataFrame,
    ends: list[date],
    after: date | None,
    through: date,
) -> pl.Series:
    """Accounts whose lots must be worked entry by entry, sorted."""
    plain = is_plain()
    if any(version.terms.returns.policy != "UNLIMITED" for version in program.versions):
        plain &= (pl.col("event_class") == "EARN") & (pl.col("points") > 0)
    if _may_overflow(actions["points"], states["balance"]):
        plain = pl.lit(False)
    parts = [
        actions.filter(~plain)["account_id"],
        instructions["account_id"],
        stored.accounts_with_lots_due(con, program.program_id, "expires_on", after, through),
        actions.filter(pl.col("effective_on").is_in(_lapsing(program, actions, through)))[
            "account_id"
        ],
    ]
    # What waits, for its statement or a day, is not transferred.
    transfers = bool(ends) and program.latest.settlement_model == "PARTNER_POSTED"
    if any(version.terms.accrual.settlement == "STATEMENT" for version in program.versions):
        held = pl.concat([actions["account_id"], states["account_id"]])
        new = statements.filter("is_new")["account_id"]
        parts.append(new.filter(new.is_in(held.implode())))
        if transfers:
            parts += [actions["account_id"], states.filter(pl.col("balance") > 0)["account_id"]]
    if program.waits:
        until = date.max if transfers else through
        parts.append(
            stored.accounts_with_lots_due(con, program.program_id, "available_on", after, until)
        )
    if _reserves(program):
        parts.append(stored.reserved(con, program.program_id)["account_id"])
    months = [
        version.terms.expiry.months
        for version in program.versions
        if version.terms.expiry.kind == "INACTIVITY"
    ]
    if months:
        held = states.filter(pl.col("balance") > 0).select("account_id", "active_on")
        active = pl.concat([held, activity.select("account_id", "active_on")])
        lapses = pl.col("active_on").dt.offset_by(f"{min(filter(None, months))}mo")
        parts.append(active.filter(lapses <= through)["account_id"])
    return pl.concat([part.rename("account_id") for part in parts]).unique().sort()


def _may_overflow(points: pl.Series, balances: pl.Series) -> bool:
    """Whether points are so many that balances may not fit 64 bits on the way."""
    largest, held = (int(each.abs().max() or 0) for each in (points, balances))  # pyright: ignore
    return largest * len(points) + held >= 2**63


def _may_wait(program: Program) -> bool:
    """Whether points may wait, for a statement or a day, before they can be spent."""
    settlements = {version.terms.accrual.settlement for version in program.versions}
    return bool(program.waits) or "STATEMENT" in settlements


def _reserves(program: Program) -> bool:
    """Whether redemptions are reserved before they are final."""
    return any(version.terms.redemption.settle_after_days for version in program.versions)


def _lapsing(program: Program, actions: pl.DataFrame, through: date) -> list[date]:
    """Effective days of new points that lapse within this pass already."""
    days = actions["effective_on"].unique().to_list()
    return [day for day in days if (ends := expiry_of(program, day)) and ends <= through]


def _accounts(
    con: duckdb.DuckDBPyConnection,
    program: Program,
    ids: pl.Series,
    actions: pl.DataFrame,
    instructions: pl.DataFrame,
    states: pl.DataFrame,
    statements: pl.DataFrame,
    activity: pl.DataFrame,
    early: pl.DataFrame,
) -> list[Account]:
    """The accounts `ids` with their lots and what is to be done with them."""
    if ids.is_empty():
        return []
    balances = dict(states.select("account_id", "balance").iter_rows())
    active_on = dict(states.select("account_id", "active_on").iter_rows())
    lots: dict[str, list[Lot]] = {}
    held = stored.lots_of(con, program.program_id, ids, _may_wait(program))
    for row in held.iter_rows(named=True):
        lots.setdefault(row["account_id"], []).append(_lot(row, row["points_open"]))
    accounts = {
        account_id: Account(
            account_id,
            AccountLots(lots.get(account_id, []), max(0, -balances.get(account_id, 0))),
            known_lots={lot.lot_id: lot for lot in lots.get(account_id, [])},
            active_on=active_on.get(account_id),
        )
        for account_id in ids.to_list()
    }
    for action in actions.iter_rows(named=True):
        accounts[action["account_id"]].actions.append(action)
    for row in instructions.iter_rows(named=True):
        accounts[row["account_id"]].instructions.append(_instruction(row))
    for account_id, ends_on, day in (
        statements.filter("is_new").select("account_id", "ends_on", "day").iter_rows()
    ):
        if account_id in accounts:
            accounts[account_id].statements.append((day, ends_on))
    for account_id, day, on in activity.select("account_id", "day", "active_on").iter_rows():
        if account_id in accounts:
            accounts[account_id].activity.append((day, on))
    if any(version.terms.returns.policy != "UNLIMITED" for version in program.versions):
        for row in stored.forborne(con, program.program_id, ids).iter_rows(named=True):
            accounts[row["account_id"]].forborne.append(
                Forborne(row["journal_id"], frozenset(row["items"] or ()), row["points"])
            )
    for account_id, bonus, closed_on, known_on in early.iter_rows():
        accounts[account_id].bonus = bonus
        accounts[account_id].early_closure = (closed_on, known_on)
    if instructions.height:
        _add_closures(con, program, accounts)
    _add_redemptions(con, program, instructions, accounts)
    return list(accounts.values())


def _add_closures(
    con: duckdb.DuckDBPyConnection, program: Program, accounts: Mapping[str, Account]
) -> None:
    """Tell closed accounts from when on they cannot spend, where the terms say so."""
    blocking = [v.terms.closure for v in program.versions if v.terms.closure]
    if not any(closure.blocks_redemption for closure in blocking):
        return
    for row in inputs.closures_of(con, program.program_id, date.max).iter_rows(named=True):
        closure = terms_on(program, row["closed_on"]).closure
        account = accounts.get(row["account_id"])
        reasons = (row["close_reason"], row["substatus"])
        if account and closure and closure.blocks_redemption and closure.covers(*reasons):
            account.closures.append(
                (row["closed_on"], row["known_on"], row["reopened_on"] or date.max)
            )


def _lot(row: dict[str, object], points_open: int) -> Lot:
    return Lot(
        row["lot_id"], row["source_id"], row["issued_on"], row["expires_on"],  # pyright: ignore
        row["funding_partner_bps"], row["points_issued"], points_open,  # pyright: ignore
        bool(row.get("is_pending")), row["available_on"],  # pyright: ignore
    )  # fmt: skip


def _instruction(row: dict[str, object]) -> Instruction:
    return Instruction(
        row["reward_event_id"], row["kind"], row["day"], row["effective_on"],  # pyright: ignore
        row["points"], row["reference"], (row["event_at"], row["reward_event_id"]),  # pyright: ignore
    )  # fmt: skip


def _add_redemptions(
    con: duckdb.DuckDBPyConnection,
    program: Program,
    instructions: pl.DataFrame,
    accounts: Mapping[str, Account],
) -> None:
    """Give accounts with cancellations or reservations their earlier redemptions and the lots that
    these took from."""
    program_id = program.program_id
    ids = instructions.filter(pl.col("kind") == "REDEEM_CANCEL")["account_id"]
    settles_on: dict[str, date] = {}
    if _reserves(program):
        waiting = stored.reserved(con, program_id)
        ids = pl.concat([ids, waiting["account_id"]])
        for journal_id, made_on, known_on in waiting.drop("account_id").iter_rows():
            days = terms_on(program, made_on).redemption.settle_after_days
            settles_on[journal_id] = known_on + timedelta(days=days)
    ids = ids.filter(ids.is_in(list(accounts))).unique()
    if ids.is_empty():
        return
    outcomes, taken = stored.redemptions_of(con, program_id, ids)
    movements: dict[str, list[tuple[str | None, int]]] = {}
    for row in taken.iter_rows(named=True):
        movements.setdefault(row["journal_id"], []).append((row["lot_id"], row["points"]))
        accounts[row["account_id"]].known_lots.setdefault(row["lot_id"], _lot(row, 0))
    for row in outcomes.iter_rows(named=True):
        redemptions = accounts[row["account_id"]].redemptions
        if row["kind"] == "REDEEM":
            name = row["journal_id"]
            redemption = Redemption(
                row["reward_event_id"], name, movements.get(name, []), settles_on.get(name)
            )
            accounts[row["account_id"]].add_redemption(row["reference"], redemption)
        elif row["reference"] in redemptions:
            redemptions[row["reference"]].is_cancelled = True
