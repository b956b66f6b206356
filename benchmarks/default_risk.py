"""The probabilities of the underwriting scorecard beside the true ones of the synthetic world:

    python -m benchmarks.default_risk [--accounts 8000] [--days 900] [--options none,parcelling]

Applicants, the issuer's decisions, the drift month and the bureau's files are the world's; features
are built by the dbt model as the daily run has it. A bad is who has four months of hardship in a
row within twelve: what makes the world's accounts 90 days late, without the payments in between.
Its probability follows exactly from an applicant's latent risk and income, for the declined too.

Models learn from the outcomes of booked accounts alone, but for the options of reject inference.
Each is held against the truth by decile of its own score: on the later accounts, which it never
saw, and on everybody who applied later, declined or not. The band of a decile is Jeffreys' 95 %
interval of what was expected of the development accounts that share it: what so many outcomes can
tell.
"""

import argparse
from dataclasses import dataclass
from datetime import datetime, time
from typing import cast

import numpy as np
import polars as pl
from scipy.stats import beta

from benchmarks.rendered import rendered
from models.common.dataset import matrix
from models.common.splits import by_month_and_person
from models.underwriting.rejects import ACCEPTED, DECLINED, TEST_CELL, RejectInference
from models.underwriting.scorecard import Scorecard
from models.underwriting.training import OutcomeFrame, ScorecardParameters, train_scorecard
from pipelines.features.registry import load_definitions
from pipelines.sources.world import DEFAULT_END, applicants
from pipelines.sources.world.bureau import bureau_frames
from pipelines.sources.world.clock import Window
from pipelines.sources.world.holders import draw_hardship, hardship_chances
from pipelines.warehouse import memory

MONTHS, RUN = 12, 4
MEAN_INCOME = 6_200_000
SEEN_ELSEWHERE = 0.5
"""Of the declined, who are seen to pay, or not, at another lender."""
TEST_CELL_SHARE = 0.1
OPTIONS = ("none", "bureau", "test_cell", "parcelling")


@dataclass(frozen=True)
class Decile:
    """One tenth by score, the riskiest first: what is expected, its 95 % band, what is true."""

    rows: int
    expected: float
    low: float
    high: float
    true: float

    @property
    def is_recovered(self) -> bool:
        """Whether the truth lies within the band."""
        return self.low <= self.true <= self.high


