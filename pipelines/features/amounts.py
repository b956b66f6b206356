"""An amount beside those that are usual: what several features say of different amounts."""


def ratio(part: float | None, whole: float | None) -> float | None:
    """`part` over `whole`; None where one is missing or the whole is 0."""
    return part / whole if part is not None and whole else None


def zscore(
    amount: int | None, count: int | None, mean: float | None, stddev: float | None
) -> float | None:
    """How many deviations `amount` is above the `mean` of `count` others, all in minor units.

    (a - mean) / max(stddev, 5 % of the mean, one major unit); None where one is missing and below
    five others.
    """
    if amount is None or count is None or mean is None or stddev is None or count < 5:
        return None
    return (amount - mean) / max(stddev, 0.05 * mean, 100.0)
