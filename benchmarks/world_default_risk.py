"""The registered underwriting scorecard beside the truth of the synthetic world it learned from:

    python -m benchmarks.world_default_risk [--accounts 4000] [--days 900] [--options none,bureau]

Unlike in `benchmarks.default_risk` everything is the pipeline's own: the world's files of
applications, reports, accounts and statements are landed, `cardline run` builds features and
outcomes (90 days past due within twelve months, from the statements), publishes and trains, and
what is measured is the version in the registry, on features out of Feast.

The truth is apart: every later applicant, declined or not, lives some more lives as the holder of
an account, with the same latent risk and income and other fates, through the whole of the world's
servicing. The share of bad ones among good and bad is the true probability of what the models
predict. What the declined would have been granted nobody says: they get the smallest line.

Application rings never mean to pay and have papers that pass: they are fraud, which a credit score
does not see, and raise the truth of deciles that are expected to pay. Each sample is shown with and
without them.

Deciles and bands are those of `benchmarks.default_risk`. For the option `bureau` one such life of
half of the declined is delivered as seen at another lender (`credit_outcomes`).
"""

import argparse
import os
import shutil
import tempfile
from datetime import datetime, time
from pathlib import Path

import polars as pl

from benchmarks.default_risk import (
    OPTIONS,
    SEEN_ELSEWHERE,
    TEST_CELL_SHARE,
    Decile,
    deciles_of,
    show,
)
from models.common.splits import by_month_and_person
from models.underwriting.attributes import with_attributes
from models.underwriting.rejects import DECLINED
from models.underwriting.scorecard import Scorecard
from pipelines.run import run_due
from pipelines.settings import get_settings
from pipelines.sources.landing import LandingWriter
from pipelines.sources.world import DEFAULT_END, applicants, generate
from pipelines.sources.world.clock import DAY, Window, dates
from pipelines.sources.world.generation import live, merchants_of
from pipelines.sources.world.onboarding import account_ids, application_ids
from pipelines.training import UNDERWRITING, registry, train
from pipelines.training_frames import UNDERWRITING_SERVICE, with_features
from pipelines.training_sets import read_pinned
from pipelines.warehouse import connect

FEEDS = (
    "applications", "customers", "accounts", "statements", "bureau_pulls", "bureau_tradelines",
    "bureau_trended", "bureau_inquiries", "bureau_records", "bureau_attributes",
)  # fmt: skip
"""What underwriting is made of; a portfolio's purchases would only take longer."""
LIVES = 20
LEAST_LIMIT = 100_000
"""The smallest line that the world's issuer grants, in cents."""
MORE_DAYS = 430
"""Beyond the end of the world, for twelve months of statements of its last applicants."""
LIVES_AT_ONCE = 2_000
ELSEWHERE, PARALLEL = 10_000_000, 20_000_000
"""First numbers of lives: no account of a world has one as high."""
BAD_DAYS, INDETERMINATE_DAYS = 90, 30
WITHOUT_RINGS = ", without application rings"
_USED = ("closing", "purchases", "cash_advances", "dpd")


def main() -> None:
    """Make a world in a home of its own, run it, and print the deciles of every option."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--accounts", type=int, default=4_000)
    parser.add_argument("--days", type=int, default=900)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--options", default=",".join(OPTIONS))
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="cardline-default-risk-"))
    os.environ["CARDLINE_HOME"] = str(root / "home")
    try:
        found = measure(root, given.accounts, given.days, given.seed, given.options.split(","))
        for option, samples in found.items():
            for who, deciles in samples.items():
                show(f"{option}, {who}", deciles)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def measure(
    root: Path, accounts: int, days: int, seed: int, options: list[str]
) -> dict[str, dict[str, list[Decile]]]:
    """Deciles by option and sample of the scorecards that a world in `root` gives.

    The home is that of the settings. Needs days enough for a year on book and some months before.
    """
    window = Window.ending(DEFAULT_END, days)
    landing, truth = root / "landing", root / "truth"
    generate(landing, accounts, days, seed, truth=truth)
    for folder in landing.iterdir():
        if folder.name not in FEEDS:
            shutil.rmtree(folder)
    people = applicants_of(seed, accounts, window)
    _require_truth(people, truth)
    declined = people.filter(pl.col("decision") == applicants.DECLINED)
    _deliver_outcomes(landing, seed, declined, window)
    run_due(landing)

    found: dict[str, dict[str, list[Decile]]] = {}
    for option in options:
        os.environ |= {
            "CARDLINE_REJECT_INFERENCE": option,
            "CARDLINE_TEST_CELL_SHARE": str(TEST_CELL_SHARE),
        }
        get_settings.cache_clear()
        found[option] = _recovered(seed, people, train(UNDERWRITING).version, window)
    return found


def applicants_of(seed: int, accounts: int, window: Window) -> pl.DataFrame:
    """The world's decided applications, as `build_applications` has them, with their ids."""
    applied = applicants.build_applications(seed, 0, accounts, window).filter(
        ~pl.col("decision").is_in([applicants.WITHDRAWN, applicants.INCOMPLETE]),
        pl.col("source") != applicants.POLICY_RULE,
    )
    number, slot = applied["account"].to_numpy(), applied["slot"].to_numpy()
    return applied.with_columns(
        application_ids(seed, number, slot).alias("application_id"),
        account_ids(seed, number).alias("account_id"),
    )


