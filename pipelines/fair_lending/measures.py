"""Ratios and differences between groups, by their published definitions."""

import numpy as np

FOUR_FIFTHS, WATCH = 0.80, 0.90
"""An adverse impact ratio below the first is flagged, below the second worth a look."""


def adverse_impact_ratio(
    approved: int, applicants: int, reference_approved: int, reference_applicants: int
) -> float | None:
    """Approval rate of a group over that of the reference group; null where either is undefined."""
    if not applicants or not reference_applicants or not reference_approved:
        return None
    return (approved / applicants) / (reference_approved / reference_applicants)


def standardised_mean_difference(scores: np.ndarray, reference: np.ndarray) -> float | None:
    """(mean − reference mean) / pooled standard deviation; null where it is undefined."""
    if len(scores) < 2 or len(reference) < 2:
        return None
    freedom = len(scores) + len(reference) - 2
    pooled = (
        (len(scores) - 1) * scores.var(ddof=1) + (len(reference) - 1) * reference.var(ddof=1)
    ) / freedom
    return float((scores.mean() - reference.mean()) / pooled**0.5) if pooled > 0 else None


def false_negative_rate(declined: np.ndarray, good: np.ndarray) -> float | None:
    """Share of those who turned out good that the model would have declined; null without goods."""
    return float(declined[good].mean()) if good.any() else None


def bisg(group_given_surname: np.ndarray, place_given_group: np.ndarray) -> np.ndarray:
    """P(group | surname, place) ∝ P(group | surname) · P(place | group), shape (rows, groups).

    A row that is zero throughout stays NaN: nothing can be said.
    """
    joint = group_given_surname * place_given_group
    total = joint.sum(axis=1, keepdims=True)
    return np.divide(joint, total, out=np.full(joint.shape, np.nan), where=total > 0)
