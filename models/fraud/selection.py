"""Which kind of model: compared prequentially before the test block, the simplest wins ties."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from models.common.evaluation import average_precision
from models.common.splits import with_label_delay

TIE = 0.01
"""Average precisions closer than this are taken for equal."""
DEFAULT_KIND = "gradient_boosting"


@dataclass(frozen=True)
class Block:
    """One step of a prequential evaluation, as row numbers of the frame."""

    train: np.ndarray
    test: np.ndarray
    starts_at: datetime


@dataclass(frozen=True)
class Comparison:
    """The kind that was chosen, and per kind the average precision of each block."""

    kind: str
    average_precision: dict[str, list[float]]

    def table(self) -> dict[str, dict[str, float | int]]:
        """Mean, standard deviation and number of blocks, per kind."""
        return {
            kind: {
                "average_precision_mean": float(np.mean(values)),
                "average_precision_sd": float(np.std(values)),
                "blocks": len(values),
            }
            for kind, values in self.average_precision.items()
        }


def prequential_blocks(
    event_at: pl.Series, *, end: datetime, delay: timedelta, length: timedelta, count: int
) -> list[Block]:
    """The last `count` test blocks of `length` before `end`, newest first.

    Each learns from what happened up to the delay before it began; rows of the gap are in neither.
    """
    blocks: list[Block] = []
    for step in range(count):
        until = end - step * length
        split = with_label_delay(event_at, cutoff=until - length, delay=delay)
        test = split.test & (event_at < until).to_numpy()
        blocks.append(Block(np.flatnonzero(split.train), np.flatnonzero(test), until - length))
    return blocks


def choose(average_precisions: dict[str, list[float]]) -> str:
    """The first kind, from the simplest on, within TIE of the best mean average precision."""
    means = {kind: float(np.mean(values)) for kind, values in average_precisions.items()}
    best = max(means.values())
    return next(kind for kind, value in means.items() if value >= best - TIE)


def compare(
    kinds: tuple[str, ...],
    blocks: list[Block],
    score: Callable[[str, Block], np.ndarray | None],
    label: np.ndarray,
    weight: np.ndarray,
) -> Comparison:
    """Average precision of each kind on each block; `label` and `weight` are of the whole frame.

    `score` trains a kind on a block and gives the scores of its test rows, or None where the block
    teaches too little. Blocks without a fraud are passed over; without any block the kind is
    DEFAULT_KIND.
    """
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for block in blocks:
        if not label[block.test].sum():
            continue
        scored = {kind: score(kind, block) for kind in kinds}
        for kind, values in scored.items():
            if values is not None:
                found[kind].append(average_precision(label[block.test], values, weight[block.test]))
    measured = {kind: values for kind, values in found.items() if values}
    return Comparison(choose(measured) if measured else DEFAULT_KIND, measured)
