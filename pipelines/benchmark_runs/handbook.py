"""The Fraud-Detection-Handbook's chapter 3 baseline, published and ours beside each other.

Train 2018-07-25…31, a delay of 7 days, test 2018-08-08…14 without the cards that were known to be
compromised when the test day came. Features, scaling and model settings are the published ones.
XGBoost is not part of our stack; scikit-learn's histogram gradient boosting stands beside it
under its own name. Then our own features, with a model that was chosen on earlier weeks.
"""

from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl

from pipelines.benchmark_runs.handbook_features import DELAY_DAYS, FEATURES, handbook_features
from pipelines.benchmark_runs.handbook_own import own_features
from pipelines.benchmark_runs.handbook_prequential import (
    BLOCK_DAYS,
    LABELS,
    METRICS,
    PUBLISHED_TRAIN_START_ON,
    evaluate,
    run_own,
    split,
)
from pipelines.benchmark_runs.report import find_source, print_table, write_metrics
from pipelines.errors import CardlineError
from pipelines.files import written_aside
from pipelines.progress import step, track

SOURCE_FILE = "transactions_raw.parquet"
EXPECTED_ROWS = {"train": (67_240, 598), "test": (58_264, 385)}
PUBLISHED: dict[str, tuple[float, float, float]] = {
    "logistic_regression": (0.871, 0.606, 0.291),
    "decision_tree_depth_2": (0.763, 0.496, 0.241),
    "decision_tree_unlimited": (0.788, 0.309, 0.243),
    "random_forest": (0.867, 0.658, 0.287),
    "xgboost": (0.862, 0.639, 0.273),
}


def run(source: Path, out: Path) -> dict[str, Any]:
    """Write `features.parquet` (every transaction) and `metrics.json` to `out`; print the table.

    Returns the content of `metrics.json`. Raises CardlineError where the source is missing or its
    split does not have the published numbers of rows and frauds.
    """
    started = perf_counter()
    transactions = pl.read_parquet(find_source(source, SOURCE_FILE))
    out.mkdir(parents=True, exist_ok=True)
    with step("Features of every transaction"):
        features = handbook_features(transactions)
        with written_aside(out / "features.parquet") as aside:
            features.drop("TX_TIME_DAYS").write_parquet(aside)
    features_seconds = perf_counter() - started
    train, test = published_split(features)
    counts = {
        name: {"rows": block.height, "frauds": int(block["TX_FRAUD"].sum())}
        for name, block in (("train", train), ("test", test))
    }
    for name, (rows, frauds) in EXPECTED_ROWS.items():
        if counts[name] != {"rows": rows, "frauds": frauds}:
            raise CardlineError(
                f"{name} block has {counts[name]}, published are {rows} rows and {frauds} frauds: "
                "this is not the published data set"
            )
    ours = {
        name: _evaluate(model, train, test)
        for name, model in track(list(_models().items()), "Models")
    }
    own = own_features(transactions).with_columns(features.select(LABELS))
    metrics: dict[str, Any] = {
        "benchmark": "handbook",
        "split": {
            "train_start_on": str(PUBLISHED_TRAIN_START_ON),
            "block_days": BLOCK_DAYS,
            "delay_days": DELAY_DAYS,
        },
        "rows": {"features": features.height, **counts},
        "features": list(FEATURES),
        "published": {n: dict(zip(METRICS, v, strict=True)) for n, v in PUBLISHED.items()},
        "ours": ours,
        "own_features": run_own(own, first_day(features)),
        "seconds": {
            "features": round(features_seconds, 2),
            "total": round(perf_counter() - started, 2),
        },
    }
    write_metrics(out, metrics)
    _print(metrics)
    return metrics


def published_split(features: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Train and test blocks as published, see `split`."""
    return split(features, PUBLISHED_TRAIN_START_ON, first_day(features))


def first_day(features: pl.DataFrame) -> date:
    """The day that TX_TIME_DAYS counts from."""
    return features["TX_DATETIME"].dt.date().min()  # pyright: ignore[reportReturnType]


def _models() -> dict[str, Any]:
    """The published models with the published settings, and ours."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    from models.fraud.classifier import FraudClassifier

    return {
        "logistic_regression": LogisticRegression(random_state=0),
        "decision_tree_depth_2": DecisionTreeClassifier(max_depth=2, random_state=0),
        "decision_tree_unlimited": DecisionTreeClassifier(random_state=0),
        "random_forest": RandomForestClassifier(random_state=0, n_jobs=-1),
        "hist_gradient_boosting": HistGradientBoostingClassifier(random_state=0),
        "cardline_fraud_model": FraudClassifier(),
    }


def _evaluate(model: Any, train: pl.DataFrame, test: pl.DataFrame) -> dict[str, float]:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    started = perf_counter()
    found = evaluate(make_pipeline(StandardScaler(), model), train, test, FEATURES)
    return {**found, "seconds": round(perf_counter() - started, 2)}


def _print(metrics: dict[str, Any]) -> None:
    rows: list[list[object]] = []
    for name in dict.fromkeys([*PUBLISHED, *metrics["ours"]]):
        published = metrics["published"].get(name, {})
        ours = metrics["ours"].get(name, {})
        rows.append([name, *(cell for m in METRICS for cell in (published.get(m), ours.get(m)))])
    print_table(
        "Fraud-Detection-Handbook, chapter 3 baseline (published | ours)",
        ["model", "AUC", "ours", "AP", "ours", "CP@100", "ours"],
        rows,
    )
    own = metrics["own_features"]
    split_line, weeks = own["published_split"], own["prequential"]
    print_table(
        f"Our features, {own['chosen']} (chosen on weeks before the first test week)",
        ["", "AUC", "AP", "CP@100"],
        [
            *[
                [f"earlier weeks: {name}", *(found[f"{m}_mean"] for m in METRICS)]
                for name, found in own["validation"].items()
            ],
            ["published split", *(split_line[m] for m in METRICS)],
            ["prequential, mean", *(weeks["own"][f"{m}_mean"] for m in METRICS)],
            ["prequential, sd", *(weeks["own"][f"{m}_sd"] for m in METRICS)],
            *[
                [f"prequential, published {name}", *(found[m] for m in METRICS)]
                for name, found in weeks["published"].items()
            ],
        ],
    )
    blocks = metrics["rows"]
    print(
        f"features of {blocks['features']:,} transactions in {metrics['seconds']['features']} s; "
        f"train {blocks['train']['rows']:,} rows with {blocks['train']['frauds']} frauds, "
        f"test {blocks['test']['rows']:,} with {blocks['test']['frauds']}"
    )
