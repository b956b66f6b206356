"""Principal reasons from points: what an applicant lost most, in words a consumer can act on."""

from collections.abc import Mapping
from dataclasses import dataclass

from models.common.errors import ModelError

MAXIMUM_REASONS = 4


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
    lost: list[tuple[float, str]] = []
    for feature, value in points.items():
        if feature not in wording:
            raise ModelError(f"feature '{feature}' has no consumer reason")
        shortfall = reference[feature] - value
        if shortfall > 0 and value < best[feature]:
            lost.append((shortfall, feature))
    reasons: list[Reason] = []
    printed: set[str] = set()
    for shortfall, feature in sorted(lost, key=lambda item: (-item[0], item[1])):
        code, text = wording[feature]
        if text in printed:
            continue
        printed.add(text)
        reasons.append(Reason(code, text, feature, round(shortfall, 6)))
        if len(reasons) == limit:
            break
    return reasons
