"""Benchmarks: features against a pandas reference, the published split, the published figures."""

import json
import os
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from pipelines.benchmark_runs import BENCHMARKS
from pipelines.benchmark_runs.handbook import published_split
from pipelines.benchmark_runs.handbook_features import DELAY_DAYS, FEATURES, handbook_features
from pipelines.benchmark_runs.handbook_prequential import first_days
from pipelines.benchmark_runs.uci_taiwan import load, with_behaviour
from pipelines.errors import CardlineError

PUBLIC_DATA = os.environ.get("CARDLINE_PUBLIC_DATA")
needs_public_data = pytest.mark.skipif(
    not PUBLIC_DATA, reason="CARDLINE_PUBLIC_DATA is not set: it names the folder of public data"
)


def public(name: str) -> Path:
    return Path(str(PUBLIC_DATA)) / name


def pandas_reference(frame: pl.DataFrame, entity: str, columns: Callable) -> pd.DataFrame:
    """Features of one entity at a time with pandas' rolling, as the published definition does."""
    table = frame.sort("TX_DATETIME", "TRANSACTION_ID").to_pandas()
    parts = []
    for _, rows in table.groupby(entity):
        indexed = rows.sort_values("TX_DATETIME", kind="stable").set_index(
            "TX_DATETIME", drop=False
        )
        parts.append(columns(indexed))
    return pd.concat(parts).set_index("TRANSACTION_ID").sort_index()


