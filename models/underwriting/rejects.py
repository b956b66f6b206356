"""What is learned of applicants who were declined, and what becomes of the figures by it.

Nobody knows how declined applicants would have paid. By default nothing is assumed of them: models
learn from accounts alone, and their figures hold for applicants like the approved. The options
bring further knowledge or a stated assumption, and are measured beside the model without them:

* `bureau`: outcomes of declined applications at other lenders, as delivered (`credit_outcomes`);
* `test_cell`: applicants below the cut-off who were approved at random stand for all of them, each
  for as many as the share of the random approvals says;
* `parcelling`: declined applicants are as bad as the model without them expects, times a stated
  multiplier; each counts as a bad and as a good by that share.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

RejectInference = Literal["none", "bureau", "test_cell", "parcelling"]
ACCEPTED, TEST_CELL, DECLINED = "ACCEPTED", "TEST_CELL", "DECLINED"
"""How a row came to its outcome: as an account, as one approved at random, or not as ours."""


@dataclass(frozen=True)
class Lesson:
    """Rows to learn from: a (rows, features) matrix, 0/1 outcomes, and how many each stands for."""

    values: np.ndarray
    bad: np.ndarray
    weight: np.ndarray | None = None


def by_test_cell(lesson: Lesson, is_test_cell: np.ndarray, share: float) -> Lesson:
    """`lesson` in which the random approvals, `share` of those below the cut-off, count for all."""
    return Lesson(lesson.values, lesson.bad, np.where(is_test_cell, 1 / share, 1.0))


def by_parcelling(
    lesson: Lesson, declined: np.ndarray, probability: np.ndarray, multiplier: float
) -> Lesson:
    """`lesson` and twice the `declined` (a matrix), as bads and as goods by `multiplier` times the
    probability that a model without them gives each."""
    share = np.minimum(1.0, multiplier * probability)
    return Lesson(
        np.concatenate([lesson.values, declined, declined]),
        np.concatenate([lesson.bad, np.ones(len(share)), np.zeros(len(share))]),
        np.concatenate([np.ones(len(lesson.bad)), share, 1 - share]),
    )
