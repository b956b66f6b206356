"""What accounts have spent, as tiers and sign-up bonuses count it: eligible purchases net.

Tiers count by calendar month, each refund in its own month. A sign-up bonus counts the purchases
of the account's first days, each less its refunds whenever these come.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from pipelines.rewards.facts import OPENING_SCHEMA
from pipelines.rewards.rules import CompiledRule, Kind, Plan, RuleBook

SPEND_SCHEMA = pl.Schema({"account_id": pl.String, "month_on": pl.Date, "net_minor": pl.Int64})
PROGRESS_SCHEMA = pl.Schema(
    {
        "account_id": pl.String,
        "bonus_id": pl.String,
        "net_minor": pl.Int64,
        "is_awarded": pl.Boolean,
    }
)
_EVERY = {"YEARLY": ("1y", 12), "QUARTERLY": ("1q", 3), "MONTHLY": ("1mo", 1)}


def net_spend(events: pl.DataFrame, plans: list[Plan], plan_of: np.ndarray) -> pl.DataFrame:
    """What each event moves net eligible spend by (`SPEND_SCHEMA`), in the order of `events`."""
    sign = {Kind.EARN: 1, Kind.TAKE_BACK: -1, Kind.UNDO: 1, Kind.NOTHING: 0}
    signs = np.array(
        [sign[plan.kind] if plan.counts and not plan.zero_reason else 0 for plan in plans],
        dtype=np.int64,
    )
    return events.select(
        "account_id", pl.col("basis_on").dt.truncate("1mo").alias("month_on"),
        net_minor=pl.col("amount_minor") * pl.Series(signs[plan_of]),
    )  # fmt: skip


def by_month(before: pl.DataFrame, moves: pl.DataFrame) -> pl.DataFrame:
    """Net spend per account and month (`SPEND_SCHEMA`) of `before` and `moves`."""
    return (
        pl.concat([before.select(SPEND_SCHEMA.names()), moves])
        .group_by("account_id", "month_on")
        .agg(pl.col("net_minor").sum())
        .filter(pl.col("net_minor") != 0)
        .sort("account_id", "month_on")
    )


def tier_of(
    events: pl.DataFrame, before: pl.DataFrame, moves: pl.DataFrame, book: RuleBook
) -> pl.Series:
    """The tier that each event's account has by its spend at the last review, or null.

    Counted is what was spent `before` (`SPEND_SCHEMA`) and what the `events` up to it moved
    (`net_spend`), so a purchase that is posted later does not count for one posted before it.
    """
    tiers = pl.lit(None, dtype=pl.String)
    ranked = events.select("account_id", "basis_on").with_row_index("rank")
    moved = pl.concat([
        before.select(rank=pl.lit(-1, dtype=pl.Int64), **{n: n for n in SPEND_SCHEMA.names()}),
        moves.select(rank=pl.int_range(pl.len(), dtype=pl.Int64),
                     **{n: n for n in SPEND_SCHEMA.names()}),
    ])  # fmt: skip
    reviewed = ranked.with_columns(pl.col("rank").cast(pl.Int64))
    for index, version in enumerate(book.program.versions):
        ordered = sorted(version.terms.tiers, key=lambda tier: tier.at_least_minor)
        if not ordered or ordered[0].metric != "NET_SPEND_12M":
            continue
        every, months = _EVERY[ordered[0].review]
        first = pl.col("month_on").dt.truncate(every)
        # Each month counts for the reviews of the twelve months after it.
        counted = (
            pl.concat([
                moved.with_columns(review_on=first.dt.offset_by(f"{months * (turn + 1)}mo"))
                for turn in range(12 // months)
            ])
            .sort("rank")
            .select("account_id", "review_on", "rank",
                    pl.col("net_minor").cum_sum().over("account_id", "review_on")
                    .alias(f"metric_{index}"))
        )  # fmt: skip
        reviewed = reviewed.with_columns(
            review_on=pl.col("basis_on").dt.truncate(every)
        ).join_asof(
            counted, on="rank", by=["account_id", "review_on"], check_sortedness=False
        ).with_columns(pl.col(f"metric_{index}").fill_null(0))  # fmt: skip
        reached = pl.lit(None, dtype=pl.String)
        for tier in ordered:
            reached = pl.when(pl.col(f"metric_{index}") >= tier.at_least_minor).then(
                pl.lit(tier.id)
            ).otherwise(reached)  # fmt: skip
        ends = book.program.valid_to(index)
        inside = pl.col("basis_on") >= version.terms.valid_from
        if ends is not None:
            inside &= pl.col("basis_on") <= ends
        tiers = pl.when(inside).then(reached).otherwise(tiers)
    return reviewed.select(tier=tiers).to_series()


@dataclass(slots=True)
class _Window:
    rule: CompiledRule
    first: date
    last: date


def _windows(openings: pl.DataFrame, book: RuleBook) -> dict[str, list[_Window]]:
    """The sign-up bonuses that each account can earn, and in which days."""
    found: dict[str, list[_Window]] = {}
    for account, opened_on, is_first in openings.select(OPENING_SCHEMA.names()).iter_rows():
        if opened_on is None:
            continue
        index = book.program.index_on(opened_on) or 0
        for bonus in book.program.versions[index].terms.signup_bonus:
            if bonus.valid and not bonus.valid[0] <= opened_on <= bonus.valid[1]:
                continue
            if bonus.once_per == "CUSTOMER_PROGRAM" and not is_first:
                continue
            rule = book.rule(index, bonus.id)
            assert rule is not None
            found.setdefault(account, []).append(_Window(rule, opened_on, bonus.ends_on(opened_on)))
    return found


def award(
    decisions: pl.DataFrame,
    allocations: pl.DataFrame,
    openings: pl.DataFrame,
    before: pl.DataFrame,
    book: RuleBook,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Sign-up bonuses as further decisions on the events that reach (or lose) their threshold.

    Returns `decisions` with them, in order, and the progress (`PROGRESS_SCHEMA`) of every account
    and bonus that moved. `before` is the progress that earlier passes left.
    """
    windows = _windows(openings, book)
    if not windows:
        return decisions, pl.DataFrame(schema=PROGRESS_SCHEMA)
    moves = _moves(decisions, allocations, list(windows), book)
    # Most of a long history is after the days that count.
    spans = pl.DataFrame(
        [(name, min(w.first for w in each), max(w.last for w in each))
         for name, each in windows.items()],
        schema={"account_id": pl.String, "first": pl.Date, "last": pl.Date}, orient="row",
    )  # fmt: skip
    moves = (
        moves.join(spans, on="account_id", maintain_order="left")
        .filter(pl.col("basis_on").is_between("first", "last"))
        .drop("first", "last")
    )
    state = {
        (account, bonus): (net, is_awarded)
        for account, bonus, net, is_awarded in before.select(PROGRESS_SCHEMA.names()).iter_rows()
    }
    moved: dict[tuple[str, str], tuple[int, bool]] = {}
    given: Counter[tuple[str, int]] = Counter()
    for account, event_id, basis_on, amount in moves.iter_rows():
        for window in windows[account]:
            if not window.first <= basis_on <= window.last:
                continue
            bonus = window.rule.award
            assert bonus is not None
            key = (account, bonus.id)
            net, is_awarded = moved.get(key) or state.get(key, (0, False))
            net += amount
            if net >= bonus.threshold_minor and not is_awarded:
                given[event_id, window.rule.index] += 1
                is_awarded = True
            elif is_awarded and net < bonus.threshold_minor and bonus.clawback.if_below_threshold:
                given[event_id, window.rule.index] -= 1
                is_awarded = False
            moved[key] = (net, is_awarded)
    progress = pl.DataFrame(
        [(*key, *value) for key, value in sorted(moved.items())],
        schema=PROGRESS_SCHEMA, orient="row",
    )  # fmt: skip
    return _with_awards(decisions, given, book), progress


