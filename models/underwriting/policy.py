"""Ability to pay: a hard rule beside the score, with reasons of its own."""

from dataclasses import dataclass

import polars as pl

from models.common.reasons import Reason

INCOME = ("R03", "Income insufficient for amount of credit requested")
OBLIGATIONS = ("R05", "Excessive obligations in relation to income")


POLICY_INPUTS = ["app_dti", "app_residual_income_minor", "requested_limit_minor"]


@dataclass(frozen=True)
class AbilityToPay:
    """Limits of 12 CFR 1026.51: obligations against income, with the line fully used from day one.

    `minimum_payment_share` of the line is its minimum payment a month.
    """

    maximum_debt_to_income: float = 0.60
    minimum_payment_share: float = 0.03


def policy_reasons(frame: pl.DataFrame, rule: AbilityToPay | None = None) -> list[list[Reason]]:
    """Per row the reasons of the rule that it breaks, none where it passes or cannot be judged.

    Reads `POLICY_INPUTS`; a column that is not
    there, or a value that is not known, breaks nothing: income that cannot be verified is for a
    person to look at. The points lost of a policy reason are 0: the score has no part in it.
    """
    limits = rule or AbilityToPay()
    given = [
        frame[name].to_list() if name in frame.columns else [None] * frame.height
        for name in POLICY_INPUTS
    ]
    found: list[list[Reason]] = []
    for dti, residual, line in zip(*given, strict=True):
        reasons = []
        if dti is not None and dti > limits.maximum_debt_to_income:
            reasons.append(Reason(*OBLIGATIONS, "app_dti", 0.0))
        if residual is not None and residual < limits.minimum_payment_share * (line or 0):
            reasons.append(Reason(*INCOME, "app_residual_income_minor", 0.0))
        found.append(reasons)
    return found