def _require_truth(people: pl.DataFrame, truth: Path) -> None:
    """The latent risk of these applicants is the one of the world's own truth tables."""
    told = pl.read_parquet(truth / "risk-*.parquet")
    booked = people.filter("is_booked").join(told, on="account_id")
    if booked.height != told.height or (booked["risk"] != booked["latent_risk"]).any():
        raise AssertionError("the applicants are not those of the world's truth tables")


def lives(seed: int, people: pl.DataFrame, each: int, first: int, window: Window) -> pl.DataFrame:
    """`each` lives of everybody of `people` as the holder of an account, numbered from `first`.

    Returns `application_id`, `is_bad` (90 days past due within twelve months) and `is_good` (never
    30, and the account was used), judged as `marts.account_performance` does; what is neither is
    indeterminate, or was never used. Numbers above those of the world's accounts have other fates.
    """
    several = pl.concat([people] * each).with_columns(
        pl.int_range(first, first + each * people.height).alias("account"),
        pl.lit(True).alias("is_booked"),
        pl.col("limit").clip(LEAST_LIMIT),
    )
    longer = Window(window.first, window.last + MORE_DAYS)
    merchants = merchants_of(seed, longer)
    judged = []
    for part in several.iter_slices(LIVES_AT_ONCE):
        story = live(seed, part, merchants, longer)
        until = dates(story.holders.opened_on).dt.offset_by("12mo")
        worst = (
            story.serviced.statements.with_columns(
                dates(story.serviced.statements["end"].to_numpy()).alias("end_on"),
                until[story.serviced.statements["holder"]].alias("until"),
            )
            .filter(pl.col("end_on") <= pl.col("until"))
            .group_by("holder")
            .agg(pl.col("dpd").max(), pl.any_horizontal(pl.col(*_USED) != 0).any().alias("used"))
        )
        ids = part.sort("account")["application_id"]
        judged.append(
            worst.select(
                ids[worst["holder"]].alias("application_id"),
                (pl.col("dpd") >= BAD_DAYS).alias("is_bad"),
                ((pl.col("dpd") < INDETERMINATE_DAYS) & pl.col("used")).alias("is_good"),
            )
        )
    return pl.concat(judged)


def _deliver_outcomes(landing: Path, seed: int, declined: pl.DataFrame, window: Window) -> None:
    """How declined applicants fared with another lender, of those that are seen there."""
    year_before = (window.last - 385) * DAY
    seen = declined.filter(
        pl.col("application_id").hash(1) % 1_000 < SEEN_ELSEWHERE * 1_000,
        pl.col("decided") < year_before,
    )
    known = datetime.combine(window.ends_on, time(1))
    outcomes = lives(seed, seen, 1, ELSEWHERE, window).filter(pl.col("is_bad") | pl.col("is_good"))
    LandingWriter(landing).write(
        "credit_outcomes",
        window.ends_on,
        outcomes.select(
            pl.format("elsewhere-{}", "application_id").alias("outcome_id"),
            "application_id",
            "is_bad",
            pl.lit(window.ends_on).alias("observed_on"),
            pl.lit(known).alias("known_at"),
        ),
        "elsewhere",
    )


def _recovered(
    seed: int, people: pl.DataFrame, version: str, window: Window
) -> dict[str, list[Decile]]:
    """Deciles of the later accounts, and of all who applied in those months."""
    found = registry().get(UNDERWRITING, version)
    model: Scorecard = registry().load(UNDERWRITING, version)
    pinned = read_pinned(UNDERWRITING, version, found.manifest).sort("application_id")
    rows = pinned.filter(pl.col("source") != DECLINED)
    split = by_month_and_person(rows["decision_at"], rows["person"])
    learned, tested = (rows.filter(pl.Series(mask)) for mask in (split.train, split.out_of_time))
    span = pl.col("decision_at").is_between(
        tested["decision_at"].min(), tested["decision_at"].max()
    )
    with connect(read_only=True) as con:
        spine = con.execute("from risk.underwriting_spine").pl()
    later = spine.filter(span).join(
        people.select("application_id"), on="application_id", how="semi"
    )
    fates = lives(
        seed, people.join(later, on="application_id", how="semi"), LIVES, PARALLEL, window
    )
    true = fates.group_by("application_id").agg(
        (pl.col("is_bad").sum() / (pl.col("is_bad") | pl.col("is_good")).sum()).alias("true_pd")
    )
    later = with_attributes(with_features(UNDERWRITING_SERVICE, later, "decision_at"))
    later = later.join(true, on="application_id").join(
        people.select("application_id", "ring"), on="application_id"
    )
    samples = {
        "later accounts": later.join(tested, on="application_id", how="semi"),
        "all who applied later": later,
    }
    return {
        who + but: deciles_of(model, learned, rows)
        for but, kept in (("", pl.lit(True)), (WITHOUT_RINGS, pl.col("ring") < 0))
        for who, sample in samples.items()
        if (rows := sample.filter(kept)).height
    }


if __name__ == "__main__":
    main()