def _moves(
    decisions: pl.DataFrame, allocations: pl.DataFrame, accounts: list[str], book: RuleBook
) -> pl.DataFrame:
    """What moves net spend, in order: account_id, event_id, day of the purchase, amount."""
    bases = [version.terms.earn.base.id for version in book.program.versions]
    mine = pl.col("account_id").is_in(accounts)
    rows = decisions.with_row_index("place").filter(mine)
    place = rows.group_by("event_id").agg(pl.col("place").min())
    is_base = pl.col("rule_id").is_in(bases)
    earned = rows.filter(is_base, pl.col("event_class") == "EARN", "is_eligible").select(
        "account_id", "event_id", "basis_on", amount="amount_minor"
    )
    taken = allocations.filter(mine, is_base, pl.col("item_basis_on").is_not_null()).select(
        "account_id", "event_id", basis_on="item_basis_on", amount=-pl.col("amount_minor")
    )
    unmatched = (
        rows.filter(is_base, pl.col("event_class") == "CLAWBACK", "is_eligible")
        .join(allocations.select("event_id"), on="event_id", how="anti")
        .select("account_id", "event_id", "basis_on", amount=-pl.col("eligible_minor"))
    )
    strays = rows.filter(is_base, pl.col("event_class") == "CLAWBACK").select(
        "account_id", "transaction_id", refunded_on="basis_on"
    ).unique(["account_id", "transaction_id"])  # fmt: skip
    undone = (
        rows.filter(is_base, pl.col("event_class") == "RESTORE", "is_eligible")
        .join(allocations.select("event_id"), on="event_id", how="anti")
        .join(strays, on=["account_id", "transaction_id"])
        .select("account_id", "event_id", basis_on="refunded_on", amount="eligible_minor")
    )
    return (
        pl.concat([earned, taken, unmatched, undone])
        .join(place, on="event_id")
        .sort("account_id", "place", "basis_on")
        .drop("place")
    )


