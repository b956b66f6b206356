"""Limits of merchants: of a window's purchases that match, those at the first merchants earn."""

import numpy as np
import polars as pl

from pipelines.rewards.rules import CompiledRule, Plan, calendar_start

LIMIT_SCHEMA = pl.Schema(
    {
        "account_id": pl.String,
        "limit_id": pl.String,
        "window_on": pl.Date,
        "merchant_id": pl.String,
    }
)
"""Merchants that have a place under a limit in the window that begins on a day."""


def held_to_limits(
    events: pl.DataFrame, plans: list[Plan], plan_of: np.ndarray, before: pl.DataFrame
) -> tuple[list[Plan], np.ndarray, pl.DataFrame]:
    """The plans and which one each of `events` has, with those that limits leave nothing.

    `events` are in their order; `before` (`LIMIT_SCHEMA`) are the places taken by earlier ones.
    Also returns the places that these have taken.
    """
    rows = np.flatnonzero(np.array([bool(plan.limits) for plan in plans])[plan_of])
    held: dict[tuple[str, str, object], set[str | None]] = {}
    for account, limit_id, window_on, merchant in before.select(LIMIT_SCHEMA.names()).iter_rows():
        held.setdefault((account, limit_id, window_on), set()).add(merchant)
    plans, plan_of = list(plans), plan_of.copy()
    refused: dict[tuple[int, int], int] = {}
    taken: list[tuple[object, ...]] = []
    asked = events.select("account_id", "merchant_id", "basis_on")[rows].iter_rows()
    for row, (account, merchant, day) in zip(rows.tolist(), asked, strict=True):
        plan = plans[plan_of[row]]
        for rule in plan.limits:
            assert rule.limit is not None
            key = (account, rule.rule_id, calendar_start(rule.limit.per, day))
            places = held.setdefault(key, set())
            if merchant in places:
                continue
            if len(places) < rule.limit.merchants:
                places.add(merchant)
                taken.append((*key, merchant))
                continue
            plan_of[row] = refused.setdefault((plan.version_index, rule.index), len(plans))
            if plan_of[row] == len(plans):
                plans.append(_refused(plan, rule))
            break
    return plans, plan_of, pl.DataFrame(taken, schema=LIMIT_SCHEMA, orient="row")


def _refused(plan: Plan, rule: CompiledRule) -> Plan:
    """`plan` for purchases that the limit of `rule` leaves nothing."""
    return Plan(plan.kind, plan.version_index, "CAP_EXHAUSTED", refused_by=rule)