def main() -> None:
    """Train by every option and print its deciles."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--accounts", type=int, default=8_000)
    parser.add_argument("--days", type=int, default=900)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--options", default=",".join(OPTIONS))
    given = parser.parse_args()
    world = population(given.accounts, given.days, given.seed)
    booked, declined = world.filter("is_booked"), world.filter(pl.col("source") == DECLINED)
    print(
        f"{world.height:,} applications, {booked.height:,} booked; true probability of bad "
        f"{booked['true_pd'].mean():.4f} of the booked, {declined['true_pd'].mean():.4f} of the "
        "declined"
    )
    for option in given.options.split(","):
        for who, deciles in recovered(world, option).items():
            show(f"{option}, {who}", deciles)


def show(what: str, deciles: list[Decile]) -> None:
    """Print a table of `deciles`."""
    print(f"\n{what}: {sum(d.is_recovered for d in deciles)} of {len(deciles)}")
    print(f"{'rows':>8}{'expected':>10}{'band':>18}{'true':>9}")
    for d in deciles:
        told = "" if d.is_recovered else "  outside"
        band = f"{d.low:.4f}–{d.high:.4f}"
        print(f"{d.rows:>8,}{d.expected:>10.4f}{band:>18}{d.true:>9.4f}{told}", flush=True)


def population(accounts: int, days: int, seed: int) -> pl.DataFrame:
    """Every decided application with its features, its fate and its true probability of bad."""
    window = Window.ending(DEFAULT_END, days)
    applied = applicants.build_applications(seed, 0, accounts, window).filter(
        ~pl.col("decision").is_in([applicants.WITHDRAWN, applicants.INCOMPLETE]),
        pl.col("source") != applicants.POLICY_RULE,
    )
    frames = bureau_frames(seed, applied)
    number = applied["account"].to_numpy() * 1_000 + applied["person"].to_numpy()
    risk, income = applied["risk"].to_numpy(), applied["income"].to_numpy() / MEAN_INCOME
    hardship = draw_hardship(seed, number, risk, income, MONTHS + 1)
    source = (
        pl.when(pl.col("decision") == applicants.DECLINED)
        .then(pl.lit(DECLINED))
        .when(pl.col("source") == applicants.TEST_CELL)
        .then(pl.lit(TEST_CELL))
        .otherwise(pl.lit(ACCEPTED))
    )
    frame = applied.select(
        frames["bureau_pulls"]["pull_id"],
        pl.format("{}-{}", "account", "person").alias("person"),
        pl.from_epoch("decided", time_unit="us").alias("decision_at"),
        source.alias("source"),
        "is_booked",
        pl.col("stated_income").alias("stated_income_minor"),
        pl.Series("is_bad", longest_run(hardship) >= RUN).cast(pl.Int64),
        pl.Series("true_pd", true_probability(risk, income)),
    )
    return frame.join(_features(frames), on="pull_id", how="left", maintain_order="left")


def true_probability(risk: np.ndarray, income: np.ndarray) -> np.ndarray:
    """Probability of `RUN` months of hardship in a row within `MONTHS`, exact."""
    hazard, persists = hardship_chances(risk, income)
    # Shares by months in a row so far; the last column is bad for good.
    shares = np.zeros((len(risk), RUN + 1))
    shares[:, 0] = 1.0
    for _ in range(MONTHS):
        later = np.zeros_like(shares)
        later[:, 0] = shares[:, 0] * (1 - hazard) + shares[:, 1:RUN].sum(axis=1) * (1 - persists)
        later[:, 1] = shares[:, 0] * hazard
        later[:, 2:] = shares[:, 1:RUN] * persists[:, None]
        later[:, RUN] += shares[:, RUN]
        shares = later
    return shares[:, RUN]


def longest_run(states: np.ndarray) -> np.ndarray:
    """Most true values in a row, of each row of a matrix."""
    run = longest = np.zeros(len(states), dtype=int)
    for month in states.T:
        run = np.where(month, run + 1, 0)
        longest = np.maximum(longest, run)
    return longest


def _features(frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """The bureau features of each pull, by the dbt model."""
    with memory() as con:
        for feed, frame in frames.items():
            lineage = frame.with_columns(
                pl.lit("file").alias("file_id"),
                pl.int_range(pl.len()).alias("line_no"),
                pl.int_range(pl.len()).alias("record_hash"),
                pl.col("received_at").dt.date().alias("batch_date"),
            )
            con.register(f"stg_landing__{feed}", lineage)
        found = con.execute(rendered("pull_bureau_features")).pl()
    return found.unique("pull_id", keep="last").drop("event_timestamp", "created_timestamp")


def recovered(world: pl.DataFrame, option: str) -> dict[str, list[Decile]]:
    """Deciles of the later accounts, and of all who applied later, of a scorecard by `option`."""
    seen = pl.col("person").hash(1) % 1_000 < SEEN_ELSEWHERE * 1_000
    is_known = pl.col("is_booked") | (pl.lit(option == "bureau") & seen)
    frame = world.filter(pl.col("is_booked") | (pl.col("source") == DECLINED)).with_columns(
        pl.when(is_known).then("is_bad").alias("is_bad")
    )
    trained = train_scorecard(
        OutcomeFrame(
            frame, "pull_id", "person", "decision_at", "is_bad", {},
            datetime.combine(DEFAULT_END, time.max), source="source",
        ),
        [*load_definitions().views["pull_bureau_features"].features, "stated_income_minor"],
        name="underwriting",
        purpose="recovered probabilities",
        target="four months of hardship in a row",
        parameters=ScorecardParameters(
            reject_inference=cast(RejectInference, option), test_cell_share=TEST_CELL_SHARE
        ),
    )  # fmt: skip
    accounts = frame.filter("is_booked")
    split = by_month_and_person(accounts["decision_at"], accounts["person"])
    learned = accounts.filter(pl.Series(split.train))
    later_from = cast(datetime, accounts["decision_at"].filter(pl.Series(split.out_of_time)).min())
    later = world.filter(pl.col("decision_at") >= later_from.replace(day=1, hour=0, minute=0))
    model = trained.estimator
    return {
        "later accounts": deciles_of(model, learned, later.filter("is_booked")),
        "all who applied later": deciles_of(model, learned, later),
    }


def deciles_of(model: Scorecard, learned: pl.DataFrame, later: pl.DataFrame) -> list[Decile]:
    """Tenths of `later` by score, with the band that the rows of `learned` allow.

    Both have the columns that the model looks at; `later` has `true_pd` besides.
    """
    known, asked = (matrix(frame, model.inputs_) for frame in (learned, later))
    score, probability = model.total_points(asked), model.predict_proba(asked)[:, 1]
    edges = np.quantile(score, np.linspace(0, 1, 11)[1:-1])
    place, known_place = (np.searchsorted(edges, s) for s in (score, model.total_points(known)))
    true = later["true_pd"].to_numpy()
    deciles = []
    for tenth in range(10):
        mine = place == tenth
        count = int((known_place == tenth).sum())
        expected = float(probability[mine].mean())
        bads = expected * count
        low, high = beta.ppf([0.025, 0.975], bads + 0.5, count - bads + 0.5)
        deciles.append(Decile(int(mine.sum()), expected, low, high, float(true[mine].mean())))
    return deciles


if __name__ == "__main__":
    main()