def _with_awards(
    decisions: pl.DataFrame, given: Counter[tuple[str, int]], book: RuleBook
) -> pl.DataFrame:
    if not any(given.values()):
        return decisions
    versions = book.program.versions
    rows = []
    for (event_id, index), sign in given.items():
        if sign == 0:
            continue
        rule = book.rules[index]
        assert rule.award is not None
        terms = versions[rule.version_index].terms
        rows.append(
            (event_id, rule.rule_id, terms.version, versions[rule.version_index].rule_hash,
             sign * rule.award.points * terms.units_per_point, rule.funding_partner_bps)
        )  # fmt: skip
    names = ["event_id", "rule_id", "rule_version", "rule_hash", "points", "funding_partner_bps"]
    awards = pl.DataFrame(rows, schema={name: decisions.schema[name] for name in names},
                          orient="row")  # fmt: skip
    placed = decisions.with_row_index("place")
    first = placed.unique("event_id", keep="last", maintain_order=True)
    extra = first.drop(names[1:]).join(awards, on="event_id").with_columns(
        is_eligible=pl.lit(True),
        zero_reason=pl.lit(None, dtype=pl.String),
        eligible_minor=pl.lit(0, dtype=pl.Int64),
        cap_share_key=pl.lit(None, dtype=pl.String),
        cap_window_on=pl.lit(None, dtype=pl.Date),
        cap_before=pl.lit(None, dtype=pl.Int64),
        cap_used=pl.lit(None, dtype=pl.Int64),
        multiplier_milli=pl.lit(1000, dtype=pl.Int64),
    )  # fmt: skip
    return (
        pl.concat([placed, extra.select(placed.columns)])
        .sort("place", maintain_order=True)
        .drop("place")
    )
