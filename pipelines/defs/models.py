"""Training and scoring as assets; the learning itself is in the package `models`."""

import dagster as dg

from pipelines.defs.common import (
    DAILY_FRESHNESS,
    MONTHLY_FRESHNESS,
    OWNERS,
    POOL,
    RETRIES,
    markdown_table,
    table_metadata,
)
from pipelines.warehouse import connect

UNDERWRITING = dg.AssetKey(["models", "underwriting"])
FRAUD = dg.AssetKey(["models", "fraud"])
MONITORING = dg.AssetKey(["models", "underwriting_monitoring"])
OFFLINE = dg.AssetKey(["features", "offline_store"])
TRAINING_POOL = "training"
"""Training only reads the warehouse, for minutes at size: whoever writes need not wait for it."""


class TrainConfig(dg.Config):
    """Who trains; the approver of a promotion must be somebody else."""

    trainer: str = "scheduler"


def _trained(name: str, trainer: str) -> dg.MaterializeResult:
    from pipelines.training import NotDue, train

    try:
        result = train(name, trainer=trainer)
    except NotDue as reason:
        return dg.MaterializeResult(metadata={"trained": False, "why": str(reason)})
    metadata = {key: value for key, value in result.metrics.items() if value is not None}
    return dg.MaterializeResult(
        metadata={"trained": True, "version": result.version, **metadata,
                  "model_card": dg.MetadataValue.md(result.card)}
    )  # fmt: skip


@dg.asset(
    key=UNDERWRITING,
    deps=[OFFLINE, dg.AssetKey(["marts", "underwriting_spine"])],
    group_name="models",
    owners=OWNERS,
    kinds={"scikitlearn", "feast"},
    pool=TRAINING_POOL,
    retry_policy=RETRIES,
    freshness_policy=MONTHLY_FRESHNESS,
    description="One version per training run of the underwriting model, on features as they were "
    "known when each application was decided.",
)
def underwriting(config: TrainConfig) -> dg.MaterializeResult:
    return _trained("underwriting", config.trainer)


@dg.asset(
    key=FRAUD,
    deps=[OFFLINE, dg.AssetKey(["marts", "fct_fraud_labels"])],
    group_name="models",
    owners=OWNERS,
    kinds={"scikitlearn", "feast"},
    pool=TRAINING_POOL,
    retry_policy=RETRIES,
    freshness_policy=MONTHLY_FRESHNESS,
    description="One version per training run of the fraud model, on labels that were known by "
    "then.",
)
def fraud(config: TrainConfig) -> dg.MaterializeResult:
    return _trained("fraud", config.trainer)


@dg.asset(
    key=["models", "underwriting_scores"],
    deps=[UNDERWRITING, OFFLINE],
    group_name="models",
    owners=OWNERS,
    kinds={"scikitlearn", "duckdb"},
    pool=POOL,
    retry_policy=RETRIES,
    freshness_policy=DAILY_FRESHNESS,
    description="One row per application (or account) and model version: probability, score, "
    "reasons.",
)
def underwriting_scores() -> dg.MaterializeResult:
    from pipelines.scoring import score_applications

    written = score_applications()
    with connect(read_only=True) as con:
        metadata = table_metadata(con, "risk.scores")
    return dg.MaterializeResult(metadata={"new_scores": written, **metadata})


@dg.asset(
    key=MONITORING,
    deps=[dg.AssetKey(["models", "underwriting_scores"]), dg.AssetKey(["marts", "fct_statements"])],
    group_name="models",
    owners=OWNERS,
    kinds={"python", "duckdb"},
    pool=POOL,
    retry_policy=RETRIES,
    freshness_policy=DAILY_FRESHNESS,
    description="One row per measure, subject and month: stability of scores and features, early "
    "bads against what was expected, approvals, overrides and first reasons.",
)
def underwriting_monitoring() -> dg.MaterializeResult:
    from pipelines.monitoring import monitor

    found = monitor()
    return dg.MaterializeResult(
        metadata={"dagster/row_count": found.height, "latest": markdown_table(found.tail(12))}
    )


@dg.asset_check(
    asset=MONITORING,
    description="Scores and features are distributed as in development (PSI and CSI below 0.25 in "
    "the latest month), and no vintage has more early bads than chance explains.",
)
def underwriting_is_as_expected() -> dg.AssetCheckResult:
    from pipelines.monitoring import alerts

    found = alerts()
    return dg.AssetCheckResult(
        passed=found.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"alerts": markdown_table(found)},
    )


@dg.asset(
    key=["models", "fraud_scores"],
    deps=[FRAUD, OFFLINE],
    group_name="models",
    owners=OWNERS,
    kinds={"scikitlearn", "duckdb"},
    pool=POOL,
    retry_policy=RETRIES,
    freshness_policy=DAILY_FRESHNESS,
    description="One row per transaction and model version, and the day's alerts within the "
    "budget.",
)
def fraud_scores() -> dg.MaterializeResult:
    from pipelines.scoring import alerts_to_review, score_transactions

    written = score_transactions()
    with connect(read_only=True) as con:
        metadata = table_metadata(con, "fraud.scores")
        alerts = alerts_to_review(con)
    return dg.MaterializeResult(
        metadata={"alerts_to_review": markdown_table(alerts), "new_scores": written, **metadata}
    )


SCORING = [underwriting_scores, underwriting_monitoring, fraud_scores]
