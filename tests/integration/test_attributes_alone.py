"""A bureau that sends attributes and no tradelines: the same command trains on what arrives."""

import json
import os
import subprocess
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines.sources.landing import LandingWriter

pytestmark = pytest.mark.slow

BATCH = date(2025, 6, 30)
ROWS = 600


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Applications of 2024 with a report of two attributes each, and how they turned out."""
    generator = np.random.default_rng(4)
    used = generator.random(ROWS).round(3)
    has_no_cards = generator.random(ROWS) < 0.2
    bad = generator.random(ROWS) < np.where(has_no_cards, 0.4, 0.05 + 0.5 * used**2)
    at = [datetime(2024, 1, 1) + timedelta(hours=14 * i) for i in range(ROWS)]
    ids = pl.Series("pull_id", [f"p{i}" for i in range(ROWS)])
    frame = pl.DataFrame([ids]).with_columns(
        pl.format("a{}", "pull_id").alias("application_id"),
        pl.format("u{}", "pull_id").alias("person_id"),
        pl.Series("at", at),
        pl.Series("value", used).set(pl.Series(has_no_cards), None),
        pl.Series("special_code", has_no_cards),
        pl.Series("is_bad", bad),
    )
    folder = tmp_path_factory.mktemp("attributes") / "landing"
    writer = LandingWriter(folder)
    received = (pl.col("at") - pl.duration(minutes=1)).alias("received_at")
    writer.write(
        "applications",
        BATCH,
        frame.select(
            "application_id", "person_id", "pull_id", pl.lit("card").alias("program_id"),
            pl.col("at").alias("submitted_at"), pl.col("at").alias("decision_at"),
            pl.lit("APPROVED").alias("decision"), pl.col("at").alias("received_at"),
        ),
    )  # fmt: skip
    writer.write(
        "bureau_pulls",
        BATCH,
        frame.select(
            "pull_id", "person_id", "application_id", pl.lit("HARD").alias("pull_type"),
            received.alias("requested_at"), received,
        ),
    )  # fmt: skip
    utilisation = frame.select(
        "pull_id", pl.lit("RVLR01").alias("attribute_name"), "value",
        pl.when("special_code").then(pl.lit("NO_CARDS")).alias("special_code"), received,
    )  # fmt: skip
    noise = frame.select(
        "pull_id", pl.lit("ZZ 9/x").alias("attribute_name"),
        pl.Series("value", generator.random(ROWS)), pl.lit(None, pl.String).alias("special_code"),
        received,
    )  # fmt: skip
    writer.write("bureau_attributes", BATCH, pl.concat([utilisation, noise]))
    writer.write(
        "credit_outcomes",
        BATCH,
        frame.select(
            pl.format("o{}", "pull_id").alias("outcome_id"), "application_id", "is_bad",
            pl.lit(BATCH).alias("observed_on"),
            pl.lit(datetime(2025, 6, 1)).alias("known_at"),
        ),
    )  # fmt: skip
    return folder


def cardline(home: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pipelines", *arguments],
        env=os.environ | {"CARDLINE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_whatever_attributes_arrive_are_learned_from(landing: Path) -> None:
    home = landing.parent / "home"
    cardline(home, "run", "--landing", str(landing))
    [row, *_] = json.loads(
        cardline(home, "sql", "select * from features.pull_bureau_features where "
                 "pull_id = 'p0'", "--format", "json")
    )  # fmt: skip
    assert set(json.loads(row["bur_attributes"])) == {"RVLR01", "ZZ 9/x"}
    assert row["bur_trades_n"] is None
    manifests = [
        json.loads(path.read_text())
        for path in (home / "models" / "underwriting").glob("*/manifest.json")
    ]
    assert {m["parameters"]["kind"] for m in manifests} == {"scorecard", "monotone_boosting"}
    for manifest in manifests:
        assert "att_rvlr01" in manifest["features"]
        assert manifest["dropped_features"]["bur_trades_n"] == "all missing in the training window"
        assert not manifest["gates"]["discrimination"].startswith("fail")
    [scored] = json.loads(
        cardline(home, "sql", "select count(*) as n, count(distinct pd) as pds from risk.scores",
                 "--format", "json")
    )  # fmt: skip
    assert scored["n"] == ROWS
    assert scored["pds"] > 3
    told = cardline(home, "explain", "--application", "ap0")
    assert "ap0" in told