def customer_reference(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.copy()
    for days in (1, 7, 30):
        window = rows["TX_AMOUNT"].rolling(f"{days}D")
        rows[f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW"] = window.count()
        rows[f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW"] = window.sum() / window.count()
    return rows


def terminal_reference(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.copy()
    fraud = rows["TX_FRAUD"]
    delayed = fraud.rolling(f"{DELAY_DAYS}D")
    for days in (1, 7, 30):
        whole = fraud.rolling(f"{DELAY_DAYS + days}D")
        count = whole.count() - delayed.count()
        rows[f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW"] = count
        rows[f"TERMINAL_ID_RISK_{days}DAY_WINDOW"] = (
            (whole.sum() - delayed.sum()) / count.replace(0, np.nan)
        ).fillna(0)
    return rows


def assert_same_features(ours: pl.DataFrame, reference: pd.DataFrame, prefix: str) -> None:
    names = [name for name in FEATURES if name.startswith(prefix)]
    mine = ours.to_pandas().set_index("TRANSACTION_ID").loc[reference.index]
    for name in names:
        np.testing.assert_allclose(mine[name], reference[name], rtol=1e-9, atol=1e-9, err_msg=name)


def small_history(rows: int = 800, seed: int = 0) -> pl.DataFrame:
    """Seventy days on a coarse clock, so that customers and terminals meet within one second."""
    generator = np.random.default_rng(seed)
    minutes = np.sort(generator.integers(0, 70 * 24 * 2, rows)) * 30
    start = datetime(2018, 4, 1)
    return pl.DataFrame(
        {
            "TRANSACTION_ID": np.arange(rows),
            "TX_DATETIME": [start + timedelta(minutes=int(m)) for m in minutes],
            "CUSTOMER_ID": generator.integers(0, 5, rows),
            "TERMINAL_ID": generator.integers(0, 6, rows),
            "TX_AMOUNT": np.round(generator.lognormal(3, 1, rows), 2),
            "TX_FRAUD": (generator.random(rows) < 0.1).astype(int),
        }
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_features_equal_pandas_rolling_with_ties(seed: int):
    history = small_history(seed=seed)
    ours = handbook_features(history.sample(fraction=1.0, shuffle=True, seed=seed))
    assert_same_features(
        ours, pandas_reference(history, "CUSTOMER_ID", customer_reference), "CUSTOMER_ID"
    )
    assert_same_features(
        ours, pandas_reference(history, "TERMINAL_ID", terminal_reference), "TERMINAL_ID"
    )


def test_calendar_flags_and_types():
    history = pl.DataFrame(
        {
            "TRANSACTION_ID": [0, 1, 2],
            "TX_DATETIME": [
                datetime(2018, 4, 6, 6, 59), datetime(2018, 4, 7, 7), datetime(2018, 4, 9)
            ],
            "CUSTOMER_ID": [1, 1, 1],
            "TERMINAL_ID": [1, 1, 1],
            "TX_AMOUNT": [1.0, 2.0, 4.0],
            "TX_FRAUD": [0, 1, 0],
        }
    )  # fmt: skip
    found = handbook_features(history)
    assert found["TX_DURING_WEEKEND"].to_list() == [0, 1, 0]
    assert found["TX_DURING_NIGHT"].to_list() == [1, 0, 1]
    assert found["TX_TIME_DAYS"].to_list() == [0, 1, 3]
    assert found["CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW"].to_list() == [1.0, 1.5, pytest.approx(7 / 3)]
    assert all(found[n].dtype == pl.Float64 for n in FEATURES if n.endswith("WINDOW"))


def test_another_data_set_is_refused(tmp_path: Path):
    with pytest.raises(CardlineError, match="transactions_raw"):
        BENCHMARKS["handbook"](tmp_path, tmp_path)
    (tmp_path / "UCI_Credit_Card.csv").write_text("ID,LIMIT_BAL\n1,2\n")
    with pytest.raises(CardlineError, match="not the published data set"):
        BENCHMARKS["uci-taiwan"](tmp_path, tmp_path)


@needs_public_data
def test_a_sample_of_published_customers_and_terminals_equals_pandas():
    raw = pl.read_parquet(public("handbook_fraud") / "transactions_raw.parquet")
    for entity, reference in (
        ("CUSTOMER_ID", customer_reference),
        ("TERMINAL_ID", terminal_reference),
    ):
        sample = raw.filter(pl.col(entity) % 500 == 7)
        assert sample.height > 1000
        assert_same_features(
            handbook_features(sample), pandas_reference(sample, entity, reference), entity
        )


@needs_public_data
@pytest.mark.slow
def test_the_handbook_baseline_is_reproduced(tmp_path: Path):
    BENCHMARKS["handbook"](public("handbook_fraud"), tmp_path)
    features = pl.read_parquet(tmp_path / "features.parquet")
    assert features.height == 1_754_155
    assert set(FEATURES) <= set(features.columns)
    assert features.select(FEATURES).null_count().sum_horizontal().item() == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["rows"]["train"] == {"rows": 67_240, "frauds": 598}
    assert metrics["rows"]["test"] == {"rows": 58_264, "frauds": 385}
    for name, published in metrics["published"].items():
        for metric, value in published.items():
            if name in metrics["ours"]:
                assert metrics["ours"][name][metric] == pytest.approx(value, abs=0.003), name
    own = metrics["own_features"]
    best = max(own["validation"].values(), key=lambda found: found["average_precision_mean"])
    chosen = own["validation"][own["chosen"]]
    assert chosen["average_precision_mean"] >= best["average_precision_mean"] - 0.01
    assert own["published_split"]["average_precision"] >= 0.75
    assert own["published_split"]["auc_roc"] > 0.871
    assert own["published_split"]["card_precision_at_100"] > 0.291
    assert own["prequential"]["own"]["average_precision_mean"] > 0.687


def test_candidates_are_chosen_before_the_first_test_week_begins():
    weeks = first_days()
    three_weeks = timedelta(days=21)
    chosen_by = max(weeks["validation"]) + three_weeks + timedelta(days=DELAY_DAYS)
    assert chosen_by <= min(weeks["test"]) + timedelta(days=14)
    assert max(weeks["test"]) == date(2018, 7, 25)


@needs_public_data
def test_the_split_leaves_out_cards_known_to_be_compromised():
    raw = pl.read_parquet(public("handbook_fraud") / "transactions_raw.parquet")
    features = raw.with_columns(pl.col("TX_TIME_DAYS").cast(pl.Int64))
    train, test = published_split(features)
    assert (train.height, int(train["TX_FRAUD"].sum())) == (67_240, 598)
    assert (test.height, int(test["TX_FRAUD"].sum())) == (58_264, 385)
    defrauded = train.filter(pl.col("TX_FRAUD") == 1)["CUSTOMER_ID"].unique()
    assert test.filter(pl.col("CUSTOMER_ID").is_in(defrauded.to_list())).is_empty()


@needs_public_data
def test_account_behaviour_columns_are_finite_or_missing():
    frame = with_behaviour(load(public("uci_taiwan") / "UCI_Credit_Card.csv"))
    numeric = frame.select(pl.exclude("ID").cast(pl.Float64))
    assert numeric.select(pl.all().is_infinite().any()).row(0).count(True) == 0
    assert frame["pay_ratio_1m"].null_count() > 0


@needs_public_data
@pytest.mark.slow
def test_the_uci_benchmark_beats_the_published_models(tmp_path: Path):
    BENCHMARKS["uci-taiwan"](public("uci_taiwan"), tmp_path)
    ours = json.loads((tmp_path / "metrics.json").read_text())["ours"]
    assert ours["logistic regression, raw"]["test_auc"] == pytest.approx(0.7232, abs=0.0005)
    assert ours["scorecard, behaviour"]["test_auc"] > 0.7660
    best = max(ours.values(), key=lambda m: m["cross_validated_auc"])
    assert best["test_auc"] >= 0.780


def test_the_benchmark_of_windows_builds_every_model(capsys: pytest.CaptureFixture[str]):
    from benchmarks import windows
    from benchmarks.rendered import rendered
    from pipelines.warehouse import memory

    with memory() as con:
        figures = windows.measure(con, 2_000)
        counted = con.execute(
            f"select sum(authorization_count_1d) from ({rendered('card_velocity_features')})"
        ).fetchone()
        known = con.execute(
            "select count(*) from int_authorizations__known "
            "where not is_declined and known_from = active_from"
        ).fetchone()
    assert counted == known
    assert figures["ratio"] > 0
    told = capsys.readouterr().out
    assert all(f"{model}: " in told for model in windows.MODELS)
    assert "all windows:" in told and " 0 rows" not in told
