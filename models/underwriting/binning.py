"""Monotone bins and weights of evidence of one feature."""

from dataclasses import dataclass

import numpy as np

from models.common.errors import ModelError

MAXIMUM_PREBINS = 20
MINIMUM_MISSING_ROWS = 30


@dataclass(frozen=True)
class Bins:
    """Bins of one feature: `(-inf, edges[0]), [edges[0], edges[1]), …`, and missing last.

    `goods`, `bads` and `woe` have one entry per bin and one more for missing. WoE is
    ln((g/G)/(b/B)): higher is safer. A missing bin with too few rows says nothing (WoE 0).
    """

    edges: np.ndarray
    goods: np.ndarray
    bads: np.ndarray
    woe: np.ndarray
    direction: int

    @property
    def information_value(self) -> float:
        """Σ (g/G − b/B)·WoE: below 0.02 useless, above 0.5 suspiciously good."""
        return information_value(self.goods, self.bads, self.woe)

    def position(self, values: np.ndarray) -> np.ndarray:
        """Bin index of every value; missing values get the last index."""
        return bin_position(self.edges, values)


def bin_position(edges: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Index of the bin of every value: a value equal to an edge is above it, NaN is last."""
    index = np.searchsorted(edges, values, side="right")
    return np.where(np.isnan(values), len(edges) + 1, index)


def weight_of_evidence(goods: np.ndarray, bads: np.ndarray) -> np.ndarray:
    """ln((g/G)/(b/B)) per bin; an empty cell counts one half, an empty bin is 0."""
    total_good, total_bad = goods.sum(), bads.sum()
    if not total_good or not total_bad:
        raise ModelError("weights of evidence need goods and bads")
    good = np.where(goods == 0, 0.5, goods) / total_good
    bad = np.where(bads == 0, 0.5, bads) / total_bad
    return np.where(goods + bads == 0, 0.0, np.log(good / bad))


def information_value(goods: np.ndarray, bads: np.ndarray, woe: np.ndarray) -> float:
    """Σ (g/G − b/B)·WoE over the bins."""
    return float(((goods / goods.sum() - bads / bads.sum()) * woe).sum())


def monotone_bins(
    values: np.ndarray,
    bad: np.ndarray,
    *,
    direction: int = 0,
    minimum_share: float = 0.05,
    weight: np.ndarray | None = None,
) -> Bins:
    """Quantile pre-bins pooled until the bad rate is monotone in the asked direction.

    `direction` 1 makes the bad rate rise with the value, -1 fall, 0 takes the sign of the rank
    correlation. No bin holds less than `minimum_share` of the known rows, none lacks goods or
    bads. Data that contradict a declared direction leave a single bin, which carries nothing.
    `weight` says how many rows each stands for (one).
    """
    known = ~np.isnan(values)
    mass = np.ones(len(values)) if weight is None else weight
    x, y, w = values[known], bad[known], mass[known]
    if direction == 0:
        direction = 1 if _rank_correlation(x, y) >= 0 else -1
    edges = np.empty(0)
    if len(x):
        quantiles = np.quantile(
            x, np.linspace(0, 1, MAXIMUM_PREBINS + 1)[1:-1], method="inverted_cdf"
        )
        edges = np.unique(quantiles)
        edges = edges[edges > x.min()]
    counts = np.bincount(bin_position(edges, x), weights=w, minlength=len(edges) + 1)
    bads = np.bincount(bin_position(edges, x), weights=w * y, minlength=len(edges) + 1)
    groups = _pool(counts, bads, edges, direction)
    groups = _merge_small(groups, minimum_share * float(w.sum()))
    missing_bad = float((mass * bad)[~known].sum())
    missing_good = float(mass[~known].sum()) - missing_bad
    all_bads = np.array([g[1] for g in groups] + [missing_bad])
    all_goods = np.array([g[0] - g[1] for g in groups] + [missing_good])
    woe = weight_of_evidence(all_goods, all_bads)
    if missing_good + missing_bad < MINIMUM_MISSING_ROWS:
        woe[-1] = 0.0
    inner = np.array([g[2] for g in groups[1:]])
    return Bins(inner, all_goods, all_bads, woe, direction)


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    _, position = np.unique(x, return_inverse=True)
    if len(x) < 2 or np.ptp(position) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(position, y)[0, 1])


Group = tuple[float, float, float]


def _pool(counts: np.ndarray, bads: np.ndarray, edges: np.ndarray, direction: int) -> list[Group]:
    """Pool adjacent violators; a group is (rows, bads, lower edge)."""
    lower = np.concatenate([[-np.inf], edges])
    groups: list[Group] = []
    for count, bad, edge in zip(counts, bads, lower, strict=True):
        group = (float(count), float(bad), float(edge))
        while groups and _violates(groups[-1], group, direction):
            previous = groups.pop()
            group = _join(previous, group)
        groups.append(group)
    return groups


def _rate(group: Group) -> float:
    return group[1] / group[0] if group[0] else 0.0


def _violates(left: Group, right: Group, direction: int) -> bool:
    empty = not left[0] or not right[0]
    return empty or direction * (_rate(right) - _rate(left)) <= 0


def _join(left: Group, right: Group) -> Group:
    return (left[0] + right[0], left[1] + right[1], left[2])


def _merge_small(groups: list[Group], minimum_rows: float) -> list[Group]:
    """Merge a group that is too small or one-sided into the neighbour with the closest rate."""
    merged = list(groups)
    while len(merged) > 1:
        weak = [i for i, g in enumerate(merged) if g[0] < minimum_rows or g[1] == 0 or g[1] == g[0]]
        if not weak:
            break
        i = min(weak, key=lambda k: merged[k][0])
        around = [j for j in (i - 1, i + 1) if 0 <= j < len(merged)]
        j = min(around, key=lambda k: abs(_rate(merged[k]) - _rate(merged[i])))
        first = min(i, j)
        merged[first : first + 2] = [_join(merged[first], merged[first + 1])]
    return merged
