"""Principal reasons from points: what an applicant lost most, in words a consumer can act on."""

from collections.abc import Mapping
from dataclasses import dataclass

from models.common.errors import ModelError

MAXIMUM_REASONS = 4
LEAST_POINTS = 1e-9
"""What sums of floats leave over is no reason."""


@dataclass(frozen=True)
class Reason:
    """One consumer-facing factor: a stable code, its wording, and the points lost through it."""

    code: str
    text: str
    feature: str
    points_lost: float


def principal_reasons(
    points: Mapping[str, float],
    reference: Mapping[str, float],
    best: Mapping[str, float],
    wording: Mapping[str, tuple[str, str]],
    *,
    limit: int = MAXIMUM_REASONS,
) -> list[Reason]:
    """The features that lie furthest below the reference, at most `limit`, worst first.

    `reference` is the mean of a reference group (Reg B, comment 9(b)(2)-5) or `best` itself for
    points below the maximum. A feature in its best bin is never a reason; of several features
    with the same wording only the worst is printed; a tie goes by feature name.
    """
    lost = {
        feature: reference[feature] - value
        for feature, value in points.items()
        if value < best[feature]
    }
    return worst_first(lost, wording, limit=limit)


def worst_first(
    lost: Mapping[str, float],
    wording: Mapping[str, tuple[str, str]],
    *,
    limit: int = MAXIMUM_REASONS,
    besides: str | None = None,
) -> list[Reason]:
    """Features that lost points, at most `limit`, worst first, no wording twice.

    A reason with the code `besides` is added as one more where it is not among them: the number
    of inquiries is told whatever its rank (Fair Credit Reporting Act, 609(f)(9)).
    """
    reasons: list[Reason] = []
    printed: set[str] = set()
    for feature, points in sorted(lost.items(), key=lambda item: (-item[1], item[0])):
        if feature not in wording:
            raise ModelError(f"feature '{feature}' has no consumer reason")
        code, text = wording[feature]
        is_besides = code == besides and len(reasons) <= limit
        if points <= LEAST_POINTS or text in printed or (len(reasons) >= limit and not is_besides):
            continue
        printed.add(text)
        reasons.append(Reason(code, text, feature, round(points, 6)))
    return reasons
